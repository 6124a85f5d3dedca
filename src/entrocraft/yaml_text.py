"""Reading YAML as people write it: plain data only."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from entrocraft.errors import InvalidValueError, shortened
from entrocraft.runs.files import read_regular

MOST_CHARACTERS = 1_000_000
"""Length of a text that is read."""
MOST_VALUES = 100_000
"""Values that a text may hold, each counted as often as aliases repeat it."""


class _Loader(yaml.SafeLoader):
    """A loader of plain data to which `1e-4` is a number, which YAML 1.1 takes for text.

    What YAML 1.1 takes for numbers that nobody means is text: `010` for 8, `2:30` for 150. It refuses keys that are
    given twice, and what aliases would blow up or tie into a knot.
    """

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        self._check(node)
        return self.construct_document(node)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Return text, in which two halves of a character are one, as JSON writes it: `"\\ud83d\\ude00"`."""
        text = super().construct_scalar(node)
        if not isinstance(text, str) or text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise yaml.YAMLError(f"half of a character, which is no text{_place(node)}") from error

    def _check(self, root: yaml.Node) -> None:
        """Refuse what must not be built; each node is looked at once, however often it is repeated."""
        sizes: dict[int, int] = {}

        def size(node: yaml.Node) -> int:
            known = sizes.get(id(node))
            if known == 0:
                raise yaml.YAMLError(f"an alias repeats what it is a part of{_place(node)}")
            if known is not None:
                return known
            sizes[id(node)] = 0  # under way
            if node.tag not in _TAGS:
                raise yaml.YAMLError(f"{node.tag.removeprefix(_PREFIX)} is no plain data{_place(node)}")
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                self._refuse_repeated_keys(node)
                children = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            total = 1 + sum(size(child) for child in children)
            if total > MOST_VALUES:
                raise yaml.YAMLError(f"expected {MOST_VALUES:,} values at most, aliases counted, and there are more")
            sizes[id(node)] = total
            return total

        size(root)

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        """Refuse a key that is given twice; one that a merge key (`<<`) brings may be given again."""
        places: dict[Any, yaml.Node] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            if key in places:
                first, second = places[key].start_mark, key_node.start_mark
                raise yaml.YAMLError(
                    f"key {shortened(str(key), 100)!r} is given twice, in line {first.line + 1}, column "
                    f"{first.column + 1}, and in line {second.line + 1}, column {second.column + 1}; leave one out"
                )
            places[key] = key_node


_PREFIX = "tag:yaml.org,2002:"
_TAGS = {_PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
# What looks like a date is the text that it is: JSON, in which a run keeps its settings, has no dates. Whole numbers
# that begin with a 0 are names, such as a postcode, and those with a colon times of day.
_PATTERNS = {
    f"{_PREFIX}timestamp": None,
    f"{_PREFIX}int": re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    f"{_PREFIX}float": re.compile(
        r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]\d+)?|\.\d[\d_]*(?:[eE][-+]\d+)?|\.(?:inf|Inf|INF))$"
        r"|^\.(?:nan|NaN|NAN)$"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, known in resolvers if (pattern := _PATTERNS.get(tag, known)) is not None]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _place(node: yaml.Node) -> str:
    mark = node.start_mark
    return "" if mark is None else f", in line {mark.line + 1}, column {mark.column + 1}"


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Return the plain data that `text` holds.

    Raises:
        yaml.YAMLError: It is not YAML, holds a key twice or a value that its type cannot have, is nested too deep, or
            is too large.

    Example:
        >>> read_yaml("start: 1e-1")
        {'start': 0.1}
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"expected {MOST_CHARACTERS:,} characters at most, got {len(text):,}")
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
        raise InvalidValueError(f"{shortened(text, 100)!r}: the value is not YAML: {_one_line(error)}") from error


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set what `key.path=value` names in nested mappings, which are made where they are not there.

    Raises:
        InvalidValueError: An override is none, leads into what is no section, or would undo another.

    Example:
        >>> data = {"train": {"steps": 3}}
        >>> apply_overrides(data, ["train.steps=5", "seed=1"])
        >>> data
        {'train': {'steps': 5}, 'seed': 1}
    """
    _refuse_clashes(overrides)
    for override in overrides:
        _apply_override(data, override)


def _refuse_clashes(overrides: Sequence[str]) -> None:
    """Refuse an override that would undo another: the same key twice, or a section set as a whole beside its keys.

    A section may be set to keys and values first, and be added to then.
    """
    before: list[tuple[list[str], Any, str]] = []
    for override in overrides:
        key, value = read_assignment(override, "train.steps=100")
        path = key.split(".")
        for other, its_value, its_text in before:
            is_within = path[: len(other)] == other
            adds_to_it = (
                len(path) > len(other) and isinstance(its_value, dict) and not _has(its_value, path[len(other) :])
            )
            if (is_within and not adds_to_it) or other[: len(path)] == path:
                raise InvalidValueError(
                    f"{shortened(its_text, 100)} and {shortened(override, 100)} set the same: the second would undo "
                    "the first; leave one out"
                )
        before.append((path, value, override))


def _has(section: Any, path: Sequence[str]) -> bool:
    """Return whether nested mappings hold a value at `path`, or one in the place of a section above it."""
    for name in path:
        if not isinstance(section, dict):
            return True
        if name not in section:
            return False
        section = section[name]
    return True


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Set the value that `key.path=value` names in nested mappings, which are made where they are not there."""
    key, value = read_assignment(override, "train.steps=100")
    *parents, last = key.split(".")
    if not all((*parents, last)):
        raise InvalidValueError(f"expected a setting such as train.steps=100, got {shortened(override, 100)!r}")
    for parent in parents:
        if data.get(parent) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise InvalidValueError(
                f"override {shortened(override, 100)!r}: {parent!r} is not a section but {shortened(repr(data), 100)}"
            )
    data[last] = value


def read_yaml_file(path: Path) -> Any:
    """Return the plain data that a file holds.

    Raises:
        InvalidValueError: It cannot be read, or is not YAML; the message names it.
    """
    try:
        return read_yaml(read_regular(path, 4 * MOST_CHARACTERS).decode("utf-8-sig"))
    except OSError as error:
        raise InvalidValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path} is not YAML: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return shortened(" ".join(str(error).split()), 600)
