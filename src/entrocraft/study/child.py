"""A command of the command line as a child process that does not outlive this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_MOST_SAID = 4096


class Child:
    """One command, with all it prints in a file.

    Args:
        arguments: What would follow `entrocraft` on a command line.
        log: File that its output is added to.
        threads: Threads that it may compute with.
    """

    def __init__(self, arguments: Sequence[str], log: Path, threads: int):
        self.log = log
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "entrocraft.cli.child", *arguments],
                stdin=subprocess.PIPE,  # it ends when this closes; see cli.child
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the child in order
            )

    @property
    def pid(self) -> int:
        """Number of the process, which leads a group of its own."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status; None while it is at work, and negative if a signal ended it."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to stop, a training after its step and resumably."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        if self.exit_status is None:
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int | None:
        """Wait for its end, `timeout` seconds at most; return the exit status, None if it is still at work."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _send(self, number: int) -> None:
        if self.exit_status is None:
            self._process.send_signal(number)

    def last_words(self) -> str:
        """Return the last line that it printed."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _MOST_SAID))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it printed nothing"
