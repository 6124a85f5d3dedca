"""YAML as people write it, plain data only."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """`1e-4` is a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Return what `text` says.

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
