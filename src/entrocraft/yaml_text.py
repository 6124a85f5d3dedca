"""Reading YAML as people write it: plain data only."""

import re
from pathlib import Path
from typing import Any

import yaml

from entrocraft.errors import InvalidValueError


class _Loader(yaml.SafeLoader):
    """A loader of plain data to which `1e-4` is a number; YAML 1.1 takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Return the plain data that `text` holds.

    Raises:
        yaml.YAMLError: It is not YAML, holds a value that its type cannot have, or is nested too deep.

    Example:
        >>> read_yaml("start: 1e-1")
        {'start': 0.1}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: plain data only
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML lets out whatever its constructors meet, such as ValueError for the date 2026-13-45.
        raise yaml.YAMLError(f"not a value: {error}") from error


def read_assignment(text: str, example: str) -> tuple[str, Any]:
    """Return name and value of `name=value`, as command lines take settings.

    Args:
        text: The setting as it was typed.
        example: Another such setting, for the error.

    Raises:
        InvalidValueError: There is no name, no `=`, or the value is not YAML.

    Example:
        >>> read_assignment("train.steps=100", "a.b=1")
        ('train.steps', 100)
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidValueError(f"expected a setting such as {example}, got {text!r}")
    try:
        return name, read_yaml(value)
    except yaml.YAMLError as error:
        raise InvalidValueError(f"{text!r}: the value is not YAML") from error


def read_yaml_file(path: Path) -> Any:
    """Return the plain data that a file holds.

    Raises:
        InvalidValueError: It cannot be read, or is not YAML; the message names it.
    """
    try:
        return read_yaml(path.read_text())
    except OSError as error:
        raise InvalidValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
