"""Why the entropy of a run moved, step by step."""

from collections.abc import Mapping, Sequence
from typing import Any

from entrocraft.analysis.explanation import Explanation
from entrocraft.reports.plots.runs import draw_band
from entrocraft.reports.plots.style import COLOURS, TARGET, Axes, Figure
from entrocraft.runs.metrics import COLUMNS, QUADRANTS

QUADRANT_COLOURS = dict(zip(QUADRANTS, ("#2b6cb0", "#90cdf4", "#c05621", "#fbd38d"), strict=True))


def draw_explanation(explanation: Explanation, lines: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw why entropy moved: entropy with its band, what the kept tokens did, and what was rejected.

    Args:
        explanation: What was found about the lines.
        lines: The optimizer-step lines of the run.
        title: Text above the picture.
    """
    figure = Figure(figsize=(9, 9), layout="constrained")
    figure.suptitle(title)
    entropy_ax, kept_ax, rejected_ax = figure.subplots(3, 1, sharex=True)
    draw_band(entropy_ax, lines, "target", TARGET)
    entropy_ax.plot(
        [line["step"] for line in lines], [line["entropy"] for line in lines], color=COLOURS[0], label="measured"
    )
    filtered = [line for line in lines if line.get("filtered_entropy") is not None]
    if filtered:
        at, values = [line["step"] for line in filtered], [line["filtered_entropy"] for line in filtered]
        entropy_ax.plot(at, values, color=COLOURS[1], linewidth=1, label="as the controller reads it")
    entropy_ax.set(ylabel=COLUMNS["entropy"].label)
    _stack(kept_ax, explanation.steps, explanation.kept)
    kept_ax.plot(explanation.steps, explanation.drift, color=TARGET, linestyle="--", linewidth=1, label="drift")
    kept_ax.set(ylabel="by what was kept\n(nats per step)", title=f"gain fitted, R² {explanation.r_squared:.2f}")
    _stack(rejected_ax, explanation.steps, explanation.rejected)
    rejected_ax.set(xlabel="optimizer step", ylabel="keeping all would have added\n(nats per step)")
    for ax in (entropy_ax, kept_ax, rejected_ax):
        ax.spines[["top", "right"]].set_visible(False)
    for ax in (entropy_ax, kept_ax):  # the colours of the last are those of the second
        ax.legend(frameon=False, fontsize=9, ncols=3)
    return figure


def _stack(ax: Axes, steps: Sequence[int], by_quadrant: Mapping[str, Sequence[float]]) -> None:
    """Stack what raises entropy above zero and what lowers it below, with the sum as a line."""
    above, below = [0.0] * len(steps), [0.0] * len(steps)
    for name, values in by_quadrant.items():
        tops, bottoms = [max(v, 0.0) for v in values], [min(v, 0.0) for v in values]
        colour = QUADRANT_COLOURS[name]
        ax.bar(steps, tops, bottom=above, width=1.0, color=colour, label=name.replace("_", ", "))
        ax.bar(steps, bottoms, bottom=below, width=1.0, color=colour)
        above = [a + v for a, v in zip(above, tops, strict=True)]
        below = [b + v for b, v in zip(below, bottoms, strict=True)]
    sums = [a + b for a, b in zip(above, below, strict=True)]
    ax.plot(steps, sums, color="black", linewidth=1.2, label="sum")
    ax.axhline(0, color=TARGET, linewidth=0.8)
