"""What verl's workers are told beside a batch: settings of verl's own under other values, and fields of ours."""

from typing import Any

from verl.trainer.ppo.v1.trainer_base import KVBatchMeta

from entrocraft.control.decision import Decision
from entrocraft.engines.knobs import KNOB_FIELDS


class Telling:
    """The actor's workers, which get told other settings than verl's update is about to tell them.

    Args:
        workers: verl's worker group.
        settings: By name, what takes the place of verl's.
    """

    def __init__(self, workers: Any, settings: dict[str, Any]):
        self._workers, self._settings = workers, settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workers, name)

    def update_actor(self, batch: KVBatchMeta) -> Any:
        """Update as verl does; what `extra_info` holds reaches the workers beside every micro-batch."""
        batch.extra_info.update(self._settings)
        return self._workers.update_actor(batch)


def knob_settings(decision: Decision) -> dict[str, Any]:
    """Return what the workers are to be told of the knobs that a decision turns."""
    told: dict[str, Any] = {KNOB_FIELDS[name]: float(value) for name, value in decision.turned.items()}
    # Without it verl's pass gives the loss no entropy to put a bonus on.
    return told | {"calculate_entropy": True} if "entropy_coef" in decision.turned else told
