"""The corridor around a schedule in which entropy is left alone."""

import math
from collections.abc import Mapping
from typing import Any, cast

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import (
    UNIT_NAMES,
    Schedule,
    ScheduleLike,
    Unit,
    checked_number,
    progress_of,
    steps_of,
)
from entrocraft.schedules.parse import schedule_from
from entrocraft.schedules.picture import svg_of_curve

_ROUNDING = 1e-9  # relative, of what counts as touching where two lines are the same one, written in two ways


class Band:
    """A corridor around a schedule: entropy inside it is left alone.

    Written either as a centre line and a width, or as two lines:

    Args:
        schedule: The centre line; `band(...)` is then `schedule - width/2` to `schedule + width/2`.
        width: `upper - lower`, in the schedule's unit.
        lower: The lower line, if there is no centre line.
        upper: The upper line. It may touch the lower line, and never run below it.

    Raises:
        InvalidValueError: Neither or both forms are given, the width is negative, units are mixed, or
            `lower` exceeds `upper` anywhere.

    Example:
        >>> from entrocraft import linear
        >>> Band(linear(0.75, 0.25), width=0.5)(0, 100)
        (0.5, 1.0)
        >>> Band(lower=0.5, upper=linear(0.7, 0.6))(100, 100)
        (0.5, 0.6)

    The authors' YAML default has its lower bound above its upper one, unchecked; here it is refused.
    """

    _CHECKED_POINTS = 2000

    def __init__(
        self,
        schedule: ScheduleLike | None = None,
        width: float | None = None,
        *,
        lower: ScheduleLike | None = None,
        upper: ScheduleLike | None = None,
    ):
        centred = schedule is not None and width is not None and lower is None and upper is None
        edged = schedule is None and width is None and lower is not None and upper is not None
        if not centred and not edged:
            raise InvalidValueError(
                "a band is either Band(schedule, width=...) or Band(lower=..., upper=...), "
                f"got schedule={schedule!r}, width={width!r}, lower={lower!r}, upper={upper!r}"
            )
        self.schedule = schedule_from(schedule) if schedule is not None else None
        self.width = checked_number("band: width", width) if centred else None
        self.lower = schedule_from(lower) if lower is not None else None
        self.upper = schedule_from(upper) if upper is not None else None
        if self.lower is not None and self.upper is not None:
            if self.lower.unit != self.upper.unit:
                raise InvalidValueError(
                    f"band: lower and upper must share a unit, got {self.lower.unit} and {self.upper.unit}"
                )
            for point in range(self._CHECKED_POINTS + 1):
                self._edges(point / self._CHECKED_POINTS)

    @property
    def unit(self) -> Unit:
        """The unit of both lines; see `Unit`."""
        return cast(Schedule, self.schedule or self.lower).unit

    def __call__(self, step: float, total_steps: float) -> tuple[float, float]:
        """Return `(lower, upper)` at `step`; see `Schedule.__call__` for the arguments."""
        return self._edges(progress_of(step, total_steps))

    def _edges(self, progress: float) -> tuple[float, float]:
        """Return both edges, and refuse a lower one that runs above the upper by more than rounding."""
        if self.schedule is not None and self.width is not None:
            centre = self.schedule.at(progress)
            return centre - self.width / 2, centre + self.width / 2
        lower, upper = cast(Schedule, self.lower).at(progress), cast(Schedule, self.upper).at(progress)
        if lower > upper and not math.isclose(lower, upper, rel_tol=_ROUNDING):
            raise InvalidValueError(
                f"band: lower must not exceed upper, got lower {lower:.4g} above upper {upper:.4g} "
                f"at {progress:.0%} of the run; swap them or move one"
            )
        return min(lower, upper), max(lower, upper)

    def target(self, step: float, total_steps: float) -> float:
        """Return the middle of the band at `step`: the entropy to be at."""
        if self.schedule is not None:
            return self.schedule(step, total_steps)
        lower, upper = self(step, total_steps)
        return (lower + upper) / 2

    def values(self, total_steps: int = 100) -> list[tuple[float, float]]:
        """Return both edges over the whole run: `values(n)[i] == self(i, n)` for `i` from 0 to `n`."""
        return [self(step, total_steps) for step in steps_of(total_steps)]

    def targets(self, total_steps: int = 100) -> list[float]:
        """Return the target over the whole run: `targets(n)[i] == target(i, n)` for `i` from 0 to `n`."""
        return [self.target(step, total_steps) for step in steps_of(total_steps)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `Band.from_dict` builds an equal band."""
        if self.schedule is not None:
            return {"schedule": self.schedule.to_dict(), "width": self.width}
        return {
            "lower": cast(Schedule, self.lower).to_dict(),
            "upper": cast(Schedule, self.upper).to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Band":
        """Build a band from what `to_dict` returned."""
        unknown = set(data) - {"schedule", "width", "lower", "upper"}
        if unknown:
            raise UnknownNameError.of("band key", unknown.pop(), ["schedule", "width", "lower", "upper"])
        return cls(**data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Band) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.schedule, self.width, self.lower, self.upper))

    def __repr__(self) -> str:
        if self.schedule is not None:
            return f"Band({self.schedule!r}, width={self.width!r})"
        return f"Band(lower={self.lower!r}, upper={self.upper!r})"

    def _repr_svg_(self) -> str:
        """Return the band and its target as a notebook shows them."""
        return svg_of_curve(self.targets(), self.values(), title=repr(self), unit=UNIT_NAMES[self.unit])
