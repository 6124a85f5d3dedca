"""Files of JSON lines that grow while they are read: each line is read once, and damage is said by its line."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from entrocraft.errors import RunDirectoryError
from entrocraft.runs.files import open_regular

_TAIL = 64
_CHUNK = 1 << 20
_LARGEST = 2**63


class LineFollower:
    """Reader of a file of lines that grows while it is read: it gives each whole line once and keeps none.

    A file that was rewound or replaced is read anew. Only the last line may be torn, as a killed process leaves it; it
    is not given until more follows.

    Args:
        path: The file; it need not exist yet.
        parse: Makes of a line's bytes what is given; raises `ValueError` for what is no such line.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], Any]):
        self.path = path
        self._parse = parse
        self.times_begun = -1
        """How often the file was found to be another one and read from its start again."""
        self._forget()

    def _forget(self) -> None:
        self.times_begun += 1
        self.offset = 0
        """Bytes that have been read, up to the end of a line."""
        self.num_lines = 0
        """Lines that have been read."""
        self.unfinished = b""
        """What stands after the last line break."""
        self._tail = b""
        self._file: tuple[int, int] | None = None

    def new_lines(self) -> Iterator[tuple[int, Any]]:
        """Yield what was added: the offset at which each line begins, and what was made of it.

        Raises:
            RunDirectoryError: A line before the last cannot be read; the message names the file and the line. The next
                call comes to it again, unless `skip` passes over it.
            InvalidValueError: It is no file, but a folder, a pipe or a device.
        """
        try:
            with open_regular(self.path) as file:
                about = os.fstat(file.fileno())
                if (about.st_dev, about.st_ino) != self._file or not self._continues(file, about.st_size):
                    if self._file is not None:
                        self._forget()
                    self._file = about.st_dev, about.st_ino
                file.seek(self.offset)
                yield from self._lines_of(file)
        except FileNotFoundError:
            if self._file is not None:
                self._forget()

    def _lines_of(self, file: BinaryIO) -> Iterator[tuple[int, Any]]:
        """Yield the lines from here to the end of a file, which may be larger than memory."""
        self.unfinished = b""
        while chunk := file.read(_CHUNK):
            *whole, self.unfinished = (self.unfinished + chunk).split(b"\n")
            for i, raw in enumerate(whole):
                try:
                    line = self._parse(raw)
                except ValueError as error:
                    if i == len(whole) - 1 and not self.unfinished and not file.read(1):
                        return  # the last line of a process that was killed
                    raise RunDirectoryError(
                        f"{self.path}, line {self.num_lines + 1}: {error}; expected a JSON object with its step. Mend "
                        "or remove this line"
                    ) from None
                begin = self.offset
                self._pass_over(raw)
                yield begin, line

    def skip(self) -> None:
        """Pass over the next line, which cannot be read."""
        with open_regular(self.path) as file:
            file.seek(self.offset)
            self._pass_over(file.readline().removesuffix(b"\n"))

    def _pass_over(self, raw: bytes) -> None:
        self.offset += len(raw) + 1
        self.num_lines += 1
        self._tail = (self._tail + raw + b"\n")[-_TAIL:]

    def _continues(self, file: BinaryIO, size: int) -> bool:
        """Return whether what was read last is still there."""
        if size < self.offset:
            return False
        file.seek(self.offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail


class JsonLines(LineFollower):
    """Reader of a file that has one JSON object a line, each with its `step`, and numbers or null beside it.

    Reading again looks only at what was added; see `LineFollower`.

    Args:
        path: The file; it need not exist yet.
        numbers_only: Whether everything beside `step` must be a number or null.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> reader = JsonLines(path)
        >>> _ = path.write_text('{"step": 1, "entropy": 0.5}\\n{"step": 2, "ent')
        >>> reader.read()
        [{'step': 1, 'entropy': 0.5}]
        >>> reader.offset
        28
    """

    def __init__(self, path: Path, *, numbers_only: bool = True):
        super().__init__(path, partial(parsed_line, numbers_only=numbers_only))

    def _forget(self) -> None:
        super()._forget()
        self._lines: list[dict[str, Any]] = []
        self._ends: list[int] = []

    def read(self) -> list[dict[str, Any]]:
        """Return all whole lines that there are now, which includes a last one that only lacks its line break.

        Numbers that are not finite are read as None.

        Raises:
            RunDirectoryError: A line before the last cannot be read; the message names the file and the line.
            InvalidValueError: It is no file, but a folder, a pipe or a device.
        """
        for _, line in self.new_lines():
            self._lines.append(line)
            self._ends.append(self.offset)
        try:
            return [*self._lines, *([self._parse(self.unfinished)] if self.unfinished else [])]
        except ValueError:
            return [*self._lines]

    def keep_up_to(self, step: int) -> bytes | None:
        """Return the file's bytes without the lines after `step` and without a torn end; None if nothing would go.

        Raises:
            RunDirectoryError: A line cannot be read: what was not read is never rewritten.
        """
        lines = self.read()
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        ends = [*self._ends, *([len(content)] if len(lines) > len(self._ends) else [])]
        starts = [0, *ends][: len(ends)]
        kept = b"".join(
            content[start:end].removesuffix(b"\n") + b"\n"
            for start, end, line in zip(starts, ends, lines, strict=True)
            if line["step"] <= step
        )
        return None if kept == content else kept


def parsed_line(raw: bytes, *, numbers_only: bool = True) -> dict[str, Any]:
    """Return the object that a line holds, with None in place of numbers that are not finite.

    Args:
        raw: The line, without its break.
        numbers_only: Whether everything beside `step` must be a number or null.

    Raises:
        ValueError: It holds none, or none with a step; the message says what is wrong after the line's number.
    """
    if not raw.strip():
        raise ValueError("is blank")
    try:
        line = json.loads(raw.decode("utf-8"), object_pairs_hook=_each_once)
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8") from None
    except _GivenTwice:
        raise ValueError(f"gives a name twice, got {raw[:60]!r}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"is no JSON, got {raw[:60]!r}") from None
    if not isinstance(line, dict):
        raise ValueError(f"holds no object, got {raw[:60]!r}")
    step = line.get("step")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < _LARGEST:
        raise ValueError(f"has no step that is a whole number, got {step!r:.60}")
    if numbers_only:
        wrong = next((name for name, value in line.items() if not _is_number_or_null(value)), None)
        if wrong is not None:
            raise ValueError(f"holds no number as {wrong!r:.60}, got {line[wrong]!r:.60}")
    return finite(line)


class _GivenTwice(ValueError):
    """A name stands twice in an object: readers differ in which of the two counts."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _GivenTwice
    return found


def to_line(data: Mapping[str, Any]) -> str:
    """Return data as one line of JSON, in which null stands for numbers that are not finite.

    Example:
        >>> to_line({"step": 1, "entropy": float("nan")})
        '{"step": 1, "entropy": null}\\n'
    """
    return json.dumps(finite(data), allow_nan=False) + "\n"


def append_line(file: Path, data: Mapping[str, Any]) -> None:
    """Add one line to a file; if the disk is full, nothing of it stays."""
    line = to_line(data).encode("utf-8")
    with file.open("ab", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            if opened.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                os.truncate(file, size)
            raise OSError(error.errno, error.strerror, str(file)) from error


def finite(value: Any) -> Any:
    """Return plain data with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def _is_number_or_null(value: Any) -> bool:
    if value is None or isinstance(value, float):
        return True
    return isinstance(value, int) and abs(value) < _LARGEST
