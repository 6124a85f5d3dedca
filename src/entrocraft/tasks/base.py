"""The interface of tasks: problems with a prompt, split into train and test, and scores of answers."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.grading.time_limit import tally

Split = Literal["train", "test"]
Problem = dict[str, Any]
"""One problem: a `prompt`, text or chat messages, and the columns that the verifier needs."""

MOST_PROBLEMS = 1_000_000
"""Problems that are made on demand, at most: they are held in memory."""
_MOST_TOKENS = 1_000_000

CORRECT = 0.5
"""Score above which an answer is right."""


class Task(ABC):
    """Problems and a verifier.

    A subclass gives seeded, reproducible problems whose `test` split shares none with `train`, and
    scores completions. `reward` adapts the verifier to TRL's reward signature.
    """

    name: str
    """Name of the task in settings and reports."""

    max_completion_tokens: int
    """Number of tokens after which an answer is cut unless a run says otherwise; no right answer should be longer."""

    reads_prompts: bool = False
    """Whether the verifier needs a problem's prompt, and not its columns alone."""

    reads_tokens: bool = False
    """Whether `scores` takes the completions' tokens, too: `completion_ids`, a list of token ids for each."""

    sampling: Mapping[str, Any] = {}
    """Fields of `SamplingConfig` by which evaluations draw answers unless told otherwise."""

    scored_by: Callable[..., Any] | None = None
    """A function of the user's own that scores answers, for tasks that take one."""

    decided: Mapping[str, Any] = {}
    """Options that were left to the data, as they turned out; empty until data are read."""

    @abstractmethod
    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return `num_problems` problems of `split`, the same ones for the same arguments."""

    @abstractmethod
    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return the reward of `completion`: 1.0 if it solves `problem`, else 0.0; or something between."""

    def size(self, split: Split) -> int | None:
        """Return how many problems `split` holds; None if they are made on demand."""
        return None

    def problems_up_to(self, split: Split, most: int, seed: int = 0) -> list[Problem]:
        """Return `most` problems of `split`, or all of them if there are fewer; see `problems`."""
        size = self.size(split)
        return self.problems(split, most if size is None else min(most, size), seed)

    def problems_asked_for(self, split: Split, num_problems: int | None, most: int, seed: int = 0) -> list[Problem]:
        """Return `num_problems` problems of `split`, or, where that is None, `most` of them at most."""
        if num_problems is None:
            return self.problems_up_to(split, most, seed)
        return self.problems(split, num_problems, seed)

    def place_of(self, problem: Mapping[str, Any]) -> str:
        """Return where a problem's prompt comes from, for messages: file, row and column, if it is from a file."""
        return f"a problem of {self.name}"

    def scores(self, completions: Sequence[str], problems: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the reward of each completion; `problems` names the problem of each."""
        return [self.score(completion, problem) for completion, problem in zip(completions, problems, strict=True)]

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        """Return what each completion answers, equal text for equal answers; None if it answers nothing.

        Majorities and the number of distinct answers compare these. By default the whole text is the answer.
        """
        return [completion.strip() or None for completion in completions]

    def reward(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """Score a batch in TRL's reward-function signature: one list per column of the problems."""
        # TRL also passes scalars and objects of its own (trainer_state, log_metric, ...).
        per_sample = {
            name: values
            for name, values in columns.items()
            if isinstance(values, Sequence) and len(values) == len(completions)
        }
        problems = [{name: values[i] for name, values in per_sample.items()} for i in range(len(completions))]
        with late_graders_logged(columns.get("log_metric")):
            return self.scores([text_of(completion) for completion in completions], problems)


def check_completion_tokens(max_completion_tokens: int, name: str) -> None:
    """Refuse a length of answers that is none, or that no model has room for.

    Raises:
        InvalidValueError: It is less than 1 or more than a million.
    """
    if not 1 <= max_completion_tokens <= _MOST_TOKENS:
        raise InvalidValueError(
            f"{name}: max_completion_tokens must be at least 1 and at most {_MOST_TOKENS:,}, "
            f"got {max_completion_tokens}"
        )


def check_request(split: str, num_problems: int, name: str) -> None:
    """Refuse a request for problems of no split, or for no number of them.

    Raises:
        UnknownNameError: There is no such split.
        InvalidValueError: The number is no whole number, or negative.
    """
    if split not in get_args(Split):
        raise UnknownNameError.of("split", split, get_args(Split))
    if isinstance(num_problems, bool) or not hasattr(num_problems, "__index__") or num_problems < 0:
        raise InvalidValueError(f"{name}: expected a number of problems, 0 or more, got {num_problems!r:.80}")


def check_num_problems(split: str, num_problems: int, name: str) -> None:
    """Refuse more problems than are made on demand, and what `check_request` does.

    Raises:
        UnknownNameError: There is no such split.
        InvalidValueError: There are more than a million, or it is no number.
    """
    check_request(split, num_problems, name)
    if num_problems > MOST_PROBLEMS:
        raise InvalidValueError(
            f"{name}: {num_problems} problems were asked for, and at most {MOST_PROBLEMS:,} are made; ask for fewer"
        )


@contextmanager
def late_graders_logged(log_metric: Callable[[str, float], None] | None) -> Iterator[None]:
    """Log how many calls of graders came to nothing here, if there is a log and any were made under a time limit."""
    before = tally()
    yield
    calls = tally().since(before)
    if calls.made and log_metric is not None:
        log_metric("entrocraft/late_graders", float(calls.lost))


def text_of(completion: Any) -> str:
    """Return the text of a completion; of one in chat messages, the content of the last message."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def is_held_out(key: str, share: float = 0.1) -> bool:
    """Return whether the problem that `key` names belongs to `test`, by a hash of the key and nothing else.

    So neither a seed nor the order of the data can carry a test problem into training.

    Args:
        key: Text that is the same for the same problem, such as its prompt.
        share: Share of all problems that is held out, 0 to 1.

    Example:
        >>> sum(is_held_out(str(i)) for i in range(1000))
        115
    """
    return zlib.crc32(key.encode()) % 10_000 < share * 10_000
