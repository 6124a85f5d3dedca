"""Errors that a user can cause, said in one line: what was got, what was expected, what to do.

Every error a user can cause derives from `EntrocraftError` *and* from the standard class that fits,
so that `except ValueError` keeps working in code that has never heard of this library.
"""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a hint at the nearest known name, or nothing if none is near."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f" did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, or the kind of error if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class EntrocraftError(Exception):
    """Base of every error this library raises on purpose."""


class InvalidValueError(EntrocraftError, ValueError):
    """A value that cannot be used: out of range, not finite, of the wrong type, or inconsistent."""


class UnknownNameError(EntrocraftError, ValueError):
    """A name that is not registered: a schedule type, a rule, a task, an estimator, a config key."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str]) -> "UnknownNameError":
        """Build the message, suggesting the nearest known name if one is close.

        Example:
            >>> str(UnknownNameError.of("schedule", "linaer", ["linear", "cosine"]))
            "unknown schedule 'linaer': did you mean 'linear'? Known: cosine, linear"
        """
        names = sorted(known)
        return cls(f"unknown {kind} {str(name)!r}:{did_you_mean(name, names)} Known: {', '.join(names)}")


class MissingDependencyError(EntrocraftError, ImportError):
    """An optional package is needed for what was asked."""


class MeasurementError(EntrocraftError, RuntimeError):
    """A measured quantity (entropy, advantage, reward) is NaN, infinite or missing."""


class RunDirectoryError(EntrocraftError, RuntimeError):
    """The run directory is in use, is not a run, or does not fit what was asked of it."""


class RewardError(EntrocraftError, RuntimeError):
    """A reward function raised, or returned what is no reward."""
