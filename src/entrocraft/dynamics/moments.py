"""The moments of next-token distributions that every exact quantity is made of, in one pass over the vocabulary.

Write the probability of each token other than the sampled one as `p_i = (1 - p_y) r_i`: r is the distribution
over the other tokens, given that it is not y. The entropy sensitivity, the output-space baseline and the
self-kernel are functions of the log-odds of y and of three moments of r. Written that way they subtract no two
nearly equal numbers, so that they are right in float32 for a token of probability 1 - 1e-10, too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from entrocraft.entropy import checked_logits, checked_tokens, chunk_tokens

LIMIT = 1e30
"""Number of nats that stands for infinity: its products with other finite numbers stay finite in float32."""


class Moments(NamedTuple):
    """Log-odds of the sampled token, and moments of r, the distribution over the other tokens; each (B, T), float32."""

    log_odds: Tensor
    """`log p_y - log(1 - p_y)`, in nats; `LIMIT` for a certain token, `-LIMIT` for an impossible one."""
    entropy: Tensor
    """Entropy of the other tokens, `H_r = -sum r log r`, in nats."""
    collision: Tensor
    """Probability that two draws from r are the same token, `R = sum r^2`."""
    covariance: Tensor
    """`C = Cov_r(r, log r) = sum r^2 (log r + H_r)`, in nats: never negative, 0 where r is uniform."""


@torch.no_grad()
def moments_of(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Moments:
    """Return the moments of each distribution, in one chunked pass over the vocabulary, without gradient.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`. The extra memory is a few times
            `chunk_size * V` floats.

    Returns:
        Four tensors (B, T), float32. Beside a certain token, r is taken to be one token alone. A row that is
        all `-inf` or holds a NaN gives NaN.

    Raises:
        InvalidValueError: There is not one token of the vocabulary for each distribution, or `chunk_size` is not
            positive.

    Example:
        >>> moments = moments_of(torch.zeros(1, 1, 5), torch.tensor([[3]]))  # the 4 other tokens are alike
        >>> [round(moment.item(), 3) + 0.0 for moment in moments]
        [-1.386, 1.386, 0.25, 0.0]
    """
    logits_BTV = checked_logits(logits_BTV)
    tokens_BT = checked_tokens(tokens_BT, logits_BTV)
    rows, tokens = logits_BTV.reshape(-1, logits_BTV.shape[-1]), tokens_BT.reshape(-1, 1)
    chunk_size = chunk_tokens(chunk_size, rows.shape[-1])
    chunks = [
        _moments_of_rows(chunk, index)
        for chunk, index in zip(rows.split(chunk_size), tokens.split(chunk_size), strict=True)
    ]
    return Moments(*(torch.cat(parts).reshape(tokens_BT.shape) for parts in zip(*chunks, strict=True)))


def _moments_of_rows(logits_NV: Tensor, tokens_N1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-odds, H_r, R and C of one chunk, each (N,)."""
    # log r is the log-softmax without the sampled token. That goes by a finite number, so that a certain token
    # leaves no row of -inf alone, whose softmax would be NaN.
    others_NV = logits_NV.float().scatter(-1, tokens_N1, -LIMIT)
    largest_N1 = others_NV.amax(-1, keepdim=True)
    log_r_NV = torch.log_softmax(others_NV, dim=-1)

    # log sum_{i != y} exp z_i, read off the largest of the others: z_max - log r_max. Log-odds are z_y less that.
    total_N1 = (largest_N1 - log_r_NV.amax(-1, keepdim=True)).masked_fill(largest_N1 == -LIMIT, -torch.inf)
    log_odds_N1 = (logits_NV.gather(-1, tokens_N1).float() - total_N1).clamp(-LIMIT, LIMIT)

    # The moments, each in the buffer of the last one: a new buffer of this size takes longer than filling it.
    r_NV = torch.exp(log_r_NV, out=others_NV)
    x_NV = log_r_NV.clamp_(min=-LIMIT).mul_(r_NV)  # r log r; finite, so that 0 * log 0 is 0
    entropy_N = -x_NV.sum(-1)
    squares_log_N = x_NV.mul_(r_NV).sum(-1)  # sum r^2 log r
    collision_N = r_NV.square_().sum(-1)

    # A covariance of r with its own logarithm cannot be negative: what is, is rounding.
    covariance_N = (squares_log_N + entropy_N * collision_N).clamp(min=0.0)
    return log_odds_N1.squeeze(-1), entropy_N, collision_N, covariance_N
