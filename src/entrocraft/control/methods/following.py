"""Methods with one strength and no target of their own: a small loop moves the strength, so that entropy follows."""

from collections.abc import Mapping
from typing import Any, ClassVar

from entrocraft.control.batch import Batch
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number

PROPORTIONAL, INTEGRAL = 1.0, 0.1
"""Gains of the loop, in widths of the strength's limits: per nat, and per nat and decision."""


class Following(Method):
    """A method whose one strength may follow the curve, which it otherwise has no target for.

    With the error e = H* - H in nats per token, the width w of the limits and the sign of the strength's effect,

        strength = clip(own + sign * gain * w * (e + 0.1 * sum of e), least, most).

    An error that would push the strength farther beyond a limit is not added to the sum, so that it does not wind up:
    the strength leaves the limit as soon as the error turns.

    Args:
        strength: The method's own, which it has where it follows nothing, and starts from where it follows.
        follow: Move the strength, so that entropy follows the curve; otherwise the curve is only watched.
        gain: Factor on the loop's gains, 1 by default; for `follow` alone.

    Raises:
        InvalidValueError: The strength is beyond its limits, the gain is not positive, or there is one and nothing
            follows.
    """

    limits: ClassVar[tuple[float, float]]
    """Smallest and greatest strength."""
    sign: ClassVar[int]
    """1 if more strength raises entropy, -1 if it lowers it."""
    strength_name: ClassVar[str]
    """What the method calls its strength."""

    def __init__(self, strength: float, follow: bool, gain: float | None):
        (least, most), name = self.limits, self.strength_name
        self._own = checked_number(name, strength, minimum=least)
        if self._own > most:
            raise InvalidValueError(f"{name} must lie in [{least:g}, {most:g}], got {strength}")
        if gain is not None and not follow:
            raise InvalidValueError("gain is for follow=True, where the curve moves the strength; leave it out")
        self.follow = follow
        self.gain = checked_number("gain", 1.0 if gain is None else gain)
        if self.gain == 0.0:
            raise InvalidValueError("gain must be positive, got 0; set follow=False to leave the strength alone")
        self._sum = 0.0

    def moved(self, batch: Batch, goal: Goal) -> float:
        """Return the strength of this decision; to be called exactly once for each."""
        if not self.follow:
            return self._own
        least, most = self.limits
        error = goal.target - batch.entropy
        scale = self.sign * self.gain * (most - least)
        strength = self._own + scale * (PROPORTIONAL * error + INTEGRAL * (self._sum + error))
        within = min(most, max(least, strength))
        # The error is part of this decision in any case; it is remembered unless it pushes farther out.
        if (strength - within) * scale * error <= 0.0:
            self._sum += error
        return within

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"sum": self._sum} if self.follow else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of a method with one strength", state, self.state_dict())
        self._sum = float(state.get("sum", 0.0))
