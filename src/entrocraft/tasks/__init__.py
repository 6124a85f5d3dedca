"""Tasks by name: problems with a verifier. Add one by adding a class and a line below."""

from collections.abc import Callable
from functools import partial
from typing import Any

from entrocraft.errors import UnknownNameError
from entrocraft.registry import build_with
from entrocraft.tasks.additions import Additions
from entrocraft.tasks.base import Problem, Split, Task
from entrocraft.tasks.benchmarks import BENCHMARKS, build_benchmark
from entrocraft.tasks.countdown import Countdown
from entrocraft.tasks.dataset import DatasetTask
from entrocraft.tasks.parity import Parity
from entrocraft.tasks.procedural import ReasoningGym

TASKS: dict[str, Callable[..., Task]] = {
    "additions": Additions,
    "countdown": Countdown,
    "dataset": DatasetTask,
    "parity": Parity,
    "reasoning-gym": ReasoningGym,
    **{name: partial(build_benchmark, name) for name in BENCHMARKS},
}
"""All tasks of this library, by name."""


def available() -> list[str]:
    """Return the names that `build` knows."""
    return sorted(TASKS)


def build(name: str, /, **options: Any) -> Task:
    """Build the task `name`.

    Args:
        name: Name of a task, one of `available()`; `reasoning-gym/NAME` is `reasoning-gym` with that data set.
        options: Options of the task, the arguments of its constructor.

    Raises:
        UnknownNameError: No task or option has that name.
        InvalidValueError: An option is missing, of another type or out of range.

    Example:
        >>> build("countdown", max_target=24).problems("train", 1, seed=0)[0]["target"] <= 24
        True
    """
    family, separator, dataset = str(name).partition("/")
    if separator and family == "reasoning-gym":
        name, options = family, {"dataset": dataset} | options
    if name not in TASKS:
        raise UnknownNameError.of("task", name, TASKS)
    return build_with(TASKS[name], options, f"task {name!r}")


__all__ = [
    "Additions",
    "Countdown",
    "DatasetTask",
    "Parity",
    "Problem",
    "ReasoningGym",
    "Split",
    "Task",
    "available",
    "build",
]
