"""Entries of reasoning-gym and their scores; runs in the processes of `time_limit`.

In those processes text hashes to the same number every time. Elsewhere it does not, and some data sets, which go by
the order of sets, make other entries each time.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from reasoning_gym.factory import CURRICULA, DATASETS, create_curriculum, create_dataset

from entrocraft.errors import InvalidValueError, UnknownNameError

SIZE = 10_000
"""Number of entries made from one seed; some data sets prepare all of them at once, or refuse more."""


def make_entries(dataset: str, settings: str, seed: int, start: int, stop: int) -> list[tuple[str, str]]:
    """Return questions and answers of the entries from `start` to `stop`; where an entry has no answer, empty text."""
    entries = (_entries_of(dataset, settings, seed)[index] for index in range(start, stop))
    return [(entry["question"], "" if entry["answer"] is None else str(entry["answer"])) for entry in entries]


def score_entry(dataset: str, settings: str, seed: int, index: int, answer: str) -> float:
    """Return the score of an answer to one entry, which is made again from its seed and index.

    An answer that the data set cannot read scores 0. Some data sets evaluate it as Python: that is why it runs where
    nothing can be written, started or reached (`time_limit`), and why one with two underscores scores 0 unread.
    """
    if "__" in answer:
        return 0.0
    entries = _entries_of(dataset, settings, seed)
    entry = entries[index]
    try:
        return float(entries.score_answer(answer, entry))
    except MemoryError:
        raise
    except Exception:  # what data sets raise on an answer of another shape has no common type
        return 0.0


@lru_cache(maxsize=8)
def _entries_of(dataset: str, settings: str, seed: int) -> Any:
    """Return a data set of reasoning-gym; `settings` is the JSON of its options and level."""
    return create_dataset(dataset, **checked_options(dataset, **json.loads(settings)), seed=seed, size=SIZE)


def checked_options(dataset: str, options: Mapping[str, Any], level: int | Mapping[str, int] | None) -> dict[str, Any]:
    """Return all options of a data set: those of its curriculum at a level, and the given ones on top.

    Raises:
        UnknownNameError: There is no such data set, option or attribute.
        InvalidValueError: A level cannot be used, or the data set refuses an option.
    """
    if dataset not in DATASETS:
        raise UnknownNameError.of("data set of reasoning-gym", dataset, DATASETS)
    config_class = DATASETS[dataset][1]
    known = {field.name for field in fields(config_class)} - {"seed", "size"}
    for name in options:
        if name not in known:
            raise UnknownNameError.of(f"option of {dataset}", name, known)
    together = _options_at(dataset, level) | dict(options)
    try:
        config = config_class(**together)
        if hasattr(config, "validate"):
            config.validate()
    except (AssertionError, TypeError, ValueError) as error:  # reasoning-gym checks by assertions
        raise InvalidValueError(f"reasoning-gym/{dataset}: {str(error) or 'it refuses these options'}") from error
    return together


def _options_at(dataset: str, level: int | Mapping[str, int] | None) -> dict[str, Any]:
    """Return the options that a level of its curriculum gives a data set; none where there is no level."""
    if level is None:
        return {}
    if dataset not in CURRICULA:
        raise InvalidValueError(f"{dataset} has no curriculum; leave `level` out, and give it options")
    curriculum = create_curriculum(dataset)
    levels = dict.fromkeys(curriculum.attributes, level) if isinstance(level, int) else level
    for name, value in levels.items():
        if name not in curriculum.attributes:
            raise UnknownNameError.of(f"attribute of the curriculum of {dataset}", name, curriculum.attributes)
        most = len(curriculum.attributes[name].levels) - 1
        if isinstance(level, int):
            value = min(value, most)  # one number for all: attributes do not have equally many levels
        if not isinstance(value, int) or not 0 <= value <= most:
            raise InvalidValueError(f"reasoning-gym/{dataset}: level of {name} must be 0 to {most}, got {value!r}")
        curriculum.set_attr_level(name, value)
    configured = curriculum.generate_configuration()
    names = {field.name for field in fields(configured)} - {"seed", "size"}
    return {name: getattr(configured, name) for name in names}
