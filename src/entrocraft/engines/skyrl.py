"""Entropy control for SkyRL's trainer: what it knows before each update goes into `decide`, its advantages come out.

SkyRL's passes give log-probabilities and no entropies: that of a batch is the mean of -log p.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrocraft.control import EntropyControl
from entrocraft.engines.checkpoints import STATE_FILE
from entrocraft.engines.loop import Decided, Loop, decide
from entrocraft.errors import InvalidValueError

if TYPE_CHECKING:  # whoever has a trainer has SkyRL
    from skyrl.train.trainer import RayPPOTrainer

LOSSES = ("regular", "dual_clip", "gspo", "cispo", "sapo", "rollout_is", "importance_sampling", "dppo")
"""Losses that scale as their advantages do."""
REDUCTIONS = {
    "token_mean": "token_mean",
    "token_mean_legacy": "token_mean",
    "sequence_mean": "sequence_mean",
    "seq_mean_token_sum_norm": "sequence_sum",
}
"""By SkyRL's word for what a loss is averaged over: `Loop.loss`."""


def loop_of(cfg: Any) -> Loop:
    """Return what a SkyRL configuration makes of the loop.

    Raises:
        InvalidValueError: Its settings rule entropy control out; the message says what to set.
    """
    algorithm, trainer = cfg.trainer.algorithm, cfg.trainer
    if algorithm.policy_loss_type not in LOSSES:
        raise InvalidValueError(
            f"policy_loss_type={algorithm.policy_loss_type!r} is not known to scale as its advantages do; use one of "
            f"{', '.join(LOSSES)}"
        )
    if algorithm.loss_reduction not in REDUCTIONS:
        raise InvalidValueError(
            f"loss_reduction={algorithm.loss_reduction!r} averages in a way that leaving rollouts out cannot be made "
            f"good in; use one of {', '.join(REDUCTIONS)}"
        )
    if algorithm.advantage_batch_normalize:
        raise InvalidValueError(
            "advantage_batch_normalize moves all advantages after the decision, so that what is left out would be "
            "learnt from again; set trainer.algorithm.advantage_batch_normalize=false"
        )
    if cfg.generator.step_wise_trajectories:
        raise InvalidValueError(
            "step_wise_trajectories makes rows of single steps, and decisions are about whole rollouts; set "
            "generator.step_wise_trajectories=false"
        )
    return Loop(
        name="SkyRL's trainer",
        loss=REDUCTIONS[algorithm.loss_reduction],  # type: ignore[arg-type]
        whole_rollouts=algorithm.policy_loss_type == "gspo",
        other_terms=algorithm.use_kl_loss or algorithm.use_entropy_loss,
        momentum=float(trainer.policy.optimizer_config.adam_betas[0]),
        steps_per_decision=trainer.train_batch_size / trainer.policy_mini_batch_size * trainer.update_epochs_per_batch,
    )


class EntropyControlMixin(RayPPOTrainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Adds entropy control to a SkyRL trainer; use it through `with_entropy_control`.

    Args:
        entropy_control: As for `decide`: a schedule, or settings with a method that needs no entropy of each token.

    Raises:
        InvalidValueError: The settings do not fit the configuration; raised before anything else is made.
    """

    def __init__(self, *args: Any, entropy_control: Any = None, **kwargs: Any):
        cfg = kwargs["cfg"] if "cfg" in kwargs else args[0]
        self._loop = loop_of(cfg)
        # With KL in the rewards nobody knows the raw ones.
        self._has_rewards = not cfg.trainer.algorithm.use_kl_in_reward
        self.entropy_control: EntropyControl = self._loop.settled(
            entropy_control, entropies=False, rewards=self._has_rewards
        )
        self._decided: Decided | None = None
        self._state: dict[str, Any] | None = None
        self._gradient_norm: float | None = None
        super().__init__(*args, **kwargs)

    def compute_advantages_and_returns(self, data: Any) -> Any:
        data = super().compute_advantages_and_returns(data)
        num_rollouts = len(data["loss_mask"]) - data.metadata.get("pad_size", 0)  # the others fill the ranks up
        log_probs = data["action_log_probs"] if data["action_log_probs"] is not None else data["rollout_logprobs"]
        if log_probs is None:
            raise InvalidValueError(
                "SkyRL knows no log-probabilities here; set generator.sampling_params.logprobs=1, or a policy loss "
                "that needs those of the policy, such as 'regular'"
            )
        updates = self._loop.steps_per_decision
        self._decided = decide(
            self.entropy_control,
            self._state,
            step=round((self.global_step - 1) * updates) + 1,
            total_steps=round(self.total_training_steps * updates),
            log_probs=log_probs[:num_rollouts],
            advantages=data["advantages"][:num_rollouts],
            mask=(data["loss_mask"][:num_rollouts] > 0).long(),
            groups=data.metadata["uids"][:num_rollouts],
            rewards=data["rewards"][:num_rollouts].sum(-1) if self._has_rewards else None,
            gradient_norm=self._gradient_norm,
            loop=self._loop,
        )
        data["advantages"] = data["advantages"].clone()  # GRPO's are its returns, too
        data["advantages"][:num_rollouts] = self._decided.advantages
        self._state = self._decided.state
        self.all_metrics.update({f"entrocraft/{name}": value for name, value in self._decided.metrics.items()})
        return data

    def _execute_training_step(self, model: str, data: Any) -> dict[str, float]:
        if model != "policy":
            return super()._execute_training_step(model, data)
        if self._decided is not None and self._decided.empty and not self._loop.other_terms:
            return {"skipped": 1.0}  # a zero gradient would still let momentum and weight decay move the weights
        status = super()._execute_training_step(model, data)
        self._gradient_norm = status.get("grad_norm")
        return status

    def save_checkpoints(self) -> str:
        from skyrl.backends.skyrl_train.utils.io import io  # which knows the clouds that checkpoints may be on

        # Before SkyRL does, which writes last what tells that a checkpoint is whole.
        folder = f"{self.cfg.trainer.ckpt_path}/global_step_{self.global_step}"
        io.makedirs(folder, exist_ok=True)
        with io.open_file(f"{folder}/{STATE_FILE}", "w") as file:
            file.write(json.dumps({"state": self._state, "gradient_norm": self._gradient_norm}))
        return super().save_checkpoints()

    def load_checkpoints(self) -> tuple[int, str | Path | None]:
        from skyrl.backends.skyrl_train.utils.io import io

        step, folder = super().load_checkpoints()
        if folder is None:
            return step, folder
        path = f"{folder}/{STATE_FILE}"
        if not io.exists(path):
            raise InvalidValueError(
                f"{folder} holds no {STATE_FILE}: it was not saved under entropy control. Start a new run from its "
                "weights, or resume it with the trainer that saved it"
            )
        with io.open_file(path, "r") as file:
            saved = json.loads(file.read())
        self._state, self._gradient_norm = saved["state"], saved["gradient_norm"]
        return step, folder


def with_entropy_control(trainer_class: type) -> Any:
    """Return a SkyRL trainer class with entropy control: RayPPOTrainer or a subclass of yours.

    The class returned takes `entropy_control=` beside the arguments of `trainer_class`.
    """
    return type(f"EntropyControlled{trainer_class.__name__}", (EntropyControlMixin, trainer_class), {})
