"""What holds for every method there is: ranks agree, states go on, words are known."""

import json
import math
import warnings

import pytest
import torch
from support.histories import all_one_way, sampled
from support.meeting import Meeting

from entrocraft import Band
from entrocraft.advantages import available, estimate_by_group
from entrocraft.control.controller import Controller, course_and_method
from entrocraft.control.decision import TURNABLE
from entrocraft.control.methods import METHODS
from entrocraft.control.methods.following import Following
from entrocraft.control.settings import EntropyControl
from entrocraft.control.signals import SIGNALS
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.runs.metrics import column_of

NUM_ROLLOUTS, STEPS = 16, 12
GROUPS = torch.arange(NUM_ROLLOUTS) // 4


FOLLOWING = {f"{name}, following": {"follow": True} for name, m in METHODS.items() if issubclass(m, Following)}
STRATEGIES = {f"flexible_clip, {strategy}": {"strategy": strategy} for strategy in ("id", "did", "od")}
ADAPTIVE = {"stare, adaptive": {"two_sided": True, "adaptive": True}}
VARIANTS = {name: {} for name in METHODS} | FOLLOWING | ADAPTIVE | STRATEGIES
"""Options of the methods, by what the tests call them; the method's name comes first."""


def controller(variant):
    band, name = Band("linear(0.9, 0.5)", width=0.04), variant.split(",")[0]
    return Controller(*course_and_method(band, name, VARIANTS[variant]), name)


def updates(name, num_ranks):
    """The updates of a run on so many ranks, put together."""
    meeting, control = Meeting(num_ranks), EntropyControl()
    deciders = [Decider(controller(name), control, meeting.rank(rank), by_rollout=False) for rank in range(num_ranks)]
    made = []
    for step in range(1, STEPS + 1):
        batch = sampled(step, 0.9 if step % 2 else 0.4)
        advantages = all_one_way(batch, {}, None, up=True, by_token=False) if step % 5 == 0 else batch.advantages

        def decide(rank, batch=batch, step=step, advantages=advantages):
            rows = torch.arange(NUM_ROLLOUTS).chunk(num_ranks)[rank]
            stats = TokenStats(batch.log_probs[rows], batch.entropy[rows])  # predictions are estimated over all ranks
            rollouts = Rollouts(stats=stats, advantages=advantages[rows], mask_BT=batch.mask[rows])
            fields = {"step": step, "total_steps": STEPS, "groups": GROUPS, "rewards": batch.rewards}
            return deciders[rank].decide(rollouts, **fields)

        parts = meeting.all_do(decide)
        made.append(parts)
    return made


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_decide_and_weigh_as_one_does(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone, together = updates(name, 1), updates(name, 2)
    for (one,), (first, second) in zip(alone, together, strict=True):
        assert torch.equal(one.decision.keep, first.decision.keep)
        assert torch.equal(first.decision.keep, second.decision.keep)
        assert (
            one.decision.knobs == pytest.approx(first.decision.knobs) and first.decision.knobs == second.decision.knobs
        )
        torch.testing.assert_close(torch.cat([first.advantages, second.advantages]), one.advantages)
        assert first.decision.metrics == pytest.approx(one.decision.metrics, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_needs_and_turns_in_known_words(name):
    method = METHODS[name]()
    assert method.needs <= SIGNALS.keys()
    assert method.turns <= TURNABLE
    assert method.normalize in ("kept", "all")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_goes_through_json_and_another_methods_is_refused(name):
    ours = controller(name)
    state = json.loads(json.dumps(ours.state_dict()))
    ours.load_state_dict(state)
    assert ours.state_dict() == state
    with pytest.raises(ValueError, match="state"):
        ours.method.load_state_dict({"momentum of another method": 1.0})


def update(decider, advantages, rewards, step=1, mask=None):
    """One decision on a batch of the toy world, on one rank."""
    batch = sampled(step, 0.4)
    mask = batch.mask if mask is None else mask
    rollouts = Rollouts(stats=TokenStats(batch.log_probs, batch.entropy), advantages=advantages, mask_BT=mask)
    return decider.decide(rollouts, step=step, total_steps=STEPS, groups=GROUPS, rewards=rewards)


def assert_usable(made):
    assert made.advantages.isfinite().all() and made.kept_BT.isfinite().all()
    assert all(math.isfinite(value) for value in made.decision.metrics.values())
    unknown = [name for name in made.decision.metrics if column_of(name) is None]
    assert not unknown


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_resumes_decides_as_one_that_does_not(name):
    control = EntropyControl()
    whole = Decider(controller(name), control, OneRank(), by_rollout=False)
    for step in range(1, STEPS + 1):
        resumed_controller = controller(name)
        resumed_controller.load_state_dict(json.loads(json.dumps(whole.controller.state_dict())))
        resumed = Decider(resumed_controller, control, OneRank(), by_rollout=False)
        batch = sampled(step, 0.4)
        one, other = (update(decider, batch.advantages, batch.rewards, step) for decider in (whole, resumed))
        assert torch.equal(one.advantages, other.advantages) and torch.equal(one.keep_B, other.keep_B)
        assert one.decision.metrics == other.decision.metrics


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["all equal", "all failed", "all of one sign", "one token", "empty rollouts"])
@pytest.mark.parametrize("name", VARIANTS)
def test_batches_with_little_in_them_are_decided_on(name, case):
    decider = Decider(controller(name), EntropyControl(), OneRank(), by_rollout=False)
    rewards = torch.tensor([1.0, 0.0]).repeat(NUM_ROLLOUTS // 2).double()
    advantages, mask = rewards.float() - 0.5, sampled(1, 0.4).mask
    if case == "all equal":
        advantages, rewards = torch.zeros(NUM_ROLLOUTS), torch.ones(NUM_ROLLOUTS).double()
    elif case == "all failed":
        advantages, rewards = torch.zeros(NUM_ROLLOUTS), torch.zeros(NUM_ROLLOUTS).double()
    elif case == "all of one sign":
        advantages = torch.ones(NUM_ROLLOUTS)
    elif case == "one token":
        mask = torch.zeros_like(mask)
        mask[0, 0] = 1
    elif case == "empty rollouts":
        mask = mask * (torch.arange(NUM_ROLLOUTS) % 4 < 2)[:, None]  # of every prompt half
    for step in range(1, 5):
        assert_usable(update(decider, advantages, rewards, step, mask))


ESTIMATED = [{"name": name, **({"k": 2} if name == "pass_at_k_training" else {})} for name in available()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATED, ids=lambda spec: spec["name"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_method_takes_the_advantages_of_every_estimator(name, estimator):
    decider = Decider(controller(name), EntropyControl(), OneRank(), by_rollout=False)
    for step in range(1, 5):
        rewards = (torch.rand(NUM_ROLLOUTS, generator=torch.Generator().manual_seed(step)) < 0.5).double()
        advantages = estimate_by_group(estimator, rewards, GROUPS).float()
        made = update(decider, advantages, rewards, step)
        assert_usable(made)
        if name == "none":
            assert torch.equal(made.advantages, advantages * made.keep_B)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_documents_its_source_and_shows_itself(name):
    doc = METHODS[name].__doc__
    assert ">>>" in doc or name == "none"
    assert "Source:" in doc or name == "none"
