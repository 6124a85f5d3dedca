"""verl's loss as decisions have it, in the workers that compute it: with knobs turned, and a method's surrogate.

What a decision asks for comes beside each micro-batch; `telling` puts it there.
"""

from copy import copy
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, distributed
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils
from verl.workers.utils.padding import no_padding_2_padding, response_to_nested

from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.engines.knobs import KNOB_FIELDS

SURROGATE = "entrocraft_surrogate"
"""The setting beside a batch that holds the method's `surrogate`, with the decision given."""

_TURNED = {"entropy_coef": "entropy_coeff", "clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high"}
"""By knob: the field of verl's configuration that its loss reads."""

_NO_CLIPPING = dict.fromkeys(("clip_ratio_low", "clip_ratio_high", "clip_ratio_c"), 1e30)
"""Under which verl's clipped loss is `-ratio * advantage`: its ratios are below e^20. Infinity times 0 is no number."""


def controlled_loss(own: partial[Any], model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> Any:
    """Return verl's own loss and its metrics, as the driver has asked for beside the batch.

    Args:
        own: verl's loss, with its configuration.
        model_output: What the engine's pass gave.
        data: The micro-batch and its settings.
        dp_group: The data-parallel ranks.
    """
    values = {knob: tensordict_utils.get_non_tensor_data(data, KNOB_FIELDS[knob], None) for knob in _TURNED}
    config = own.keywords["config"]
    changes = {_TURNED[knob]: value for knob, value in values.items() if value is not None}
    if "entropy_coeff" in changes:
        changes["entropy_coeff"] += config.entropy_coeff  # beside the bonus of the configuration
    surrogate = tensordict_utils.get_non_tensor_data(data, SURROGATE, None)
    if surrogate is None:
        return _loss(own, changes, model_output, data, dp_group)

    seen, entropy_BT = _seen(model_output, data)
    with torch.no_grad():
        asked = surrogate(seen, total=partial(_summed, group=dp_group, device=seen.log_probs_BT.device)) or Surrogate()
    counted_BT = seen.mask_BT.bool()
    asked = asked.checked(counted_BT, type(surrogate.func.__self__).__name__)
    if asked.advantages_BT is not None:
        changes |= _NO_CLIPPING
        data = data.copy()
        data["advantages"] = response_to_nested(asked.advantages_BT, data["response_mask"])
    loss, metrics = _loss(own, changes, model_output, data, dp_group)
    if asked.entropy_coef_BT is not None:
        # A mean over the tokens that the loss counts, whatever the loss itself is averaged over.
        batch = {name: data[name] for name in ("dp_size", "batch_num_tokens")}
        loss = loss - agg_loss(asked.entropy_coef_BT * entropy_BT, counted_BT, "token-mean", **batch)
    return loss, metrics


def _loss(own: partial[Any], changes: dict[str, float], model_output: dict, data: TensorDict, dp_group: Any) -> Any:
    """Return verl's loss under another configuration, whose fields are frozen for everybody else."""
    if changes:
        config = copy(own.keywords["config"])
        for field, value in changes.items():
            object.__setattr__(config, field, value)
        own = partial(own.func, *own.args, **{**own.keywords, "config": config})
    return own(model_output=model_output, data=data, dp_group=dp_group)


def _seen(model_output: dict[str, Any], data: TensorDict) -> tuple[MiniBatch, Tensor]:
    """Return what a method may see of a micro-batch, and its entropies with their gradient."""
    # Padded as verl's loss pads them: the response, with what lies beyond its end on the right.
    log_probs_BT, entropy_BT = (no_padding_2_padding(model_output[name], data) for name in ("log_probs", "entropy"))
    padded = data.select("response_mask", "old_log_probs", "advantages").to_padded_tensor()
    seen = MiniBatch(
        log_probs_BT=log_probs_BT.detach().float(),
        old_log_probs_BT=padded["old_log_probs"].float(),
        entropy_BT=entropy_BT.detach().float(),
        advantages_BT=padded["advantages"].float(),
        mask_BT=padded["response_mask"],
    )
    return seen, entropy_BT


def _summed(sums: Tensor, group: Any, device: torch.device) -> Tensor:
    """Return the sums over the data-parallel ranks, which pass equally many micro-batches each."""
    if group is None or distributed.get_world_size(group) == 1:
        return sums
    sums = sums.to(device)
    distributed.all_reduce(sums, group=group)
    return sums.cpu()
