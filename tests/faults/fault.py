"""One fault that can be tried."""

from collections.abc import Callable
from dataclasses import dataclass

from faults.bench import Bench, Verdict


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and how to make it go wrong."""

    kind: str
    name: str
    happen: Callable[[Bench], Verdict]
    """Tries it, goes on as a person would, and returns the verdict."""
