"""A watch over the run: notices a target that is out of reach or does harm, and can ease it.

The paper's Fig. 8: a target set too high destabilises a long run, for late in training there are too
few failures left to push entropy up with.
"""

import math
import warnings
from collections import deque
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any, Literal, get_args

from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

GuardAction = Literal["off", "warn", "relax"]
"""`off`: look at nothing. `warn`: say and count symptoms. `relax`: ease the target as well."""

SMALL_BATCH = 0.15
"""Mean kept fraction below which little is learnt from a batch."""
SCARCE_NEGATIVES = 0.05
"""Mean share of rollouts with a negative advantage below which nothing is left to raise entropy with."""
GRADIENT_GROWTH = 3.0
"""Median gradient norm, in multiples of the earlier median, from which training looks unstable."""
SHRINKING = 0.9
"""A distance to the band shrinks if its later mean is below this share of its earlier mean."""
RELAXED_PER_STEP = 0.1
"""Share of the way towards the measured entropy that the target moves each step a symptom is there."""
RETURNED_PER_STEP = 0.02
"""Share of the offset that is taken back each calm step: slower, so that the two do not chase each other."""

_ADVICE = {
    "out_of_reach": "entropy has stayed {side} the band for {patience} steps without coming nearer: the target cannot "
    "be followed. Draw the curve closer to the measured {entropy:.3g} nats, flatter, or with a wider band",
    "small_batch": "on average {kept:.1%} of the batch was kept over {patience} steps, so little is learnt. "
    "Widen the band, draw the curve closer to the measured {entropy:.3g} nats, or sample more rollouts",
    "scarce_negatives": "entropy is below the band and on average only {negative:.1%} of the rollouts have a negative "
    "advantage, which is what raises it. Lower the end of the curve, or train on harder problems",
    "gradient_norm": "the gradient norm has grown to {growth:.1f} times its earlier median: training may be about to "
    "diverge. Lower the target if entropy is high, or the learning rate",
}
SYMPTOMS = tuple(_ADVICE)


class Guard:
    """Watches decisions for symptoms of a bad target.

    - `out_of_reach`: entropy was outside the band, on the same side, for `patience` decisions, by more
      than half the band's width, and the later half of them was not 10 % nearer than the earlier half.
    - `small_batch`: the mean kept fraction is below `SMALL_BATCH`.
    - `scarce_negatives`: entropy is below the band and the mean share of rollouts with a negative
      advantage is below `SCARCE_NEGATIVES`.
    - `gradient_norm`: the median norm is above `GRADIENT_GROWTH` times the median of the up to
      `10 * patience` norms before. Medians, as one spike, which clipping deals with, is no symptom.

    Means and medians are over the last `patience` decisions; before there are that many, no symptom is.

    With `relax`, while a symptom is there the target moves towards the measured entropy by
    `RELAXED_PER_STEP` of what is left, and back by `RETURNED_PER_STEP` of the offset once it is calm.
    The guard looks at the band as the user drew it, not as it was eased: measured against the eased one,
    a target out of reach would look reached, be taken back, and so on for ever. The offset lies between
    0 and the distance to the band measured last, so at most it brings the near edge to the entropy, it
    is 0 as soon as entropy is back in the band, and an eased band never pushes the other way (`relaxed`).

    Args:
        action: See `GuardAction`.
        patience: Decisions to look back on, 2 or more.

    Raises:
        UnknownNameError: There is no such action.
        InvalidValueError: The patience is out of range.

    Example:
        >>> guard = Guard("relax", patience=2)
        >>> seen = dict(entropy=0.3, lower=0.5, upper=0.6, kept_fraction=0.5, negative_fraction=0.5)
        >>> with warnings.catch_warnings(record=True):
        ...     [guard.observe(step=step, **seen) for step in (1, 2)]
        [[], ['out_of_reach']]
        >>> round(guard.offset, 3)  # a tenth of the way from 0.5 down to 0.3
        -0.02
    """

    def __init__(self, action: GuardAction = "warn", patience: int = 20):
        check_guard_action(action)
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 2:
            raise InvalidValueError(f"guard: patience must be a whole number of steps, 2 or more, got {patience!r}")
        self.action = action
        self.patience = patience
        self.offset = 0.0
        """Nats to add to the target; negative if entropy is below the band."""
        self.counts = dict.fromkeys(SYMPTOMS, 0)
        """Decisions at which each symptom was there."""
        self._distances: deque[float] = deque(maxlen=patience)
        self._kept: deque[float] = deque(maxlen=patience)
        self._negative: deque[float] = deque(maxlen=patience)
        self._grad_norms: deque[float] = deque(maxlen=11 * patience)

    def observe(
        self,
        *,
        step: int,
        entropy: float,
        lower: float,
        upper: float,
        kept_fraction: float,
        negative_fraction: float,
        grad_norm: float | None = None,
    ) -> list[str]:
        """Look at one decision, after it was made, and return the symptoms that are there now.

        Args:
            step: The optimizer step, for messages.
            entropy: Entropy of the batch, in nats per token.
            lower: Lower edge of the band as the user drew it, without the offset, in nats per token.
            upper: Upper edge, likewise.
            kept_fraction: Share of rollouts kept, or of tokens where these are what is left out.
            negative_fraction: Share of rollouts whose advantage is negative, before any rejection.
            grad_norm: Gradient norm of the last update, before clipping, if it is known.

        Returns:
            Names from `SYMPTOMS`, in that order; none if the action is `off`.

        Raises:
            MeasurementError: A number is NaN or infinite.
        """
        if self.action == "off":
            return []
        distance = _distance(entropy, lower, upper)
        for name, value in (
            ("distance of entropy to the band", distance),
            ("kept fraction", kept_fraction),
            ("share of negative advantages", negative_fraction),
            ("gradient norm", 0.0 if grad_norm is None else grad_norm),
        ):
            if not math.isfinite(value):
                raise MeasurementError(f"step {step}: the {name} is {value}; look for NaN or infinite logits")
        self._distances.append(distance)
        self._kept.append(kept_fraction)
        self._negative.append(negative_fraction)
        # None if no update was made since the last decision, or its norm overflowed.
        if grad_norm is not None:
            self._grad_norms.append(grad_norm)

        present = self._present(upper - lower)
        for symptom in present:
            self.counts[symptom] += 1
            if self.counts[symptom] == 1:
                self._warn(symptom, step, entropy)
        if self.action == "relax":
            self._move_offset(distance, bool(present))
        return present

    def _present(self, width: float) -> list[str]:
        if len(self._distances) < self.patience:
            return []
        found = {
            "out_of_reach": self._out_of_reach(width),
            "small_batch": fmean(self._kept) < SMALL_BATCH,
            "scarce_negatives": self._distances[-1] < 0 and fmean(self._negative) < SCARCE_NEGATIVES,
            "gradient_norm": self._gradient_growth() > GRADIENT_GROWTH,
        }
        return [symptom for symptom in SYMPTOMS if found[symptom]]

    def _out_of_reach(self, width: float) -> bool:
        distances = list(self._distances)
        if not (all(d > 0 for d in distances) or all(d < 0 for d in distances)):
            return False
        # Nats; all of one sign, so that the sizes of the means are the means of the sizes.
        middle = len(distances) // 2
        earlier, later = abs(fmean(distances[:middle])), abs(fmean(distances[middle:]))
        return later > width / 2 and later >= SHRINKING * earlier

    def _gradient_growth(self) -> float:
        """Recent median norm over the earlier one; 0 without enough of both, or if the earlier one is 0."""
        norms = list(self._grad_norms)
        # Up to ten times the patience before, which decides what is usual.
        earlier, recent = norms[: -self.patience], norms[-self.patience :]
        if len(earlier) < self.patience or median(earlier) == 0.0:
            return 0.0
        return median(recent) / median(earlier)

    def _move_offset(self, distance: float, alarmed: bool) -> None:
        if alarmed:
            self.offset += RELAXED_PER_STEP * (distance - self.offset)
        else:
            self.offset -= RETURNED_PER_STEP * self.offset
        # Between 0 and the distance, in nats: 0 inside the band, where both bounds are.
        self.offset = min(max(self.offset, min(distance, 0.0)), max(distance, 0.0))

    def forget_band(self) -> None:
        """Judge another band from now on: what was measured against the last one says nothing of it."""
        self.offset = 0.0
        self._distances.clear()

    def relaxed(self, lower: float, upper: float, entropy: float) -> tuple[float, float]:
        """Return the band to decide by: `(lower, upper)` moved by the offset, all in nats per token.

        The offset comes from the batch before. Had entropy jumped since, the moved band could push it
        further from where the user wants it; then the edge in the way stays at the entropy.

        Example:
            >>> guard = Guard("relax")
            >>> guard.offset = -0.2
            >>> guard.relaxed(0.5, 0.75, entropy=0.25)
            (0.3, 0.55)
            >>> guard.relaxed(0.5, 0.75, entropy=0.6)  # in the user's band: nothing to push
            (0.3, 0.6)
        """
        moved_lower, moved_upper = lower + self.offset, upper + self.offset
        if self.offset < 0:
            return moved_lower, max(moved_upper, min(entropy, upper))
        return min(moved_lower, max(entropy, lower)), moved_upper

    def metrics(self) -> dict[str, float]:
        """Return what to log: alarmed decisions per symptom and the offset; nothing if off."""
        if self.action == "off":
            return {}
        return {f"guard_{symptom}": float(count) for symptom, count in self.counts.items()} | {
            "guard_offset": self.offset
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {
            "offset": self.offset,
            "counts": dict(self.counts),
            "distances": list(self._distances),
            "kept": list(self._kept),
            "negative": list(self._negative),
            "grad_norms": list(self._grad_norms),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that a guard saved.
        """
        check_state("guard state", state, self.state_dict())
        check_state("counts in the guard state", state["counts"], self.counts)
        self.offset = state["offset"]
        self.counts = dict(state["counts"])
        for window, name in (
            (self._distances, "distances"),
            (self._kept, "kept"),
            (self._negative, "negative"),
            (self._grad_norms, "grad_norms"),
        ):
            window.clear()
            window.extend(state[name])

    def _warn(self, symptom: str, step: int, entropy: float) -> None:
        advice = _ADVICE[symptom].format(
            side="above" if self._distances[-1] > 0 else "below",
            patience=self.patience,
            entropy=entropy,
            kept=fmean(self._kept),
            negative=fmean(self._negative),
            growth=self._gradient_growth(),
        )
        eased = " The guard eases the target meanwhile." if self.action == "relax" else ""
        warnings.warn(
            f"step {step}: {advice}.{eased} Counted from now on in `guard_{symptom}`.",
            stacklevel=3,
        )


def check_guard_action(action: object) -> None:
    """Raise `UnknownNameError` unless `action` is a `GuardAction`."""
    if action not in get_args(GuardAction):
        raise UnknownNameError.of("guard action", action, get_args(GuardAction))


def _distance(entropy: float, lower: float, upper: float) -> float:
    """Nats from the nearest edge of the band to the entropy: positive above, negative below, 0 inside."""
    if entropy > upper:
        return entropy - upper
    return min(entropy - lower, 0.0)
