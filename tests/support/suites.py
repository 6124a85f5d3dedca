"""Which cases of a test belong to the fast suite."""

from typing import Any

import pytest


def fast_first(first: Any, *others: Any) -> list[Any]:
    """Return cases of which the first is in the fast suite and the others are marked slow."""
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others)]
