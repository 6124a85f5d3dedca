"""The rows of a study: one line of `rows.jsonl` for each run that is done, with all that tables and pictures need."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrocraft.errors import RunDirectoryError
from entrocraft.runs import RunDirectory
from entrocraft.runs.files import write_text
from entrocraft.runs.lines import JsonLines, append_line
from entrocraft.runs.metrics import measure_of
from entrocraft.runs.tracking import summarise_tracking

_MOST_POINTS = 100
"""Points of a recorded curve, at most: a longer one is averaged over blocks of steps."""
_SERIES = ("entropy", "target", "reward", "kept_token_fraction")
_DIGITS = 4

Row = Mapping[str, Any]


class Rows:
    """An append-only file of rows, each found by the key of its run.

    A line that a killed process left unfinished is removed before the next is added; its run is made to an end again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._reader = JsonLines(path, numbers_only=False)

    def by_key(self) -> dict[str, Row]:
        """Return all rows by their key.

        Raises:
            RunDirectoryError: A line before the last cannot be read, or is no row.
        """
        rows = self._reader.read()
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("key"), str):
                raise RunDirectoryError(f"{self.path}, line {number}: is no row of a study, which has a key")
        return {row["key"]: row for row in rows}

    def add(self, row: Row) -> None:
        """Add a row; it survives the death of this process."""
        # No row goes, whatever the steps of its run: a torn end does.
        last_step = max((each["step"] for each in self._reader.read()), default=0)
        whole = self._reader.keep_up_to(last_step)
        if whole is not None:
            write_text(self.path, whole.decode("utf-8"))
        append_line(self.path, row)


def row_of(key: str, name: str, run: RunDirectory, scorings: Mapping[str, Path], seconds: float) -> dict[str, Any]:
    """Return what a finished run came to.

    Args:
        key: Key of the run.
        name: What it is, in words.
        run: The run's directory.
        scorings: Files of scores by the name of the scoring; see `reports.evaluation`.
        seconds: Wall-clock time since the run was started for the last time, with scorings.
    """
    lines = run.step_metrics()
    evaluations = run.eval_metrics()
    measures = {name: measure for line in evaluations for name in line if (measure := measure_of(name)) is not None}
    tracking = summarise_tracking(lines)
    block = -(-len(lines) // _MOST_POINTS)
    return {
        "step": run.last_step(),
        "key": key,
        "name": name,
        # Of a run that was stopped and went on, no less than its steps took.
        "seconds": round(max(seconds, sum(line["seconds"] for line in lines)), 1),
        "seconds_per_step": _rounded(_seconds_per_step(lines)),
        "tokens_per_step": _rounded(sum(line["tokens"] or 0 for line in lines) / len(lines)),
        "tracking": None if tracking is None else {name: _rounded(value) for name, value in asdict(tracking).items()},
        "block": block,
        **{name: _means([line.get(name) for line in lines], block) for name in _SERIES},
        "evaluated": [line["step"] for line in evaluations],
        "scores": {measure: [_rounded(line.get(name)) for line in evaluations] for name, measure in measures.items()},
        "scorings": {scoring: _scores_in(file) for scoring, file in scorings.items()},
    }


def _seconds_per_step(lines: Sequence[Mapping[str, Any]]) -> float:
    """Return the median time of a step; of steps that share the rollouts of one generation, their mean is a value.

    The median leaves out what evaluations take, whose time is in the line after them.
    """
    sharing: list[list[float]] = []
    for line in lines:
        if line["tokens"] is not None or not sharing:
            sharing.append([])
        sharing[-1].append(line["seconds"])
    return statistics.median(statistics.fmean(each) for each in sharing)


def _scores_in(file: Path) -> dict[str, Any]:
    """Return the scores of the one model that a file of scores tells of, without their intervals."""
    scores = next(iter(json.loads(file.read_text())["scores"].values()))
    return {measure: _rounded(score) for measure, score in scores.items() if "/" not in measure}


def _means(values: Sequence[float | None], block: int) -> list[float | None]:
    """Return means over blocks of steps; None for a block in which nothing was measured."""
    blocks = [[v for v in values[i : i + block] if v is not None] for i in range(0, len(values), block)]
    return [_rounded(statistics.fmean(each)) if each else None for each in blocks]


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value


def last_quarter(row: Row, measure: str) -> float:
    """Return a run's score: the mean of a measure over the evaluations of its last quarter, the last one included.

    A single evaluation of one checkpoint wanders by several hundredths from one to the next.
    """
    late = [
        score
        for step, score in zip(row["evaluated"], row["scores"][measure], strict=True)
        if step > 0.75 * row["step"] or step == row["step"]
    ]
    return statistics.fmean(late)


def area(row: Row, measure: str) -> float:
    """Return the mean of a measure over the whole run, evaluations weighed by the steps between them (trapezoids)."""
    points = list(zip(row["evaluated"], row["scores"][measure], strict=True))
    if len(points) == 1:
        return float(points[0][1])
    pieces = [(b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points)]
    return sum(pieces) / (points[-1][0] - points[0][0])


def last_entropy(row: Row) -> float | None:
    """Return the mean entropy of a run's last tenth, in nats per token; None where none was measured."""
    series = row["entropy"]
    late = [value for value in series[-max(1, len(series) // 10) :] if value is not None]
    return statistics.fmean(late) if late else None
