"""The learning rate of a TRL trainer, scaled for one optimizer step at a time."""

from typing import Any


class ScaledRate:
    """Scales the optimizer's learning rates for the step that follows, and puts them back after it.

    A scheduler sets rates from those it was made with, and is never told.

    Args:
        trainer: A GRPOTrainer or RLOOTrainer.
    """

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._factors: list[float] = []
        self._own: list[Any] | None = None

    def note(self, factor: float) -> None:
        """Take in the factor of a micro-batch; those of one step are averaged."""
        self._factors.append(factor)

    def turn(self) -> None:
        """Scale the rates of the step that follows."""
        factors, self._factors = self._factors, []
        mean = sum(factors) / len(factors) if factors else 1.0
        if mean == 1.0:
            return
        groups = self._trainer.optimizer.param_groups
        self._own = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * mean

    def restore(self) -> None:
        """Put the rates back, after the step and before the scheduler sets the next ones."""
        if self._own is None:
            return
        for group, rate in zip(self._trainer.optimizer.param_groups, self._own, strict=True):
            group["lr"] = rate
        self._own = None
