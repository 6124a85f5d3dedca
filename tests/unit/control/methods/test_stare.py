"""STARE: which tokens are weighed, when, and how the weights move."""

import json
import math

import pytest
import torch
from support.samples import GOAL, HIGH, LOW, batch_of, counted, decided, drawn_tokens

from entrocraft.control.methods.stare import Stare
from entrocraft.errors import InvalidValueError


def by_hand(tokens, share, weights):
    """The weights of a loop over tokens, rarest first, as the reference chooses them."""
    expected = {(row, column): 1.0 for row, column, *_ in counted(tokens)}
    for sign, weight in zip((1, -1), weights, strict=True):
        candidates = [(-lp, row, column) for row, column, lp, _, a in counted(tokens) if a * sign > 0]
        number = max(1, math.ceil(share * len(candidates) - 1e-6)) if candidates and share else 0
        for _, row, column in sorted(candidates, reverse=True)[:number]:
            expected[row, column] = weight
    return expected


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_below_the_target_the_rarest_tokens_are_weighed(share, seed):
    tokens = drawn_tokens(seed)
    decision, weights = decided(Stare(share=share), tokens)
    expected = by_hand(tokens, share, (1.1, 1.0))
    assert {place: float(weights[place]) for place in expected} == pytest.approx(expected)
    _, weights = decided(Stare(share=share, two_sided=True), tokens)
    expected = by_hand(tokens, share, (1.1, 0.9))
    assert {place: float(weights[place]) for place in expected} == pytest.approx(expected)
    assert decision.keep.all() and decision.normalize == "all"


@pytest.mark.parametrize("entropy", [GOAL.target, HIGH])
def test_at_the_target_and_above_nothing_is_weighed(entropy):
    decision, weights = decided(Stare(two_sided=True), drawn_tokens(), entropy)
    assert weights is None and decision.metrics == {"strength": 1.0}


def test_a_batch_without_a_positive_advantage_has_nothing_to_weigh():
    tokens = drawn_tokens()
    object.__setattr__(tokens, "advantages_BT", -tokens.advantages_BT.abs())
    assert (decided(Stare(), tokens)[1] == 1).all()


def test_as_rare_as_the_last_one_is_rare_enough():
    tokens = drawn_tokens()
    object.__setattr__(tokens, "log_probs_BT", torch.full_like(tokens.log_probs_BT, -1.0))
    object.__setattr__(tokens, "advantages_BT", torch.ones_like(tokens.advantages_BT))
    assert decided(Stare(share=0.01), tokens)[1].allclose(torch.tensor(1.1))


def test_adaptive_weights_move_by_steps_between_their_limits_and_go_on_where_they_were():
    def moved(method, entropies):
        for entropy in entropies:
            method.decide(batch_of(drawn_tokens(), entropy, reading=(math.inf, math.inf)), GOAL)
        return pytest.approx((method.weight, method.negative_weight))

    options = {"two_sided": True, "adaptive": True, "step": 0.2}
    method = Stare(**options)
    assert moved(method, [LOW]) == (1.3, 0.7)
    assert moved(method, [LOW, LOW]) == (1.5, 0.5)
    resumed = Stare(**options)
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert moved(resumed, [HIGH]) == (1.3, 0.7)
    assert moved(resumed, [GOAL.target]) == (1.3, 0.7)
    assert moved(resumed, [HIGH] * 3) == (1.0, 1.0)
    assert moved(Stare(), [LOW, HIGH]) == (1.1, 0.9)


@pytest.mark.parametrize(
    "options", [{"share": 1.1}, {"weight": 0.9}, {"weight": 1.6}, {"negative_weight": 1.1}, {"negative_weight": 0.4}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        Stare(**options)
