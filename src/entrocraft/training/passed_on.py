"""What `train.trl` may not say: settings that would be ignored, or without which a run cannot be resumed exactly."""

import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from entrocraft.errors import InvalidValueError

_CHECKPOINT = "resuming exactly needs the whole checkpoint"
_SAVES = "checkpoints are written every train.save_every steps"
_EVALUATES = "held-out problems are evaluated as the section `eval` says"
_LOADS = "the model is loaded before TRL sees it, so this would be ignored"
_STEPS = "the length of a run is train.steps"


def _anything(value: Any) -> bool:
    return value is not None


def _but(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value not in allowed


_REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "save_only_model": (bool, _CHECKPOINT),
    "ignore_data_skip": (bool, _CHECKPOINT),
    "auto_find_batch_size": (bool, "the batch is what train says, and a resumed run must have the same"),
    "enable_jit_checkpoint": (bool, "SIGTERM ends a run with a checkpoint already"),
    "restore_callback_states_from_checkpoint": (bool, "this library restores what it needs itself"),
    "resume_from_checkpoint": (_anything, "use --resume"),
    "save_strategy": (_but("steps"), _SAVES),
    "logging_strategy": (_but("steps"), "every step is one line of metrics.jsonl"),
    "eval_strategy": (_but("no", None), _EVALUATES),
    "do_eval": (bool, _EVALUATES),
    "eval_on_start": (bool, _EVALUATES),
    "eval_steps": (_anything, _EVALUATES),
    "num_generations_eval": (_anything, _EVALUATES),
    "per_device_eval_batch_size": (_anything, _EVALUATES),
    "load_best_model_at_end": (bool, _EVALUATES),
    "num_train_epochs": (_anything, _STEPS),
    "model_init_kwargs": (_anything, _LOADS),
    "trust_remote_code": (bool, _LOADS),
}
"""By setting: which values are refused, and why."""


_LEAST: Mapping[str, float] = {
    **dict.fromkeys(("num_iterations", "steps_per_generation", "generation_batch_size", "ref_model_sync_steps"), 1),
    **dict.fromkeys(("epsilon", "epsilon_high", "delta", "beta", "warmup_steps", "weight_decay", "max_grad_norm"), 0),
    **dict.fromkeys(("adam_epsilon", "off_policy_mask_threshold"), 0),
}
"""By setting that TRL does not check: the smallest number of which anything can be made."""
_SHARES = frozenset({"warmup_ratio", "adam_beta1", "adam_beta2", "top_entropy_quantile", "ref_model_mixup_alpha"})
"""Settings that lie between 0 and 1, and which TRL does not check."""


def refuse_passed_on(settings: Mapping[str, Any], config_class: type) -> None:
    """Refuse settings of `train.trl` that this library sees to itself, and numbers that are none.

    Args:
        settings: The settings, by name.
        config_class: TRL's configuration, which says of what type they are.

    Raises:
        InvalidValueError: The message names the setting, its value and why.
    """
    hints = get_type_hints(config_class)
    for name, value in settings.items():
        types = set(get_args(hints.get(name))) or {hints.get(name)}
        if types <= {int, float, bool, NoneType} and not _fits(value, types):
            expected = " or ".join(sorted("null" if each is NoneType else each.__name__ for each in types))
            raise InvalidValueError(f"train.trl.{name} must be {expected}, got {value!r:.80}")
        least, most = (0, 1) if name in _SHARES else (_LEAST.get(name), math.inf)
        if value is not None and least is not None and not least <= value <= most:  # nor NaN
            expected = f"between {least} and {most}" if name in _SHARES else f"at least {least}"
            raise InvalidValueError(f"train.trl.{name} must be {expected}, got {value!r:.80}")
    for name, (is_refused, why) in _REFUSED.items():
        if name in settings and is_refused(settings[name]):
            raise InvalidValueError(f"train.trl.{name}={settings[name]!r:.80} cannot be used: {why}; leave it out")
    limit = settings.get("save_total_limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InvalidValueError(
            f"train.trl.save_total_limit must be a whole number of at least 1, or null for all, got {limit!r:.80}"
        )


def _fits(value: Any, types: set[Any]) -> bool:
    """Return whether a value is of one of these types; a whole number is a float, too, and true and false are none."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, tuple(types)) or (float in types and isinstance(value, int))
