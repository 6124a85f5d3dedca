"""What a schedule is: a pure function of the share of the run that is done."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.picture import svg_of_curve

Unit = Literal["nats", "initial"]
"""`nats`: nats per token. `initial`: multiples of the entropy measured at the first step."""
UNIT_NAMES: Mapping[Unit, str] = {"nats": "nats per token", "initial": "multiples of the entropy at the first step"}
"""What each unit is called beside a curve."""

MOST = 1e300
"""Largest number of a schedule: sums and differences of such are still numbers."""

Interpolation = Literal["linear", "cosine", "step", "monotone"]
Knots = Sequence[Sequence[float]]
"""Pairs of `(fraction of the run, value)`."""


def plain_number(value: Any) -> Any:
    """Return Python's own number for a scalar of NumPy or torch, and anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def checked_number(name: str, value: object, *, minimum: float = 0.0, maximum: float = MOST) -> float:
    """Return `value` as a float, refusing what is not a finite number between `minimum` and `maximum`."""
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(f"{name} must be a number, got {value!r}")
    if abs(value) > sys.float_info.max or value != value or value < minimum:  # also for integers beyond floats
        raise InvalidValueError(f"{name} must be finite and at least {minimum:g}, got {value!r}")
    if value > maximum:
        most = f"{maximum:,}" if isinstance(maximum, int) else f"{maximum:g}"
        raise InvalidValueError(f"{name} must be at most {most}, got {value!r:.80}")
    return float(value)


def progress_of(step: float, total_steps: float) -> float:
    """Return the share of a run that is done, 1 after its end; refuses what are no steps."""
    step, total_steps = checked_number("step", step), checked_number("total_steps", total_steps)
    if total_steps == 0.0:
        raise InvalidValueError("total_steps must be finite and more than 0, got 0")
    return min(1.0, step / total_steps)


def steps_of(total_steps: int) -> range:
    """Return the steps of a run, from 0 to its end."""
    total_steps = plain_number(total_steps)
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise InvalidValueError(f"total_steps must be a whole number of at least 1, got {total_steps!r}")
    return range(total_steps + 1)


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A curve over the run: the entropy to be at, as a function of the share of the run that is done.

    Build one with `linear`, `cosine`, ... or `schedule_from`; a shape of your own is a frozen dataclass with `at`.
    A schedule is plain data without a state, so a resumed run needs the step alone.

    Raises:
        UnknownNameError: There is no such unit.

    Example:
        >>> from entrocraft import linear
        >>> curve = linear(0.6, 0.2)
        >>> curve(50, 100), curve.values(2), curve.unit
        (0.4, [0.6, 0.4, 0.2], 'nats')
    """

    unit: Unit = "nats"
    """`nats`, per token, or `initial`, multiples of the entropy measured at the first step."""

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
        return self.at(progress_of(step, total_steps))

    def values(self, total_steps: int = 100) -> list[float]:
        """Return the whole curve: `values(n)[i] == self(i, n)` for `i` from 0 to `n`.

        Example:
            >>> from entrocraft import linear
            >>> linear(0.6, 0.2).values(2)
            [0.6, 0.4, 0.2]
        """
        return [self(step, total_steps) for step in steps_of(total_steps)]

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

    def _repr_svg_(self) -> str:
        """Return the curve as a notebook shows it."""
        return svg_of_curve(self.values(), title=repr(self), unit=UNIT_NAMES[self.unit])


ScheduleLike: TypeAlias = Schedule | float | str | Mapping[str, Any] | Knots
"""Whatever `schedule_from` takes for a schedule."""
