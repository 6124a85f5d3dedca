"""What a task is: problems with a prompt, split into train and test, and a verifier that scores answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Split = Literal["train", "test"]
Problem = dict[str, Any]
"""One problem: a `prompt`, text or chat messages, and the columns that the verifier needs."""


class Task(ABC):
    """Problems and a verifier.

    A subclass gives seeded, reproducible problems whose `test` split shares none with `train`, and
    scores one completion at a time. `reward` adapts the verifier to TRL's reward signature.
    """

    name: str
    max_completion_tokens: int
    """A completion length, in tokens of the embedded model, that no correct answer exceeds."""

    @abstractmethod
    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return `num_problems` problems of `split`, the same ones for the same arguments."""

    @abstractmethod
    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return the reward of `completion`: 1.0 if it solves `problem`, else 0.0."""

    def reward(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """Score a batch in TRL's reward-function signature: one list per column of the problems."""
        # TRL also passes scalars and objects of its own (trainer_state, log_metric, ...).
        per_sample = {
            name: values
            for name, values in columns.items()
            if isinstance(values, Sequence) and len(values) == len(completions)
        }
        return [
            self.score(text_of(completion), {name: values[i] for name, values in per_sample.items()})
            for i, completion in enumerate(completions)
        ]


def text_of(completion: Any) -> str:
    """Return the text of a completion: itself, or, of a chat, what the last message says."""
    return completion if isinstance(completion, str) else completion[-1]["content"]
