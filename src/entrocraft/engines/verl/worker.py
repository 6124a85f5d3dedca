"""verl's workers with what entropy control may ask of them: a loss and a rate that follow decisions, and `whole_model`.

The loss is in `loss`. For predictions of the whole model the workers tell how each token's log-probability rises with
entropy.

All passes are verl's own, in the micro-batches that the run is set to, with its offloading and recomputation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils
from verl.workers.engine_workers import ActorRolloutRefWorker
from verl.workers.utils.padding import no_padding_2_padding

from entrocraft.dynamics.whole_model import ascent_step, last_blocks, log_prob_change_by_shift
from entrocraft.engines.knobs import KNOB_FIELDS, scaled_rates
from entrocraft.engines.verl.loss import controlled_loss

EXCESS, RISE = "entropy_excess", "log_prob_rise"
"""The fields that the worker reads and writes: see `ControlledWorker.compute_rise`."""


class ControlledWorker(ActorRolloutRefWorker):
    """verl's worker with a loss and a learning rate that follow decisions, and the passes of `whole_model`."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Build what verl builds, with a loss that listens to the driver."""
        super().init_model()
        if "actor" in self.role:
            self.actor.set_loss_fn(partial(controlled_loss, self.actor.loss_fn))

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> TensorDict:
        """Update as verl does, at the learning rate times the factor that the driver asks for."""
        factor = float(tensordict_utils.get_non_tensor_data(data, KNOB_FIELDS["learning_rate"], 1.0))
        with _stepping_at(self.actor.engine, factor):
            return super().update_actor(data)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def compute_rise(self, data: TensorDict) -> TensorDict | None:
        """Return how each token's log-probability would change if the weights moved a step towards more entropy.

        Args:
            data: This rank's rows, with `entropy_excess`: how far the summed entropy of a rollout lies above that of
                as many average tokens, in nats, at each of its tokens. Beside the settings of verl's own passes it
                holds `step_length`, the root mean square of the step, `entropy_per_rank`, the summed entropy of all
                rows in nats over the number of ranks, and `whole_model_blocks`, 0 for all weights.

        Returns:
            `log_prob_rise`, in nats, for all tokens of the sequences as verl's `log_probs`; None on ranks whose output
            verl does not collect.
        """
        actor, engine = self.actor, self.actor.engine
        length = float(tensordict_utils.pop(data, "step_length"))
        entropy_per_rank = float(tensordict_utils.pop(data, "entropy_per_rank"))
        num_blocks = int(tensordict_utils.pop(data, "whole_model_blocks")) or None
        tensordict_utils.maybe_fix_3d_position_ids(data)
        with engine.train_mode():  # brings back weights and optimizer from where they are kept; clears gradients after
            # Gradients are of the summed entropy of this rank's rows, local and visitation term, averaged by FSDP2.
            parameters = last_blocks(engine.module, num_blocks)
            engine.optimizer_zero_grad()
            engine.forward_backward_batch(_with_settings(actor, data), loss_function=_summed_entropy)
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in parameters]
            steps = ascent_step(gradients, parameters, engine.optimizer, length)
            engine.optimizer_zero_grad()
            outputs: list[Any] = []

            def log_probs() -> Tensor:
                # Without offloading in between: the weights that were moved must be those of the pass.
                settings = {"compute_loss": False, "calculate_entropy": False, "disable_auto_offload": True}
                output = actor.infer_batch(_passed_on(data, **settings))
                outputs.append(output)
                return torch.zeros(1) if output is None else output["log_probs"].values()

            rise = log_prob_change_by_shift(log_probs, engine.module, parameters, steps, gradients, entropy_per_rank)
        # Of ranks that share rollouts verl collects from one; the others have taken part in the exchanges.
        if outputs[0] is None:
            return None
        # One value for each token of the packed sequences, in the rows that verl's own log-probabilities have.
        nested = torch.nested.nested_tensor_from_jagged(rise, outputs[0]["log_probs"].offsets())
        return tensordict_utils.get_tensordict({RISE: nested})


@contextmanager
def _stepping_at(engine: Any, factor: float) -> Iterator[None]:
    """Scale the learning rate within each of an engine's optimizer steps, between which its scheduler sets it."""
    if factor == 1.0:
        yield
        return
    own = engine.optimizer_step

    def scaled_step() -> Any:
        with scaled_rates(engine.optimizer, factor):
            return own()

    engine.optimizer_step = scaled_step
    try:
        yield
    finally:
        del engine.optimizer_step  # the class's own again


def _passed_on(data: TensorDict, **settings: Any) -> TensorDict:
    """Return the same rows for another pass, which may write its own settings beside them."""
    part = data.copy()
    tensordict_utils.assign_non_tensor(part, **settings)
    return part


def _with_settings(actor: Any, data: TensorDict) -> TensorDict:
    """Return the rows with what verl's training passes are told, under its own names."""
    config = actor.engine_config
    return _passed_on(
        data,
        use_remove_padding=actor.model_config.get("use_remove_padding", False),
        use_dynamic_bsz=config.use_dynamic_bsz,
        max_token_len_per_gpu=config.max_token_len_per_gpu,
        micro_batch_size_per_gpu=config.micro_batch_size_per_gpu,
        use_fused_kernels=config.use_fused_kernels,
    )


def _summed_entropy(model_output: dict[str, Tensor], data: TensorDict, dp_group: Any = None) -> tuple[Tensor, dict]:
    """Return the rows' part in the batch's summed entropy, local and visitation term; see `dynamics.whole_model`."""
    entropies, log_probs = (no_padding_2_padding(model_output[name], data) for name in ("entropy", "log_probs"))
    padded = data.select("response_mask", EXCESS).to_padded_tensor()
    mask = padded["response_mask"].to(entropies.dtype)
    return ((entropies + padded[EXCESS] * log_probs) * mask).sum(), {}
