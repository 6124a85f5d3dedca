"""Predictor `whole_model` in a TRL trainer: rows of a batch in, each row's effect on entropy out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entrocraft.dynamics.whole_model import (
    ReadRows,
    ascent_step,
    entropy_gradient,
    last_blocks,
    log_prob_change,
    log_prob_change_by_shift,
)
from entrocraft.engines.trl.rows import Batch
from entrocraft.engines.trl.scorer import completion_logits
from entrocraft.entropy import token_log_probs
from entrocraft.errors import InvalidValueError


class WholeModelPredictor:
    """Scores the rollouts of a trainer's batch by what they do to the entropy of the whole model.

    Args:
        trainer: The TRL trainer.
        num_blocks: Take the direction in the weights of the last blocks alone; None for all trainable weights.
        share: Share of the rollouts from which the direction is taken, in (0, 1].

    Raises:
        InvalidValueError: The trainer shards its weights in a way that they cannot be moved.
    """

    def __init__(self, trainer: Any, num_blocks: int | None, share: float):
        if trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2):
            raise InvalidValueError(
                "predictor 'whole_model' works with DDP and FSDP2, not with DeepSpeed or FSDP1; use another predictor, "
                "or fsdp_version: 2"
            )
        if trainer.is_fsdp_enabled and trainer.accelerator.mixed_precision != "no":
            raise InvalidValueError(
                "predictor 'whole_model' moves sharded weights by a step that vanishes in the rounding of "
                f"{trainer.accelerator.mixed_precision}; use DDP, float32, or another predictor"
            )
        if trainer.is_fsdp_enabled:
            # Accumulating without synchronising, FSDP2 keeps whole gradients of its own, to which those of a direction
            # taken in between would be added. With this it reduces them after each pass, which is what they are then.
            trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
        self._trainer, self._num_blocks, self._share = trainer, num_blocks, share

    def change_in_log_probs(
        self, batch: Batch, mask_BT: Tensor, sums_B: Tensor, counts_B: Tensor, entropy: float
    ) -> Tensor:
        """Return how each token's log-probability (B, T) would change if the weights moved a step towards more entropy.

        Args:
            batch: This rank's rows.
            mask_BT: 1 where a token counts.
            sums_B: Sum of counted token entropies of each row, in nats.
            counts_B: Counted tokens of each row.
            entropy: Entropy of the batch over all ranks, in nats per token.
        """
        trainer = self._trainer
        model = trainer.model if trainer.is_fsdp_enabled else trainer.accelerator.unwrap_model(trainer.model)
        if "pixel_values" in batch:
            raise InvalidValueError("predictor 'whole_model' reads text only; use another predictor with images")
        parameters = last_blocks(model, self._num_blocks)
        rows_at_once = trainer.args.per_device_train_batch_size
        all_rows = torch.arange(len(mask_BT), device=mask_BT.device)
        # Evenly spaced: a prompt's rollouts lie side by side, and all prompts should have their say.
        num_chosen = max(1, round(self._share * len(all_rows)))
        chosen_rows = all_rows[torch.arange(num_chosen, device=all_rows.device) * len(all_rows) // num_chosen]
        row_batches = all_rows.split(rows_at_once)
        was_training = model.training
        # No dropout: one rollout must not look better than another by luck. Only in training, though, does a model
        # recompute activations, without which the gradients may not fit; they may be taken with it.
        model.train(was_training and self._recomputes(model))
        try:
            read = self._reader(batch)
            gradients = entropy_gradient(
                read, chosen_rows.split(rows_at_once), model, parameters, mask_BT, sums_B, counts_B, entropy
            )
            # DDP reduces in backward passes through its wrapper alone, and this one went through the model inside.
            if trainer.accelerator.num_processes > 1 and not trainer.is_fsdp_enabled:
                gradients = [trainer.accelerator.reduce(gradient, "sum") for gradient in gradients]
            steps = ascent_step(gradients, parameters, _inner(trainer.optimizer), self._step_length())
            model.eval()
            if not trainer.is_fsdp_enabled:
                return log_prob_change(read, row_batches, model, parameters, steps)
            # Nats; FSDP2 has averaged the gradients over ranks, so the entropy that goes with them is a mean, too.
            entropy_per_rank = trainer.accelerator.reduce(sums_B[chosen_rows].sum().float(), "mean").item()
            return log_prob_change_by_shift(
                lambda: torch.cat([token_log_probs(*read(model, rows)) for rows in row_batches]),
                model,
                parameters,
                steps,
                gradients,
                entropy_per_rank,
            )
        finally:
            model.train(was_training)

    def _recomputes(self, model: Any) -> bool:
        """Return True if the model recomputes activations in a way that lets gradients be taken by chosen weights."""
        kwargs = self._trainer.args.gradient_checkpointing_kwargs or {}
        return getattr(model, "is_gradient_checkpointing", False) and not kwargs.get("use_reentrant", False)

    def _step_length(self) -> float:
        """The learning rate: an Adam step moves each weight about that far."""
        return self._trainer.args.learning_rate

    def _reader(self, batch: Batch) -> ReadRows:
        trainer = self._trainer

        def read(forward: Callable[..., Any], rows: Tensor) -> tuple[Tensor, Tensor]:
            with trainer.accelerator.autocast():
                return completion_logits(forward, trainer.model, batch, rows, trainer.temperature)

        return read


def _inner(optimizer: Any) -> Any:
    """Return the torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
