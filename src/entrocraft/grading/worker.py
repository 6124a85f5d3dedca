"""The process on the other side of `time_limit`: it reads arguments and writes results, one JSON line each.

python -m entrocraft.grading.worker package.module:function seconds
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from entrocraft.registry import load_function

_MAX_BYTES = 4 * 2**30
"""Memory that a call may take: one that wants more is ended as one that takes too long is."""
_MOST_RESULTS = 10_000  # that are taken of a generator, which need not end
_GRACE_SECONDS = 10.0  # after which a worker ends by itself, if whoever called is gone

# Audit events of what graders need not do, and of what an answer that reaches an `eval` in them must not do. This keeps
# what models write by chance from doing harm; it is no prison for code that means it.
_REFUSED = (
    "ctypes.dlopen",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.link",
    "os.mkdir",
    "os.posix_spawn",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.spawn",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.unsetenv",
    "os.utime",
    "pty.spawn",
    "shutil.",
    "socket.",
    "sqlite3.connect",
    "subprocess.",
    "tempfile.",
    "webbrowser.",
)
# Functions of the same kind that raise no audit event.
_REMOVED = (("_posixsubprocess", "fork_exec"), ("os", "mkfifo"), ("os", "mknod"))


def main() -> None:
    """Answer calls until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever called
    sys.dont_write_bytecode = True
    # Results go to a copy of standard output, and what the function prints goes nowhere: it is no result.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(message: Mapping[str, Any]) -> None:
        line = json.dumps(message, default=_as_json)
        results.write(line + "\n")
        results.flush()

    try:
        function, seconds = load_function(sys.argv[1]), float(sys.argv[2])
    except Exception as error:
        say({"error": str(error)})
        return
    _limit_memory()
    sys.set_int_max_str_digits(0)  # a number with many digits is one, and calls end when their time is over
    _lock()
    say({"ready": True})
    for line in sys.stdin:
        _end_after(seconds + _GRACE_SECONDS)
        try:
            call = json.loads(line)
            result = function(**call) if isinstance(call, dict) else function(*call)
        except MemoryError:
            raise  # which ends this process: what is left of its memory is not to be relied on
        except (Exception, SystemExit) as error:
            say({"error": f"raised {type(error).__name__}: {error}"})
        else:
            try:
                say({"result": result})
            except MemoryError:
                raise
            except Exception as error:  # no JSON, or a generator that raises
                say({"error": f"returned {result!r:.80}, which is no list of numbers: {error}"})
        _end_after(0)


def _as_json(value: Any) -> Any:
    """Return what JSON has no word for as lists and numbers: arrays, generators, fractions."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(islice(value, _MOST_RESULTS)) if isinstance(value, Iterator) else float(value)


def _lock() -> None:
    """Keep this process, from here on, from writing files, starting processes and opening connections."""
    for module, name in _REMOVED:
        with suppress(ImportError):
            setattr(importlib.import_module(module), name, _removed)
    if hasattr(signal, "SIGXFSZ"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # also for libraries that open files by themselves
    sys.addaudithook(_refuse)


def _removed(*args: Any, **kwargs: Any) -> Any:
    raise PermissionError("graders make no files and start no processes")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise `PermissionError` at an audit event of writing a file, starting a process or opening a connection."""
    if event == "open":
        _, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)):
            raise PermissionError("graders write no files")
    elif event.startswith(_REFUSED):
        raise PermissionError(
            f"graders do nothing such as {event}; if that is a package being imported, import it at the top of the "
            "module, which is loaded before graders are kept from anything"
        )


def _end_after(seconds: float) -> None:
    """Have the system end this process after so many seconds, even within one operation; 0 takes that back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory() -> None:
    """Limit this process to what it holds now and `_MAX_BYTES` more, on Linux."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _MAX_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main()
