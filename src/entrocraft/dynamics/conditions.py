"""When the sign of the advantage is that of the entropy change: Theorems 1 and 2 of the paper (arXiv 2604.26326)."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from entrocraft.dynamics.moments import LIMIT, moments_of


def output_space_baseline(logits_BTV: Tensor, tokens_BT: Tensor, chunk_size: int | None = None) -> Tensor:
    """Return the output-space baseline of each sampled token, `b_t = -sum_{i != y} (dp_i / dp_y) log p_i`.

    For the step `dz = e_y - p`, `dp_y = p_y (1 - 2 p_y + q)` and `dp_i = -p_i (p_i + p_y - q)`, q = sum p^2,
    so `dH = -dp_y (log p_y - b)` and `S = dp_y (log p_y - b)`. The weights `-dp_i / dp_y` sum to 1: b is a
    mean of the other tokens' log-probabilities. Written with the moments of the other tokens' distribution
    (`moments.Moments`), where nothing cancels as p_y goes to 1,

        b = log(1 - p_y) - H_r + C / (p_y (1 + R)).

    Args:
        logits_BTV: Logits, any floating dtype; `-inf` allowed.
        tokens_BT: The sampled tokens, integers in [0, V).
        chunk_size: Tokens per chunk; see `entropy.chunk_tokens`.

    Returns:
        Baselines (B, T), float32, in nats. It goes to -inf, like log(1 - p_y), as p_y goes to 1; to +inf, like
        1 / p_y, as p_y goes to 0; and is cut to -1e30 and 1e30 at the ends. Uniform: log p_y.
        A row that is all `-inf` or holds a NaN gives NaN.

    Raises:
        InvalidValueError: `chunk_size` is not positive.

    Source: 2604.26326, Eq. 4, one term of the sum over tokens.

    Example:
        >>> logits = torch.tensor([[[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]]).log()
        >>> output_space_baseline(logits, torch.tensor([[0, 1]])).round(decimals=3)
        tensor([[-2.3030,  0.4320]])
    """
    log_odds, entropy, collision, covariance = moments_of(logits_BTV, tokens_BT, chunk_size)
    # p_y divides a covariance that may be 0: of an impossible token, 0 / tiny is 0 and C / tiny is cut below.
    probs = torch.sigmoid(log_odds).clamp(min=torch.finfo(torch.float32).tiny)
    # log(1 - p_y) = logsigmoid(-log_odds): the difference 1 - p_y would be 0 from p_y = 1 - 6e-8 on.
    baseline = logsigmoid(-log_odds) - entropy + covariance / (probs * (1.0 + collision))
    return baseline.clamp(-LIMIT, LIMIT)


def token_condition(log_probs_BT: Tensor, baseline_BT: Tensor) -> Tensor:
    """Return where Theorem 1 holds, `log p_y > b_t`: a positive advantage lowers entropy, a negative one raises it.

    It is the sign of `S_t`: the condition holds where `entropy_sensitivity` is positive, exactly. Both sides
    of the theorem's "whenever" are thus known: where it fails, the sign turns.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        baseline_BT: Baselines from `output_space_baseline`, of the same (tempered) distribution.

    Returns:
        Booleans (B, T). As p_y goes to 1 it holds, while the change itself vanishes; as p_y goes to 0 it fails.
        Where p is uniform both sides are equal and entropy does not move: rounding decides.

    Source: 2604.26326, Theorem 1.

    Example:
        >>> token_condition(torch.tensor([[-0.22, -2.3]]), torch.tensor([[-2.3, 0.43]]))
        tensor([[ True, False]])
    """
    return log_probs_BT > baseline_BT


def sequence_condition(log_probs_BT: Tensor, baseline_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return where Theorem 2 holds, `sum_t log p_y >= sum_t b_t` over the counted tokens.

    The theorem gives all tokens of a sequence the same weight. The sum of the token changes does not: it is
    `-A sum_t dp_y (log p_y - b)`, and dp_y is close to 0 for a token that is all but certain, whose margin
    `log p_y - b` is the largest of all. A few such tokens can fulfil the condition for a sequence whose
    entropy moves the other way. The sign of `rollout_entropy_change` is the one to act on.

    Args:
        log_probs_BT: Log-probabilities of the sampled tokens, in nats.
        baseline_BT: Baselines from `output_space_baseline`, of the same (tempered) distribution.
        mask_BT: True where a token counts.

    Returns:
        Booleans (B,). True for a rollout without counted tokens: 0 >= 0, and nothing moves.

    Source: 2604.26326, Theorem 2, as stated.

    Example:
        >>> log_probs, baseline = torch.tensor([[-0.1, -3.0]]), torch.tensor([[-2.0, -0.5]])
        >>> sequence_condition(log_probs, baseline, torch.tensor([[1, 1]]))  # 1.9 - 2.5 < 0
        tensor([False])
        >>> sequence_condition(log_probs, baseline, torch.tensor([[1, 0]]))
        tensor([True])
    """
    # The theorem compares products of probabilities, which would vanish in any dtype: their logarithms are summed.
    margin_BT = log_probs_BT.float() - baseline_BT.float()
    return margin_BT.masked_fill(~mask_BT.bool(), 0.0).sum(-1) >= 0
