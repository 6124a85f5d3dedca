"""Errors that a user can cause, said in one line: what was got, what was expected, what to do.

Every error a user can cause derives from `EntrocraftError` *and* from the standard class that fits,
so that `except ValueError` keeps working in code that has never heard of this library.
"""

import difflib
import re
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a hint at the nearest known name, or nothing if none is near."""
    close = difflib.get_close_matches(str(name)[:100], sorted(known), n=1)
    return f" did you mean {close[0]!r}?" if close else ""


_NOT_READABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MOST_CHARACTERS = 1200
"""Characters of an error's message: what a user gave may be a megabyte long."""


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text with its middle left out if it is longer than `most` characters.

    Example:
        >>> shortened("a" * 30, most=20)
        'aaaaaaaaaa ... aaaaa'
    """
    if len(text) <= most:
        return text
    tail = (most - 5) // 3
    return f"{text[: most - 5 - tail]} ... {text[-tail:]}"


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, with the next if it ends in a colon; else the kind of error.

    Example:
        >>> first_line(ValueError("not valid:\\n  a is 3\\nsee above"))
        'not valid: a is 3'
    """
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return shortened(f"{first} {others[0]}" if first.endswith(":") and others else first)


def os_error_line(error: OSError) -> str:
    """Return what an operating system's error is about and its cause, in one line.

    Example:
        >>> os_error_line(OSError(28, "No space left on device", "out/report.md"))
        'out/report.md: No space left on device'
    """
    if error.errno is None or error.strerror is None:
        return first_line(error)
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return shortened(": ".join([*(shortened(path, 300) for path in paths), error.strerror]))


class EntrocraftError(Exception):
    """Base of every error that this library raises on purpose.

    Each is one of Python's own as well, such as `ValueError`. The message is one line: what was got, what was expected,
    what to do; a long one is shortened.

    Example:
        >>> import entrocraft as ec
        >>> try:
        ...     ec.linear(-0.6, 0.2)
        ... except ec.EntrocraftError as error:
        ...     print(error)
        linear: start must be finite and at least 0, got -0.6
    """

    def __init__(self, message: object = "", *more: object):
        super().__init__(readable(shortened(str(message))), *more)


def readable(text: str) -> str:
    r"""Return text with escapes in place of line breaks, other commands to a terminal, and halves of characters.

    Example:
        >>> readable("no key 'a\nb'")
        "no key 'a\\nb'"
    """
    return _NOT_READABLE.sub(lambda match: repr(match.group())[1:-1], text)


USER_ERRORS = (EntrocraftError, OSError, UnicodeError)
"""What is said in one line, without a trace."""


def user_error_line(error: BaseException) -> str:
    """Return what is said of an error of `USER_ERRORS`.

    Example:
        >>> user_error_line(OSError(28, "No space left on device", "out/report.md"))
        'out/report.md: No space left on device'
    """
    if isinstance(error, OSError) and not isinstance(error, EntrocraftError):
        return os_error_line(error)
    if isinstance(error, UnicodeError) and not isinstance(error, EntrocraftError):
        return f"text that is no UTF-8, such as half of an emoji: {first_line(error)}"
    return str(error)


class InvalidValueError(EntrocraftError, ValueError):
    """A value that cannot be used: out of range, not finite, of the wrong type, or inconsistent."""


class UnknownNameError(EntrocraftError, ValueError):
    """A name that is not registered: a schedule type, a method, a task, an estimator, a config key."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str]) -> "UnknownNameError":
        """Build the message, suggesting the nearest known name if one is close.

        Example:
            >>> str(UnknownNameError.of("schedule", "linaer", ["linear", "cosine"]))
            "unknown schedule 'linaer': did you mean 'linear'? Known: cosine, linear"
        """
        names = sorted(known)
        return cls(
            f"unknown {kind} {shortened(str(name), 100)!r}:{did_you_mean(name, names)} Known: {', '.join(names)}"
        )


class MissingDependencyError(EntrocraftError, ImportError):
    """An optional package is needed for what was asked."""


class MeasurementError(EntrocraftError, RuntimeError):
    """A measured quantity (entropy, advantage, reward) is NaN, infinite or missing."""


class RunDirectoryError(EntrocraftError, RuntimeError):
    """The run directory is in use, is not a run, or does not fit what was asked of it."""


class RewardError(EntrocraftError, RuntimeError):
    """A reward function raised, or returned what is no reward."""
