"""Rejection by chance: the farther out of the band, the less of what moves entropy away is accepted."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.goal import Goal
from entrocraft.control.methods.sign import Predicted


class Probabilistic(Predicted):
    """Algorithm 1 on predicted changes, in which what moves entropy away is accepted with a chance.

    The chance is `max(0, 1 - distance from the band / width of the band)`: 1 on the band's edge, 0 a band's width from
    it. Draws depend on `seed` and step alone, so all ranks draw alike, and a resumed run draws the same.

    Args:
        normalize: What the loss is averaged over; see `Rejecting`.
        fallback: What to do when no rollout moves entropy back; see `Fallback`.
        min_kept: Share of the rollouts that the fallback `escalate` keeps at least.
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.
        visitation: Add what the policy visits to the predicted change; see `Predicted`.
        momentum: Share of an update's effect that the optimizer carries to the next decision; for `visitation` alone.
        seed: Seed of the draws.

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range, or of no use with the fallback.

    Degenerate cases: a band without a width has no chance to give: outside it the decision is `Predicted`'s. A rollout
    that changes nothing is always kept.

    Source: the wording of arXiv 2604.26326, section 4; its Algorithm 1 rejects without chance.

    Example:
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(2), change=torch.tensor([-0.1, 0.2]))
        >>> Probabilistic().decide(batch, Goal(lower=0.6, target=0.7, upper=0.8)).keep  # a band's width below, and more
        tensor([False,  True])
    """

    def __init__(
        self,
        normalize: str = "kept",
        fallback: str = "skip",
        min_kept: float | None = None,
        entropy_bonus: float = 0.0,
        visitation: bool = False,
        momentum: float = 0.9,
        seed: int = 0,
    ):
        super().__init__(normalize, fallback, min_kept, entropy_bonus, visitation, momentum)
        self.seed = seed

    def _kept(self, change: Tensor, batch: Batch, goal: Goal) -> Tensor:
        # A prime above the steps of any run keeps the draws of two seeds apart.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + batch.step)
        lucky = torch.rand(len(change), generator=generator) < _acceptance(batch.entropy, goal)
        return super()._kept(change, batch, goal) | lucky.to(change.device)


def _acceptance(entropy: float, goal: Goal) -> float:
    """Return the chance of a rollout that moves entropy away."""
    distance, width = max(goal.lower - entropy, entropy - goal.upper, 0.0), goal.upper - goal.lower
    return max(0.0, 1.0 - distance / width) if width > 0 else float(distance == 0.0)
