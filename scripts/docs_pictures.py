"""Draw the pictures of docs/concepts.md from the library's own functions: `python scripts/docs_pictures.py`.

They are committed, so that the page can be read where nothing is built.
"""

import json
import sys
from pathlib import Path

import matplotlib
import torch

import entrocraft as ec
from entrocraft.reports.plots.style import COLOURS, Figure

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
matplotlib.rcParams.update({"svg.hashsalt": "entrocraft", "svg.fonttype": "none", "font.family": "sans-serif"})


def entropy() -> Figure:
    """Return three distributions of a next token, with their entropies."""
    distributions = {
        "certain": [0.97, 0.01, 0.01, 0.005, 0.005],
        "between": [0.60, 0.25, 0.10, 0.04, 0.01],
        "undecided": [0.2] * 5,
    }
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    for ax, (name, p) in zip(figure.subplots(1, 3, sharey=True), distributions.items(), strict=True):
        nats = ec.token_entropy(torch.tensor(p).log()[None, None]).item()
        ax.bar(["a", "b", "c", "d", "e"], p, color=COLOURS[0])
        ax.set(title=f"{name}: {nats:.2f} nats", xlabel="next token", ylim=(0, 1))
    figure.axes[0].set_ylabel("probability")
    return figure


def shapes() -> Figure:
    """Return six shapes of a curve."""
    curves = {
        "linear(0.6, 0.2)": ec.linear(0.6, 0.2),
        "cosine(0.6, 0.2)": ec.cosine(0.6, 0.2),
        "exponential(0.6, 0.2)": ec.exponential(0.6, 0.2),
        "steps(...)": ec.steps([(0.0, 0.6), (0.33, 0.4), (0.67, 0.2)]),
        "cyclic(0.5, 0.3)": ec.cyclic(0.5, 0.3),
        "piecewise(...), drawn": ec.piecewise([(0.0, 0.4), (0.2, 0.6), (0.6, 0.3), (1.0, 0.25)], kind="monotone"),
    }
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    for ax, (name, curve) in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, curves.items(), strict=True):
        ax.plot([i / 100 for i in range(101)], curve.values(100), color=COLOURS[0])
        ax.set(title=name, ylim=(0, 0.7))
        ax.title.set_fontsize(9)
    figure.supxlabel("share of the run", fontsize=9)
    figure.supylabel("entropy, nats per token", fontsize=9)
    return figure


def band() -> Figure:
    """Return the demo's curve with its band and what was measured."""
    run = ROOT / "results" / "demo" / "entrocraft"
    control = json.loads((run / "config.json").read_text())["control"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [line["entropy"] for line in lines if "entropy" in line]
    relative = ec.Band(ec.schedule_from(control["schedule"]), width=control["width"])
    # In nats: multiples of the entropy that the run measured at its first step.
    start, steps = measured[0], len(measured)
    edges = [[start * edge for edge in relative(step, steps)] for step in (0, steps)]
    nats = ec.Band(lower=ec.linear(edges[0][0], edges[1][0]), upper=ec.linear(edges[0][1], edges[1][1]))
    figure = Figure(figsize=(7, 3), layout="constrained")
    ec.plot(nats, steps, observed=measured, ax=figure.add_subplot())
    return figure


def quadrants() -> Figure:
    """Return the predicted change of entropy for each token of one distribution, rewarded and punished."""
    p = torch.tensor([0.60, 0.25, 0.10, 0.04, 0.01])
    labels = [f"{x:.0%}" for x in p.tolist()]
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for ax, (name, advantage) in zip(
        figure.subplots(1, 2, sharey=True), {"rewarded": 1.0, "punished": -1.0}.items(), strict=True
    ):
        sensitivity = ec.entropy_sensitivity(p.log().expand(1, 5, 5), torch.arange(5)[None])[0]
        change = (-advantage * sensitivity).tolist()
        ax.bar(labels, change, color=[COLOURS[2] if x > 0 else COLOURS[5] for x in change])
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(title=f"the token is {name}", xlabel="probability of the token")
    figure.axes[0].set_ylabel("predicted change\nof entropy")
    return figure


def main(folder: Path = PICTURES) -> None:
    """Write all pictures to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (entropy, shapes, band, quadrants):
        draw().savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
