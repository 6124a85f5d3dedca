"""Cells of a row: by the name of a column or a dotted path, as text, and compared with what settings ask for."""

import datetime
import warnings
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError, did_you_mean
from entrocraft.grading.numbers import number_text

_LOOKED_AT = 1000  # rows that are looked at for names and examples in messages


def cell(row: Mapping[str, Any], column: str) -> Any:
    """Return the cell of a column; a dotted name leads into cells that hold columns themselves.

    Example:
        >>> cell({"reward_model": {"ground_truth": "34"}}, "reward_model.ground_truth"), cell({"a.b": 1}, "a.b")
        ('34', 1)
    """
    if column in row:
        return row[column]
    head, dot, tail = column.partition(".")
    while dot:
        if isinstance(row.get(head), Mapping):
            return cell(row[head], tail)
        more, dot, tail = tail.partition(".")
        head = f"{head}.{more}"
    return None


def check_columns(wanted: Iterable[str], rows: Sequence[Mapping[str, Any]], source: str) -> None:
    """Refuse names of columns that no row has.

    Raises:
        UnknownNameError: There is no such column; the message names the nearest one.
    """
    for column in wanted:
        if not any(column in row or cell(row, column) is not None for row in rows):
            raise UnknownNameError.of(f"column of {source}", column, _names_in(rows[:_LOOKED_AT]))


def _names_in(rows: Iterable[Mapping[str, Any]], depth: int = 3) -> set[str]:
    """Return the names of columns, those of cells that hold columns with a dot."""
    names: set[str] = set()
    for row in rows:
        for name, value in row.items():
            names.add(name)
            if depth > 1 and isinstance(value, Mapping):
                names |= {f"{name}.{inner}" for inner in _names_in([value], depth - 1)}
    return names


def decoded(value: Any, place: str) -> Any:
    """Return bytes as the text they are, and everything else as it is.

    Raises:
        InvalidValueError: The bytes are not UTF-8.
    """
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{place} holds bytes that are not UTF-8, got {value!r:.80}: {error}") from error


def check_unicode(value: Any, place: str) -> None:
    """Refuse text with half of a surrogate pair, at any depth: it is no character, and nothing can write it.

    Raises:
        InvalidValueError: There is such text.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"{place} is no Unicode text: it holds half of a character at position {error.start}, "
                f"got {value!a:.80}; write it again as UTF-8"
            ) from error
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            check_unicode(name, place)
            check_unicode(inner, place)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_unicode(inner, place)


class Selection:
    """Rows by what their columns hold: the option `where` or `unless`.

    Text and numbers are compared as what they say: `0`, `0.0` and `"0"` are the same, and text with text letter by
    letter. Null stands for an empty cell.

    Args:
        option: Name of the option, for messages.
        columns: Columns and the value, or values, of each; None for none.
        name: Name of the task, for messages.

    Raises:
        InvalidValueError: That is no mapping of columns to values.

    Example:
        >>> Selection("where", {"level": [4, 5]}).all_hold({"level": "5"})
        True
    """

    def __init__(self, option: str, columns: Any, name: str = "dataset"):
        self._option, self._name = option, name
        if columns is not None and not isinstance(columns, Mapping):
            raise InvalidValueError(
                f"{name}: {option} expects columns and their values, such as {{level: [4, 5]}}, got {columns!r:.80}"
            )
        self._values: dict[str, list[Any]] = {
            str(column): list(values) if isinstance(values, list | tuple) else [values]
            for column, values in (columns or {}).items()
        }
        for column, values in self._values.items():
            if not values or any(_kind(value) is None for value in values):
                raise InvalidValueError(
                    f"{name}: {option} expects text, numbers or true and false for column {column!r}, "
                    f"got {values!r:.80}"
                )

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are looked at."""
        return list(self._values)

    def check(self, rows: Sequence[Mapping[str, Any]], source: str) -> None:
        """Refuse values that no cell of their column could be, and warn of one that is only nearly held.

        Raises:
            InvalidValueError: All cells of a column are of another type than the values asked for.
        """
        for column, values in self._values.items():
            cells = [found for row in rows if _kind(found := cell(row, column)) != "empty"]
            asked = [value for value in values if _kind(value) != "empty"]
            if len(asked) < len(values) or not cells:
                continue
            if not any(_is_comparable(found, value) for value in asked for found in cells):
                raise InvalidValueError(
                    f"{source}: {self._option} asks for {asked[0]!r:.60} in column {column!r}, whose cells are of "
                    f"another type, such as {cells[0]!r:.60}: ask for what they hold"
                )
            if not any(_is_same(found, value) for value in asked for found in cells):
                held = {str(found)[:60] for found in islice(cells, _LOOKED_AT)}
                hint = _near(asked[0], held)
                if hint:
                    warnings.warn(
                        f"{source}: {self._option} asks for {asked[0]!r:.60} in column {column!r}, and no row holds "
                        f"it:{hint}",
                        stacklevel=2,
                    )

    def all_hold(self, row: Mapping[str, Any]) -> bool:
        """Return whether each column holds one of its values."""
        return all(self._holds(row, column) for column in self._values)

    def any_holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether any column holds one of its values."""
        return any(self._holds(row, column) for column in self._values)

    def _holds(self, row: Mapping[str, Any], column: str) -> bool:
        found = cell(row, column)
        return any(_is_same(found, value) for value in self._values[column])


def _near(asked: Any, held: Iterable[str]) -> str:
    """Return a hint at held text that differs by little, not at all of numbers."""
    if not isinstance(asked, str) or _number(asked.strip()) is not None:
        return ""
    alike = [text for text in held if text.strip().casefold() == asked.strip().casefold()]
    return f" did you mean {alike[0]!r}?" if alike else did_you_mean(asked, held)


def _kind(value: Any) -> str | None:
    """Return the type by which a value is compared; None if it cannot be."""
    if value is None or value == "" or value != value:
        return "empty"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, datetime.date | datetime.time):
        return "date"
    return "text" if isinstance(value, str | bytes) else None


def _as_text(value: Any) -> str:
    """Return what a value says, the same for the number 0 and the text "0.0"."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        number = _number(value.strip())
        if number is None:
            return value.strip().casefold()
        value = number
    if isinstance(value, bool):
        return str(value).casefold()
    return number_text(value) or str(value).casefold()


def _is_comparable(found: Any, value: Any) -> bool:
    """Return whether a cell could be a value: of one type, or text that says something of the other's type."""
    kinds = {_kind(found), _kind(value)}
    if len(kinds) == 1:
        return None not in kinds
    if "text" not in kinds or None in kinds or "empty" in kinds:
        return False
    said = _as_text(found if _kind(found) == "text" else value)
    return {
        "truth": said in ("true", "false"),
        "number": number_text(_number(said)) is not None,
        "date": said[:4].isdigit() or ":" in said,
    }[str(*(kinds - {"text"}))]


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _is_same(found: Any, value: Any) -> bool:
    """Return whether a cell holds a value."""
    kinds = {_kind(found), _kind(value)}
    if kinds == {"empty"}:
        return True
    if "empty" in kinds or not _is_comparable(found, value):
        return False
    if isinstance(found, str) and isinstance(value, str):
        return found == value
    if kinds == {"date"} and type(found) is type(value):
        return found == value
    return _as_text(found) == _as_text(value)
