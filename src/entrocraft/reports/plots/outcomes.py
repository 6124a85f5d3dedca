"""What the arms of a study came to: each number in a panel of its own, or one against another."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from entrocraft.reports.plots.style import COLOURS, STYLES, TARGET, Axes, Figure, write_picture


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


def draw_tradeoff(
    x: Mapping[str, Outcome],
    y: Mapping[str, Outcome],
    names: tuple[str, str],
    baseline: str,
    named: Collection[str],
    file: Path,
) -> None:
    """Draw one number against another, a dot an arm.

    Args:
        x: What each arm came to in the one number.
        y: And in the other; arms that lack either are left out.
        names: What the two measure.
        baseline: The arm that the others are compared with.
        named: The arms whose names are written beside their dots, with the baseline's.
        file: The picture to write.
    """
    figure, ax = _plane(names)
    for arm in (arm for arm in x if arm in y):
        colour = COLOURS[0] if arm == baseline else COLOURS[1] if arm in named else TARGET
        right, up = x[arm], y[arm]
        if right.interval is not None:
            ax.plot(right.interval, [up.mean, up.mean], "-", color=colour, linewidth=0.8, alpha=0.4)
        if up.interval is not None:
            ax.plot([right.mean, right.mean], up.interval, "-", color=colour, linewidth=0.8, alpha=0.4)
        ax.plot([right.mean], [up.mean], "o", color=colour, markersize=5)
        if arm in named or arm == baseline:
            ax.annotate(arm, (right.mean, up.mean), xytext=(5, 5), textcoords="offset points", fontsize=8)
    write_picture(figure, file)


def draw_frontiers(
    frontiers: Mapping[str, Sequence[tuple[float, float]]],
    names: tuple[str, str],
    baseline: str,
    named: Collection[str],
    file: Path,
) -> None:
    """Draw what each arm has of two numbers at several temperatures, a line an arm and a dot a temperature.

    Args:
        frontiers: By arm, the two numbers at each temperature.
        names: What the two measure.
        baseline: The arm that the others are compared with.
        named: The arms that have a colour and a name, with the baseline; the others are grey.
        file: The picture to write.
    """
    figure, ax = _plane(names)
    arms = sorted(frontiers, key=lambda arm: (arm != baseline, arm not in named))  # stable: the order of the study
    for i, arm in enumerate(arms):
        look: dict[str, Any] = {"color": TARGET, "alpha": 0.3, "linewidth": 0.8, "markersize": 2}
        if arm in named or arm == baseline:
            style = STYLES[i // len(COLOURS) % len(STYLES)]
            look = {"color": COLOURS[i % len(COLOURS)], "linestyle": style, "label": arm, "markersize": 4}
        ax.plot(*zip(*sorted(frontiers[arm]), strict=True), marker="o", **look)
    ax.legend(frameon=False, fontsize=8)
    write_picture(figure, file)


def _plane(names: tuple[str, str]) -> tuple[Figure, Axes]:
    """Return a picture of one number against another, with nothing in it yet."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax
