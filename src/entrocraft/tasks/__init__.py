"""Tasks by name: problems with a verifier. Add one by adding a class and a line below."""

from collections.abc import Callable
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.tasks.additions import Additions
from entrocraft.tasks.base import Problem, Split, Task
from entrocraft.tasks.countdown import Countdown

_TASKS: dict[str, Callable[..., Task]] = {"additions": Additions, "countdown": Countdown}


def available() -> list[str]:
    """Return the names that `build` knows."""
    return sorted(_TASKS)


def build(name: str, **options: Any) -> Task:
    """Build the task `name`.

    Raises:
        UnknownNameError: No task has that name.
        InvalidValueError: An option is unknown or out of range.

    Example:
        >>> build("countdown", max_target=24).problems("train", 1, seed=0)[0]["target"] <= 24
        True
    """
    if name not in _TASKS:
        raise UnknownNameError.of("task", name, _TASKS)
    try:
        return _TASKS[name](**options)
    except TypeError as error:
        raise InvalidValueError(f"task {name!r}: {error}") from error


__all__ = ["Additions", "Countdown", "Problem", "Split", "Task", "available", "build"]
