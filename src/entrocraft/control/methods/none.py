"""The baseline of every comparison: entropy is measured, and left alone."""

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method


class NoControl(Method):
    """Keep everything, and report where entropy is.

    The curve is watched and not followed: the run is the trainer's own, with the metrics of a controlled one.

    Source: the trainer's own algorithm, such as GRPO.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> NoControl().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).keep
        tensor([True, True])
    """

    turns = frozenset()

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch)
