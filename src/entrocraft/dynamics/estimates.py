"""Estimates that need no pass over the vocabulary: from the sampled token's log-probability and the entropy."""

import math
from typing import Protocol

import torch
from torch import Tensor

from entrocraft.entropy import as_tensor, refuse_other_shape
from entrocraft.errors import InvalidValueError

_MIN_TOKENS_PER_BIN = 16  # fewer would compare a token with little but itself
_MOST_RARITY = 2.0  # nats: beyond it a token tells little more of others, and would outweigh them
_MOST_SORTED = 2**16  # tokens that tell the edges of a dozen bins well enough; sorting more would take most of the time


class Elsewhere(Protocol):
    """The tokens of a batch that is divided among several processes, as each of them sees it."""

    def place(self, num_tokens: int) -> tuple[int, int]:
        """Return the number of the first of this process's tokens among all of them, and how many there are in all."""
        ...

    def joined(self, values_N: Tensor) -> Tensor:
        """Return the values of all processes, in the order of their tokens."""
        ...

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over the processes of a tensor on the CPU."""
        ...


def estimated_entropy_sensitivity(
    log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor, num_bins: int = 12, elsewhere: Elsewhere | None = None
) -> Tensor:
    """Estimate `S_t` from the sampled token's log-probability and the entropy alone.

    `X_y = p_y (log p_y + H)` is exact. `E[X]` is estimated by the mean of `X_y` over the batch's tokens of
    similar entropy, since each `y` is itself a draw from `p`: counted tokens are sorted by entropy
    into `num_bins` bins of equal size (of nearly equal size, where more than 65,536 tokens count). No pass over the
    vocabulary is needed.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        entropy_BT: Token entropies, in nats, of the same (tempered) distribution.
        mask_BT: True where a token counts.
        num_bins: Bins at most; a bin holds no fewer than 16 tokens, unless there is only one.
        elsewhere: The rest of the batch, where other processes hold some of it; all of them call then.

    Returns:
        Estimated sensitivities (B, T), float32; zero where the mask is.

    Raises:
        InvalidValueError: Shapes differ, or `num_bins` is not positive.

    Source: not in the paper; how well it agrees with the exact value is in docs/tracking.md, "What predictions are
    worth".

    Example:
        >>> log_probs, entropy = torch.tensor([[-0.1, -3.0]]), torch.tensor([[0.4, 0.4]])
        >>> estimated_entropy_sensitivity(log_probs, entropy, torch.ones(1, 2)).round(decimals=3)
        tensor([[ 0.2000, -0.2000]])
    """
    log_probs_BT, entropy_BT, counted = _alike(log_probs_BT, entropy_BT, mask_BT)
    log_probs_N, entropy_N = log_probs_BT[counted].float(), entropy_BT[counted].float()
    # X_y = p_y (log p_y + H), in nats: positive for a token likelier than exp(-H), the geometric mean of its context.
    x_N = log_probs_N.exp() * (log_probs_N + entropy_N)
    x_N = x_N.masked_fill(log_probs_N == -math.inf, 0.0)  # p log p is 0 at p = 0, in floats NaN
    return _spread(x_N - _mean_at_similar_entropy(x_N, entropy_N, num_bins, elsewhere), counted)


def token_rarity(log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return how much rarer each token is than its context's entropy lets expect, `min(-log p_y - H, 2)`.

    The gradient of a distribution's entropy is `-E_{y~p}[(log p_y + H) grad log p_y]`. So a step on a sampled token
    that weights take for what to do in all contexts alike, not in its own alone, moves entropy as `-log p_y - H` says.
    `estimated_entropy_sensitivity` supposes the opposite, that a step moves one context; there a token counts in
    proportion to its probability.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        entropy_BT: Token entropies, in nats, of the same (tempered) distribution.
        mask_BT: True where a token counts.

    Returns:
        Rarities (B, T), float32, in nats; reinforcing a token of positive rarity raises entropy. Zero where masked.

    Raises:
        InvalidValueError: Shapes differ.

    Source: the score-function form of the gradient of entropy; not in the paper. The limit of 2 nats is ours, and what
    it is worth is in docs/control.md, "Predictors".

    Example:
        >>> log_probs, entropy = torch.tensor([[-0.1, -3.0, -9.0]]), torch.tensor([[0.4, 1.5, 0.5]])
        >>> token_rarity(log_probs, entropy, torch.ones(1, 3))
        tensor([[-0.3000,  1.5000,  2.0000]])
    """
    log_probs_BT, entropy_BT, counted_BT = _alike(log_probs_BT, entropy_BT, mask_BT)
    rarity_BT = (-log_probs_BT.float() - entropy_BT.float()).clamp(max=_MOST_RARITY)
    return rarity_BT.masked_fill(~counted_BT, 0.0)  # what is masked may be NaN


def estimated_self_kernel(
    log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor, num_bins: int = 12, elsewhere: Elsewhere | None = None
) -> Tensor:
    """Estimate `K_t = 1 - 2 p_y + sum_v p_v^2` from the sampled token's log-probability and the entropy alone.

    `sum_v p_v^2 = E[p_y]` is estimated by the mean of `p_y` over the batch's tokens of similar entropy, as in
    `estimated_entropy_sensitivity`, but by no less than `p_y^2`, which it contains: `K_t >= (1 - p_y)^2`.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        entropy_BT: Token entropies, in nats, of the same (tempered) distribution.
        mask_BT: True where a token counts.
        num_bins: Bins at most; a bin holds no fewer than 16 tokens, unless there is only one.
        elsewhere: The rest of the batch, where other processes hold some of it; all of them call then.

    Returns:
        Estimated kernels (B, T), float32; zero where the mask is.

    Raises:
        InvalidValueError: Shapes differ, or `num_bins` is not positive.

    Source: not in the paper; docs/tracking.md, "What predictions are worth".

    Example:
        >>> log_probs, entropy = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.6, 0.6]])
        >>> estimated_self_kernel(log_probs, entropy, torch.ones(1, 2)).round(decimals=3)  # sum p^2: 0.5
        tensor([[0.1000, 0.9000]])
    """
    log_probs_BT, entropy_BT, counted = _alike(log_probs_BT, entropy_BT, mask_BT)
    p_N = log_probs_BT[counted].float().exp()
    # E_{y~p}[p_y] = sum_v p_v^2: what drawn tokens have of p_y is, on average, what is wanted.
    collision_N = _mean_at_similar_entropy(p_N, entropy_BT[counted].float(), num_bins, elsewhere)
    return _spread(1.0 - 2.0 * p_N + collision_N.maximum(p_N.square()), counted)


def _alike(log_probs_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three as tensors of one shape, the mask as bools; refuses those of other shapes."""
    log_probs_BT = as_tensor("log-probabilities", log_probs_BT)
    entropy_BT, counted_BT = as_tensor("entropies", entropy_BT), as_tensor("mask", mask_BT).bool()
    refuse_other_shape("entropies", entropy_BT, log_probs_BT.shape)
    refuse_other_shape("mask", counted_BT, log_probs_BT.shape)
    return log_probs_BT, entropy_BT, counted_BT


def _mean_at_similar_entropy(x_N: Tensor, entropy_N: Tensor, num_bins: int, elsewhere: Elsewhere | None) -> Tensor:
    """Return for each token the mean of x over the tokens in its bin, of bins of equal size by entropy."""
    if num_bins < 1:
        raise InvalidValueError(f"num_bins must be at least 1, got {num_bins}")
    first, num_tokens = (0, x_N.numel()) if elsewhere is None else elsewhere.place(x_N.numel())
    num_bins = max(1, min(num_bins, num_tokens // _MIN_TOKENS_PER_BIN))
    # Bins hold equally many tokens, whatever entropies they have: most tokens are nearly certain, few are open.
    stride = max(1, math.ceil(num_tokens / _MOST_SORTED))
    sample = entropy_N[-first % stride :: stride]  # evenly spaced among the tokens of all processes
    sample = sample if elsewhere is None else elsewhere.joined(sample)
    if stride > 1:  # every token is binned by the edges of the sample's bins
        edges = sample.sort().values[torch.arange(1, num_bins, device=x_N.device) * len(sample) // num_bins]
        bin_N = torch.bucketize(entropy_N, edges, right=True)
    else:
        rank_N = torch.empty_like(sample, dtype=torch.long)
        rank_N[sample.argsort(stable=True)] = torch.arange(num_tokens, device=x_N.device)
        bin_N = (rank_N * num_bins // max(num_tokens, 1))[first : first + x_N.numel()]
    if elsewhere is None:
        return torch.stack([x_N[bin_N == index].mean() for index in range(num_bins)])[bin_N]
    sums = torch.stack([x_N.double()[bin_N == index].sum() for index in range(num_bins)]).cpu()
    totals, counts = elsewhere.summed(torch.stack([sums, bin_N.bincount(minlength=num_bins).cpu().double()]))
    return (totals / counts).to(x_N)[bin_N]


def _spread(x_N: Tensor, counted_BT: Tensor) -> Tensor:
    """Put the counted tokens' values back in their places, and zero elsewhere."""
    return x_N.new_zeros(counted_BT.shape).masked_scatter_(counted_BT, x_N)
