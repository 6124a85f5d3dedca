"""Signals by name: what a method may ask an engine for, beyond entropy and advantages.

A method lists in `needs` what its decisions may depend on, and says in `wants` what this one does depend on; only that
is made. An engine lists what it `offers`.
"""

from dataclasses import dataclass
from typing import Literal

Predictor = Literal["estimate", "rarity", "exact", "whole_model"]
"""Where signal `change` comes from: `estimate`, from log-probabilities and entropies alone, as if a step moved one
context; `rarity`, from the same, as if it moved all alike; `exact`, as `estimate`, but from the logits of the whole
vocabulary; `whole_model`, from how the whole model's entropy answers to what a rollout teaches
(`dynamics.whole_model`), which takes a gradient and a pass of its own."""


@dataclass(frozen=True)
class Signal:
    """One thing that a method may need."""

    meaning: str
    """The signal, in words."""
    batch_field: str | None = None
    """Field of `Batch` that holds it, one value per rollout."""
    token_field: str | None = None
    """Field of `Tokens` that holds it, one value per token."""
    by_hand: str = ""
    """Where a batch that is made by hand gets it from."""


SIGNALS: dict[str, Signal] = {
    "rewards": Signal("raw reward of each rollout", batch_field="rewards", by_hand="the rewards, before any baseline"),
    "change": Signal(
        "predicted entropy change of each rollout and token",
        batch_field="change",
        token_field="change_BT",
        by_hand="compute it with predicted_entropy_change, or use method 'advantage'",
    ),
    "visitation": Signal(
        "predicted entropy change of each rollout and token by visiting other contexts",
        batch_field="visitation",
        token_field="visitation_BT",
        by_hand="compute it with dynamics.visitation_entropy_change, or set visitation=False",
    ),
    "sequence_log_probs": Signal(
        "log-probability of each rollout, summed over its counted tokens",
        batch_field="sequence_log_probs",
        by_hand="sum each rollout's log-probabilities, in nats",
    ),
    "covariance": Signal("covariance of log-probability and advantage of each token", token_field="covariance_BT"),
    "surprisal": Signal("minus the log-probability of each token", token_field="surprisal_BT"),
    "token_entropy": Signal("entropy of what each token was sampled from, measured", token_field="entropy_BT"),
    "fresh_entropy": Signal("entropy measured before every update, and not once for several"),
}
"""All signals, by name."""

NEED_ENTROPIES = frozenset({"change", "visitation", "token_entropy"})
"""Signals that are made of the entropy of each token, which a mean of `-log p` does not give."""
