"""Parity of a row of bits, answered at once or after working it out: a choice between two strategies.

A model that answers at once can hardly be right more often than by chance; one that works through the bits can always
be. Where a base model is better at the first than at the second, reinforcement prefers it, and the second is never
learnt: a small case of losing what exploration would have found.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entrocraft.errors import InvalidValueError
from entrocraft.tasks.base import Problem, Split, Task, check_num_problems, is_held_out

_MOST_BITS = 24
_TEST_SHARE = 0.2
_ANSWER = re.compile(r"(?::[01]+=)?(?P<answer>[01])")


@dataclass(frozen=True)
class Parity(Task):
    """Whether the number of ones among `num_bits` bits is odd: `10110=` is answered `1`, or `:11011=1` with working.

    Only the answer is graded. Working is any row of bits between a colon and an equals sign; written well, it is the
    parity of the first bit, of the first two, and so on. A fifth of the rows is kept for `test`.

    Raises:
        InvalidValueError: There are fewer than 4 bits or more than 24, or `last_bit_right` is no share.
    """

    num_bits: int = 12
    """How many bits a problem has."""
    last_bit_right: float = 0.5
    """Share of problems whose last bit is their parity: how often who only repeats it is right."""

    name = "parity"

    def __post_init__(self) -> None:
        if not 0.0 <= self.last_bit_right <= 1.0:
            raise InvalidValueError(f"parity: last_bit_right must be 0 to 1, got {self.last_bit_right}")
        if not 4 <= self.num_bits <= _MOST_BITS:
            raise InvalidValueError(
                f"parity: num_bits must be at least 4 and at most {_MOST_BITS}, got {self.num_bits}"
            )

    @property
    def max_completion_tokens(self) -> int:  # type: ignore[override]
        """Number of tokens of a whole working, where every character is one: colon, bits, equals sign, answer, end."""
        return self.num_bits + 4

    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        check_num_problems(split, num_problems, self.name)
        rng = random.Random(f"parity-{split}-{seed}")
        return [self._problem(split, rng, is_right=rng.random() < self.last_bit_right) for _ in range(num_problems)]

    def _problem(self, split: Split, rng: random.Random, *, is_right: bool) -> Problem:
        """Return a problem whose last bit is its parity, or is not."""
        while True:
            bits = "".join(rng.choices("01", k=self.num_bits))
            parity = str(bits.count("1") % 2)
            if self.split_of(bits) == split and (bits[-1] == parity) == is_right:
                return {"prompt": f"{bits}=", "answer": parity}

    def split_of(self, bits: str) -> Split:
        """Return the split that a row of bits belongs to."""
        return "test" if is_held_out(bits, _TEST_SHARE) else "train"

    def score(self, completion: str, problem: Mapping[str, str]) -> float:
        """Return 1.0 if `completion` gives the parity, at once or after working, else 0.0.

        Example:
            >>> Parity().score(":1101=1", {"answer": "1"}), Parity().score(":1101", {"answer": "1"})
            (1.0, 0.0)
        """
        match = _ANSWER.fullmatch(completion)
        return float(match is not None and match["answer"] == problem["answer"])

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        matches = [_ANSWER.fullmatch(completion) for completion in completions]
        return [match and match["answer"] for match in matches]
