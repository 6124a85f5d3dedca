"""The baseline of every comparison: entropy is measured, and left alone."""

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method


class NoControl(Method):
    """Keep everything, and report where entropy is."""

    turns = frozenset()

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch)
