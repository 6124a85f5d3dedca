"""Why entropy went where it went in a run, and what the filter did about it, from the lines of its metrics.

Each step's line has the contribution of each quadrant to the predicted local change, per token of the whole batch
(`quadrants/...`) and per token of what was kept (`kept_quadrants/...`), which is what entered the update. The
optimizer's momentum spreads an update over the next steps, training drifts by itself, and how much a predicted change
really changes is not known. So, with s_k the total of what was kept at step k, entropy is fitted by

    E_k = (1 - w_k) E_{k-1} + w_k s_k,    w_k = (1 - m) / (1 - m^k),    H_{k+1} = H_1 + sum_{j<=k} r_j (b + g E_j)

with m the momentum, w as in Adam's bias correction, r_j the factor on the learning rate of update j, and H_1, the drift
b and the gain g by least squares. That is an attribution of levels, not a test: a curve that wanders fits others that
wander. But for that factor, the learning rate is taken to be constant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entrocraft.errors import InvalidValueError, MeasurementError
from entrocraft.runs.metrics import QUADRANTS, quadrant_columns

MIN_STEPS = 8
"""Steps below which three numbers fit almost anything."""
_TOO_LARGE = "entropies or quadrants are too large to be added up; the run cannot be explained"
GOOD_FIT = 0.5
"""R^2 below which the fit is called poor."""
GOOD_SHARE = 0.2
"""Share of what a straight line leaves, below which the quadrants are said to explain little."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OutOfBand:
    """Steps on one side of the band."""

    num_steps: int
    kept_fraction: float | None
    """Mean share of tokens kept then; None without such a step."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What moved entropy. Lists have one value per update whose effect was measured: one fewer than measured steps."""

    steps: list[int]
    """The step of each update."""
    changes: list[float]
    """Entropy at the next step minus entropy at this one, in nats per token."""
    kept: dict[str, list[float]]
    """What the kept tokens of each quadrant changed, in nats per token."""
    rejected: dict[str, list[float]]
    """What keeping all tokens of each quadrant would have changed on top of that, at the same gain."""
    drift: list[float]
    """What entropy changed by whatever was kept: r b of each update, in nats per token."""
    unexplained: list[float]
    """What remains of `changes` without all of `kept` and `drift`."""
    gain: float
    """Nats of entropy per unit of the kept total, per step."""
    r_squared: float
    """Share of the variance of the entropies that the fit explains; NaN if they do not vary."""
    r_squared_line: float
    """Share of that variance that a straight line alone explains; NaN if they do not vary."""
    below: OutOfBand
    above: OutOfBand

    @property
    def share_beyond_line(self) -> float:
        """Share of the variance left by a straight line that the kept total explains; NaN if the line leaves none."""
        left = 1.0 - self.r_squared_line
        return (self.r_squared - self.r_squared_line) / left if left > 1e-12 else math.nan

    @property
    def total_change(self) -> float:
        """Entropy at the last step minus entropy at the first, in nats per token."""
        return math.fsum(self.changes)

    def totals(self) -> dict[str, float]:
        """Return the total change by cause: the four quadrants, `drift` and `unexplained`, which add up to it."""
        causes = self.kept | {"drift": self.drift, "unexplained": self.unexplained}
        return {name: math.fsum(values) for name, values in causes.items()}

    def rejected_totals(self) -> dict[str, float]:
        """Return by quadrant what keeping all tokens would have changed on top, over the run."""
        return {name: math.fsum(values) for name, values in self.rejected.items()}


def momentum_of(config: Mapping[str, Any]) -> float:
    """Return what a run's optimizer carries from one update to the next, by the run's configuration: Adam's beta1.

    An optimizer that is no Adam is taken to carry nothing.

    Example:
        >>> momentum_of({"train": {"trl": {"adam_beta1": 0.8}}}), momentum_of({}), momentum_of({"train": {"trl": None}})
        (0.8, 0.9, 0.9)
    """
    trl: Any = config
    for section in ("train", "trl"):  # of a file that may be damaged
        trl = trl.get(section) if isinstance(trl, Mapping) else None
    trl = trl if isinstance(trl, Mapping) else {}
    if "adam" not in str(trl.get("optim", "adam")):
        return 0.0
    beta1 = trl.get("adam_beta1")
    return float(beta1) if isinstance(beta1, int | float) else 0.9


def explain(lines: Sequence[Mapping[str, Any]], momentum: float = 0.9) -> Explanation:
    """Attribute the changes of entropy of a run.

    Args:
        lines: The optimizer-step lines of `metrics.jsonl`, in order. Those without an entropy are passed over.
        momentum: Share of an update's effect that the optimizer carries to the next, in [0, 1): Adam's beta1.

    Returns:
        The explanation. What was rejected is first-order and along the path that was taken: `all - kept`, the
        difference between the means over all tokens and over those kept.

    Raises:
        InvalidValueError: The momentum is out of range, steps are missing or too few, or lines lack the quadrants.
        MeasurementError: A value is not finite, or gain and drift cannot be told apart.
    """
    if not 0.0 <= momentum < 1.0:
        raise InvalidValueError(f"momentum must lie in [0, 1), got {momentum}")
    lines = _measured(lines)
    entropy = np.array([line["entropy"] for line in lines], dtype=float)
    # Without an update the weights stay, and Adam's memory, too.
    moved = np.array([not line.get("skipped") for line in lines[:-1]])
    rate = moved * np.array([line.get("learning_rate_factor", 1.0) for line in lines[:-1]], dtype=float)
    kept, whole = (
        {name: rate * _averaged(_values(lines, column)[:-1], moved, momentum) for name, column in columns.items()}
        for columns in (quadrant_columns(kept=True), quadrant_columns(kept=False))
    )
    if not np.isfinite([*entropy, *np.ravel(list(kept.values())), *np.ravel(list(whole.values()))]).all():
        raise MeasurementError("the entropy or a quadrant of some step is not finite; the run cannot be explained")

    # The columns beside the constant, 0 at the first step: the sums over r_j, of b, and over r_j E_j, of g.
    line = np.concatenate([[0.0], rate.cumsum()])
    with np.errstate(over="ignore", invalid="ignore"):  # refused in the next line
        path = np.concatenate([[0.0], np.sum(list(kept.values()), axis=0).cumsum()])
    if not np.isfinite(path).all():
        raise MeasurementError(_TOO_LARGE)
    (_, drift, gain), r_squared = _fit(entropy, line, path)
    _, r_squared_line = _fit(entropy, line)

    kept_nats = {name: gain * values for name, values in kept.items()}
    rejected_nats = {name: gain * (whole[name] - kept[name]) for name in QUADRANTS}
    changes, drifted = np.diff(entropy), drift * rate
    terms = [changes, drifted, *kept_nats.values(), *rejected_nats.values()]
    if not math.isfinite(sum(float(np.abs(term).sum()) for term in terms)):
        raise MeasurementError(_TOO_LARGE)
    return Explanation(
        steps=[line["step"] for line in lines[:-1]],
        changes=changes.tolist(),
        kept={name: values.tolist() for name, values in kept_nats.items()},
        rejected={name: values.tolist() for name, values in rejected_nats.items()},
        drift=drifted.tolist(),
        unexplained=(changes - drifted - np.sum(list(kept_nats.values()), axis=0)).tolist(),
        gain=float(gain),
        r_squared=r_squared,
        r_squared_line=r_squared_line,
        below=_out_of_band(lines, -1),
        above=_out_of_band(lines, 1),
    )


def _measured(lines: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the lines of steps that were measured; refuse too few, missing ones, and lines without the quadrants.

    A batch of which no token counted, such as one of truncated answers alone, is no update and has no entropy: the
    policy is that of the next step.
    """
    steps = [line["step"] for line in lines]
    if steps and steps != list(range(steps[0], steps[0] + len(steps))):
        raise InvalidValueError(
            f"expected one line for each step from {steps[0]} to {steps[-1]}, got {len(steps)} lines; log every step"
        )
    lines = [line for line in lines if line.get("entropy") is not None]
    if len(lines) < MIN_STEPS:
        raise InvalidValueError(f"a run of at least {MIN_STEPS} steps is needed to explain it, got {len(lines)}")
    needed = [*quadrant_columns(kept=False).values(), *quadrant_columns(kept=True).values()]
    for line in lines:
        missing = [name for name in needed if line.get(name) is None]
        if missing:
            raise InvalidValueError(
                f"step {line['step']} has no {missing[0]}: a run without entropy control, or of an early version, "
                "records none. To watch a run and leave it as it is, train it under `control: {method: none}`"
            )
    return lines


def _values(lines: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Return one column of the metrics, step by step."""
    return np.array([line[name] for line in lines], dtype=float)


def _averaged(values: Array, moved: NDArray[np.bool_], momentum: float) -> Array:
    """Return the average under the optimizer's memory at each update, 0 where there was none."""
    averages, average = np.zeros_like(values), 0.0
    for num_updates, i in enumerate(np.flatnonzero(moved), start=1):
        weight = (1 - momentum) / (1 - momentum**num_updates)  # w_k: 1 for the first update, as nothing is remembered
        average += weight * (values[i] - average)
        averages[i] = average
    return averages


def _fit(entropy: Array, *columns: Array) -> tuple[Array, float]:
    """Return intercept and coefficients by least squares, and R^2."""
    design = np.stack([np.ones_like(entropy), *columns], axis=1)
    # Columns to one scale, or a small one would count as none.
    scale = np.linalg.norm(design, axis=0)
    scaled = np.divide(design, scale, out=np.zeros_like(design), where=scale > 0)
    solution, _, rank, _ = np.linalg.lstsq(scaled, entropy, rcond=1e-9)
    if rank < design.shape[1]:
        raise MeasurementError(
            "the kept total is the same at every step, so its gain cannot be told from the drift: there is "
            "nothing to attribute"
        )
    variation = float(((entropy - entropy.mean()) ** 2).sum())
    residual = float(((entropy - scaled @ solution) ** 2).sum())
    return solution / scale, 1.0 - residual / variation if variation > 0 else math.nan


def _out_of_band(lines: Sequence[Mapping[str, Any]], direction: int) -> OutOfBand:
    """Return how many steps lay on one side of the band, and what was kept at these."""
    there = [line for line in lines if line["direction"] == direction]
    shares = [line.get("kept_token_fraction", line["kept_fraction"]) for line in there]
    kept = [share for share in shares if share is not None]
    return OutOfBand(num_steps=len(there), kept_fraction=sum(kept) / len(kept) if kept else None)
