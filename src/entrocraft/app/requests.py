"""What the page sends: a JSON object whose fields are checked as they are taken."""

import json
from collections.abc import Sequence
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError

MOST_TEXT = 20_000


class Request:
    """The fields of a JSON object.

    Args:
        fields: The object.
        known: Names that it may have.

    Raises:
        UnknownNameError: It has another name.
    """

    def __init__(self, fields: dict[str, Any], known: Sequence[str]):
        unknown = next((name for name in fields if name not in known), None)
        if unknown is not None:
            raise UnknownNameError.of("field", unknown, known)
        self._fields = fields

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field as it was sent; the default if it was not, or is null."""
        value = self._fields.get(name)
        return default if value is None else value

    def text(self, name: str) -> str:
        """Return a field that must be text of a length that a person may write."""
        value = self.get(name)
        if not isinstance(value, str) or len(value) > MOST_TEXT:
            raise InvalidValueError(f"{name}: expected text of {MOST_TEXT:,} characters at most, got {value!r:.80}")
        return value

    def whole_number(self, name: str, default: int, *, least: int, most: int) -> int:
        """Return a field that must be a whole number within limits."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValueError(f"{name}: expected a whole number from {least:,} to {most:,}, got {value!r:.80}")
        return value

    def one_of(self, name: str, choices: Sequence[str], default: str | None) -> str | None:
        """Return a field that must be one of some words."""
        value = self.get(name, default)
        if value is not None and value not in choices:
            raise UnknownNameError.of(name, value, choices)
        return value

    def flag(self, name: str) -> bool:
        """Return a field that must be true or false, by default false."""
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise InvalidValueError(f"{name}: expected true or false, got {value!r:.80}")
        return value

    def part(self, name: str, known: Sequence[str]) -> "Request":
        """Return a field that must be an object of its own; an empty one if it was not sent."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise InvalidValueError(f"{name}: expected an object, got {value!r:.80}")
        return Request(value, known)

    def fields(self) -> dict[str, Any]:
        """Return all fields that were sent and are not null."""
        return {name: value for name, value in self._fields.items() if value is not None}


def parsed_body(body: bytes) -> dict[str, Any]:
    """Return the object that a request's body holds.

    Raises:
        ValueError: It is no JSON, no object, or holds what is no number.
    """
    try:
        data = json.loads(body.decode("utf-8") or "{}", parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("the body is nested too deep") from None
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    return data


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
