"""Entropy schedules: where policy entropy should be at each step, in nats per token.

A schedule is pure data. It maps a step to a value, has no state, and survives `to_dict` and back, so
resuming a run needs the step alone. Time is a fraction of the run: `schedule(step, total_steps)`
evaluates the curve at `progress = step / total_steps`, and holds its last value after the end.
"""

from entrocraft.schedules.band import Band
from entrocraft.schedules.base import Interpolation, Knots, Schedule, ScheduleLike, Unit
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
from entrocraft.schedules.parse import adaptive, join, schedule_from, warmup

__all__ = [
    "Band",
    "Interpolation",
    "Knots",
    "Schedule",
    "ScheduleLike",
    "Unit",
    "adaptive",
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "join",
    "linear",
    "piecewise",
    "polynomial",
    "schedule_from",
    "steps",
    "warmup",
]
