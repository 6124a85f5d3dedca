"""What verl's own settings rule out: refused before Ray starts, with what to set instead."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from packaging.version import Version

from entrocraft.control import EntropyControl
from entrocraft.engines.verl.compatibility import problem_with_verl
from entrocraft.engines.verl.reward_functions import check_reward_function
from entrocraft.engines.verl.settings import (
    HOMOGENEOUS,
    PREFIX,
    TOKEN_MEAN,
    VerlSettings,
    capabilities,
    loss_mode,
    rows_per_pass,
    trainer_mode,
)
from entrocraft.errors import InvalidValueError, MissingDependencyError

# Losses that average as verl's `agg_loss` does, over what the whole mini-batch holds.
_DROPPABLE = (*HOMOGENEOUS, "clip_cov", "kl_cov", "dro")


def check_run(config: DictConfig) -> None:
    """Check a run that asks for entropy control, and where it is to run, before Ray starts; leave others alone.

    Raises:
        MissingDependencyError: What is installed cannot run it.
        InvalidValueError: See `check_config`.
    """
    if _asks_for_control(config):
        check_config(config)
        check_reward_function(config)
        _check_trl(config)


def check_config(config: DictConfig) -> None:
    """Check the settings of a run that asks for entropy control; leave others alone.

    Raises:
        MissingDependencyError: verl is not one that the engine knows.
        InvalidValueError: The settings cannot be right, or entropy control was asked for by halves.
    """
    if not _asks_for_control(config):
        return
    if problem := problem_with_verl():
        raise MissingDependencyError(problem)
    mode = trainer_mode(config)
    if not mode.startswith(PREFIX):
        raise InvalidValueError(
            f"there is an entrocraft block, but trainer.v1.trainer_mode is {mode!r}, which does not read it; set "
            f"trainer.v1.trainer_mode={PREFIX}{mode}"
        )
    if not config.trainer.use_v1:
        raise InvalidValueError(
            "entropy control works with verl's V1 trainers, and trainer.use_v1 is false: set it to true"
        )
    checked_settings(config)


def checked_settings(config: DictConfig) -> VerlSettings:
    """Return the settings of a verl configuration that has one of our trainers.

    Raises:
        InvalidValueError: A value cannot be used, or verl's own settings rule it out.
        UnknownNameError: A name is not known.
    """
    settings = VerlSettings.of(config)
    name = settings.control.method_name or ""
    capabilities(config, settings.mode, settings.entropy_from_rollouts).check(settings.method, name)
    _check_predictions(settings, config)
    _check_advantages(settings, config)
    _check_files(settings.control)
    _check_loss(settings, config.actor_rollout_ref.actor)
    if settings.drops:
        _check_division(config)
    return settings


def _asks_for_control(config: DictConfig) -> bool:
    return trainer_mode(config).startswith(PREFIX) or config.get("entrocraft", None) is not None


def _check_trl(config: DictConfig) -> None:
    """Refuse a TRL beside verl that verl's FSDP workers would stumble over, after minutes."""
    from verl.utils.import_utils import is_trl_available

    if not str(config.actor_rollout_ref.actor.strategy).startswith("fsdp") or not is_trl_available():
        return
    if Version(version("trl")) >= Version("1.0"):
        raise MissingDependencyError(
            f"verl's FSDP workers import a class that trl {version('trl')} no longer has: pip uninstall trl, and use "
            "another environment for it"
        )


def _check_predictions(settings: VerlSettings, config: DictConfig) -> None:
    control = settings.control
    if control.predictor == "exact":
        raise InvalidValueError(
            "verl's passes give log-probabilities and entropies, not logits: predictor 'exact' is for the TRL engine; "
            "use 'estimate' or 'whole_model'"
        )
    if control.sees_whole_model:
        _check_whole_model(settings, config)
    bypass = bool((config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False))
    if bypass and not settings.entropy_from_rollouts:
        raise InvalidValueError(
            "algorithm.rollout_correction.bypass_mode leaves out the pass that measures entropy; set it to false, or "
            "take the noisier mean of -log p over what was sampled: entrocraft.entropy_source=rollout"
        )
    if settings.entropy_from_rollouts and not config.actor_rollout_ref.rollout.get("calculate_log_probs", True):
        raise InvalidValueError("entropy_source=rollout needs actor_rollout_ref.rollout.calculate_log_probs=true")


def _check_whole_model(settings: VerlSettings, config: DictConfig) -> None:
    actor, model = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    if settings.mode == "separate_async":
        raise InvalidValueError(
            "predictor 'whole_model' asks workers that separate_async replaces by its own; use 'estimate'"
        )
    if actor.strategy != "fsdp2":
        raise InvalidValueError(
            "predictor 'whole_model' moves weights that FSDP2 shards; got "
            f"actor_rollout_ref.actor.strategy={actor.strategy}, set it to fsdp2, or use predictor 'estimate'"
        )
    fsdp = actor.fsdp_config
    attention = OmegaConf.select(model, "override_config.attn_implementation", default="flash_attention_2")
    if attention not in ("sdpa", "eager"):
        raise InvalidValueError(
            f"predictor 'whole_model' works in fp32, which attn_implementation={attention} does not take; set "
            "+actor_rollout_ref.model.override_config.attn_implementation=sdpa, or use predictor 'estimate'"
        )
    if max(int(block.get("ulysses_sequence_parallel_size") or 1) for block in (actor, fsdp)) > 1:
        raise InvalidValueError(
            "predictor 'whole_model' adds up over ranks that have rollouts of their own; set "
            "ulysses_sequence_parallel_size=1, or use predictor 'estimate'"
        )
    if OmegaConf.select(fsdp, "qat.enable", default=False):
        raise InvalidValueError(
            "predictor 'whole_model' moves weights by less than what qat rounds to; set "
            "actor_rollout_ref.actor.fsdp_config.qat.enable=false, or use predictor 'estimate'"
        )
    precisions = {
        "mixed_precision.param_dtype": OmegaConf.select(fsdp, "mixed_precision.param_dtype", default="bf16"),
        "model_dtype": fsdp.get("model_dtype") or "fp32",
    }
    for name, precision in precisions.items():
        if str(precision) not in ("fp32", "float32", "32"):
            raise InvalidValueError(
                "predictor 'whole_model' moves weights by a step that vanishes in the rounding of half precision; got "
                f"actor_rollout_ref.actor.fsdp_config.{name}={precision}, set it to fp32, or use predictor 'estimate'"
            )
    optim = actor.optim
    if optim.get("optimizer_impl", "torch.optim") != "torch.optim" or optim.optimizer not in ("Adam", "AdamW", "SGD"):
        raise InvalidValueError(
            "predictor 'whole_model' must know how the optimizer scales gradients, and does for torch.optim's Adam, "
            f"AdamW and SGD; got {optim.get('optimizer_impl')}.{optim.optimizer}, use one of those, or predictor "
            "'estimate'"
        )
    share = settings.control.whole_model_share
    if share not in (None, 1.0):
        raise InvalidValueError(
            f"on verl predictor 'whole_model' takes its direction from all rollouts; got whole_model_share={share}, "
            "set it to 1.0"
        )


def _check_advantages(settings: VerlSettings, config: DictConfig) -> None:
    control = settings.control
    if control.estimator is not None and config.algorithm.get("use_kl_in_reward", False):
        raise InvalidValueError(
            "algorithm.use_kl_in_reward goes into the advantages, which entrocraft.estimator replaces by those of the "
            "raw rewards; set it to false, or use algorithm.adv_estimator"
        )
    if settings.method.may_replace_advantages and config.algorithm.get("use_kl_in_reward", False):
        raise InvalidValueError(
            "algorithm.use_kl_in_reward goes into the advantages, which a method that sets them by the raw rewards may "
            f"replace, here {control.method_name!r}; set it to false, or use actor_rollout_ref.actor.use_kl_loss"
        )
    if control.estimator is not None and config.algorithm.adv_estimator == "gae":
        raise InvalidValueError(
            f"estimator {control.estimator!r} would train a critic whose values nothing uses; set "
            "algorithm.adv_estimator to another than gae"
        )
    if settings.drops and OmegaConf.select(config, "distillation.enabled", default=False):
        raise InvalidValueError(
            "distillation learns from every rollout, whatever its advantage; set entrocraft.rejected=mask"
        )


def _check_files(control: EntropyControl) -> None:
    if control.run is not None:
        raise InvalidValueError(
            f"run {control.run!r} is for TRL scripts: verl's own logger writes the metrics. Leave it out, set "
            "trainer.logger=[console,file] and the environment variable VERL_FILE_LOGGER_PATH=/FOLDER/metrics.jsonl, "
            "and give absolute paths as entrocraft.rollouts and entrocraft.steering, such as /FOLDER/rollouts.jsonl"
        )
    for name in ("steering", "rollouts"):
        path = getattr(control, name)
        if path is not None and not Path(path).is_absolute():
            raise InvalidValueError(
                f"{name} {path!r} would be looked for wherever Ray runs verl's driver; give an absolute path"
            )


def _check_loss(settings: VerlSettings, actor: Any) -> None:
    control, mode = settings.control, loss_mode(actor)
    if settings.drops and mode not in _DROPPABLE:
        raise InvalidValueError(
            f"dropping rollouts is not known to be right for loss_mode={mode}; known: {', '.join(sorted(_DROPPABLE))}. "
            "Set entrocraft.rejected=mask"
        )
    if mode not in HOMOGENEOUS and settings.needs_scaling:
        raise InvalidValueError(
            f"loss_mode={mode} does not scale as its advantages do, which method {control.method_name!r} with "
            f"rejected={'drop' if settings.drops else 'mask'} and normalize={settings.method.normalize} counts on; use "
            + ("rejected=drop and normalize=kept" if settings.drops else "rejected=mask and normalize=all")
        )
    horizon = settings.aggregation == "seq-mean-token-sum-norm" and actor.get("loss_scale_factor") is None
    if settings.drops and horizon:
        raise InvalidValueError(
            "loss_agg_mode=seq-mean-token-sum-norm divides by the longest response of each micro-batch, which depends "
            "on what is kept; set actor_rollout_ref.actor.loss_scale_factor, such as to data.max_response_length"
        )
    if settings.aggregation == TOKEN_MEAN and settings.drops and settings.needs_scaling:
        extra = [name for name in ("use_kl_loss", "entropy_coeff") if actor.get(name)]
        if extra:
            raise InvalidValueError(
                f"normalize=all is carried out through the advantages, which {' and '.join(extra)} do not feel; set "
                "entrocraft.rejected=mask, or normalize=kept where the method has it"
            )


def _check_division(config: DictConfig) -> None:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.get("shuffle", False):
        raise InvalidValueError(
            "actor_rollout_ref.actor.shuffle would mix the mini-batches that kept rollouts were assigned to; set it to "
            "false, or entrocraft.rejected=mask"
        )
    if OmegaConf.select(actor, "megatron.virtual_pipeline_model_parallel_size", default=None) is not None:
        raise InvalidValueError(
            "virtual pipeline stages need a number of micro-batches that what is kept may not make; set "
            "entrocraft.rejected=mask, or no virtual_pipeline_model_parallel_size"
        )
    if actor.strategy not in ("fsdp", "fsdp2"):
        return  # how many ranks share a rollout is known once the workers are up; see `assign`
    own, inner = (block.get("ulysses_sequence_parallel_size") or 1 for block in (actor, actor.fsdp_config))
    num_ranks = max(1, config.trainer.n_gpus_per_node * config.trainer.nnodes // max(int(own), int(inner)))
    rows = actor.ppo_mini_batch_size * rollout.n
    unit = num_ranks * rows_per_pass(actor)
    if rows % unit:
        raise InvalidValueError(
            f"mini-batches of {actor.ppo_mini_batch_size} prompts x {rollout.n} rollouts cannot be divided among "
            f"{num_ranks} ranks, {rows_per_pass(actor)} rollouts at once; make them a multiple of {unit}"
        )
