"""Clip-Cov: which tokens may be left out, and how many are."""

import pytest
import torch

from entrocraft import Batch, Goal, Tokens
from entrocraft.control.methods.clip_cov import ClipCov
from entrocraft.errors import InvalidValueError

GOAL = Goal(lower=0.4, target=0.5, upper=0.6)


def weights(method, covariance_BT, *, step=1, first_row=0, mask_BT=None, reading=None):
    mask_BT = torch.ones_like(covariance_BT) if mask_BT is None else mask_BT
    columns = {"log_probs_BT": covariance_BT, "entropy_BT": covariance_BT, "mask_BT": mask_BT}
    tokens = Tokens(**columns, advantages_BT=torch.ones(1), covariance_BT=covariance_BT, first_row=first_row)
    reading = method.read(tokens, lambda values: values) if reading is None else reading
    batch = Batch(step=step, entropy=0.5, advantages=torch.ones(2), reading=reading)
    decision = method.decide(batch, GOAL)
    assert decision.keep.all() and decision.normalize == "all"
    return method.weigh(tokens, decision)


def test_only_tokens_between_the_limits_are_eligible_and_at_least_one_is_left_out():
    covariance = torch.tensor([[0.9, 1.0, 3.0, 5.0, 6.0, 3.0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    assert weights(ClipCov(), covariance, mask_BT=mask).tolist() == [[1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]
    assert weights(ClipCov(share=0.0), covariance, mask_BT=mask).tolist() == [[1.0] * 6]


def test_as_many_are_left_out_as_are_asked_for_on_average():
    covariance = torch.full((40, 250), 2.0)
    left_out = [
        (weights(ClipCov(share=0.1), covariance, step=step) == 0).double().mean().item() for step in range(1, 6)
    ]
    assert sum(left_out) / 5 == pytest.approx(0.1, abs=0.01)
    assert len(set(left_out)) > 1  # another draw at each step


def test_draws_do_not_depend_on_how_rows_are_divided():
    covariance, method = torch.full((8, 20), 2.0), ClipCov(share=0.3)
    whole, reading = weights(method, covariance), (160.0, 160.0)
    parts = [
        weights(method, covariance[:4], reading=reading),
        weights(method, covariance[4:], first_row=4, reading=reading),
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(weights(ClipCov(share=0.3, seed=1), covariance), whole)


@pytest.mark.parametrize("options", [{"share": 1.5}, {"share": -0.1}, {"low": 5.0, "high": 1.0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        ClipCov(**options)
