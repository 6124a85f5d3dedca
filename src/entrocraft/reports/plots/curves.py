"""A schedule or a band as a picture, with what was measured over it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from entrocraft.schedules import Band, ScheduleLike, schedule_from
from entrocraft.schedules.base import UNIT_NAMES

if TYPE_CHECKING:
    from entrocraft.reports.plots.style import Axes


def plot(
    curve: Band | ScheduleLike,
    total_steps: int = 100,
    observed: Sequence[float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a schedule, or a band with its target, over a run and return the axes.

    Args:
        curve: A band, or anything that `schedule_from` takes.
        total_steps: Length of the run, in optimizer steps.
        observed: Measured entropies of steps 1, 2, ..., drawn over it.
        ax: Matplotlib's axes to draw on; by default those of a new figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from entrocraft import linear
        >>> axes = plot(linear(0.6, 0.2), 10, observed=[0.6, 0.5])
        >>> axes.get_ylabel()
        'entropy (nats per token)'
    """
    from entrocraft.reports.plots.style import COLOURS, TARGET, Figure  # imports matplotlib

    curve = curve if isinstance(curve, Band) else schedule_from(curve)
    if ax is None:
        ax = Figure(figsize=(7, 3.5), layout="constrained").add_subplot()
    steps = range(total_steps + 1)
    if isinstance(curve, Band):
        lower, upper = zip(*curve.values(total_steps), strict=True)
        ax.fill_between(steps, lower, upper, color=TARGET, alpha=0.2, linewidth=0, label="band")
    target = curve.targets(total_steps) if isinstance(curve, Band) else curve.values(total_steps)
    ax.plot(steps, target, color=TARGET, linestyle="--", label="target")
    if observed is not None:
        ax.plot(range(1, len(observed) + 1), observed, color=COLOURS[0], label="measured")
    ax.set(xlabel="step", ylabel=f"entropy ({UNIT_NAMES[curve.unit]})", xlim=(0, total_steps))
    ax.legend(frameon=False)
    return ax
