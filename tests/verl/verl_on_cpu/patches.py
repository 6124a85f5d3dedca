"""What of verl has no setting and does not work without an accelerator, or beside TRL."""

from entrocraft.engines.verl.plugin import after_import
from verl_on_cpu.watching import watch


def apply():
    """Patch each module once verl imports it."""
    after_import("verl.utils.import_utils", without_trl)
    after_import("verl.trainer.ppo.v1", watch)
    after_import("verl.utils.distributed", gloo_once)
    after_import("verl.workers.rollout.replica", register_replica)
    after_import("verl.workers.rollout.base", register_adapter)
    after_import("verl.workers.engine.fsdp.transformer_impl", offload_without_pinning)
    after_import("verl.utils.model", value_model_without_flash_attention)


def without_trl(import_utils):
    """verl's FSDP workers import a class that TRL no longer has; these tests share an environment with TRL's."""
    import_utils.is_trl_available = lambda: False


def gloo_once(distributed):
    """verl asks for one backend for the CPU and one for the device, which torch refuses where both are the CPU."""
    initialize = distributed.initialize_global_process_group_ray

    def initialize_on_cpu(timeout_second=None, backend=None):
        return initialize(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = initialize_on_cpu


def register_replica(replica):
    """The servers that sample."""

    def load():
        from verl_on_cpu.rollout import TransformersReplica

        return TransformersReplica

    replica.RolloutReplicaRegistry.register("transformers_cpu", load)


def register_adapter(base):
    """Their part in the trainer's workers, which have no public registry."""
    base._ROLLOUT_REGISTRY["transformers_cpu", "async"] = "verl_on_cpu.rollout.WeightSender"


def offload_without_pinning(transformer_impl):
    """The reference model pins the memory it is offloaded to, for which torch wants an accelerator."""
    policy = transformer_impl.CPUOffloadPolicy
    transformer_impl.CPUOffloadPolicy = lambda pin_memory=False: policy(pin_memory=False)


def value_model_without_flash_attention(model):
    """verl loads critics with flash attention, whatever the configuration says."""

    def load(local_path, torch_dtype, model_config, trust_remote_code):
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path, dtype=torch_dtype, config=model_config, attn_implementation="sdpa"
        )

    model.load_valuehead_model = load
