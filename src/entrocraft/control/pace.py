"""How far along its curve a run is: by the clock, or by whether the reward still improves."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError, MeasurementError
from entrocraft.schedules import Band, Schedule
from entrocraft.schedules.adaptive import Adaptive
from entrocraft.schedules.base import checked_number

# Between the two thresholds nothing changes (hysteresis). On pure noise the trend is about a standard normal
# number that changes slowly: at the default patience it passes the upper one once in some 300 steps, and is
# below the lower one five times out of six.
IMPROVING_ABOVE = 2.5
STALLED_BELOW = 1.0


class Pace(ABC):
    """How far along its curve a run is. Deterministic, so that all ranks agree without an exchange."""

    rewards_needed: bool = False
    """True if `progress` must be given the mean reward."""

    @abstractmethod
    def progress(self, step: int, total_steps: int, mean_reward: float | None = None) -> float:
        """Return the share of the curve that is done. Call it exactly once per decision.

        Args:
            step: The optimizer step about to be made, at least 0.
            total_steps: Optimizer steps of the whole run, at least 1.
            mean_reward: Mean raw reward of the global batch.

        Returns:
            A fraction in [0, 1], which never decreases.
        """

    def metrics(self) -> dict[str, float]:
        """Return what to log, every value finite; nothing if the pace is the clock's."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that this pace saved.
        """
        check_state("pace state", state, self.state_dict())


class ClockPace(Pace):
    """`step / total_steps`, and 1 after the end.

    Example:
        >>> ClockPace().progress(25, 100)
        0.25
    """

    def progress(self, step: int, total_steps: int, mean_reward: float | None = None) -> float:
        _check_steps(step, total_steps)
        return min(1.0, step / total_steps)


class AdaptivePace(Pace):
    """Moves while the mean reward has stalled, stands still while it improves.

    The evidence is the trend of the last `2 * patience` rewards: their least-squares slope over its
    standard error (`reward_trend`), so no threshold depends on the scale of the reward. A finite window
    forgets: an average that decays would remember a steep climb long after it ended. Above
    `IMPROVING_ABOVE` the pace holds, below `STALLED_BELOW` it moves at `speed` times the clock, in
    between it goes on as it was, and each of the two lasts at least `patience` decisions. A run begins
    holding.

    Args:
        schedule: Says `patience` and `speed`; see `adaptive`.
        start: Where on the curve to begin, in [0, 1]: for a curve that replaces another mid-run.

    Raises:
        InvalidValueError: At decision time, there is no mean reward, or the step went back.
        MeasurementError: The mean reward is NaN or infinite.

    Example:
        >>> from entrocraft import adaptive
        >>> pace = AdaptivePace(adaptive(0.5, patience=2))
        >>> [pace.progress(step, 10, mean_reward=0.3) for step in range(1, 5)]  # as flat as can be
        [0.0, 0.2, 0.4, 0.6000000000000001]
    """

    rewards_needed = True

    def __init__(self, schedule: Adaptive, start: float = 0.0):
        if checked_number("pace: start", start) > 1.0:
            raise InvalidValueError(f"pace: start must be a share of the curve, at most 1, got {start!r}")
        self.patience = schedule.patience
        self.speed = schedule.speed
        self._progress = float(start)
        self._last_step: int | None = None
        self._stalled = False
        self._decisions_so = 0
        """Decisions since `_stalled` last changed."""
        self._rewards: list[float] = []

    def progress(self, step: int, total_steps: int, mean_reward: float | None = None) -> float:
        _check_steps(step, total_steps)
        if mean_reward is None:
            raise InvalidValueError(
                "an adaptive schedule needs the rewards: give BatchStats.rewards, or use its curve "
                "without adaptive(...)"
            )
        if not math.isfinite(mean_reward):
            raise MeasurementError(f"step {step}: the mean reward is {mean_reward}; check the reward functions")
        if self._last_step is not None and step < self._last_step:
            raise InvalidValueError(
                f"an adaptive schedule cannot go back from step {self._last_step} to {step}; "
                "load the state that was saved at that step"
            )
        # The clock counts steps, not decisions: several may lie between two, or none.
        steps_made = 0 if self._last_step is None else step - self._last_step
        self._last_step = step
        self._rewards = [*self._rewards, float(mean_reward)][-2 * self.patience :]
        self._decisions_so += 1
        self._reconsider()
        if self._stalled:
            self._progress = min(1.0, self._progress + self.speed * steps_made / total_steps)
        return self._progress

    def _reconsider(self) -> None:
        if self._decisions_so < self.patience:
            return
        trend = reward_trend(self._rewards)
        if trend > IMPROVING_ABOVE if self._stalled else trend < STALLED_BELOW:
            self._stalled = not self._stalled
            self._decisions_so = 0

    def metrics(self) -> dict[str, float]:
        return {
            "schedule_progress": self._progress,
            "schedule_moving": float(self._stalled),
            "reward_trend": reward_trend(self._rewards),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": self._progress,
            "last_step": self._last_step,
            "stalled": self._stalled,
            "decisions_so": self._decisions_so,
            "rewards": list(self._rewards),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._progress = state["progress"]
        self._last_step = state["last_step"]
        self._stalled = state["stalled"]
        self._decisions_so = state["decisions_so"]
        self._rewards = list(state["rewards"])


def pace_of(band: Band, start: float = 0.0) -> Pace:
    """Return a fresh pace for `band`; give what it returns to the band as `band(progress, 1)`.

    Args:
        band: The corridor. If one of its edges is adaptive the other must be, with the same patience
            and speed, since both are read at one progress.
        start: Where on an adaptive curve to begin, in [0, 1]. A pace by the clock has no use for it.

    Raises:
        InvalidValueError: The two edges would move at different paces.

    Example:
        >>> from entrocraft import Band
        >>> type(pace_of(Band("adaptive(linear(0.6, 0.2))", width=0.1))).__name__
        'AdaptivePace'
        >>> type(pace_of(Band("linear(0.6, 0.2)", width=0.1))).__name__
        'ClockPace'
    """
    lines = [band.schedule] if band.schedule is not None else [band.lower, band.upper]
    first, last = cast(Schedule, lines[0]), cast(Schedule, lines[-1])
    if _pace_settings(first) != _pace_settings(last):
        raise InvalidValueError(
            "the two edges of a band move at one pace: make both adaptive, with the same patience and speed, or "
            f"neither; got lower={first!r}, upper={last!r}"
        )
    return AdaptivePace(first, start) if isinstance(first, Adaptive) else ClockPace()


def _pace_settings(schedule: Schedule) -> tuple[int, float] | None:
    return (schedule.patience, schedule.speed) if isinstance(schedule, Adaptive) else None


def _check_steps(step: int, total_steps: int) -> None:
    if step < 0 or total_steps < 1:
        raise InvalidValueError(f"expected step >= 0 and total_steps >= 1, got {step} and {total_steps}")


def reward_trend(rewards: Sequence[float]) -> float:
    """Return the slope of a series over the slope's standard error.

    `sum(x r) / (noise sqrt(sum(x^2)))` with centred times x; the noise of one reward is estimated from
    neighbours, `mean |r_t - r_(t-1)| sqrt(pi) / 2`, which a trend hardly touches. On Gaussian noise
    without a trend it is about a standard normal number; a slope b adds `b sqrt(n^3 / 12) / noise`.

    Args:
        rewards: Mean rewards of consecutive batches, in any unit.

    Returns:
        The trend, in standard errors; 0 for fewer than three rewards, or if all are equal.

    Example:
        >>> round(reward_trend([0.0, 1.0, 2.0]), 4)  # slope 1, noise sqrt(pi)/2, sum(x^2) = 2
        1.5958
    """
    n = len(rewards)
    if n < 3:
        return 0.0
    # The difference of two rewards of deviation sigma is on average 2 sigma / sqrt(pi) in size.
    noise = sum(abs(rewards[i] - rewards[i - 1]) for i in range(1, n)) / (n - 1) * math.sqrt(math.pi) / 2
    if noise == 0.0:
        return 0.0
    # Centred, so that the mean reward drops out of the slope.
    times = [i - (n - 1) / 2 for i in range(n)]
    sum_of_squares = sum(time * time for time in times)
    return sum(time * reward for time, reward in zip(times, rewards, strict=True)) / (noise * math.sqrt(sum_of_squares))
