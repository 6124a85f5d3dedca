"""Arms of a study over each other: mean over seeds, with the range of seeds around it."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entrocraft.reports.plots.style import COLOURS, STYLES, Axes, Figure, write_picture
from entrocraft.runs.metrics import COLUMNS


def draw_arms(arms: Mapping[str, Sequence[Mapping[str, Any]]], measures: Sequence[str], file: Path) -> None:
    """Draw entropy and scores against steps, one line an arm.

    Args:
        arms: By label, the rows of an arm's seeds; see `study.rows.row_of`.
        measures: Scores to draw, a panel each.
        file: The picture to write.
    """
    figure = Figure(figsize=(8, 2.4 * (1 + len(measures))), layout="constrained")
    entropy_ax, *score_axes = figure.subplots(1 + len(measures), 1, sharex=True)
    for i, (label, rows) in enumerate(arms.items()):
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i // len(COLOURS) % len(STYLES)]}
        at = [[(index + 0.5) * row["block"] for index in range(len(row["entropy"]))] for row in rows]
        _draw(entropy_ax, at, [row["entropy"] for row in rows], label, look)
        for ax, measure in zip(score_axes, measures, strict=True):
            scored = [row for row in rows if measure in row["scores"]]
            _draw(ax, [row["evaluated"] for row in scored], [row["scores"][measure] for row in scored], label, look)
    entropy_ax.set(ylabel=COLUMNS["entropy"].label, ylim=(0, None))
    entropy_ax.legend(frameon=False, fontsize=8, ncols=2)
    for ax, measure in zip(score_axes, measures, strict=True):
        ax.set(ylabel=measure)
    figure.axes[-1].set(xlabel="optimizer step")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    write_picture(figure, file)


def _draw(
    ax: Axes, at: Sequence[Sequence[float]], series: Sequence[Sequence[float | None]], label: str, look: dict[str, Any]
) -> None:
    """Draw the mean of series over the steps that all have, and their range."""
    if not series:
        return
    length = min(len(each) for each in series)
    points = [
        (step, values)
        for step, values in zip(at[0], zip(*(each[:length] for each in series), strict=True), strict=False)
        if all(value is not None for value in values)
    ]
    steps = [step for step, _ in points]
    ax.plot(steps, [statistics.fmean(values) for _, values in points], label=label, **look)
    if len(series) > 1:
        low, high = [min(values) for _, values in points], [max(values) for _, values in points]
        ax.fill_between(steps, low, high, color=look["color"], alpha=0.12, linewidth=0)
