"""What verl's workers are told beside a batch: settings of verl's own under other values, and fields of ours."""

from functools import partial
from typing import TYPE_CHECKING, Any

from entrocraft.control.decision import Decision
from entrocraft.control.methods import Method
from entrocraft.engines.knobs import KNOB_FIELDS
from entrocraft.engines.verl.loss import SURROGATE

if TYPE_CHECKING:  # importing verl's trainers registers ours, which import this module
    from verl.trainer.ppo.v1.trainer_base import KVBatchMeta


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

    def update_actor(self, batch: "KVBatchMeta") -> Any:
        """Update as verl does; what `extra_info` holds reaches the workers beside every micro-batch."""
        batch.extra_info.update(self._settings)
        return self._workers.update_actor(batch)


def loss_settings(method: Method, decision: Decision) -> dict[str, Any]:
    """Return what the workers are to be told of a decision for their loss: its knobs, and the method's surrogate."""
    told: dict[str, Any] = {KNOB_FIELDS[name]: float(value) for name, value in decision.turned.items()}
    if "surrogate" in method.turns:
        told[SURROGATE] = partial(method.surrogate, decision=decision)
    if told.keys() & {SURROGATE, KNOB_FIELDS["entropy_coef"]}:
        told["calculate_entropy"] = True  # without it verl's pass gives the loss none
    return told
