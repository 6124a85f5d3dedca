"""A curve with its band, as a schedule draws itself."""

from collections.abc import Sequence

from entrocraft.reports.plots.style import COLOURS, TARGET, Axes, Figure


def draw_curve(
    target: Sequence[float],
    edges: Sequence[tuple[float, float]] | None = None,
    *,
    observed: Sequence[float] | None = None,
    unit: str = "nats",
    ax: Axes | None = None,
) -> Axes:
    """Draw a curve and its band.

    Args:
        target: Of steps 0, 1, 2, ...
        edges: Lower and upper edge of the band at the same steps.
        observed: Measured entropies of steps 1, 2, ...
        unit: `nats`, or `initial` for multiples of the entropy at the first step.
        ax: Where to draw; by default on a new figure.
    """
    if ax is None:
        ax = Figure(figsize=(7, 3.5), layout="constrained").add_subplot()
    steps = range(len(target))
    if edges is not None:
        lower, upper = zip(*edges, strict=True)
        ax.fill_between(steps, lower, upper, color=TARGET, alpha=0.2, linewidth=0, label="band")
    ax.plot(steps, target, color=TARGET, linestyle="--", label="target")
    if observed is not None:
        ax.plot(range(1, len(observed) + 1), observed, color=COLOURS[0], label="measured")
    name = "nats per token" if unit == "nats" else "multiples of the first"
    ax.set(xlabel="step", ylabel=f"entropy ({name})", xlim=(0, len(target) - 1))
    ax.legend(frameon=False)
    return ax
