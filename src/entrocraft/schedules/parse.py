"""Schedules as people write them: text, mappings, numbers and knots.

`join`, `warmup` and `adaptive` stand here and not beside the other builders: they take schedules however these are
written, and what is written may in turn name them.
"""

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.adaptive import DEFAULT_PATIENCE, DEFAULT_SPEED, Adaptive
from entrocraft.schedules.base import Schedule, ScheduleLike, checked_number, plain_number
from entrocraft.schedules.builders import (
    constant,
    cosine,
    cyclic,
    exponential,
    linear,
    piecewise,
    polynomial,
    steps,
)
from entrocraft.schedules.shapes import Join, Linear


def schedule_from(spec: ScheduleLike) -> Schedule:
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
    spec = plain_number(spec)
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


def join(schedules: Sequence[ScheduleLike], at: Sequence[float]) -> Schedule:
    """Return schedules one after the other.

    Args:
        schedules: What to run, each from its beginning to its end in its own part.
        at: The fractions of the run at which the next one takes over, one fewer than `schedules`.

    Raises:
        InvalidValueError: The counts do not fit, the fractions do not increase, units are mixed, or a part
            is adaptive: a run has one clock, so `adaptive` goes around the whole.

    Example:
        >>> join([constant(0.6), linear(0.6, 0.2)], at=[0.5])(75, 100)
        0.4
    """
    for name, value in (("schedules", schedules), ("at", at)):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InvalidValueError(
                f"join: {name} is a list, as in join([constant(0.6), linear(0.6, 0.2)], at=[0.5]); got {value!r:.60}"
            )
    parts = tuple(schedule_from(part) for part in schedules)
    if any(isinstance(part, Adaptive) for part in parts):
        raise InvalidValueError(
            "a part of join or warmup cannot be adaptive, as a run has one clock; "
            "put it around the whole: adaptive(join(...)) or adaptive(warmup(...))"
        )
    units = {part.unit for part in parts}
    if len(units) != 1:
        raise InvalidValueError(f"join: expected one or more schedules of one unit, got units {sorted(units)}")
    return Join(parts, tuple(checked_number("join: fraction", x) for x in at), unit=units.pop())


def warmup(schedule: ScheduleLike, start: float, fraction: float = 0.1) -> Schedule:
    """Return `schedule` preceded by a straight line from `start` to its first value.

    Args:
        schedule: Anything that `schedule_from` takes; it is squeezed into the rest of the run.
        start: Value at the beginning of the run, in the schedule's unit.
        fraction: Share of the run that the line takes, more than 0 and less than 1.

    Raises:
        InvalidValueError: A number is out of range, or the schedule is adaptive: `adaptive` goes around the whole.
        UnknownNameError: There is no such schedule.

    Example:
        >>> warmup(linear(0.75, 0.25), start=0.25, fraction=0.5).values(4)
        [0.25, 0.5, 0.75, 0.5, 0.25]
    """
    then = schedule_from(schedule)
    return join([Linear(start, then.at(0.0), unit=then.unit), then], at=[fraction])


def adaptive(curve: ScheduleLike, patience: int = DEFAULT_PATIENCE, speed: float = DEFAULT_SPEED) -> Schedule:
    """Return `curve`, walked along only while the mean training reward has stalled.

    While the reward improves, entropy is worth what it costs, and the target holds. Once it has stalled
    the target moves on, `speed` times as fast as the run's own clock. Whether it has is read from the
    trend of the last `2 * patience` rewards, see `control.pace.AdaptivePace`; once the target starts or
    stops moving, it does so for at least `patience` steps. A run whose reward improves to its end never
    finishes the curve.

    Called with a step, as in `schedule(step, total_steps)`, it gives the curve of a run that never holds.

    Args:
        curve: Any schedule that is not adaptive itself, in its own unit.
        patience: Optimizer steps, 2 or more. More of them see slower improvements and answer later: a
            plateau is noticed some `1.5 * patience` steps after it begins.
        speed: How fast the clock runs while the reward has stalled, in ordinary clocks. With 2, a run
            that stalls for half of its steps still ends its curve.

    Raises:
        InvalidValueError: The curve is adaptive, or a number is out of range.

    Example:
        >>> adaptive(linear(0.6, 0.2), patience=10).at(0.5)
        0.4
    """
    inner = schedule_from(curve)
    return Adaptive(inner, patience, speed, unit=inner.unit)


BUILDERS: dict[str, Callable[..., Schedule]] = {
    builder.__name__: builder
    for builder in (
        adaptive,
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
"""All schedules, by name."""


def _build(name: object, args: list[Any], options: dict[str, Any]) -> Schedule:
    """Call the builder of that name; what its signature refuses is a user's mistake."""
    if not isinstance(name, str) or name not in BUILDERS:
        raise UnknownNameError.of("schedule", name, BUILDERS)
    try:
        return BUILDERS[name](*args, **options)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's syntax, such as `0in`, which is refused below
            tree = ast.parse(text.strip(), mode="eval")
        value = value_of(tree.body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, InvalidValueError | UnknownNameError):
            raise
        raise InvalidValueError(
            f"not a schedule: {text!r}; expected a number or a call such as 'linear(0.6, 0.2)' "
            f"with one of: {', '.join(sorted(BUILDERS))}"
        ) from error
    if isinstance(value, str):
        raise InvalidValueError(f"not a schedule: {text!r}; write it without the inner quotes")
    return schedule_from(value)
