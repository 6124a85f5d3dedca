"""The four quadrants: sign of the advantage by confident or rare token."""

from dataclasses import dataclass

from torch import Tensor

QUADRANTS = ("positive_confident", "positive_rare", "negative_confident", "negative_rare")


@dataclass(frozen=True)
class Quadrant:
    """One sign of the advantage on one kind of token."""

    share: float
    """Share of the counted tokens, 0 to 1."""
    contribution: float
    """`sum(-A * S)` over its tokens / number of counted tokens, in nats per token per unit step."""


@dataclass(frozen=True, kw_only=True)
class Quadrants:
    """Where an update's entropy change comes from; a token is rare where S < 0, and confident elsewhere.

    Advantage signs alone see only the first and the third as they are.
    """

    positive_confident: Quadrant
    """Lowers entropy."""
    positive_rare: Quadrant
    """Raises entropy."""
    negative_confident: Quadrant
    """Raises entropy."""
    negative_rare: Quadrant
    """Lowers entropy."""
    zero_share: float
    """Share of the counted tokens whose rollout has advantage zero, and so contributes nothing."""
    num_tokens: int
    """Counted tokens: what to weigh by when ranks are put together."""

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
        sensitivity_BT: From `entropy_sensitivity` or an estimate, in nats per unit of `eta * A`.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts.
        keep_B: True for rollouts in the update, by default all; the tokens of others do not count at all.

    Returns:
        The quadrants; all zeros if no token counts. Contributions add up to the mean of `-A * S` over the
        counted tokens, which weighs tokens alike, while `rollout_entropy_change` weighs rollouts alike.

    Source: FINDINGS section 2 and PAPER section 3, last point.

    Example:
        >>> import torch
        >>> sensitivity = torch.tensor([[0.5, -0.3], [0.5, -0.1]])
        >>> four = quadrants(sensitivity, torch.tensor([1.0, -1.0]), torch.ones(2, 2))
        >>> four.positive_confident
        Quadrant(share=0.25, contribution=-0.125)
        >>> round(four.total, 3)  # -0.125 + 0.075 + 0.125 - 0.025
        0.05
    """
    # Few numbers, and a dozen sums of them: cheaper in float64 on the CPU than one wait for the device each.
    sensitivity_BT, advantages_B, mask_BT = sensitivity_BT.cpu().double(), advantages_B.cpu().double(), mask_BT.cpu()
    counted_BT = mask_BT.bool() if keep_B is None else mask_BT.bool() & keep_B.cpu().bool()[:, None]
    change_BT = -advantages_B[:, None] * sensitivity_BT
    rare_BT = sensitivity_BT < 0
    num_tokens = int(counted_BT.sum())

    def quadrant(sign_B: Tensor, kind_BT: Tensor) -> Quadrant:
        members_BT = counted_BT & sign_B[:, None] & kind_BT
        scale = max(num_tokens, 1)
        return Quadrant(members_BT.sum().item() / scale, change_BT[members_BT].sum().item() / scale)

    positive_B, negative_B = advantages_B > 0, advantages_B < 0
    return Quadrants(
        positive_confident=quadrant(positive_B, ~rare_BT),
        positive_rare=quadrant(positive_B, rare_BT),
        negative_confident=quadrant(negative_B, ~rare_BT),
        negative_rare=quadrant(negative_B, rare_BT),
        zero_share=(counted_BT & (advantages_B == 0)[:, None]).sum().item() / max(num_tokens, 1),
        num_tokens=num_tokens,
    )
