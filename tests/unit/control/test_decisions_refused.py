"""What a method of the user's own decides, refused where it is no decision, with the method's name."""

import re

import pytest
import torch
from support.decisions import controlled_by, stats

import entrocraft as ec
from entrocraft.control.batch import Tokens
from entrocraft.control.decision import Decision
from entrocraft.errors import InvalidValueError, UnknownNameError

ALL = torch.ones(4, dtype=torch.bool)
ONES = torch.ones(4)


class Returns(ec.Method):
    """A method that decides whatever its test says, of everything that may be turned."""

    turns = frozenset({"rollouts", "advantages", "entropy_coef", "clip_low", "clip_high", "temperature"})

    def __init__(self, make):
        self.make = make

    def decide(self, batch, goal):
        return self.make(batch)


def decision(**fields):
    return lambda batch: Decision(**{"keep": ALL, "advantages": batch.advantages} | fields)


REFUSED = {
    "whole numbers": (decision(keep=torch.tensor([1, 0, 0, 1])), "keep must be a tensor of bools.* got torch.int64"),
    "a list": (decision(keep=[True, False, False, True]), "keep must be a tensor of bools.* got \\[True"),
    "no keep": (decision(keep=None), "keep must be a tensor of bools.* got None"),
    "a keep that is too short": (
        decision(keep=ALL[:3], advantages=ONES[:3]),
        "one entry for each of the 4 rollouts of the batch, got 3",
    ),
    "a keep per token": (decision(keep=ALL.view(2, 2)), "keep must be a tensor of bools.*\\(2, 2\\)"),
    "other advantages": (decision(advantages=ONES[:3]), "advantages must be a tensor of 4 numbers.*\\(3,\\)"),
    "no advantages": (decision(advantages=None), "advantages must be a tensor of 4 numbers.* got None"),
    "nan advantages": (
        decision(advantages=torch.tensor([1.0, torch.nan, 1.0, torch.inf])),
        "advantages must be finite, got 2 of 4 that are not, the first nan for rollout 1",
    ),
    "a nan knob": (decision(knobs={"clip_high": float("nan")}), "clip_high must be finite"),
    "a text knob": (decision(knobs={"entropy_coef": "0.1"}), "entropy_coef must be a number, got '0.1'"),
    "a negative clip": (decision(knobs={"clip_low": -0.1}), "clip_low must be finite and at least 0"),
    "a temperature of 0": (decision(knobs={"temperature": 0}), "temperature must be more than 0"),
    "an unknown knob": (decision(knobs={"clip_hihg": 0.3}), "unknown knob 'clip_hihg': did you mean 'clip_high'"),
    "no knobs": (decision(knobs=None), "knobs must be numbers by name, got None"),
    "another word": (decision(normalize="x"), "unknown normalize 'x'"),
    "no share": (decision(kept_share=1.5), "kept_share must be at most 1"),
    "nothing": (lambda batch: None, "decide must return a Decision.* got None"),
}


@pytest.mark.parametrize("make, said", REFUSED.values(), ids=REFUSED)
def test_what_is_no_decision_is_refused_with_the_name_of_the_method(make, said):
    with pytest.raises(InvalidValueError, match=f"^method 'mine': .*{said}"):
        controlled_by(Returns(make)).decide(stats(0.5))


def test_a_decision_that_is_one_passes():
    knobs = {"entropy_coef": -0.1, "clip_low": 0.2, "clip_high": torch.tensor(0.3), "temperature": 1}
    made = decision(keep=torch.tensor([1, 0, 0, 1]).bool(), knobs=knobs, kept_share=0.5)
    decided = controlled_by(Returns(made)).decide(stats(0.5))
    # 10 tokens in all, 5 in the first and the last rollout: the loss is averaged over half of them.
    assert decided.loss_scale(torch.tensor([1.0, 2.0, 3.0, 4.0])) == 2.0


@pytest.mark.parametrize(
    "field, words, error, said",
    [
        ("turns", "rollouts", InvalidValueError, "`turns` must be a set of names, such as frozenset({'rollouts'})"),
        ("needs", ["rewards"], InvalidValueError, "`needs` must be a set of names, such as frozenset({'rewards'})"),
        ("needs", None, InvalidValueError, "`needs` must be a set of names"),
        ("turns", {1}, InvalidValueError, "`turns` must be a set of names"),
        ("needs", {"foo"}, UnknownNameError, "unknown signal that method 'mine' needs 'foo'"),
    ],
)
def test_needs_and_turns_that_are_no_known_words_are_refused(field, words, error, said):
    method = Returns(decision())
    setattr(method, field, words)
    with pytest.raises(error, match=re.escape(said)):
        controlled_by(method)


@pytest.mark.parametrize(
    "weights, said",
    [
        (torch.ones(2), r"a tensor of shape \(2, 3\), a factor per token, got torch.float32 of shape \(2,\)"),
        ([[1.0] * 3] * 2, r"a tensor of shape \(2, 3\), a factor per token, got \[\[1.0"),
        (torch.tensor([[1.0, torch.nan, 1.0], [1.0, 1.0, 1.0]]), "finite factors, got NaN or infinity"),
    ],
)
def test_weights_that_are_no_factors_are_refused_with_the_name_of_the_method(weights, said):
    method = Returns(decision())
    method.turns, method.weigh = frozenset({"tokens"}), lambda tokens, decision: weights
    ones, mask = torch.ones(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    tokens = Tokens(log_probs_BT=-ones, entropy_BT=ones, advantages_BT=ones, mask_BT=mask)
    with pytest.raises(InvalidValueError, match=f"^method 'mine': weigh must return .*{said}"):
        controlled_by(method).weigh(tokens, Decision(keep=ALL[:2], advantages=ONES[:2]))


def test_a_weight_beyond_the_mask_may_be_anything():
    method = Returns(decision())
    weights = torch.tensor([[0.5, torch.nan]])
    method.turns, method.weigh = frozenset({"tokens"}), lambda tokens, decision: weights
    ones = torch.ones(1, 2)
    tokens = Tokens(log_probs_BT=-ones, entropy_BT=ones, advantages_BT=ones, mask_BT=torch.tensor([[1, 0]]))
    assert controlled_by(method).weigh(tokens, Decision(keep=ALL[:1], advantages=ONES[:1])) is weights
