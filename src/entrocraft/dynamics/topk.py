"""Estimates from the k largest log-probabilities, which inference engines return with each token.

The k likeliest tokens, the sampled token and the entropy H are known exactly, and that probabilities sum to 1.
So both the mass m and the entropy `h = -sum p log p` are known of the tokens that are not seen, the *tail*. The
tail is taken to be spread evenly over as many tokens as fit both: each of probability `p = exp(-h / m)`. An
uneven tail of the same mass and entropy has a larger `sum p^2`: the estimate's error has a sign.
"""

import torch
from torch import Tensor

from entrocraft.dynamics.moments import LIMIT
from entrocraft.errors import InvalidValueError

_ROUNDING = 0.01  # nats by which two passes, or two dtypes, may differ on the same log-probability


def topk_entropy_sensitivity(
    topk_log_probs_BTK: Tensor, log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """Estimate `S_t = X_y - E[X]` from the k largest log-probabilities.

    `X_y` is exact, and so are the terms `p_i X_i` of the k likeliest tokens and of the sampled one. The tail is
    taken to be even, with the mass and the entropy that it is known to have.

    Args:
        topk_log_probs_BTK: The K largest log-probabilities at each position, in nats, in any order; `-inf` where
            fewer tokens can be sampled.
        log_probs_BT: Log-probabilities of the sampled tokens, in nats, whether among the K or not.
        entropy_BT: Token entropies, in nats; all three of the same (tempered) distribution.
        mask_BT: True where a token counts.

    Returns:
        Estimated sensitivities (B, T), float32; zero where the mask is. Exact where the tail is empty or even.

    Raises:
        InvalidValueError: K is 0.

    Source: not in the paper.

    Example:
        >>> p = torch.tensor([[[0.6, 0.2, 0.1, 0.1]]])
        >>> entropy = -(p * p.log()).sum(-1)
        >>> estimate = topk_entropy_sensitivity(p[..., :2].log(), p[..., 0].log(), entropy, torch.ones(1, 1))
        >>> from entrocraft.dynamics import entropy_sensitivity
        >>> torch.allclose(estimate, entropy_sensitivity(p.log(), torch.tensor([[0]])))  # an even tail: exact
        True
    """
    log_p, mass, tail = _known_and_tail(topk_log_probs_BTK, log_probs_BT, entropy_BT)
    entropy = entropy_BT.float()
    # E[X] = sum_v p_v^2 (log p_v + H): the terms that are known, and the tail's, all of whose tokens have one log p.
    known = (log_p.exp().square() * (log_p + entropy[..., None])).sum(-1)
    expected = known + mass * tail.exp() * (tail + entropy)
    x = log_probs_BT.float().exp() * (log_probs_BT.float() + entropy)  # X_y, exactly
    return (x - expected).masked_fill(~mask_BT.bool(), 0.0)


def topk_self_kernel(topk_log_probs_BTK: Tensor, log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Estimate `K_t = 1 - 2 p_y + sum_v p_v^2` from the k largest log-probabilities.

    Args:
        topk_log_probs_BTK: The K largest log-probabilities at each position, in nats; see `topk_entropy_sensitivity`.
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        entropy_BT: Token entropies, in nats.
        mask_BT: True where a token counts.

    Returns:
        Estimated kernels (B, T), float32, too small if wrong; zero where the mask is.

    Raises:
        InvalidValueError: K is 0.

    Source: not in the paper.

    Example:
        >>> p = torch.tensor([[[0.6, 0.2, 0.1, 0.1]]])
        >>> entropy = -(p * p.log()).sum(-1)
        >>> topk_self_kernel(p[..., :1].log(), p[..., 1].log(), entropy, torch.ones(1, 1))  # 1 - 0.4 + 0.42
        tensor([[1.0200]])
    """
    log_p, mass, tail = _known_and_tail(topk_log_probs_BTK, log_probs_BT, entropy_BT)
    # sum p^2, of which an even tail has its mass times the probability of one of its tokens.
    collision = log_p.exp().square().sum(-1) + mass * tail.exp()
    return (1.0 - 2.0 * log_probs_BT.float().exp() + collision).masked_fill(~mask_BT.bool(), 0.0)


def _known_and_tail(topk_BTK: Tensor, log_probs_BT: Tensor, entropy_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities known, the sampled token's among them, the tail's mass, and a tail token's log p."""
    if topk_BTK.shape[-1] < 1:
        raise InvalidValueError("top-k estimates need at least one log-probability per token, got K = 0")
    topk_BTK, log_probs_BT1 = topk_BTK.float(), log_probs_BT.float()[..., None]
    smallest_BT1 = topk_BTK.amin(-1, keepdim=True)
    # A sampled token below all K is known, too. One among them must not count twice, nor be missed by rounding: it
    # counts as one of them unless it lies more than _ROUNDING below the smallest.
    sampled_BT1 = log_probs_BT1.masked_fill(log_probs_BT1 >= smallest_BT1 - _ROUNDING, -torch.inf)
    log_p = torch.cat([topk_BTK, sampled_BT1], dim=-1).clamp(min=-LIMIT)
    p = log_p.exp()
    # What is left of the mass, and of H = -sum p log p in nats, belongs to the tail.
    mass = (1.0 - p.sum(-1)).clamp(min=0.0)
    tail_entropy = (entropy_BT.float() + (p * log_p).sum(-1)).clamp(min=0.0)
    tail = -tail_entropy / mass.clamp(min=torch.finfo(torch.float32).tiny)
    # No tail token is likelier than the smallest of the K; in a tail of little mass rounding could say so.
    return log_p, mass, tail.clamp(min=-LIMIT).minimum(smallest_BT1.squeeze(-1).clamp(min=-LIMIT))
