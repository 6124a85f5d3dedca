"""Answers by regular expression; a user's own runs in the processes of `time_limit`."""

import re

from entrocraft.errors import InvalidValueError


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that is no regular expression.

    Raises:
        InvalidValueError: Python cannot compile the pattern.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidValueError(f"reward 'regex': {pattern!r:.200} is no regular expression: {error}") from error


def last_match(pattern: str, text: str) -> str | None:
    """Return the first group of the last match, or all of it if there are no groups; None without one.

    Example:
        >>> last_match(r"#### (.*)", "#### 1, no: #### 2")
        '1, no: #### 2'
        >>> last_match(r"\\d", "1 or 2")
        '2'
    """
    matches = list(re.finditer(pattern, text))
    if not matches:
        return None
    return (matches[-1].group(1 if matches[-1].re.groups else 0) or "").strip() or None
