"""AEnt: an entropy bonus whose coefficient grows below the band and shrinks above it."""

from collections.abc import Mapping
from typing import Any

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class AEnt(Method):
    """Add `c * H` to the objective, with a coefficient that follows how far entropy is out of the band.

    Before each update, with the batch's entropy H and the edges of the band, in nats per token,

        c <- clip(c - rate * (min(0, H - lower) + max(0, H - upper)), least, most),

    so that c stands still inside the band.

    Args:
        rate: How fast the coefficient moves, per nat and decision.
        least: Smallest coefficient.
        most: Largest coefficient.
        start: Coefficient before the first decision, between `least` and `most`.

    Raises:
        InvalidValueError: A number is negative, or not in order.

    Source: AEnt, arXiv 2509.03493, by the code of its recipe for AReaL, with its defaults, of which the rule for the
    coefficient is off by default; its band of 0.1 to 0.5 nats is the schedule's here. Deviations: entropy is that of
    the full vocabulary, in the bonus and in the rule (its p = 0), where the source leaves the least likely 20 % out; it
    is measured before the update, where the source takes it during the last one; there is no warm-up.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(1))
        >>> round(AEnt().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).knobs["entropy_coef"], 6)
        0.0011
    """

    turns = frozenset({"entropy_coef"})

    def __init__(self, rate: float = 1e-3, least: float = 1e-5, most: float = 1e-2, start: float = 1e-3):
        self.rate, self.least = checked_number("rate", rate), checked_number("least", least)
        self.most, self.coef = checked_number("most", most), checked_number("start", start)
        if not self.least <= self.coef <= self.most:
            raise InvalidValueError(f"expected least <= start <= most, got {least}, {start} and {most}")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        beyond = min(0.0, batch.entropy - goal.lower) + max(0.0, batch.entropy - goal.upper)
        self.coef = min(self.most, max(self.least, self.coef - self.rate * beyond))
        knobs = {"entropy_coef": self.coef}
        return Decision.everything(batch, knobs=knobs, metrics=dict(knobs))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"coef": self.coef}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of AEnt", state, self.state_dict())
        self.coef = float(state["coef"])
