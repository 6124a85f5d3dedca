"""What a TRL trainer's rollouts were, for `rollouts.jsonl`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entrocraft.engines.recorder import RolloutRecorder
from entrocraft.engines.trl.ranks import AcceleratorRanks, CheckpointsOfAllRanks
from entrocraft.engines.trl.rows import Batch, loss_mask


class RolloutRecordingMixin(CheckpointsOfAllRanks):
    """Records the rollouts of a trainer without entropy control; it changes nothing else.

    Args:
        rollouts: The file to record them in; see `runs.rollouts`.
    """

    def __init__(self, *args: Any, rollouts: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._recorder = RolloutRecorder(rollouts, AcceleratorRanks(self.accelerator))
        self._scored: Tensor | None = None

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._scored = super()._calculate_rewards(*args, **kwargs)
        return self._scored

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        batch = super()._generate_and_score_completions(inputs)
        if self.model.training:
            rewards = None if self._scored is None else summed_rewards(self, self._scored)
            record(self._recorder, self, batch, batch["advantages"], loss_mask(batch), rewards=rewards)
        return batch


def with_rollout_recording(trainer_class: type) -> Any:
    """Return a TRL trainer class that takes `rollouts=`, a file to record rollouts in."""
    return type(f"Recorded{trainer_class.__name__}", (RolloutRecordingMixin, trainer_class), {})


def record(
    recorder: RolloutRecorder,
    trainer: Any,
    batch: Batch,
    advantages_B: Tensor,
    kept_BT: Tensor,
    *,
    rewards: Tensor | None,
    change: Tensor | None = None,
    change_BT: Tensor | None = None,
) -> None:
    """Record a batch of a TRL trainer; see `RolloutRecorder.record`."""

    def token_ids(rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        # A masked completion, cut off before its end, is shown all the same: special tokens are its padding.
        prompts, masks = batch["prompt_ids"], batch["prompt_mask"].bool()
        return [(prompts[row][masks[row]], batch["completion_ids"][row]) for row in rows]

    mask_BT = loss_mask(batch)
    recorder.record(
        trainer.state.global_step + 1,
        trainer.state.max_steps,
        groups=torch.arange(len(mask_BT) * trainer.accelerator.num_processes) // trainer.num_generations,
        advantages_B=advantages_B,
        mask_BT=mask_BT,
        kept_BT=kept_BT,
        tokenizer=getattr(trainer.processing_class, "tokenizer", trainer.processing_class),
        token_ids=token_ids,
        rewards=rewards,
        change=change,
        change_BT=change_BT,
    )


def summed_rewards(trainer: Any, rewards_per_func: Tensor) -> Tensor:
    """Return the global weighted sum of rewards, one per rollout, as TRL sums them; NaN where none scored it."""
    rewards = (rewards_per_func * trainer.reward_weights.to(rewards_per_func.device)).nansum(dim=1)
    # A sum without a term would be 0, which is a reward.
    rewards[torch.isnan(rewards_per_func).all(dim=1)] = torch.nan
    return rewards.cpu().double()
