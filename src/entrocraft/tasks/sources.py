"""Sources of data sets: rows from a file, a folder or the hub."""

import csv
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from entrocraft.errors import InvalidValueError, MissingDependencyError, first_line
from entrocraft.tasks.tables import rows_of_table

Row = dict[str, Any]
"""One row of a data set: a cell for each column."""

MOST_BYTES = 2**30
"""Bytes of text that a file may hold, unpacked: its rows are held in memory, where they take several times as much."""
MOST_ROWS = 5_000_000
"""Rows that a data set may have, for the same reason."""
_MOST_FILES = 100_000  # of a folder that are looked at before it is read


def read_rows(source: str, *, config: str | None = None, revision: str | None = None) -> list[Row]:
    """Return the rows of a data set; exact copies of a row are one object, and so take no memory.

    Args:
        source: Path of a .jsonl, .json, .csv, .tsv or .parquet file, the ones of text also with .gz; or a folder or a
            hub id, with the split after a colon: `openai/gsm8k:test`. Without a colon, the split is `train`.
        config: Configuration of a hub data set, such as `main`.
        revision: Branch, tag or commit of a hub data set.

    Raises:
        InvalidValueError: There is no such data set, it cannot be read, it is empty, or too large to be held; the
            message names the file and the row.
        MissingDependencyError: The package that reads it is not installed.
    """
    what = f"data set {source!r:.200}"
    name, colon, split = source.rpartition(":")
    if not (name if colon else source).strip():
        raise InvalidValueError(f"{what}: expected a file, a folder or a hub id before the split")
    mode, read = _mode_of(source, what), _READERS.get(_format_of(source))
    if mode is not None and not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise InvalidValueError(f"{what} is a pipe or a device, which may never end; write it to a file first")
        if read is None:
            raise InvalidValueError(f"{what} is in a format that has no rows of columns: expected a {_FORMATS} file")
        rows = _rows_of_file(Path(source), read, what)
    elif mode is None and (read is not None or _format_of(source) in _OTHER_FORMATS):
        raise InvalidValueError(f"{what}: there is no such file")
    elif colon and _format_of(name) in _READERS and not Path(name).is_dir():
        raise InvalidValueError(f"{what}: a file has no splits; leave out ':{split}'")
    else:
        rows = _load(source, config, revision)
    if not rows:
        raise InvalidValueError(f"{what} is empty")
    return rows


def _mode_of(path: str, what: str) -> int | None:
    """Return what kind of file a path names; None if there is none."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name that is too long, or that holds NUL
        raise InvalidValueError(f"{what} cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _format_of(source: str) -> str:
    """Return the ending of a path that names its format, without the one of a packed file."""
    suffixes = [suffix.casefold() for suffix in Path(source).suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def _sharing_copies(rows: Iterable[Row]) -> list[Row]:
    """Return rows, each that is an exact copy of an earlier one as that very object.

    Example:
        >>> first, other, copy = _sharing_copies([{"a": 1}, {"a": 2}, {"a": 1}])
        >>> copy is first, other
        (True, {'a': 2})
    """
    known: dict[bytes, Row] = {}
    return [known.setdefault(_digest(row), row) for row in rows]


def _digest(row: Row) -> bytes:
    """Return what tells rows apart, short enough to be held for millions of them."""
    return hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _rows_of_file(path: Path, read: Callable[[Path], Iterable[Row]], what: str) -> list[Row]:
    """Read a file; what goes wrong is said in one line."""
    try:
        rows = _sharing_copies(read(path))
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{what} is not UTF-8: {error}; save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidValueError(f"{what} is not gzip, or cut short: {error}") from error
    except OSError as error:
        raise InvalidValueError(f"{what} cannot be read: {error.strerror or error}") from error
    return rows


class _Bounded(io.RawIOBase):
    """The bytes of a stream, up to a number of them that can be held."""

    def __init__(self, stream: BinaryIO, path: Path):
        self._stream, self._path, self._num_read = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._num_read += len(data)
        if self._num_read > MOST_BYTES:
            raise InvalidValueError(
                f"{self._path} holds more than {MOST_BYTES:,} bytes, too many to hold in memory; take a part of it"
            )
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _text_of(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file of text, packed or not; a mark of byte order at its beginning is no text."""
    packed = path.suffix.casefold() == ".gz"
    with cast(BinaryIO, gzip.open(path) if packed else path.open("rb")) as stream:
        raw = io.BufferedReader(_Bounded(stream, path), buffer_size=2**16)
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline) as text:
            yield text


def _check_number(rows: list[Row] | int, place: str) -> None:
    """Refuse more rows than can be held."""
    number = rows if isinstance(rows, int) else len(rows)
    if number > MOST_ROWS:
        raise InvalidValueError(f"{place} holds more than {MOST_ROWS:,} rows, too many to hold; take a part of it")


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    # Split at "\n" alone: text in JSON may hold every other separator of lines.
    with _text_of(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_checked(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}"))
                _check_number(rows, f"{path}")
    return rows


def _read_json(path: Path) -> list[Row]:
    with _text_of(path) as file:
        text = file.read()
    if not text.strip():
        return []
    data = _parsed(text, f"{path}")
    if not isinstance(data, list):
        raise InvalidValueError(
            f"{path}: expected a list of objects, got {type(data).__name__}; a file of one object a line is .jsonl"
        )
    return [_checked(row, f"{path}, row {number}") for number, row in enumerate(data, start=1)]


def _parsed(text: str, place: str) -> Any:
    """Return what JSON text says; `place` says in messages where it stands."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _columns(pairs, place))
    except InvalidValueError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError also for whole numbers of more than 4,300 digits
        raise InvalidValueError(f"{place}: not JSON: {error}") from error


def _columns(pairs: list[tuple[str, Any]], place: str) -> dict[str, Any]:
    """Return an object of JSON, in which no name may stand twice: readers differ in which of them counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValueError(f"{place}: {twice!a:.80} stands there twice; leave one of them out")
    return found


def _checked(row: Any, place: str) -> Row:
    """Return a row if it is one: an object with columns."""
    if not isinstance(row, dict):
        raise InvalidValueError(f"{place}: expected an object of columns, got {row!r:.80}")
    return row


def _read_csv(path: Path, delimiter: str = ",") -> list[Row]:
    rows: list[Row] = []
    limit = csv.field_size_limit(min(MOST_BYTES, 2**31 - 1))  # a cell may be as long as a file may be
    try:
        with _text_of(path, newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            header = list(reader.fieldnames or [])
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise InvalidValueError(f"{path}: two columns are called {twice[0]!r:.80}")
            for row in reader:
                if None in row or None in row.values():
                    raise InvalidValueError(
                        f"{path}, row {len(rows) + 1}: it has not as many cells as the header has columns"
                    )
                rows.append(row)
                _check_number(rows, f"{path}")
    except csv.Error as error:
        raise InvalidValueError(f"{path}, row {len(rows) + 1}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_tsv(path: Path) -> list[Row]:
    return _read_csv(path, delimiter="\t")


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(f"{path}: parquet needs pyarrow: pip install 'entrocraft[trl]'") from error
    try:
        about = pyarrow.parquet.read_metadata(path)
        _check_number(about.num_rows, f"{path}")
        if sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) > MOST_BYTES:
            raise InvalidValueError(
                f"{path} holds more than {MOST_BYTES:,} bytes, too many to hold in memory; take a part of it"
            )
        # The file itself: of a path, pyarrow would take `name=value` folders for columns.
        file = pyarrow.parquet.ParquetFile(path)
        yield from rows_of_table(file.iter_batches(), file.schema_arrow, f"{path}")
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(f"{path}: not parquet: {first_line(error)}") from error


_READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".tsv": _read_tsv,
}
_READERS |= {f"{suffix}.gz": read for suffix, read in _READERS.items()} | {".parquet": _read_parquet}
_FORMATS = ".csv, .json, .jsonl, .parquet or .tsv"
# Endings of files that are no data sets here, and of no name on the hub.
_OTHER_FORMATS = {
    *(".txt", ".md", ".yaml", ".yml", ".xml", ".html", ".log", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".pdf"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".txt.gz", ".parquet.gz"),
    *(".arrow", ".feather", ".orc", ".avro", ".pkl", ".pickle", ".npy", ".npz", ".pt", ".db", ".sqlite", ".h5"),
}


def _load(source: str, config: str | None, revision: str | None) -> list[Row]:
    """Return the rows of a folder or a hub data set, as the `datasets` library reads them."""
    name, colon, split = source.rpartition(":")
    if not colon or "/" in split or "\\" in split:  # a drive, on Windows
        name, split = source, "train"
    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise InvalidValueError(
            f"data set {source!r:.200} is not there: expected a {_FORMATS} file, a folder, or a hub id such as "
            "'openai/gsm8k:train'"
        )
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(f"data set {source!r} needs the package datasets: pip install datasets") from error
    if Path(name).is_dir():
        strange = next(
            (p for p in islice(Path(name).rglob("*"), _MOST_FILES) if not p.is_file() and not p.is_dir()), None
        )
        if strange is not None:  # which the library would wait for
            raise InvalidValueError(
                f"data set {source!r:.200}: {strange} is no file, but a pipe, a device or a dead link"
            )
    try:
        found = datasets.load_dataset(name, config, split=split, revision=revision)
        _check_number(len(found), f"data set {source!r:.200}")
        table = found.with_format("arrow")[:]
        return _sharing_copies(rows_of_table(table.to_batches(), table.schema, f"data set {source!r:.200}"))
    except InvalidValueError:
        raise
    except Exception as error:  # of the library, of what it reads with, or of the network
        raise InvalidValueError(f"data set {source!r:.200} cannot be loaded: {first_line(error)}") from error
