"""The queue of a study: its runs one after another, or several at once, each made once and none lost."""

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from entrocraft.runs.files import take_lock
from entrocraft.study.cells import Cell, runs_of
from entrocraft.study.job import Job, Workplace
from entrocraft.study.rows import Row, Rows
from entrocraft.study.settings import StudyConfig

_POLL = 0.5
_SAY_EVERY = 60.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Queue:
    """Makes the runs of a study that have no row yet.

    A run that fails has no row: what it said last is told at the end, and the next start tries it again.

    Args:
        study: The study.
        cells: Its cells.
        folder: Its output folder.
        jobs: Runs at work at once.
        say: Prints a line.
        on_row: Called after each row.
    """

    def __init__(
        self,
        study: StudyConfig,
        cells: Sequence[Cell],
        folder: Path,
        jobs: int,
        say: Callable[[str], None],
        on_row: Callable[[], object],
    ):
        self._study, self._folder, self._jobs, self._say, self._on_row = study, folder, jobs, say, on_row
        self._threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // jobs))
        self._rows = Rows(folder / "rows.jsonl")
        self._planned = runs_of(cells)
        self.failures: dict[str, str] = {}
        """By the name of a run that failed: what it said last."""
        self.stopped_by: int | None = None
        """The signal that ended the queue early."""

    @property
    def _runs_folder(self) -> Path:
        return self._folder / "runs"

    def work(self) -> None:
        """Make every run that is not done, and return once all are, have failed, or a signal came.

        Raises:
            RunDirectoryError: Another process is at work on this study, or its rows cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self._folder)
        try:
            with self._signals():
                self._work()
        finally:
            lock.release()

    def _work(self) -> None:
        self._clear_away()
        at_work: list[Job] = []
        said = time.monotonic()
        try:
            while True:
                self._start_more(at_work)
                if not at_work or self.stopped_by is not None:
                    return
                for job in [*at_work]:
                    status = job.go_on()
                    if status is not None:
                        at_work.remove(job)
                        self._end(job, status)
                if time.monotonic() - said > _SAY_EVERY:
                    self._say(self._progress(at_work))
                    said = time.monotonic()
                time.sleep(_POLL)
        finally:
            self._stop(at_work)

    def _start_more(self, at_work: list[Job]) -> None:
        """Start runs whose predecessor is done, in the order of the cells, while there is room."""
        done, busy = self._rows.by_key(), {job.planned.key for job in at_work}
        for key, (run, name) in self._planned.items():
            if len(at_work) >= self._jobs or self.stopped_by is not None:
                return
            ready = run.after is None or run.after.key in done
            if key not in done and key not in busy and name not in self.failures and ready:
                number = len(done.keys() & self._planned.keys()) + len(at_work) + 1
                self._say(f"{number} of {len(self._planned)}: {name}")
                at_work.append(Job(run, name, self._study.scorings, self._runs_folder, self._threads))

    def _end(self, job: Job, status: int) -> None:
        """Write the row of a run that is done, or remember what one that failed said last."""
        if status != 0:
            said = job.child.last_words() if job.child else ""
            self.failures[job.name] = f"{said} (exit {status}; all it printed is in {job.place.log})"
            self._say(f"failed: {job.name}: {self.failures[job.name]}")
            return
        row = job.row()
        self._rows.add(row)
        scores = row["scores"].get(self._study.score) or [None]
        self._say(f"done: {job.name}: {self._study.score} {scores[-1]} after {row['seconds'] / 60:.1f} min")
        self._clear_away()
        self._on_row()

    def _clear_away(self) -> None:
        """Remove the models that no run of the study still starts from."""
        done = self._rows.by_key()
        needed = {run.after.key for run, _ in self._planned.values() if run.after is not None and run.key not in done}
        for key in done.keys() & self._planned.keys() - needed:
            Workplace(self._runs_folder, key).forget_models()

    def _progress(self, at_work: Sequence[Job]) -> str:
        parts = [f"{job.name} {'/'.join(map(str, job.steps))}" for job in at_work]
        left = self._seconds_left(at_work)
        return f"{'; '.join(parts)}" + (f"; about {_duration(left)} left" if left is not None else "")

    def _seconds_left(self, at_work: Sequence[Job]) -> float | None:
        """Return the wall-clock time left, if steps go on taking what they took so far; None before the first row."""
        rows = self._rows.by_key()
        per_step = [row["seconds"] / row["step"] for row in rows.values() if row["step"]]
        if not per_step:
            return None
        made = {job.planned.key: job.steps[0] for job in at_work}
        steps = sum(
            run.resolved().train.steps - made.get(key, 0) for key, (run, _) in self._planned.items() if key not in rows
        )
        return steps * statistics.fmean(per_step) / self._jobs

    def _stop(self, at_work: Sequence[Job]) -> None:
        """Let trainings end their step and write a checkpoint; a second signal ends them at once."""
        for job in at_work:
            if job.child is not None:
                job.child.stop()
        if at_work and self.stopped_by is not None:
            self._say("stopping after this step, with a checkpoint; once more stops at once")
        for job in at_work:
            while job.child is not None and job.child.wait(_POLL) is None:
                if self._times_asked > 1:
                    job.child.kill()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Remember the first SIGINT, SIGTERM or SIGHUP instead of ending in the middle of something."""
        self._times_asked = 0

        def remember(number: int, frame: FrameType | None) -> None:
            self._times_asked += 1
            self.stopped_by = number

        previous: dict[int, Any] = {}
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # there is no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def rows_of(folder: Path, cells: Sequence[Cell]) -> Mapping[str, Row]:
    """Return the rows of a study's folder that belong to its cells, by key."""
    wanted = runs_of(cells).keys()
    return {key: row for key, row in Rows(folder / "rows.jsonl").by_key().items() if key in wanted}


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
