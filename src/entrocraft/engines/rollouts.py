"""What an engine brings to a decision: its rollouts, as its framework knows them.

Shapes: B rollouts of this rank, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from entrocraft.engines.tokens import TokenStats

RiseOfLogProbs = Callable[[float], Tensor]
"""Takes the entropy of the batch; returns how each token's log-probability (B, T) rises with the policy's entropy."""


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
