"""Schedules from numbers and knots: one function for each shape."""

from entrocraft.schedules.base import Interpolation, Knots, Schedule, Unit
from entrocraft.schedules.shapes import Constant, Cosine, Cyclic, Exponential, Linear, Piecewise, Polynomial


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


def cyclic(start: float, end: float, num_cycles: float = 4.0, *, unit: Unit = "nats") -> Schedule:
    """Return a wave from `start` to `end` and back, `num_cycles` times over the run.

    Example:
        >>> [round(v, 4) for v in cyclic(0.3, 0.5, num_cycles=1).values(4)]
        [0.3, 0.4, 0.5, 0.4, 0.3]
    """
    return Cyclic(start, end, num_cycles, unit=unit)
