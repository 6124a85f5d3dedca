"""The learning rate of a TRL trainer, scaled for one optimizer step at a time."""

from contextlib import ExitStack
from typing import Any

from entrocraft.engines.knobs import scaled_rates


class ScaledRate:
    """Scales the optimizer's learning rates for the step that follows, and puts them back after it.

    Args:
        trainer: A GRPOTrainer or RLOOTrainer.
    """

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self._factors: list[float] = []
        self._scaled = ExitStack()

    def note(self, factor: float) -> None:
        """Take in the factor of a micro-batch; those of one step are averaged."""
        self._factors.append(factor)

    def turn(self) -> None:
        """Scale the rates of the step that follows."""
        factors, self._factors = self._factors, []
        mean = sum(factors) / len(factors) if factors else 1.0
        if mean != 1.0:
            self._scaled.enter_context(scaled_rates(self._trainer.optimizer, mean))

    def restore(self) -> None:
        """Put the rates back, after the step and before the scheduler sets the next ones."""
        self._scaled.close()
