"""The course of a run: its band, how far along it the run is, and the guard that watches it."""

import math
from collections.abc import Mapping
from typing import Any, cast

from entrocraft.control.goal import Goal
from entrocraft.control.guard import Guard, GuardAction
from entrocraft.control.pace import pace_of
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules import Band
from entrocraft.schedules.base import plain_number


class Course:
    """Turns a band into the goal of each decision: band + pace + guard + the first entropy.

    A band in multiples of the initial entropy becomes nats when the first entropy is measured. The pace says how far
    along the curve the run is, and the guard may ease the target.

    Args:
        band: Where entropy should be.
        guard: Whether to watch for a target that is out of reach or does harm, and to ease it; see `Guard`.
        steps_per_decision: Optimizer steps from one decision to the next.

    Raises:
        InvalidValueError: The band is no band, or a number is out of range.
        UnknownNameError: There is no such guard action.

    Example:
        >>> course = Course(Band("linear(1.0, 0.5, unit='initial')", width=0.2))
        >>> goal = course.goal(step=5, total_steps=10, entropy=0.4)  # multiples of 0.4, half of the way down
        >>> round(goal.lower, 2), round(goal.target, 2), round(goal.upper, 2), [round(h, 2) for h in goal.ahead(2)]
        (0.26, 0.3, 0.34, [0.28, 0.26])
    """

    def __init__(self, band: Band, *, guard: GuardAction = "warn", steps_per_decision: float = 1.0):
        self.guard = Guard(guard)
        self.steps_per_decision = steps_per_decision
        self.initial_entropy: float | None = None
        self.rewards_needed = False
        """True if `goal` must be given the mean reward."""
        self._progress = 0.0
        self._drawn_nats = (0.0, 0.0)
        """Edges of the band at the last decision, in nats, as the user drew it."""
        self._grad_norm: float | None = None
        self._begun_with = band
        self._steered = False
        self._follow(band)

    def goal(self, step: int, total_steps: int, entropy: float, mean_reward: float | None = None) -> Goal:
        """Return the goal of the next decision. Call it exactly once per decision: the pace moves.

        Args:
            step: The optimizer step about to be made, counted from 1.
            total_steps: Optimizer steps of the whole run, at least 1.
            entropy: Entropy of the batch, in nats per token.
            mean_reward: Mean raw reward of the batch; only an adaptive curve needs it.
        """
        if self.initial_entropy is None:
            self.initial_entropy = entropy
        progress = self._progress = self.pace.progress(step, total_steps, mean_reward)
        # Nats in one unit of the band, and nats that the guard has added so far.
        unit, offset = self._unit, self.guard.offset
        # The guard judges the band as the user drew it; decisions follow the one that it has eased.
        self._drawn_nats = self._drawn()
        lower, upper = self.guard.relaxed(*self._drawn_nats, entropy)
        # An adaptive curve is taken to stand still: whether its clock will run, nobody knows yet.
        per_decision = 0.0 if self.pace.rewards_needed else self.steps_per_decision / total_steps
        band = self.band  # as it is now: steering may replace it before the targets are asked for

        def target_at(progress: float) -> float:
            return band.target(progress, 1.0) * unit + offset

        def ahead(n: int) -> list[float]:
            # By the clock, each decision is as many steps further along; the curve ends at 1.
            return [target_at(min(1.0, progress + decision * per_decision)) for decision in range(1, n + 1)]

        elapsed = min(1.0, step / total_steps)  # by the clock, at whatever pace the curve is followed
        return Goal(lower=lower, target=target_at(progress), upper=upper, ahead=ahead, elapsed=elapsed)

    def watch(self, *, step: int, entropy: float, kept_fraction: float, negative_fraction: float) -> dict[str, float]:
        """Show the guard the decision that was made on the last goal, and return what pace and guard want logged."""
        lower, upper = self._drawn_nats
        self.guard.observe(
            step=step,
            entropy=entropy,
            lower=lower,
            upper=upper,
            kept_fraction=kept_fraction,
            negative_fraction=negative_fraction,
            grad_norm=self._grad_norm,
        )
        self._grad_norm = None
        return {**self.pace.metrics(), **self.guard.metrics()}

    def note_gradient_norm(self, norm: float) -> None:
        """Tell the guard the gradient norm of the update that the last decision led to, before clipping.

        Raises:
            InvalidValueError: It is no number, or less than 0.
        """
        norm = plain_number(norm)
        if isinstance(norm, bool) or not isinstance(norm, int | float) or norm < 0.0:
            raise InvalidValueError(f"the gradient norm must be a number of at least 0, got {norm!r:.80}")
        # A norm that overflowed is half precision's way of skipping a step, which its loss scaler deals with.
        self._grad_norm = norm if math.isfinite(norm) else None

    def steer(self, band: Band) -> None:
        """Follow another band from the next decision on; it is saved with the state.

        Raises:
            InvalidValueError: It is no band, or it needs rewards that this run does not pass.
        """
        if pace_of(band).rewards_needed and not self.rewards_needed:
            raise InvalidValueError(
                "an adaptive schedule needs the rewards, which this run was not started with; steer to its inner curve"
            )
        self._follow(band)
        self._steered = True
        self.guard.forget_band()

    @property
    def drawn_width(self) -> float | None:
        """Width of the band at the last decision, in nats, as it is drawn; None before the first."""
        if self.initial_entropy is None:
            return None
        lower, upper = self._drawn_nats
        return float(f"{upper - lower:.9g}")  # without rounding's last digits, by which a resumed run would differ

    def _follow(self, band: Band) -> None:
        if not isinstance(band, Band):
            raise InvalidValueError(f"expected a Band, such as Band(linear(0.6, 0.2), width=0.04), got {band!r}")
        self.band, self.pace = band, pace_of(band, start=self._progress)
        self.rewards_needed = self.rewards_needed or self.pace.rewards_needed

    def _drawn(self) -> tuple[float, float]:
        """Return the edges of the band where the run stands, in nats, as the user drew it."""
        lower, upper = self.band(self._progress, 1.0)
        return lower * self._unit, upper * self._unit

    @property
    def _unit(self) -> float:
        """Nats in one unit of the band."""
        return cast(float, self.initial_entropy) if self.band.unit == "initial" else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {
            "initial_entropy": self.initial_entropy,
            "progress": self._progress,
            "pace": self.pace.state_dict(),
            "guard": self.guard.state_dict(),
            "grad_norm": self._grad_norm,
            "steered_to": self.band.to_dict() if self._steered else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that a course saved.
        """
        check_state("course in the controller state", state, self.state_dict())
        self._follow(self._begun_with)
        self._steered = False
        if state["steered_to"] is not None:
            self.steer(Band.from_dict(state["steered_to"]))
        # The calls above begin a pace where this course stands; the state says where the run stood.
        self.initial_entropy = state["initial_entropy"]
        self._progress, self._grad_norm = state["progress"], state["grad_norm"]
        self.pace.load_state_dict(state["pace"])
        self.guard.load_state_dict(state["guard"])
        if self.initial_entropy is not None:
            self._drawn_nats = self._drawn()
