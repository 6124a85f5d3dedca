"""Schedules from numbers and knots: one function for each shape.

`p` is the share of the run that is done, from 0 to 1; after the end of the run the last value holds.
"""

from entrocraft.schedules.base import Interpolation, Knots, Schedule, Unit
from entrocraft.schedules.shapes import Constant, Cosine, Cyclic, Exponential, Linear, Piecewise, Polynomial


def constant(value: float, *, unit: Unit = "nats") -> Schedule:
    """Return a schedule that holds `value`.

    Args:
        value: The target throughout, at least 0, in `unit`.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: `value` is negative or not finite.
        UnknownNameError: There is no such unit.

    Example:
        >>> constant(0.5)(7, 10)
        0.5
    """
    return Constant(value, unit=unit)


def linear(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return a straight line: `(1 - p) * start + p * end` at progress `p`.

    Args:
        start: Value at the beginning of the run, at least 0, in `unit`.
        end: Value at its end, at least 0.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: A number is negative or not finite.
        UnknownNameError: There is no such unit.

    Source: arXiv 2604.26326, section 5.3, which finds this shape best: high first, then slightly lower.

    Example:
        >>> linear(0.6, 0.2)(100, 100)
        0.2
    """
    return Linear(start, end, unit=unit)


def cosine(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return half a cosine wave: `start + (end - start) * (1 - cos(pi * p)) / 2`.

    Args:
        start: Value at the beginning of the run, at least 0, in `unit`.
        end: Value at its end, at least 0.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: A number is negative or not finite.
        UnknownNameError: There is no such unit.

    Example:
        >>> round(cosine(0.6, 0.2)(25, 100), 4)
        0.5414
    """
    return Cosine(start, end, unit=unit)


def exponential(start: float, end: float, *, unit: Unit = "nats") -> Schedule:
    """Return a geometric decay (or growth): `start * (end / start) ** p`.

    Args:
        start: Value at the beginning of the run, more than 0, in `unit`.
        end: Value at its end, more than 0.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: A number is negative, zero or not finite.
        UnknownNameError: There is no such unit.

    Example:
        >>> round(exponential(0.8, 0.2)(50, 100), 4)
        0.4
    """
    return Exponential(start, end, unit=unit)


def polynomial(start: float, end: float, power: float = 2.0, *, unit: Unit = "nats") -> Schedule:
    """Return `end + (start - end) * (1 - p) ** power`: fast first if `power > 1`.

    Args:
        start: Value at the beginning of the run, at least 0, in `unit`.
        end: Value at its end, at least 0.
        power: More than 0; 1 is a straight line.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: A number is negative or not finite, or `power` is 0.
        UnknownNameError: There is no such unit.

    Example:
        >>> round(polynomial(0.6, 0.2, power=2)(50, 100), 4)
        0.3
    """
    return Polynomial(start, end, power, unit=unit)


def piecewise(knots: Knots, kind: Interpolation = "linear", *, unit: Unit = "nats") -> Schedule:
    """Return a curve through knots.

    Args:
        knots: `(fraction of the run, value)` pairs; the first fraction is 0, they increase, and the
            last is at most 1. After the last knot its value holds; a single knot is a constant.
        kind: `linear`; `cosine`, smooth and flat at each knot; `step`, holding a value until the next
            knot; `monotone`, a smooth cubic that never overshoots its knots.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: There are no knots, fractions do not increase from 0 to at most 1, or a value is negative or
            not finite.
        UnknownNameError: There is no such unit or interpolation.

    Example:
        >>> piecewise([(0.0, 0.6), (0.5, 0.5), (1.0, 0.2)])(75, 100)
        0.35
    """
    return Piecewise(knots, kind, unit=unit)


def steps(knots: Knots, *, unit: Unit = "nats") -> Schedule:
    """Return a staircase: each knot's value holds until the next knot.

    Args:
        knots: `(fraction of the run, value)` pairs, as `piecewise` takes them.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: See `piecewise`.
        UnknownNameError: There is no such unit.

    Example:
        >>> steps([(0.0, 0.6), (0.5, 0.4)]).values(4)
        [0.6, 0.6, 0.4, 0.4, 0.4]
    """
    return Piecewise(knots, "step", unit=unit)


def cyclic(start: float, end: float, num_cycles: float = 4.0, *, unit: Unit = "nats") -> Schedule:
    """Return a wave from `start` to `end` and back, `num_cycles` times over the run.

    `start + (end - start) * (1 - cos(2 pi * num_cycles * p)) / 2` at progress `p`.

    Args:
        start: Value at the beginning of each cycle, at least 0, in `unit`.
        end: Value in the middle of each cycle, at least 0.
        num_cycles: More than 0; with 0.5 the run ends at `end`.
        unit: `nats`, per token, or `initial`, multiples of the entropy measured at the first step.

    Raises:
        InvalidValueError: A number is negative or not finite, or `num_cycles` is 0 or more than a run can have.
        UnknownNameError: There is no such unit.

    Example:
        >>> [round(v, 4) for v in cyclic(0.3, 0.5, num_cycles=1).values(4)]
        [0.3, 0.4, 0.5, 0.4, 0.3]
    """
    return Cyclic(start, end, num_cycles, unit=unit)
