"""Runs and studies side by side: curves, scores with intervals, a table, and words that do not flatter."""

from collections.abc import Mapping, Sequence
from typing import Any

from entrocraft.app.library import Library, Place
from entrocraft.app.recorded import RecordedRun
from entrocraft.app.series import series
from entrocraft.app.studies import arms_of, estimate_at_each, interval, mean_over_seeds, measures_in
from entrocraft.errors import InvalidValueError
from entrocraft.runs.metrics import EVALUATION, measure_of
from entrocraft.runs.tracking import summarise_tracking
from entrocraft.study.rows import last_entropy

MOST_RUNS = 12
_POINTS = 300
_LEVEL = 0.0005
"""Differences below this are none at the digits that are shown."""

COLUMNS = (
    ("state", "state", ""),
    ("steps", "steps", ""),
    ("entropy", "entropy at the end", "nats per token"),
    ("distance", "distance from the curve", "nats per token"),
    ("in_band", "in the band", "share of steps"),
    ("kept", "tokens learnt from", "share"),
    ("reward", "reward of the last tenth", ""),
    ("seconds", "seconds a step", ""),
)
"""Columns of the table before those of the scores: key, title, unit."""

Line = dict[str, Any]


def compare(library: Library, names: Sequence[str]) -> dict[str, Any]:
    """Return runs and the arms of studies over each other.

    Raises:
        NotFoundError: There is no such run.
        InvalidValueError: There are too many, or none.
    """
    if not 1 <= len(names) <= MOST_RUNS:
        raise InvalidValueError(f"runs: expected 1 to {MOST_RUNS} names, got {len(names)}")
    lines = [line for name in names for line in _lines_of(library, library.place(name))]
    measures = list(dict.fromkeys(measure for line in lines for measure in line["scores"]))
    return {
        "runs": lines,
        "columns": [
            *({"name": name, "title": title, "unit": unit} for name, title, unit in COLUMNS),
            *({"name": measure, "title": measure, "unit": "chance"} for measure in measures),
        ],
        "table": [{"name": line["name"], **line["row"]} for line in lines],
        "words": words_about(lines, measures),
        "best": {measure: best_by(lines, measure) for measure in measures},
    }


def _lines_of(library: Library, place: Place) -> list[Line]:
    if place.kind == "study":
        return [_line_of_arm(f"{place.name}: {arm}", rows) for arm, rows in arms_of(place.path).items()]
    return [_line_of_run(place.name, library.recorded(place.path))]


def _line_of_run(name: str, run: RecordedRun) -> Line:
    with run.lock:
        run.update()
        thinned = series(run.book, ("entropy", "target", "lower", "upper", "reward"), points=_POINTS)
        scores = _scores_of(run)
        row = _row_of(run)
    step, columns = thinned["step"], thinned["columns"]
    return {
        "name": name,
        "kind": "run",
        "method": run.method,
        **{key: {"step": step, "value": columns[key]} if _any(columns[key]) else None for key in columns},
        "scores": scores,
        "pass_at_k": pass_at_k(scores),
        "pass_at_k_before": pass_at_k(scores, before=True),
        "row": row | {measure: points[-1] for measure, points in scores.items()},
    }


def _any(values: Sequence[float | None]) -> bool:
    """Return whether anything was measured."""
    return any(value is not None for value in values)


def _scores_of(run: RecordedRun) -> dict[str, list[dict[str, Any]]]:
    """Return each measure at each evaluation, with the ends of its interval over problems."""
    scores: dict[str, list[dict[str, Any]]] = {}
    for line in run.book.evaluations:
        for name, value in line.items():
            measure = measure_of(name)
            if measure is None:
                continue
            ends = {edge: line.get(f"{EVALUATION}{measure}/{edge}") for edge in ("low", "high")}
            scores.setdefault(measure, []).append({"step": line["step"], "value": value} | ends)
    return scores


def pass_at_k(
    scores: Mapping[str, Sequence[Mapping[str, Any]]], *, before: bool = False
) -> list[dict[str, Any]] | None:
    """Return the last pass@k for each k, in the order of k; or that from before the first step, if it was measured."""
    found = []
    place = 0 if before else -1
    if before and any(points[0]["step"] != 0 for points in scores.values()):
        return None
    for measure, points in scores.items():
        name, _, k = measure.partition("@")
        if name == "pass" and k.isdecimal():
            found.append({"k": int(k)} | {key: points[place][key] for key in ("value", "low", "high")})
    return sorted(found, key=lambda each: each["k"])


def _row_of(run: RecordedRun) -> Line:
    lines = list(run.book.rows(names=("entropy_stderr", "kept_token_fraction")))
    tracking = summarise_tracking(lines)
    late = lines[-max(1, len(lines) // 10) :]
    standing = run.standing()
    return {
        "state": standing.state if standing.why is None else f"{standing.state}: {standing.why}",
        "steps": run.book.last_step,
        "entropy": _mean(late, "entropy"),
        "distance": None if tracking is None else tracking.mean_error,
        "in_band": None if tracking is None else tracking.in_band,
        "kept": None if tracking is None else tracking.kept_token_fraction,
        "reward": _mean(late, "reward"),
        "seconds": _mean(lines, "seconds"),
    }


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [line[name] for line in lines if line.get(name) is not None]
    return sum(known) / len(known) if known else None


def _line_of_arm(name: str, rows: Sequence[Mapping[str, Any]]) -> Line:
    """Return an arm of a study: means over its seeds, with their intervals."""
    scores = {measure: estimate_at_each(rows, measure) for measure in measures_in(rows)}
    scores = {measure: points for measure, points in scores.items() if points}
    tracked = [row["tracking"] for row in rows if row.get("tracking")]
    row = {
        "state": f"{len(rows)} seeds" if len(rows) != 1 else "1 seed",
        "steps": max(row["step"] for row in rows),
        "entropy": interval([last_entropy(row) for row in rows])["value"],
        "distance": interval([each.get("mean_error") for each in tracked])["value"],
        "in_band": interval([each.get("in_band") for each in tracked])["value"],
        "kept": interval([each.get("kept_token_fraction") for each in tracked])["value"],
        "reward": interval([_late(row.get("reward") or []) for row in rows])["value"],
        "seconds": interval([row.get("seconds_per_step") for row in rows])["value"],
    }
    return {
        "name": name,
        "kind": "arm",
        "method": None,
        **{key: mean_over_seeds(rows, key) for key in ("entropy", "target", "reward")},
        "lower": None,
        "upper": None,
        "scores": scores,
        "pass_at_k": pass_at_k(scores),
        "pass_at_k_before": pass_at_k(scores, before=True),
        "row": row | {measure: points[-1] for measure, points in scores.items()},
    }


def _late(values: Sequence[float | None]) -> float | None:
    known = [value for value in values[-max(1, len(values) // 10) :] if value is not None]
    return sum(known) / len(known) if known else None


def best_by(lines: Sequence[Line], measure: str) -> str | None:
    """Return the line whose last score is above all others by more than the intervals overlap; None if none is."""
    last = {line["name"]: line["scores"][measure][-1] for line in lines if line["scores"].get(measure)}
    for name, score in last.items():
        others = [other for each, other in last.items() if each != name]
        if others and all(_compared(score, other) == "higher" for other in others):
            return name
    return None


def _compared(score: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return `higher` or `lower` where intervals do not touch, `level` where they do; without them nothing is said."""
    if score["value"] is None or other["value"] is None or None in (*_ends(score), *_ends(other)):
        return "without an interval"
    if score["low"] > other["high"]:
        return "higher"
    return "lower" if score["high"] < other["low"] else "level"


def _ends(score: Mapping[str, Any]) -> tuple[Any, Any]:
    return score["low"], score["high"]


def words_about(lines: Sequence[Line], measures: Sequence[str]) -> list[str]:
    """Return what the last scores say, the unfavourable too: of each line against its beginning and the first line."""
    shown = [measure for measure in measures if measure != "pass@1"]  # which is mean@n by definition
    words = []
    for line in lines:
        scores = line["scores"]
        begun = {measure: scores[measure][0] for measure in shown if len(scores.get(measure, ())) > 1}
        parts = [_said(measure, score, scores[measure][-1]) for measure, score in begun.items()]
        words += _sentence(f"{line['name']} against its beginning", parts)
    for line in lines[1:]:
        both = [measure for measure in shown if measure in lines[0]["scores"] and measure in line["scores"]]
        parts = [_said(measure, lines[0]["scores"][measure][-1], line["scores"][measure][-1]) for measure in both]
        words += _sentence(f"{line['name']} against {lines[0]['name']}", parts)
    if words:
        words.append(
            "Level means that the 95 % intervals overlap: there may be a difference that is too small to be seen here. "
            "Intervals of a run are over problems, those of a study over seeds; one run is one seed."
        )
    return words + [f"{line['name']} was not evaluated." for line in lines if not line["scores"]]


def _sentence(about: str, parts: Sequence[str | None]) -> list[str]:
    known = [part for part in parts if part is not None]
    return [f"{about}: {', '.join(known)}."] if known else []


def _said(measure: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return how a score compares with another; None if one was not measured."""
    if before["value"] is None or after["value"] is None:
        return None
    difference = after["value"] - before["value"]
    shown = f"{difference:+.3f}" if abs(difference) >= _LEVEL else "±0.000"
    return f"{measure} {_compared(after, before)} ({shown}, steps {before['step']} and {after['step']})"
