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

from entrocraft.dynamics.moments import rest_of
from entrocraft.entropy import entropy_sums


def self_kernel(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return how much a unit step on a token raises its own log-probability, `K_t = 1 - 2 p_y + sum_v p_v^2`.

    It is the squared length of `e_y - p`; computed as `(1 - p_y)^2 (1 + R)` (`Rest`), without cancellation.

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`.

    Returns:
        Kernels (B, T), float32, nats per unit of `eta * A`, between 0 (a certain token) and 2 (an impossible
        one beside a certain one). `1 - 1/V` where p is uniform.

    Raises:
        InvalidValueError: `chunk_size` is not positive.

    Source: FINDINGS section 5; `dp_y / p_y` of the softmax step, PAPER section 3.

    Example:
        >>> self_kernel(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor([[0.7500]])
    """
    log_odds, _, collision, _ = rest_of(logits_BTV, tokens_BT, chunk_size)
    return torch.sigmoid(-log_odds).square() * (1.0 + collision)


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
        self_kernel_BT: From `self_kernel` or its estimates.
        entropy_BT: Token entropies, in nats.
        advantages_B: One advantage per rollout.
        mask_BT: True where a token counts; a rollout with none changes nothing.
        mean_entropy: H, in nats per token; by default the mean over the counted tokens given. In data-parallel
            training it must be that of all ranks.

    Returns:
        Predicted changes (B,), float32, in the unit of `rollout_entropy_change`; positive raises entropy. Zero
        for a rollout as uncertain as the mean, and so for a batch of one.

    Source: FINDINGS section 5; not in the paper.

    Example:
        >>> entropy = torch.tensor([[2.0, 2.0], [1.0, 1.0]])  # H = 1.5: reinforcing the first raises it
        >>> visitation_entropy_change(torch.ones(2, 2), entropy, torch.ones(2), torch.ones(2, 2))
        tensor([ 1., -1.])
    """
    sums_B, counts_B = entropy_sums(entropy_BT, mask_BT)
    if mean_entropy is None:
        mean_entropy = (sums_B.sum() / counts_B.sum().clamp(min=1)).item()
    kernels_B = self_kernel_BT.float().masked_fill(~mask_BT.bool(), 0.0).sum(-1) / counts_B.clamp(min=1)
    return advantages_B * kernels_B * (sums_B - mean_entropy * counts_B)
