"""Prompts from the columns of a row: text with columns in braces, or chat messages."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from entrocraft.errors import InvalidValueError


class PromptTemplate:
    """Template that makes a prompt of a row.

    Args:
        template: Text with names of columns in braces; `{column}` and nothing else takes what the cell holds, text or
            chat messages.
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
        self._template, self._system, self._chat = template, system, chat
        self.columns = _columns_of(template, name)
        """Names of the columns that a row must have."""

    def prompt(self, row: Mapping[str, Any], place: str) -> str | list[dict[str, str]]:
        """Return the prompt of a row: text, or chat messages where the cell holds them or a chat is asked for.

        Args:
            row: Cells by column.
            place: File and row, for messages.

        Raises:
            InvalidValueError: A cell holds a list that is no chat, or text that is no Unicode.
        """
        columns = self.columns
        # One column in braces and nothing else gives what the cell holds as it is; any other template gives text.
        value = row[columns[0]] if self._template == f"{{{columns[0]}}}" else self._template.format_map(row)
        before = [{"role": "system", "content": self._system}] if self._system is not None else []
        if isinstance(value, list):
            if not value or not all(_is_message(message) for message in value):
                raise InvalidValueError(
                    f"{place}: column {columns[0]!r} must hold text, or messages with a role and a content, both text, "
                    f"got {value!r:.120}"
                )
            return before + [{"role": message["role"], "content": message["content"]} for message in value]
        try:
            text = str(value)
            text.encode()  # half of a surrogate pair is no character, and no tokenizer takes it
        except UnicodeEncodeError as error:
            raise InvalidValueError(f"{place}: the prompt is no Unicode text: {error}") from error
        return [*before, {"role": "user", "content": text}] if self._chat or before else text


def _columns_of(template: str, name: str) -> list[str]:
    """Return the columns that a prompt template names, in braces and with nothing else in them."""
    try:
        fields = [(column, spec, conversion) for _, column, spec, conversion in Formatter().parse(template)]
    except ValueError as error:
        raise InvalidValueError(f"{name}: prompt {template!r} cannot be read: {error}") from error
    named = [field for field in fields if field[0] is not None]
    if not named:
        raise InvalidValueError(f"{name}: prompt names no column in braces: {template!r}")
    for column, spec, conversion in named:
        # `{column.upper}` or `{column[0]}` would be looked up in the cell, which is no part of the data.
        if not column or spec or conversion or set(column) & set(".[]"):
            raise InvalidValueError(
                f"{name}: prompt {template!r}: braces take the name of a column and nothing else; double them to have "
                "a brace in the text"
            )
    return [str(column) for column, _, _ in named]


def _is_message(value: Any) -> bool:
    """Return whether a value is a chat message: a role and a content, both text."""
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))
