"""What to do when no rollout can move entropy back: said, counted, in a stated order."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import checked_number

_SMALLER_STEP = 0.1  # of the ordinary advantages
_STAGES = ("smaller_step", "fewer_rollouts", "entropy_bonus", "skip")


def is_stuck(changes: Tensor, side: int) -> bool:
    """Return True if some changes move entropy away, and none moves it back.

    Example:
        >>> is_stuck(torch.tensor([0.2, 0.0, 0.1]), side=1)
        True
    """
    moves = side * changes
    return bool((moves > 0).any()) and not bool((moves < 0).any())


class Fallback:
    """A ladder for batches in which no rollout moves entropy the wanted way.

    With `escalate`, each such batch in a row goes one rung up, and the first that is not stuck goes back down:

    1. `smaller_step`: all rollouts, at a tenth of their advantages;
    2. `fewer_rollouts`: of these, only the `min_kept` share that does the least harm;
    3. `entropy_bonus`: the same, with a bonus (above the band, a penalty) on entropy in the loss, if it is allowed;
       `skip`, if it is not: no update at all.

    With `skip`, the decision stands as the method made it: one that waits for the band keeps nothing with an advantage,
    one that plans keeps the `min_kept` share that does the least harm.

    Args:
        action: `skip` or `escalate`.
        min_kept: Share of the rollouts with a gradient that rung 2 keeps, in (0, 1].
        entropy_bonus: Coefficient of the bonus; 0 forbids it.

    Raises:
        UnknownNameError: There is no such action.
        InvalidValueError: A number is out of range, or of no use with the action.
    """

    def __init__(self, action: str, min_kept: float, entropy_bonus: float = 0.0):
        if action not in ("skip", "escalate"):
            raise UnknownNameError.of("fallback", action, ["skip", "escalate"])
        self.action = action
        self.min_kept = checked_number("min_kept", min_kept)
        if not 0.0 < self.min_kept <= 1.0:
            raise InvalidValueError(f"min_kept must lie in (0, 1], got {min_kept}")
        self.entropy_bonus = checked_number("entropy_bonus", entropy_bonus)
        if self.entropy_bonus and action == "skip":
            raise InvalidValueError(
                "entropy_bonus is the last rung of fallback='escalate'; with 'skip' it is never used"
            )
        self._stuck_in_a_row = 0
        self.counts = dict.fromkeys(_STAGES, 0)

    @property
    def turns(self) -> frozenset[str]:
        """What the ladder sets beside rollouts and their advantages."""
        return frozenset({"entropy_coef"} if self.entropy_bonus else ())

    def applied(self, decision: Decision, batch: Batch, change_B: Tensor, side: int, *, stuck: bool) -> Decision:
        """Return the decision, replaced if no rollout moves entropy back.

        Args:
            decision: What the method decided.
            batch: What it was decided on.
            change_B: Predicted entropy change of each rollout.
            side: m: 1 above the band, -1 below, 0 inside.
            stuck: True if nothing moves entropy back; see `is_stuck`.
        """
        self._stuck_in_a_row = self._stuck_in_a_row + 1 if stuck else 0
        if stuck:
            stage = self._stage()
            self.counts[stage] += 1
            if stage != "skip":
                decision = self._weakened(decision, batch.advantages, side * change_B)
                if stage == "entropy_bonus":
                    # Above the band (side 1) the bonus must be a penalty.
                    decision = replace(decision, knobs={"entropy_coef": -side * self.entropy_bonus})
            elif self.action == "escalate":
                nothing = torch.zeros_like(decision.keep)
                advantages = torch.zeros_like(decision.advantages)
                decision = replace(decision, keep=nothing, advantages=advantages, kept_share=None)
            if sum(self.counts.values()) == 1 and not decision.empty:
                self._warn(side, batch.step)
        decision.metrics.update({f"fallback_{stage}": float(count) for stage, count in self.counts.items() if count})
        return decision

    def _stage(self) -> str:
        if self.action == "skip":
            return "skip"
        # The first stuck batch in a row is on rung 1, the second on rung 2, all later ones on rung 3.
        if self._stuck_in_a_row < 3:
            return _STAGES[self._stuck_in_a_row - 1]
        return "entropy_bonus" if self.entropy_bonus else "skip"

    def _weakened(self, decision: Decision, advantages_B: Tensor, moves_B: Tensor) -> Decision:
        """Return all rollouts at a tenth of their advantages; from the second time on, only the least harmful."""
        keep = torch.ones_like(decision.keep)
        if self._stuck_in_a_row > 1:
            # Stuck, all that moves at all moves entropy away.
            harmful = moves_B.nonzero().flatten()
            # Ascending, so that the least harmful are first.
            num_kept = max(1, math.ceil(self.min_kept * len(harmful)))
            keep[harmful[moves_B[harmful].argsort(stable=True)[num_kept:]]] = False
        # Without the note, a method of tokens weighs none of them: all of a kept rollout is used, and the share that is
        # kept is that of the rollouts.
        return replace(decision, keep=keep, advantages=_SMALLER_STEP * advantages_B * keep, note=None, kept_share=None)

    def _warn(self, side: int, step: int) -> None:
        warnings.warn(
            f"step {step}: no rollout of the batch moves entropy {'down' if side > 0 else 'up'}, where the band "
            f"wants it; fallback {self.action!r} acts, counted from now on in `fallback_...`. More rollouts for each "
            "prompt, or a curve nearer to the measured entropy, would help.",
            stacklevel=3,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON data."""
        return {"stuck_in_a_row": self._stuck_in_a_row, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another's."""
        check_state("state of the fallback", state, self.state_dict())
        check_state("counts in the state of the fallback", state["counts"], self.counts)
        self._stuck_in_a_row, self.counts = state["stuck_in_a_row"], dict(state["counts"])
