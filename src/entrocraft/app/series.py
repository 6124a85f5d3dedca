"""Columns of a run thinned out for a chart: whole where there are few, else what stands out of each stretch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entrocraft.app.book import DISTANCE, Book
from entrocraft.errors import InvalidValueError

MOST_POINTS = 10_000
_MOST_KEYS = 64


def default_keys(book: Book) -> list[str]:
    """Return the columns that the page's charts show; runs without control know of rollouts only."""
    kept = "kept_token_fraction" if "kept_token_fraction" in book.columns else "kept_fraction"
    return ["entropy", "target", "lower", "upper", "reward", kept, DISTANCE]


def series(
    book: Book,
    keys: Sequence[str],
    first: int | None = None,
    last: int | None = None,
    points: int = 1500,
) -> dict[str, Any]:
    """Return columns over the steps from `first` to `last`.

    If there are more steps than `points`, they are cut into equal stretches, and of each the steps stay at which a
    column is lowest or highest: peaks survive, and every value belongs to its step.

    Args:
        book: What was recorded.
        keys: Names of columns; one that is not there is full of None.
        first: First step, by default that of the run.
        last: Last step.
        points: Steps at most.

    Raises:
        InvalidValueError: There are too many keys, or too few or too many points.
    """
    if not 1 <= len(keys) <= _MOST_KEYS:
        raise InvalidValueError(f"keys: expected 1 to {_MOST_KEYS} names of columns, got {len(keys)}")
    fewest = 2 * len(keys) + 2
    if not fewest <= points <= MOST_POINTS:
        raise InvalidValueError(
            f"points must lie between {fewest} (two for each column, and both ends) and {MOST_POINTS:,}, got {points}"
        )
    steps = book.numbers("step")
    begin = 0 if first is None else int(np.searchsorted(steps, first))
    end = len(steps) if last is None else int(np.searchsorted(steps, last, side="right"))
    rows = _rows(book, keys, begin, end, points)
    return {
        "step": book.values("step", rows),
        "columns": {key: book.values(key, rows) for key in keys},
        "exact": len(rows) == end - begin,
        "keys": sorted({*book.columns, DISTANCE} - {"step"}),
    }


def _rows(book: Book, keys: Sequence[str], begin: int, end: int, points: int) -> list[int]:
    """Return the rows that stay: all, or the first, the last and the extremes of each stretch."""
    count = end - begin
    if count <= points:
        return list(range(begin, end))
    # Each column may add two rows to a stretch, and the two ends come on top.
    stretches = (points - 2) // (2 * len(keys))
    length = -(-count // stretches)
    chosen = [np.array([0, count - 1])]
    for key in keys:
        padded = np.full(stretches * length, np.nan)
        padded[:count] = book.numbers(key)[begin:end]
        parts = padded.reshape(stretches, length)
        places = length * np.arange(stretches)
        for fill, extreme in ((np.inf, np.argmin), (-np.inf, np.argmax)):
            found = places + extreme(np.where(np.isnan(parts), fill, parts), axis=1)
            chosen.append(found[~np.isnan(padded[found])])  # nothing of a stretch in which nothing was measured
    return (begin + np.unique(np.concatenate(chosen))).tolist()
