"""States that a resumed run hands back, held against what would be saved now."""

from collections.abc import Mapping
from typing import Any

from entrocraft.errors import InvalidValueError


def check_state(what: str, state: Any, expected: Mapping[str, Any]) -> None:
    """Refuse a state that has not the keys of `expected`, which is what the same object saves now.

    Args:
        what: What it is the state of, for the message.
        state: What was saved.
        expected: The state as it is now.

    Raises:
        InvalidValueError: The keys are others.

    Example:
        >>> check_state("pace state", {"progress": 0.5}, {"progress": 0.0})
        >>> check_state("pace state", {"progres": 0.5}, {"progress": 0.0})
        Traceback (most recent call last):
            ...
        entrocraft.errors.InvalidValueError: pace state: expected the keys ['progress'], got {'progres': 0.5}; it was \
saved by another version, or under other settings
    """
    if not isinstance(state, Mapping) or set(state) != set(expected):
        raise InvalidValueError(
            f"{what}: expected the keys {sorted(expected)}, got {state!r:.400}; it was saved by another version, or "
            "under other settings"
        )
