"""What the rollouts of a verl run were, for `rollouts.jsonl`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor

from entrocraft.control import EntropyControl
from entrocraft.engines.decider import Update
from entrocraft.engines.recorder import RolloutRecorder
from entrocraft.engines.verl.fields import groups_of, read

if TYPE_CHECKING:  # importing verl's trainers registers ours, which import this module
    from verl.trainer.ppo.v1.trainer_base import KVBatchMeta


def rollouts_path(control: EntropyControl, config: DictConfig) -> Path:
    """Return where rollouts are recorded: in verl's own folder of the run, or where the settings say."""
    return Path(control.rollouts or Path(config.trainer.default_local_dir) / "rollouts.jsonl")


def record(
    recorder: RolloutRecorder,
    trainer: Any,
    batch: "KVBatchMeta",
    rows: list[int],
    own: TensorDict,
    update: Update,
    *,
    step: int,
) -> None:
    """Record a batch of a verl trainer; see `RolloutRecorder.record`.

    Args:
        recorder: Writes.
        trainer: verl's, with our settings.
        batch: The batch, filled up as verl fills it.
        rows: Those of its rows that are rollouts.
        own: Their padded fields.
        update: What was decided.
        step: Number of the decision, counted from 1.
    """

    def token_ids(chosen: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        fields = read(batch, [rows[index] for index in chosen], ["prompts", "responses"])
        return list(zip(fields["prompts"].unbind(), fields["responses"].unbind(), strict=True))

    mask_BT = own["response_mask"].long()
    recorder.record(
        step,
        trainer.total_training_steps * int(trainer.parameter_sync_step),
        groups=groups_of(batch, rows),
        advantages_B=(own["advantages"].float() * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1),
        mask_BT=mask_BT,
        kept_BT=update.kept_BT,
        tokenizer=trainer.tokenizer,
        token_ids=token_ids,
        rewards=own["rm_scores"].double().sum(-1),
        change=None if update.batch is None else update.batch.change,
        change_BT=update.change_BT,
    )
