"""Controllers that keep every rollout and weigh successes against failures."""

from collections.abc import Mapping
from typing import Any

import torch

from entrocraft.control.controller import BatchStats, Controller, Decision
from entrocraft.control.guard import GuardAction
from entrocraft.schedules import Band
from entrocraft.schedules.base import checked_number


class EntroPICController(Controller):
    """EntroPIC: a proportional-integral controller of the balance between successes and failures.

    With the error e_t = H_t - H*_t, in nats per token,

        alpha_t = clip(K_P e_t + K_I sum_{s<=t} e_s, -1, 1),        J = (1 + alpha) J_pos - (1 - alpha) J_neg,

    that is `A + alpha |A|` for each advantage: where entropy is low, successes count for less and failures for more. The
    target moves along the schedule; the width of the band bears on the metrics alone.

    Source: EntroPIC, arXiv 2511.15248, with its gains, in the form that arXiv 2604.26326 compares with, on all tokens.
    Its authors' code reweighs the tokens above a probability of 0.95 alone. The integral is not held back while alpha is
    clipped, as in that code.

    Args:
        band: The curve.
        proportional_gain: K_P, per nat.
        integral_gain: K_I, per nat and decision.
        guard: See `Guard`.

    Raises:
        InvalidValueError: A gain is not a number.

    Example:
        >>> from entrocraft import Band, BatchStats, constant
        >>> controller = EntroPICController(Band(constant(0.5), width=0.1), integral_gain=0.0)
        >>> stats = BatchStats(step=1, total_steps=10, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> controller.decide(stats).advantages  # entropy is low by 0.2
        tensor([ 0.8000, -1.2000])
    """

    def __init__(
        self,
        band: Band,
        *,
        proportional_gain: float = 1.0,
        integral_gain: float = 0.01,
        guard: GuardAction = "warn",
    ):
        super().__init__(band, guard=guard)
        self.proportional_gain = checked_number("proportional_gain", proportional_gain)
        self.integral_gain = checked_number("integral_gain", integral_gain)
        self._integral = 0.0

    def _decide(self, stats: BatchStats, direction: int) -> Decision:
        error = stats.entropy - self._target_at(self._progress)
        self._integral += error
        alpha = min(1.0, max(-1.0, self.proportional_gain * error + self.integral_gain * self._integral))
        return Decision(
            keep=torch.ones_like(stats.advantages, dtype=torch.bool),
            advantages=stats.advantages + alpha * stats.advantages.abs(),
            normalize="kept",  # all of them, which no engine then has to scale anything for
            metrics={"alpha": alpha, "integral": self._integral},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return super().state_dict() | {"integral": self._integral}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that this controller saved.
        """
        super().load_state_dict(state)
        self._integral = state["integral"]
