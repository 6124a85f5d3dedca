"""verl on a machine without an accelerator, for tests: a platform, a rollout engine, and four patches.

verl 0.9 runs on CUDA, Ascend or ROCm only; nothing here is meant for training. `import verl` loads it in every process
where `VERL_USE_EXTERNAL_MODULES=verl_on_cpu` is set and this folder's parent is on `PYTHONPATH`.
"""

from verl_on_cpu import patches, platform

patches.apply()

__all__ = ["patches", "platform"]
