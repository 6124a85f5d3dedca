"""The `entrocraft` block of a verl configuration, and what of the rest bears on it; `checks` says what rules it out."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from entrocraft.control import EntropyControl
from entrocraft.control.capabilities import Capabilities, warn_of_one_update
from entrocraft.control.decision import KNOBS
from entrocraft.control.methods import Method
from entrocraft.errors import UnknownNameError

PREFIX = "entrocraft_"
MODES = ("sync", "colocate_async", "separate_async")

TOKEN_MEAN, TOKEN_SUM, ROLLOUT_MEAN = "token-mean", "token-sum", "seq-mean-token-mean"
"""Those of verl's ways to average a loss that need a treatment of their own; the others divide by rollouts."""

RATIO_PER_ROLLOUT = ("gspo", "geo_mean")
"""Losses with one ratio per rollout, so that its tokens share their fate."""
HOMOGENEOUS = ("vanilla", "gspo", "sapo", "gpg", "cispo", "dppo_tv", "dppo_kl")
"""Losses that scale as their advantages do, so that an average can be made good there."""


CLIPPING = ("vanilla", "gspo", "clip_cov")
"""Losses that clip the ratio to `1 - clip_ratio_low ... 1 + clip_ratio_high`."""


@dataclass(frozen=True, kw_only=True)
class VerlSettings:
    """Entropy control of a verl run, and what of verl's own settings bears on it."""

    mode: str
    """Which of verl's trainers is controlled: one of `MODES`."""
    control: EntropyControl
    """The settings, with a method that is named."""
    method: Method
    """Such a method, to be asked what it needs and turns; it decides nothing."""
    entropy_from_rollouts: bool
    """True if entropy is not measured, but the mean of `-log p` of the sampled tokens, by the rollout engine."""
    aggregation: str
    """What the loss is averaged over, in verl's words."""

    @property
    def scored_by(self) -> str:
        """Name of the field that holds the log-probabilities of the policy that is about to be updated."""
        return "rollout_log_probs" if self.entropy_from_rollouts else "old_log_probs"

    @property
    def drops(self) -> bool:
        """True if the update's passes leave rollouts out."""
        return self.control.drops(self.method)

    @property
    def needs_scaling(self) -> bool:
        """True if what `normalize` asks for must go into the advantages, because verl divides by something else."""
        normalize = self.method.normalize
        # Nothing is left out, so kept and all are the same.
        if not self.method.turns & {"rollouts", "tokens"}:
            return False
        if not self.drops:
            return normalize == "kept"
        # verl divides by the tokens passed on, which are those kept.
        if self.aggregation == TOKEN_MEAN:
            return normalize == "all"
        return self.aggregation == TOKEN_SUM and normalize == "kept"

    @property
    def needs_own_worker(self) -> bool:
        """True if verl's workers must do what they cannot by themselves; see `worker`."""
        return self.control.sees_whole_model or bool(self.method.turns & {"surrogate", *KNOBS})

    @classmethod
    def of(cls, config: DictConfig) -> "VerlSettings":
        """Return the settings of a verl configuration.

        Args:
            config: With `trainer.v1.trainer_mode` one of ours, and perhaps an `entrocraft` block: the fields of
                `EntropyControl`, or just a schedule, and `entropy_source`, `measured` or `rollout`.

        Raises:
            InvalidValueError: A value cannot be used.
            UnknownNameError: A name is not known.
        """
        name = trainer_mode(config)
        mode = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or mode not in MODES:
            raise UnknownNameError.of("trainer mode", name, [PREFIX + mode for mode in MODES])
        block = config.get("entrocraft", None)
        plain = OmegaConf.to_container(block, resolve=True) if OmegaConf.is_config(block) else block
        source = "measured"
        if isinstance(plain, dict) and "type" not in plain:
            source = plain.pop("entropy_source", source)
        if source not in ("measured", "rollout"):
            raise UnknownNameError.of("entrocraft.entropy_source", source, ["measured", "rollout"])
        control = EntropyControl.of(plain).settled(capabilities(config, mode, source == "rollout"))
        actor, method = config.actor_rollout_ref.actor, control.new_method()
        updates = config.data.train_batch_size / actor.ppo_mini_batch_size * actor.ppo_epochs
        if updates <= 1:
            remedy = (
                "Set actor_rollout_ref.actor.ppo_mini_batch_size to a part of data.train_batch_size, such as a "
                "quarter, or ppo_epochs to more than 1"
            )
            warn_of_one_update(method, control.method_name or "", remedy, stacklevel=2)
        return cls(
            mode=mode,
            control=control,
            method=method,
            entropy_from_rollouts=source == "rollout",
            # SAPO averages in its own way, whatever is asked for.
            aggregation=ROLLOUT_MEAN if loss_mode(actor) == "sapo" else str(actor.loss_agg_mode),
        )


def capabilities(config: DictConfig, mode: str, entropy_from_rollouts: bool) -> Capabilities:
    """Return what verl can carry out under a configuration, and which signals it can make.

    Args:
        config: verl's.
        mode: Which of its trainers is controlled.
        entropy_from_rollouts: Whether entropy is the mean of `-log p` over what was sampled.
    """
    loss, adv_estimator = loss_mode(config.actor_rollout_ref.actor), config.algorithm.adv_estimator
    why_not = {
        "temperature": "its samplers and its scoring passes each hold a copy of it; choose another method, or train "
        "with TRL",
    }
    strategy = config.actor_rollout_ref.actor.strategy
    if strategy not in ("fsdp", "fsdp2"):
        why_not["learning_rate"] = f"strategy={strategy} steps an optimizer of its own kind; use fsdp or fsdp2"
    if loss != "vanilla":
        why_not["surrogate"] = f"loss_mode={loss} is none that a surrogate can stand in for; use vanilla"
    if loss in RATIO_PER_ROLLOUT:
        why_not["tokens"] = f"loss_mode={loss} weighs a rollout as a whole; use method 'budget', or name no method"
    elif loss not in HOMOGENEOUS:
        why_not["tokens"] = (
            f"loss_mode={loss} does not scale as its advantages do; use method 'budget', or name no method"
        )
    if adv_estimator == "gae":
        why_not["advantages"] = (
            "algorithm.adv_estimator=gae gives each token an advantage of its own, and the method weighs whole "
            "rollouts; use another, such as grpo"
        )
    if mode == "separate_async":
        why_not["surrogate"] = "separate_async replaces the workers by its own, which hold no method; use another mode"
        for knob in ("entropy_coef", "clip_low", "clip_high", "learning_rate"):
            why_not[knob] = (
                "separate_async replaces the workers by its own, which take their settings from the configuration, "
                "once; use another trainer mode, or entropy_bonus=0.0 and actor_rollout_ref.actor.entropy_coeff for a "
                "bonus throughout"
            )
    elif loss not in CLIPPING:
        reason = f"loss_mode={loss} has no clip range; use one of {', '.join(CLIPPING)}"
        why_not["clip_low"] = why_not["clip_high"] = reason
    if entropy_from_rollouts:
        for signal in ("change", "visitation", "token_entropy"):
            why_not[signal] = (
                "it is made of the entropy of each token, which entropy_source=rollout does not have; set "
                "entrocraft.method=advantage"
            )
    if decides_on_old_measurements(mode, config):
        why_not["fresh_entropy"] = (
            "the method learns from what each update does to entropy, which separate_async measures only once in "
            "parameter_sync_step updates; set entrocraft.method=predicted, or "
            "trainer.v1.separate_async.parameter_sync_step=1"
        )
    return Capabilities.all_but(f"verl's {mode} trainer", why_not)


def decides_on_old_measurements(mode: str, config: DictConfig) -> bool:
    """Return True if verl measures the policy once for several updates: what one does is not seen by the next."""
    return mode == "separate_async" and int(config.trainer.v1.separate_async.get("parameter_sync_step", 1)) > 1


def trainer_mode(config: DictConfig) -> str:
    """Return the trainer's name; the configurations of verl's other commands, and of its forks, may have none."""
    return str(OmegaConf.select(config, "trainer.v1.trainer_mode", default=""))


def loss_mode(actor: Any) -> str:
    """Return the name of the policy loss, by default verl's `vanilla`."""
    return str((actor.get("policy_loss") or {}).get("loss_mode", "vanilla"))


def optimizer_memory(actor: Any) -> float:
    """Return the share of an update's effect that the optimizer carries to the next step: beta1, or a momentum."""
    optim = dict(actor.optim) | dict(actor.optim.get("override_optimizer_config") or {})
    name = str(optim.get("optimizer", "adamw")).lower()
    if "adam" in name or "ademamix" in name:
        return float(optim["betas"][0])
    return float(optim.get("muon_momentum" if "muon" in name else "momentum") or 0.0)


def rows_per_pass(actor: Any) -> int:
    """Return how many rollouts a rank passes through the model at once; 1 if that depends on their lengths."""
    return 1 if actor.use_dynamic_bsz else int(actor.ppo_micro_batch_size_per_gpu or 1)
