"""What the policy says of the tokens of a batch, as an engine measures it."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from entrocraft import dynamics
from entrocraft.entropy import token_entropy, token_log_probs


@dataclass
class TokenStats:
    """What the policy says of each completion token; nothing in a row is meant to be read beyond its mask."""

    log_probs_BT: Tensor
    """Log-probabilities of the sampled tokens, in nats."""
    entropy_BT: Tensor
    """Entropies of the distributions that they were sampled from, in nats."""
    sensitivity_BT: Tensor | None = None
    """Exact entropy sensitivities, where the logits were at hand; see `dynamics.entropy_sensitivity`."""
    self_kernel_BT: Tensor | None = None
    """Exact self-kernels, where logits or sums of squared probabilities were at hand; see `dynamics.self_kernel`."""

    @classmethod
    def joined(cls, parts: list["TokenStats"], dim: int) -> "TokenStats":
        """Return parts of a batch, all of the same kind, as one."""

        def joined(name: str) -> Any:
            column = [getattr(part, name) for part in parts]
            return None if column[0] is None else torch.cat(column, dim=dim)

        return cls(**{field.name: joined(field.name) for field in fields(cls)})

    def padded(self, width: int) -> "TokenStats":
        """Return the same with columns of 0 on the right, up to `width`."""
        missing = width - self.log_probs_BT.shape[1]

        def wide(column_BT: Any) -> Any:
            return None if column_BT is None else pad(column_BT, (0, missing))

        return TokenStats(*(wide(getattr(self, field.name)) for field in fields(self)))


def token_stats_of(
    logits_BTV: Tensor, tokens_BT: Tensor, *, sensitivity: bool = False, self_kernel: bool = False
) -> TokenStats:
    """Return what the policy says of tokens, from the logits they were sampled from.

    Args:
        logits_BTV: Logits, divided by the sampling temperature.
        tokens_BT: The sampled tokens.
        sensitivity: Whether to compute entropy sensitivities.
        self_kernel: Whether to compute self-kernels.
    """
    return TokenStats(
        log_probs_BT=token_log_probs(logits_BTV, tokens_BT),
        entropy_BT=token_entropy(logits_BTV),
        sensitivity_BT=dynamics.entropy_sensitivity(logits_BTV, tokens_BT) if sensitivity else None,
        self_kernel_BT=dynamics.self_kernel(logits_BTV, tokens_BT) if self_kernel else None,
    )
