"""STEER: a weight along a line, from the least change of entropy to the greatest."""

import math

import pytest
import torch
from support.samples import counted, decided, drawn_tokens

from entrocraft import Tokens
from entrocraft.control.methods.steer_weights import SteerWeights


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_weighs_as_a_loop_over_tokens_does(spread, seed):
    tokens = drawn_tokens(seed)
    change = {(row, column): abs(a * (1 - math.exp(lp)) * (lp + h)) for row, column, lp, h, a in counted(tokens)}
    least, greatest = min(change.values()), max(change.values())
    decision, weights = decided(SteerWeights(spread=spread), tokens)
    for place, size in change.items():
        expected = 1 + spread - 2 * spread * (size - least) / (greatest - least)
        assert float(weights[place]) == pytest.approx(expected, abs=1e-5)
    of_counted = weights[tokens.mask_BT.bool()]
    assert of_counted.min() == pytest.approx(1 - spread) and of_counted.max() == pytest.approx(1 + spread)
    assert decision.normalize == "all" and not weights.isnan().any()


def test_without_an_advantage_all_tokens_are_alike():
    tokens = drawn_tokens()
    ones = {"log_probs_BT": tokens.log_probs_BT, "entropy_BT": tokens.entropy_BT, "mask_BT": tokens.mask_BT}
    zero = Tokens(**ones, advantages_BT=torch.zeros_like(tokens.advantages_BT))
    assert decided(SteerWeights(), zero)[1] is None
