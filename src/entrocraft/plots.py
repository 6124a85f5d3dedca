"""All pictures. Needs matplotlib: `pip install entrocraft[plots]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError, MissingDependencyError
from entrocraft.runs import RunDirectory
from entrocraft.schedules import Band, Schedule

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependencyError("pictures need matplotlib: pip install 'entrocraft[plots]'") from error

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b7791f", "#c53030")
_TARGET = "#4a5568"


def draw_schedule(
    schedule: Schedule | Band,
    total_steps: int,
    observed: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a schedule or a band, with the `observed` entropies of steps 1, 2, ... if given."""
    if ax is None:
        ax = Figure(figsize=(7, 3.5), layout="constrained").add_subplot()
    steps = range(total_steps + 1)
    if isinstance(schedule, Band):
        lower, upper = zip(*schedule.values(total_steps), strict=True)
        ax.fill_between(steps, lower, upper, color=_TARGET, alpha=0.2, linewidth=0, label="band")
        target = [schedule.target(step, total_steps) for step in steps]
    else:
        target = schedule.values(total_steps)
    ax.plot(steps, target, color=_TARGET, linestyle="--", label="target")
    if observed is not None:
        ax.plot(range(1, len(observed) + 1), observed, color=_COLOURS[0], label="measured")
    unit = "nats per token" if schedule.unit == "nats" else "multiples of the first"
    ax.set(xlabel="step", ylabel=f"entropy ({unit})", xlim=(0, total_steps))
    ax.legend(frameon=False)
    return ax


def draw_runs(runs: Sequence[RunDirectory], file: Path) -> None:
    """Draw runs over each other: entropy with target and band, over reward and held-out scores.

    Raises:
        InvalidValueError: A run has no steps yet, or the file's ending is no picture format.
    """
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    entropy_ax, reward_ax = figure.subplots(2, 1, sharex=True)
    for i, run in enumerate(runs):
        lines = run.step_metrics()
        if not lines:
            raise InvalidValueError(f"{run.path} has no steps to draw yet")
        _draw_run(entropy_ax, reward_ax, run, lines, _COLOURS[i % len(_COLOURS)], alone=len(runs) == 1)
    entropy_ax.set(ylabel="entropy (nats per token)", ylim=(0, None))
    reward_ax.set(xlabel="optimizer step", ylabel="reward, and held-out mean score", ylim=(0, None))
    for ax in (entropy_ax, reward_ax):
        ax.legend(frameon=False, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    write_picture(figure, file)


def write_picture(figure: Figure, file: Path) -> None:
    """Write `figure` to `file`, making its folder.

    Raises:
        InvalidValueError: The file's ending is no picture format.
    """
    formats = sorted(figure.canvas.get_supported_filetypes())
    if file.suffix.removeprefix(".") not in formats:
        raise InvalidValueError(
            f"cannot draw to {file}: expected an ending such as .png or .svg, of {', '.join(formats)}"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def _draw_run(
    entropy_ax: Axes, reward_ax: Axes, run: RunDirectory, lines: list[dict[str, Any]], colour: str, *, alone: bool
) -> None:
    name = run.path.name
    steps = [line["step"] for line in lines]
    steered = [line for line in lines if line["target"] is not None]
    if steered:
        at = [line["step"] for line in steered]
        lower, upper = ([line[edge] for line in steered] for edge in ("lower", "upper"))
        entropy_ax.fill_between(at, lower, upper, color=_TARGET if alone else colour, alpha=0.2, linewidth=0)
        entropy_ax.plot(
            at,
            [line["target"] for line in steered],
            color=_TARGET,
            linestyle="--",
            linewidth=1,
            label=f"{name}: target",
        )
    entropy_ax.plot(steps, [line["entropy"] for line in lines], color=colour, label=f"{name}: measured")

    rewarded = [line for line in lines if line["reward"] is not None]
    at, rewards = [line["step"] for line in rewarded], [line["reward"] for line in rewarded]
    reward_ax.plot(at, rewards, color=colour, alpha=0.25, linewidth=1)
    reward_ax.plot(at, _smooth(rewards), color=colour, label=f"{name}: training reward")
    evaluations = run.eval_metrics()
    if evaluations:
        key = next(key for key in evaluations[0] if key.startswith("eval/mean@") and key.count("/") == 1)
        means = [line[key] for line in evaluations]
        errors = [
            [mean - line[f"{key}/low"] for mean, line in zip(means, evaluations, strict=True)],
            [line[f"{key}/high"] - mean for mean, line in zip(means, evaluations, strict=True)],
        ]
        reward_ax.errorbar(
            [line["step"] for line in evaluations],
            means,
            yerr=errors,
            color=colour,
            fmt="o",
            capsize=3,
            label=f"{name}: held-out {key.removeprefix('eval/')}",
        )


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start."""
    smoothed, average, norm = [], 0.0, 0.0
    for value in values:
        average, norm = weight * average + (1 - weight) * value, weight * norm + (1 - weight)
        smoothed.append(average / norm)
    return smoothed
