"""Whether a run is alive: `state.json`, which the training process writes and anyone may read."""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from entrocraft.runs.files import read_regular, write_text

COMPLETED = "completed"
"""Why a run ended that made all of its steps."""
_MOST_BYTES = 1_000_000

Status = Literal["running", "ended", "died"]


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What the last process that worked on a run said of itself; times are seconds since 1970."""

    pid: int
    """Number of the process."""
    host: str
    """Name of the machine."""
    started: float
    """When the process began."""
    heartbeat: float
    """When it was last heard of: at each optimizer step."""
    ended: float | None = None
    """When it ended; None while it runs."""
    exit: int | None = None
    """Exit status of the process."""
    why: str | None = None
    """Why it ended: `completed`, `stopped by SIGTERM`, or `error: ...`."""

    @property
    def status(self) -> Status:
        """`running`, `ended` as it says itself, or `died` without a word: a process of this machine that is no more.

        What happens on another machine cannot be seen; there a process counts as running until it says otherwise.
        """
        if self.ended is not None:
            return "ended"
        return "running" if self.host != socket.gethostname() or _is_alive(self.pid) else "died"


def read_state(file: Path) -> RunState | None:
    """Return what a state file says; None if there is none, or none that can be read."""
    try:
        data = json.loads(read_regular(file, _MOST_BYTES))
        state = RunState(**data)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    times = (state.started, state.heartbeat)
    return state if isinstance(state.pid, int) and all(isinstance(each, int | float) for each in times) else None


class StateFile:
    """Writer of a run's state, for the process that works on it.

    Args:
        file: `state.json` of the run directory.
    """

    def __init__(self, file: Path):
        self._file = file
        now = time.time()
        self._state = RunState(pid=os.getpid(), host=socket.gethostname(), started=now, heartbeat=now)

    def begin(self) -> None:
        """Say that this process works on the run."""
        self._write()

    def beat(self) -> None:
        """Say that this process is alive."""
        self._state = replace(self._state, heartbeat=time.time())
        self._write()

    def end(self, exit_status: int, why: str) -> None:
        """Say that this process ends, with which exit status and why."""
        now = time.time()
        self._state = replace(self._state, heartbeat=now, ended=now, exit=exit_status, why=why)
        self._write()

    def _write(self) -> None:
        write_text(self._file, json.dumps(asdict(self._state), indent=2) + "\n")


def _is_alive(pid: int) -> bool:
    """Return whether there is a process of this number; one that has ended and waits for its parent is none."""
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True  # a system without /proc
