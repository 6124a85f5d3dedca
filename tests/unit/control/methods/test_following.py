"""The loop on a method's one strength: its sign, its limits, and what it remembers."""

import json

import pytest
import torch
from support.samples import GOAL, HIGH, LOW, alone

from entrocraft import Batch, Tokens
from entrocraft.advantages import estimate
from entrocraft.control.decision import Decision
from entrocraft.control.methods import METHODS
from entrocraft.control.methods.following import Following
from entrocraft.errors import InvalidValueError

FOLLOWERS = {name: method for name, method in METHODS.items() if issubclass(method, Following)}


class Raising(Following):
    """Has nothing but a strength."""

    turns = frozenset()
    limits, sign, strength_name = (0.0, 2.0), 1, "push"

    def __init__(self, push=1.0, follow=True, gain=None):
        super().__init__(push, follow, gain)

    def decide(self, batch, goal):
        return Decision.everything(batch, metrics={"strength": self.moved(batch, goal)})


class Lowering(Raising):
    sign = -1


def strengths(method, entropies):
    batches = [Batch(step=step, entropy=entropy, advantages=torch.ones(1)) for step, entropy in enumerate(entropies)]
    return [method.decide(batch, GOAL).metrics["strength"] for batch in batches]


def test_the_loop_is_proportional_and_integral_in_widths_of_the_limits():
    # Errors of 0.2 and -0.1: 1 + 2 (0.2 + 0.1 * 0.2), then 1 + 2 (-0.1 + 0.1 * 0.1).
    assert strengths(Raising(), [0.3, 0.6]) == pytest.approx([1.44, 0.82])
    assert strengths(Lowering(), [0.3, 0.6]) == pytest.approx([0.56, 1.18])
    assert strengths(Raising(gain=0.5), [0.3]) == pytest.approx([1.22])
    assert strengths(Raising(), [0.5, 0.5]) == strengths(Raising(follow=False), [0.1, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("method_class", [Raising, Lowering])
def test_the_integral_does_not_wind_up_at_a_limit(method_class):
    for far, near in ((0.0, 0.55), (1.0, 0.45)):
        method = method_class(gain=10.0)
        held = strengths(method, [far] * 1000)
        assert set(held) == {held[0]} and held[0] in method.limits
        # On the other side it leaves the limit at once, as if it had never been there.
        assert strengths(method, [near]) == strengths(method_class(gain=10.0), [near])


def test_what_it_is_far_from_the_limits_is_remembered_exactly():
    method, resumed = Raising(gain=0.1), Raising(gain=0.1)
    strengths(method, [0.31, 0.52, 0.47])
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert strengths(resumed, [0.4, 0.6]) == strengths(method, [0.4, 0.6])
    assert Raising(follow=False).state_dict() == {}
    with pytest.raises(InvalidValueError, match="state of a method with one strength"):
        resumed.load_state_dict({})


def test_it_brings_a_slow_world_to_its_target_in_which_strength_raises_entropy():
    entropy, method = 0.9, Raising()
    for _ in range(400):
        (strength,) = strengths(method, [entropy])
        entropy += 0.02 * (strength - 1.4)  # training that lowers entropy, unless the strength is 1.4
    assert entropy == pytest.approx(GOAL.target, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"push": 2.5}, r"push must lie in \[0, 2\]"),
        ({"push": -0.5}, "push"),
        ({"gain": 2.0, "follow": False}, "gain is for follow=True"),
        ({"gain": 0.0}, "gain must be positive"),
        ({"gain": float("nan")}, "gain"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidValueError, match=message):
        Raising(**options)


# ---- the sign of each method's strength ---------------------------------------------------------------

P, G, V = 12, 16, 8


def entropy_change(method, entropy=GOAL.target):
    """What a small step under a method does to the entropy of a policy of one token, to first order, by autograd."""
    generator = torch.Generator().manual_seed(0)
    logits_PV = torch.randn(P, V, generator=generator)
    logits_PV[:, : V // 2] += 1.0  # the right answers are the likelier ones, so that training lowers entropy
    logits_PV.requires_grad_()
    log_probs_PV = logits_PV.log_softmax(-1)
    answers_PG = torch.multinomial(log_probs_PV.exp().detach(), G, replacement=True, generator=generator)
    rewards_PG = (answers_PG < V // 2).float()
    entropy_P = -(log_probs_PV.exp() * log_probs_PV).sum(-1)
    log_probs_B = log_probs_PV.gather(1, answers_PG).flatten()
    advantages_B = estimate("grpo", rewards_PG).flatten()

    tokens = Tokens(
        log_probs_BT=log_probs_B.detach()[:, None],
        entropy_BT=entropy_P.detach().repeat_interleave(G)[:, None],
        advantages_BT=advantages_B[:, None],
        mask_BT=torch.ones(P * G, 1),
    )
    batch = Batch(
        step=1,
        entropy=entropy,
        advantages=advantages_B,
        rewards=rewards_PG.flatten(),
        groups=torch.arange(P * G) // G,
        num_tokens=torch.ones(P * G),
        sequence_log_probs=log_probs_B.detach(),
        reading=method.read(tokens, alone),
    )
    decision = method.decide(batch, GOAL)
    weights_BT = method.weigh(tokens, decision)
    used_B = decision.advantages if weights_BT is None else decision.advantages * weights_BT[:, 0]
    objective = (used_B * log_probs_B).sum() / (P * G)
    (direction_PV,) = torch.autograd.grad(objective, logits_PV, retain_graph=True)
    (rise_PV,) = torch.autograd.grad(entropy_P.mean(), logits_PV)
    return float((direction_PV * rise_PV).sum())


@pytest.mark.parametrize("name", FOLLOWERS)
def test_more_strength_moves_entropy_the_way_that_the_method_says(name):
    method = FOLLOWERS[name]
    least, most = method.limits
    weak, middle, strong = (
        entropy_change(method(**{method.strength_name: strength})) for strength in (least, (least + most) / 2, most)
    )
    assert entropy_change(METHODS["none"]()) < 0
    assert method.sign * weak < method.sign * strong
    assert sorted([weak, middle, strong], reverse=method.sign < 0) == [weak, middle, strong]


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_method_that_follows_raises_entropy_below_its_target_and_lowers_it_above(name):
    method = FOLLOWERS[name]
    middle = {method.strength_name: sum(method.limits) / 2, "follow": True, "gain": 2.0}
    below, on, above = (entropy_change(method(**middle), entropy) for entropy in (LOW, GOAL.target, HIGH))
    assert above <= on <= below and above < below
    # On the target, and without `follow`, the strength is the method's own.
    del middle["follow"], middle["gain"]
    assert on == entropy_change(method(**middle)) == entropy_change(method(**middle), LOW)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_method_that_follows_has_a_loop_of_its_own_range(name):
    method = FOLLOWERS[name]
    (least, most), own = method.limits, method()._own
    assert least <= own <= most and own < most
    with pytest.raises(InvalidValueError, match=method.strength_name):
        method(**{method.strength_name: most * 1.01})
