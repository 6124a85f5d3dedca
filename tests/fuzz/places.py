"""Folders for cases, and things in them that are no files: pipes, devices, loops, folders, dead links."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

KINDS = ("folder", "pipe", "loop", "dead", "device", "locked")
"""What may lie in a file's place; a `locked` file cannot be read, except by root."""
_MEMORY = Path("/dev/shm")


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder, in memory where there is one, and remove it with all that was put into it."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def put(path: Path, content: str, kind: str = "file") -> None:
    """Put a file with such bytes at a path, or something else of `KINDS`."""
    match kind:
        case "file" | "locked":
            path.write_bytes(content.encode("latin-1"))
            if kind == "locked":
                path.chmod(0)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "dead":
            path.symlink_to("nowhere")
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            raise ValueError(kind)


def kind(rng: Random, odds: float = 0.01) -> str:
    """Return `file`, or now and then something else."""
    return rng.choice(KINDS) if rng.random() < odds else "file"
