"""REPO-R: the factor of each token, and how its strength moves."""

import json

import pytest
import torch
from support.samples import GOAL, HIGH, LOW, batch_of, counted, decided, drawn_tokens

from entrocraft.control.methods.repo_r import RepoR
from entrocraft.errors import InvalidValueError


@pytest.mark.parametrize("zeta", [0.05, -0.05, 0.6, -0.6])
def test_it_scales_advantages_as_the_rule_says(zeta):
    tokens = drawn_tokens()
    _, weights = decided(RepoR(zeta=zeta, adaptive=False), tokens)
    for row, column, log_prob, _, advantage in counted(tokens):
        if advantage > 0:
            expected = max(0.0, advantage * (1 - zeta * log_prob))
        else:
            expected = min(0.0, advantage * (1 + zeta * log_prob))
        assert advantage * float(weights[row, column]) == pytest.approx(expected, rel=1e-5)
    assert not weights.isnan().any() and (weights >= 0).all()
    assert (weights == 0).any() == (abs(zeta) > 0.5)


def strengths(method, entropies):
    tokens = drawn_tokens()
    return [method.decide(batch_of(tokens, entropy), GOAL).metrics["strength"] for entropy in entropies]


def test_the_strength_doubles_and_halves_and_changes_its_sign_at_the_smallest():
    method = RepoR(zeta=0.02, least=0.01, most=0.05)
    # Too low: more, up to the greatest. Too high: less, from the smallest over to the other side.
    assert strengths(method, [LOW, LOW, LOW]) == [0.04, 0.05, 0.05]
    assert strengths(method, [HIGH] * 7) == [0.025, 0.0125, -0.01, -0.02, -0.04, -0.05, -0.05]
    assert strengths(method, [GOAL.target, LOW, LOW, LOW, LOW]) == [-0.05, -0.025, -0.0125, 0.01, 0.02]
    assert strengths(RepoR(zeta=0.0, least=0.01), [LOW]) == [0.01]
    assert strengths(RepoR(zeta=0.0, least=0.01), [HIGH]) == [-0.01]
    assert strengths(RepoR(zeta=-0.3, adaptive=False), [LOW, HIGH]) == [-0.3, -0.3]


def test_it_goes_on_where_it_was():
    method, resumed = RepoR(), RepoR()
    strengths(method, [LOW, LOW, HIGH])
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert strengths(resumed, [HIGH, LOW]) == strengths(method, [HIGH, LOW])


@pytest.mark.parametrize("options", [{"zeta": 0.1}, {"least": 0.1}, {"least": 0.0}, {"zeta": float("nan")}])
def test_numbers_out_of_order_are_refused(options):
    with pytest.raises(InvalidValueError):
        RepoR(**options)


def test_a_rollout_of_no_advantage_is_left_as_it_is():
    tokens = drawn_tokens()
    object.__setattr__(tokens, "advantages_BT", torch.zeros_like(tokens.advantages_BT))
    assert (decided(RepoR(), tokens)[1] == 1).all()
