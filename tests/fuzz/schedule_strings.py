"""Schedules as text, as `entrocraft schedule` and configurations take them."""

import json
import math
from fractions import Fraction
from random import Random
from typing import Any

import yaml

from entrocraft.cli.output import sparkline, table
from entrocraft.schedules import Band, schedule_from
from entrocraft.schedules.base import Schedule
from entrocraft.yaml_text import read_yaml
from fuzz import mutate, noise
from fuzz.target import Case, Outcome, Target, expect

_STEPS = 60
_TOLERANCE = 1e-9
_SMALLEST = 1e-300  # below which floats have fewer digits


def draw(rng: Random) -> Case:
    """Draw text that names a schedule, or nearly."""
    text = _call(rng, depth=rng.choice((0, 1, 1, 2, 3)))
    kind = rng.random()
    if kind < 0.45:
        return text
    if kind < 0.46:
        return rng.choice((noise.nested(rng), noise.nested(rng, "(", ")"), noise.nested(rng, "warmup(", ", 0.1)")))
    if kind < 0.465:
        return noise.nested(rng, "-", "1") if rng.random() < 0.5 else "1" + noise.nested(rng, "+1", "")
    return mutate.edited(rng, text)


def _call(rng: Random, depth: int) -> str:
    """Return the text of a schedule: a number, knots, a mapping or a call."""
    kind = rng.random()
    if kind < 0.1:
        return _number(rng)
    if kind < 0.2:
        return str(_knots(rng))
    if kind < 0.25:
        return json.dumps({"type": rng.choice(("linear", "cosine")), "start": 0.6, "end": _value(rng), "unit": "nats"})
    unit = rng.choice(("", "", ", unit='initial'", ", unit='nats'", ", unit='bits'"))
    if kind < 0.35:
        return f"piecewise({_knots(rng)}, kind={rng.choice(('linear', 'cosine', 'step', 'monotone'))!r}{unit})"
    if kind < 0.4:
        return f"steps({_knots(rng)}{unit})"
    if kind < 0.7 or depth == 0:
        name = rng.choice(("constant", "linear", "cosine", "exponential", "polynomial", "cyclic"))
        numbers = [_number(rng) for _ in range({"constant": 1, "polynomial": 3, "cyclic": 3}.get(name, 2))]
        return f"{name}({', '.join(numbers)}{unit})"
    inner = _call(rng, depth - 1)
    if kind < 0.8:
        return f"warmup({inner}, {_number(rng)}, {_value(rng)})"
    if kind < 0.9:
        return f"adaptive({inner}, patience={rng.choice((0, 1, 2, 10, 10**30))}, speed={_number(rng)})"
    return f"join([{inner}, {_call(rng, depth - 1)}], at=[{_value(rng)}])"


def _value(rng: Random) -> float:
    return round(rng.uniform(0, 1), rng.randint(1, 4))


def _number(rng: Random) -> str:
    return str(_value(rng)) if rng.random() < 0.8 else str(noise.number(rng))


def _knots(rng: Random) -> list[list[Any]]:
    times = sorted({0.0, *(_value(rng) for _ in range(rng.randint(0, 5)))})
    values = [_value(rng) if rng.random() < 0.9 else noise.number(rng) for _ in times]
    return [[time, value] for time, value in zip(times, values, strict=True)]


def try_case(case: Case) -> Outcome:
    """Read a schedule as the command does; its curve must be finite, within its ends, and survive a dump."""
    try:
        value = read_yaml(case)
    except yaml.YAMLError:
        value = case
    curve = schedule_from(value)
    values = curve.values(_STEPS)
    expect(all(math.isfinite(each) and each >= 0 for each in values), f"{curve!r:.300} gives {values!r:.300}")
    again = schedule_from(json.loads(json.dumps(curve.to_dict())))
    expect(again == curve and again.values(_STEPS) == values, f"{curve!r:.300} dumped and read again is {again!r:.300}")
    _check_values(curve.to_dict(), curve, values)
    Band(curve, width=0.1).values(_STEPS)
    assert sparkline(values) and table(values) and curve._repr_svg_()
    return "accepted"


def _check_values(data: dict[str, Any], curve: Schedule, values: list[float]) -> None:
    """Hold a curve against its formula in exact fractions, or where that has none, against its ends."""
    named = data.get("knots") or [[0, data[name]] for name in ("start", "end", "value") if name in data]
    if named:
        lowest, highest = min(v for _, v in named), max(v for _, v in named)
        room = _TOLERANCE * highest + _SMALLEST
        inside = all(lowest - room <= each <= highest + room for each in values)
        expect(inside, f"{curve!r:.300} leaves the range of its ends: {min(values)} to {max(values)}")
    if data["type"] == "linear":
        start, end = Fraction(data["start"]), Fraction(data["end"])
        for step, value in enumerate(values):
            exact = start + (end - start) * Fraction(step, _STEPS)
            room = Fraction(_TOLERANCE) * max(start, end) + Fraction(_SMALLEST)
            expect(abs(Fraction(value) - exact) <= room, f"{curve!r:.300} at {step}")


TARGET = Target("schedule_strings", draw, try_case)
