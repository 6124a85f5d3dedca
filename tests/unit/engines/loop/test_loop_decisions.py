"""`ec.decide` against the decider that TRL and verl share, over histories in which each decision bears on the next."""

import json
import warnings

import pytest
import torch
from support.histories import GROUPS, STEPS, B, all_one_way, sampled, settings
from support.suites import fast_some

import entrocraft as ec
from entrocraft.control.decision import KNOBS
from entrocraft.control.methods import METHODS
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats

NUM_DECISIONS = 26
OF_LOOPS = {name: control for name, control in settings().items() if control.get("rule") != "aligned"}
OF_LOOPS |= {
    f"method-{name}": {"schedule": "linear(0.9, 0.5)", "width": 0.04, "method": name}
    for name, method in METHODS.items()
    if "surrogate" not in method().turns
}
LOOPS = {
    "token_mean": ec.Loop(knobs=KNOBS),
    "sequence_mean": ec.Loop(loss="sequence_mean", knobs=KNOBS),
    "sequence_sum": ec.Loop(loss="sequence_sum", knobs=KNOBS, momentum=0.5, steps_per_decision=2.0),
}


def batches(control):
    """Yield step, batch and advantages, now and then such that everything pushes entropy the wrong way."""
    for step in range(1, NUM_DECISIONS + 1):
        batch = sampled(step, 0.9 - 0.012 * step + 0.1 * (step % 5 - 2))
        own = batch.advantages
        if step % 13 in (6, 7, 8, 9):
            own = all_one_way(batch, control, None, up=step % 2 == 0, by_token=False)
        yield step, batch, own


def decided(control, state, step, batch, own, loop=None, **others):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"log_probs": batch.log_probs, "entropies": batch.entropy, "mask": batch.mask, "advantages": own}
        given |= {"groups": GROUPS, "rewards": batch.rewards} | others
        return ec.decide(control, state, step=step, total_steps=STEPS, loop=loop, **given)


CASES = [(name, list(LOOPS)[number % len(LOOPS)]) for number, name in enumerate(OF_LOOPS)]
CASES += [(f"method-{name}", loss) for name in ("advantage", "budget", "token") for loss in LOOPS]


@pytest.mark.parametrize(("name", "loss"), fast_some(6, sorted(set(CASES))))
def test_decisions_are_the_engines_to_the_bit_though_each_is_resumed_from_json(name, loss):
    control, loop, state = OF_LOOPS[name], LOOPS[loss], None
    made = ec.EntropyControl(**control)
    by_rollout = loss == "sequence_mean"
    controller = made.build(loop.momentum, loop.steps_per_decision)
    decider = Decider(controller, made, OneRank(), by_rollout=by_rollout)
    for step, batch, own in batches(control):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stats = TokenStats(batch.log_probs, batch.entropy)
            rollouts = Rollouts(stats=stats, advantages=own, mask_BT=batch.mask)
            update = decider.decide(rollouts, step=step, total_steps=STEPS, groups=GROUPS, rewards=batch.rewards)
        use = decided(control, state, step, batch, own, loop)
        expected = update.advantages.view(B, -1) * batch.mask * update.loss_scale(by_tokens=loss == "token_mean")
        assert torch.equal(use.advantages, expected) and torch.equal(use.keep, update.keep_B)
        assert torch.equal(use.kept, update.kept_BT) and use.knobs == update.decision.turned
        assert use.metrics == update.decision.metrics and use.empty == update.decision.empty
        state = json.loads(json.dumps(use.state))
        assert state == json.loads(json.dumps(controller.state_dict()))
