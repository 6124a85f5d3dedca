"""What a run left behind, held against one that nothing has disturbed."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrocraft.runs import RunDirectory

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\..*")


@dataclass(frozen=True)
class Comparison:
    """How far a run is from the one that nothing has disturbed."""

    lost: int = 0
    """Steps that its metrics or rollouts lack."""
    twice: int = 0
    """Steps that they count more than once."""
    differences: list[str] = field(default_factory=list)
    """Everything else that is not as it should be, in words."""


def compare(folder: Path, undisturbed: Path, *, rollouts: bool = True) -> Comparison:
    """Compare the run directories of two trainings by all but their times.

    Args:
        folder: The run that a fault was tried on.
        undisturbed: The same training without a fault.
        rollouts: Whether `rollouts.jsonl` must agree, too.
    """
    one, other = RunDirectory(folder), RunDirectory(undisturbed)
    lines, wanted = one.metrics(), other.metrics()
    lost, twice = _miscounted([_key(line) for line in lines], [_key(line) for line in wanted])
    differences = [] if _without_time(lines) == _without_time(wanted) else ["the metrics differ"]
    if rollouts:
        steps, records = _rollouts(one.rollouts_file), _rollouts(other.rollouts_file)
        more = _miscounted([each["step"] for each in steps], [each["step"] for each in records])
        lost, twice = lost + more[0], twice + more[1]
        differences += [] if steps == records else ["the rollouts differ"]
    for name in ("controller.json", "config.json", "problems.json"):
        if _bytes(folder / name) != _bytes(undisturbed / name):
            differences.append(f"{name} differs")
    differences += [f"{name} is missing" for name in ("report.md", "curve.png") if not (folder / name).exists()]
    differences += _of_checkpoints(_weights(one), _weights(other))
    differences += [f"{path.name} was left" for path in folder.rglob(".*") if _TEMPORARY.fullmatch(path.name)]
    return Comparison(lost, twice, differences)


def _of_checkpoints(kept: dict[int, str], whole: dict[int, str]) -> list[str]:
    """Return how the weights differ; a run that was stopped may have a checkpoint of where it was stopped besides."""
    same_steps = len(kept) == len(whole) and max(kept, default=0) == max(whole, default=0)
    found = [] if same_steps else [f"there are checkpoints of {sorted(kept)}, wanted {sorted(whole)}"]
    changed = [step for step in kept.keys() & whole.keys() if kept[step] != whole[step]]
    return [*found, *(f"the weights of step {step} differ" for step in changed)]


def _miscounted(steps: list[Any], wanted: list[Any]) -> tuple[int, int]:
    """Return how many steps are missing, and how many there are too many of."""
    have, should = Counter(steps), Counter(wanted)
    return (should - have).total(), (have - should).total()


def _key(line: dict[str, Any]) -> tuple[int, bool]:
    return line["step"], "entropy" in line


def _without_time(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def _rollouts(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _weights(run: RunDirectory) -> dict[int, str]:
    """Return a hash of the weights of each checkpoint, by its step."""
    return {
        int(file.parent.name.partition("-")[2]): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for name in ("model.safetensors", "adapter_model.safetensors")
        for file in run.checkpoints.glob(f"*/{name}")
    }
