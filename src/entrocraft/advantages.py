"""Advantage estimators: from rewards to one advantage per rollout.

Shapes: P prompts, G rollouts per prompt. Every estimator takes `rewards_PG` and returns (P, G). An
estimator that compares rollouts of one prompt gives 0 where there is nothing to compare: a group of
one, or a group whose rewards are all equal. That 0 is exact: rules act on signs, and a mean that is rounded leaves some.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError


def grpo(rewards_PG: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Group-standardised rewards: `(R - mean_G) / (std_G + eps)`, the unbiased standard deviation.

    Source: DeepSeekMath (2402.03300), section 4.1; `eps` as in TRL.

    Example:
        >>> grpo(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).round(decimals=3)
        tensor([[ 0.7070, -0.7070],
                [ 0.0000,  0.0000]])
    """
    _refuse_unless_positive("eps", eps)
    centred = dr_grpo(rewards_PG)
    if rewards_PG.shape[1] == 1:
        return centred
    return centred / (centred.std(dim=1, keepdim=True) + eps)


def dr_grpo(rewards_PG: Tensor) -> Tensor:
    """Group-centred rewards without the standard deviation: `R - mean_G`.

    Source: Understanding R1-Zero-Like Training (2503.20783), section 3.

    Example:
        >>> dr_grpo(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        tensor([[ 0.7500, -0.2500, -0.2500, -0.2500]])
    """
    from_first_PG = rewards_PG - rewards_PG[:, :1]
    return from_first_PG - from_first_PG.mean(dim=1, keepdim=True)


def rloo(rewards_PG: Tensor) -> Tensor:
    """Leave-one-out: each reward minus the mean of the others, `G / (G - 1) * (R - mean_G)`.

    Source: Back to Basics (2402.14740), equation 7.

    Example:
        >>> rloo(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    num_rollouts = rewards_PG.shape[1]
    return dr_grpo(rewards_PG) * (num_rollouts / max(num_rollouts - 1, 1))


def reinforce_plus_plus(rewards_PG: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Batch-whitened rewards: `(R - mean) / sqrt(var + eps)` over all P * G rollouts.

    It needs no groups; a batch of one rollout gives 0.

    Source: REINFORCE++ (2501.03262), equation 5, with an outcome reward and no KL term.

    Example:
        >>> reinforce_plus_plus(torch.tensor([[3.0], [1.0]])).round(decimals=3)
        tensor([[ 0.7070],
                [-0.7070]])
    """
    _refuse_unless_positive("eps", eps)
    centred = dr_grpo(rewards_PG.reshape(1, -1)).view_as(rewards_PG)
    if rewards_PG.numel() == 1:
        return centred
    return centred * torch.rsqrt(centred.var() + eps)


def raft_plus_plus(rewards_PG: Tensor) -> Tensor:
    """Rewards of successes only: `max(R, 0)`.

    Source: A Minimalist Approach to LLM Reasoning (2504.11343), section 3.

    Example:
        >>> raft_plus_plus(torch.tensor([[1.0, -1.0]]))
        tensor([[1., 0.]])
    """
    return rewards_PG.clamp(min=0.0)


def psr(rewards_PG: Tensor) -> Tensor:
    """Positive samples only: 1 for a success (`R > 0`), else 0. Rewards may be 0/1 or -1/1.

    Source: The Surprising Effectiveness of Negative Reinforcement (2506.01347), section 2.

    Example:
        >>> psr(torch.tensor([[1.0, 0.0]]))
        tensor([[1., 0.]])
    """
    return (rewards_PG > 0).to(rewards_PG.dtype)


def nsr(rewards_PG: Tensor) -> Tensor:
    """Negative samples only: -1 for a failure (`R <= 0`), else 0. Rewards may be 0/1 or -1/1.

    Source: as `psr`. The authors of the paper write `min(R, 0)`, which is the same for rewards of
    -1 and 1, and zero throughout for rewards of 0 and 1.

    Example:
        >>> nsr(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0., -1.]])
    """
    return psr(rewards_PG) - 1.0


def w_reinforce(rewards_PG: Tensor, *, positive_weight: float = 0.1) -> Tensor:
    """Both samples, successes weighted down: `positive_weight * psr + nsr`.

    Source: as `psr`, section 4, with its lambda of 0.1.

    Example:
        >>> w_reinforce(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.1000, -1.0000]])
    """
    return positive_weight * psr(rewards_PG) + nsr(rewards_PG)


def _refuse_unless_positive(name: str, value: float) -> None:
    if not value > 0.0:
        raise InvalidValueError(f"{name} must be more than 0, got {value!r}: rewards that are all equal divide by it")


_ESTIMATORS: dict[str, Callable[..., Tensor]] = {
    estimator.__name__: estimator
    for estimator in (
        dr_grpo,
        grpo,
        nsr,
        psr,
        raft_plus_plus,
        reinforce_plus_plus,
        rloo,
        w_reinforce,
    )
}


def available() -> list[str]:
    """Return the names that `estimate` knows."""
    return sorted(_ESTIMATORS)


def estimate(name: str, rewards_PG: Tensor, **options: float) -> Tensor:
    """Return the advantages of estimator `name`.

    Args:
        name: One of `available()`.
        rewards_PG: Rewards, one row per prompt.
        options: The estimator's own, such as `eps` or `positive_weight`.

    Returns:
        Advantages (P, G), floating.

    Raises:
        UnknownNameError: No estimator has that name, or it has no such option.
        InvalidValueError: The rewards are not a matrix with at least one column.
        MeasurementError: A reward is NaN or infinite; the message names the prompt and rollout.

    Example:
        >>> estimate("dr_grpo", torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.5000, -0.5000]])
    """
    check_estimator(name, **options)
    rewards_PG = torch.as_tensor(rewards_PG)
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] == 0:
        raise InvalidValueError(
            f"rewards must have shape (prompts, rollouts per prompt), got {tuple(rewards_PG.shape)}"
        )
    if not rewards_PG.is_floating_point():
        rewards_PG = rewards_PG.float()
    broken = (~torch.isfinite(rewards_PG)).nonzero().tolist()
    if broken:
        prompt, rollout = broken[0]
        raise MeasurementError(
            f"{len(broken)} rewards are not finite, the first is {rewards_PG[prompt, rollout].item()} "
            f"(prompt {prompt}, rollout {rollout}); make the reward function return a number for each sample"
        )
    return _ESTIMATORS[name](rewards_PG, **options)


def check_estimator(name: str, **options: float) -> None:
    """Raise `UnknownNameError` unless `estimate(name, ..., **options)` would know both."""
    if name not in _ESTIMATORS:
        raise UnknownNameError.of("advantage estimator", name, _ESTIMATORS)
    known = [option for option in inspect.signature(_ESTIMATORS[name]).parameters if option != "rewards_PG"]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(f"option of advantage estimator {name!r}", option, known)


def estimate_by_group(name: str, rewards_B: Tensor, groups_B: Tensor, **options: float) -> Tensor:
    """Return the advantages of estimator `name` where prompts need not have equally many rollouts.

    Args:
        name: One of `available()`.
        rewards_B: Rewards, one per rollout, in any order.
        groups_B: Index of the prompt that each rollout answers.
        options: The estimator's own.

    Returns:
        Advantages (B,), floating; `reinforce_plus_plus` is taken over the whole batch, the others over each prompt.

    Raises:
        UnknownNameError: See `estimate`.
        InvalidValueError: See `estimate`.
        MeasurementError: See `estimate`.

    Example:
        >>> estimate_by_group("dr_grpo", torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 1, 0, 1, 1]))
        tensor([ 0.5000, -0.6667, -0.5000,  0.3333,  0.3333])
    """
    if name == reinforce_plus_plus.__name__:
        return estimate(name, rewards_B[None, :], **options)[0]
    rewards_B = rewards_B if rewards_B.is_floating_point() else rewards_B.float()
    order = groups_B.argsort(stable=True)
    sizes_P = groups_B.unique(return_counts=True)[1]
    sizes_B = sizes_P.repeat_interleave(sizes_P)  # of the rollouts in that order
    advantages = torch.empty_like(rewards_B)
    for size in sizes_P.unique().tolist():
        rows = order[sizes_B == size]
        advantages[rows] = estimate(name, rewards_B[rows].view(-1, size), **options).flatten()
    return advantages
