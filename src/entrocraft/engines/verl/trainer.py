"""verl's trainers with entropy control.

Registered under the names of verl's own with `entrocraft_` before them; see `engines.verl`.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ray
import torch
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import KVBatchMeta, PPOTrainer, register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from entrocraft import advantages as estimators
from entrocraft.dynamics import self_kernel_from_collision
from entrocraft.engines.checkpoints import load_state, save_state
from entrocraft.engines.decider import Decider, Update
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.recorder import RolloutRecorder
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.engines.verl.checks import checked_settings
from entrocraft.engines.verl.fields import (
    groups_of,
    overwritten,
    read,
    read_responses,
    real_rows,
    without_a_mask,
    write,
)
from entrocraft.engines.verl.mini_batches import Assignment, assign, token_shares
from entrocraft.engines.verl.recording import record, rollouts_path
from entrocraft.engines.verl.settings import (
    PREFIX,
    ROLLOUT_MEAN,
    TOKEN_MEAN,
    TOKEN_SUM,
    optimizer_memory,
    rows_per_pass,
)
from entrocraft.engines.verl.telling import Telling, loss_settings
from entrocraft.engines.verl.worker import EXCESS, RISE, ControlledWorker
from entrocraft.entropy import entropy_sums
from entrocraft.runs.rollouts import rewind_rollouts


class EntropyControlMixin(PPOTrainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Adds entropy control to one of verl's trainers: decides before each update of the actor, on the driver.

    Everything up to that, and the critic, sees the whole batch; so do verl's own metrics afterwards.
    """

    base_mode: ClassVar[str]
    actor_rollout_wg: Any

    def __init__(self, config: DictConfig):
        self.settings = checked_settings(config)
        with open_dict(config):  # verl looks its own modes up by this name
            config.trainer.v1.trainer_mode = self.base_mode
        super().__init__(config)
        actor, control = config.actor_rollout_ref.actor, self.settings.control
        # Updates of the actor from one synchronisation of the samplers to the next, each with a decision of its own.
        self._decisions_per_step = int(self.parameter_sync_step)
        prompts = config.data.train_batch_size / self._decisions_per_step
        # What momentum carries fades at every optimizer step, of which a decision has several.
        optimizer_steps = math.ceil(prompts / actor.ppo_mini_batch_size) * actor.ppo_epochs
        self.entropy_controller = control.build(optimizer_memory(actor) ** optimizer_steps)
        by_rollout = self.settings.aggregation == ROLLOUT_MEAN
        self._decider = Decider(
            self.entropy_controller,
            control,
            OneRank(),
            by_rollout=by_rollout,
            other_terms=self._has_other_terms,
        )
        self._recorder = RolloutRecorder(rollouts_path(self.settings.control, config), OneRank())

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if self.settings.needs_own_worker:
            for role in {Role.ActorRollout, Role.ActorRolloutRef} & self.role_worker_mapping.keys():
                self.role_worker_mapping[role] = ray.remote(ControlledWorker)

    # ---- decide --------------------------------------------------------------------------------------

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        if self.settings.control.estimator is None:
            return batch
        rows = real_rows(batch)
        own = read(batch, rows, ["rm_scores", "response_mask"])
        padded = own.to_padded_tensor()
        # verl lays rewards on tokens, as a rule on the last; a rollout's is their sum.
        rewards_B = padded["rm_scores"].double().sum(-1)
        groups_B = groups_of(batch, rows)
        advantages_B = estimators.estimate_by_group(self.settings.control.estimator, rewards_B, groups_B)
        write(batch, rows, own, {"advantages": advantages_B.float()[:, None] * padded["response_mask"]})
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if not self._measures_collisions:
            return super()._compute_old_log_prob(batch, metrics)
        # verl's own pass also gives the sum over the vocabulary of squared probabilities, if it is told to.
        batch.extra_info["calculate_sum_pi_squared"] = True
        try:
            return super()._compute_old_log_prob(batch, metrics)
        finally:
            batch.extra_info.pop("calculate_sum_pi_squared", None)

    @property
    def _measures_collisions(self) -> bool:
        """True if the method needs sums of squared probabilities, and verl's kernels can give them."""
        fused = self.config.actor_rollout_ref.model.get("use_fused_kernels", False)
        return "visitation" in self.settings.method.needs and not fused

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rows = real_rows(batch)
        own = read(batch, rows, ["advantages", "response_mask", *self._fields_to_score()]).to_padded_tensor()
        update = self._decide(batch, rows, own)
        record(self._recorder, self, batch, rows, own, update, step=self._decision_number)
        # A rollout of which the loss counts no token has nothing to teach, and could leave a mini-batch without any.
        keep_B = update.keep_B & (own["loss_mask"].sum(-1) > 0)
        drops = self.settings.drops
        skipped = not keep_B.any() and (drops or not self._has_other_terms)
        metrics.update({f"entrocraft/{name}": value for name, value in update.decision.metrics.items()})
        metrics["entrocraft/skipped"] = float(skipped)
        if skipped:
            return batch  # the weights, the optimizer and its schedule of learning rates stay as they are
        with self._telling(loss_settings(self.entropy_controller.method, update.decision)):
            if update.changes_nothing:
                super()._update_actor(batch, metrics)  # verl's own step, untouched
            elif drops:
                kept = keep_B.nonzero().flatten().tolist()
                self._update_kept(batch, rows, own, kept, update, metrics)
            else:
                self._update_masked(batch, rows, own, update, metrics)
        if "actor/grad_norm" in metrics:
            self.entropy_controller.note_gradient_norm(float(metrics["actor/grad_norm"]))
        return batch  # whole again: verl reads its metrics from it, and clears it

    @property
    def _decision_number(self) -> int:
        """Number of the decision about to be made, counted from 1; decisions are the steps of the curve here."""
        return (self.global_steps - 1) * self._decisions_per_step + self.local_trigger_step + 1

    @property
    def _has_other_terms(self) -> bool:
        """True if the loss has terms that rejected rollouts feel, too."""
        actor = self.config.actor_rollout_ref.actor
        return bool(actor.use_kl_loss or actor.entropy_coeff)

    @property
    def _compares_rewards(self) -> bool | None:
        """Whether advantages are how the rewards of a prompt compare; None of estimators that may do something else."""
        algorithm = self.config.algorithm
        if algorithm.get("use_kl_in_reward", False):
            return False
        by_prompt = algorithm.adv_estimator in ("grpo", "grpo_vectorized", "rloo", "rloo_vectorized")
        return True if by_prompt and self.settings.control.estimator is None else None

    def _fields_to_score(self) -> list[str]:
        fields = [self.settings.scored_by, "rm_scores", "loss_mask"]
        return fields if self.settings.entropy_from_rollouts else [*fields, "entropy"]

    def _decide(self, batch: KVBatchMeta, rows: list[int], own: TensorDict) -> Update:
        mask_BT = own["response_mask"].long()
        log_probs_BT = own[self.settings.scored_by].float()
        # The mean of -log p is an estimate of entropy, without a pass of its own.
        entropy_BT = -log_probs_BT if self.settings.entropy_from_rollouts else own["entropy"].float()
        advantages_BT = own["advantages"].float() * mask_BT
        stats = TokenStats(log_probs_BT, entropy_BT)
        if self._measures_collisions:
            collision_BT = read_responses(batch, rows, "sum_pi_squared", mask_BT)
            stats.self_kernel_BT = self_kernel_from_collision(log_probs_BT, collision_BT)
        return self._decider.decide(
            Rollouts(stats=stats, advantages=advantages_BT, mask_BT=mask_BT, compare_rewards=self._compares_rewards),
            step=self._decision_number,
            total_steps=self.total_training_steps * self._decisions_per_step,
            groups=groups_of(batch, rows),
            rewards=own["rm_scores"].double().sum(-1),
            rise=partial(self._rise, batch, rows, entropy_BT, mask_BT)
            if self.settings.control.sees_whole_model
            else None,
        )

    def _rise(self, batch: KVBatchMeta, rows: list[int], entropy_BT: Tensor, mask_BT: Tensor, entropy: float) -> Tensor:
        """Have the workers tell how each token's log-probability rises with entropy (B, T)."""
        actor = self.config.actor_rollout_ref.actor
        sums_B, counts_B = entropy_sums(entropy_BT, mask_BT)
        # h_i - H len_i of `dynamics.whole_model`, in nats; 0 for the rows that verl has filled up with.
        excess_B = torch.zeros(len(batch), dtype=torch.float32)
        excess_B[rows] = (sums_B - entropy * counts_B).float()
        every_row = list(range(len(batch)))
        every = read(batch, every_row, ["response_mask"])
        mask = every.to_padded_tensor()["response_mask"].float()
        write(batch, every_row, every, {EXCESS: excess_B[:, None] * mask})
        settings = {
            "calculate_entropy": True,
            "no_lora_adapter": False,
            "temperature": self.config.actor_rollout_ref.rollout.temperature,
            "step_length": float(actor.optim.lr),
            "entropy_per_rank": float(sums_B.sum()) / self._num_ranks,
            "whole_model_blocks": self.settings.control.whole_model_blocks or 0,
        }
        self.actor_rollout_wg.compute_rise(
            replace(batch, fields=[*batch.fields, EXCESS], extra_info=batch.extra_info | settings)
        )
        return read_responses(batch, rows, RISE, mask_BT)

    # ---- carry out -----------------------------------------------------------------------------------

    def _update_masked(
        self, batch: KVBatchMeta, rows: list[int], own: TensorDict, update: Update, metrics: dict[str, Any]
    ) -> None:
        """Update on the whole batch, in which what is rejected has no advantage."""
        by_tokens = self.settings.aggregation in (TOKEN_MEAN, TOKEN_SUM)
        scale = update.decision.loss_scale(own["loss_mask"].sum(-1) if by_tokens else None)
        with overwritten(batch, rows, {"advantages": update.advantages * scale}):
            super()._update_actor(batch, metrics)

    def _update_kept(
        self,
        batch: KVBatchMeta,
        rows: list[int],
        own: TensorDict,
        kept: list[int],
        update: Update,
        metrics: dict[str, Any],
    ) -> None:
        """Update on the kept rollouts alone; `kept` are their places among the rollouts."""
        # Places among the rollouts, and rows of the batch, which may hold padding beside them.
        kept_rows = [rows[index] for index in kept]
        assignment = assign(
            [tag["seq_len"] for tag in batch.tags],
            kept_rows,
            mini_batch_size=self._stock_rows,
            num_ranks=self._num_ranks,
            rows_per_pass=rows_per_pass(self.config.actor_rollout_ref.actor),
        )
        tokens_of = dict(zip(rows, own["loss_mask"].sum(-1).tolist(), strict=True))
        advantages_BT = update.advantages[kept] * self._scales(batch, assignment, kept_rows, tokens_of, update)[:, None]
        part = replace(
            batch,
            keys=[batch.keys[row] for row in assignment.order],
            tags=[batch.tags[row] for row in assignment.order],
        )
        by_kept = update.decision.normalize == "kept"
        with ExitStack() as meanwhile:
            if assignment.fillers:
                meanwhile.enter_context(without_a_mask(batch, assignment.fillers))
            if not torch.equal(advantages_BT, own["advantages"][kept].float()):
                meanwhile.enter_context(overwritten(batch, kept_rows, {"advantages": advantages_BT}))
            # What verl divides a mini-batch's sum over rollouts by: those kept (Eq. 5), or as many as without control.
            divisor = len(kept) / len(assignment.mini_batches) if by_kept else self._stock_rows
            # Mini-batches of another size than verl's, and losses that are divided by rows by another number of them.
            told = {"mini_batch_size": assignment.size, "global_batch_size": divisor}
            meanwhile.enter_context(self._telling(told))
            super()._update_actor(part, metrics)
        metrics["entrocraft/trained_rows"] = float(len(assignment.order))
        metrics["entrocraft/filler_rows"] = float(len(assignment.fillers))

    @property
    def _num_ranks(self) -> int:
        """Data-parallel ranks of the actor."""
        return max(self.actor_rollout_wg._dispatch_info["actor"]) + 1

    @property
    def _stock_rows(self) -> int:
        """Rollouts of a mini-batch of verl's own."""
        return int(self.config.actor_rollout_ref.actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n)

    def _scales(
        self,
        batch: KVBatchMeta,
        assignment: Assignment,
        kept_rows: list[int],
        tokens_of: dict[int, int],
        update: Update,
    ) -> Tensor:
        """Return what to multiply the advantages of the kept rows by, so that the loss is averaged as was decided.

        verl divides by the rollouts that we tell it, or by the tokens of each mini-batch, or by nothing.
        """
        aggregation, decision = self.settings.aggregation, update.decision
        if aggregation == TOKEN_SUM:
            return torch.full((len(kept_rows),), decision.loss_scale(torch.tensor(list(tokens_of.values()))))
        if aggregation == TOKEN_MEAN and decision.normalize == "all":
            share_of = token_shares(assignment, tokens_of, len(batch) // self._stock_rows)
            return torch.tensor([share_of[row] for row in kept_rows])
        return torch.ones(len(kept_rows))

    @contextmanager
    def _telling(self, settings: dict[str, Any]) -> Iterator[None]:
        """Have verl's update tell the workers other settings than its own."""
        workers = self.actor_rollout_wg
        self.actor_rollout_wg = Telling(workers, settings)
        try:
            yield
        finally:
            self.actor_rollout_wg = workers

    # ---- save ----------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        save_state(self.entropy_controller, self._checkpoint_folder)  # verl writes last which checkpoint is the latest
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps == 0:
            return
        trainer = self.config.trainer
        resumed_from = trainer.resume_from_path if trainer.resume_mode == "resume_path" else self._checkpoint_folder
        load_state(self.entropy_controller, Path(resumed_from))
        rewind_rollouts(rollouts_path(self.settings.control, self.config), self.global_steps * self._decisions_per_step)

    @property
    def _checkpoint_folder(self) -> Path:
        """Where verl saves the step it is at."""
        return Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"


def _controlled(mode: str, trainer_class: type[PPOTrainer]) -> type[PPOTrainer]:
    """Register and return `trainer_class` with entropy control."""
    name = f"EntropyControlled{trainer_class.__name__}"
    fields = {"base_mode": mode, "__module__": __name__, "__doc__": trainer_class.__doc__}
    return register_trainer(PREFIX + mode)(type(name, (EntropyControlMixin, trainer_class), fields))


EntropyControlledPPOTrainerSync = _controlled("sync", PPOTrainerSync)
EntropyControlledPPOTrainerColocateAsync = _controlled("colocate_async", PPOTrainerColocateAsync)
EntropyControlledPPOTrainerSeparateAsync = _controlled("separate_async", PPOTrainerSeparateAsync)
