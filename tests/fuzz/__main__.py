"""`python -m fuzz`: all targets or some, as many cases of each as are asked for, and a table of what became of them.

PYTHONPATH=tests python -m fuzz [TARGET ...] [--cases 100000] [--commands 2000] [--seed 0] --output fuzz.json

Rows without a fault that the output has already, of the same seed and number, are not made again. The exit status is 1
if there is a fault; its case, made small, is written to the corpus.
"""

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fuzz import corpus, runner, shrink
from fuzz.target import Target

TARGETS = (
    *("configs", "schedule_strings", "steering_files", "run_directories", "record_files", "data_files"),
    *("completions", "model_folders", "commands"),
)
_COLUMNS = ("target", "tried", "accepted", "refused", "traceback", "unbounded", "silently_wrong", "seconds")
_MOST_SAVED = 3  # cases of one kind of fault


_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # what is no file here shall not be looked for elsewhere
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def target_of(name: str) -> Target:
    """Return a target by the name of its module."""
    target: Target = import_module(f"fuzz.{name}").TARGET
    return target


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--cases", type=int, default=100_000, help="cases of each target but commands")
    parser.add_argument("--commands", type=int, default=2_000, help="commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    os.environ.update(_ENVIRONMENT)
    rows: dict[str, dict[str, Any]] = {}
    if options.output.exists():
        rows = {row["target"]: row for row in json.loads(options.output.read_text())["rows"]}
    for name in options.targets or TARGETS:
        wanted = options.commands if name == "commands" else options.cases
        known = rows.get(name)
        if known is None or (known["tried"], known["seed"]) != (wanted, options.seed) or _num_faults(known):
            row = runner.run(target_of(name), wanted, options.seed)
            _keep(row)
            count = f"--commands {wanted}" if name == "commands" else f"--cases {wanted}"
            about = {"seed": options.seed, "command": f"{name} {count} --seed {options.seed}"}
            rows[name] = row.to_dict() | about | _labels(target_of(name), wanted, options.seed)
            _write(options.output, rows)
    shown = [rows[name] for name in TARGETS if name in rows]
    print(table(shown))
    return int(any(_num_faults(row) for row in shown))


def _labels(target: Target, num_cases: int, seed: int) -> dict[str, Any]:
    """Return how many cases there were of each kind, of a target that has kinds."""
    cases = (runner.case_of(target, seed, number) for number in range(num_cases))
    counts = Counter(label for case in cases for label in target.labels(case))
    return {"of_which": dict(sorted(counts.items()))} if counts else {}


def _num_faults(row: dict[str, Any]) -> int:
    return sum(row[fault] for fault in ("traceback", "unbounded", "silently_wrong"))


def _keep(row: runner.Row) -> None:
    """Write the faults of a target to the corpus, made small; of one kind a few."""
    kept: Counter[str] = Counter()
    for case, judgement in row.faults:
        kept[judgement.why[-80:]] += 1
        if kept[judgement.why[-80:]] <= _MOST_SAVED:
            file = corpus.save(row.target, shrink.smallest(target_of(row.target), case, judgement))
            print(f"{file.name}: {judgement.verdict}: {judgement.why}", flush=True)


def _write(output: Path, rows: dict[str, dict[str, Any]]) -> None:
    about = {
        "command": "make fuzz, which is PYTHONPATH=tests python -m fuzz, of each target as its row says",
        "python": platform.python_version(),
        "rows": [rows[name] for name in TARGETS if name in rows],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as text, a line each."""
    widths = [max(len(column), *(len(str(row[column])) for row in rows)) for column in _COLUMNS]
    lines = [[column.replace("_", " ") for column in _COLUMNS], *([str(row[c]) for c in _COLUMNS] for row in rows)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
