"""What an engine brings to a decision: its rollouts, as its framework knows them.

Shapes: B rollouts of this rank, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from entrocraft.engines.tokens import TokenStats

RiseOfLogProbs = Callable[[float], Tensor]
"""Takes the entropy of the batch; returns how each token's log-probability (B, T) rises with the policy's entropy."""

_ROUNDING = 0.02
"""Advantages below this are taken for rounding where all rewards of a prompt are equal and it is not known how they are
made: what a rounded mean leaves of rewards of about 1, over a deviation that is rounding, too. More is left of larger
rewards, and over a smaller number than TRL adds to the deviation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """One rank's rollouts, as the update would use them if nothing were rejected."""

    stats: TokenStats
    advantages: Tensor
    """(B,), or (B, T) for one per token."""
    mask_BT: Tensor
    """1 where the loss counts a token."""
    temperature: float | None = None
    """What they were sampled and scored at, if a decision may move it."""
    compare_rewards: bool | None = None
    """True if advantages are how the rewards of a prompt compare, and so 0 where these are equal; False if they hold
    more, such as a KL penalty; None if that is not known."""

    @property
    def advantages_B(self) -> Tensor:
        """One advantage per rollout; of token-level ones, the mean over counted tokens."""
        if self.advantages.ndim == 1:
            return self.advantages
        return (self.advantages * self.mask_BT).sum(-1) / self.mask_BT.sum(-1).clamp(min=1)

    def loss_weights(self, *, by_rollout: bool) -> Tensor:
        """Return what each rollout weighs in the loss (B,): its tokens, or 1 if the loss averages over each one's."""
        counts_B = self.mask_BT.sum(-1).float()
        return torch.ones_like(counts_B) if by_rollout else counts_B

    def without_rounding(self, equal_B: Tensor) -> "Rollouts":
        """Return the same with advantages of exactly 0 where there is nothing to compare: methods act on signs.

        Args:
            equal_B: True for the rollouts whose rewards are those of all others of their prompt.
        """
        if self.compare_rewards is False:
            return self
        own, most = self.advantages, torch.inf if self.compare_rewards else _ROUNDING
        is_rounding = equal_B.to(own.device).view(-1, *[1] * (own.ndim - 1)) & (own.abs() < most)
        return replace(self, advantages=own.masked_fill(is_rounding, 0.0))


def equally_rewarded(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return which rollouts have the reward of all others of their prompt (B,); False for one that has no others.

    Args:
        rewards: One per rollout of all ranks, as a prompt's may lie on several; NaN where none scored it, which counts
            for no other reward.
        groups: Index of the prompt of each.

    Example:
        >>> equally_rewarded(torch.tensor([0.1, 0.1, torch.nan, 0.3, 0.4, 0.5]), torch.tensor([0, 0, 0, 1, 1, 2]))
        tensor([ True,  True,  True, False, False, False])
    """
    prompts, index_B, counts_P = groups.unique(return_inverse=True, return_counts=True)
    highest_P = torch.full((len(prompts),), -torch.inf, dtype=rewards.dtype)
    lowest_P = -highest_P
    highest_P.scatter_reduce_(0, index_B, rewards.nan_to_num(nan=-torch.inf), "amax")
    lowest_P.scatter_reduce_(0, index_B, rewards.nan_to_num(nan=torch.inf), "amin")
    return ((highest_P == lowest_P) & (counts_P > 1))[index_B]
