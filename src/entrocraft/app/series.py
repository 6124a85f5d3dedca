"""Columns of a run thinned out for a chart: whole where there are few, else what stands out of each stretch."""

from collections.abc import Sequence
from itertools import pairwise
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
    steps = np.asarray(book.columns["step"])
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
    columns = [np.asarray(book.numbers(key))[begin:end] for key in keys]
    # Each column may add two rows to a stretch, and the two ends come on top.
    stretches = (points - 2) // (2 * len(keys))
    edges = np.linspace(0, count, stretches + 1).astype(int)
    chosen = {0, count - 1}
    for low, high in pairwise(edges.tolist()):
        for column in columns:
            part = column[low:high]
            if not np.isnan(part).all():
                chosen |= {int(low + np.nanargmin(part)), int(low + np.nanargmax(part))}
    return [begin + index for index in sorted(chosen)]
