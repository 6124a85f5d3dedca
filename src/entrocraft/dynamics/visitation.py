"""The entropy change that comes from visiting other contexts.

The entropy of a policy is an expectation over what it visits. With h(y) the sum of the token entropies
of a rollout and H = E[h] / E[len] the mean per token,

    E[len] dH = E[dh] + E[(h - H len) dlog pi].

The first term is the local one of `sensitivity`; the second moves entropy by making rollouts that are
more uncertain than the mean, token for token, more or less frequent. On answers of very different length
or certainty it is the larger by far.
"""

import torch
from torch import Tensor

from entrocraft.dynamics.moments import moments_of
from entrocraft.entropy import entropy_sums, refuse_other_shape


def self_kernel(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return how much a unit step on a token raises its own log-probability, `K_t = 1 - 2 p_y + sum_v p_v^2`.

    It is the squared length of `e_y - p`. Computed as `(1 - p_y)^2 (1 + R)`, with R the collision probability of
    the other tokens (`moments.Moments`), without cancellation.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`.

    Returns:
        Kernels (B, T), float32, nats per unit of `eta * A`, between 0 (a certain token) and 2 (an impossible
        one beside a certain one). `1 - 1/V` where p is uniform.

    Raises:
        InvalidValueError: `chunk_size` is not positive.

    Source: `dp_y / p_y` of the step `dz = e_y - p`, the `dp` of Theorem 1 in 2604.26326.

    Example:
        >>> self_kernel(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor([[0.7500]])
    """
    log_odds, _, collision, _ = moments_of(logits_BTV, tokens_BT, chunk_size)
    # sum_v p_v^2 = p_y^2 + (1 - p_y)^2 R, so that 1 - 2 p_y + sum_v p_v^2 = (1 - p_y)^2 (1 + R).
    return torch.sigmoid(-log_odds).square() * (1.0 + collision)


def self_kernel_from_collision(log_probs_BT: Tensor, collision_BT: Tensor) -> Tensor:
    """Return the self-kernel `K_t = 1 - 2 p_y + sum_v p_v^2` where the sum of squares is known, without a pass.

    For engines that measure `sum_v p_v^2` beside the log-probabilities. It is what `self_kernel` computes from
    the logits, but for rounding: the error is that of `collision_BT`, about 1e-7 in float32, while `self_kernel`
    keeps its relative precision however certain a token is.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats; `-inf` allowed.
        collision_BT: `sum_v p_v^2` over the whole vocabulary at each position: the probability that two draws
            are the same token, between 1 / V and 1. Of the same (tempered) distribution.

    Returns:
        Kernels (B, T), float32, nats per unit of `eta * A`, between 0 (a certain token) and 2 (an impossible
        one beside a certain one). `1 - 1/V` where p is uniform. Never less than `(1 - p_y)^2`: the sum holds
        `p_y^2` itself, and is taken for that where it is smaller by rounding.

    Raises:
        InvalidValueError: There is not one collision probability for each token.

    Source: as `self_kernel`.

    Example:
        >>> p = torch.tensor([[0.5, 0.3, 0.2]])
        >>> collision = p.square().sum(-1, keepdim=True)  # 0.38
        >>> self_kernel_from_collision(p[:, :1].log(), collision)  # of the first token: 1 - 1 + 0.38
        tensor([[0.3800]])
    """
    refuse_other_shape("collision probabilities", collision_BT, log_probs_BT.shape)
    log_probs_BT = log_probs_BT.float()
    # (1 - p_y)^2 + (sum_v p_v^2 - p_y^2): two numbers that are not negative, where 1 - 2 p_y may cancel the sum.
    others_BT = (collision_BT.float() - (2.0 * log_probs_BT).exp()).clamp(min=0.0)
    return torch.expm1(log_probs_BT).square() + others_BT


def visitation_rise(
    self_kernel_BT: Tensor, entropy_BT: Tensor, mask_BT: Tensor, mean_entropy: float | None = None
) -> Tensor:
    """Return how much one unit step on each token raises entropy by changing how often its rollout is visited.

    `K_t * (h - H len)`: the step raises the token's log-probability, and so the rollout's, by `K_t`, and
    `h - H len` is how much more entropy the rollout has than as many mean tokens. Times the advantage, it is the
    token's part in its rollout's `visitation_entropy_change` for a loss that averages over all tokens.

    Args:
        self_kernel_BT: Kernels from `self_kernel`, `self_kernel_from_collision` or an estimate.
        entropy_BT: Token entropies, in nats.
        mask_BT: True where a token counts.
        mean_entropy: H, in nats per token; by default the mean over the counted tokens given. In data-parallel
            training it must be that of all ranks.

    Returns:
        Rises (B, T), float32, in the unit of minus `entropy_sensitivity`; 0 where the mask is.

    Source: as `visitation_entropy_change`.

    Example:
        >>> entropy = torch.tensor([[2.0, 2.0], [1.0, 1.0]])  # H = 1.5
        >>> visitation_rise(torch.tensor([[0.5, 1.0], [1.0, 1.0]]), entropy, torch.ones(2, 2))
        tensor([[ 0.5000,  1.0000],
                [-1.0000, -1.0000]])
    """
    kernel_BT = self_kernel_BT.float().masked_fill(~mask_BT.bool(), 0.0)  # what is masked may be NaN
    return kernel_BT * _excess(entropy_BT, mask_BT, mean_entropy)[:, None]


def _excess(entropy_BT: Tensor, mask_BT: Tensor, mean_entropy: float | None) -> Tensor:
    """Return h - H len (B,), in nats: positive for a rollout more uncertain than the mean, token for token."""
    sums_B, counts_B = entropy_sums(entropy_BT, mask_BT)
    if mean_entropy is None:
        mean_entropy = (sums_B.sum() / counts_B.sum().clamp(min=1)).item()
    return sums_B - mean_entropy * counts_B


def visitation_entropy_change(
    self_kernel_BT: Tensor,
    entropy_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    mean_entropy: float | None = None,
) -> Tensor:
    """Return how much one unit step on each rollout changes entropy by changing how often it is visited.

    `dH = A * mean_t(K_t) * (h - H len)`: the step raises the rollout's log-probability by `A * mean_t(K_t) * len`
    over its len tokens, each with weight `1 / len`, and `h - H len` is how much more entropy the rollout has than
    as many mean tokens. Added to `rollout_entropy_change` it is the whole first-order change, both without the
    common factor `eta / (B * mean len)`, for a loss that averages over each rollout's tokens; for a loss that
    averages over all tokens of the batch, multiply both by len.

    Logits are taken as free, and each rollout as the only visitor of its contexts: what the update does to the
    frequency of other rollouts is not seen, and a rollout weighs `1 / B`, not its probability. It is the
    change of the entropy of the batch, importance-weighted to the new policy.

    Args:
        self_kernel_BT: Kernels from `self_kernel`, `self_kernel_from_collision` or an estimate.
        entropy_BT: Token entropies, in nats.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts; a rollout with none changes nothing.
        mean_entropy: H, in nats per token; by default the mean over the counted tokens given. In data-parallel
            training it must be that of all ranks.

    Returns:
        Predicted changes (B,), float32, in the unit of `rollout_entropy_change`; positive raises entropy. Zero
        for a rollout as uncertain as the mean, and so for a batch of one.

    Source: not in the paper; what it is worth beside other predictions is in docs/control.md, "Predictors".

    Example:
        >>> entropy = torch.tensor([[2.0, 2.0], [1.0, 1.0]])  # H = 1.5: reinforcing the first raises it
        >>> visitation_entropy_change(torch.ones(2, 2), entropy, torch.ones(2), torch.ones(2, 2))
        tensor([ 1., -1.])
    """
    counts_B = mask_BT.bool().sum(-1)
    # mean_t(K_t): how far the step moves the mean log-probability of the rollout's tokens, per unit of A.
    kernels_B = self_kernel_BT.float().masked_fill(~mask_BT.bool(), 0.0).sum(-1) / counts_B.clamp(min=1)
    return advantages_B * kernels_B * _excess(entropy_BT, mask_BT, mean_entropy)
