"""The learning rate follows the curve: everything is learnt from, as fast as entropy may fall."""

import math
from collections.abc import Mapping
from typing import Any

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number

PROPORTIONAL, INTEGRAL = 20.0, 1.0
"""Gains of the loop: entropy 1 % above its target speeds learning up by 22 %, and by 1 % more at each decision."""
SMOOTHING = 0.5
"""Share of the newest reading in the entropy that the loop looks at: readings are off by about 1 %."""


class LearningRate(Method):
    """Scale the learning rate of each update, so that entropy falls along the curve; leave nothing out.

    With the entropy H, smoothed over a few decisions, the target H* and the error e = log(H / H*), the rate is the
    configured one times

        factor = clip(exp(b + 20 gain e), least, most),    b <- clip(b + gain e, log least, log most)

    where b stays while the factor is clipped.

    Most of what moves entropy in training is learning itself, so that less of it moves entropy less. Where entropy is
    below its curve and does not rise by itself, the method can only wait.

    Args:
        start: Factor of the first update, where entropy is on the curve; it rises from there as the curve comes down.
        least: Smallest factor, more than 0.
        most: Greatest factor.
        gain: Factor on both gains of the loop.

    Raises:
        InvalidValueError: A number is not positive, or they are out of order.

    Degenerate cases: entropy or a target of 0 has no logarithm; the factor is then `least` at an entropy of 0, and
    `most` at a target of 0.

    Source: not in the paper. Learning rates that follow the distance to the old policy are in common use (the schedule
    of rsl_rl, arXiv 2109.11978); this one follows entropy.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> LearningRate(start=0.5).decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).knobs["learning_rate"]
        0.5
    """

    turns = frozenset({"learning_rate"})

    def __init__(self, start: float = 0.3, least: float = 0.01, most: float = 1.0, gain: float = 1.0):
        numbers = {"start": start, "least": least, "most": most, "gain": gain}
        self.start, self.least, self.most, self.gain = (checked_number(name, n) for name, n in numbers.items())
        if not (0.0 < self.least <= self.start <= self.most and self.gain > 0.0):
            raise InvalidValueError(
                f"expected 0 < least <= start <= most and gain > 0, got {least}, {start}, {most} and {gain}"
            )
        self._log_rate = math.log(self.start)
        self._entropy: float | None = None
        self.is_at_limit = False
        """Whether the last decision wanted a factor at `least` or `most`, or beyond."""

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        before = batch.entropy if self._entropy is None else self._entropy
        self._entropy = before + SMOOTHING * (batch.entropy - before)
        error = _log_ratio(self._entropy, goal.target)
        lowest, highest = math.log(self.least), math.log(self.most)
        wanted = self._log_rate + PROPORTIONAL * self.gain * error
        factor = math.exp(min(highest, max(lowest, wanted)))
        self.is_at_limit = not lowest < wanted < highest
        if not self.is_at_limit:  # where the loop would wind up: b lies within the limits, so errors point beyond them
            self._log_rate = min(highest, max(lowest, self._log_rate + INTEGRAL * self.gain * error))
        knobs = {"learning_rate": factor}
        return Decision.everything(batch, knobs=knobs, metrics={"learning_rate_factor": factor})

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"log_rate": self._log_rate, "entropy": self._entropy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of the learning rate", state, self.state_dict())
        self._log_rate, self._entropy = float(state["log_rate"]), state["entropy"]


def _log_ratio(entropy: float, target: float) -> float:
    """Return log(entropy / target), within what a float holds where one of them is 0."""
    tiny = 1e-12
    return math.log(max(entropy, tiny) / max(target, tiny))
