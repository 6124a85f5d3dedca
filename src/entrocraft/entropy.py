"""Policy entropy and log-probabilities from logits, in chunks, accumulated in float32 or better.

Shapes: B rollouts, T tokens, V vocabulary, N tokens of a chunk. All entropies are in nats per token.
"""

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

Aggregation = Literal["token_mean", "sequence_mean"]
"""How token entropies become one number for a batch; see `batch_entropy`."""

_CHUNK_LOGITS = 2**22  # 16 MiB of float32: small enough for allocators to reuse rather than map anew
_LOWEST = torch.finfo(torch.float32).min


def chunk_tokens(chunk_size: int | None, vocabulary: int) -> int:
    """Return how many tokens to work on at once; by default as many as 4 million logits hold.

    Args:
        chunk_size: Number of tokens asked for, or None.
        vocabulary: Number of logits of a token.

    Raises:
        InvalidValueError: `chunk_size` is no whole number, or not positive.
    """
    if chunk_size is None:
        return max(1, _CHUNK_LOGITS // max(vocabulary, 1))
    try:
        number = operator.index(chunk_size)
    except TypeError as error:
        raise InvalidValueError(f"chunk_size must be a whole number, got {chunk_size!r:.60}") from error
    if number < 1:
        raise InvalidValueError(f"chunk_size must be at least 1, got {number}")
    return min(int(number), sys.maxsize)


def as_tensor(name: str, value: Any) -> Tensor:
    """Return numbers as a tensor: a tensor as it is, an array or a list as one.

    Raises:
        InvalidValueError: They are no real numbers.
    """
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{name} must be a tensor, an array or a list of numbers, got {value!r:.60}") from error
    if tensor.is_complex():
        raise InvalidValueError(f"{name} must be real numbers, got {tensor.dtype}")
    return tensor


def checked_logits(logits_BTV: Any) -> Tensor:
    """Return logits as a tensor, whatever leading shape they have.

    Raises:
        InvalidValueError: They are no numbers, or there is no token to choose from.
    """
    logits_BTV = as_tensor("logits", logits_BTV)
    if not logits_BTV.ndim or not logits_BTV.shape[-1]:
        raise InvalidValueError(f"logits must have shape (..., vocabulary), got {tuple(logits_BTV.shape)}")
    return logits_BTV


def checked_tokens(tokens_BT: Any, logits_BTV: Tensor) -> Tensor:
    """Return the tokens that were drawn from distributions, one from each.

    Raises:
        InvalidValueError: There is not one token for each distribution, or it is none of the vocabulary.
    """
    tokens_BT = as_tensor("tokens", tokens_BT)
    refuse_other_shape("tokens", tokens_BT, logits_BTV.shape[:-1])
    if not tokens_BT.numel():
        return tokens_BT.long()
    if tokens_BT.is_floating_point() or tokens_BT.dtype == torch.bool:
        raise InvalidValueError(f"tokens must be whole numbers, got {tokens_BT.dtype}")
    vocabulary = logits_BTV.shape[-1]
    lowest, highest = torch.stack(torch.aminmax(tokens_BT)).tolist()  # an accelerator is waited for once
    if lowest < 0 or highest >= vocabulary:
        raise InvalidValueError(
            f"tokens must lie in [0, {vocabulary}), the vocabulary of the logits, got "
            f"{lowest if lowest < 0 else highest}; put any token, such as 0, where there is none and the mask is 0"
        )
    return tokens_BT.long()


def refuse_other_shape(name: str, value: Tensor, expected: Sequence[int]) -> None:
    """Raise `InvalidValueError` unless `value` has the shape `expected`: broadcasting would give wrong numbers."""
    if tuple(value.shape) != tuple(expected):
        raise InvalidValueError(f"{name} must have shape {tuple(expected)}, got {tuple(value.shape)}")


def safe_log_softmax(logits_NV: Tensor) -> Tensor:
    """Return log-probabilities in float32 or better, finite where one is -inf, so that 0 * log 0 is 0 and not NaN."""
    return torch.log_softmax(_at_least_float32(logits_NV), dim=-1).clamp(min=_LOWEST)


def _at_least_float32(x: Tensor) -> Tensor:
    """Return float32 for half precision, whose sum over a vocabulary would be rounded; float64 as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def token_entropy(logits_BTV: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return the entropy of each next-token distribution.

    `H_t = -sum_v p_v log p_v`, with `p = softmax(logits)` over the full vocabulary.

    Args:
        logits_BTV: Logits, any floating dtype, with any leading shape; `-inf` marks a token that cannot
            be sampled. Divide by the sampling temperature first if the tempered policy is meant.
        chunk_size: Tokens per chunk; see `chunk_tokens`. The extra memory is a few times `chunk_size * V`
            floats, whatever B and T are.

    Returns:
        Entropies (B, T), float32 (float64 for float64 logits), in nats. Differentiable.

    Raises:
        InvalidValueError: The logits are no numbers or have no vocabulary, or `chunk_size` is not positive.

    A row that is all `-inf` or holds a NaN gives NaN: there is no distribution to measure.

    Example:
        >>> token_entropy(torch.zeros(1, 2, 4))  # uniform over 4 tokens: log 4
        tensor([[1.3863, 1.3863]])
    """
    logits_BTV = checked_logits(logits_BTV)
    rows = logits_BTV.reshape(-1, logits_BTV.shape[-1])
    chunks = [_entropy_rows(chunk) for chunk in rows.split(chunk_tokens(chunk_size, rows.shape[-1]))]
    return torch.cat(chunks).reshape(logits_BTV.shape[:-1]) if chunks else _at_least_float32(rows.new_zeros(0))


def _entropy_rows(logits_NV: Tensor) -> Tensor:
    log_probs = safe_log_softmax(logits_NV)
    # From log-probabilities alone: the logarithm of a rounded probability would lose what rare tokens have.
    return -(log_probs.exp() * log_probs).sum(-1)


def token_log_probs(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return the log-probability of each sampled token, `log p_t[y_t]`.

    Args:
        logits_BTV: Logits, any floating dtype.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `chunk_tokens`.

    Returns:
        Log-probabilities (B, T), float32 (float64 for float64 logits).

    Raises:
        InvalidValueError: There is not one token of the vocabulary for each distribution, or `chunk_size` is not
            positive.

    Example:
        >>> token_log_probs(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor([[-1.3863]])
    """
    logits_BTV = checked_logits(logits_BTV)
    tokens_BT = checked_tokens(tokens_BT, logits_BTV)
    rows, tokens = logits_BTV.reshape(-1, logits_BTV.shape[-1]), tokens_BT.reshape(-1, 1)
    chunk_size = chunk_tokens(chunk_size, rows.shape[-1])
    chunks = [
        torch.log_softmax(_at_least_float32(chunk), dim=-1).gather(-1, index)
        for chunk, index in zip(rows.split(chunk_size), tokens.split(chunk_size), strict=True)
    ]
    return torch.cat(chunks).reshape(tokens_BT.shape)


def batch_entropy(entropy_BT: Tensor, mask_BT: Tensor, aggregation: Aggregation = "token_mean") -> float:
    """Return one number for the entropy of a batch.

    Args:
        entropy_BT: Token entropies, in nats.
        mask_BT: True (or 1) where a token was sampled by the policy and counts: not padding, not a
            tool's output, not a truncated completion that the loss ignores.
        aggregation: `token_mean`, all tokens alike, `sum(H * mask) / sum(mask)`, as the authors' code
            does; or `sequence_mean`, the mean over rollouts of each rollout's mean, as the paper's
            text does (section 2). Rollouts without a counted token do not take part.

    Returns:
        The entropy in nats per token.

    Raises:
        InvalidValueError: Entropies and mask differ in shape.
        MeasurementError: No token counts, or a counted entropy is NaN or infinite.

    Example:
        >>> H, mask = torch.tensor([[1.0, 1.0], [4.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> batch_entropy(H, mask), batch_entropy(H, mask, "sequence_mean")
        (2.0, 2.5)
    """
    sums_B, counts_B = entropy_sums(entropy_BT, mask_BT)
    return entropy_from_sums(sums_B, counts_B, aggregation)


def entropy_sums(entropy_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return per rollout the sum of counted token entropies (nats, float32 or better) and their number.

    Sums and counts, not means, are what ranks exchange: a mean of means weighs tokens unequally.

    Args:
        entropy_BT: Token entropies, in nats; what is masked may be NaN.
        mask_BT: True (or 1) where a token counts.

    Returns:
        Sums (B,) and counts (B,).

    Raises:
        InvalidValueError: Entropies and mask differ in shape.
    """
    entropy_BT, mask_BT = as_tensor("entropies", entropy_BT), as_tensor("mask", mask_BT)
    refuse_other_shape("mask", mask_BT, entropy_BT.shape)
    counted = mask_BT.bool()
    sums_B = _at_least_float32(entropy_BT).masked_fill(~counted, 0.0).sum(-1)
    return sums_B, counted.sum(-1)


def entropy_from_sums(sums_B: Tensor, counts_B: Tensor, aggregation: Aggregation = "token_mean") -> float:
    """Return the batch entropy from `entropy_sums`, gathered over all ranks; see `batch_entropy`.

    Args:
        sums_B: Sum of counted token entropies of each rollout, in nats.
        counts_B: Number of counted tokens of each rollout.
        aggregation: Rule by which they become one number; see `batch_entropy`.

    Raises:
        MeasurementError: No token counts, or a sum is NaN or infinite.
        UnknownNameError: There is no such aggregation.
    """
    # On the CPU, in float64, which some accelerators lack: millions of tokens are added up here.
    sums_B, counts_B = sums_B.cpu().double(), counts_B.cpu().double()
    if not bool((counts_B > 0).any()):
        raise MeasurementError(
            "no token to measure entropy on: every completion is empty or masked; "
            "check the completion length and the truncation mask"
        )
    match aggregation:
        case "token_mean":
            entropy = (sums_B.sum() / counts_B.sum()).item()
        case "sequence_mean":
            entropy = (sums_B / counts_B)[counts_B > 0].mean().item()
        case _:
            raise UnknownNameError.of("aggregation", aggregation, ["token_mean", "sequence_mean"])
    if not math.isfinite(entropy):
        rows = (~torch.isfinite(sums_B)).nonzero().flatten().tolist()
        raise MeasurementError(f"the entropy of the batch is {entropy}: rollouts {rows[:8]} are not finite")
    return entropy


def entropy_standard_error(
    sums_B: Tensor, counts_B: Tensor, groups_B: Tensor, aggregation: Aggregation = "token_mean"
) -> float | None:
    """Return the standard error of the batch entropy as a reading of the policy's.

    Prompts, not rollouts, are the independent draws: rollouts of one prompt are alike. For a ratio of sums, with
    `r_p = sum_{i of p} (h_i - H n_i)` over the P prompts,

        stderr = sqrt(P / (P - 1) * sum_p r_p^2) / sum_i n_i

    For `sequence_mean`, h_i is a rollout's mean, and n_i is 1.

    Args:
        sums_B: Sum of counted token entropies of each rollout, in nats.
        counts_B: Number of counted tokens of each rollout.
        groups_B: Index of the prompt that each rollout answers.
        aggregation: Rule by which they become one number; see `batch_entropy`.

    Returns:
        The standard error, in nats per token; None with fewer than two prompts of which a token counts, as these show
        no spread.

    Example:
        >>> sums, counts = torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([2, 2, 2, 2])
        >>> entropy_standard_error(sums, counts, torch.tensor([0, 0, 1, 1]))  # prompts at 0.5 and 1.5 nats per token
        0.5
    """
    measured_B = counts_B > 0
    sums_B, counts_B = sums_B[measured_B].double(), counts_B[measured_B].double()
    if aggregation == "sequence_mean":
        sums_B, counts_B = sums_B / counts_B, torch.ones_like(counts_B)
    prompts, index_B = groups_B[measured_B].unique(return_inverse=True)
    num_prompts, num_tokens = len(prompts), counts_B.sum()
    if num_prompts < 2:
        return None
    # r_p of the formula: how many nats a prompt's tokens lie above as many mean tokens.
    residual_B = sums_B - sums_B.sum() / num_tokens * counts_B
    residual_P = torch.zeros(num_prompts, dtype=torch.float64).index_add_(0, index_B, residual_B)
    return float((num_prompts / (num_prompts - 1) * residual_P.square().sum()).sqrt() / num_tokens)
