"""What a method sees of a mini-batch as the loss is computed, and what it asks of that loss.

Shapes: B rollouts of this rank's mini-batch (of a micro-batch, where gradients are accumulated), T tokens.
"""

from dataclasses import dataclass

from torch import Tensor

from entrocraft.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True, eq=False)
class MiniBatch:
    """This rank's tokens, as the policy of the moment sees them: that of after the updates already made on the batch.

    Nothing in it has a gradient. What lies beyond the mask is not meant to be read.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(1, 2)
        >>> columns = {"entropy_BT": zeros, "advantages_BT": zeros, "mask_BT": zeros + 1.0}
        >>> MiniBatch(log_probs_BT=zeros - 1.0, old_log_probs_BT=zeros - 1.0, **columns).ratio_BT
        tensor([[1., 1.]])
    """

    log_probs_BT: Tensor
    """Log-probabilities of the sampled tokens under the policy of the moment, in nats."""
    old_log_probs_BT: Tensor
    """The same under the policy that sampled, which the ratio is taken to."""
    entropy_BT: Tensor
    """Entropies of the policy of the moment, in nats."""
    advantages_BT: Tensor
    """Advantages as they were decided."""
    mask_BT: Tensor
    """1 where the loss counts a token."""

    @property
    def log_ratio_BT(self) -> Tensor:
        """Logarithm of the ratio of the two probabilities; 0 where the mask is."""
        return (self.log_probs_BT - self.old_log_probs_BT).masked_fill(~self.mask_BT.bool(), 0.0)

    @property
    def ratio_BT(self) -> Tensor:
        """Ratio of the two probabilities; 1 where the mask is."""
        return self.log_ratio_BT.exp()


@dataclass(frozen=True, kw_only=True, eq=False)
class Surrogate:
    """What stands in for the loss's own clipped surrogate in one mini-batch; both parts are taken as constants."""

    advantages_BT: Tensor | None = None
    """A' in the token's loss `-ratio * A'`, without any clipping; None leaves the loss's own surrogate and range."""
    entropy_coef_BT: Tensor | None = None
    """Coefficient of each token's entropy: `mean of coef * H` over the counted tokens is taken from the loss, as for
    knob `entropy_coef`, which is the same for all tokens. A negative one lowers entropy."""

    def checked(self, counted_BT: Tensor, asked_by: str) -> "Surrogate":
        """Return the same, 0 where no token counts, for an engine to carry out.

        Args:
            counted_BT: (B, T) bool: the tokens that the loss counts.
            asked_by: The method, for messages.

        Raises:
            InvalidValueError: A part is of another shape, or not finite at a token that counts.

        Example:
            >>> import torch
            >>> asked = Surrogate(advantages_BT=torch.tensor([[2.0, torch.nan]]))
            >>> asked.checked(torch.tensor([[True, False]]), "Mine").advantages_BT
            tensor([[2., 0.]])
        """
        parts = {}
        for name in ("advantages_BT", "entropy_coef_BT"):
            value_BT = getattr(self, name)
            if value_BT is None:
                continue
            if value_BT.shape != counted_BT.shape:
                raise InvalidValueError(
                    f"{asked_by}.surrogate: {name} must be of shape {tuple(counted_BT.shape)}, one for each token, got "
                    f"{tuple(value_BT.shape)}"
                )
            value_BT = value_BT.detach().masked_fill(~counted_BT, 0.0)
            if not value_BT.isfinite().all():
                raise InvalidValueError(
                    f"{asked_by}.surrogate: {name} is not finite at some token that the loss counts"
                )
            parts[name] = value_BT
        return Surrogate(**parts)
