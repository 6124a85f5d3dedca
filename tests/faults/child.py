"""Runs the command line with a fault at an exact place: `python -m faults.child SPECIFICATION.json train ...`.

The specification says which file the fault aims at, the how manieth writing of it, and what happens there:

    {"file": "optimizer.pt", "nth": 1, "signals": [9]}     half of the file is written, then the signals come
    {"clock": -1e8, "after": "checkpoint-2"}               from then on the clock is so many seconds ahead
"""

import builtins
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STRUCK = "struck.txt"
"""A file in the working directory that tells that the fault has happened."""


class Aim:
    """Counts how often the aimed-at file is written, and strikes once.

    Args:
        name: Name of the file or folder.
        nth: At which writing to strike, counted from 1.
        strike: What happens then.
    """

    def __init__(self, name: str, nth: int, strike: Callable[[], None]):
        self._name, self._left, self._strike = name, nth, strike

    def is_hit(self, path: Any) -> bool:
        """Return whether this writing of a file is the one that is aimed at."""
        if not isinstance(path, str | os.PathLike) or Path(path).name != self._name:
            return False
        self._left -= 1
        return self._left == 0

    def strike(self) -> None:
        """Do what is to happen, and leave word of it first."""
        Path(STRUCK).touch()
        self._strike()


class HalfWritten:
    """An open file whose first writing is interrupted in its middle."""

    def __init__(self, file: Any, aim: Aim):
        self._file, self._aim, self._is_struck = file, aim, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "HalfWritten":
        self._file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> Any:
        return self._file.__exit__(*exception)

    def write(self, data: Any) -> int:
        if self._is_struck:
            return self._file.write(data)
        self._is_struck = True
        half = len(data) // 2
        written = self._file.write(data[:half])
        self._file.flush()
        self._aim.strike()
        return written + self._file.write(data[half:])


def aim_at_files(aim: Aim) -> None:
    """Strike where Python, torch or safetensors writes the file, where it takes its place, or where it is removed."""
    opened, replace, rmtree = io.open, os.replace, shutil.rmtree

    def open_(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        stream = opened(file, mode, *arguments, **options)
        return HalfWritten(stream, aim) if set(mode) & set("wax") and aim.is_hit(file) else stream

    def replace_(source: Any, target: Any, **options: Any) -> None:
        if aim.is_hit(target):
            aim.strike()
        replace(source, target, **options)

    def rmtree_(path: Any, *arguments: Any, **options: Any) -> None:
        if aim.is_hit(path):
            inside = sorted(Path(path).iterdir())
            for file in inside[: len(inside) // 2]:
                file.unlink()
            aim.strike()
        rmtree(path, *arguments, **options)

    builtins.open = io.open = open_
    os.replace, shutil.rmtree = replace_, rmtree_
    _aim_at_native_writers(aim)


def _aim_at_native_writers(aim: Aim) -> None:
    """Strike amid what is written by code that does not go through Python's files: half first, then the whole."""
    import safetensors.torch
    import torch

    def halving(write: Callable[..., Any], place: int) -> Callable[..., Any]:
        def written(*arguments: Any, **options: Any) -> Any:
            result = write(*arguments, **options)
            path = arguments[place] if len(arguments) > place else options.get("f", options.get("filename"))
            if aim.is_hit(path):
                whole = Path(path).read_bytes()
                os.truncate(path, len(whole) // 2)
                aim.strike()
                Path(path).write_bytes(whole)
            return result

        return written

    torch.save = halving(torch.save, 1)
    safetensors.torch.serialize_file = halving(safetensors.torch.serialize_file, 1)


def sending(signals: list[int]) -> Callable[[], None]:
    """Return what sends signals to this process."""

    def strike() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    return strike


def setting_clock(seconds: float) -> Callable[[], None]:
    """Return what sets the clock that Python reads; the system's own stays as it is."""
    real = time.time

    def strike() -> None:
        time.time = lambda: real() + seconds
        time.time_ns = lambda: int((real() + seconds) * 1e9)

    return strike


def main() -> None:
    specification, *arguments = sys.argv[1:]
    wanted = json.loads(Path(specification).read_text())
    strike = setting_clock(wanted["clock"]) if "clock" in wanted else sending(wanted["signals"])
    sys.argv = ["entrocraft", *arguments]
    aim_at_files(Aim(wanted["file"], wanted["nth"], strike))
    from entrocraft.cli import main as entrocraft

    entrocraft()


if __name__ == "__main__":
    main()
