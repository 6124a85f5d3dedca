"""CE-GPPO: tokens beyond the clip range keep a gradient."""

import torch

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class CeGppo(Method):
    """Where clipping would leave a token without a gradient, leave it that of the edge, times a factor.

    With the ratio r of new to old probabilities and its value sg(r), taken as a constant, the loss of a token is

        -beta_low (1 - clip_low) r / sg(r) A     if A < 0 and r < 1 - clip_low,
        -beta_high (1 + clip_high) r / sg(r) A   if A > 0 and r > 1 + clip_high,
        a constant                               if A < 0 and r > dual_clip,
        -r A                                     otherwise.

    The curve is watched and not followed: the method has no target. In the first update on a batch the ratio is 1: with
    one update per batch this is plain GRPO.

    Args:
        beta_low: Factor on punished tokens below the range.
        beta_high: Factor on rewarded tokens above it.
        clip_low: How far below 1 the range begins, in [0, 1].
        clip_high: How far above 1 it ends.
        dual_clip: Ratio beyond which a punished token has no gradient, more than 1.

    Raises:
        InvalidValueError: A number is out of range.

    Source: arXiv 2509.20712, by the loss that its authors print, with their defaults; there beta_low is beta1 and
    beta_high beta2.

    Example:
        >>> zeros, ones = torch.zeros(1, 2), torch.ones(1, 2)
        >>> columns = {"old_log_probs_BT": zeros, "entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
        >>> seen = MiniBatch(log_probs_BT=torch.tensor([[2.0, 1.1]]).log(), **columns)
        >>> method, batch = CeGppo(), Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> decision = method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> method.surrogate(seen, decision, lambda sums: sums).advantages_BT
        tensor([[0.6000, 1.0000]])
    """

    turns = frozenset({"surrogate"})
    acts_on_ratio = True

    def __init__(
        self,
        beta_low: float = 0.75,
        beta_high: float = 1.0,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        dual_clip: float = 3.0,
    ):
        self.beta_low, self.beta_high = checked_number("beta_low", beta_low), checked_number("beta_high", beta_high)
        self.clip_low, self.clip_high = checked_number("clip_low", clip_low), checked_number("clip_high", clip_high)
        self.dual_clip = checked_number("dual_clip", dual_clip)
        if self.clip_low > 1.0 or self.dual_clip <= 1.0:
            raise InvalidValueError(f"expected clip_low <= 1 and dual_clip > 1, got {clip_low} and {dual_clip}")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch)

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate:
        """Return the advantages, with the factors of what is beyond the range."""
        ratio_BT, own_BT = seen.ratio_BT, seen.advantages_BT
        low, high = 1.0 - self.clip_low, 1.0 + self.clip_high
        factor_BT = torch.ones_like(ratio_BT)
        factor_BT = torch.where((own_BT < 0) & (ratio_BT < low), self.beta_low * low / ratio_BT, factor_BT)
        factor_BT = torch.where((own_BT > 0) & (ratio_BT > high), self.beta_high * high / ratio_BT, factor_BT)
        factor_BT = torch.where((own_BT < 0) & (ratio_BT > self.dual_clip), 0.0, factor_BT)
        return Surrogate(advantages_BT=own_BT * factor_BT)
