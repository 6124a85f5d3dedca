"""Entropy sensitivity of tokens, and the local entropy change of rollouts."""

import torch
from torch import Tensor

from entrocraft.dynamics.moments import moments_of
from entrocraft.entropy import as_tensor, refuse_other_shape


def entropy_sensitivity(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return `S_t = X_y - E[X]` of each sampled token, exactly.

    Computed as `S = (1 - p_y)^2 [p_y (1 + R) (log_odds_y + H_r) - C]` from the moments of the other tokens'
    distribution (`moments.Moments`), which is the same number without cancellation: its sign is right for
    tokens of probability 1 - 1e-10, too.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`. The extra memory is a few times
            `chunk_size * V` floats.

    Returns:
        Sensitivities (B, T), float32: nats of entropy lost per unit of `eta * A`. Zero where the
        distribution is certain or uniform: no step along `e_y - p` changes entropy there to first order
        (uniform, up to rounding), or at all (certain). A row that is all `-inf` or holds a NaN gives NaN.

    Raises:
        InvalidValueError: `chunk_size` is not positive.

    Source: 2604.26326, Eq. 4, one term of its sum over tokens, with the change of the probabilities written out.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
        >>> entropy_sensitivity(logits, torch.tensor([[0, 1]])).round(decimals=3)
        tensor([[ 0.1070, -0.3960]])
    """
    log_odds, entropy, collision, covariance = moments_of(logits_BTV, tokens_BT, chunk_size)
    # S = dp_y (log p_y - b), as in `conditions`, with dp_y = p_y (1 - p_y)^2 (1 + R) and log p_y - b =
    # log_odds + H_r - C / (p_y (1 + R)); the product leaves nothing to divide by.
    confidence = torch.sigmoid(log_odds) * (1.0 + collision) * (log_odds + entropy)
    # sigmoid(-log_odds) is 1 - p_y, to full relative precision however certain the token.
    return torch.sigmoid(-log_odds).square() * (confidence - covariance)


def rollout_entropy_change(sensitivity_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """Return each rollout's predicted local entropy change, `-A * mean_t S_t` over its counted tokens.

    Args:
        sensitivity_BT: Sensitivities from `entropy_sensitivity` or an estimate, in nats per unit of `eta * A`.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts; a rollout with none changes nothing.

    Returns:
        Predicted changes (B,), in nats per token per unit step; positive raises entropy.

    Raises:
        InvalidValueError: Shapes do not belong together.

    Example:
        >>> rollout_entropy_change(torch.tensor([[0.2, 0.4]]), torch.tensor([2.0]), torch.ones(1, 2))
        tensor([-0.6000])
    """
    counted_BT, advantages_B = as_tensor("mask", mask_BT).bool(), as_tensor("advantages", advantages_B)
    refuse_other_shape("mask", counted_BT, sensitivity_BT.shape)
    refuse_other_shape("advantages", advantages_B, sensitivity_BT.shape[:1])
    sums_B = sensitivity_BT.masked_fill(~counted_BT, 0.0).sum(-1)  # what is masked may be NaN
    # Per token, as the entropy it changes is: S is what a unit step takes away, so reinforcing (A > 0) has a minus.
    return -advantages_B * (sums_B / counted_BT.sum(-1).clamp(min=1))


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

    Raises:
        InvalidValueError: Shapes do not belong together, or `chunk_size` is not positive.

    Source: 2604.26326, Eq. 4, with the update written out in logits.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, 0.0]]]).expand(2, 1, 3)
        >>> tokens, advantages = torch.tensor([[0], [1]]), torch.tensor([1.0, 1.0])
        >>> predicted_entropy_change(logits, tokens, advantages, torch.ones(2, 1)).round(decimals=3)
        tensor([-0.1070,  0.3960])
    """
    sensitivity_BT = entropy_sensitivity(logits_BTV, tokens_BT, chunk_size)
    return rollout_entropy_change(sensitivity_BT, advantages_B, mask_BT)
