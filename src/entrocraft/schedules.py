"""Entropy schedules: where policy entropy should be at each step, in nats per token.

A schedule is pure data. It maps a step to a value, has no state, and survives `to_dict` and back, so
resuming a run needs the step alone. Time is a fraction of the run: `schedule(step, total_steps)`
evaluates the curve at `progress = step / total_steps`, and holds its last value after the end.
"""

import ast
import itertools
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, cast

from entrocraft.errors import InvalidValueError, UnknownNameError

Unit = Literal["nats", "initial"]
"""`nats`: nats per token. `initial`: multiples of the entropy measured at the first step."""

Interpolation = Literal["linear", "cosine", "step", "monotone"]
Knots = Sequence[Sequence[float]]
ScheduleLike: TypeAlias = "Schedule | float | str | Mapping[str, Any] | Knots"


def _number(name: str, value: object, *, minimum: float = 0.0) -> float:
    """Return `value` as a float, refusing what is not a finite number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < minimum:
        raise InvalidValueError(f"{name} must be finite and at least {minimum:g}, got {value!r}")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A curve over the run; build one with `linear`, `cosine`, `piecewise`, ... or `schedule_from`."""

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
            >>> linear(0.6, 0.2)(50, 100)
            0.4
        """
        if not (math.isfinite(step) and step >= 0):
            raise InvalidValueError(f"step must be finite and at least 0, got {step!r}")
        if not (math.isfinite(total_steps) and total_steps > 0):
            raise InvalidValueError(f"total_steps must be finite and more than 0, got {total_steps!r}")
        return self.at(min(1.0, step / total_steps))

    def values(self, total_steps: int) -> list[float]:
        """Return the whole curve: `values(n)[i] == self(i, n)` for `i` from 0 to `n`.

        Example:
            >>> linear(0.6, 0.2).values(2)
            [0.6, 0.4, 0.2]
        """
        return [self(step, total_steps) for step in range(total_steps + 1)]

    def plot(self, total_steps: int = 100, observed: Sequence[float] | None = None, ax: Any = None) -> Any:
        """Draw the curve, with the `observed` entropies of steps 1, 2, ... if given; return the axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from entrocraft.plots import draw_schedule

        return draw_schedule(self, total_steps, observed=observed, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `schedule_from` builds an equal schedule.

        Example:
            >>> linear(0.6, 0.2).to_dict()
            {'type': 'linear', 'start': 0.6, 'end': 0.2}
        """
        data: dict[str, Any] = {"type": type(self).__name__.lower()}
        data |= {field.name: getattr(self, field.name) for field in fields(self) if field.name != "unit"}
        return data if self.unit == "nats" else data | {"unit": self.unit}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Schedule":
        """Build a schedule from what `to_dict` returned; see `schedule_from`."""
        return schedule_from(data)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "value", _number("constant: value", self.value))

    def at(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class _Transition(Schedule):
    """From `start` to `end` along the shape that `_fraction` gives."""

    start: float
    end: float

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.lower()
        object.__setattr__(self, "start", _number(f"{name}: start", self.start))
        object.__setattr__(self, "end", _number(f"{name}: end", self.end))

    @abstractmethod
    def _fraction(self, progress: float) -> float:
        """Share of the way from `start` to `end`, 0 at the beginning and 1 at the end."""

    def at(self, progress: float) -> float:
        fraction = self._fraction(progress)
        return (1.0 - fraction) * self.start + fraction * self.end  # exact at both ends


@dataclass(frozen=True)
class Linear(_Transition):
    """A straight line."""

    def _fraction(self, progress: float) -> float:
        return progress


@dataclass(frozen=True)
class Cosine(_Transition):
    """Half a cosine wave: slow, fast, slow."""

    def _fraction(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * progress))


@dataclass(frozen=True)
class Polynomial(_Transition):
    """`end + (start - end) * (1 - progress) ** power`."""

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if _number("polynomial: power", self.power) == 0.0:
            raise InvalidValueError("polynomial: power must be more than 0, got 0")

    def _fraction(self, progress: float) -> float:
        return 1.0 - (1.0 - progress) ** self.power


@dataclass(frozen=True)
class Exponential(_Transition):
    """`start * (end / start) ** progress`: the same factor every step."""

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
        value = self.start * (self.end / self.start) ** progress
        return (value - self.start) / (self.end - self.start)


@dataclass(frozen=True)
class Cyclic(_Transition):
    """From `start` to `end` and back, `num_cycles` times, along cosine waves."""

    num_cycles: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if _number("cyclic: num_cycles", self.num_cycles) == 0.0:
            raise InvalidValueError("cyclic: num_cycles must be more than 0, got 0")

    def _fraction(self, progress: float) -> float:
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * self.num_cycles * progress))


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Values at knots, `(fraction of the run, value)`, and a way to go from one to the next."""

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
            knots.append((_number("piecewise: fraction", knot[0]), _number("piecewise: value", knot[1])))
        times = [time for time, _ in knots]
        if times[0] != 0.0 or times[-1] > 1.0 or any(a >= b for a, b in itertools.pairwise(times)):
            raise InvalidValueError(
                f"piecewise: fractions must start at 0, increase, and end at 1 or before, got {times}"
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
            # The cubic Hermite basis.
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
    """Slopes at the knots of the shape-preserving cubic (Fritsch and Butland, 1984).

    The interpolant never leaves the range of two neighbouring knots: a curve drawn above zero stays
    above zero, which an ordinary spline does not promise.
    """
    spans = [b - a for a, b in itertools.pairwise(times)]
    rises = [(b - a) / h for a, b, h in zip(values, values[1:], spans, strict=False)]
    if len(rises) == 1:
        return rises * 2

    def end_slope(h0: float, h1: float, d0: float, d1: float) -> float:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if slope * d0 <= 0:
            return 0.0
        return 3 * d0 if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0) else slope

    inner = []
    for h0, h1, d0, d1 in zip(spans, spans[1:], rises, rises[1:], strict=False):
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
        if any(a >= b for a, b in itertools.pairwise(edges)):
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


def constant(value: float, *, unit: Unit = "nats") -> Schedule:
    """Return a schedule that holds `value`.

    Example:
        >>> constant(0.5)(7, 10)
        0.5
    """
    return Constant(value, unit=unit)


def linear(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return a straight line: `(1 - p) * start + p * end` at progress `p`.

    The schedule the paper finds best (section 5.3): high first, then slightly lower.

    Example:
        >>> linear(0.6, 0.2)(100, 100)
        0.2
    """
    return Linear(start, end, unit=unit)


def cosine(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return half a cosine wave: `start + (end - start) * (1 - cos(pi * p)) / 2`.

    Example:
        >>> round(cosine(0.6, 0.2)(25, 100), 4)
        0.5414
    """
    return Cosine(start, end, unit=unit)


def exponential(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return a geometric decay (or growth): `start * (end / start) ** p`.

    Raises:
        InvalidValueError: `start` or `end` is zero.

    Example:
        >>> round(exponential(0.8, 0.2)(50, 100), 4)
        0.4
    """
    return Exponential(start, end, unit=unit)


def polynomial(start: float, end: float, power: float = 2.0, *, unit: Unit = "nats") -> Schedule:
    """Return `end + (start - end) * (1 - p) ** power`: fast first if `power > 1`.

    Example:
        >>> round(polynomial(0.6, 0.2, power=2)(50, 100), 4)
        0.3
    """
    return Polynomial(start, end, power, unit=unit)


def piecewise(knots: Knots, kind: Interpolation = "linear", *, unit: Unit = "nats") -> Schedule:
    """Return a curve through knots.

    Args:
        knots: `(fraction of the run, value)` pairs; the first fraction is 0, they increase, and the
            last is at most 1. After the last knot its value holds.
        kind: `linear`; `cosine`, smooth and flat at each knot; `step`, holding a value until the next
            knot; `monotone`, a smooth cubic that never overshoots its knots.
        unit: See `Unit`.

    Example:
        >>> piecewise([(0.0, 0.6), (0.5, 0.5), (1.0, 0.2)])(75, 100)
        0.35
    """
    return Piecewise(knots, kind, unit=unit)


def steps(knots: Knots, *, unit: Unit = "nats") -> Schedule:
    """Return a staircase: each knot's value holds until the next knot.

    Example:
        >>> steps([(0.0, 0.6), (0.5, 0.4)]).values(4)
        [0.6, 0.6, 0.4, 0.4, 0.4]
    """
    return Piecewise(knots, "step", unit=unit)


def join(schedules: Sequence["ScheduleLike"], at: Sequence[float]) -> Schedule:
    """Return schedules one after the other.

    Args:
        schedules: What to run, each from its beginning to its end in its own part.
        at: The fractions of the run at which the next one takes over, one fewer than `schedules`.

    Raises:
        InvalidValueError: The counts do not fit, the fractions do not increase, or units are mixed.

    Example:
        >>> join([constant(0.6), linear(0.6, 0.2)], at=[0.5])(75, 100)
        0.4
    """
    parts = tuple(schedule_from(part) for part in schedules)
    units = {part.unit for part in parts}
    if len(units) != 1:
        raise InvalidValueError(f"join: expected one or more schedules of one unit, got units {sorted(units)}")
    return Join(parts, tuple(_number("join: fraction", x) for x in at), unit=units.pop())


def warmup(schedule: "ScheduleLike", start: float, fraction: float = 0.1) -> Schedule:
    """Return `schedule` preceded by a straight line from `start` to its first value.

    Example:
        >>> warmup(linear(0.75, 0.25), start=0.25, fraction=0.5).values(4)
        [0.25, 0.5, 0.75, 0.5, 0.25]
    """
    then = schedule_from(schedule)
    return join([Linear(start, then.at(0.0), unit=then.unit), then], at=[fraction])


def cyclic(start: float, end: float, num_cycles: float = 4.0, *, unit: Unit = "nats") -> Schedule:
    """Return a wave from `start` to `end` and back, `num_cycles` times over the run.

    Example:
        >>> [round(v, 4) for v in cyclic(0.3, 0.5, num_cycles=1).values(4)]
        [0.3, 0.4, 0.5, 0.4, 0.3]
    """
    return Cyclic(start, end, num_cycles, unit=unit)


_BUILDERS: dict[str, Callable[..., Schedule]] = {
    builder.__name__: builder
    for builder in (
        constant,
        cosine,
        cyclic,
        exponential,
        join,
        linear,
        piecewise,
        polynomial,
        steps,
        warmup,
    )
}


def schedule_from(spec: "ScheduleLike") -> Schedule:
    """Build a schedule from whatever a person writes in YAML or on a command line.

    Args:
        spec: A schedule (returned as it is), a number (constant), a list of knots (piecewise linear),
            a mapping with a `type`, or text such as `"linear(0.6, 0.2)"` or `"0.5"`. Text is parsed,
            never evaluated: only schedule names, numbers, strings and lists are understood.

    Raises:
        InvalidValueError: The specification cannot be understood.
        UnknownNameError: There is no schedule of that name.

    Example:
        >>> schedule_from("linear(0.6, 0.2)") == schedule_from({"type": "linear", "start": 0.6, "end": 0.2})
        True
        >>> schedule_from([[0, 0.6], [1, 0.2]])(50, 100)
        0.4
    """
    match spec:
        case Schedule():
            return spec
        case str():
            return _parse(spec)
        case Mapping():
            options = dict(spec)
            name = options.pop("type", None)
            if name is None:
                raise InvalidValueError(
                    "a schedule mapping needs a `type`, such as {'type': 'linear', 'start': 0.6, 'end': 0.2}; "
                    f"got {dict(spec)!r}"
                )
            return _build(name, [], options)
        case bool() | None:
            raise InvalidValueError(
                f"expected a number, knots, a mapping or text such as 'linear(0.6, 0.2)', got {spec!r}"
            )
        case int() | float():
            return constant(spec)
        case _:
            return piecewise(spec)


def _build(name: object, args: list[Any], options: dict[str, Any]) -> Schedule:
    if not isinstance(name, str) or name not in _BUILDERS:
        raise UnknownNameError.of("schedule", name, _BUILDERS)
    try:
        return _BUILDERS[name](*args, **options)
    except TypeError as error:
        raise InvalidValueError(f"schedule {name!r}: {str(error).removeprefix(f'{name}() ')}") from error


def _parse(text: str) -> Schedule:
    """Parse `"name(arg, key=arg)"`, where an argument may itself be a schedule."""

    def value_of(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            options = {str(keyword.arg): value_of(keyword.value) for keyword in node.keywords}
            return _build(node.func.id, [value_of(argument) for argument in node.args], options)
        if isinstance(node, ast.List | ast.Tuple):
            return [value_of(element) for element in node.elts]
        return ast.literal_eval(node)

    try:
        value = value_of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InvalidValueError | UnknownNameError):
            raise
        raise InvalidValueError(
            f"not a schedule: {text!r}; expected a number or a call such as 'linear(0.6, 0.2)' "
            f"with one of: {', '.join(sorted(_BUILDERS))}"
        ) from error
    if isinstance(value, str):
        raise InvalidValueError(f"not a schedule: {text!r}; write it without the inner quotes")
    return schedule_from(value)


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
        >>> Band(linear(0.75, 0.25), width=0.5)(0, 100)
        (0.5, 1.0)
        >>> Band(lower=0.5, upper=linear(0.7, 0.6))(100, 100)
        (0.5, 0.6)

    The authors' YAML default has its lower bound above its upper one, unchecked; here it is refused.
    """

    _CHECKED_POINTS = 2000

    def __init__(
        self,
        schedule: "ScheduleLike | None" = None,
        width: float | None = None,
        *,
        lower: "ScheduleLike | None" = None,
        upper: "ScheduleLike | None" = None,
    ):
        centred = schedule is not None and width is not None and lower is None and upper is None
        edged = schedule is None and width is None and lower is not None and upper is not None
        if not centred and not edged:
            raise InvalidValueError(
                "a band is either Band(schedule, width=...) or Band(lower=..., upper=...), "
                f"got schedule={schedule!r}, width={width!r}, lower={lower!r}, upper={upper!r}"
            )
        self.schedule = schedule_from(schedule) if schedule is not None else None
        self.width = _number("band: width", width) if centred else None
        self.lower = schedule_from(lower) if lower is not None else None
        self.upper = schedule_from(upper) if upper is not None else None
        if self.lower is not None and self.upper is not None:
            if self.lower.unit != self.upper.unit:
                raise InvalidValueError(
                    f"band: lower and upper must share a unit, got {self.lower.unit} and {self.upper.unit}"
                )
            for point in range(self._CHECKED_POINTS + 1):
                progress = point / self._CHECKED_POINTS
                low, high = self.lower.at(progress), self.upper.at(progress)
                if low > high:
                    raise InvalidValueError(
                        f"band: lower must not exceed upper, got lower {low:.4g} above upper {high:.4g} "
                        f"at {progress:.0%} of the run; swap them or move one"
                    )

    @property
    def unit(self) -> Unit:
        """The unit of both lines; see `Unit`."""
        return cast(Schedule, self.schedule or self.lower).unit

    def __call__(self, step: float, total_steps: float) -> tuple[float, float]:
        """Return `(lower, upper)` at `step`; see `Schedule.__call__` for the arguments."""
        if self.schedule is not None and self.width is not None:
            centre = self.schedule(step, total_steps)
            return centre - self.width / 2, centre + self.width / 2
        lower, upper = cast(Schedule, self.lower), cast(Schedule, self.upper)
        return lower(step, total_steps), upper(step, total_steps)

    def target(self, step: float, total_steps: float) -> float:
        """Return the middle of the band at `step`: the entropy to be at."""
        if self.schedule is not None:
            return self.schedule(step, total_steps)
        lower, upper = self(step, total_steps)
        return (lower + upper) / 2

    def plot(self, total_steps: int = 100, observed: Sequence[float] | None = None, ax: Any = None) -> Any:
        """Draw the band and its target; see `Schedule.plot`."""
        from entrocraft.plots import draw_schedule

        return draw_schedule(self, total_steps, observed=observed, ax=ax)

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
