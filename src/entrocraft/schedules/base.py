"""What a schedule is: a pure function of the share of the run that is done."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from entrocraft.errors import InvalidValueError, UnknownNameError

Unit = Literal["nats", "initial"]
"""`nats`: nats per token. `initial`: multiples of the entropy measured at the first step."""

Interpolation = Literal["linear", "cosine", "step", "monotone"]
Knots = Sequence[Sequence[float]]
ScheduleLike: TypeAlias = "Schedule | float | str | Mapping[str, Any] | Knots"


def checked_number(name: str, value: object, *, minimum: float = 0.0) -> float:
    """Return `value` as a float, refusing what is not a finite number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(f"{name} must be a number, got {value!r}")
    if abs(value) > sys.float_info.max or value != value or value < minimum:  # also for integers beyond floats
        raise InvalidValueError(f"{name} must be finite and at least {minimum:g}, got {value!r}")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A curve over the run; build one with `linear`, `cosine`, ... or `schedule_from`."""

    unit: Unit = "nats"

    def __post_init__(self) -> None:
        if self.unit not in ("nats", "initial"):
            raise UnknownNameError.of("schedule unit", self.unit, ["nats", "initial"])

    @abstractmethod
    def at(self, progress: float) -> float:
        """Return the value at `progress`, a fraction of the run in [0, 1]."""

    def __call__(self, step: float, total_steps: float) -> float:
        """Return the value at `step` of a run of `total_steps`.

        Args:
            step: Steps made so far, at least 0. Past the end the last value holds.
            total_steps: Length of the run in the same steps, more than 0.

        Returns:
            The target, in nats per token (in multiples of the initial entropy if `unit="initial"`).

        Raises:
            InvalidValueError: `step` is negative, `total_steps` is not positive, or one is not finite.

        Example:
            >>> from entrocraft import linear
            >>> linear(0.6, 0.2)(50, 100)
            0.4
        """
        if not (math.isfinite(step) and step >= 0):
            raise InvalidValueError(f"step must be finite and at least 0, got {step!r}")
        if not (math.isfinite(total_steps) and total_steps > 0):
            raise InvalidValueError(f"total_steps must be finite and more than 0, got {total_steps!r}")
        return self.at(min(1.0, step / total_steps))

    def values(self, total_steps: int = 100) -> list[float]:
        """Return the whole curve: `values(n)[i] == self(i, n)` for `i` from 0 to `n`.

        Example:
            >>> from entrocraft import linear
            >>> linear(0.6, 0.2).values(2)
            [0.6, 0.4, 0.2]
        """
        return [self(step, total_steps) for step in range(total_steps + 1)]

    def plot(self, total_steps: int = 100, observed: Sequence[float] | None = None, ax: Any = None) -> Any:
        """Draw the curve, with the `observed` entropies of steps 1, 2, ... if given; return the axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from entrocraft.reports.plots.curves import draw_curve

        return draw_curve(self.values(total_steps), observed=observed, unit=self.unit, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `schedule_from` builds an equal schedule.

        Example:
            >>> from entrocraft import linear
            >>> linear(0.6, 0.2).to_dict()
            {'type': 'linear', 'start': 0.6, 'end': 0.2}
        """
        data: dict[str, Any] = {"type": type(self).__name__.lower()}
        data |= {field.name: getattr(self, field.name) for field in fields(self) if field.name != "unit"}
        return data if self.unit == "nats" else data | {"unit": self.unit}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Schedule":
        """Build a schedule from what `to_dict` returned; see `schedule_from`."""
        from entrocraft.schedules.builders import schedule_from  # which builds on this module

        return schedule_from(data)
