"""BAPO: the clip range moves until rewarded tokens weigh enough against punished ones."""

import torch

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number

_ROUNDING = 1e-9


class Bapo(Method):
    """In each mini-batch, raise the lower edge of the clip range, then the upper one, until the sides are in balance.

    With the ratio r of new to old probabilities, rewarded tokens weigh `sum of min(r, high) A` and punished ones
    `sum of max(r, low) |A|`. The range `low ... high` begins at `low_start ... high_start`. The lower edge rises by
    `low_step` up to `low_most`, then the upper one by `high_step` up to `high_most`, until the first sum is at least
    `balance` times the second. Beyond the range, and for punished tokens beyond `dual_clip`, there is no gradient.
    The curve is watched and not followed: the method has no target. In the first update on a batch the ratio is 1 and
    nothing is beyond the range: with one update per batch this is plain GRPO.

    Args:
        balance: What rewarded tokens must weigh, in what punished ones do.
        low_start: Lower edge to begin with, in [0, 1].
        low_most: Highest lower edge, from `low_start` to 1.
        low_step: How far it rises at a time, positive.
        high_start: Upper edge to begin with, at least 1.
        high_most: Highest upper edge, at least `high_start`.
        high_step: How far it rises at a time, positive.
        dual_clip: Ratio beyond which a punished token has no gradient, more than 1.

    Raises:
        InvalidValueError: A number is out of range.

    Degenerate cases: without a punished token the range stays where it begins.

    Source: BAPO, arXiv 2510.18927, by its code, with the numbers of its example script; its paper raises the upper edge
    first. As in the code, sums go over all ranks, and the search begins anew in each micro-batch: with gradient
    accumulation each may have another range.

    Example:
        >>> zeros, ones = torch.zeros(1, 2), torch.ones(1, 2)
        >>> columns = {"old_log_probs_BT": zeros, "entropy_BT": ones, "mask_BT": ones}
        >>> advantages, log_probs = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.3, 0.9]]).log()
        >>> seen = MiniBatch(log_probs_BT=log_probs, advantages_BT=advantages, **columns)
        >>> method, batch = Bapo(balance=0.7), Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> decision = method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> method.surrogate(seen, decision, lambda sums: sums).advantages_BT  # a range of 0.95 to 1.4
        tensor([[1., 0.]])
    """

    turns = frozenset({"surrogate"})
    acts_on_ratio = True

    def __init__(
        self,
        balance: float = 0.5,
        low_start: float = 0.8,
        low_most: float = 0.95,
        low_step: float = 0.05,
        high_start: float = 1.2,
        high_most: float = 2.0,
        high_step: float = 0.1,
        dual_clip: float = 3.0,
    ):
        self.balance, self.dual_clip = checked_number("balance", balance), checked_number("dual_clip", dual_clip)
        edges = {"low_start": low_start, "low_most": low_most, "high_start": high_start, "high_most": high_most}
        for name, value in (edges | {"low_step": low_step, "high_step": high_step}).items():
            checked_number(name, value)
        in_order = low_start <= low_most <= 1.0 <= high_start <= high_most
        if not in_order or not low_step or not high_step or self.dual_clip <= 1.0:
            raise InvalidValueError(
                "expected low_start <= low_most <= 1 <= high_start <= high_most, positive steps and dual_clip > 1, got "
                f"{', '.join(f'{name}={value}' for name, value in edges.items())}, {low_step}, {high_step} and "
                f"{dual_clip}"
            )
        lows, highs = _rising(low_start, low_most, low_step), _rising(high_start, high_most, high_step)
        self.ranges = [(low, high_start) for low in lows] + [(low_most, high) for high in highs[1:]]

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch)

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate:
        """Return the advantages, 0 beyond the first range that brings balance, or the last one."""
        own_BT = seen.advantages_BT.masked_fill(~seen.mask_BT.bool(), 0.0)
        ratio_BT = seen.ratio_BT
        # What both sides weigh under every range there is, so that ranks exchange once.
        weights = [
            torch.stack([(ratio_BT.clamp(max=high) * own_BT.clamp(min=0)).sum(), _negative(ratio_BT, own_BT, low)])
            for low, high in self.ranges
        ]
        sums = total(torch.stack(weights).cpu().double()).tolist()
        balanced = (edges for edges, (up, down) in zip(self.ranges, sums, strict=True) if up >= self.balance * down)
        low, high = next(balanced, self.ranges[-1])
        is_beyond_BT = torch.where(own_BT > 0, ratio_BT > high, (ratio_BT < low) | (ratio_BT > self.dual_clip))
        return Surrogate(advantages_BT=own_BT.masked_fill(is_beyond_BT, 0.0))


def _negative(ratio_BT: torch.Tensor, own_BT: torch.Tensor, low: float) -> torch.Tensor:
    """Return what punished tokens weigh."""
    return (ratio_BT.clamp(min=low) * -own_BT.clamp(max=0)).sum()


def _rising(start: float, most: float, step: float) -> list[float]:
    """Return the numbers from `start` by `step` up to `most`, which is the last in any case."""
    numbers = [start]
    while numbers[-1] < most - _ROUNDING:
        numbers.append(min(numbers[-1] + step, most))
    return numbers
