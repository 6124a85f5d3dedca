"""Prompts from the columns of a row: text with columns in braces, or chat messages."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.grading.numbers import number_text
from entrocraft.tasks.cells import cell, check_unicode, decoded


class PromptTemplate:
    """Template that makes a prompt of a row.

    Args:
        template: Text with names of columns in braces, with dots into cells that hold columns themselves; `{column}`
            and nothing else takes what the cell holds, text or chat messages.
        system: System message before the prompt; makes it a chat.
        chat: Whether to give text as a user's message.
        name: Name of the task, for messages.

    Raises:
        InvalidValueError: The template names no column, or has more in its braces than names of columns.

    Example:
        >>> PromptTemplate("What is {q}").prompt({"q": "1 + 1?"}, place="a row")
        'What is 1 + 1?'
        >>> PromptTemplate("{q}", system="Be brief.").prompt({"q": "1 + 1?"}, place="a row")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': '1 + 1?'}]
    """

    def __init__(self, template: str, *, system: str | None = None, chat: bool = False, name: str = "dataset"):
        check_unicode(template, f"{name}: prompt")
        check_unicode(system, f"{name}: system")
        self._system, self._chat = system, chat
        self._parts = _parts_of(template, name)
        self._is_one_cell = len(self._parts) == 1 and not self._parts[0][0]
        self.columns = [column for _, column in self._parts if column is not None]
        """Names of the columns that a row must have."""

    def prompt(self, row: Mapping[str, Any], place: str) -> str | list[dict[str, str]]:
        """Return the prompt of a row: text, or chat messages where the cell holds them or a chat is asked for.

        Args:
            row: Cells by column.
            place: File and row, for messages.

        Raises:
            InvalidValueError: A cell holds neither text nor a chat, or text that is no Unicode.
        """
        before = [{"role": "system", "content": self._system}] if self._system is not None else []
        if self._is_one_cell:
            where = f"{place}: column {self.columns[0]!r}"
            value = decoded(cell(row, self.columns[0]), where)
            if not isinstance(value, str):
                return before + _messages(value, where)
            text = value
        else:
            text = "".join(
                literal if column is None else literal + _text(cell(row, column), f"{place}: column {column!r}")
                for literal, column in self._parts
            )
        check_unicode(text, f"{place}: the prompt")
        return [*before, {"role": "user", "content": text}] if self._chat or before else text


def _parts_of(template: str, name: str) -> list[tuple[str, str | None]]:
    """Return each column that a template names, with the text before it, and the text after the last."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidValueError(f"{name}: prompt {template!r:.200} cannot be read: {error}") from error
    if all(column is None for _, column, _, _ in fields):
        raise InvalidValueError(f"{name}: prompt names no column in braces: {template!r:.200}")
    for _, column, spec, conversion in fields:
        # `{column.upper}` is looked for among the columns of a cell, and never among what Python has there.
        wrong = column is not None and (
            spec or conversion or set(column) & set("[]") or any(not p or p[:2] == "__" for p in column.split("."))
        )
        if wrong:
            raise InvalidValueError(
                f"{name}: prompt {template!r:.200}: braces take the name of a column and nothing else; double them to "
                "have a brace in the text"
            )
    return [(literal, column) for literal, column, _, _ in fields]


def _text(value: Any, place: str) -> str:
    """Return what a cell contributes to text around it: text, a number, or a list of numbers in brackets."""
    value = decoded(value, place)
    if isinstance(value, str):
        return value
    numbers = [number_text(number) for number in (value if isinstance(value, list) else [value])]
    if not numbers or None in numbers:
        raise InvalidValueError(f"{place} must hold text, a number or a list of numbers, got {value!r:.120}")
    return f"[{', '.join(map(str, numbers))}]" if isinstance(value, list) else str(numbers[0])


def _messages(value: Any, place: str) -> list[dict[str, str]]:
    """Return chat messages; a single one stands for a chat of one."""
    messages = [value] if isinstance(value, Mapping) else value
    found = []
    for message in messages if isinstance(messages, list) else []:
        both = [message.get(key) if isinstance(message, Mapping) else None for key in ("role", "content")]
        found.append([decoded(text, place) for text in both])
    if not found or not all(isinstance(text, str) for both in found for text in both):
        raise InvalidValueError(
            f"{place} must hold text, or messages with a role and a content, both text, got {value!r:.120}"
        )
    check_unicode(found, place)
    return [{"role": role, "content": content} for role, content in found]
