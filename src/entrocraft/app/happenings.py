"""What happened in a run, in words: out of the band and back, curves that were taken up, the guard, evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entrocraft.runs.metrics import measure_of

Happening = dict[str, Any]

_GUARD = {
    "guard_out_of_reach": "the guard says that the target is out of reach",
    "guard_small_batch": "the guard says that too little is kept to learn from",
    "guard_scarce_negatives": "the guard says that hardly any failures are kept",
    "guard_gradient_norm": "the guard says that gradients have grown",
}
_SIDES = {1: ("above", "above the band"), -1: ("below", "below the band")}

_STEERING = {
    "steering_accepted": "the run follows the curve that was written for it",
    "steering_refused": "the curve that was written cannot be used, and the old one stays",
}
NEEDED = (*_GUARD, *_STEERING)
"""Columns that tell what happened, beside those that every line has."""

Row = Mapping[str, Any]


def happenings(rows: Iterator[Row], before: Row | None = None) -> Iterator[Happening]:
    """Yield what happened at each of some steps, compared with the step before.

    Args:
        rows: Lines of optimizer steps, in order.
        before: The line before the first of them; None at the beginning.
    """
    for row in rows:
        yield from _side(row, before)
        yield from _steering(row, before)
        yield from _guard(row, before)
        before = row


def _side(row: Row, before: Row | None) -> Iterator[Happening]:
    """Yield that entropy left the band or came back; how long it stays there is seen in the chart."""
    side, last = _sign(row), 0 if before is None else _sign(before)
    if side is None or side == last:
        return
    if side in _SIDES:
        kind, words = _SIDES[side]
        yield _of(row, kind, f"entropy {_number(row, 'entropy')} is {words}, {_edge(row, side)}")
    elif last in _SIDES:
        yield _of(row, "inside", f"entropy {_number(row, 'entropy')} is back in the band")


def _sign(row: Row) -> int | None:
    """Return the side of the band that most decisions of a step were on."""
    direction = row.get("direction")
    return None if direction is None or row.get("target") is None else (direction > 0.5) - (direction < -0.5)


def _edge(row: Row, side: int) -> str:
    return f"whose edge is {_number(row, 'upper' if side > 0 else 'lower')}"


def _steering(row: Row, before: Row | None) -> Iterator[Happening]:
    for name, words in _STEERING.items():
        if _rose(row, before, name):
            yield _of(row, "steering", words) | {"accepted": name == "steering_accepted"}


def _guard(row: Row, before: Row | None) -> Iterator[Happening]:
    """Yield what the guard began to see; it counts on as long as it goes on."""
    for name, words in _GUARD.items():
        if _rose(row, before, name) and not (before or {}).get(name):
            yield _of(row, "guard", words)


def _rose(row: Row, before: Row | None, name: str) -> bool:
    now, then = row.get(name) or 0.0, (before or {}).get(name) or 0.0
    return now > then


def evaluated(line: Row) -> Happening:
    """Return what an evaluation came to."""
    scores = {measure: value for name, value in line.items() if (measure := measure_of(name)) is not None}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
    return _of(line, "evaluation", f"held-out problems: {shown or 'nothing was measured'}")


def checkpointed(steps: Sequence[int]) -> list[Happening]:
    """Return that there are checkpoints of these steps."""
    return [{"step": step, "kind": "checkpoint", "text": f"a checkpoint, to go on from step {step}"} for step in steps]


def _of(row: Row, kind: str, text: str) -> Happening:
    return {"step": int(row["step"]), "kind": kind, "text": text}


def _number(row: Row, name: str) -> str:
    value = row.get(name)
    return "unknown" if value is None else f"{value:.3f}"
