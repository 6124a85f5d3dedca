"""Whether GRPO saturates in a long run of the embedded model, and what a curve changes.

    python benchmarks/saturation.py run --output results/saturation
    python benchmarks/saturation.py summary --output results/saturation    # table and picture from what is there

400 steps of 64 prompts x 8 rollouts, scored on the same 400 held-out problems every 50 steps: 32 answers each at
temperature 1, and at 0.6 with top-p 0.95 as in the paper. Each run, one method with one seed, becomes a line of
runs.jsonl as soon as it is done; runs that are there are not made again, so the benchmark can be stopped and resumed,
and split over processes by --seeds and --methods.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

from tracking import countdown_run
from tracking_cells import Cells
from tracking_summary import spread

from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.measures import correct_by_problem
from entrocraft.evaluation.samplers import TransformersSampler
from entrocraft.evaluation.scores import correctness
from entrocraft.models.sampling import SamplingConfig

STEPS, EVERY = 400, 50
KS = (1, 8, 32)
SCORES = ("mean@32", "pass@8", "pass@32")
COLUMNS = ("entropy", "target", "kept_token_fraction", "reward")
PAPER = {"temperature": 0.6, "top_p": 0.95}
TEMPERATURES = ("at 1", "at 0.6")
PANELS = (("at 0.6", "mean@32"), ("at 1", "mean@32"), ("at 0.6", "pass@32"))
SETTINGS = [
    f"train.steps={STEPS}",
    f"train.save_every={EVERY}",
    f"train.trl.save_total_limit={STEPS // EVERY}",
    f"eval.every={EVERY}",
    "eval.num_problems=400",
]
LINE = "linear(1.0, 0.3, unit='initial')"
METHODS = {
    "grpo": {"method": "none", "schedule": LINE},
    "curve": {"method": "token", "schedule": LINE},
    "held": {"method": "token", "schedule": "constant(1.0, unit='initial')"},
    "entropic": {"method": "entropic", "schedule": LINE},
}


def main():
    """Make the runs that are missing, or sum up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "summary"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    runs = Cells(args.output / "runs.jsonl")
    if args.what == "run":
        for method in args.methods:
            for seed in args.seeds:
                if runs.missing(method=method, seed=seed):
                    runs.add({"method": method, "seed": seed} | trained(METHODS[method], seed))
    else:
        (args.output / "table.md").write_text(table(runs.rows))
        draw(runs.rows, args.output / "saturation.png")


def trained(control, seed):
    """Return what one run did, step by step, and its scores at each checkpoint."""
    with countdown_run(control, seed, SETTINGS) as (config, run):
        lines, evaluated = run.step_metrics(), run.eval_metrics()
        task = config.task.build()
        problems = task.problems("test", config.eval.num_problems)
        steps = range(EVERY, STEPS + 1, EVERY)
        models = [config.model, *(str(run.checkpoints / f"checkpoint-{step}") for step in steps)]
        return {name: [round(line[name], 4) for line in lines] for name in COLUMNS} | {
            "steps": [line["step"] for line in evaluated],
            "at 1": {name: [round(line[f"eval/{name}"], 4) for line in evaluated] for name in SCORES},
            "at 0.6": columns([scores(model, task, problems) for model in models]),
        }


def scores(model, task, problems):
    """Return mean@32 and pass@k of a checkpoint, drawn as in the paper."""
    config = SamplingConfig(num_samples=KS[-1], **PAPER)
    samples = evaluate(partial(TransformersSampler.load, model), task, problems, config, with_answers=False)
    values = correctness(correct_by_problem(samples), KS)
    return {name: round(statistics.fmean(values[name]), 4) for name in SCORES}


def columns(rows):
    """Return rows as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def lines_of(rows, cells_of):
    """Return a line of Markdown for each method that has rows at each temperature, with the cells of its rows there."""
    text = ""
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        for temperature in TEMPERATURES if mine else ():
            text += f"| {method} | {temperature.removeprefix('at ')} | {' | '.join(cells_of(mine, temperature))} |\n"
    return text


def table(rows):
    """Return scores at their best and at the end, over seeds, as Markdown."""

    def cells(rows, temperature):
        means = [row[temperature]["mean@32"] for row in rows]
        passes = [row[temperature]["pass@32"] for row in rows]
        best_steps = [row["steps"][mean.index(max(mean))] for row, mean in zip(rows, means, strict=True)]
        return [
            spread([mean[0] for mean in means]),
            spread([max(mean) for mean in means]),
            ", ".join(map(str, best_steps)),
            spread([mean[-1] for mean in means]),
            spread([mean[-1] - max(mean) for mean in means]),
            spread([each[0] for each in passes]),
            spread([each[-1] for each in passes]),
            spread([statistics.fmean(row["entropy"][-10:]) for row in rows]),
            f"{100 * statistics.fmean(statistics.fmean(row['kept_token_fraction']) for row in rows):.0f}",
            str(len(rows)),
        ]

    text = "95 % intervals over seeds, on the same 400 held-out problems; `best` is the best of a run's evaluations, "
    text += "at the step beside it.\n\n"
    text += "| | temperature | mean@32, start | best | at step | end | end - best | pass@32, start | end "
    text += "| entropy, end | tokens kept, % | seeds |\n"
    text += "|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    return text + lines_of(rows, cells) + differences(rows)


def differences(rows):
    """Return by how much each method's scores exceed plain GRPO's with the same seed, over seeds, as Markdown."""
    grpo = {row["seed"]: row for row in rows if row["method"] == "grpo"}

    def above(row, temperature, name):
        pairs = zip(row[temperature][name], grpo[row["seed"]][temperature][name], strict=True)
        return [mine - plain for mine, plain in pairs]

    def cells(rows, temperature):
        gains = [[above(row, temperature, name) for row in rows] for name in SCORES]
        at_end = [spread([gain[-1] for gain in seeds]) for seeds in gains]
        return at_end + [spread([statistics.fmean(gain[1:]) for gain in seeds]) for seeds in gains]

    text = "\nAbove plain GRPO with the same seed, at the end, and on average over the evaluations after the first:\n\n"
    text += f"| | temperature | {', end | '.join(SCORES)}, end | {', average | '.join(SCORES)}, average |\n"
    text += "|---|---|---|---|---|---|---|---|\n"
    return text + lines_of([row for row in rows if row["method"] != "grpo" and row["seed"] in grpo], cells)


def draw(rows, path):
    """Draw entropy and scores of every method, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    entropy, *score = figure.subplots(1, 4)
    for color, method in zip(("0.4", "C0", "C1", "C3"), METHODS, strict=True):
        for i, row in enumerate(row for row in rows if row["method"] == method):
            style = {"color": color, "linewidth": 1.1, "label": None if i else method}
            entropy.plot(range(1, STEPS + 1), row["entropy"], **style)
            for axes, (temperature, name) in zip(score, PANELS, strict=True):
                axes.plot(row["steps"], row[temperature][name], **style)
    entropy.set_title("entropy, nats per token")
    for axes, (temperature, name) in zip(score, PANELS, strict=True):
        axes.set_title(f"{name} {temperature.replace('at', 'at T =')}")
    entropy.legend(frameon=False, fontsize=8)
    figure.supxlabel("step")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
