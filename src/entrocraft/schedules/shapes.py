"""The shapes a schedule can have. They are built through the functions of `builders`."""

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import Interpolation, Knots, Schedule, checked_number, plain_number

_SHORTEST = 1e-7  # part of a run between knots of a monotone curve: slopes are still numbers, and no step is shorter
_MOST_CYCLES = 1_000_000  # more than any run has steps


@dataclass(frozen=True)
class Constant(Schedule):
    """A schedule that holds one value throughout."""

    value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "value", checked_number("constant: value", self.value))

    def at(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class _Transition(Schedule):
    """A schedule from `start` to `end` along the shape that `_fraction` gives."""

    start: float
    end: float

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.lower()
        object.__setattr__(self, "start", checked_number(f"{name}: start", self.start))
        object.__setattr__(self, "end", checked_number(f"{name}: end", self.end))

    @abstractmethod
    def _fraction(self, progress: float) -> float:
        """Share of the way from `start` to `end`, 0 at the beginning and 1 at the end."""

    def at(self, progress: float) -> float:
        fraction = self._fraction(progress)
        return (1.0 - fraction) * self.start + fraction * self.end  # exact at both ends


@dataclass(frozen=True)
class Linear(_Transition):
    """A straight line from `start` to `end`."""

    def _fraction(self, progress: float) -> float:
        return progress


@dataclass(frozen=True)
class Cosine(_Transition):
    """Half a cosine wave from `start` to `end`: slow, fast, slow."""

    def _fraction(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * progress))


@dataclass(frozen=True)
class Polynomial(_Transition):
    """A power of what is left of the run: `end + (start - end) * (1 - progress) ** power`."""

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "power", plain_number(self.power))
        if checked_number("polynomial: power", self.power) == 0.0:
            raise InvalidValueError("polynomial: power must be more than 0, got 0")

    def _fraction(self, progress: float) -> float:
        return 1.0 - (1.0 - progress) ** self.power


@dataclass(frozen=True)
class Exponential(_Transition):
    """A geometric decay or growth, by the same factor every step: `start * (end / start) ** progress`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start == 0.0 or self.end == 0.0:
            raise InvalidValueError(
                f"exponential: start and end must be more than 0, got {self.start:g} and {self.end:g}; "
                "use a small value such as 0.01, or another schedule"
            )

    def _fraction(self, progress: float) -> float:
        if self.start == self.end:
            return progress
        # Interpolated between logarithms, where there is no ratio to overflow.
        value = math.exp((1.0 - progress) * math.log(self.start) + progress * math.log(self.end))
        return (value - self.start) / (self.end - self.start)


@dataclass(frozen=True)
class Cyclic(_Transition):
    """Cosine waves from `start` to `end` and back, `num_cycles` times."""

    num_cycles: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_cycles", plain_number(self.num_cycles))
        if checked_number("cyclic: num_cycles", self.num_cycles, maximum=_MOST_CYCLES) == 0.0:
            raise InvalidValueError("cyclic: num_cycles must be more than 0, got 0")

    def _fraction(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * self.num_cycles * progress))


@dataclass(frozen=True)
class Piecewise(Schedule):
    """A curve through knots, `(fraction of the run, value)`, and a way to go from one to the next."""

    knots: Knots
    kind: Interpolation = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("linear", "cosine", "step", "monotone"):
            raise UnknownNameError.of("interpolation", self.kind, ["linear", "cosine", "step", "monotone"])
        if isinstance(self.knots, str) or not isinstance(self.knots, Sequence) or not self.knots:
            raise InvalidValueError(f"piecewise: expected knots such as [(0, 0.6), (1, 0.2)], got {self.knots!r}")
        knots = []
        for knot in self.knots:
            if isinstance(knot, str) or not isinstance(knot, Sequence) or len(knot) != 2:
                raise InvalidValueError(f"piecewise: a knot is (fraction of the run, value), got {knot!r}")
            knots.append((checked_number("piecewise: fraction", knot[0]), checked_number("piecewise: value", knot[1])))
        times = [time for time, _ in knots]
        if times[0] != 0.0 or times[-1] > 1.0 or any(a >= b for a, b in pairwise(times)):
            raise InvalidValueError(
                f"piecewise: fractions must start at 0, increase, and end at 1 or before, got {times}"
            )
        if self.kind == "monotone" and any(b - a < _SHORTEST for a, b in pairwise(times)):
            raise InvalidValueError(
                f"piecewise: fractions of a monotone curve must be at least {_SHORTEST:g} apart, got {times}"
            )
        object.__setattr__(self, "knots", tuple(knots))

    def at(self, progress: float) -> float:
        times = [time for time, _ in self.knots]
        values = [value for _, value in self.knots]
        i = bisect_right(times, progress) - 1
        if i == len(times) - 1 or self.kind == "step":
            return values[i]
        span = times[i + 1] - times[i]
        t = (progress - times[i]) / span
        if self.kind == "monotone":
            slopes = _monotone_slopes(times, values)
            # The cubic that has the values and the slopes of both knots, in the Hermite basis.
            return (
                (1 + 2 * t) * (1 - t) ** 2 * values[i]
                + t * (1 - t) ** 2 * span * slopes[i]
                + t**2 * (3 - 2 * t) * values[i + 1]
                + t**2 * (t - 1) * span * slopes[i + 1]
            )
        if self.kind == "cosine":
            t = 0.5 * (1.0 - math.cos(math.pi * t))
        return (1.0 - t) * values[i] + t * values[i + 1]

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"knots": [list(knot) for knot in self.knots]}


def _monotone_slopes(times: list[float], values: list[float]) -> list[float]:
    """Return the slopes at the knots of the shape-preserving cubic (Fritsch and Butland, 1984).

    The interpolant never leaves the range of two neighbouring knots: a curve drawn above zero stays
    above zero, which an ordinary spline does not promise.
    """
    spans = [b - a for a, b in pairwise(times)]
    rises = [(b - a) / h for a, b, h in zip(values, values[1:], spans, strict=False)]
    if len(rises) == 1:
        return rises * 2

    def end_slope(h0: float, h1: float, d0: float, d1: float) -> float:
        """Return the slope of the parabola through the outermost three knots, cut so that no knot is overshot."""
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if slope * d0 <= 0:
            return 0.0
        return 3 * d0 if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0) else slope

    inner = []
    for h0, h1, d0, d1 in zip(spans, spans[1:], rises, rises[1:], strict=False):
        # A weighted harmonic mean of the two rises, or 0 at a peak or a valley.
        w0, w1 = 2 * h1 + h0, h1 + 2 * h0
        inner.append(0.0 if d0 * d1 <= 0 else (w0 + w1) / (w0 / d0 + w1 / d1))
    first = end_slope(spans[0], spans[1], rises[0], rises[1])
    last = end_slope(spans[-1], spans[-2], rises[-1], rises[-2])
    return [first, *inner, last]


@dataclass(frozen=True)
class Join(Schedule):
    """Schedules one after the other, each running from its beginning to its end in its own part."""

    schedules: tuple[Schedule, ...]
    switches: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.schedules) != len(self.switches) + 1:
            raise InvalidValueError(
                f"join: {len(self.schedules)} schedules need {len(self.schedules) - 1} switching fractions, "
                f"got {len(self.switches)}"
            )
        edges = (0.0, *self.switches, 1.0)
        if any(a >= b for a, b in pairwise(edges)):
            raise InvalidValueError(
                f"join: fractions must increase and lie strictly between 0 and 1, got {list(self.switches)}"
            )

    def at(self, progress: float) -> float:
        edges = (0.0, *self.switches, 1.0)
        i = min(bisect_right(edges, progress) - 1, len(self.schedules) - 1)
        return self.schedules[i].at((progress - edges[i]) / (edges[i + 1] - edges[i]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": "join",
            "schedules": [schedule.to_dict() for schedule in self.schedules],
            "at": list(self.switches),
        }
