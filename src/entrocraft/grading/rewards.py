"""Rewards of the user's own, in TRL's signature, checked at each call."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from entrocraft.errors import RewardError
from entrocraft.grading.functions import load_function


class OwnReward:
    """A function `reward(completions, **columns) -> list of numbers`, named `package.module:function`.

    What it raises or returns amiss is said with the sample that is to blame.

    Raises:
        InvalidValueError: There is no such function.
        RewardError: At a call, it raised, or did not return one finite number per completion.
    """

    def __init__(self, spec: str):
        self.spec = spec
        self._function: Callable[..., Any] = load_function(spec)

    def __call__(self, completions: Sequence[Any], /, **columns: Any) -> list[float]:
        try:
            rewards = self._function(completions=completions, **columns)
            rewards = list(rewards) if isinstance(rewards, Iterable) else rewards
        except (Exception, SystemExit) as error:
            raise RewardError(f"{self._blame(completions, columns)}: {type(error).__name__}: {error}") from error
        if inspect.isawaitable(rewards):
            cast(Any, rewards).close()
            raise RewardError(
                f"reward {self.spec!r} is a coroutine; give a function that returns the list of numbers itself"
            )
        if not isinstance(rewards, list):
            raise RewardError(
                f"reward {self.spec!r} must return a list of numbers, got {rewards!r:.80} for {_first(completions, columns)}"
            )
        if len(rewards) != len(completions):
            raise RewardError(
                f"reward {self.spec!r} must return one number per completion, got {len(rewards)} for {len(completions)}, "
                f"the first of which is {_first(completions, columns)}"
            )
        for i, reward in enumerate(rewards):
            if not _is_number(reward):
                raise RewardError(
                    f"reward {self.spec!r} must return finite numbers, got {reward!r:.80} for "
                    f"{_sample(completions, columns, i)}"
                )
        return [float(reward) for reward in rewards]

    def _blame(self, completions: Sequence[Any], columns: dict[str, Any]) -> str:
        """Return which sample makes the function raise on its own, if one does."""
        for i in range(len(completions)):
            one = {
                name: values[i : i + 1] if _is_column(values, len(completions)) else values
                for name, values in columns.items()
            }
            try:
                rewards = self._function(completions=completions[i : i + 1], **one)
                _ = list(rewards) if isinstance(rewards, Iterable) else rewards
            except (Exception, SystemExit):
                return f"reward {self.spec!r} raised on {_sample(completions, columns, i)}"
        return f"reward {self.spec!r} raised on a batch of {len(completions)} completions"


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_column(values: Any, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == length


def _first(completions: Sequence[Any], columns: dict[str, Any]) -> str:
    return _sample(completions, columns, 0) if completions else "no sample"


def _sample(completions: Sequence[Any], columns: dict[str, Any], i: int) -> str:
    prompts = columns.get("prompts") or columns.get("prompt") or [None] * len(completions)
    return f"sample {i + 1} of {len(completions)}: prompt {prompts[i]!r:.160}, completion {completions[i]!r:.160}"
