"""What a task is: problems with a prompt, split into train and test, and a verifier that scores answers."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from entrocraft.grading.time_limit import total_late

Split = Literal["train", "test"]
Problem = dict[str, Any]
"""One problem: a `prompt`, text or chat messages, and the columns that the verifier needs."""

CORRECT = 0.5
"""A score above it is a right answer."""


class Task(ABC):
    """Problems and a verifier.

    A subclass gives seeded, reproducible problems whose `test` split shares none with `train`, and
    scores completions. `reward` adapts the verifier to TRL's reward signature.
    """

    name: str
    max_completion_tokens: int
    """Where an answer is cut unless a run says otherwise: no correct answer should be longer."""

    reads_prompts: bool = False
    """True if the verifier needs a problem's prompt, and not its columns alone."""

    reads_tokens: bool = False
    """True if `scores` takes the completions' tokens, too: `completion_ids`, a list of token ids for each."""

    sampling: Mapping[str, Any] = {}
    """How evaluations draw answers unless told otherwise: fields of `SamplingConfig`."""

    @abstractmethod
    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return `num_problems` problems of `split`, the same ones for the same arguments."""

    @abstractmethod
    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return the reward of `completion`: 1.0 if it solves `problem`, else 0.0; or something between."""

    def size(self, split: Split) -> int | None:
        """Return how many problems `split` holds; None if more than anyone will ask for."""
        return None

    def problems_up_to(self, split: Split, most: int, seed: int = 0) -> list[Problem]:
        """Return `most` problems of `split`, or all there are; see `problems`."""
        size = self.size(split)
        return self.problems(split, most if size is None else min(most, size), seed)

    def problems_asked_for(self, split: Split, num_problems: int | None, most: int, seed: int = 0) -> list[Problem]:
        """Return `num_problems` problems of `split`; where none are asked for, `problems_up_to` so many."""
        if num_problems is None:
            return self.problems_up_to(split, most, seed)
        return self.problems(split, num_problems, seed)

    def place_of(self, problem: Mapping[str, Any]) -> str:
        """Return where the prompt of a problem stands, for who must mend it: file, row and column, if it is from a file."""
        return f"a problem of {self.name}"

    def scores(self, completions: Sequence[str], problems: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the reward of each completion of each problem."""
        return [self.score(completion, problem) for completion, problem in zip(completions, problems, strict=True)]

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        """Return what each completion answers, such that equal answers are equal text; None if it answers nothing.

        Majority voting and the count of distinct answers compare these. By default the whole text counts.
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
        scores = self.scores([text_of(completion) for completion in completions], problems)
        log_late_graders(columns.get("log_metric"))
        return scores


def log_late_graders(log_metric: Callable[[str, float], None] | None) -> None:
    """Log how many calls of graders have taken too long, if there is a log and anything has a time limit."""
    late = total_late()
    if late is not None and log_metric is not None:
        log_metric("entrocraft/late_graders", float(late))


def text_of(completion: Any) -> str:
    """Return the text of a completion: itself, or, of a chat, what the last message says."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def is_held_out(key: str, share: float = 0.1) -> bool:
    """Return whether the problem that `key` names belongs to `test`, by a hash of it and nothing else.

    No seed and no order of the data can so carry a test problem into training.

    Example:
        >>> sum(is_held_out(str(i)) for i in range(1000))
        115
    """
    return zlib.crc32(key.encode()) % 10_000 < share * 10_000
