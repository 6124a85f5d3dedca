"""TRL's trainers with entropy control."""

import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer, RLOOTrainer

from entrocraft import advantages as estimators
from entrocraft.control import EntropyControl
from entrocraft.control.controller import Controller
from entrocraft.control.decision import Decision
from entrocraft.engines.checkpoints import load_state, save_state
from entrocraft.engines.decider import Decider
from entrocraft.engines.recorder import RolloutRecorder
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.trl.checks import check_trainer_args, checked_control, warn_if_idle
from entrocraft.engines.trl.loss import ControlledLoss
from entrocraft.engines.trl.ranks import AcceleratorRanks, CheckpointsOfAllRanks
from entrocraft.engines.trl.recording import record, summed_rewards
from entrocraft.engines.trl.rows import Batch, loss_mask
from entrocraft.engines.trl.scorer import PolicyScorer
from entrocraft.engines.trl.script import ScriptRun, check_run_directory
from entrocraft.engines.trl.settings import (
    ROLLOUT_MEAN_LOSSES,
    has_kl_term,
    loss_type_of,
    optimizer_memory,
    steps_per_decision,
)
from entrocraft.engines.trl.temperature import at_temperature, refuse_other_samplers
from entrocraft.engines.trl.whole_model import WholeModelPredictor
from entrocraft.entropy import entropy_sums
from entrocraft.errors import InvalidValueError
from entrocraft.runs.checkpoints import Checkpoint


class EntropyControlMixin(CheckpointsOfAllRanks):
    """Adds entropy control to a TRL trainer; use it through `with_entropy_control`.

    Args:
        entropy_control: A schedule (`"linear(0.6, 0.2)"`, a number, knots, an `entrocraft` schedule), a
            `Band`, an `EntropyControl` or a mapping of its fields. By default entropy is annealed
            linearly from where it starts to half of it.
        entropy_controller: A controller instead of the one that `entropy_control` builds.

    Everything else goes to the trainer unchanged. Metrics appear under `entrocraft/` in TRL's own
    logging; the controller's state is saved and restored with TRL's checkpoints.

    Raises:
        InvalidValueError: The settings do not fit the trainer; raised before the model loads.
    """

    _tag_names: list[str]
    beta: float
    entropy_coef: float
    _entropy_bonus_enabled: bool

    def __init__(
        self,
        *args: Any,
        entropy_control: Any = None,
        entropy_controller: Controller | None = None,
        **kwargs: Any,
    ):
        self.entropy_control = EntropyControl.of(entropy_control)
        trainer_args = kwargs.get("args") or next((a for a in args if hasattr(a, "per_device_train_batch_size")), None)
        if trainer_args is not None:  # before the model loads
            self._checked(entropy_controller, trainer_args, kwargs.get("rollout_func"))
            if self.entropy_control.run is not None and trainer_args.process_index == 0:
                check_run_directory(Path(self.entropy_control.run), trainer_args)
        self._rewards_per_func: Tensor | None = None
        self._decision: Decision | None = None
        self._decisions_of_step: list[Decision] = []
        self._tag_names = [*self._tag_names, "entrocraft"]
        super().__init__(*args, **kwargs)
        # Again, for TRL's defaults.
        rollout_func = getattr(self, "rollout_func", None)
        control = self.entropy_control = self._checked(entropy_controller, self.args, rollout_func)
        self.entropy_controller = entropy_controller or control.build(
            optimizer_memory(self.args), steps_per_decision(self.args)
        )
        self._ranks = AcceleratorRanks(self.accelerator)
        self._run: ScriptRun | None = None
        if control.run is not None:
            is_given = entropy_controller is not None
            self._run = ScriptRun(control, self.entropy_controller, is_given=is_given, ranks=self._ranks)
            control = self.entropy_control = self._run.control
        by_rollout = loss_type_of(self) in ROLLOUT_MEAN_LOSSES
        # Terms of the loss that a rollout without an advantage feels, beside KL: an entropy bonus, load balancing.
        names = ("_entropy_bonus_enabled", "aux_loss_enabled")
        self._decider = Decider(
            self.entropy_controller,
            control,
            self._ranks,
            by_rollout=by_rollout,
            other_terms=has_kl_term(self) or any(getattr(self, name, False) for name in names),
        )
        method = self.entropy_controller.method
        warn_if_idle(method, self.entropy_controller.name, self.args)
        # What the batch in use was sampled at, and so is scored at; None for the trainer's own.
        self._temperature: float | None = None
        self._drops = control.drops(method)
        self._loss = ControlledLoss(self, super()._compute_loss, method, self._ranks, drops=self._drops)
        self._scorer = PolicyScorer(
            self,
            super()._get_per_token_logps_and_entropies,
            method,
            self.entropy_controller.name,
            exact="change" in method.needs and control.predictor == "exact",
            visitation="visitation" in method.needs,
        )
        self._whole_model = None
        if control.sees_whole_model:
            self._whole_model = WholeModelPredictor(self, control.whole_model_blocks, control.whole_model_share or 1.0)
        self._recorder = None
        if control.rollouts is not None:
            self._recorder = RolloutRecorder(control.rollouts, self._ranks)
        self.add_callback(_AroundOptimizerStep(self))

    def _checked(self, controller: Controller | None, trainer_args: Any, rollout_func: Any) -> EntropyControl:
        """Return the settings as they hold under TRL's arguments, checked with the method that will decide."""
        if controller is None:
            control = checked_control(self.entropy_control, trainer_args)
            method, name = control.new_method(), control.method_name or ""
        else:
            control, method, name = self.entropy_control, controller.method, controller.name
            check_trainer_args(control, method, name, trainer_args)
        refuse_other_samplers(rollout_func, method, name)
        return control

    # ---- measure -------------------------------------------------------------------------------------

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._rewards_per_func = super()._calculate_rewards(*args, **kwargs)  # global, rank after rank
        return self._rewards_per_func

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self._scorer.captures_pass_over(model):
            log_probs, entropies, aux_loss = self._scorer.capture(model, *args, **kwargs)
        else:
            log_probs, entropies, aux_loss = super()._get_per_token_logps_and_entropies(
                model, *args, compute_entropy=compute_entropy, **kwargs
            )
            if self._loss.live is not None:
                self._loss.live.see(log_probs, entropies)
        return log_probs, entropies if compute_entropy else None, aux_loss

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self._scorer.recording():
            return super()._generate_single_turn(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        self._temperature = self.entropy_controller.temperature
        with at_temperature(self, self._temperature):
            with self._scorer.capturing():
                batch = super()._generate_and_score_completions(inputs)
            batch, self._decision = self._control(batch)
        self._scorer.clear()
        self._rewards_per_func = None
        return batch

    # ---- decide --------------------------------------------------------------------------------------

    def _control(self, batch: Batch) -> tuple[Batch, Decision]:
        """Return the batch as the update must use it, and the decision behind it."""
        if self.entropy_control.estimator is not None:
            batch["advantages"] = self._estimate_advantages(self.entropy_control.estimator)
        mask_BT = loss_mask(batch)
        stats = self._scorer.scores(batch)

        def rise(entropy: float) -> Tensor:
            sums_B, counts_B = entropy_sums(stats.entropy_BT, mask_BT)
            predictor = cast(WholeModelPredictor, self._whole_model)
            return predictor.change_in_log_probs(batch, mask_BT, sums_B, counts_B, entropy)

        turns_it = "temperature" in self.entropy_controller.method.turns
        rollouts = Rollouts(
            stats=stats,
            advantages=batch["advantages"],
            mask_BT=mask_BT,
            temperature=self.temperature if turns_it else None,
            compare_rewards=self._compares_rewards(),
        )
        # A subclass may bring batches without rewards.
        rewards = None if self._rewards_per_func is None else summed_rewards(self, self._rewards_per_func)
        update = self._decider.decide(
            rollouts,
            step=self.state.global_step + 1,
            total_steps=self.state.max_steps,
            groups=torch.arange(len(mask_BT) * self._ranks.count) // self.num_generations,
            rewards=rewards,
            rise=rise if self._whole_model is not None else None,
        )
        if self._recorder is not None:
            change = None if update.batch is None else update.batch.change
            own = (rollouts.advantages_B, update.kept_BT)
            record(self._recorder, self, batch, *own, rewards=rewards, change=change, change_BT=update.change_BT)
        return self._loss.prepared(batch, update), update.decision

    def _compares_rewards(self) -> bool | None:
        """Return whether advantages are how a prompt's rewards compare; None for those of subclasses and estimators."""
        if self.beta != 0.0 and not has_kl_term(self):
            return False  # RLOOTrainer's hold its KL penalty, too
        makers = [trainer._generate_and_score_completions for trainer in (GRPOTrainer, RLOOTrainer)]
        is_trls = getattr(super()._generate_and_score_completions, "__func__", None) in makers
        is_summed = getattr(self, "multi_objective_aggregation", "sum_then_normalize") == "sum_then_normalize"
        return True if is_trls and is_summed and self.entropy_control.estimator is None else None

    def _estimate_advantages(self, estimator: Any) -> Tensor:
        """Return this rank's advantages from one of our estimators instead of the trainer's."""
        rewards = summed_rewards(self, cast(Tensor, self._rewards_per_func))
        advantages = estimators.estimate(estimator, rewards.view(-1, self.num_generations)).flatten()
        return self._ranks.local(advantages).float().to(self.accelerator.device)

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        with at_temperature(self, self._temperature if self.model.training else None):
            return self._loss(model, inputs, self._decision)

    # ---- log, skip, save -----------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        resumes = bool(resume_from_checkpoint)
        with nullcontext() if self._run is None else self._run.kept(self, resumes=resumes):
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._decision is not None and not any(self._decision is d for d in self._decisions_of_step):
            self._decisions_of_step.append(self._decision)
        return loss

    def _before_optimizer_step(self, model: Any) -> None:
        """Log the decisions behind this step; if it had no rollout to learn from, leave the weights alone."""
        decisions, self._decisions_of_step = self._decisions_of_step, []
        skip = self._loss.take_num_rows() == 0
        # TRL logs means: where a step takes several batches of rollouts, those of their decisions.
        for decision in decisions:
            for name, value in (decision.metrics | {"skipped": float(skip)}).items():
                self._metrics["train"][f"entrocraft/{name}"].append(value)
        self._loss.rate.turn()
        if not skip:
            return
        if self.is_deepspeed_enabled:
            warnings.warn(
                "a step without a kept rollout: DeepSpeed steps by itself, so momentum still acts", stacklevel=2
            )
        # A zero gradient would still let momentum and weight decay move the weights.
        for parameter in model.parameters():
            parameter.grad = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:  # transformers writes trainer_state.json last
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            save_state(self.entropy_controller, folder)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | os.PathLike[str] | None) -> None:
        if checkpoint is not None and not (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # whose files are others
            self._refuse_partial(Path(checkpoint))
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            load_state(self.entropy_controller, Path(checkpoint))

    def _refuse_partial(self, checkpoint: Path) -> None:
        """Raise `InvalidValueError` if transformers would go on from a checkpoint without some of it."""
        missing = Checkpoint(0, checkpoint).missing(ranks=self._ranks.count)
        if missing:
            raise InvalidValueError(
                f"cannot resume exactly from {checkpoint}: {', '.join(f'{name} is missing' for name in missing)}. "
                "Resume from an earlier checkpoint, or start a new run from its weights"
            )


class _AroundOptimizerStep(TrainerCallback):
    """Calls the trainer between the last backward pass and the optimizer step, and after that."""

    def __init__(self, trainer: EntropyControlMixin):
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._trainer._before_optimizer_step(model)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer._loss.rate.restore()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "grad_norm" in logs:
            self._trainer.entropy_controller.note_gradient_norm(float(logs["grad_norm"]))


_HOOKS = (
    "_calculate_rewards",
    "_compute_loss",
    "_generate_and_score_completions",
    "_generate_single_turn",
    "_get_per_token_logps_and_entropies",
    "_load_optimizer_and_scheduler",
    "_save_checkpoint",
)


def with_entropy_control(trainer_class: type) -> Any:
    """Return `trainer_class` with entropy control: GRPOTrainer, RLOOTrainer or a subclass of yours.

    The class returned takes `entropy_control=` beside the arguments of `trainer_class`; see
    `EntropyControlMixin`.

    Raises:
        InvalidValueError: The class lacks a method this relies on: it is no GRPO-like trainer, or TRL is
            of a version that has moved it.

    Example:
        >>> class MyTrainer(GRPOTrainer):
        ...     pass
        >>> with_entropy_control(MyTrainer).__name__
        'EntropyControlledMyTrainer'
    """
    missing = [hook for hook in _HOOKS if not callable(getattr(trainer_class, hook, None))]
    if missing:
        import trl

        raise InvalidValueError(
            f"{trainer_class.__name__} has no {', '.join(missing)}: expected GRPOTrainer, RLOOTrainer or a "
            f"subclass, of TRL 1.16 (installed: {trl.__version__})"
        )
    if issubclass(trainer_class, EntropyControlMixin):
        return trainer_class
    return type(
        f"EntropyControlled{trainer_class.__name__}",
        (EntropyControlMixin, trainer_class),
        {"__doc__": trainer_class.__doc__, "__module__": trainer_class.__module__},
    )


class EntropyControlledGRPOTrainer(EntropyControlMixin, GRPOTrainer):
    """TRL's GRPOTrainer with entropy control; see `EntropyControlMixin` for the arguments it adds."""


class EntropyControlledRLOOTrainer(EntropyControlMixin, RLOOTrainer):
    """TRL's RLOOTrainer with entropy control; see `EntropyControlMixin` for the arguments it adds."""
