"""MAI's adaptive clipping: the clip range opens upwards while entropy is below the curve."""

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


class AdaptiveClip(Method):
    """Clip the ratio to `1 - eps ... 1 / (1 - eps) + k`, with a k that grows below the target and shrinks above it.

    Before each update, with the batch's entropy H and the target H*, in nats per token,

        k <- clip(k + step * sign(H* - H), 0, most).

    In the first update on a batch the ratio is 1: with one update per batch this is plain GRPO. At the target k stands
    still; at 0 the range is symmetric in the logarithm, and nothing lowers entropy further.

    Args:
        eps: How far below 1 the range begins, in [0, 1).
        step: How far k moves at each decision.
        most: Largest k.

    Raises:
        InvalidValueError: A number is out of range.

    Source: MAI-Thinking's adaptive clipping, from the text of a recipe for miles, whose code was not at hand, with its
    defaults; its target of 0.3 nats is the schedule's here. Deviations: k moves once per batch, where theirs moves at
    each optimizer step; entropy is the batch's own, measured before the update, where theirs is weighted by the ratio.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(1))
        >>> dict(AdaptiveClip().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).knobs)
        {'clip_low': 0.6, 'clip_high': 1.75}
    """

    turns = frozenset({"clip_low", "clip_high"})
    acts_on_ratio = True

    def __init__(self, eps: float = 0.6, step: float = 0.25, most: float = 2.5):
        self.eps, self.step = checked_number("eps", eps), checked_number("step", step)
        self.most = checked_number("most", most)
        if self.eps >= 1.0:
            raise InvalidValueError(f"eps must lie in [0, 1), got {eps}")
        self.k = 0.0

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        error = goal.target - batch.entropy
        if error:
            self.k = min(self.most, max(0.0, self.k + math.copysign(self.step, error)))
        knobs = {"clip_low": self.eps, "clip_high": 1.0 / (1.0 - self.eps) + self.k - 1.0}
        return Decision.everything(batch, knobs=knobs, metrics={"strength": self.k})

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"k": self.k}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of adaptive clipping", state, self.state_dict())
        self.k = float(state["k"])
