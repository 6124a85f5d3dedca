"""What entropy control does on verl, run by its stock command on the CPU (see tests/verl).

python benchmarks/verl_engine.py tracking --output results/verl    # 60 steps on a line, three seeds; and with none
python benchmarks/verl_engine.py agreement --output results/verl   # one step of verl and of TRL on the same batch
python benchmarks/verl_engine.py update --output results/verl      # time of an update against what is kept
python benchmarks/verl_engine.py scale --output results/verl       # decision and assignment, at many rollouts and ranks
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/verl"))

from launch import make_assets, run_verl  # noqa: E402

ACTOR = "actor_rollout_ref.actor"
# As in benchmarks/tracking.py with TRL, the optimizer's settings included.
BATCH = [
    "data.train_batch_size=128",
    "actor_rollout_ref.rollout.n=4",
    f"{ACTOR}.ppo_mini_batch_size=128",
    f"{ACTOR}.ppo_max_token_len_per_gpu=8192",
    f"{ACTOR}.optim.lr=1.2e-4",
    f"{ACTOR}.optim.betas=[0.9,0.95]",
    f"{ACTOR}.optim.weight_decay=0.0",
]
CURVE = "linear(0.6, 0.45)"
STEPS = 60


def main():
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["tracking", "agreement", "update", "scale"])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    {"tracking": tracking, "agreement": agree, "update": update, "scale": scale}[args.part](args.output)


def tracking(output):
    """Follow a line on verl with three seeds, and draw it beside a run without control; what is there is kept."""
    controlled = ["trainer.v1.trainer_mode=entrocraft_sync", f"+entrocraft.schedule='{CURVE}'"]
    file = output / "tracking.json"
    wanted = {f"seed {seed}": (controlled, seed) for seed in range(3)} | {"no control": ([], 0)}
    done = json.loads(file.read_text())["runs"] if file.exists() else {}
    runs = {name: done[name] for name in wanted if name in done}
    for name, (overrides, seed) in wanted.items():
        if name not in runs:
            runs[name] = followed(overrides, seed)
            file.write_text(json.dumps({"figures": figures_of(runs), "runs": runs}) + "\n")
    print(json.dumps(figures_of(runs), indent=1))
    draw(runs, output / "tracking.png")


def followed(overrides, seed):
    """Return what one run did, step by step."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        assets = make_assets(folder, num_problems=4096, seed=seed)
        run = run_verl(assets, folder / "run", *BATCH, f"data.seed={seed}", *overrides, steps=STEPS, seconds=3000)
    if run.status:
        raise SystemExit(run.text[-3000:])
    columns = {
        "entropy": "actor/entropy",
        "reward": "critic/rewards/mean",
        "seconds_update": "timing_s/update_actor",
        "seconds_step": "timing_s/step",
    }
    if overrides:
        columns |= {name: f"entrocraft/{name}" for name in ("target", "kept_fraction", "kept_token_fraction")}
    return {name: [round(value, 4) for value in run.column(column)] for name, column in columns.items()}


def figures_of(runs):
    """Return how closely the runs that are there followed the line."""
    figures = {"curve": CURVE}
    targets = runs["seed 0"]["target"]
    for name, run in runs.items():
        errors = [abs(entropy - target) for entropy, target in zip(run["entropy"], targets, strict=True)]
        figures[name] = {
            "mean_error": round(statistics.fmean(errors), 4),
            "largest_error": round(max(errors), 4),
            "share_within_0.03": round(statistics.fmean(error <= 0.03 for error in errors), 3),
            "tokens_kept": round(statistics.fmean(run.get("kept_token_fraction", [1.0])), 3),
        }
    return figures


def agree(output):
    """Compare one step of verl with the same step of TRL, for four methods, on one rank and on two."""
    from agreeing import agreement

    table = {}
    with tempfile.TemporaryDirectory() as folder:
        assets = make_assets(Path(folder))
        for method in ("advantage", "budget", "token", "aligned"):
            for ranks in (1, 2):
                name = f"{method}, {ranks} rank{'s' * (ranks > 1)}"
                table[name] = agreement(assets, Path(folder) / name.replace(", ", "_"), method, ranks)
    (output / "agreement.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


def draw(runs, file):
    """Draw entropy with and without control, and the target that it followed."""
    from entrocraft.reports.plots.style import COLOURS, TARGET, Figure, write_picture

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    steps = range(1, STEPS + 1)
    ax.plot(steps, runs["seed 0"]["target"], color=TARGET, linestyle="--", label="target")
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        ax.plot(steps, run["entropy"], color=colour, label=name)
    ax.set(xlabel="step", ylabel="entropy (nats per token)", ylim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    write_picture(figure, file)


def update(output):
    """Time the same update three ways on the same batches: stock, rejected rollouts masked, and dropped."""
    from verl_on_cpu.watching import COMPARED

    half = {"lower": 4.0, "upper": 5.0, "method": "advantage"}
    variants = {
        "stock": {"lower": 0.0, "upper": 9.0, "method": "advantage"},
        "mask": half | {"rejected": "mask"},
        "drop": half | {"rejected": "drop"},
    }
    table = {}
    for ranks in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            run = run_verl(
                make_assets(folder, num_problems=1024),
                folder / "run",
                *BATCH,
                "trainer.v1.trainer_mode=entrocraft_sync",
                "+entrocraft={lower: 0.0, upper: 9.0}",
                f"{ACTOR}.optim.lr=0.0",
                steps=9,
                ranks=ranks,
                seconds=1500,
                **{COMPARED: json.dumps(variants)},
            )
        if run.status:
            raise SystemExit(run.text[-3000:])
        warm = run.steps[1:]
        table[f"{ranks} rank{'s' * (ranks > 1)}"] = {
            "tokens_kept": statistics.median(step["drop/entrocraft/kept_token_fraction"] for step in warm),
        } | {
            f"{name}_over_stock": [round(step[f"{name}/seconds"] / step["stock/seconds"], 3) for step in warm]
            for name in ("mask", "drop")
        }
    for row in table.values():
        row |= {f"median_{name}": statistics.median(row[f"{name}_over_stock"]) for name in ("mask", "drop")}
    (output / "update.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


def scale(output):
    """Time the decision on the driver, the assignment of what is kept, and what each process pays for the plugin."""
    from entrocraft import Band, BatchStats
    from entrocraft.control.planning.ranking import binned
    from entrocraft.controllers import build
    from entrocraft.engines.verl.mini_batches import assign

    table = {"plugin_milliseconds": plugin_cost(), "decision_seconds_per_million_tokens": token_cost()}
    print(json.dumps(table, indent=1), flush=True)
    for num_rollouts, num_ranks in ((8192, 64), (1_048_576, 1024)):
        generator = torch.Generator().manual_seed(0)
        advantages = torch.randn(num_rollouts, generator=generator)
        change = torch.randn(num_rollouts, generator=generator)
        row = {}
        for method in ("advantage", "predicted", "budget", "token"):
            controller = build(method, Band(lower=0.0, upper=0.1))
            start = time.perf_counter()
            controller.decide(
                BatchStats(
                    step=1,
                    total_steps=100,
                    entropy=0.5,
                    advantages=advantages,
                    predicted_change=change,
                    reading=binned(change),
                    num_tokens=torch.full((num_rollouts,), 1000),
                )
            )
            row[f"decide_{method}_seconds"] = round(time.perf_counter() - start, 4)
        lengths = torch.randint(100, 8000, (num_rollouts,), generator=generator).tolist()
        kept = (advantages > 0).nonzero().flatten().tolist()
        start = time.perf_counter()
        assign(lengths, kept, mini_batch_size=num_rollouts // 4, num_ranks=num_ranks)
        row["deal_seconds"] = round(time.perf_counter() - start, 3)
        # Log-probabilities, entropies, advantages, rewards in 4 bytes a token, two masks in 8.
        row["megabytes_to_the_driver_at_1000_tokens"] = round(num_rollouts * 1000 * 32 / 1e6, 1)
        # A rank of TRL's sends, for each rollout, sum, count, advantage, prediction and reward.
        row["megabytes_gathered_by_trl"] = round(num_rollouts * 40 / 1e6, 1)
        table[f"{num_rollouts} rollouts, {num_ranks} ranks"] = row
        print(json.dumps(row, indent=1), flush=True)
    (output / "scale.json").write_text(json.dumps(table, indent=1) + "\n")


def token_cost(num_rollouts=8192, num_tokens=512):
    """Return what a whole decision, predictions and quadrants included, takes on the driver, per million tokens."""
    from entrocraft.control import EntropyControl
    from entrocraft.engines.decider import Decider
    from entrocraft.engines.ranks import OneRank
    from entrocraft.engines.rollouts import Rollouts
    from entrocraft.engines.tokens import TokenStats

    generator = torch.Generator().manual_seed(0)
    log_probs_BT = -torch.rand(num_rollouts, num_tokens, generator=generator) * 3
    entropy_BT = torch.rand(num_rollouts, num_tokens, generator=generator)
    advantages_BT = torch.randn(num_rollouts, 1, generator=generator).expand_as(entropy_BT)
    seconds = {}
    for method in ("advantage", "budget", "token"):
        control = EntropyControl(schedule=0.3, method=method)
        decider = Decider(control.build(), control, OneRank(), by_rollout=False)
        rollouts = Rollouts(
            stats=TokenStats(log_probs_BT, entropy_BT),
            advantages=advantages_BT,
            mask_BT=torch.ones_like(entropy_BT).long(),
        )
        start = time.perf_counter()
        decider.decide(rollouts, step=1, total_steps=100, groups=torch.arange(num_rollouts) // 8)
        seconds[method] = round((time.perf_counter() - start) / (num_rollouts * num_tokens / 1e6), 3)
    return seconds


def plugin_cost():
    """Return what a process pays for the plugin when it imports verl, in milliseconds, the median of ten."""
    code = "import time; t = time.perf_counter(); import entrocraft.engines.verl.plugin; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(10)
    ]
    return round(1000 * statistics.median(times), 1)


if __name__ == "__main__":
    main()
