"""What is no batch is refused, with step and rank."""

import math

import pytest
import torch
from support.decisions import ABOVE, decide, stats

from entrocraft.errors import InvalidValueError, MeasurementError


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_measurements_that_are_not_finite_are_refused_with_step_and_rank(value):
    with pytest.raises(MeasurementError, match="step 3: the entropy"):
        stats(value)
    with pytest.raises(MeasurementError, match=r"step 3, rank 1: 1 of 4 advantages.*rollout 0 of that rank"):
        stats(0.5, [1.0, 1.0, value, 1.0], num_ranks=2)
    with pytest.raises(MeasurementError, match="step 3, rank 0: 1 of 4 predicted changes"):
        stats(0.5, predicted_change=torch.tensor([0.0, value, 0.0, 0.0]))


def test_statistics_that_do_not_fit_are_refused():
    with pytest.raises(InvalidValueError, match="one entry per advantage"):
        stats(0.5, rewards=torch.ones(3))
    with pytest.raises(InvalidValueError, match="equally many each"):
        stats(0.5, num_ranks=3)
    with pytest.raises(InvalidValueError, match="needs Batch.change"):
        decide(ABOVE, "predicted")
    with pytest.raises(InvalidValueError, match=r"needs Batch\.rewards"):
        decide(ABOVE, "reward")


@pytest.mark.parametrize(
    "fields",
    [
        {"entropy_stderr": math.nan},
        {"entropy_stderr": -0.1},
        {"rewards": torch.tensor([0.0, math.inf, 1.0, 1.0])},
        {"num_tokens": torch.tensor([1.0, math.nan, 1.0, 1.0])},
    ],
)
def test_measurements_that_are_no_numbers_are_refused(fields):
    with pytest.raises(MeasurementError):
        stats(ABOVE, **fields)
