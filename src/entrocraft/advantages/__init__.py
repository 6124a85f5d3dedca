"""Advantage estimators: from rewards to one advantage per rollout.

Shapes: P prompts, G rollouts per prompt, B rollouts in any order. Every estimator takes `rewards_PG` and returns
(P, G), in the unit of its rewards or in standard deviations of them. An estimator that compares rollouts of one prompt
gives 0 where there is nothing to compare: a group of one, or a group whose rewards are all equal. That 0 is exact:
methods act on signs, and a mean that is rounded would leave some.

An estimator of your own is a function of `rewards_PG` and of options by keyword, and is named by its import path:

    def positive_part(rewards_PG, *, scale: float = 1.0):
        return scale * rewards_PG.clamp(min=0.0)

    estimator: {name: my_package.mine:positive_part, scale: 0.5}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from entrocraft.advantages.estimators import (
    ESTIMATORS,
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
from entrocraft.errors import EntrocraftError, InvalidValueError, MeasurementError, UnknownNameError, first_line
from entrocraft.registry import check_options, load_function, name_and_options

if TYPE_CHECKING:
    from torch import Tensor

Estimator = str | Mapping[str, Any]
"""A name, one of `available()` or an import path `package.module:function`; or a mapping of a `name` and options."""

_MOST_REWARD = 1e15
"""Largest reward: sums of squares of as many as a batch can hold are still numbers in float32."""

_MANY = 64
"""Rollouts per prompt that an estimator of this library is tried on, before there are any."""


def available() -> list[str]:
    """Return the names that `estimate` knows."""
    return sorted(ESTIMATORS)


def estimate(name: Estimator, rewards_PG: Tensor, **options: Any) -> Tensor:
    """Return the advantages of an estimator.

    Args:
        name: Name of an estimator, one of `available()`; its import path, `package.module:function`; or a mapping of
            either, as `name`, and options.
        rewards_PG: Rewards, one row per prompt.
        options: Options of the estimator, such as `eps` or `positive_weight`; they come before those of a mapping.

    Returns:
        Advantages (P, G), in float32 or better.

    Raises:
        UnknownNameError: No estimator has that name, or it has no such option.
        InvalidValueError: The rewards are not a matrix with at least one column, an option is of another type or out of
            range, or there is no such function.
        MeasurementError: A reward is NaN, infinite or beyond 1e15; or a function of your own raises, or returns
            something else than one finite number per reward. The message names the prompt and rollout.

    Example:
        >>> import torch
        >>> estimate("dr_grpo", torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.5000, -0.5000]])
        >>> estimate({"name": "w_reinforce", "positive_weight": 0.2}, torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.2000, -1.0000]])
    """
    from entrocraft.entropy import as_tensor

    function, options, what = _resolved(name, options)
    rewards_PG = as_tensor("rewards", rewards_PG)
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] == 0:
        raise InvalidValueError(
            f"rewards must have shape (prompts, rollouts per prompt), got {tuple(rewards_PG.shape)}"
        )
    rewards_PG = _at_least_float32(rewards_PG)
    _refuse_unless_finite(rewards_PG, "rewards", "make the reward function return a number for each sample")
    if rewards_PG.abs().gt(_MOST_REWARD).any():
        raise MeasurementError(
            f"rewards must lie within {_MOST_REWARD:g} of 0, got {rewards_PG.abs().max().item():g}: the squares of "
            "larger ones, which deviations are made of, are no numbers in float32; divide them by a constant"
        )
    if not len(rewards_PG):
        return rewards_PG  # of no prompt
    if function in ESTIMATORS.values():
        return function(rewards_PG, **options)
    return _of_its_own(function, rewards_PG, options, what)


def check_estimator(spec: Estimator, **options: Any) -> None:
    """Refuse an estimator that `estimate(spec, ..., **options)` could not use, before there are any rewards.

    Names and types of options are checked by the estimator's signature. An estimator with options, or of your own, is
    also tried on rewards of two prompts, so that a value out of range or a function that raises is found here.

    Args:
        spec: Name, import path or mapping of an estimator, as `estimate` takes it.
        options: Options of the estimator; they come before those of a mapping.

    Raises:
        UnknownNameError: No estimator has that name, or it has no such option.
        InvalidValueError: An option is missing, of another type or out of range, or there is no such function.
        MeasurementError: A function of your own raises, or returns something else than one finite number per reward.

    Example:
        >>> check_estimator({"name": "w_reinforce", "positive_weight": 0.2})
        >>> check_estimator({"name": "psr", "eps": 0.2})
        Traceback (most recent call last):
        entrocraft.errors.UnknownNameError: advantage estimator 'psr' takes no options, got 'eps'
    """
    function, options, _ = _resolved(spec, options)
    if options or function not in ESTIMATORS.values():
        import torch

        # Of the library's some need a number of rollouts, which is not known yet: there are enough.
        rewards_PG = torch.zeros(2, _MANY if function in ESTIMATORS.values() else 2)
        rewards_PG[0, 0] = 1.0
        estimate(spec, rewards_PG, **options)


def estimate_by_group(name: Estimator, rewards_B: Tensor, groups_B: Tensor, **options: Any) -> Tensor:
    """Return the advantages of an estimator where prompts need not have equally many rollouts.

    Args:
        name: Name, import path or mapping of an estimator, as `estimate` takes it.
        rewards_B: Rewards, one per rollout, in any order.
        groups_B: Index of the prompt that each rollout answers.
        options: Options of the estimator; they come before those of a mapping.

    Returns:
        Advantages (B,), in float32 or better. `reinforce_plus_plus` is taken over the whole batch; any other estimator
        over each prompt, all prompts with equally many rollouts in one call.

    Raises:
        UnknownNameError: See `estimate`.
        InvalidValueError: See `estimate`; or there is not one prompt for each reward.
        MeasurementError: See `estimate`.

    Example:
        >>> import torch
        >>> estimate_by_group("dr_grpo", torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 1, 0, 1, 1]))
        tensor([ 0.5000, -0.6667, -0.5000,  0.3333,  0.3333])
    """
    from entrocraft.entropy import as_tensor, refuse_other_shape

    function, options, _ = _resolved(name, options)
    rewards_B, groups_B = as_tensor("rewards", rewards_B), as_tensor("groups", groups_B)
    if rewards_B.ndim != 1:
        raise InvalidValueError(f"rewards must have shape (rollouts,), got {tuple(rewards_B.shape)}")
    refuse_other_shape("groups", groups_B, rewards_B.shape)
    if not groups_B.isfinite().all():
        raise InvalidValueError("groups must say which prompt each rollout answers, and some of them are no number")
    if not len(rewards_B):
        return _at_least_float32(rewards_B)
    if function is reinforce_plus_plus:
        return estimate(name, rewards_B[None, :], **options)[0]
    rewards_B = _at_least_float32(rewards_B)
    # Rollouts of one prompt beside each other, so that prompts of equal size are the rows of one matrix.
    order = groups_B.argsort(stable=True)
    sizes_P = groups_B.unique(return_counts=True)[1]
    sizes_B = sizes_P.repeat_interleave(sizes_P)  # how many rollouts each one's prompt has, in that order
    advantages_B = rewards_B.new_empty(rewards_B.shape)
    for size in sizes_P.unique().tolist():
        rows = order[sizes_B == size]
        advantages_B[rows] = estimate(name, rewards_B[rows].view(-1, size), **options).flatten()
    return advantages_B


def _resolved(spec: Estimator, options: Mapping[str, Any]) -> tuple[Callable[..., Tensor], dict[str, Any], str]:
    """Return an estimator's function, its options, checked, and what messages call it."""
    name, own = name_and_options(spec)
    options = own | dict(options)
    what = f"advantage estimator {name!r}"
    if isinstance(name, str) and ":" in name:
        function = load_function(name, "advantage estimator")
    elif name is None:
        raise InvalidValueError(f"advantage estimator: a mapping needs a name, got {spec!r:.80}")
    elif isinstance(name, str) and name in ESTIMATORS:
        function = ESTIMATORS[name]
    else:
        raise UnknownNameError.of("advantage estimator", name, [*ESTIMATORS, "or your own as package.module:function"])
    check_options(function, options, what, num_given=1)
    return function, options, what


def _of_its_own(function: Callable[..., Any], rewards_PG: Tensor, options: Mapping[str, Any], what: str) -> Tensor:
    """Return what a user's function makes of rewards, if it is one finite number for each."""
    import torch

    shape = tuple(rewards_PG.shape)
    try:
        advantages_PG = function(rewards_PG, **options)
    except EntrocraftError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise MeasurementError(f"{what} raised {kind} on rewards of shape {shape}: {first_line(error)}") from error
    if not isinstance(advantages_PG, torch.Tensor) or advantages_PG.shape != rewards_PG.shape:
        got = tuple(advantages_PG.shape) if isinstance(advantages_PG, torch.Tensor) else f"{advantages_PG!r:.80}"
        raise MeasurementError(f"{what} must return a tensor of shape {shape}, as its rewards have, got {got}")
    advantages_PG = advantages_PG.detach().to(rewards_PG)
    _refuse_unless_finite(advantages_PG, f"advantages of {what}", "make it return a number for each reward")
    return advantages_PG


def _at_least_float32(rewards: Tensor) -> Tensor:
    """Return rewards in a dtype that means, deviations and a small `eps` can be taken in."""
    import torch

    return rewards.to(torch.promote_types(rewards.dtype, torch.float32))


def _refuse_unless_finite(values_PG: Tensor, what: str, remedy: str) -> None:
    broken = (~values_PG.isfinite()).nonzero().tolist()
    if broken:
        prompt, rollout = broken[0]
        raise MeasurementError(
            f"{len(broken)} {what} are not finite, the first is {values_PG[prompt, rollout].item()} "
            f"(prompt {prompt}, rollout {rollout}); {remedy}"
        )


__all__ = [
    "ESTIMATORS",
    "Estimator",
    "available",
    "check_estimator",
    "dr_grpo",
    "estimate",
    "estimate_by_group",
    "f_grpo",
    "grpo",
    "maxrl",
    "nsr",
    "pass_at_k_training",
    "psr",
    "qae",
    "raft_plus_plus",
    "reinforce_plus_plus",
    "rloo",
    "w_reinforce",
]
