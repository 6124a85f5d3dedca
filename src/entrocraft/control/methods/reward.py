"""The authors' code: outside the band, rewards of one sign take the place of advantages."""

import warnings
from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision, check_normalize
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.schedules.base import checked_number


class Reward(Method):
    """Outside the band, keep the rollouts whose raw reward pushes back, with that reward for an advantage.

    With `m = 1[H > upper] - 1[H < lower]`, rollout i is kept iff `m * (R_i - reward_baseline) > 0`, and its advantage
    becomes `R_i - reward_baseline`: above the band `max(R, 0)` (RAFT++), below it `min(R, 0)` (NSR), on raw rewards of
    -1 and 1. Inside the band nothing changes. A rollout that no reward function scored is rejected outside the band.

    Args:
        normalize: What the loss is averaged over: `kept` rollouts, or `all`, as the authors' code does.
        reward_baseline: What a neutral reward is; 0.5 for rewards of 0 and 1.

    Raises:
        UnknownNameError: There is no such normalisation.
        InvalidValueError: The baseline is not a finite number.

    Degenerate cases: with rewards of 0 and 1 and a baseline of 0 no failure has an advantage, so that below the band
    nothing is kept, which a warning says once. A group whose rewards are all equal has advantages outside the band,
    unlike in GRPO.

    Source: the authors' code of arXiv 2604.26326, which differs from the paper's Algorithm 1.

    Example:
        >>> rewards = torch.tensor([1.0, -1.0])
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.tensor([0.7, -0.7]), rewards=rewards)
        >>> Reward().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).advantages
        tensor([ 0., -1.])
    """

    needs = frozenset({"rewards"})
    turns = frozenset({"rollouts", "advantages"})

    def __init__(self, normalize: str = "kept", reward_baseline: float = 0.0):
        self.normalize = check_normalize(normalize)
        self.reward_baseline = checked_number("reward_baseline", reward_baseline, minimum=-float("inf"))
        self._warned = False

    def wants(self, batch: Batch, goal: Goal) -> frozenset[str]:
        """Return nothing inside the band, where rewards are not looked at."""
        return self.needs if goal.side(batch.entropy) else frozenset()

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        side = goal.side(batch.entropy)
        if side == 0:
            return Decision.everything(batch, normalize=self.normalize)
        rewards = (cast(Tensor, batch.rewards) - self.reward_baseline).to(batch.advantages.dtype)
        # A reward of NaN, of a rollout that nothing scored, compares as False.
        keep = side * rewards > 0
        advantages = torch.where(keep, rewards, torch.zeros_like(rewards))
        self._warn_if_rewards_cannot_raise_entropy(rewards, side)
        return Decision(keep=keep, advantages=advantages, normalize=self.normalize)

    def _warn_if_rewards_cannot_raise_entropy(self, rewards: Tensor, side: int) -> None:
        failures_score_zero = bool((rewards >= 0).all()) and bool((rewards == 0).any())
        if side > 0 or not failures_score_zero or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"method 'reward': entropy is below the band and no reward is below {self.reward_baseline:g}, so "
            "nothing can raise it. The method expects failures to score less than `reward_baseline`: "
            "for rewards of 0 and 1 set reward_baseline=0.5.",
            stacklevel=2,
        )
