"""How the knobs that a decision turns get to where a framework computes its loss and steps its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KNOB_FIELDS = {name: f"entrocraft_{name}" for name in ("entropy_coef", "clip_low", "clip_high", "learning_rate")}
"""By knob: the field of a batch, or the setting beside it, that holds its value."""


@contextmanager
def scaled_rates(optimizer: Any, factor: float) -> Iterator[None]:
    """Scale the learning rates of an optimizer, and put them back: a scheduler is never told.

    Args:
        optimizer: An optimizer of torch, or what wraps one and has its `param_groups`.
        factor: What each group's rate is multiplied by.
    """
    own = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, own, strict=True):
        group["lr"] = rate * factor
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = rate
