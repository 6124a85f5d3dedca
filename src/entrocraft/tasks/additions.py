"""Short additions for chat models: a hard case for entropy control.

A small chat model first answers in sentences. Reinforcement drops the chatter within ten steps, and
entropy falls with it, because short confident answers displace long uncertain ones.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from entrocraft.errors import InvalidValueError
from entrocraft.grading.numbers import last_number
from entrocraft.tasks.base import Problem, Split, Task, check_num_problems

_MOST = 10**9  # that is added; sums have ten digits, a token each


@dataclass(frozen=True)
class Additions(Task):
    """Additions of two numbers from 1 to `max_number`, asked as "What is a + b?"; the answer's last number counts.

    Sums whose `(a + 3 b) % 5` is 0 are kept for `test`. There are few sums, so problems repeat.

    Raises:
        InvalidValueError: `max_number` is less than 3, which leaves one of the splits nothing, or too large for answers
            of 12 tokens.
    """

    max_number: int = 9
    """Largest number that is added."""

    name = "additions"
    max_completion_tokens = 12

    def __post_init__(self) -> None:
        if not 3 <= self.max_number <= _MOST:
            raise InvalidValueError(
                f"additions: max_number must be at least 3 and at most {_MOST:,}, got {self.max_number}"
            )

    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        check_num_problems(split, num_problems, self.name)
        rng = random.Random(f"additions-{split}-{seed}")
        found: list[Problem] = []
        while len(found) < num_problems:
            a, b = rng.randint(1, self.max_number), rng.randint(1, self.max_number)
            if ((a + 3 * b) % 5 == 0) == (split == "test"):
                question = f"What is {a} + {b}? Answer with just the number."
                found.append({"prompt": [{"role": "user", "content": question}], "answer": a + b})
        return found

    def score(self, completion: str, problem: Mapping[str, int]) -> float:
        """Return 1.0 if the last number of `completion` is the sum, else 0.0.

        Example:
            >>> Additions().score("2 + 3 is 5.", {"answer": 5})
            1.0
        """
        return float(last_number(completion) == str(problem["answer"]))
