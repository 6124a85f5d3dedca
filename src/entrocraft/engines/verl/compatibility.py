"""Whether the verl that is installed is one that the engine knows."""

import inspect
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from packaging.version import Version

SUPPORTED = "verl>=0.9.0,<0.10"
_HOOKS = {
    "_update_actor": ["self", "batch", "metrics"],
    "_compute_advantage": ["self", "batch", "metrics"],
    "_compute_old_log_prob": ["self", "batch", "metrics"],
    "_save_checkpoint": ["self"],
    "_load_checkpoint": ["self"],
    "_init_resource_pool_mgr": ["self"],
}
_NAMES_IN = {
    "__init__": ["parameter_sync_step", "local_trigger_step"],
    "_balance_batch": ["_dispatch_info", '"seq_len"'],
    "_compute_metrics": ['"is_padding"', '"rm_scores"'],
    "_compute_old_log_prob": ['"old_log_probs"', '"entropy"'],
    "_init_resource_pool_mgr": ["role_worker_mapping", "ActorRolloutRefWorker"],
    "_update_actor": ['"mini_batch_size"', '"global_batch_size"', "actor_rollout_wg"],
}
_NAMES_IN_MODULES = {
    "verl.trainer.ppo.v1.agent_loop_tq": ['"loss_mask"', '"response_mask"', "{uid}_{session_id}_{"],
    "verl.trainer.ppo.utils": ["ActorRollout", "ActorRolloutRef"],
    "verl.workers.utils.losses": ['"global_batch_size"', '"loss_mask"', "config.entropy_coeff"],
    "verl.trainer.ppo.core_algos": [
        "def agg_loss",
        '"clip_ratio_c"',
        "config.clip_ratio_low",
        "config.clip_ratio_high",
    ],
    "verl.workers.engine_workers": [
        "class ActorRolloutRefWorker",
        "self.actor",
        "self.engine",
        "self.engine_config",
        "self.model_config",
        "self.loss_fn = partial(ppo_loss, config=actor_config)",
    ],
    "verl.workers.engine.fsdp.transformer_impl": ['"calculate_sum_pi_squared"'],
    "verl.workers.engine.base": ["def train_mode", "def optimizer_zero_grad", "def forward_backward_batch"],
    "verl.single_controller.base.decorator": ["def register", "def make_nd_compute_dataproto_dispatch_fn"],
    "verl.utils.tensordict_utils": ["def maybe_fix_3d_position_ids"],
    "verl.utils.import_utils": ["def is_trl_available"],
}
"""Sources, read and not imported: most of them are for workers."""


@cache
def problem_with_verl() -> str | None:
    """Return why the engine cannot work with this verl and what to do, or None if it can.

    Everything private that the engine leans on is looked at, so that a change in verl is heard of at the start.
    """
    try:
        installed = version("verl")
    except PackageNotFoundError:
        return "verl is not installed; pip install 'entrocraft[verl]'"
    if not Version("0.9.0") <= Version(installed) < Version("0.10"):
        return f"expected {SUPPORTED}, got verl {installed}; pip install '{SUPPORTED}'"
    try:
        missing = _missing_names()
    except ImportError as error:
        return f"verl {installed} lacks a part ({error}); pip install 'verl[verl-core]=={installed}'"
    return f"verl {installed} has changed: {', '.join(missing)}; expected {SUPPORTED}" if missing else None


def _missing_names() -> list[str]:
    """Return what the engine uses and verl no longer has as expected."""
    import transfer_queue
    from verl.trainer.ppo.v1 import trainer_base
    from verl.utils import seqlen_balancing, tensordict_utils
    from verl.workers import engine_workers
    from verl.workers.utils import padding

    missing = []
    for name, parameters in _HOOKS.items():
        hook = getattr(trainer_base.PPOTrainer, name, None)
        if hook is None or list(inspect.signature(hook).parameters) != parameters:
            missing.append(f"PPOTrainer.{name}({', '.join(parameters)})")
    for module, names in (
        (trainer_base, ["register_trainer", "KVBatchMeta"]),
        (transfer_queue, ["kv_batch_get", "kv_batch_put"]),
        (seqlen_balancing, ["calculate_workload", "get_seqlen_balanced_partitions"]),
        (padding, ["no_padding_2_padding", "response_from_nested", "response_to_nested"]),
        (tensordict_utils, ["assign_non_tensor", "get_tensordict", "pop"]),
        (engine_workers.TrainingWorker, ["infer_batch"]),
    ):
        missing += [f"{module.__name__}.{name}" for name in names if not hasattr(module, name)]
    # Names that are keys and attributes there, of which only the source tells.
    for hook, names in _NAMES_IN.items():
        source = inspect.getsource(getattr(trainer_base.PPOTrainer, hook, trainer_base.PPOTrainer))
        missing += [f"{name} in PPOTrainer.{hook}" for name in names if name not in source]
    for module_name, names in _NAMES_IN_MODULES.items():
        spec = find_spec(module_name)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        missing += [f"{name} in {module_name}" for name in names if name not in source]
    return missing
