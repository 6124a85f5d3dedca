"""The `entrocraft` block of a verl configuration, and what of the rest bears on it; `checks` says what rules it out."""

from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from entrocraft.control import EntropyControl
from entrocraft.errors import UnknownNameError

PREFIX = "entrocraft_"
MODES = ("sync", "colocate_async", "separate_async")

TOKEN_MEAN, TOKEN_SUM, ROLLOUT_MEAN = "token-mean", "token-sum", "seq-mean-token-mean"
"""Those of verl's ways to average a loss that need a treatment of their own; the others divide by rollouts."""

RATIO_PER_ROLLOUT = ("gspo", "geo_mean")
"""Losses with one ratio per rollout, so that its tokens share their fate."""
HOMOGENEOUS = ("vanilla", "gspo", "sapo", "gpg", "cispo", "dppo_tv", "dppo_kl")
"""Losses that scale as their advantages do, so that an average can be made good there."""


@dataclass(frozen=True, kw_only=True)
class VerlSettings:
    """Entropy control of a verl run, and what of verl's own settings bears on it."""

    mode: str
    """Which of verl's trainers is controlled: one of `MODES`."""
    control: EntropyControl
    entropy_from_rollouts: bool
    """True if entropy is the mean of `-log p` of the sampled tokens, as the rollout engine gave it, and not measured."""
    aggregation: str
    """What the loss is averaged over, in verl's words."""

    @property
    def scored_by(self) -> str:
        """Name of the field that holds the log-probabilities of the policy that is about to be updated."""
        return "rollout_log_probs" if self.entropy_from_rollouts else "old_log_probs"

    @property
    def needs_scaling(self) -> bool:
        """True if what `normalize` asks for must go into the advantages, because verl divides by something else."""
        control = self.control
        if control.method != "rejection":
            return False
        if control.rejected == "mask":
            return control.normalize == "kept"
        if self.aggregation == TOKEN_MEAN:
            return control.normalize == "all"
        return self.aggregation == TOKEN_SUM and control.normalize == "kept"

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
        actor = config.actor_rollout_ref.actor
        control = EntropyControl.of(plain)
        if control.rule is None:
            control = replace(control, rule=_fitting_rule(control, mode, config))
        return cls(
            mode=mode,
            control=control,
            entropy_from_rollouts=source == "rollout",
            # SAPO averages in its own way, whatever is asked for.
            aggregation=ROLLOUT_MEAN if loss_mode(actor) == "sapo" else str(actor.loss_agg_mode),
        )


def _fitting_rule(control: EntropyControl, mode: str, config: DictConfig) -> str:
    """Return the rule that fits the loss and the trainer, where the user has named none."""
    if decides_on_old_measurements(mode, config):
        return "predicted"
    loss = loss_mode(config.actor_rollout_ref.actor)
    return "token" if loss in HOMOGENEOUS and loss not in RATIO_PER_ROLLOUT and not control.visitation else "budget"


def decides_on_old_measurements(mode: str, config: DictConfig) -> bool:
    """Return True if verl measures the policy once for several updates: what one of them does is not seen by the next."""
    return mode == "separate_async" and int(config.trainer.v1.separate_async.get("parameter_sync_step", 1)) > 1


def trainer_mode(config: DictConfig) -> str:
    """Return the trainer's name; the configurations of verl's other commands, and of its forks, may have none."""
    return str(OmegaConf.select(config, "trainer.v1.trainer_mode", default=""))


def loss_mode(actor: Any) -> str:
    """Return the name of the policy loss, by default verl's `vanilla`."""
    return str((actor.get("policy_loss") or {}).get("loss_mode", "vanilla"))


def optimizer_memory(actor: Any) -> float:
    """Return the share of an update's effect that the optimizer carries to the next step: Adam's beta1, or a momentum."""
    optim = dict(actor.optim) | dict(actor.optim.get("override_optimizer_config") or {})
    name = str(optim.get("optimizer", "adamw")).lower()
    if "adam" in name or "ademamix" in name:
        return float(optim["betas"][0])
    return float(optim.get("muon_momentum" if "muon" in name else "momentum") or 0.0)


def rows_per_pass(actor: Any) -> int:
    """Return how many rollouts a rank passes through the model at once; 1 if that depends on their lengths."""
    return 1 if actor.use_dynamic_bsz else int(actor.ppo_micro_batch_size_per_gpu or 1)
