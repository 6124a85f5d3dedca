"""What was found before training; the paper's Fig. 2a and 2b among it."""

from entrocraft.analysis.diagnosis import Diagnosis
from entrocraft.reports.plots.explanation import QUADRANT_COLOURS
from entrocraft.reports.plots.style import COLOURS, TARGET, Axes, Figure
from entrocraft.runs.metrics import QUADRANTS

_LIKELIHOOD_LIMITS = (-8.0, 4.0)  # nats per token; a baseline runs to -inf and inf where p goes to 1 and 0


def draw_diagnosis(diagnosis: Diagnosis, title: str) -> Figure:
    """Draw what was found before training: likelihood, agreement, the parts of the change, the quadrants."""
    figure = Figure(figsize=(10, 8.5), layout="constrained")
    figure.suptitle(title)
    (likelihood_ax, agreement_ax), (parts_ax, quadrants_ax) = figure.subplots(2, 2)
    _draw_likelihood(likelihood_ax, diagnosis)
    _draw_agreement(agreement_ax, diagnosis)
    parts = diagnosis.parts
    for y, (size, net) in enumerate(((parts.local_size, parts.local), (parts.visitation_size, parts.visitation))):
        parts_ax.barh(y + 0.2, size, height=0.4, color=COLOURS[0], label="sum of sizes" if y == 0 else None)
        parts_ax.barh(y - 0.2, net, height=0.4, color=COLOURS[1], label="net" if y == 0 else None)
    parts_ax.set_yticks([0, 1], ["local", "visitation"])
    parts_ax.axvline(0, color=TARGET, linewidth=0.8)
    parts_ax.set(
        title=f"Visitation is {parts.ratio:.1f} times the local part by size",
        xlabel="change of entropy (nats per token per unit step)",
    )
    flat = diagnosis.quadrants.to_dict()
    names = [name.replace("_", ",\n") for name in QUADRANTS]
    colours = [QUADRANT_COLOURS[name] for name in QUADRANTS]
    bars = quadrants_ax.bar(names, [flat[f"{name}_contribution"] for name in QUADRANTS], color=colours)
    quadrants_ax.bar_label(
        bars, [f"{flat[f'{name}_share']:.0%} of tokens" for name in QUADRANTS], padding=2, fontsize=9
    )
    quadrants_ax.axhline(0, color=TARGET, linewidth=0.8)
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
    """Draw a point per rollout: the paper's Fig. 2a (which side of the line) and 2b (correct to the right of wrong)."""
    low, high = _LIKELIHOOD_LIMITS
    rollouts = list(zip(*(diagnosis.rollouts[name] for name in ("score", "log_likelihood", "baseline")), strict=True))
    num_clipped = sum(not (low <= x <= high and low <= y <= high) for _, x, y in rollouts)
    for name, colour, is_correct in (("wrong", COLOURS[1], False), ("correct", COLOURS[0], True)):
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
    ax.plot([low, high], [low, high], color=TARGET, linestyle="--", linewidth=1, label="equal")
    ax.set(
        title=f"Log-likelihood against baseline ({num_clipped} of {len(rollouts)} drawn at the edge)",
        xlabel=f"output-space baseline (nats per token, clipped to {low:g} .. {high:g})",
        ylabel="log-likelihood (nats per token)",
        ylim=(max(low, min(x for _, x, _ in rollouts)) - 0.3, 0.2),
    )


def _draw_agreement(ax: Axes, diagnosis: Diagnosis) -> None:
    """Draw estimated over exact change, coloured by the advantage: method `advantage` takes the colour for the side."""
    rollouts = diagnosis.rollouts
    for name, colour, sign in (("A < 0", COLOURS[1], -1), ("A > 0", COLOURS[0], 1)):
        rows = [i for i, advantage in enumerate(rollouts["advantage"]) if advantage * sign > 0]
        exact, estimated = ([1000 * rollouts[key][i] for i in rows] for key in ("exact", "estimate"))
        ax.scatter(exact, estimated, s=12, alpha=0.6, color=colour, linewidth=0, label=name)
    for line in (ax.axhline, ax.axvline):
        line(0, color=TARGET, linewidth=0.8)
    shares = ", ".join(f"{name} {agreement.by_size:.0%}" for name, agreement in diagnosis.agreement.items())
    ax.set(
        title=f"Right sign by size: {shares or 'no change'}",
        xlabel="exact local change of a rollout (1e-3 nats per token)",
        ylabel="its estimate (1e-3)",
    )
