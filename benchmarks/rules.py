"""How closely each rule follows the demo's curve on the embedded model, over several seeds.

Every run is `entrocraft train recipes/countdown.yaml` with one override; runs that are there are resumed.

    python benchmarks/rules.py --output results/rules
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from entrocraft.runs import RunDirectory
from entrocraft.tracking import summarise_tracking

ROOT = Path(__file__).parents[1]
CASES = {"none": "control=null", "advantage": "control.rule=advantage", "predicted": "control.rule=predicted"}


def main():
    """Train every case and write the summary and the metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/rules", help="Where the runs themselves go.")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(args.seeds):
        for case, override in CASES.items():
            run = RunDirectory(args.runs / f"{case}-{seed}")
            command = [sys.executable, "-m", "entrocraft.cli", "train", str(ROOT / "recipes/countdown.yaml"), override]
            options = [f"seed={seed}", "--output", str(run.path), "--resume"]
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
            lines, tracking = run.step_metrics(), summarise_tracking(run.step_metrics())
            row = {
                "rule": case,
                "seed": seed,
                "entropy": [round(line["entropy"], 4) for line in lines],
                "kept": [round(line["kept_fraction"], 3) for line in lines],
                "last_eval": {k.removeprefix("eval/"): round(v, 4) for k, v in run.eval_metrics()[-1].items()},
            }
            if tracking is not None:
                row |= {"mean_error": round(tracking.mean_error, 4), "p95_error": round(tracking.p95_error, 4)}
                row |= {"in_band": round(tracking.in_band, 3), "kept_fraction": round(tracking.kept_fraction, 3)}
                row["target"] = [round(line["target"], 4) for line in lines]
            rows.append(row)
            print(case, seed, {k: v for k, v in row.items() if not isinstance(v, list)}, flush=True)
            record = {
                "command": "python benchmarks/rules.py --output results/rules",
                "rows": rows,
                "summary": summary(rows),
            }
            (args.output / "rules.json").write_text(json.dumps(record) + "\n")


def summary(rows):
    """Return mean and standard deviation over seeds of what matters, per rule."""
    table = {}
    for case in CASES:
        of_case = [row for row in rows if row["rule"] == case]
        if not of_case:
            continue
        columns = {
            "last_entropy": [statistics.fmean(row["entropy"][-5:]) for row in of_case],
            "mean@32": [row["last_eval"]["mean@32"] for row in of_case],
            "pass@32": [row["last_eval"]["pass@32"] for row in of_case],
        }
        if case != "none":
            columns |= {name: [row[name] for row in of_case] for name in ("mean_error", "in_band", "kept_fraction")}
        table[case] = {"seeds": len(of_case)} | {
            name: {"mean": round(statistics.fmean(v), 4), "sd": round(statistics.stdev(v), 4) if len(v) > 1 else None}
            for name, v in columns.items()
        }
    return table


if __name__ == "__main__":
    main()
