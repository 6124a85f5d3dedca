"""Files that are whole or not there: written beside their place and moved into it."""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from entrocraft.errors import InvalidValueError, RunDirectoryError

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\..*)?")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of `file` at the end, or goes if anything fails.

    The temporary file has the ending of `file`, and its folder is made.

    Raises:
        InvalidValueError: What is there is no file, but a folder, a device or a pipe, whose place nothing may take.
    """
    if file.exists() and not file.is_file():
        raise InvalidValueError(f"cannot write {file}: expected the name of a file, and it is {_no_file(file)}")
    with making(file.parent):
        temporary = file.with_name(f".{uuid.uuid4().hex}{file.suffix}")  # two writers, two files
        try:
            yield temporary
            os.replace(temporary, file)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError) and error.filename in (None, str(temporary), temporary):
                raise _about(error, file) from error
            raise


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Have an error of the operating system say which file it is about, where it does not: a disk that is full."""
    try:
        yield
    except OSError as error:
        raise (_about(error, file) if error.filename is None else error) from error


def take_lock(folder: Path, *, timeout: float = 0.0) -> FileLock:
    """Return the lock of a folder, held by this process until it is released.

    Raises:
        RunDirectoryError: Another process holds it, and goes on to for `timeout` seconds.
        OSError: The folder cannot be written to.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise RunDirectoryError(f"{folder} is in use by another process") from error
    return lock


def unfinished_in(folder: Path) -> list[Path]:
    """Return the temporary files of a folder: what is being written, or what processes that were killed have left."""
    return [child for child in folder.iterdir() if _TEMPORARY.fullmatch(child.name)]


def write_text(file: Path, text: str) -> None:
    """Replace `file` by `text`, never leaving half of it; half a character, which UTF-8 cannot hold, is written out."""
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; if anything fails within, those that were made and are empty go again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file where a folder is wanted
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):
                each.rmdir()
        raise


def open_regular(file: Path) -> BinaryIO:
    """Open a file to be read.

    Raises:
        InvalidValueError: It is no file, but a folder, a device or a pipe, which could go on for ever.
        OSError: It cannot be read.
    """
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise InvalidValueError(f"cannot read {file}: expected a file, and it is {_no_file(file)}")
    return file.open("rb")


def read_regular(file: Path, most_bytes: int) -> bytes:
    """Return what a file holds.

    Raises:
        InvalidValueError: It is larger, or no file; see `open_regular`.
        OSError: It cannot be read.
    """
    with open_regular(file) as opened:
        content = opened.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InvalidValueError(f"cannot read {file}: expected {most_bytes:,} bytes at most, and it is larger")
    return content


def _no_file(path: Path) -> str:
    """Return in words what a path is that names no file."""
    return "a folder" if path.is_dir() else "a pipe or a device"


def _about(error: OSError, file: Path) -> OSError:
    """Return the same error about the file that a person knows, not about the temporary one."""
    return OSError(error.errno, error.strerror, str(file)) if error.errno is not None else error
