"""Runs over each other: entropy, target and band, reward and held-out scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.reports.plots.style import COLOURS, TARGET, Axes, Figure, write_picture
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import COLUMNS, measure_of


def draw_runs(runs: Sequence[RunDirectory], file: Path) -> None:
    """Draw runs over each other: entropy with target and band, over reward and held-out scores.

    Raises:
        InvalidValueError: A run has no steps yet, or the file's ending is no picture format.
    """
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    entropy_ax, reward_ax = figure.subplots(2, 1, sharex=True)
    for i, run in enumerate(runs):
        lines = [line for line in run.step_metrics() if line["entropy"] is not None]
        if not lines:
            raise InvalidValueError(f"{run.path} has no steps to draw yet")
        _draw_run(entropy_ax, reward_ax, run, lines, COLOURS[i % len(COLOURS)], alone=len(runs) == 1)
    entropy_ax.set(ylabel=COLUMNS["entropy"].label, ylim=(0, None))
    reward_ax.set(xlabel="optimizer step", ylabel="reward, and held-out mean score", ylim=(0, None))
    for ax in (entropy_ax, reward_ax):
        ax.legend(frameon=False, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    write_picture(figure, file)


def _draw_run(
    entropy_ax: Axes, reward_ax: Axes, run: RunDirectory, lines: list[dict[str, Any]], colour: str, *, alone: bool
) -> None:
    """Draw one run in one colour; the target is grey if the run stands `alone`."""
    name = run.path.name
    steps = [line["step"] for line in lines]
    draw_band(entropy_ax, lines, f"{name}: target", TARGET if alone else colour)
    entropy_ax.plot(steps, [line["entropy"] for line in lines], color=colour, label=f"{name}: measured")

    rewarded = [line for line in lines if line["reward"] is not None]
    at, rewards = [line["step"] for line in rewarded], [line["reward"] for line in rewarded]
    reward_ax.plot(at, rewards, color=colour, alpha=0.25, linewidth=1)
    reward_ax.plot(at, _smooth(rewards), color=colour, label=f"{name}: training reward")
    evaluations = run.eval_metrics()
    name_of = {measure: name for line in evaluations for name in line if (measure := measure_of(name)) is not None}
    measure, column = next(((m, c) for m, c in name_of.items() if m.startswith("mean@")), ("", ""))
    needed = (column, f"{column}/low", f"{column}/high")
    evaluations = [line for line in evaluations if all(line.get(name) is not None for name in needed)]
    if evaluations:
        means = [line[column] for line in evaluations]
        errors = [
            [mean - line[f"{column}/low"] for mean, line in zip(means, evaluations, strict=True)],
            [line[f"{column}/high"] - mean for mean, line in zip(means, evaluations, strict=True)],
        ]
        reward_ax.errorbar(
            [line["step"] for line in evaluations],
            means,
            yerr=errors,
            color=colour,
            fmt="o",
            capsize=3,
            label=f"{name}: held-out {measure}",
        )


def draw_band(ax: Axes, lines: Sequence[Mapping[str, Any]], label: str, colour: str) -> None:
    """Draw target and band of the steps that had one."""
    steered = [line for line in lines if all(line.get(name) is not None for name in ("target", "lower", "upper"))]
    if not steered:
        return
    at = [line["step"] for line in steered]
    lower, upper = ([line[edge] for line in steered] for edge in ("lower", "upper"))
    ax.fill_between(at, lower, upper, color=colour, alpha=0.2, linewidth=0)
    ax.plot(at, [line["target"] for line in steered], color=TARGET, linestyle="--", linewidth=1, label=label)


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Return the exponential moving average; divided by the sum of its weights, which is less than 1 at the start."""
    smoothed, average, norm = [], 0.0, 0.0
    for value in values:
        average, norm = weight * average + (1 - weight) * value, weight * norm + (1 - weight)
        smoothed.append(average / norm)
    return smoothed
