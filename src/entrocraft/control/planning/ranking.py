"""Predicted changes in order, and how many of them to reject from which end.

Shapes: B rollouts, N tokens, K distinct changes, or bins of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST, _LARGEST, _BINS = 1e-9, 1e3, 240  # per sign: each bin 12 % wider than the one before
_ROUNDING = 1e-9  # of the size of a batch's changes

Limits = tuple[float, float]
"""Changes to keep, from the lowest to the highest."""
EVERYTHING: Limits = (-math.inf, math.inf)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Predicted entropy changes in ascending order, without those that are 0, which have no gradient.

    The *effect* of a kept set is `sum(change) / sqrt(n)`, over its n changes. A mean over n points where they agree,
    and is noise of size `1 / sqrt(n)` beside; an optimizer that divides by the size of recent gradients, as Adam does,
    thereby multiplies what they agree on by `sqrt(n)`. Keeping half as many that push 1.4 times as hard gains
    nothing.
    """

    lows_K: Tensor
    """Lowest change of each bin; for exact rankings the change itself."""
    highs_K: Tensor
    """Highest change of each bin."""
    sums_K: Tensor
    """Sum of the changes in each bin."""
    counts_K: Tensor
    """Their number."""

    @classmethod
    def of(cls, change_B: Tensor) -> "Ranking":
        """Rank changes exactly; equal ones share their fate."""
        values, counts = change_B[change_B != 0].double().cpu().unique(return_counts=True)
        return cls(values, values, values * counts, counts.double())

    @classmethod
    def of_bins(cls, bins: Tensor) -> "Ranking":
        """Rank changes by the bins of `binned`, added up over ranks."""
        sums_K, counts_K = bins.double().cpu().unbind(dim=1)
        edges = _edges()
        # In ascending order: the negative side of the bins is the positive one mirrored.
        lows_K = torch.cat([-edges[1:].flip(0), edges[:-1]])
        highs_K = torch.cat([-edges[:-1].flip(0), edges[1:]])
        filled = counts_K > 0
        return cls(lows_K[filled], highs_K[filled], sums_K[filled], counts_K[filled])

    def times(self, factor: float) -> "Ranking":
        """Return the ranking of the changes multiplied by a positive factor.

        Example:
            >>> Ranking.of(torch.tensor([-1.0, 3.0])).times(2.0).size() == math.sqrt(4.0 + 36.0)
            True
        """
        return Ranking(self.lows_K * factor, self.highs_K * factor, self.sums_K * factor, self.counts_K)

    def reach(self, min_kept: float) -> tuple[float, float, float]:
        """Return the lowest effect that rejecting the highest can have, that of keeping all, and the opposite.

        Args:
            min_kept: Share of the changes that is kept at least, in (0, 1].

        Example:
            >>> reach = Ranking.of(torch.tensor([-3.0, -1.0, 0.0, 2.0, 2.0, 2.0, 2.0])).reach(min_kept=0.25)
            >>> [round(effect, 2) for effect in reach]  # -4 / sqrt(2), 4 / sqrt(6), 8 / sqrt(4)
            [-2.83, 1.63, 4.0]
        """
        if not len(self.sums_K):
            return 0.0, 0.0, 0.0
        # Rejecting the lowest changes raises the effect, rejecting the highest lowers it; entry 0 of either keeps all.
        upwards, downwards = self._effects_left(1, min_kept), -self._effects_left(-1, min_kept)
        return downwards.min().item(), upwards[0].item(), upwards.max().item()

    def limits(self, wanted: float, min_kept: float) -> Limits:
        """Return what to keep for the effect to be `wanted`, rejecting as little as possible.

        The most contrary go first, until the effect is what is wanted, or, if it cannot be, as near as it gets.

        Example:
            >>> Ranking.of(torch.tensor([-3.0, -1.0, 0.0, 2.0, 2.0])).limits(wanted=1.5, min_kept=0.25)
            (-1.0, inf)
        """
        if not len(self.sums_K):
            return EVERYTHING
        side = 1 if wanted >= self.effect(EVERYTHING) else -1
        left = self._effects_left(side, min_kept)
        # A plan that asks for nothing comes back as the effect of everything but for rounding.
        enough = (left >= side * wanted - _ROUNDING * self.size()).nonzero().flatten()
        rejected = int(enough[0]) if len(enough) else int(left.argmax())
        if rejected == 0:
            return EVERYTHING
        return (self.lows_K[rejected].item(), math.inf) if side > 0 else (-math.inf, self.highs_K[-rejected - 1].item())

    def effect(self, limits: Limits) -> float:
        """Return the effect of keeping what lies within the limits.

        Example:
            >>> Ranking.of(torch.tensor([2.0, 0.0, 1.0, 1.0, -5.0, 2.0])).effect((0.0, 9.0))  # 6 / sqrt(4)
            3.0
        """
        return self.sums_K[self._within(limits)].sum().item() / math.sqrt(max(self.count(limits), 1.0))

    def count(self, limits: Limits) -> float:
        """Return how many changes lie within the limits.

        Example:
            >>> Ranking.of(torch.tensor([2.0, 0.0, 1.0, 1.0, -5.0, 2.0])).count((0.0, 9.0))
            4.0
        """
        return self.counts_K[self._within(limits)].sum().item()

    def _within(self, limits: Limits) -> Tensor:
        return (self.lows_K >= limits[0]) & (self.highs_K <= limits[1])

    def size(self) -> float:
        """Return the root of the sum of squared changes: the effect of as many that all push alike."""
        return (self.sums_K.square() / self.counts_K).sum().sqrt().item()

    def _effects_left(self, side: int, min_kept: float) -> Tensor:
        """Return the effects, towards `side`, of what is left after rejecting the first r bins of the other side."""
        sums_K, counts_K = self.sums_K * side, self.counts_K
        if side > 0:
            sums_K, counts_K = sums_K.flip(0), counts_K.flip(0)
        # From the end that stays: entry r holds what is left when r bins of the other end have gone.
        left_sums, left_counts = sums_K.cumsum(0).flip(0), counts_K.cumsum(0).flip(0)
        floor = math.ceil(min_kept * left_counts[0].item())
        return (left_sums / left_counts.sqrt())[left_counts >= max(1, floor)]


def binned(change_N: Tensor) -> Tensor:
    """Return sums and counts (K, 2) of the changes in bins that are the same on every rank.

    Bins are logarithmic, from 1e-9 to 1000 on either side of 0; smaller changes count as none, larger ones belong to
    the last bin. A change that is not finite makes all bins NaN, so that every rank hears of it. On the CPU, in
    float64, which some accelerators lack.
    """
    edges, change_N = _edges(), change_N.cpu().double()
    if not torch.isfinite(change_N).all():
        return torch.full((2 * _BINS, 2), torch.nan, dtype=torch.float64)
    size_N = change_N.abs()
    moving_N = size_N >= _SMALLEST
    # The outer edges are left out, so that whatever is larger than the last falls into the last bin.
    bin_N = torch.bucketize(size_N[moving_N], edges[1:-1], right=True)
    index_N = torch.where(change_N[moving_N] > 0, _BINS + bin_N, _BINS - 1 - bin_N)
    bins = torch.zeros(2 * _BINS, 2, dtype=torch.float64)
    bins[:, 0].index_add_(0, index_N, change_N[moving_N])
    bins[:, 1].index_add_(0, index_N, torch.ones_like(size_N[moving_N]))
    return bins


def _edges() -> Tensor:
    return torch.logspace(math.log10(_SMALLEST), math.log10(_LARGEST), _BINS + 1, dtype=torch.float64)
