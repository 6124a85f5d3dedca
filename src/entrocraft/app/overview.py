"""One run as the page opens it: settings, curve, evaluations, and what happened so far."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from entrocraft.app.curves import MOST_POINTS, columns_of, knots_in
from entrocraft.app.happenings import NEEDED, checkpointed, evaluated, happenings
from entrocraft.app.recorded import RecordedRun
from entrocraft.runs.metrics import EVALUATION

_CURVE_POINTS = 300
_MOST_HAPPENINGS = 500
_STEPS_FOR_PACE = 20
_STEPS_FOR_NOISE = 50


def overview(name: str, run: RecordedRun) -> dict[str, Any]:
    """Return what the page shows of a run beside its series."""
    with run.lock:
        run.update()
        standing = run.standing()
        return {
            "name": name,
            "state": standing.state,
            "why": standing.why,
            "config": run.config,
            "step": run.book.last_step,
            "steps": run.total_steps,
            **_seconds(run),
            "method": run.method,
            "estimator": run.estimator,
            "engine": run.engine,
            "nats_per_unit": run.nats_per_unit,
            "noise": _noise(run),
            **_curve(run),
            "evaluations": [evaluation_of(line) for line in run.book.evaluations],
            "steerable": run.why_not_steerable() is None,
            "why_not_steerable": run.why_not_steerable(),
            "problem": run.problem or run.rollouts.problem,
            "checkpoints": run.checkpoints,
            "stops_at": run.stops_at,
            "events": _happenings(run),
            "rollout_steps": run.rollouts.steps,
        }


def evaluation_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation under the names of its measures: `pass@8`, and its interval `pass@8_low`, `pass@8_high`."""
    return {key.removeprefix(EVALUATION).replace("/", "_"): value for key, value in line.items()}


def _seconds(run: RecordedRun) -> dict[str, float | None]:
    """Return how long the run has taken, and how long it will, if steps go on as the last ones did."""
    known = [each for each in zip(run.book.values("seconds"), run.book.values("step"), strict=True) if None not in each]
    seconds, steps = ([each[i] or 0.0 for each in known] for i in (0, 1))
    recent, at = seconds[-_STEPS_FOR_PACE:], steps[-_STEPS_FOR_PACE:]
    left = None
    if run.total_steps is not None and recent and run.standing().state == "running":
        steps_per_line = (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else at[0]  # a script may log every tenth
        left = (run.total_steps - run.book.last_step) * fmean(recent) / (steps_per_line or 1)
    return {"seconds": sum(seconds), "seconds_left": left}


def seconds_left(run: RecordedRun) -> float | None:
    """Return how long a run will go on for; None if nobody knows."""
    return _seconds(run)["seconds_left"]


def _noise(run: RecordedRun) -> float | None:
    """Return how far off a step's entropy is read: the mean standard error of the last steps."""
    known = [value for value in run.book.values("entropy_stderr")[-_STEPS_FOR_NOISE:] if value is not None]
    return fmean(known) if known else None


def _curve(run: RecordedRun) -> dict[str, Any]:
    """Return the band that the run is to follow: as something to drag, and in nats over the whole run."""
    band, steps, nats = run.band(), run.total_steps, run.nats_per_unit
    if band is None or steps is None:
        return dict.fromkeys(("unit", "width", "knots", "kind", "exact", "curve")) | {"steered": False}
    factor = 1.0 if band.unit == "nats" else nats
    return knots_in(band) | {
        "curve": None if factor is None else columns_of(band, steps, min(_CURVE_POINTS, MOST_POINTS), factor),
        "steered": band != run.own_band(),
    }


def _happenings(run: RecordedRun) -> list[dict[str, Any]]:
    """Return what happened, in the order of steps; of many, the last."""
    found = [
        *happenings(run.book.rows(names=NEEDED)),
        *(evaluated(line) for line in run.book.evaluations),
        *checkpointed(run.checkpoints),
    ]
    return sorted(found, key=lambda each: each["step"])[-_MOST_HAPPENINGS:]
