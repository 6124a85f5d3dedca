"""The sampling temperature of a TRL trainer, moved for one batch of rollouts: sampled and scored at the same one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from entrocraft.control.methods import Method
from entrocraft.engines.trl.fused_head import fused_head
from entrocraft.errors import InvalidValueError


@contextmanager
def at_temperature(trainer: Any, temperature: float | None) -> Iterator[None]:
    """Sample and score at another temperature for the duration; no trace of it is left afterwards.

    TRL's settings of generation hold copies of the temperature, vLLM's among them, and its fused output layer, which
    gives log-probabilities and entropies, keeps the one that it was made with: another is put in its way meanwhile.

    Args:
        trainer: A GRPOTrainer or RLOOTrainer.
        temperature: The temperature; None, or the trainer's own, changes nothing.
    """
    if temperature is None or temperature == trainer.temperature:
        yield
        return
    with ExitStack() as stack:
        for name in ("generation_config", "vllm_generation"):
            if getattr(trainer, name, None) is not None:
                stack.enter_context(_set(vars(getattr(trainer, name)), temperature))
        if getattr(trainer, "generation_kwargs", None) is not None:
            stack.enter_context(_set(trainer.generation_kwargs, temperature))
        stack.enter_context(_set(vars(trainer), temperature))
        stack.enter_context(fused_head(trainer, trainer.model, ("log_probs", "entropy")))
        if trainer.ref_model is not None:
            reference = trainer.accelerator.unwrap_model(trainer.ref_model)
            stack.enter_context(fused_head(trainer, reference, ("log_probs",)))
        yield


@contextmanager
def _set(settings: dict[str, Any], temperature: float) -> Iterator[None]:
    own = settings["temperature"]
    settings["temperature"] = temperature
    try:
        yield
    finally:
        settings["temperature"] = own


def refuse_other_samplers(rollout_func: Any, method: Method, name: str) -> None:
    """Raise `InvalidValueError` if a method turns the temperature and a function of the user's own samples."""
    if "temperature" in method.turns and rollout_func is not None:
        raise InvalidValueError(
            f"method {name!r} sets temperature, and rollout_func samples at one of its own; leave it out, or choose "
            "another method"
        )
