"""Commands in processes: real ones, and forks of this process, which has imported what takes long already."""

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from fuzz.target import Unbounded

_SECONDS = 120.0
_BYTES = 16 * 2**30  # of addresses, of which those of torch's libraries are some
_IMPORTED = (
    *("entrocraft.cli", "entrocraft.training", "entrocraft.reports.evaluation", "entrocraft.reports.model_card"),
    *("entrocraft.reports.plots.runs", "entrocraft.reports.plots.curves", "entrocraft.reports.plots.explanation"),
    *("entrocraft.analysis.diagnosis", "entrocraft.models", "entrocraft.study", "entrocraft.engines.verl.tasks"),
    *("transformers.models.llama.modeling_llama", "rich.table", "entrocraft.engines.verl.recipes"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: str
    errors: str


def run(arguments: Sequence[str], folder: Path, logs: Path, *, real: bool) -> Ended:
    """Run `entrocraft` in a folder, with its output in another.

    Raises:
        Unbounded: It took too long, and was ended.
    """
    files = [logs / name for name in ("output", "errors")]
    if real:
        with files[0].open("wb") as output, files[1].open("wb") as errors:
            command = [sys.executable, "-m", "entrocraft.cli", *arguments]
            child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, preexec_fn=_limit_memory
            )
        pid = child.pid
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            _become(arguments, folder, files)
    status = _status_of(pid, f"entrocraft {' '.join(arguments)}"[:500])
    return Ended(status, *(file.read_text(encoding="utf-8", errors="replace") for file in files))


def _status_of(pid: int, what: str) -> int:
    until, pause = time.monotonic() + _SECONDS, 0.002
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.1, 1.3 * pause)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Unbounded(f"{_SECONDS:g} s are over: {what}")


def prepare() -> None:
    """Import what commands would, once for all forks."""
    for name in _IMPORTED:
        import_module(name)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _become(arguments: Sequence[str], folder: Path, files: Sequence[Path]) -> None:
    """Be the command: this process ends here."""
    status = 1
    try:
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        for place, file in zip((1, 2), files, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), place)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        os.chdir(folder)
        _limit_memory()
        from entrocraft.cli import main

        main.main(args=list(arguments), prog_name="entrocraft")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
