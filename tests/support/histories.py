"""A toy world in which entropy answers to what is kept: long random histories of decisions, resumptions included.

Every decision depends on all those before it, so that one that differs changes all that follow.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from entrocraft.control import EntropyControl
from entrocraft.dynamics import estimated_entropy_sensitivity
from entrocraft.engines.decider import Decider, Update
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats

P, G, T = 4, 4, 12
B = P * G
GROUPS = torch.arange(B) // G
STEPS, STEPS_BETWEEN_RESUMPTIONS = 48, 7


def settings() -> dict[str, dict]:
    """Return settings of entropy control by name, in the words of version 0.1, which are still read."""
    base = {"schedule": "linear(0.9, 0.5)", "width": 0.04}
    found = {}
    for rule in ("advantage", "predicted", "aligned", "probabilistic", "budget", "token"):
        found[f"{rule}-kept-skip"] = {**base, "rule": rule, "normalize": "kept", "fallback": "skip"}
        climbing = {"normalize": "all", "fallback": "escalate", "entropy_bonus": 0.01}
        found[f"{rule}-all-escalate"] = {**base, "rule": rule, **climbing}
    for rule in ("predicted", "probabilistic", "budget"):
        found[f"{rule}-visitation"] = {**base, "rule": rule, "visitation": True}
    climbing = {"visitation": True, "fallback": "escalate"}
    return found | {
        "predicted-visitation-escalate": {**base, "rule": "predicted", **climbing},
        "budget-escalate-nobonus": {**base, "rule": "budget", "fallback": "escalate"},
        "reward": {**base, "rule": "reward", "reward_baseline": 0.5},
        "reward-all": {**base, "rule": "reward", "reward_baseline": 0.5, "normalize": "all"},
        "entropic": {**base, "method": "entropic"},
        "none": {**base, "method": "none"},
        "token-relative-relax": {"schedule": "linear(1.0, 0.5, unit='initial')", "rule": "token", "guard": "relax"},
        "budget-relax": {"schedule": "constant(1.6)", "rule": "budget", "guard": "relax"},
        "advantage-relax": {"schedule": "constant(1.6)", "width": 0.1, "rule": "advantage", "guard": "relax"},
        "token-adaptive": {"schedule": "adaptive(linear(0.9, 0.5), patience=3)", "rule": "token"},
        "predicted-edges": {"lower": 0.5, "upper": "cosine(0.9, 0.6)", "rule": "predicted"},
        "token-cyclic": {"schedule": "cyclic(0.5, 0.9, num_cycles=2)", "rule": "token", "min_kept": 0.4},
        "budget-steps": {
            "schedule": "piecewise([[0, 0.9], [0.5, 0.5]], kind='step')",
            "rule": "budget",
            "min_kept": 0.5,
        },
    }


@dataclass
class Sampled:
    """One batch of rollouts."""

    log_probs: Tensor
    entropy: Tensor
    mask: Tensor
    advantages: Tensor
    rewards: Tensor

    def changes(self, rise: Callable[[float], Tensor] | None) -> Tensor:
        """Return what a unit of advantage on each token would change entropy by."""
        if rise is None:
            return -estimated_entropy_sensitivity(self.log_probs, self.entropy, self.mask)
        return rise(0.0) * self.mask


def sampled(step: int, level: float) -> Sampled:
    """Return a batch at an entropy of about `level`; some have empty rollouts, or prompts that say nothing."""
    generator = torch.Generator().manual_seed(1000 + step)
    entropy = (level * (0.2 + 1.6 * torch.rand(B, T, generator=generator))).clamp(0.0, 3.0)
    surprise = -torch.log(torch.rand(B, T, generator=generator).clamp(min=1e-6))
    log_probs = -(entropy * surprise).clamp(max=12.0)
    lengths = torch.randint(0 if step % 11 == 5 else 3, T + 1, (B,), generator=generator)
    mask = (torch.arange(T)[None] < lengths[:, None]).long()
    rewards = (torch.rand(B, generator=generator) < 0.4).double()
    if step % 9 == 4:
        rewards[:G] = 1.0
    grouped = rewards.view(P, G)
    centred = grouped - grouped.mean(1, keepdim=True)
    advantages = (centred / (grouped.std(1, keepdim=True) + 1e-4)).flatten().float()
    return Sampled(log_probs, entropy, mask, advantages, rewards)


def all_one_way(batch: Sampled, control: dict, rise, *, up: bool, by_token: bool) -> Tensor:
    """Return advantages with which everything in the batch pushes entropy away from the target."""
    size = 0.5 + batch.advantages.abs()
    if by_token:
        return size[:, None] * torch.where((batch.changes(rise) > 0) == up, 1.0, -1.0) * batch.mask
    if control.get("rule") == "advantage":
        return size * (-1.0 if up else 1.0)
    return size * torch.where((batch.changes(rise).sum(-1) > 0) == up, 1.0, -1.0)


def rise_of(step: int) -> Callable[[float], Tensor]:
    """Return predictions as the whole model might make them."""
    rise_BT = torch.randn(B, T, generator=torch.Generator().manual_seed(77 + step))
    return lambda entropy: rise_BT * (1.0 + entropy)


def decider(control: dict, *, by_rollout: bool) -> Decider:
    """Return a fresh decider."""
    made = EntropyControl(**control)
    return Decider(made.build(0.9, 1.0), made, OneRank(), by_rollout=by_rollout)


def history(
    control: dict, *, by_rollout: bool, by_token: bool, saved: dict[int, dict] | None = None
) -> Iterator[tuple[int, float, Update]]:
    """Yield step, entropy level and update of a run.

    Args:
        control: Settings of entropy control.
        by_rollout: Whether the loss averages over each rollout's tokens first.
        by_token: Whether each token has an advantage of its own.
        saved: States to resume from, by step, instead of those that are saved on the way.
    """
    level, deciding = 0.9, decider(control, by_rollout=by_rollout)
    for step in range(1, STEPS + 1):
        batch = sampled(step, level)
        own, rewards = batch.advantages, batch.rewards
        if by_token:
            own = own[:, None] * batch.mask * (1.0 + 0.25 * torch.arange(T) / T)
        rise = rise_of(step) if control.get("rule") == "aligned" else None
        if step % 13 in (6, 7, 8, 9):
            up = level > 0.9 - 0.4 * step / STEPS
            own, rewards = all_one_way(batch, control, rise, up=up, by_token=by_token), torch.arange(B).double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            update = deciding.decide(
                Rollouts(stats=TokenStats(batch.log_probs, batch.entropy), advantages=own, mask_BT=batch.mask),
                step=step,
                total_steps=STEPS,
                groups=GROUPS,
                rewards=rewards,
                rise=rise,
            )
        yield step, level, update
        pushed = update.advantages if update.advantages.ndim == 2 else update.advantages[:, None] * batch.mask
        x = batch.log_probs.exp() * (batch.log_probs + batch.entropy)
        push = -(pushed * (x - x.mean())).sum() / max(float(batch.mask.sum()), 1.0)
        level = min(1.8, max(0.2, level * (1 + 0.35 * float(push)) - 0.006))
        if step % STEPS_BETWEEN_RESUMPTIONS == 0:
            state = json.loads(json.dumps(deciding.controller.state_dict()))
            deciding = decider(control, by_rollout=by_rollout)
            deciding.controller.load_state_dict(state if saved is None or step not in saved else saved[step])
