"""Processes of a training: started, watched to their end, and looked for afterwards."""

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from faults.nursery import Child, Nursery

MARK = "ENTROCRAFT_FAULT"
"""An environment variable that whatever a training starts inherits, in whichever session it runs."""
_MOST_SECONDS = 240.0
_GRACE_SECONDS = 15.0
_TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    status: int
    said: str
    """Standard error."""
    shown: str
    """Standard output."""
    orphans: int
    """Processes that it started and that were still there some seconds later."""
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line that the command itself said, which must say what to do."""
        lines = [line for line in self.said.splitlines() if re.match("entrocraft: (?!warning)", line)]
        return lines[-1] if lines else ""


class Started:
    """A process and all that it starts, known by a mark of their own.

    Args:
        command: What to run.
        folder: Where to run it; what it says is kept there.
        nursery: Forks it, if it is the command line; else it is a new process.
    """

    def __init__(self, command: Sequence[str], folder: Path, *, nursery: Nursery | None = None, **settings: str):
        self._mark, self._begun = uuid.uuid4().hex, time.monotonic()
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        path = os.pathsep.join([str(folder), str(_TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, MARK: self._mark} | settings
        self.process = (
            self._new_process(command, folder, settings)
            if nursery is None
            else Child(nursery, [*command], folder, settings)
        )

    def _new_process(self, command: Sequence[str], folder: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._out.open("w") as out, self._err.open("w") as err:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it has said on standard error so far."""
        return _text_of(self._err)

    @property
    def has_ended(self) -> bool:
        """True if it runs no more."""
        return self.process.poll() is not None

    @property
    def seconds(self) -> float:
        """Time since it was started."""
        return time.monotonic() - self._begun

    def send(self, number: int) -> bool:
        """Send a signal, and return whether there was anyone to receive it."""
        if self.has_ended:
            return False
        self.process.send_signal(number)
        return True

    def family(self) -> list[psutil.Process]:
        """Return the processes that bear its mark, itself aside."""
        return [each for each in psutil.process_iter() if each.pid != self.process.pid and self._is_marked(each)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False  # gone meanwhile, or another user's

    def wait_until(self, holds: Callable[[], bool], seconds: float = _MOST_SECONDS) -> bool:
        """Wait until something holds; False if the process ended, or the time is over, before it did."""
        while self.seconds < seconds:
            if holds():
                return True
            if self.has_ended:
                return holds()
            time.sleep(0.002)
        return False

    def ended(self, seconds: float = _MOST_SECONDS) -> Ended:
        """Wait for the end and for what it started; one that does not end is ended, with status -99."""
        try:
            status = self.process.wait(timeout=max(seconds - self.seconds, 0.1))
        except subprocess.TimeoutExpired:
            status = -99
            self.process.kill()
            self.process.wait()
        took, deadline = self.seconds, time.monotonic() + _GRACE_SECONDS
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for each in left:
            each.kill()
        return Ended(status, self.said, _text_of(self._out), len(left), took)


def command_line(*arguments: str) -> list[str]:
    """Return the command that runs `entrocraft` with these arguments."""
    return [sys.executable, "-m", "entrocraft.cli", *arguments]


def _text_of(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
