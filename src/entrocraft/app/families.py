"""The kinds of curves that the page shows as pictures to begin with."""

from typing import Any

from entrocraft.app.shapes import knots_of
from entrocraft.schedules import schedule_from

_POINTS = 24
_FAMILIES = (
    ("constant", "flat", "constant(0.9, unit='initial')"),
    ("linear", "line", "linear(1.0, 0.7, unit='initial')"),
    ("cosine", "cosine", "cosine(1.0, 0.7, unit='initial')"),
    ("exponential", "decay", "exponential(1.0, 0.7, unit='initial')"),
    ("polynomial", "fast, then slow", "polynomial(1.0, 0.7, power=3.0, unit='initial')"),
    ("steps", "stairs", "steps([(0.0, 1.0), (0.34, 0.85), (0.67, 0.7)], unit='initial')"),
    ("cyclic", "waves", "cyclic(1.0, 0.8, num_cycles=3.0, unit='initial')"),
    ("warmup", "up, then down", "warmup(linear(1.1, 0.7, unit='initial'), start=1.0, fraction=0.2)"),
)


def families() -> list[dict[str, Any]]:
    """Return each family: its text, knots that can be dragged, and points of its picture, x from 0 to 1."""
    found = []
    for name, title, text in _FAMILIES:
        schedule = schedule_from(text)
        knots, kind, exact = knots_of(schedule)
        places = [i / (_POINTS - 1) for i in range(_POINTS)]
        points = [(at, schedule.at(at)) for at in places]
        picture = {"name": name, "title": title, "text": text, "points": points}
        found.append(picture | {"knots": knots, "kind": kind, "exact": exact, "unit": schedule.unit})
    return found
