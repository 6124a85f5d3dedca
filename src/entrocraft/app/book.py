"""What a run has recorded, column by column and kept up to date: read once, however many look at it."""

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entrocraft.errors import EntrocraftError, RunDirectoryError, os_error_line
from entrocraft.runs.lines import LineFollower, parsed_line
from entrocraft.runs.metrics import EVALUATION, REQUIRED, TRACKERS

MOST_DAMAGED = 20
"""Damaged lines that are passed over; a file with more of them is not read any further."""

Numbers = NDArray[np.float64]

_OF_VERL = {
    "actor/entropy": "entropy",
    "critic/rewards/mean": "reward",
    "timing_s/step": "seconds",
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/lr": "learning_rate",
    "response_length/mean": "completions/mean_length",
    "response_length/clip_ratio": "completions/clipped_ratio",
}
"""What verl's own columns are called here; ours come before them."""
_SCORE_OF_VERL = re.compile(r"val-core/.*/(?:mean@(?P<mean>\d+)|best@(?P<best>\d+)/mean)")


class Book:
    """The lines of a metrics file, those of optimizer steps as columns of numbers in which NaN stands for null.

    Lines of verl's file logger are read as if they were ours.

    Args:
        path: The metrics file; it need not exist yet.
    """

    def __init__(self, path: Path):
        self._follower = LineFollower(path, partial(parsed_line, numbers_only=False))
        self.generation = 0
        """How often the file was found to be another one: rows of another generation are not these rows."""
        self._clear()

    def _clear(self) -> None:
        self.columns: dict[str, array[float]] = {"step": array("d")}
        """By name, one number for each step."""
        self.evaluations: list[dict[str, Any]] = []
        """Lines of evaluations, oldest first."""
        self.problems: list[str] = []
        """What of the file cannot be read, in words."""
        self.is_of_verl = False
        """Whether verl wrote the file."""

    def __len__(self) -> int:
        return len(self.columns["step"])

    @property
    def last_step(self) -> int:
        """The last optimizer step; 0 if there is none."""
        return int(self.columns["step"][-1]) if len(self) else 0

    def update(self) -> None:
        """Take in what was added to the file, passing over what is damaged."""
        while len(self.problems) <= MOST_DAMAGED:
            try:
                for _, line in self._follower.new_lines():
                    self._heed_new_file()
                    self._take(line)
                self._heed_new_file()
                return
            except RunDirectoryError as error:
                self._heed_new_file()
                self.problems.append(_told_of(error, self._follower))
                self._follower.skip()
            except (EntrocraftError, OSError) as error:
                why = os_error_line(error) if isinstance(error, OSError) else str(error)
                self.problems[:] = [f"{self._follower.path.name} cannot be read: {why}"]
                return

    def _heed_new_file(self) -> None:
        """Begin anew if the file was rewound or replaced."""
        if self._follower.times_begun != self.generation:
            self.generation = self._follower.times_begun
            self._clear()

    def _take(self, line: dict[str, Any]) -> None:
        for kind in self._ours(line):
            if any(name.startswith(EVALUATION) for name in kind):
                self.evaluations.append(kind)
            elif "entropy" in kind:
                self._add_row(kind)

    def _ours(self, line: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a line as we write them; one of verl's may hold both, a step and an evaluation."""
        data = line.get("data")
        if not isinstance(data, Mapping):
            yield line
            return
        self.is_of_verl = True
        step = {"step": line["step"]}
        ours = {name.removeprefix(TRACKERS): value for name, value in data.items() if name.startswith(TRACKERS)}
        theirs = {ours_too: data[name] for name, ours_too in _OF_VERL.items() if name in data}
        yield step | theirs | ours
        scores = {}
        for name, value in data.items():
            match = _SCORE_OF_VERL.fullmatch(name)
            if match is not None:
                measure = f"mean@{match['mean']}" if match["mean"] else f"pass@{match['best']}"
                scores[f"{EVALUATION}{measure}"] = value
        if scores:
            yield step | scores

    def _add_row(self, line: Mapping[str, Any]) -> None:
        before = len(self)
        for name in line.keys() - self.columns.keys():
            self.columns[name] = array("d", [math.nan]) * before
        for name, column in self.columns.items():
            value = line.get(name)
            column.append(float(value) if isinstance(value, int | float) else math.nan)

    def row(self, index: int) -> dict[str, float | None]:
        """Return one step's line, in which None stands for what is null or not there."""
        return {name: _or_none(column[index]) for name, column in self.columns.items()} | {
            "step": int(self.columns["step"][index])
        }

    def row_of(self, step: int) -> int | None:
        """Return the row of an optimizer step; None if there is none."""
        steps = self.columns["step"]
        # Steps are logged one by one, so the row is nearly always where it would be without a gap.
        guess = step - int(steps[0]) if len(steps) else -1
        if 0 <= guess < len(steps) and steps[guess] == step:
            return guess
        return next((i for i, each in enumerate(steps) if each == step), None)

    def rows(self, first: int = 0, names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the lines from one row on, those columns of them that are asked for; required ones are always there."""
        wanted = {"step", *(self.columns if names is None else names)} | set(REQUIRED)
        there = [name for name in self.columns if name in wanted]
        nothing = dict.fromkeys(REQUIRED)
        for values in zip(*(self.values(name, range(first, len(self))) for name in there), strict=True):
            yield nothing | dict(zip(there, values, strict=True))

    def values(self, name: str, rows: Sequence[int] | None = None) -> list[float | None]:
        """Return a column, or some of its rows, as JSON takes it; `distance` is entropy minus target."""
        column = self.numbers(name)
        if rows is not None:
            column = column[np.asarray(rows, dtype=int)]
        if name == "step":
            return column.astype(int).tolist()
        values = column.tolist()
        return values if np.isfinite(column).all() else [_or_none(value) for value in values]

    def numbers(self, name: str) -> Numbers:
        """Return a column with NaN for null, which a column that is not there is full of.

        It must not be kept: as long as it is, nothing can be added.
        """
        if name == DISTANCE:
            return self.numbers("entropy") - self.numbers("target")
        return np.asarray(self.columns[name]) if name in self.columns else np.full(len(self), math.nan)

    def first_measured(self, *needed: str) -> dict[str, float | None] | None:
        """Return the first line in which none of some columns is null; None if there is none."""
        measured = np.all([np.isfinite(self.numbers(name)) for name in needed], axis=0)
        return self.row(int(measured.argmax())) if measured.any() else None


DISTANCE = "distance"
"""Name of the column that is not recorded: entropy minus target."""


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told_of(error: RunDirectoryError, follower: LineFollower) -> str:
    """Return which line is damaged, and how, without the path that the page does not need."""
    what = str(error).partition(f"line {follower.num_lines + 1}: ")[2].partition("; expected")[0]
    return f"line {follower.num_lines + 1} of {follower.path.name} is damaged: it {what}"
