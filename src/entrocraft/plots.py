"""All pictures. Needs matplotlib: `pip install entrocraft[plots]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entrocraft.diagnosis import Diagnosis
from entrocraft.dynamics import QUADRANTS
from entrocraft.errors import InvalidValueError, MissingDependencyError
from entrocraft.explanation import Explanation
from entrocraft.runs import RunDirectory
from entrocraft.schedules import Band, Schedule

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependencyError("pictures need matplotlib: pip install 'entrocraft[plots]'") from error

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b7791f", "#c53030")
_TARGET = "#4a5568"
_QUADRANT_COLOURS = dict(zip(QUADRANTS, ("#2b6cb0", "#90cdf4", "#c05621", "#fbd38d"), strict=True))
_LIKELIHOOD_LIMITS = (-8.0, 4.0)  # nats per token; a baseline runs to -inf and inf where p goes to 1 and 0


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


def draw_diagnosis(diagnosis: Diagnosis, title: str) -> Figure:
    """Draw what was found before training: likelihood, agreement, the parts of the change, the quadrants."""
    figure = Figure(figsize=(10, 8.5), layout="constrained")
    figure.suptitle(title)
    (likelihood_ax, agreement_ax), (parts_ax, quadrants_ax) = figure.subplots(2, 2)
    _draw_likelihood(likelihood_ax, diagnosis)
    _draw_agreement(agreement_ax, diagnosis)
    parts = diagnosis.parts
    for y, (size, net) in enumerate(((parts.local_size, parts.local), (parts.visitation_size, parts.visitation))):
        parts_ax.barh(y + 0.2, size, height=0.4, color=_COLOURS[0], label="sum of sizes" if y == 0 else None)
        parts_ax.barh(y - 0.2, net, height=0.4, color=_COLOURS[1], label="net" if y == 0 else None)
    parts_ax.set_yticks([0, 1], ["local", "visitation"])
    parts_ax.axvline(0, color=_TARGET, linewidth=0.8)
    parts_ax.set(
        title=f"Visitation is {parts.ratio:.1f} times the local part by size",
        xlabel="change of entropy (nats per token per unit step)",
    )
    flat = diagnosis.quadrants.to_dict()
    names = [name.replace("_", ",\n") for name in QUADRANTS]
    colours = [_QUADRANT_COLOURS[name] for name in QUADRANTS]
    bars = quadrants_ax.bar(names, [flat[f"{name}_contribution"] for name in QUADRANTS], color=colours)
    quadrants_ax.bar_label(
        bars, [f"{flat[f'{name}_share']:.0%} of tokens" for name in QUADRANTS], padding=2, fontsize=9
    )
    quadrants_ax.axhline(0, color=_TARGET, linewidth=0.8)
    quadrants_ax.margins(y=0.15)
    quadrants_ax.set(
        title=f"Quadrants: {diagnosis.quadrants.total:+.4f} in all",
        ylabel="local change (nats per token per unit step)",
    )
    for ax in (likelihood_ax, agreement_ax, parts_ax, quadrants_ax):
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(11)
    for ax in (likelihood_ax, agreement_ax, parts_ax):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=9)
    return figure


def _draw_likelihood(ax: Axes, diagnosis: Diagnosis) -> None:
    """One point per rollout, the paper's Fig. 2a (above the line or below) and 2b (correct to the right of wrong)."""
    low, high = _LIKELIHOOD_LIMITS
    rollouts = list(zip(*(diagnosis.rollouts[name] for name in ("score", "log_likelihood", "baseline")), strict=True))
    num_clipped = sum(not (low <= x <= high and low <= y <= high) for _, x, y in rollouts)
    for name, colour, is_correct in (("wrong", _COLOURS[1], False), ("correct", _COLOURS[0], True)):
        points = [(x, y) for score, x, y in rollouts if (score > 0.5) == is_correct]
        ax.scatter(
            [min(max(y, low), high) for _, y in points],
            [min(max(x, low), high) for x, _ in points],
            s=12,
            alpha=0.5,
            color=colour,
            linewidth=0,
            label=name,
        )
    ax.plot([low, high], [low, high], color=_TARGET, linestyle="--", linewidth=1, label="equal")
    ax.set(
        title=f"Log-likelihood against baseline ({num_clipped} of {len(rollouts)} drawn at the edge)",
        xlabel=f"output-space baseline (nats per token, clipped to {low:g} .. {high:g})",
        ylabel="log-likelihood (nats per token)",
        ylim=(max(low, min(x for _, x, _ in rollouts)) - 0.3, 0.2),
    )


def _draw_agreement(ax: Axes, diagnosis: Diagnosis) -> None:
    """Estimated over exact change, coloured by the advantage: rule `advantage` takes the colour for the side."""
    rollouts = diagnosis.rollouts
    for name, colour, sign in (("A < 0", _COLOURS[1], -1), ("A > 0", _COLOURS[0], 1)):
        rows = [i for i, advantage in enumerate(rollouts["advantage"]) if advantage * sign > 0]
        exact, estimated = ([1000 * rollouts[key][i] for i in rows] for key in ("exact", "estimate"))
        ax.scatter(exact, estimated, s=12, alpha=0.6, color=colour, linewidth=0, label=name)
    for line in (ax.axhline, ax.axvline):
        line(0, color=_TARGET, linewidth=0.8)
    shares = ", ".join(f"{name} {agreement.by_size:.0%}" for name, agreement in diagnosis.agreement.items())
    ax.set(
        title=f"Right sign by size: {shares or 'no change'}",
        xlabel="exact local change of a rollout (1e-3 nats per token)",
        ylabel="its estimate (1e-3)",
    )


def draw_explanation(explanation: Explanation, lines: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw why entropy moved: entropy with its band, what the kept tokens did, and what was rejected.

    Args:
        explanation: Of the lines.
        lines: The optimizer-step lines of the run.
        title: Above all.
    """
    figure = Figure(figsize=(9, 9), layout="constrained")
    figure.suptitle(title)
    entropy_ax, kept_ax, rejected_ax = figure.subplots(3, 1, sharex=True)
    _draw_band(entropy_ax, lines, "target", _TARGET)
    entropy_ax.plot(
        [line["step"] for line in lines], [line["entropy"] for line in lines], color=_COLOURS[0], label="measured"
    )
    filtered = [line for line in lines if line.get("filtered_entropy") is not None]
    if filtered:
        at, values = [line["step"] for line in filtered], [line["filtered_entropy"] for line in filtered]
        entropy_ax.plot(at, values, color=_COLOURS[1], linewidth=1, label="as the controller reads it")
    entropy_ax.set(ylabel="entropy (nats per token)")
    _stack(kept_ax, explanation.steps, explanation.kept)
    kept_ax.plot(explanation.steps, explanation.drift, color=_TARGET, linestyle="--", linewidth=1, label="drift")
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
        colour = _QUADRANT_COLOURS[name]
        ax.bar(steps, tops, bottom=above, width=1.0, color=colour, label=name.replace("_", ", "))
        ax.bar(steps, bottoms, bottom=below, width=1.0, color=colour)
        above = [a + v for a, v in zip(above, tops, strict=True)]
        below = [b + v for b, v in zip(below, bottoms, strict=True)]
    sums = [a + b for a, b in zip(above, below, strict=True)]
    ax.plot(steps, sums, color="black", linewidth=1.2, label="sum")
    ax.axhline(0, color=_TARGET, linewidth=0.8)


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
    _draw_band(entropy_ax, lines, f"{name}: target", _TARGET if alone else colour)
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


def _draw_band(ax: Axes, lines: Sequence[Mapping[str, Any]], label: str, colour: str) -> None:
    """Draw target and band of the steps that had one."""
    steered = [line for line in lines if line["target"] is not None]
    if not steered:
        return
    at = [line["step"] for line in steered]
    lower, upper = ([line[edge] for line in steered] for edge in ("lower", "upper"))
    ax.fill_between(at, lower, upper, color=colour, alpha=0.2, linewidth=0)
    ax.plot(at, [line["target"] for line in steered], color=_TARGET, linestyle="--", linewidth=1, label=label)


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start."""
    smoothed, average, norm = [], 0.0, 0.0
    for value in values:
        average, norm = weight * average + (1 - weight) * value, weight * norm + (1 - weight)
        smoothed.append(average / norm)
    return smoothed
