"""An entropy bonus whose coefficient follows the curve."""

from collections.abc import Mapping
from typing import Any

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class EntropyBonus(Method):
    """Add `c * H` to the objective while entropy is below the target, with a coefficient that adapts.

    Before each update, with the batch's entropy H and the target H*, in nats per token,

        c <- clip(c + step, least, most)  if H < H*,   else  clip(c - step, least, most),

    and the bonus `c * H` enters the loss only if `H < H*`: it can raise entropy, and nothing can lower it.

    Args:
        step: How far the coefficient moves at each decision.
        least: Smallest coefficient.
        most: Largest coefficient.
        start: Coefficient before the first decision, between `least` and `most`.

    Raises:
        InvalidValueError: A number is negative, or not in order.

    Degenerate cases: entropy at the target counts as not below it, and a coefficient of 0 leaves the loss as it is.

    Source: Skywork-OR1, arXiv 2505.22312, with its defaults; its target of 0.2 nats is the schedule's here.

    Example:
        >>> import torch
        >>> low, goal = Batch(step=1, entropy=0.3, advantages=torch.ones(1)), Goal(lower=0.4, target=0.5, upper=0.6)
        >>> method = EntropyBonus()
        >>> [method.decide(low, goal).knobs["entropy_coef"] for _ in range(2)]
        [0.0001, 0.0002]
    """

    turns = frozenset({"entropy_coef"})

    def __init__(self, step: float = 1e-4, least: float = 0.0, most: float = 5e-3, start: float = 0.0):
        self.step, self.least = checked_number("step", step), checked_number("least", least)
        self.most, self.coef = checked_number("most", most), checked_number("start", start)
        if not self.least <= self.coef <= self.most:
            raise InvalidValueError(f"expected least <= start <= most, got {least}, {start} and {most}")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        is_low = batch.entropy < goal.target
        self.coef = min(self.most, max(self.least, self.coef + (self.step if is_low else -self.step)))
        # The coefficient moves at every decision, in use or not.
        knobs = {"entropy_coef": self.coef if is_low else 0.0}
        return Decision.everything(batch, knobs=knobs, metrics={"entropy_coef": knobs["entropy_coef"]})

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"coef": self.coef}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of an entropy bonus", state, self.state_dict())
        self.coef = float(state["coef"])


class FixedBonus(Method):
    """Add `coef * H` to the objective, always with the same coefficient: the classic remedy.

    The curve is watched and not followed: the method has no target.

    Args:
        coef: The coefficient, per nat.

    Raises:
        InvalidValueError: The coefficient is negative.

    Source: A3C, arXiv 1602.01783, by common usage; 0.003 is the coefficient of the paper's scripts.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> dict(FixedBonus().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).knobs)
        {'entropy_coef': 0.003}
    """

    turns = frozenset({"entropy_coef"})

    def __init__(self, coef: float = 0.003):
        self.coef = checked_number("coef", coef)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        knobs = {"entropy_coef": self.coef}
        return Decision.everything(batch, knobs=knobs, metrics=dict(knobs))
