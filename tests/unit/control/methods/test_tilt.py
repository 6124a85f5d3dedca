"""Tilt: the weights with the wanted effect that differ least from 1, found a second time by scipy."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from support.samples import GOAL, HIGH, LOW, batch_of, decided, drawn_tokens

from entrocraft.control.methods.tilt import Tilt
from entrocraft.control.planning.ranking import Ranking, binned
from entrocraft.errors import InvalidValueError


def tokens_with_changes(seed=0):
    """Return random tokens with what they would change: -A p (log p + H), of which a part is left out here."""
    tokens = drawn_tokens(seed)
    log_probs_BT = tokens.log_probs_BT
    changes_BT = -tokens.advantages_BT * log_probs_BT.exp() * (log_probs_BT + tokens.entropy_BT)
    object.__setattr__(tokens, "change_BT", changes_BT)
    return tokens


def changes_and_weights(tokens, weights):
    mask = tokens.mask_BT.bool()
    return tokens.change_BT[mask].double(), weights[mask].double()


def effect(changes, weights):
    return float(changes @ weights) / math.sqrt(len(changes))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("entropy", "side"), [(LOW, 1), (HIGH, -1)])
def test_what_moves_entropy_back_counts_for_more_and_the_rest_for_less(seed, entropy, side):
    tokens = tokens_with_changes(seed)
    decision, weights = decided(Tilt(), tokens, entropy)
    changes, weights = changes_and_weights(tokens, weights)
    assert decision.keep.all() and decision.normalize == "all"
    assert ((weights - 1) * changes * side >= 0).all() and (weights != 1).any()
    assert ((weights >= 0.5) & (weights <= 1.5)).all()


def test_far_from_the_curve_all_weights_are_at_their_limits_and_it_is_said():
    tokens = tokens_with_changes()
    decision, weights = decided(Tilt(most=0.25), tokens)
    changes, weights = changes_and_weights(tokens, weights)
    assert decision.metrics["saturated"] == 1.0
    assert weights.allclose(1 + 0.25 * torch.sign(changes))
    assert decision.metrics["strength"] == pytest.approx(0.25)


def test_no_weights_with_the_same_effect_differ_less_from_1():
    changes = torch.tensor([-0.03, -0.01, -0.002, 0.004, 0.02, 0.05], dtype=torch.float64)
    method, ranking = Tilt(most=0.5), Ranking.of(changes)
    wanted = 0.6 * method._effect(ranking, method._farthest(ranking)) + 0.4 * method._effect(ranking, 0.0)
    ours = 1 + (method._multiplier(ranking, wanted, method._farthest(ranking)) * changes).clamp(-0.5, 0.5)
    assert effect(changes, ours) == pytest.approx(wanted, rel=1e-9)
    best = minimize(
        lambda weights: np.sum((weights - 1) ** 2),
        np.ones(6),
        bounds=[(0.5, 1.5)] * 6,
        constraints={"type": "eq", "fun": lambda w: w @ changes.numpy() / math.sqrt(6) - wanted},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best.success
    assert ours.numpy() == pytest.approx(best.x, abs=1e-5)


def test_on_the_curve_little_is_weighed_and_without_a_change_nothing():
    tokens = tokens_with_changes()
    at_the_target = decided(Tilt(), tokens, GOAL.target)[0].metrics["strength"]
    assert at_the_target < decided(Tilt(), tokens, LOW)[0].metrics["strength"]
    object.__setattr__(tokens, "change_BT", torch.zeros_like(tokens.change_BT))
    decision, weights = decided(Tilt(), tokens, LOW)
    assert weights is None and decision.metrics["strength"] == 0.0


def test_bins_of_two_ranks_give_the_decision_of_one():
    tokens = tokens_with_changes(1)
    change_N = tokens.change_BT[tokens.mask_BT.bool()]
    together, halves = binned(change_N), (binned(change_N[::2]), binned(change_N[1::2]))
    one, two = (Tilt().decide(batch_of(tokens, LOW, reading=reading), GOAL).note for reading in (together, sum(halves)))
    assert math.isclose(one, two, rel_tol=1e-12)


def test_it_goes_on_where_it_was():
    def notes(method, seeds):
        return [decided(method, tokens_with_changes(seed), 0.45)[0].note for seed in seeds]

    whole, first, second = Tilt(), Tilt(), Tilt()
    expected = notes(whole, range(6))
    before = notes(first, range(3))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + notes(second, range(3, 6)) == expected


@pytest.mark.parametrize("most", [0.0, -0.5, 1.5, float("nan")])
def test_limits_out_of_range_are_refused(most):
    with pytest.raises(InvalidValueError):
        Tilt(most=most)
