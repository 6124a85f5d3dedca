"""Rewards of a user's own: functions in TRL's signature, checked at each call."""

import inspect
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from itertools import islice
from threading import Timer
from typing import Any, cast

from entrocraft.errors import RewardError, first_line
from entrocraft.grading.time_limit import time_limited
from entrocraft.registry import build_with, load_function, name_and_options

_PATIENCE_SECONDS = 60.0
"""Time after which a call of a reward without a time limit is warned of."""


def own_reward(spec: str | Mapping[str, Any]) -> "OwnReward | None":
    """Return the reward that an import path names; None if `spec` is no import path but the name of a verifier.

    Args:
        spec: Import path, `package.module:function`, or a mapping of that, as `name`, and options of `OwnReward`.

    Raises:
        InvalidValueError: There is no such function, or an option cannot be used.
    """
    name, options = name_and_options(spec)
    if not isinstance(name, str) or ":" not in name:
        return None
    return build_with(partial(OwnReward, name), options, f"reward {name!r}")


class OwnReward:
    """A function `reward(completions, **columns) -> list of numbers` of a user's own.

    What it raises or returns amiss is said with the sample that is to blame.

    Args:
        spec: Import path of the function, `package.module:function`.
        seconds: Time for one completion. The function then runs in processes of its own, for one completion at a time,
            with what JSON can hold of its columns; it can write no files and open no connections. A completion that
            takes longer scores 0, which is warned of once and counted. By default it runs in this process, on whole
            batches, however long it takes.

    Raises:
        InvalidValueError: There is no such function, or `seconds` is not positive and finite.
        RewardError: At a call, the function raised, or did not return one finite number per completion.
    """

    def __init__(self, spec: str, seconds: float | None = None):
        self.spec = spec
        self.function: Callable[..., Any] = load_function(spec, "reward")
        self._limited = None if seconds is None else time_limited(spec, seconds)

    def __call__(self, completions: Sequence[Any], /, **columns: Any) -> list[float]:
        if self._limited is not None:
            return self._one_by_one(completions, columns)
        try:
            with self._impatience(completions, columns):
                rewards = _listed(self.function(completions=list(completions), **columns), len(completions))
        except (Exception, SystemExit) as error:
            raise RewardError(f"{self._blame(completions, columns)}: {_one_line(error)}") from error
        if inspect.isawaitable(rewards):
            cast(Any, rewards).close()
            raise RewardError(
                f"reward {self.spec!r} is a coroutine; give a function that returns the list of numbers itself"
            )
        if not isinstance(rewards, list):
            raise RewardError(
                f"reward {self.spec!r} must return a list of numbers, got {_shown(rewards)} for "
                f"{_first(completions, columns)}"
            )
        if len(rewards) != len(completions):
            raise RewardError(
                f"reward {self.spec!r} must return one number per completion, got {len(rewards)} for "
                f"{len(completions)}, the first of which is {_first(completions, columns)}"
            )
        for i, reward in enumerate(rewards):
            if not _is_number(reward):
                raise RewardError(
                    f"reward {self.spec!r} must return finite numbers, got {_shown(reward)} for "
                    f"{_sample(completions, columns, i)}"
                )
        return [float(reward) for reward in rewards]

    def _one_by_one(self, completions: Sequence[Any], columns: dict[str, Any]) -> list[float]:
        """Return the rewards, each from a call of its own with a time limit."""
        assert self._limited is not None
        # Of what TRL gives, only columns reach the other process: one value for each completion.
        per_sample = {name: values for name, values in columns.items() if _is_column(values, len(completions))}
        calls = [
            {"completions": [completion]} | {name: [values[i]] for name, values in per_sample.items()}
            for i, completion in enumerate(completions)
        ]
        try:
            rewards = self._limited.map(calls, late=[0.0])
        except (TypeError, ValueError) as error:  # arguments that are no JSON
            unwritten = [name for name, values in per_sample.items() if not _is_json(values)]
            if not unwritten:
                raise
            raise RewardError(
                f"reward {self.spec!r} has a time limit, and is given what JSON can hold: column {unwritten[0]!r} is "
                f"more ({error}). Leave out the column, or `seconds`"
            ) from error
        for i, reward in enumerate(rewards):
            if not isinstance(reward, list) or len(reward) != 1 or not _is_number(reward[0]):
                raise RewardError(
                    f"reward {self.spec!r} must return a list of one finite number for one completion, got "
                    f"{_shown(reward)} for {_sample(completions, columns, i)}"
                )
        return [float(reward) for (reward,) in rewards]

    @contextmanager
    def _impatience(self, completions: Sequence[Any], columns: dict[str, Any]) -> Iterator[None]:
        """Warn within this context of a call that takes long, lest a run hang without a word."""
        message = (
            f"reward {self.spec!r} has been at work for {_PATIENCE_SECONDS:g} s on {len(completions)} completions, the "
            f"first of which is {_first(completions, columns)}. If it hangs: "
            f"`reward: {{name: '{self.spec}', seconds: 5}}` gives each completion a time limit"
        )
        timer = Timer(_PATIENCE_SECONDS, warnings.warn, (message,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _blame(self, completions: Sequence[Any], columns: dict[str, Any]) -> str:
        """Return a message that names the first sample on which the function raises alone, if there is one."""
        for i in range(len(completions)):
            one = {
                name: values[i : i + 1] if _is_column(values, len(completions)) else values
                for name, values in columns.items()
            }
            try:
                _listed(self.function(completions=list(completions[i : i + 1]), **one), 1)
            except (Exception, SystemExit):
                return f"reward {self.spec!r} raised on {_sample(completions, columns, i)}"
        return f"reward {self.spec!r} raised on a batch of {len(completions)} completions"


def _listed(rewards: Any, expected: int) -> Any:
    """Return rewards as a list; as they are, what has no order, is no row of numbers or is nothing of the kind."""
    if isinstance(rewards, str | bytes | Mapping | Set) or getattr(rewards, "ndim", 1) != 1:
        return rewards
    if isinstance(rewards, Iterator):  # which need not end
        return list(islice(rewards, expected + 1))
    return list(rewards) if isinstance(rewards, Iterable) else rewards


def _shown(value: Any) -> str:
    """Return a value as one short line, with its type where that says more."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}... ({type(value).__name__})"


def _one_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__


def _is_number(value: Any) -> bool:
    if getattr(value, "ndim", 0):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_column(values: Any, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == length


def _first(completions: Sequence[Any], columns: dict[str, Any]) -> str:
    return _sample(completions, columns, 0) if completions else "no sample"


def _sample(completions: Sequence[Any], columns: dict[str, Any], i: int) -> str:
    prompts = columns.get("prompts") or columns.get("prompt") or [None] * len(completions)
    return f"sample {i + 1} of {len(completions)}: prompt {prompts[i]!r:.160}, completion {completions[i]!r:.160}"
