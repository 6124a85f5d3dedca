"""What all methods share that leave out of the update what moves entropy away."""

from collections.abc import Mapping
from typing import Any

from entrocraft.control.decision import check_normalize
from entrocraft.control.methods.base import Method
from entrocraft.control.planning.fallback import Fallback
from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.control.states import check_state

MIN_KEPT = 0.1
"""Share of what has a gradient that is kept at least, by default."""


class Rejecting(Method):
    """A method that rejects, with a fallback for batches in which nothing moves entropy back.

    Args:
        normalize: What the loss is averaged over: `kept` rollouts or tokens (Eq. 5), or `all`, as the authors' code
            does, where rejecting also shortens the step.
        fallback: What to do when nothing moves entropy back: `skip` the update, or `escalate`; see `Fallback`.
        min_kept: Share of what has a gradient that is kept at least, in (0, 1]; by default `MIN_KEPT`.
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range.
    """

    rejects = "rollouts"
    """What is left out: `rollouts` or `tokens`."""
    _plant: EntropyPlant | None = None
    """How entropy answers to updates, as learnt by a method that plans; saved with its state."""

    def __init__(self, normalize: str, fallback: str, min_kept: float | None, entropy_bonus: float):
        self.normalize = check_normalize(normalize)
        self.min_kept = MIN_KEPT if min_kept is None else min_kept
        self._fallback = Fallback(fallback, self.min_kept, entropy_bonus)
        self.turns = frozenset({"rollouts", self.rejects}) | self._fallback.turns

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        plant = {} if self._plant is None else {"plant": self._plant.state_dict()}
        return {"fallback": self._fallback.state_dict(), **plant}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of a method that rejects", state, self.state_dict())
        self._fallback.load_state_dict(state["fallback"])
        if self._plant is not None:
            self._plant.load_state_dict(state["plant"])
