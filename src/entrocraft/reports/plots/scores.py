"""Scores of evaluations: pass@k and majority@k over k."""

from collections.abc import Mapping, Sequence

from entrocraft.evaluation.scores import with_intervals
from entrocraft.reports.plots.style import COLOURS, Figure


def draw_pass_at_k(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw pass@k with its interval, and majority@k, over k for each model.

    Args:
        values: For each model, each measure's values per problem; see `measures_of`.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    for i, (model, measures) in enumerate(values.items()):
        colour = COLOURS[i % len(COLOURS)]
        for kind, style in (("pass", "-"), ("majority", ":")):
            curve = {int(name.split("@")[1]): name for name in measures if name.startswith(f"{kind}@")}
            if not curve:
                continue
            ks = sorted(curve)
            scores = with_intervals({curve[k]: measures[curve[k]] for k in ks})
            if kind == "pass":
                low, high = ([scores[f"{curve[k]}/{edge}"] for k in ks] for edge in ("low", "high"))
                ax.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(ks, [scores[curve[k]] for k in ks], style, marker="o", color=colour, label=f"{model}: {kind}@k")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set(xlabel="k", ylabel="chance of a right answer", ylim=(0, None))
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
