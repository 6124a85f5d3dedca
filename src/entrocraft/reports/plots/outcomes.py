"""What the arms of a study came to, one row an arm: each seed a dot, beside their mean and its interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from entrocraft.reports.plots.style import COLOURS, TARGET, Figure, write_picture


class Outcome(NamedTuple):
    """A number of an arm: one per seed, their mean, and its interval where there are seeds enough for one."""

    seeds: Sequence[float]
    mean: float
    interval: tuple[float, float] | None


def draw_outcomes(panels: Mapping[str, Mapping[str, Outcome]], baseline: str, file: Path) -> None:
    """Draw a panel for each number, with the arms below each other and a line at the baseline's mean.

    Args:
        panels: By what is measured, what each arm came to; an arm that lacks it has no dot.
        baseline: The arm that the others are compared with.
        file: The picture to write.
    """
    arms = list(dict.fromkeys(arm for outcomes in panels.values() for arm in outcomes))
    figure = Figure(figsize=(3.2 + 2.6 * len(panels), 0.9 + 0.24 * len(arms)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (measure, outcomes) in zip(axes, panels.items(), strict=True):
        if baseline in outcomes:
            ax.axvline(outcomes[baseline].mean, color=TARGET, linewidth=0.8, linestyle="--")
        for arm, outcome in outcomes.items():
            row, colour = arms.index(arm), COLOURS[arm != baseline]
            ax.plot(outcome.seeds, [row] * len(outcome.seeds), ".", color=colour, alpha=0.35, markersize=5)
            if outcome.interval is not None:
                ax.plot(outcome.interval, [row, row], "-", color=colour, linewidth=1.5)
            ax.plot([outcome.mean], [row], "o", color=colour, markersize=4)
        ax.set(xlabel=measure)
        ax.grid(axis="y", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set(yticks=range(len(arms)), yticklabels=arms)
    axes[0].invert_yaxis()
    write_picture(figure, file)
