"""The advantage estimators: one function each, from `rewards_PG` to advantages (P, G)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrocraft.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor


def grpo(rewards_PG: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Group-standardised rewards: `(R - mean_G) / (std_G + eps)`, the unbiased standard deviation.

    Source: DeepSeekMath (2402.03300), section 4.1; `eps` as in TRL.

    Example:
        >>> import torch
        >>> grpo(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).round(decimals=3)
        tensor([[ 0.7070, -0.7070],
                [ 0.0000,  0.0000]])
    """
    _refuse_unless_positive("eps", eps)
    centred = dr_grpo(rewards_PG)
    if rewards_PG.shape[1] == 1:
        return centred  # one rollout has no unbiased deviation; its advantage is 0
    return centred / (centred.std(dim=1, keepdim=True) + eps)


def dr_grpo(rewards_PG: Tensor) -> Tensor:
    """Group-centred rewards without the standard deviation: `R - mean_G`.

    Source: Understanding R1-Zero-Like Training (2503.20783), section 3.

    Example:
        >>> import torch
        >>> dr_grpo(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        tensor([[ 0.7500, -0.2500, -0.2500, -0.2500]])
    """
    # Differences from the first reward are exactly 0 where rewards are equal, and so is their mean. The mean of the
    # rewards themselves would be rounded, and leave some advantage of 1e-8 and a sign.
    from_first_PG = rewards_PG - rewards_PG[:, :1]
    return from_first_PG - from_first_PG.mean(dim=1, keepdim=True)


def rloo(rewards_PG: Tensor) -> Tensor:
    """Leave-one-out: each reward minus the mean of the others, `G / (G - 1) * (R - mean_G)`.

    Source: Back to Basics (2402.14740), equation 7.

    Example:
        >>> import torch
        >>> rloo(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    # R_i - sum_{j != i} R_j / (G - 1) = G / (G - 1) (R_i - mean): one pass instead of G means.
    num_rollouts = rewards_PG.shape[1]
    return dr_grpo(rewards_PG) * (num_rollouts / max(num_rollouts - 1, 1))


def reinforce_plus_plus(rewards_PG: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Batch-whitened rewards: `(R - mean) / sqrt(var + eps)` over all P * G rollouts.

    It needs no groups; a batch of one rollout gives 0.

    Source: REINFORCE++ (2501.03262), equation 5, with an outcome reward and no KL term.

    Example:
        >>> import torch
        >>> reinforce_plus_plus(torch.tensor([[3.0], [1.0]])).round(decimals=3)
        tensor([[ 0.7070],
                [-0.7070]])
    """
    _refuse_unless_positive("eps", eps)
    centred = dr_grpo(rewards_PG.reshape(1, -1)).view_as(rewards_PG)  # the whole batch as one group
    if rewards_PG.numel() == 1:
        return centred
    return centred * (centred.var() + eps).rsqrt()


def raft_plus_plus(rewards_PG: Tensor) -> Tensor:
    """Rewards of successes only: `max(R, 0)`.

    Source: A Minimalist Approach to LLM Reasoning (2504.11343), section 3.

    Example:
        >>> import torch
        >>> raft_plus_plus(torch.tensor([[1.0, -1.0]]))
        tensor([[1., 0.]])
    """
    return rewards_PG.clamp(min=0.0)


def psr(rewards_PG: Tensor) -> Tensor:
    """Positive samples only: 1 for a success (`R > 0`), else 0. Rewards may be 0/1 or -1/1.

    Source: The Surprising Effectiveness of Negative Reinforcement (2506.01347), section 2.

    Example:
        >>> import torch
        >>> psr(torch.tensor([[1.0, 0.0]]))
        tensor([[1., 0.]])
    """
    return (rewards_PG > 0).to(rewards_PG.dtype)


def nsr(rewards_PG: Tensor) -> Tensor:
    """Negative samples only: -1 for a failure (`R <= 0`), else 0. Rewards may be 0/1 or -1/1.

    Source: as `psr`. The authors of the paper write `min(R, 0)`, which is the same for rewards of
    -1 and 1, and zero throughout for rewards of 0 and 1.

    Example:
        >>> import torch
        >>> nsr(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0., -1.]])
    """
    return psr(rewards_PG) - 1.0


def w_reinforce(rewards_PG: Tensor, *, positive_weight: float = 0.1) -> Tensor:
    """Both samples, successes weighted down: `positive_weight * psr + nsr`.

    Source: as `psr`, section 4, with its lambda of 0.1.

    Example:
        >>> import torch
        >>> w_reinforce(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.1000, -1.0000]])
    """
    if not math.isfinite(positive_weight):
        raise InvalidValueError(f"positive_weight must be finite, got {positive_weight!r}")
    return positive_weight * psr(rewards_PG) + nsr(rewards_PG)


def maxrl(rewards_PG: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Group-centred rewards over the group's mean reward: `(R - mean_G) / (mean_G + eps)`.

    The rarer a prompt's successes, the more each counts. Rewards must be at least 0; a prompt without success gives 0.

    Source: MaxRL (2602.02710), by its code, with its `eps`. Deviation: a group of one gives 0.

    Raises:
        InvalidValueError: A reward is negative, by which the mean would lose its meaning.

    Example:
        >>> import torch
        >>> maxrl(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).round(decimals=3)
        tensor([[ 3., -1., -1., -1.]])
    """
    _refuse_unless_positive("eps", eps)
    if (rewards_PG < 0).any():
        raise InvalidValueError(
            f"maxrl divides by mean rewards, so rewards must be at least 0, got {rewards_PG.min().item():g}; let "
            "failures score 0, or use another estimator"
        )
    return dr_grpo(rewards_PG) / (rewards_PG.mean(dim=1, keepdim=True) + eps)


def pass_at_k_training(rewards_PG: Tensor, *, k: int = 4) -> Tensor:
    """Advantages of pass@k for its reward: of all subsets of k rollouts of a prompt, a rollout has its subsets' mean.

    With n rollouts, c of them successes (`R > 0`), `rho = 1 - C(n - c, k) / C(n, k)` and `sigma = sqrt(rho (1 - rho))`,

        success: (1 - rho) / sigma,        failure: (1 - rho - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / sigma.

    Prompts of which every subset succeeds, or none, give 0. So do prompts of fewer than k rollouts, with a warning.

    Source: Pass@k Training (2508.10751), its analytical derivation, in the form of its code; the default of k is ours.

    Example:
        >>> import torch
        >>> pass_at_k_training(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), k=2)  # rho is 1/2
        tensor([[ 1.0000, -0.3333, -0.3333, -0.3333]])
    """
    import torch

    num_rollouts = rewards_PG.shape[1]
    if k < 1:
        raise InvalidValueError(f"k must be at least 1, got {k}")
    if num_rollouts < k:
        warnings.warn(
            f"pass_at_k_training: prompts of {num_rollouts} rollouts have no subset of k={k}, and no advantage; sample "
            "more rollouts per prompt, or lower k",
            stacklevel=2,
        )
        return torch.zeros_like(rewards_PG)
    rows = [_pass_at_k_row(num_rollouts, num_successes, k) for num_successes in range(num_rollouts + 1)]
    table = torch.tensor(rows, dtype=rewards_PG.dtype, device=rewards_PG.device)
    is_success_PG = rewards_PG > 0
    success_P, failure_P = table[is_success_PG.sum(dim=1)].unbind(dim=1)
    return torch.where(is_success_PG, success_P[:, None], failure_P[:, None])


def _pass_at_k_row(num_rollouts: int, num_successes: int, k: int) -> tuple[float, float]:
    """Return the advantages of a success and of a failure."""
    num_failures = num_rollouts - num_successes
    failing = math.comb(num_failures, k) / math.comb(num_rollouts, k)  # 1 - rho
    if not 0.0 < failing < 1.0:
        return 0.0, 0.0
    sigma = math.sqrt(failing * (1.0 - failing))
    failing_with_it = math.comb(num_failures - 1, k - 1) / math.comb(num_rollouts - 1, k - 1)
    return failing / sigma, (failing - failing_with_it) / sigma


def qae(rewards_PG: Tensor, *, k: float = 0.4, eps: float = 1e-4) -> Tensor:
    """Rewards over a quantile of the group's, standardised: `(R - quantile_k) / (std_G + eps)`.

    With rewards of 0 and 1, prompts of few successes teach these alone and prompts of many teach failures alone, as
    far as the quantile, which is interpolated, is one of the two. Groups of equal rewards, or of one, give 0.

    Source: Quantile Advantage Estimation (2509.22611), `torch.quantile` as its authors describe their code: k of 0.4,
    or 0.6 against early collapse; `eps` as in `grpo`.

    Example:
        >>> import torch
        >>> qae(torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])).round(decimals=3)
        tensor([[2.4490, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000]])
    """
    _refuse_unless_positive("eps", eps)
    if not 0.0 <= k <= 1.0:
        raise InvalidValueError(f"k must lie in [0, 1], got {k!r}")
    # Differences from the first reward are exactly 0 where rewards are equal, as in `dr_grpo`.
    from_first_PG = rewards_PG - rewards_PG[:, :1]
    over_quantile_PG = from_first_PG - from_first_PG.quantile(k, dim=1, keepdim=True)
    if rewards_PG.shape[1] == 1:
        return over_quantile_PG
    return over_quantile_PG / (from_first_PG.std(dim=1, keepdim=True) + eps)


def f_grpo(rewards_PG: Tensor, *, gamma: float = 0.5, eps: float = 1e-4) -> Tensor:
    """Group-standardised rewards, less of prompts that succeed often: `(1 - share of successes)^gamma * grpo`.

    A success is a reward above 0.

    Source: F-GRPO (2602.06717), section 4, from two accounts of it that agree; the paper was not read. The default is
    the exponent that it chooses most often.

    Example:
        >>> import torch
        >>> f_grpo(torch.tensor([[1.0, 1.0, 1.0, 0.0]])).round(decimals=3)  # half of what `grpo` gives
        tensor([[ 0.2500,  0.2500,  0.2500, -0.7500]])
    """
    if not 0.0 <= gamma < math.inf:
        raise InvalidValueError(f"gamma must be at least 0 and finite, got {gamma!r}")
    return (1.0 - psr(rewards_PG).mean(dim=1, keepdim=True)) ** gamma * grpo(rewards_PG, eps=eps)


def _refuse_unless_positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise InvalidValueError(
            f"{name} must be more than 0 and finite, got {value!r}: rewards that are all equal divide by it"
        )


ESTIMATORS: dict[str, Callable[..., Tensor]] = {
    estimator.__name__: estimator
    for estimator in (
        dr_grpo,
        f_grpo,
        grpo,
        maxrl,
        nsr,
        pass_at_k_training,
        psr,
        qae,
        raft_plus_plus,
        reinforce_plus_plus,
        rloo,
        w_reinforce,
    )
}
"""All estimators, by name."""
