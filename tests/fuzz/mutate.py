"""Changes to what is valid: of nested data by its values and keys, of text and bytes by their parts."""

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from fuzz import noise


def changed(rng: Random, data: Any, most: int = 3) -> Any:
    """Return nested data with a few of its values replaced, left out, moved or wrapped."""
    root = [copy.deepcopy(data)]
    for _ in range(rng.randint(1, most)):
        _change(rng, root)
    return root[0]


def _change(rng: Random, root: list[Any]) -> None:
    places = _places(root)
    container, key = rng.choice(places)
    old, kind = container[key], rng.random()
    if kind < 0.5:
        container[key] = noise.value(rng)
    elif kind < 0.6 and container is not root:
        del container[key]
    elif kind < 0.7:
        container[key] = rng.choice(([old], {"name": old}, {"type": old}, {str(key): old}, str(old), [old, old]))
    elif kind < 0.8:
        other, other_key = rng.choice(places)
        if other_key in (other if isinstance(other, dict) else range(len(other))):
            container[key] = copy.deepcopy(other[other_key])
    elif kind < 0.9 and isinstance(old, dict):
        old[noise.text(rng)[:60]] = noise.value(rng)
    elif isinstance(container, dict):
        container[_near(rng, str(key))] = container.pop(key)
    elif isinstance(old, str):
        container[key] = edited(rng, old)
    else:
        container[key] = noise.number(rng)


def _near(rng: Random, name: str) -> str:
    """Return a name with a typing error."""
    at = rng.randrange(len(name) + 1)
    return name[:at] + rng.choice(("", "_", "x", " ", ".")) + name[at + 1 :]


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Return every container in nested data with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        for key in container if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def edited(rng: Random, text: str, pieces: Sequence[str] = noise.TEXTS, most: int = 3) -> str:
    """Return text with parts cut out, doubled, swapped, or with something put between."""
    for _ in range(rng.randint(1, most)):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 1, 1, 2, 5, 20)))
        kind = rng.random()
        if kind < 0.35:
            text = text[:start] + rng.choice(pieces) + text[stop:]
        elif kind < 0.55:
            text = text[:start] + text[stop:]
        elif kind < 0.65:
            text = text[:stop] + text[start:stop] * rng.choice((1, 2, 50)) + text[stop:]
        elif kind < 0.75:
            text = text[:start]
        elif kind < 0.9:
            text = text[:start] + chr(rng.randrange(256)) + text[start + 1 :]
        else:
            other = rng.randrange(len(text) + 1)
            text = text[:start] + text[other : other + 30] + text[start:]
    return text


def as_bytes(text: str) -> str:
    """Return UTF-8 bytes as a case holds them: a character for each; half a character is written as Java does."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def as_json(rng: Random, data: Any) -> str:
    """Return data as JSON, at times with names given twice, strange spaces, or characters that are not escaped."""
    written = json.dumps(data, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.05 and isinstance(data, dict) and data:
        name = rng.choice(list(data))
        written = written[:-1] + ", " + json.dumps({name: noise.value(rng, 0)})[1:]
    return written
