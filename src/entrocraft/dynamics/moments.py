"""The rest of a distribution, all but the sampled token: the one pass over the vocabulary.

With `p_i = (1 - p_y) r_i` for the other tokens, every exact quantity of this package is a function of
the sampled token's log-odds and three moments of r, without a difference of nearly equal numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from entrocraft.entropy import chunk_tokens, refuse_other_shape

LIMIT = 1e30
"""What an infinite number of nats is cut to: its products with other finite numbers stay finite in float32."""


class Rest(NamedTuple):
    """The sampled token's log-odds, and moments of `r`, the distribution over the other tokens; float32."""

    log_odds: Tensor
    """`log p_y - log(1 - p_y)`; `LIMIT` for a certain token, `-LIMIT` for an impossible one."""
    entropy: Tensor
    """`H_r = -sum r log r`, in nats."""
    collision: Tensor
    """`R = sum r^2`."""
    covariance: Tensor
    """`C = Cov_r(r, log r) = sum r^2 (log r + H_r)`: never negative, 0 where r is uniform."""


@torch.no_grad()
def rest_of(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Rest:
    """Return the rest of each distribution, in one chunked pass over the vocabulary, without gradient.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`. The extra memory is a few times
            `chunk_size * V` floats.

    Returns:
        Four tensors (B, T), float32. The rest of a certain token counts as one token. A row that is all
        `-inf` or holds a NaN gives NaN.

    Raises:
        InvalidValueError: There is not one token for each distribution, or `chunk_size` is not positive.

    Example:
        >>> rest = rest_of(torch.zeros(1, 1, 5), torch.tensor([[3]]))  # uniform: the rest is 4 tokens alike
        >>> [round(moment.item(), 3) + 0.0 for moment in rest]
        [-1.386, 1.386, 0.25, 0.0]
    """
    refuse_other_shape("tokens", tokens_BT, logits_BTV.shape[:-1])
    rows, tokens = logits_BTV.reshape(-1, logits_BTV.shape[-1]), tokens_BT.reshape(-1, 1)
    chunk_size = chunk_tokens(chunk_size, rows.shape[-1])
    chunks = [
        _rest_rows(chunk, index) for chunk, index in zip(rows.split(chunk_size), tokens.split(chunk_size), strict=True)
    ]
    return Rest(*(torch.cat(moments).reshape(tokens_BT.shape) for moments in zip(*chunks, strict=True)))


def _rest_rows(logits_NV: Tensor, tokens_N1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # The sampled token goes by a finite number, so that a certain one leaves no row of -inf alone.
    others_NV = logits_NV.float().scatter(-1, tokens_N1, -LIMIT)
    largest_N1 = others_NV.amax(-1, keepdim=True)
    log_r_NV = torch.log_softmax(others_NV, dim=-1)
    total_N1 = (largest_N1 - log_r_NV.amax(-1, keepdim=True)).masked_fill(largest_N1 == -LIMIT, -torch.inf)
    log_odds_N1 = (logits_NV.gather(-1, tokens_N1).float() - total_N1).clamp(-LIMIT, LIMIT)

    r_NV = torch.exp(log_r_NV, out=others_NV)  # a new buffer of this size takes longer than filling it
    x_NV = log_r_NV.clamp_(min=-LIMIT).mul_(r_NV)  # finite, so that 0 * log 0 is 0
    entropy_N = -x_NV.sum(-1)
    squares_log_N = x_NV.mul_(r_NV).sum(-1)
    collision_N = r_NV.square_().sum(-1)
    covariance_N = (squares_log_N + entropy_N * collision_N).clamp(min=0.0)
    return log_odds_N1.squeeze(-1), entropy_N, collision_N, covariance_N
