"""Files of JSON lines that grow while they are read: each line is read once, and damage is said by its line."""

import errno
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from entrocraft.errors import RunDirectoryError
from entrocraft.runs.files import open_regular

_TAIL = 64
_LARGEST = 2**63


class JsonLines:
    """Reader of a file that has one JSON object a line, each with its `step`, and numbers or null beside it.

    Reading again looks only at what was added. A file that was rewound or replaced is read anew. Only the last line may
    be torn, as a killed process leaves it; it is not read.

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
        self.path = path
        self._numbers_only = numbers_only
        self._forget()

    def _forget(self) -> None:
        self._lines: list[dict[str, Any]] = []
        self._ends: list[int] = []
        self.offset = 0
        """Bytes that have been read, up to the end of a line."""
        self._tail = b""
        self._file: tuple[int, int] | None = None
        self.times_begun = getattr(self, "times_begun", -1) + 1
        """How often the file was found to be another one and read from its start again."""

    def read(self) -> list[dict[str, Any]]:
        """Return all whole lines that there are now, which includes a last one that only lacks its line break.

        Numbers that are not finite are read as None.

        Raises:
            RunDirectoryError: A line before the last cannot be read; the message names the file and the line.
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
                rest = file.read()
        except FileNotFoundError:
            if self._file is not None:
                self._forget()
            return []
        last = self._take(rest)
        return [*self._lines] if last is None else [*self._lines, last]

    def _continues(self, file: Any, size: int) -> bool:
        """Return whether what was read last is still there."""
        if size < self.offset:
            return False
        file.seek(self.offset - len(self._tail))
        return bool(file.read(len(self._tail)) == self._tail)

    def _take(self, rest: bytes) -> dict[str, Any] | None:
        """Keep the whole lines of what was added, and return the last one if it may be whole without its end."""
        *whole, unfinished = rest.split(b"\n")
        for i, raw in enumerate(whole):
            try:
                line = self._parsed(raw)
            except ValueError as error:
                if i == len(whole) - 1 and not unfinished:
                    return None  # the last line of a process that was killed
                raise RunDirectoryError(
                    f"{self.path}, line {len(self._lines) + 1}: {error}; expected a JSON object with its step. Mend or "
                    "remove this line"
                ) from None
            self._lines.append(line)
            self.offset += len(raw) + 1
            self._ends.append(self.offset)
            self._tail = (self._tail + raw + b"\n")[-_TAIL:]
        if not unfinished:
            return None
        try:
            return self._parsed(unfinished)
        except ValueError:
            return None

    def _parsed(self, raw: bytes) -> dict[str, Any]:
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
        if self._numbers_only:
            wrong = next((name for name, value in line.items() if not _is_number_or_null(value)), None)
            if wrong is not None:
                raise ValueError(f"holds no number as {wrong!r:.60}, got {line[wrong]!r:.60}")
        return finite(line)

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
