"""The four quadrants of an update: the sign of the advantage by confident or rare token."""

from dataclasses import dataclass

from torch import Tensor

QUADRANTS = ("positive_confident", "positive_rare", "negative_confident", "negative_rare")


@dataclass(frozen=True)
class Quadrant:
    """One sign of the advantage on one kind of token."""

    share: float
    """Share of the counted tokens that are in the quadrant, 0 to 1."""
    contribution: float
    """`sum(-A * S)` over the quadrant's tokens / number of counted tokens, in nats per token per unit step."""


@dataclass(frozen=True, kw_only=True)
class Quadrants:
    """Where an update's entropy change comes from; a token is rare where S < 0, and confident elsewhere.

    Advantage signs alone see only the first and the third as they are.
    """

    positive_confident: Quadrant
    """Confident tokens that are reinforced, which lowers entropy."""
    positive_rare: Quadrant
    """Rare tokens that are reinforced, which raises entropy."""
    negative_confident: Quadrant
    """Confident tokens that are punished, which raises entropy."""
    negative_rare: Quadrant
    """Rare tokens that are punished, which lowers entropy."""
    zero_share: float
    """Share of the counted tokens that have advantage zero, and so contribute nothing."""
    num_tokens: int
    """Number of counted tokens: what to weigh by when ranks are put together."""

    @property
    def total(self) -> float:
        """The local change of the mean token entropy, in nats per token per unit step."""
        return sum(quadrant.contribution for quadrant in self._by_name().values())

    def to_dict(self) -> dict[str, float]:
        """Return a flat mapping to floats, for a line of metrics: `positive_rare_share`, and so on."""
        flat = {f"{name}_share": quadrant.share for name, quadrant in self._by_name().items()}
        flat |= {f"{name}_contribution": quadrant.contribution for name, quadrant in self._by_name().items()}
        return flat | {"zero_share": self.zero_share, "total": self.total, "num_tokens": float(self.num_tokens)}

    def _by_name(self) -> dict[str, Quadrant]:
        return {name: getattr(self, name) for name in QUADRANTS}


def quadrants(sensitivity_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor, keep_B: Tensor | None = None) -> Quadrants:
    """Return the share of tokens and the contribution `-A * S` of each of the four quadrants.

    Args:
        sensitivity_BT: Sensitivities from `entropy_sensitivity` or an estimate, in nats per unit of `eta * A`.
        advantages_B: One advantage per rollout; or (B, T), one per token.
        mask_BT: True where a token counts.
        keep_B: True for rollouts in the update, by default all; the tokens of others do not count at all.

    Returns:
        The quadrants; all zeros if no token counts. Contributions add up to the mean of `-A * S` over the
        counted tokens, which weighs tokens alike, while `rollout_entropy_change` weighs rollouts alike.

    Source: 2604.26326, Theorem 1, which holds for confident tokens only; for rare ones the signs turn.

    Example:
        >>> import torch
        >>> sensitivity = torch.tensor([[0.5, -0.3], [0.5, -0.1]])
        >>> four = quadrants(sensitivity, torch.tensor([1.0, -1.0]), torch.ones(2, 2))
        >>> four.positive_confident
        Quadrant(share=0.25, contribution=-0.125)
        >>> round(four.total, 3)  # -0.125 + 0.075 + 0.125 - 0.025
        0.05
    """
    counted_BT = mask_BT.bool() if keep_B is None else mask_BT.bool() & keep_B.to(mask_BT.device).bool()[:, None]
    by_token = advantages_B if advantages_B.ndim == 2 else advantages_B[:, None]
    advantages_BT = by_token.to(mask_BT.device).expand(mask_BT.shape)
    # A token with advantage zero moves nothing, but is part of what shares are taken of.
    rows_N, columns_N = (counted_BT & (advantages_BT != 0)).cpu().nonzero(as_tuple=True)
    # On the CPU, in float64, which some accelerators lack.
    sensitivity_N, advantages_N = (x_BT.cpu()[rows_N, columns_N].double() for x_BT in (sensitivity_BT, advantages_BT))
    # Quadrant 0 to 3 in the order of QUADRANTS. S = 0 moves nothing, and counts as confident.
    quadrant_N = 2 * (advantages_N < 0).long() + (sensitivity_N < 0)
    counts = quadrant_N.bincount(minlength=4).tolist()
    sums = quadrant_N.bincount(-advantages_N * sensitivity_N, minlength=4).tolist()
    num_tokens = int(counted_BT.sum())
    scale = max(num_tokens, 1)
    four = {
        name: Quadrant(count / scale, total / scale) for name, count, total in zip(QUADRANTS, counts, sums, strict=True)
    }
    return Quadrants(**four, zero_share=(num_tokens - len(rows_N)) / scale, num_tokens=num_tokens)
