"""Hashes of a run's problems, by which a resumed run knows that its data are the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entrocraft.errors import RunDirectoryError
from entrocraft.runs.files import write_text
from entrocraft.tasks import Problem, Task

_DIGITS = 12
_MOST_NAMED = 3


def check_problems(file: Path, task: Task, problems: Mapping[str, Sequence[Problem]]) -> None:
    """Refuse problems other than those that the run was begun with; a run that recorded none is let through.

    Args:
        file: `problems.json` of the run directory.
        task: The task, which says where a problem stands.
        problems: Problems by split.

    Raises:
        RunDirectoryError: The message says how many problems differ, and where the first of them are.
    """
    if not file.exists():
        return
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        begun = {split: known[split].split() for split in problems}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RunDirectoryError(
            f"{file} cannot be read ({error!s:.80}); without it nobody knows whether the data are still the same: "
            "remove it to go on all the same"
        ) from error
    for split, there in problems.items():
        _compare(file, task, split, begun[split], there)


def _compare(file: Path, task: Task, split: str, begun: Sequence[str], problems: Sequence[Problem]) -> None:
    now = _hashes(problems)
    if now == begun:
        return
    differing = [i for i, (one, other) in enumerate(zip(begun, now, strict=False)) if one != other]
    parts = [f"{len(begun)} {split} problems when the run was begun, {len(now)} now"] if len(begun) != len(now) else []
    if differing:
        named = ", ".join(task.place_of(problems[i]) for i in differing[:_MOST_NAMED])
        more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
        parts.append(f"{len(differing)} of the {split} problems differ from those it was begun with: {named}{more}")
    raise RunDirectoryError(
        f"the data of this run have changed: {'; '.join(parts)}. Put back the data, or begin a new run with another "
        f"--output; removing {file} goes on with the new data all the same"
    )


def write_problems(file: Path, problems: Mapping[str, Sequence[Problem]]) -> None:
    """Write the hashes of a run's problems, one by one, so that a change can be placed."""
    write_text(file, json.dumps({split: " ".join(_hashes(each)) for split, each in problems.items()}) + "\n")


def _hashes(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    texts = (json.dumps(problem, sort_keys=True, default=str) for problem in problems)
    return [hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGITS] for text in texts]
