"""Which cases of a test belong to the fast suite."""

from typing import Any

import pytest


def fast_first(first: Any, *others: Any) -> list[Any]:
    """Return cases of which the first is in the fast suite and the others are marked slow."""
    return [first, *(_slow(other) for other in others)]


def fast_some(num_fast: int, cases: list[Any]) -> list[Any]:
    """Return cases of which so many, spread over the list, are in the fast suite and the others are marked slow.

    Args:
        num_fast: Cases of the fast suite.
        cases: All of them; a tuple is a case of several arguments.
    """
    fast = {round(i * (len(cases) - 1) / max(num_fast - 1, 1)) for i in range(num_fast)}
    return [case if i in fast else _slow(case) for i, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
