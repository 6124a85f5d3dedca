"""What is no batch is refused, with step and rank."""

import math

import numpy as np
import pytest
import torch
from support.decisions import ABOVE, decide, stats

import entrocraft as ec
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


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"step": math.nan}, "step must be a whole number of at least 0, got nan"),
        ({"step": 1.5}, "step must be a whole number of at least 0, got 1.5"),
        ({"step": -1}, "step must be a whole number of at least 0, got -1"),
        ({"total_steps": math.nan}, "total_steps must be a whole number of at least 1, got nan"),
        ({"total_steps": 0}, "total_steps must be a whole number of at least 1, got 0"),
        ({"num_ranks": 0}, "num_ranks must be a whole number of at least 1, got 0"),
        ({"entropy": -1}, "entropy must be in nats per token, at least 0, got -1.0"),
        ({"entropy": "0.5"}, "entropy must be a number, got '0.5'"),
        ({"entropy": None}, "entropy must be a number, got None"),
        ({"entropy_stderr": "x"}, "entropy_stderr must be a number, got 'x'"),
        ({"temperature": "x"}, "temperature must be a number, got 'x'"),
    ],
)
def test_what_is_no_step_and_no_entropy_is_refused(fields, said):
    with pytest.raises(InvalidValueError, match=said):
        ec.BatchStats(**{"step": 3, "total_steps": 10, "entropy": 0.5, "advantages": torch.ones(4)} | fields)


def test_steps_and_entropies_of_other_libraries_are_pythons_own_from_then_on():
    batch = ec.BatchStats(
        step=np.int64(3), total_steps=torch.tensor(10), entropy=torch.tensor([-1e-4]), advantages=torch.ones(2)
    )
    assert (type(batch.step), type(batch.total_steps), type(batch.entropy)) == (int, int, float)
    assert batch.entropy == pytest.approx(-1e-4)  # rounding, of a policy that is certain


@pytest.mark.parametrize("method", ["ds_grpo", "entropic", "entropic_port"])
def test_whole_advantages_are_weighed_as_the_numbers_that_they_are(method):
    """As whole numbers, what a factor makes of them would be cut down to a whole number."""
    given = {"rewards": [1.0, 0.0, 1.0, 0.0], "groups": [0, 0, 1, 1], "num_tokens": [3, 4, 5, 2]} | {
        "sequence_log_probs": [-1.0, -2.0, -3.0, -4.0]
    }
    decided = []
    for advantages in ([1, -2, 3, -1], [1.0, -2.0, 3.0, -1.0]):
        batch = ec.BatchStats(step=1, total_steps=10, entropy=0.3, advantages=advantages, **given)
        decided.append(ec.controllers.build(method, ec.Band(0.5, width=0.1)).decide(batch).advantages)
    assert torch.equal(*decided) and not torch.equal(decided[0], decided[0].round())


@pytest.mark.parametrize("advantages", [None, "ab", ["a"], [1j]])
def test_what_are_no_advantages_is_refused(advantages):
    with pytest.raises(InvalidValueError, match="advantages must be"):
        ec.BatchStats(step=1, total_steps=10, entropy=0.3, advantages=advantages)
