"""Runs over each other: entropy, target and band, reward and held-out scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.reports.plots.style import COLOURS, TARGET, Axes, Figure, write_picture
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import COLUMNS, measure_of


def draw_runs(runs: Sequence[RunDirectory], file: Path) -> None:
    """Draw runs over each other: entropy with target and band, reward with held-out mean, and pass@k of the largest k.

    The mean says how often the policy is right, pass@k what it still finds when asked often: a policy whose entropy
    collapses gains on the first and loses on the second.

    Raises:
        InvalidValueError: A run has no steps yet, or the file's ending is no picture format.
    """
    columns_of = [_score_columns(run) for run in runs]
    has_breadth = any("pass@" in columns for columns in columns_of)
    figure = Figure(figsize=(8, 9 if has_breadth else 6.5), layout="constrained")
    entropy_ax, reward_ax, *breadth_ax = figure.subplots(2 + has_breadth, 1, sharex=True)
    for i, (run, columns) in enumerate(zip(runs, columns_of, strict=True)):
        lines = [line for line in run.step_metrics() if line["entropy"] is not None]
        if not lines:
            raise InvalidValueError(f"{run.path} has no steps to draw yet")
        colour, name = COLOURS[i % len(COLOURS)], run.path.name
        draw_band(entropy_ax, lines, f"{name}: target", TARGET if len(runs) == 1 else colour)
        steps = [line["step"] for line in lines]
        entropy_ax.plot(steps, [line["entropy"] for line in lines], color=colour, label=f"{name}: measured")
        _draw_reward(reward_ax, lines, name, colour)
        if "mean@" in columns:
            _draw_scores(reward_ax, run, columns["mean@"], colour)
        if "pass@" in columns:
            _draw_scores(breadth_ax[0], run, columns["pass@"], colour)
    entropy_ax.set(ylabel=COLUMNS["entropy"].label, ylim=(0, None))
    reward_ax.set(ylabel="reward, and held-out mean score", ylim=(0, None))
    for ax in breadth_ax:
        ax.set(ylabel="held-out pass@k", ylim=(0, 1))
    figure.axes[-1].set(xlabel="optimizer step")
    for ax in figure.axes:
        ax.legend(frameon=False, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    write_picture(figure, file)


def _score_columns(run: RunDirectory) -> dict[str, tuple[str, str]]:
    """Return measure and column of a run's mean score, as `mean@`, and of pass@k with the largest k, as `pass@`."""
    columns = {measure: name for line in run.eval_metrics() for name in line if (measure := measure_of(name))}
    found = {}
    for kind in ("mean@", "pass@"):
        of_kind = [measure for measure in columns if measure.startswith(kind)]
        if of_kind:
            largest = max(of_kind, key=lambda measure: int(measure.removeprefix(kind)))
            found[kind] = (largest, columns[largest])
    return found


def _draw_reward(ax: Axes, lines: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    """Draw the rewards of a run's steps, and their moving average."""
    rewarded = [line for line in lines if line["reward"] is not None]
    at, rewards = [line["step"] for line in rewarded], [line["reward"] for line in rewarded]
    ax.plot(at, rewards, color=colour, alpha=0.25, linewidth=1)
    ax.plot(at, _smooth(rewards), color=colour, label=f"{name}: training reward")


def _draw_scores(ax: Axes, run: RunDirectory, measure_and_column: tuple[str, str], colour: str) -> None:
    """Draw a held-out score of a run's evaluations, with its interval over problems."""
    measure, column = measure_and_column
    needed = (column, f"{column}/low", f"{column}/high")
    lines = [line for line in run.eval_metrics() if all(line.get(name) is not None for name in needed)]
    scores = [line[column] for line in lines]
    errors = [
        [score - line[f"{column}/low"] for score, line in zip(scores, lines, strict=True)],
        [line[f"{column}/high"] - score for score, line in zip(scores, lines, strict=True)],
    ]
    at = [line["step"] for line in lines]
    label = f"{run.path.name}: held-out {measure}"
    ax.errorbar(at, scores, yerr=errors, color=colour, fmt="o", capsize=3, label=label)


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
