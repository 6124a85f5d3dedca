"""Entropy control in a loop of tinker's client, on `decide`: its data in, what to send for the update out.

The service gives log-probabilities of what it samples and no entropies: that of a batch is the mean of -log p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from entrocraft.engines.loop import Decided, Loop, decide
from entrocraft.errors import InvalidValueError

if TYPE_CHECKING:  # whoever has data has tinker
    import tinker

TINKER = Loop(name="tinker's loop", loss="sequence_sum")
"""What loops with tinker are like: losses are summed over tokens. With `loss_fn="gspo"`, add `whole_rollouts=True`."""

_INPUTS = ("logprobs", "advantages", "mask")


def controlled(
    data: Sequence["tinker.Datum"],
    control: Any,
    state: Mapping[str, Any] | None = None,
    *,
    step: int,
    total_steps: int,
    groups: Any,
    rewards: Any = None,
    entropies: Any = None,
    loop: Loop = TINKER,
) -> tuple[list["tinker.Datum"], Decided]:
    """Return the data to send for the update, and what was decided, whose `state` is for the next call.

    Data of rollouts that are not kept are left out, the others hold the advantages that were decided, and none has a
    `mask`, which the service does not take. Nothing is left if there is nothing to learn from: send nothing then, and
    make no step of the optimizer.

    Args:
        data: One datum per rollout, with `logprobs`, `advantages` and `mask`, 1 at the tokens that the policy sampled,
            beside its targets: what `tinker_cookbook.rl` makes of trajectories that are one datum each.
        control: As for `decide`: a schedule, or settings with a method that needs no entropy of each token.
        state: As for `decide`.
        step: The optimizer step about to be made, counted from 1.
        total_steps: Optimizer steps of the whole run.
        groups: Number or name of the prompt of each datum.
        rewards: Raw reward of each datum.
        entropies: A row for each datum, 0 where it has no mask, where the loop has entropies from elsewhere.
        loop: What the loop is like.

    Raises:
        InvalidValueError: A datum has no log-probabilities, advantages or mask; and what `decide` raises.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _INPUTS}
    for number, datum in enumerate(data):
        missing = [name for name in _INPUTS if name not in datum.loss_fn_inputs]
        if missing:
            raise InvalidValueError(
                f"datum {number} has no {', '.join(missing)} among its loss_fn_inputs; give {', '.join(_INPUTS)}, a "
                "number per target token each, and in `mask` 1 for those that the policy sampled"
            )
        for name in _INPUTS:
            columns[name].append(datum.loss_fn_inputs[name].to_torch())
    decided = decide(
        control,
        state,
        step=step,
        total_steps=total_steps,
        log_probs=columns["logprobs"],
        advantages=columns["advantages"],
        mask=columns["mask"],
        groups=groups,
        rewards=rewards,
        entropies=entropies,
        loop=loop,
    )
    kept = [
        replace(datum, loss_fn_inputs=_inputs(datum, advantages))
        for datum, advantages, keep in zip(data, decided.advantages, decided.keep, strict=True)
        if keep
    ]
    return kept, decided


def _inputs(datum: "tinker.Datum", advantages: Any) -> dict[str, Any]:
    """Return what a datum gives to its loss, with other advantages and without the mask."""
    from tinker import TensorData

    others = {name: value for name, value in datum.loss_fn_inputs.items() if name != "mask"}
    return others | {"advantages": TensorData.from_torch(advantages)}
