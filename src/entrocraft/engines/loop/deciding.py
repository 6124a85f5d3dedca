"""The call: a loop's arrays in, what its next update may use out.

Shapes: B rollouts, T tokens.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from entrocraft.control.batch import ROUNDING, whole_number
from entrocraft.engines.decider import Decider, Update
from entrocraft.engines.loop.arrays import Layout, as_kind, column, group_index, has_rows
from entrocraft.engines.loop.settings import Loop
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.errors import InvalidValueError, MeasurementError


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """What the next update of a loop of one's own may use, in arrays of the kind that were given.

    What has one number per token comes as `log_probs` came, and what has one per rollout as `advantages`.

    Example:
        >>> known = {"log_probs": [[-0.1, -0.2], [-0.3]], "entropies": [[0.2, 0.3], [0.1]], "groups": [0, 0]}
        >>> control = {"schedule": 0.5, "method": "advantage"}
        >>> use = decide(control, step=1, total_steps=10, advantages=[1.0, -1.0], **known)
        >>> use.empty, use.kept, round(use.metrics["entropy"], 3)
        (False, [[0, 0], [1]], 0.2)
    """

    advantages: Any
    """(B, T) what to use in the loss, divided by what it was always divided by, over all tokens or rollouts; 0 where
    the loss counts no token and for what is left out. In the shape of the loop's own if its loss weighs a rollout as a
    whole (`Loop.whole_rollouts`)."""
    keep: Any
    """(B,) bool: which rollouts need a forward and backward pass; the others have no advantage."""
    kept: Any
    """(B, T) 1 for the tokens that the update uses, and 0 elsewhere."""
    empty: bool
    """True if there is nothing to learn from: leave weights and optimizer alone."""
    knobs: dict[str, float]
    """Settings of the algorithm by name; see `Loop.knobs`. `entropy_coef` is added to the coefficient of the loss's
    entropy bonus, the others replace the loop's own. All are for the next update alone but `temperature`, which batches
    are sampled and scored at from the next one on."""
    metrics: dict[str, float]
    """What to log; docs/metrics.md has each."""
    state: dict[str, Any] = field(repr=False)
    """What the next call needs, as plain JSON data."""


def decide(
    control: Any,
    state: Mapping[str, Any] | None = None,
    *,
    step: int,
    total_steps: int,
    log_probs: Any,
    advantages: Any,
    groups: Any,
    entropies: Any = None,
    mask: Any = None,
    rewards: Any = None,
    sensitivity: Any = None,
    self_kernel: Any = None,
    gradient_norm: float | None = None,
    loop: Loop | None = None,
) -> Decided:
    """Return what the next update of a loop of one's own may use, so that entropy follows its curve.

    The decision is the one that the engines make of the same batch. Nothing is kept between calls but what is returned
    as `state`: same arguments, same decision. Arrays are torch tensors, numpy arrays or lists; what has one number per
    token is padded to (B, T), or a list of rows that are as long as their rollouts. Where several processes hold the
    batch, gather it first and call this on one of them, or on all alike.

    Args:
        control: The curve, `"linear(0.6, 0.2)"`, or all settings: whatever trainers take as `entropy_control`.
        state: What the call before returned as `state`, or a file of it; None at the first step of a run.
        step: The optimizer step about to be made, counted from 1.
        total_steps: Optimizer steps of the whole run.
        log_probs: (B, T) log-probabilities of the sampled tokens, in nats, under the policy about to be updated, at the
            sampling temperature.
        advantages: (B,) or (B, T), of any estimator.
        groups: (B,) number or name of the prompt that each rollout answers.
        entropies: (B, T) entropies of the distributions that tokens were sampled from, in nats. Without them the
            entropy of a batch is the mean of `-log p` over its tokens, which is noisier, and methods that predict are
            refused.
        mask: (B, T) 1 where the loss counts a token. May be left out with a list of rows, where all count.
        rewards: (B,) raw rewards, before any baseline. With them, advantages that rounding has left where all rewards
            of a prompt are equal are 0; some methods need them.
        sensitivity: (B, T) exact sensitivities, for predictor `exact`; see `entropy_sensitivity`.
        self_kernel: (B, T) exact self-kernels, for visitation; see `dynamics.self_kernel`. Estimated by default.
        gradient_norm: Norm of the gradient of the update that the last decision led to, before clipping, for the guard.
        loop: What the loop is like; by default `Loop()`.

    Returns:
        A `Decided`: the advantages to use, which rollouts and tokens are kept, what to log, and the state for the next
        call. A batch of which no token counts, or none has an advantage, is `empty`.

    Raises:
        InvalidValueError: An array has another shape, something is missing that the method needs, the loop does not
            carry out what the method decides, or the state is another run's.
        MeasurementError: An entropy, an advantage or a prediction is not finite; the message names the step.

    Example:
        >>> decided = decide(
        ...     {"schedule": 0.5, "method": "advantage"},
        ...     step=1,
        ...     total_steps=10,
        ...     log_probs=[[-0.1, -0.2], [-0.3]],
        ...     entropies=[[0.2, 0.3], [0.1]],
        ...     advantages=[1.0, -1.0],
        ...     groups=[0, 0],
        ... )
        >>> decided.keep, decided.advantages  # entropy is low: learn from failures
        ([False, True], [[0.0, 0.0], [-3.0]])
    """
    step, total_steps = whole_number("step", step, minimum=1), whole_number("total_steps", total_steps, minimum=1)
    loop = Loop() if loop is None else loop
    if not isinstance(loop, Loop):
        raise InvalidValueError(f"loop must be an entrocraft.Loop, such as Loop(loss='token_mean'), got {loop!r:.80}")
    if state is not None and not isinstance(state, Mapping):
        raise InvalidValueError(
            f"state must be what the call before returned as `state`, or None at the first step, got {state!r:.80}"
        )
    settled = loop.settled(control, entropies=entropies is not None, rewards=rewards is not None)
    controller = loop.controller(settled)
    if controller.rewards_needed and rewards is None:
        raise InvalidValueError("an adaptive schedule needs `rewards`, one per rollout; give them, or its inner curve")
    if settled.predictor == "exact" and sensitivity is None:
        raise InvalidValueError(
            "predictor 'exact' needs `sensitivity`, entrocraft.entropy_sensitivity(logits, tokens); give it, or use "
            "predictor 'estimate'"
        )
    if state is not None:
        controller.load_state_dict(copy.deepcopy(dict(state)))  # a method may go on in the lists that it is given
    else:
        if entropies is None:
            warnings.warn(
                f"{loop.name} gives no entropies: that of a batch is the mean of -log p over its sampled tokens, which "
                "is right on average, and noisier",
                stacklevel=2,
            )
        loop.warn_if_idle(controller)
    if gradient_norm is not None:
        controller.note_gradient_norm(gradient_norm)

    layout = Layout.of("log_probs", log_probs)
    mask_BT = layout.counted(mask)
    rollouts = _rollouts(layout, mask_BT, log_probs, entropies, advantages, sensitivity, self_kernel)
    num_rollouts = layout.shape[0]
    decider = Decider(
        controller,
        settled,
        OneRank(),
        by_rollout=loop.loss == "sequence_mean",
        other_terms=loop.other_terms,
    )
    update = decider.decide(
        rollouts,
        step=step,
        total_steps=total_steps,
        groups=group_index(groups, num_rollouts),
        rewards=None if rewards is None else column("rewards", rewards, num_rollouts).cpu().double(),
    )
    used = _used(update, rollouts, loop)
    whole = loop.whole_rollouts and not has_rows(advantages)
    return Decided(
        advantages=as_kind(used, advantages) if whole else layout.unpacked(used),
        keep=as_kind(update.keep_B, advantages),
        kept=layout.unpacked(update.kept_BT),
        empty=update.decision.empty,
        knobs=dict(update.decision.turned),
        metrics=update.decision.metrics,
        state=controller.state_dict(),
    )


def _rollouts(
    layout: Layout, mask_BT: Tensor, log_probs: Any, entropies: Any, advantages: Any, sensitivity: Any, kernel: Any
) -> Rollouts:
    """Return a loop's arrays as an engine brings them."""
    log_probs_BT = layout.packed("log_probs", log_probs)
    _refuse_above("log_probs", log_probs_BT, mask_BT, "logarithms of probabilities: at most 0, in nats")
    if entropies is None:
        entropy_BT = -log_probs_BT
    else:
        entropy_BT = layout.packed("entropies", entropies)
        _refuse_above("entropies", -entropy_BT, mask_BT, "entropies of distributions: at least 0, in nats")
    by_token = has_rows(advantages)
    own = layout.packed("advantages", advantages) if by_token else column("advantages", advantages, layout.shape[0])
    return Rollouts(
        stats=TokenStats(
            log_probs_BT=log_probs_BT,
            entropy_BT=entropy_BT,
            sensitivity_BT=None if sensitivity is None else layout.packed("sensitivity", sensitivity),
            self_kernel_BT=None if kernel is None else layout.packed("self_kernel", kernel),
        ),
        advantages=own.to(layout.device),
        mask_BT=mask_BT,
    )


def _refuse_above(name: str, values_BT: Tensor, mask_BT: Tensor, are: str) -> None:
    """Refuse counted values above 0, which have the wrong sign or are something else, and those that are no number."""
    counted = values_BT[mask_BT.bool()]
    if counted.isnan().any():
        raise MeasurementError(f"{name}: {int(counted.isnan().sum())} of {len(counted)} counted tokens have NaN")
    if len(counted) and counted.max() > ROUNDING:
        shown = counted.max().item() if name == "log_probs" else -counted.max().item()
        raise InvalidValueError(f"{name} must be {are}; got {shown:.3g}")


def _used(update: Update, rollouts: Rollouts, loop: Loop) -> Tensor:
    """Return the advantages as decided, times what makes good what the loss's divisor counts beside them."""
    used = update.advantages
    scale = update.loss_scale(by_tokens=loop.loss == "token_mean")
    if scale != 1.0:
        used = used * scale
    if loop.whole_rollouts:
        return used
    return used.view(len(used), -1) * rollouts.mask_BT
