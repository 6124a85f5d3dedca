"""Schedules taken apart: in another unit, as knots that can be dragged, and as the text that a person would write."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

from entrocraft.schedules import Interpolation, Schedule, Unit
from entrocraft.schedules.adaptive import Adaptive
from entrocraft.schedules.shapes import Constant, Cosine, Cyclic, Exponential, Join, Linear, Piecewise, Polynomial

_SAMPLED_KNOTS = 9

Knots = list[tuple[float, float]]


def scaled(schedule: Schedule, factor: float, unit: Unit) -> Schedule:
    """Return a schedule with every value times `factor`, in another unit.

    Example:
        >>> scaled(Linear(1.0, 0.5, unit="initial"), 0.6, "nats")
        Linear(unit='nats', start=0.6, end=0.3)
    """
    match schedule:
        case Constant():
            return replace(schedule, value=schedule.value * factor, unit=unit)
        case Piecewise():
            return replace(schedule, knots=[(at, value * factor) for at, value in schedule.knots], unit=unit)
        case Join():
            return replace(
                schedule, schedules=tuple(scaled(part, factor, unit) for part in schedule.schedules), unit=unit
            )
        case Adaptive():
            return replace(schedule, curve=scaled(schedule.curve, factor, unit), unit=unit)
        case Linear() | Cosine() | Exponential() | Polynomial() | Cyclic():
            return replace(schedule, start=schedule.start * factor, end=schedule.end * factor, unit=unit)
    raise TypeError(f"no way to scale {schedule!r}")  # a shape that was added to the library and not here


def knots_of(schedule: Schedule) -> tuple[Knots, Interpolation, bool]:
    """Return knots through which the schedule goes, how to go from one to the next, and whether that is all of it.

    Shapes that no few knots make are sampled: the knots are then a curve like it.

    Example:
        >>> knots_of(Cosine(0.6, 0.2))
        ([(0.0, 0.6), (1.0, 0.2)], 'cosine', True)
    """
    match schedule:
        case Constant():
            return [(0.0, schedule.value), (1.0, schedule.value)], "linear", True
        case Linear() | Cosine():
            kind: Interpolation = "linear" if isinstance(schedule, Linear) else "cosine"
            return [(0.0, schedule.start), (1.0, schedule.end)], kind, True
        case Piecewise():
            return [(float(at), float(value)) for at, value in schedule.knots], schedule.kind, True
    places = {i / (_SAMPLED_KNOTS - 1) for i in range(_SAMPLED_KNOTS)}
    if isinstance(schedule, Join):
        ends = [0.0, *schedule.switches, 1.0]
        if _is_one_line_through(schedule):
            return [(at, schedule.at(at)) for at in ends], "linear", True
        places |= set(ends)
    return [(at, schedule.at(at)) for at in sorted(places)], "monotone", False


def _is_one_line_through(schedule: Join) -> bool:
    """Return whether a schedule is straight lines that each begin where the one before ends."""
    parts = schedule.schedules
    if not all(isinstance(part, Linear | Constant) for part in parts):
        return False
    return all(before.at(1.0) == after.at(0.0) for before, after in pairwise(parts))


def as_text(schedule: Schedule, prefix: str = "") -> str:
    """Return the call that makes a schedule, as `schedule_from` reads it; with a prefix, as Python does.

    Args:
        schedule: The schedule.
        prefix: What stands before each name, such as `ec.`.

    Example:
        >>> as_text(Linear(1.0, 0.5, unit="initial"), "ec.")
        "ec.linear(1.0, 0.5, unit='initial')"
    """
    match schedule:
        case Constant():
            return _call(prefix, "constant", [repr(schedule.value)], schedule.unit)
        case Piecewise():
            knots = f"[{', '.join(f'({at!r}, {value!r})' for at, value in schedule.knots)}]"
            if schedule.kind == "step":
                return _call(prefix, "steps", [knots], schedule.unit)
            kind = [] if schedule.kind == "linear" else [f"kind={schedule.kind!r}"]
            return _call(prefix, "piecewise", [knots, *kind], schedule.unit)
        case Join():
            parts = ", ".join(as_text(part, prefix) for part in schedule.schedules)
            return _call(prefix, "join", [f"[{parts}]", f"at={list(schedule.switches)!r}"])
        case Adaptive():
            numbers = [f"patience={schedule.patience!r}", f"speed={schedule.speed!r}"]
            return _call(prefix, "adaptive", [as_text(schedule.curve, prefix), *numbers])
    ends = cast(Linear | Cosine | Exponential | Polynomial | Cyclic, schedule)
    numbers = [repr(ends.start), repr(ends.end)]
    if isinstance(ends, Polynomial):
        numbers.append(f"power={ends.power!r}")
    if isinstance(ends, Cyclic):
        numbers.append(f"num_cycles={ends.num_cycles!r}")
    return _call(prefix, type(ends).__name__.lower(), numbers, ends.unit)


def _call(prefix: str, name: str, arguments: Sequence[str], unit: Unit = "nats") -> str:
    unit_given = [] if unit == "nats" else [f"unit={unit!r}"]
    return f"{prefix}{name}({', '.join([*arguments, *unit_given])})"
