"""Clip-Higher: a clip range that is wider above than below."""

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class ClipHigher(Method):
    """Clip the ratio of new to old probabilities to `1 - clip_low ... 1 + clip_high`, whatever the trainer's own range.

    A wider range above lets rare tokens that were rewarded grow. The curve is watched and not followed: the method has
    no target. In the first update on a batch the ratio is 1: with one update per batch this is plain GRPO.

    Args:
        clip_low: How far below 1 the range begins, in [0, 1].
        clip_high: How far above 1 it ends, at least 0.

    Raises:
        InvalidValueError: A number is out of range.

    Source: DAPO, arXiv 2503.14476, with its defaults.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> dict(ClipHigher().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).knobs)
        {'clip_low': 0.2, 'clip_high': 0.28}
    """

    turns = frozenset({"clip_low", "clip_high"})
    acts_on_ratio = True

    def __init__(self, clip_low: float = 0.2, clip_high: float = 0.28):
        self.clip_low, self.clip_high = checked_number("clip_low", clip_low), checked_number("clip_high", clip_high)
        if self.clip_low > 1.0:
            raise InvalidValueError(f"clip_low must lie in [0, 1], got {clip_low}: ratios are positive")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch, knobs={"clip_low": self.clip_low, "clip_high": self.clip_high})
