"""What it helps to model the optimizer's memory, and to look ahead: the default method with and without.

    python benchmarks/foresight.py --output results/tracking

Runs go to foresight.jsonl, one line each, and are not repeated; the whole method's own runs, and those of method
`predicted`, which models nothing, are read from tracking.py's countdown.jsonl. The table goes to foresight.md.
"""

import argparse
from functools import partial
from pathlib import Path
from unittest import mock

from tracking import train_countdown
from tracking_cells import Cells
from tracking_summary import scored, spread

from entrocraft.control.methods import token
from entrocraft.control.planning.plant import EntropyPlant

CURVES = {"linear": "linear(0.6, 0.45)", "steps": "steps([[0, 0.6], [0.3, 0.5], [0.65, 0.6]])"}


def forgetful(num_terms, momentum, **options):
    """Return a plant that takes each update to act at once."""
    return EntropyPlant(num_terms, momentum=0.0, **options)


VARIANTS = {"no memory of the optimizer": forgetful, "one step ahead": partial(EntropyPlant, horizon=1)}


def main():
    """Run the cells that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    cells = Cells(args.output / "foresight.jsonl")
    for seed in args.seeds:
        for curve, schedule in CURVES.items():
            for variant, plant in VARIANTS.items():
                key = {"curve": curve, "rule": variant, "seed": seed}
                if cells.missing(**key):
                    with mock.patch.object(token, "EntropyPlant", plant):
                        cells.add(key | train_countdown(schedule, {"method": "token"}, seed))
    rows = cells.rows + Cells(args.output / "countdown.jsonl").rows
    (args.output / "foresight.md").write_text(table(rows))


def table(rows):
    """Return the table as Markdown."""
    text = "| curve | method `token` | mean error | 95th percentile | in band, % | tokens kept, % | seeds |\n"
    text += "|---|---|---|---|---|---|---|\n"
    for curve in CURVES:
        for rule, name in {"token": "whole", **{v: v for v in VARIANTS}, "predicted": "(method `predicted`)"}.items():
            scores = [scored(row) for row in rows if row["curve"] == curve and row["rule"] == rule]
            if scores:
                shown = [spread([score[key] for score in scores], *style) for key, style in MEASURES.items()]
                text += f"| {curve} | {name} | {' | '.join(shown)} | {len(scores)} |\n"
    return text


MEASURES = {"mean_error": (1, 4), "p95_error": (1, 3), "in_band": (100, 0), "kept": (100, 0)}


if __name__ == "__main__":
    main()
