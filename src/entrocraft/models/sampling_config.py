"""How answers are drawn from a model: settings alone, which need no torch."""

import math
from dataclasses import dataclass

from entrocraft.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn.

    Raises:
        InvalidValueError: A number is out of range.
    """

    num_samples: int = 32
    """Answers to each problem."""
    temperature: float = 1.0
    """What logits are divided by before a token is drawn; above 0."""
    top_p: float = 1.0
    """Probability that the likeliest tokens, from which alone is drawn, have together; 1 for all tokens."""
    top_k: int = 0
    """Number of likeliest tokens from which alone is drawn; 0 for all tokens."""
    batch_size: int | None = None
    """Sequences generated at once; by default as many as together hold 2^16 tokens of answers, 1024 at most."""

    def __post_init__(self) -> None:
        if self.num_samples < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise InvalidValueError(
                f"num_samples and batch_size must be at least 1, got {self.num_samples} and {self.batch_size}"
            )
        if self.top_k < 0:
            raise InvalidValueError(f"top_k must be at least 0, which takes all tokens, got {self.top_k}")
        if not 0 < self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise InvalidValueError(
                f"temperature must be finite and above 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}"
            )

    def rows(self, max_tokens: int) -> int:
        """Return how many sequences are generated at once, if an answer is cut after `max_tokens`."""
        return self.batch_size or min(1024, max(1, 2**16 // max_tokens))
