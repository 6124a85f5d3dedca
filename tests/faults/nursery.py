"""A process that has imported everything already and forks trainings: most of a short run's time is its imports.

`python -m faults.nursery` reads requests and writes answers, one JSON line each: `{"folder": ..., "command": [...],
"settings": {...}}` begins a training and gives its `pid`; `{"poll": pid}` gives its exit status, or null.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Nursery:
    """The harness's side of the process that forks trainings, which ends with this one."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.nursery"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def asked(self, **request: Any) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """End it; what it has forked goes on."""
        self._process.kill()
        self._process.wait()


class Child:
    """A forked process, with what is used of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, command: list[str], folder: Path, settings: dict[str, str]):
        self._nursery = nursery
        self.pid: int = nursery.asked(folder=str(folder), command=command, settings=settings)
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._nursery.asked(poll=self.pid)
        return self._status

    def wait(self, timeout: float = float("inf")) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("training", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(folder: str, command: list[str], settings: dict[str, str]) -> None:
    """Make this forked process what a new one would be: a session, a folder, an environment, files of its own."""
    os.setsid()
    os.chdir(folder)
    os.environ |= settings
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "stdout.txt", None), (2, "stderr.txt", None)):
        opened = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC if flags is None else flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.path.insert(0, folder)
    module, *arguments = command[2:]  # after `python -m`
    sys.argv = [module, *arguments]


def main() -> None:
    """Fork a training for each request; in each of them this function goes on as the training."""
    import entrocraft.training
    from entrocraft.cli import main as entrocraft
    from faults import child

    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            answer: int | None = _poll(request["poll"])
        else:
            answer = os.fork()
            if answer == 0:
                _become(**request)
                return child.main() if sys.argv[0] == "faults.child" else entrocraft()
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    main()
