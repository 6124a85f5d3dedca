"""Training, as a child process: one at a time and one that waits, its end always noticed, none left behind.

A child has a session of its own, so that Ctrl-C reaches the server alone, and ends when the pipe to its standard input
closes, which the death of the server does by whatever signal (see `cli.child`): a training then ends its step, with a
checkpoint. That needs no thread of the server to stay, as the signal of a parent's death on Linux does.
"""

import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrocraft.app.errors import ConflictError
from entrocraft.app.library import Library
from entrocraft.app.recorded import Standing, State
from entrocraft.errors import InvalidValueError, os_error_line
from entrocraft.study.child import Child

NAME = "[a-z0-9][a-z0-9._-]{0,63}"
"""What a new run may be called, as a regular expression."""
_NICENESS = 5
_SECONDS_TO_SECOND_SIGNAL = 1.0
_SECONDS_TO_KILL = 20.0
_LAST_LINES, _LAST_BYTES = 6, 4096


@dataclass
class Training:
    """A training that is at work or waits."""

    name: str
    command: Sequence[str]
    child: Child | None = None
    begun: float = field(default_factory=time.time)
    """When its process was started, or it began to wait; in seconds since 1970."""
    stop_at_once_since: float | None = None
    """When it was asked to stop without ending its step."""
    num_signals: int = 0


class Launcher:
    """Starts, stops and watches the trainings that the page asks for; not for several threads at once.

    Args:
        library: Where runs are known by name; new ones go to its folder.
    """

    def __init__(self, library: Library):
        self._library = library
        self._current: Training | None = None
        self._waiting: Training | None = None

    @property
    def live(self) -> str | None:
        """Name of the run that is at work."""
        return None if self._current is None else self._current.name

    def log_of(self, name: str) -> Path:
        """Return the file of what a run's process prints: beside its directory, which must be empty at first."""
        return self._library.folder / f"{name}.log"

    def refuse_unless_free(self, name: object) -> str:
        """Return the name of a new run.

        Raises:
            InvalidValueError: No run may be called so.
            ConflictError: A run or something else is called so already.
        """
        if not isinstance(name, str) or re.fullmatch(NAME, name) is None:
            raise InvalidValueError(
                f"name: expected small letters, digits, '.', '_' and '-', 64 at most, got {name!r:.80}"
            )
        folder = self._library.folder / name
        if any(each is not None and each.name == name for each in (self._current, self._waiting)):
            raise ConflictError(f"{name} is being made already")
        if folder.exists() and (not folder.is_dir() or {child.name for child in folder.iterdir()} - {".lock"}):
            raise ConflictError(f"{folder} exists already; choose another name, or go on with that run")
        return name

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a training, or let it wait for the one that is at work.

        Args:
            name: What the run is called.
            command: What would follow `entrocraft` on a command line, without the output.

        Raises:
            ConflictError: One is at work and one waits.
        """
        if self._waiting is not None:
            raise ConflictError(f"{self.live} is at work and {self._waiting.name} waits; stop one of them first")
        self._library.folder.mkdir(parents=True, exist_ok=True)
        training = Training(name, command)
        if self._current is not None:
            self._waiting = training
            self._expect(training, "queued", f"it waits for {self._current.name}")
        else:
            self._begin(training)

    def _begin(self, training: Training) -> None:
        output = ["--output", str(self._library.folder / training.name)]
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        training.begun = time.time()
        training.child = Child([*training.command, *output], self.log_of(training.name), threads)
        with suppress(OSError, AttributeError):  # the page stays quick; there is no such thing on Windows
            os.setpriority(os.PRIO_PROCESS, training.child.pid, _NICENESS)
        self._current = training
        self._expect(training, "running", "it loads the model and its first problems")

    def _expect(self, training: Training, state: State, why: str) -> None:
        """Say how a run stands, unless the process that was started for it tells itself."""
        standing = Standing(state, why, since=training.begun)
        self._library.expect(training.name).expected = standing

    def stop(self, name: str, *, now: bool) -> None:
        """Ask a training to stop after its step, or at once.

        Raises:
            ConflictError: It is not one that this server has started and that is at work.
        """
        if self._waiting is not None and self._waiting.name == name:
            self._expect(self._waiting, "stopped", "it was taken back before it began")
            self._library.forget_if_there(name)
            self._waiting = None
            return
        training = self._current
        if training is None or training.name != name or training.child is None:
            raise ConflictError(f"{name} is not at work here; what was started elsewhere is stopped there, by Ctrl-C")
        if training.num_signals == 0:
            training.num_signals = 1
            training.child.stop()
        if now and training.stop_at_once_since is None:
            training.stop_at_once_since = time.monotonic()

    def poll(self) -> None:
        """Notice what has ended, press those that were asked to stop at once, and start what waits."""
        training = self._current
        if training is None or training.child is None:
            return
        status = training.child.exit_status
        if status is None:
            self._press(training, training.child)
            return
        self._current = None
        self._expect(training, *_ended(status, training.child))
        self._library.forget_if_there(training.name)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            try:
                self._begin(waiting)
            except OSError as error:
                self._expect(waiting, "failed", os_error_line(error))

    @staticmethod
    def _press(training: Training, child: Child) -> None:
        """Repeat the signal, which ends a training amid its step, and kill in the end what does not heed it."""
        if training.stop_at_once_since is None:
            return
        waited = time.monotonic() - training.stop_at_once_since
        # Two at once could be taken for one.
        if waited > _SECONDS_TO_SECOND_SIGNAL and training.num_signals == 1:
            training.num_signals = 2
            child.stop()
        if waited > _SECONDS_TO_KILL:
            child.kill()

    def last_lines(self, name: str) -> list[str]:
        """Return the last lines that a run's process has printed."""
        try:
            with self.log_of(name).open("rb") as file:
                file.seek(max(0, self.log_of(name).stat().st_size - _LAST_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]

    def check(self, name: str | None, command: Sequence[str]) -> Child:
        """Start a dry run of a command, which trains nothing and writes nothing but its log."""
        file = tempfile.NamedTemporaryFile(prefix="entrocraft-check-", suffix=".log", delete=False)  # noqa: SIM115
        file.close()
        output = [] if name is None else ["--output", str(self._library.folder / name)]
        return Child([*command, "--dry-run", *output], Path(file.name), threads=1)

    @property
    def is_at_work(self) -> bool:
        """Whether a training's process is there."""
        return self._current is not None and self._current.child is not None and self._current.child.exit_status is None

    def close(self) -> None:
        """Ask what is at work to stop after its step, and let nothing wait any more."""
        self._waiting = None
        if self._current is not None:
            self.stop(self._current.name, now=False)


def _ended(status: int, child: Child) -> tuple[State, str]:
    """Return how a training stands that ended without a word of its own, before its first step."""
    if status > 128 or status < 0:
        return "stopped", "it was stopped before its first step"
    return "failed", child.last_words().removeprefix("entrocraft: error: ")
