"""Choose the problems of recipes/study/hard_tail.yaml: one half the base model solves often, the other hardly ever.

Each Countdown problem is asked 64 times at temperature 1. Easy is what was right 20 to 44 times, hard what was right 1
to 3 times; everything between and beyond is left out. Chosen once, by the base model alone, and then kept.

    python scripts/choose_hard_tail.py --output recipes/study/hard_tail    # some 15 minutes on one idle core
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from entrocraft.models import load_model, load_tokenizer
from entrocraft.models.sampling import SamplingConfig, sample_answers
from entrocraft.runs import model_path_of
from entrocraft.tasks import Countdown, Problem, Split

NUM_SAMPLES = 64
EASY, HARD = range(20, 45), range(1, 4)  # times right of NUM_SAMPLES
ASKED: dict[Split, int] = {"train": 12_000, "test": 1_800}  # problems at most
EACH = {"train": 1024, "test": 150}  # problems of each half
PART = 200  # problems asked at a time


def times_right(
    task: Countdown, problems: list[Problem], model: Any, tokenizer: Any, seed: int
) -> Iterator[tuple[Problem, int]]:
    """Yield each problem with how often it was answered rightly."""
    config = SamplingConfig(num_samples=NUM_SAMPLES, temperature=1.0, batch_size=1024)
    for start in range(0, len(problems), PART):
        part = problems[start : start + PART]
        texts = [
            text
            for batch in sample_answers(model, tokenizer, part, config, task.max_completion_tokens, seed + start)
            for text in batch.texts
        ]
        for i, problem in enumerate(part):
            answers = texts[i * NUM_SAMPLES : (i + 1) * NUM_SAMPLES]
            yield problem, int(sum(task.score(answer, problem) for answer in answers))


def main() -> None:
    """Ask, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    task, source = Countdown(), model_path_of("countdown-base")
    model, tokenizer = load_model(source).eval(), load_tokenizer(source)
    for split, asked in ASKED.items():
        if (folder / ("train.jsonl" if split == "train" else "hard.jsonl")).exists():
            continue  # chosen once
        chosen: dict[str, list[Problem]] = {"easy": [], "hard": []}
        for problem, right in times_right(task, task.problems(split, asked), model, tokenizer, seed=0):
            for half, times in (("easy", EASY), ("hard", HARD)):
                if right in times and len(chosen[half]) < EACH[split]:
                    chosen[half].append(problem | {"half": half, "right": right})
            if all(len(rows) == EACH[split] for rows in chosen.values()):
                break
        short = {half: len(rows) for half, rows in chosen.items() if len(rows) < EACH[split]}
        if short:
            raise SystemExit(f"{split}: {asked} problems gave {short}, and {EACH[split]} of each half are wanted")
        # Training takes both halves as one; what is held out is scored apart.
        files = {"train": chosen["easy"] + chosen["hard"]} if split == "train" else chosen
        for name, rows in files.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(split, {half: len(rows) for half, rows in chosen.items()}, flush=True)


if __name__ == "__main__":
    main()
