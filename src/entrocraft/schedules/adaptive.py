"""A schedule that waits: it anneals while the reward has stalled and holds while it improves."""

from dataclasses import dataclass
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import Schedule, checked_number, plain_number

DEFAULT_PATIENCE = 15
DEFAULT_SPEED = 2.0


@dataclass(frozen=True)
class Adaptive(Schedule):
    """A curve whose clock runs only while the reward has stalled.

    The curve alone is here, as pure data; `control.pace.AdaptivePace` moves along it.
    """

    curve: Schedule
    patience: int = DEFAULT_PATIENCE
    speed: float = DEFAULT_SPEED

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.curve, Schedule) or isinstance(self.curve, Adaptive):
            raise InvalidValueError(f"adaptive: expected a curve that is not adaptive itself, got {self.curve!r}")
        object.__setattr__(self, "patience", plain_number(self.patience))
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 2:
            raise InvalidValueError(
                f"adaptive: patience must be a whole number of steps, 2 or more, got {self.patience!r}"
            )
        object.__setattr__(self, "speed", checked_number("adaptive: speed", self.speed))
        if self.speed == 0.0:
            raise InvalidValueError("adaptive: speed must be more than 0, got 0; use constant to stay in one place")

    def at(self, progress: float) -> float:
        return self.curve.at(progress)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; the unit is the curve's and stays with it."""
        return {
            "type": "adaptive",
            "curve": self.curve.to_dict(),
            "patience": self.patience,
            "speed": self.speed,
        }
