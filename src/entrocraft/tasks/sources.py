"""Sources of data sets: rows from a file, a folder or the hub."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError, MissingDependencyError, first_line

Row = dict[str, Any]
"""One row of a data set: a cell for each column."""


def read_rows(source: str, *, config: str | None = None, revision: str | None = None) -> list[Row]:
    """Return the rows of a data set.

    Args:
        source: Path of a .jsonl, .json, .csv or .parquet file; or a folder or a hub id, with the split after a colon:
            `openai/gsm8k:test`. Without a colon, the split is `train`.
        config: Configuration of a hub data set, such as `main`.
        revision: Branch, tag or commit of a hub data set.

    Raises:
        InvalidValueError: There is no such data set, it cannot be read, or it is empty; the message names the file and
            the row.
        MissingDependencyError: The package that reads it is not installed.
    """
    path = Path(source)
    if not source.rpartition(":")[0 if ":" in source else 2].strip():
        raise InvalidValueError(f"data set {source!r}: expected a file, a folder or a hub id before the split")
    if path.suffix.lower() in _READERS:
        if not path.is_file():
            raise InvalidValueError(f"data set {source!r}: there is no such file")
        try:
            rows = _READERS[path.suffix.lower()](path)
        except UnicodeDecodeError as error:
            raise InvalidValueError(f"data set {source!r} is not UTF-8: {error}") from error
    else:
        rows = _load(source, config, revision)
    if not rows:
        raise InvalidValueError(f"data set {source!r} is empty")
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    # Split at "\n" alone: text in JSON may hold every other separator of lines.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_checked(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}"))
    return rows


def _read_json(path: Path) -> list[Row]:
    data = _parsed(path.read_text(encoding="utf-8-sig"), f"{path}")
    if not isinstance(data, list):
        raise InvalidValueError(
            f"{path}: expected a list of objects, got {type(data).__name__}; a file of one object a line is .jsonl"
        )
    return [_checked(row, f"{path}, row {number}") for number, row in enumerate(data, start=1)]


def _parsed(text: str, place: str) -> Any:
    """Return what JSON text says; `place` says in messages where it stands."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for whole numbers of more than 4,300 digits
        raise InvalidValueError(f"{place}: not JSON: {error}") from error


def _checked(row: Any, place: str) -> Row:
    """Return a row if it is one: an object with columns."""
    if not isinstance(row, dict):
        raise InvalidValueError(f"{place}: expected an object of columns, got {row!r:.80}")
    return row


def _read_csv(path: Path) -> list[Row]:
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise InvalidValueError(f"{path}: two columns are called {twice[0]!r}")
            for row in reader:
                if None in row or None in row.values():
                    raise InvalidValueError(
                        f"{path}, row {len(rows) + 1}: it has not as many cells as the header has columns"
                    )
                rows.append(row)
    except csv.Error as error:
        raise InvalidValueError(f"{path}, row {len(rows) + 1}: not CSV: {error}") from error
    return rows


def _read_parquet(path: Path) -> list[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(f"{path}: parquet needs pyarrow: pip install 'entrocraft[trl]'") from error
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidValueError(f"{path}: not parquet: {error}") from error


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _load(source: str, config: str | None, revision: str | None) -> list[Row]:
    """Return the rows of a folder or a hub data set, as the `datasets` library reads them."""
    name, colon, split = source.rpartition(":")
    if not colon or "/" in split or "\\" in split:  # a drive, on Windows
        name, split = source, "train"
    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise InvalidValueError(
            f"data set {source!r} is not there: expected a {', '.join(_READERS)} file, a folder, or a hub id such as "
            "'openai/gsm8k:train'"
        )
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(f"data set {source!r} needs the package datasets: pip install datasets") from error
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision).to_list()
    except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InvalidValueError(f"data set {source!r} cannot be loaded: {first_line(error)}") from error
