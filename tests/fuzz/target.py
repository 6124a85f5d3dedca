"""What is fuzzed: a way to draw cases, and a way to try one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Case = Any
"""What JSON can hold; bytes stand in it as text of the characters 0 to 255."""
Outcome = Literal["accepted", "refused"]


class SilentlyWrong(AssertionError):
    """Something was accepted and gives another result than an independent reading of it."""


class Unbounded(Exception):
    """A process was ended because it took too long."""


@dataclass(frozen=True)
class Target:
    """One reader, or one family of them."""

    name: str
    draw: Callable[[Random], Case]
    """Makes a case out of random numbers and nothing else."""
    try_case: Callable[[Case], Outcome]
    """Gives a case to the reader. Errors of this library and of the system come out of it, as from the reader."""
    cpu_seconds: float = 2.0
    """Processor time that a case may take."""
    wall_seconds: float = 30.0
    """Time that a case may take on a machine that has other work, waiting for other processes included."""
    prepare: Callable[[], None] = lambda: None
    """Makes many cases faster; called once before them."""
    labels: Callable[[Case], Sequence[str]] = lambda case: ()
    """Names kinds of cases, which are counted."""


MOST_CHARACTERS = 2000
"""Length of an error's message."""


def fault_of_message(message: str) -> str:
    """Return what is wrong with an error's message; nothing if it is one line that can be read."""
    if len(message) > MOST_CHARACTERS:
        return f"a message of {len(message):,} characters"
    if not message.strip():
        return "no message"
    return f"a message of several lines: {message[:300]!r}" if len(message.splitlines()) > 1 else ""


def expect(holds: bool, what: str) -> None:
    """Raise `SilentlyWrong` unless something holds."""
    if not holds:
        raise SilentlyWrong(what)
