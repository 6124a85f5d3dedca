"""How answers are drawn from a model: settings alone, which need no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrocraft.errors import InvalidValueError

MOST_SAMPLES = 100_000
"""Answers to each problem, at most."""


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

    min_p: float | None = None
    """Share of the likeliest token's probability that a token must have to be drawn; by default none."""
    repetition_penalty: float | None = None
    """What tokens that were there before are made less likely by; by default nothing."""
    generation_kwargs: Mapping[str, Any] | None = None
    """Other settings of transformers' generation."""
    chat_template_kwargs: Mapping[str, Any] | None = None
    """Arguments of the chat template, such as `enable_thinking`."""

    def __post_init__(self) -> None:
        if self.num_samples < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise InvalidValueError(
                f"num_samples and batch_size must be at least 1, got {self.num_samples} and {self.batch_size}"
            )
        if not 1 <= self.num_samples <= MOST_SAMPLES:
            raise InvalidValueError(f"num_samples must be at most {MOST_SAMPLES:,}, got {self.num_samples}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise InvalidValueError(f"min_p must be in [0, 1], got {self.min_p}")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < math.inf:
            raise InvalidValueError(f"repetition_penalty must be finite and above 0, got {self.repetition_penalty}")
        if self.top_k < 0:
            raise InvalidValueError(f"top_k must be at least 0, which takes all tokens, got {self.top_k}")
        if not 0 < self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise InvalidValueError(
                f"temperature must be finite and above 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}"
            )

    def rows(self, max_tokens: int) -> int:
        """Return how many sequences are generated at once, if an answer is cut after `max_tokens`."""
        return self.batch_size or min(1024, max(1, 2**16 // max_tokens))
