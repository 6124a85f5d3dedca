"""Which rollouts to accept, given what each would do to entropy."""

import math

import torch
from torch import Tensor


def by_sign(change_B: Tensor, direction: int) -> Tensor:
    """Accept what moves entropy back, and what does not move it: `m * dH_i <= 0`.

    Args:
        change_B: Predicted entropy change of each rollout; only its sign matters.
        direction: m: 1 above the band, -1 below, 0 inside.

    Example:
        >>> by_sign(torch.tensor([0.2, -0.1, 0.0]), direction=1)
        tensor([False,  True,  True])
    """
    return direction * change_B <= 0


def by_chance(change_B: Tensor, direction: int, probability: float, generator: torch.Generator) -> Tensor:
    """Accept what moves entropy back, and the rest with a probability.

    Example:
        >>> by_chance(torch.tensor([0.2, -0.1]), direction=1, probability=0.0, generator=torch.Generator())
        tensor([False,  True])
    """
    lucky = torch.rand(len(change_B), generator=generator) < probability
    return by_sign(change_B, direction) | lucky.to(change_B.device)


def reach(change_B: Tensor, min_kept: float) -> tuple[float, float, float]:
    """Return the lowest mean change that a kept set can have, that of keeping everything, and the highest.

    Means are over what changes anything, as in `by_budget`; all 0 if nothing does.

    Example:
        >>> reach(torch.tensor([-3.0, -1.0, 0.0, 2.0, 2.0]), min_kept=0.25)
        (-3.0, 0.0, 2.0)
    """
    ranked = change_B[change_B != 0].sort().values
    if not len(ranked):
        return 0.0, 0.0, 0.0
    fewest = _fewest(len(ranked), min_kept)
    return ranked[:fewest].mean().item(), ranked.mean().item(), ranked[-fewest:].mean().item()


def _fewest(num_moving: int, min_kept: float) -> int:
    return max(1, math.ceil(min_kept * num_moving))


def by_budget(change_B: Tensor, wanted: float, min_kept: float) -> Tensor:
    """Reject as few rollouts as it takes for the mean change of the kept ones to be what is wanted.

    Rollouts are rejected from the far end, the most contrary first, until the mean reaches `wanted`. What
    changes nothing is always kept and does not count in the mean: it has no gradient.

    Args:
        change_B: Predicted entropy change of each rollout.
        wanted: The mean wanted, in the same unit.
        min_kept: Share of the rollouts with a gradient that is kept at least, in (0, 1].

    Example:
        >>> by_budget(torch.tensor([-3.0, -1.0, 0.0, 2.0, 2.0]), wanted=1.0, min_kept=0.25)
        tensor([False,  True,  True,  True,  True])
    """
    keep = torch.ones_like(change_B, dtype=torch.bool)
    moving = change_B.nonzero().flatten()
    if not len(moving):
        return keep
    change = change_B[moving]
    side = 1.0 if wanted >= change.mean() else -1.0  # reject the lowest to go up, the highest to go down
    order = (side * change).argsort(stable=True)
    ranked = (side * change)[order]
    # Mean of what is left after rejecting the first r, for r = 0, 1, ...; it never falls.
    left = ranked.flip(0).cumsum(0).flip(0) / torch.arange(len(ranked), 0, -1, device=ranked.device)
    num_rejected = int((left < side * wanted).sum())
    keep[moving[order[: min(num_rejected, len(moving) - _fewest(len(moving), min_kept))]]] = False
    return keep
