"""Which way a policy-gradient step moves entropy, to first order.

Shapes: B rollouts, T tokens, V vocabulary, N tokens of a chunk.

Take the logits z of one next-token distribution p as free variables, and one step of size eta on a
sampled token y with advantage A: `dz = eta * A * (e_y - p)`. Since `dH/dz_i = -p_i (log p_i + H)`,

    dH = -eta * A * S,    S = X_y - E_{i~p}[X_i],    X_i = p_i (log p_i + H).

`S`, the *entropy sensitivity* of the token, is positive for a token more confident than the rest,
where reinforcing lowers entropy and punishing raises it: Theorem 1 and Eq. 4 of the paper. Where it
is negative, a rare token, the sign turns, which a rule that looks at A alone cannot see.
"""

import torch
from torch import Tensor

from entrocraft.entropy import chunk_tokens, safe_log_softmax
from entrocraft.errors import InvalidValueError

_MIN_TOKENS_PER_BIN = 16  # fewer would compare a token with little but itself


def entropy_sensitivity(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return `S_t = X_y - E[X]` of each sampled token, exactly.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`. The extra memory is a few times
            `chunk_size * V` floats.

    Returns:
        Sensitivities (B, T), float32: nats of entropy lost per unit of `eta * A`. Zero where the
        distribution is certain or uniform: no step along `e_y - p` changes entropy there to first order
        (uniform), or at all (certain).

    Source: PAPER section 3, Eq. 4, in its per-token form.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
        >>> entropy_sensitivity(logits, torch.tensor([[0, 1]])).round(decimals=3)
        tensor([[ 0.1070, -0.3960]])
    """
    rows, tokens = logits_BTV.reshape(-1, logits_BTV.shape[-1]), tokens_BT.reshape(-1, 1)
    chunk_size = chunk_tokens(chunk_size, rows.shape[-1])
    chunks = [
        _sensitivity_rows(chunk, index)
        for chunk, index in zip(rows.split(chunk_size), tokens.split(chunk_size), strict=True)
    ]
    return torch.cat(chunks).reshape(tokens_BT.shape)


def _sensitivity_rows(logits_NV: Tensor, tokens_N1: Tensor) -> Tensor:
    log_probs = safe_log_softmax(logits_NV)
    probs = log_probs.exp()
    x = probs * log_probs
    entropy = -x.sum(-1, keepdim=True)
    x = torch.addcmul(x, probs, entropy)  # X = p log p + p H
    return x.gather(-1, tokens_N1).squeeze(-1) - (probs * x).sum(-1)


def estimated_entropy_sensitivity(
    log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor, num_bins: int = 12
) -> Tensor:
    """Estimate `S_t` from the sampled token's log-probability and the entropy alone.

    `X_y = p_y (log p_y + H)` is exact. `E[X]` is estimated by the mean of `X_y` over the batch's tokens of
    similar entropy, since each `y` is itself a draw from `p`: counted tokens are sorted by entropy
    into `num_bins` bins of equal size. No pass over the vocabulary is needed.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        entropy_BT: Token entropies, in nats, of the same (tempered) distribution.
        mask_BT: True where a token counts.
        num_bins: Bins at most; a bin holds no fewer than 16 tokens, unless there is only one.

    Returns:
        Estimated sensitivities (B, T), float32; zero where the mask is.

    Raises:
        InvalidValueError: `num_bins` is not positive.

    Source: FINDINGS of this project; not in the paper.

    Example:
        >>> log_probs, entropy = torch.tensor([[-0.1, -3.0]]), torch.tensor([[0.4, 0.4]])
        >>> estimated_entropy_sensitivity(log_probs, entropy, torch.ones(1, 2)).round(decimals=3)
        tensor([[ 0.2000, -0.2000]])
    """
    if num_bins < 1:
        raise InvalidValueError(f"num_bins must be at least 1, got {num_bins}")
    counted = mask_BT.bool()
    log_probs_N, entropy_N = log_probs_BT[counted].float(), entropy_BT[counted].float()
    x_N = log_probs_N.exp() * (log_probs_N + entropy_N)
    num_tokens = x_N.numel()
    rank_N = torch.empty_like(x_N, dtype=torch.long)
    rank_N[entropy_N.argsort(stable=True)] = torch.arange(num_tokens, device=x_N.device)
    num_bins = max(1, min(num_bins, num_tokens // _MIN_TOKENS_PER_BIN))
    bin_N = rank_N * num_bins // max(num_tokens, 1)
    sums = x_N.new_zeros(num_bins).index_add_(0, bin_N, x_N)
    counts = x_N.new_zeros(num_bins).index_add_(0, bin_N, torch.ones_like(x_N))
    sensitivity_BT = torch.zeros_like(entropy_BT, dtype=torch.float32)
    sensitivity_BT[counted] = x_N - (sums / counts.clamp(min=1.0))[bin_N]
    return sensitivity_BT


def rollout_entropy_change(sensitivity_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """Return each rollout's predicted entropy change, `-A * mean_t S_t` over its counted tokens.

    Args:
        sensitivity_BT: From `entropy_sensitivity` or its estimate.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts; a rollout with none changes nothing.

    Returns:
        Predicted changes (B,), in nats per token per unit step; positive raises entropy.

    Example:
        >>> rollout_entropy_change(torch.tensor([[0.2, 0.4]]), torch.tensor([2.0]), torch.ones(1, 2))
        tensor([-0.6000])
    """
    mask_BT = mask_BT.to(sensitivity_BT.dtype)
    mean_B = (sensitivity_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1.0)
    return -advantages_B * mean_B


def predicted_entropy_change(
    logits_BTV: Tensor,
    tokens_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    chunk_size: int | None = None,
) -> Tensor:
    """Return how much one unit step on each rollout would change its mean entropy, exactly.

    `dH = -A * mean_t [p_y (log p_y + H) - sum_i p_i^2 (log p_i + H)]`, first order, logits taken as free:
    what one rollout's update does to another's distribution is not seen.

    Args:
        logits_BTV: Logits at the completion positions, divided by the sampling temperature.
        tokens_BT: The sampled tokens.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts.
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`.

    Returns:
        Predicted changes (B,), in nats per token per unit step; positive raises entropy. Zero for a
        zero advantage and for a rollout without counted tokens.

    Source: Eq. 4 of the paper, with the update written out in logits.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, 0.0]]]).expand(2, 1, 3)
        >>> tokens, advantages = torch.tensor([[0], [1]]), torch.tensor([1.0, 1.0])
        >>> predicted_entropy_change(logits, tokens, advantages, torch.ones(2, 1)).round(decimals=3)
        tensor([-0.1070,  0.3960])
    """
    sensitivity_BT = entropy_sensitivity(logits_BTV, tokens_BT, chunk_size)
    return rollout_entropy_change(sensitivity_BT, advantages_B, mask_BT)
