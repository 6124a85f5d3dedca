"""Tasks of this library as verl takes them: problems in a parquet file, and the function that grades them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, first_line
from entrocraft.tasks import Problem, Split, Task
from entrocraft.tasks.base import CORRECT


def write_parquet(
    task: Mapping[str, Any],
    split: Split,
    num_problems: int | None,
    path: Path,
    *,
    seed: int = 0,
    without: Sequence[Path] = (),
    check_answers: bool = False,
) -> dict[str, Any]:
    """Write problems of a task as verl's `data.train_files` or `data.val_files` has them.

    Each row holds the prompt as chat messages, and in `reward_model.ground_truth` what `compute_score` grades by. What
    was written, and its checksum, is in the file's own metadata, under `entrocraft`.

    Args:
        task: `name` and options, as in the `task` section of a configuration.
        split: Which problems.
        num_problems: How many are drawn; None for all there are.
        path: The file to write; it is replaced as a whole, or not at all.
        seed: Of the draw.
        without: Files of the same kind whose prompts are left out, but for case and white space: what is tested on.
        check_answers: Leave out problems whose own answer, in a box, is not graded as right.

    Returns:
        What the metadata say: the task, the seed, how many problems were drawn, left out and written, and the SHA-256 of
        the rows.

    Raises:
        EntrocraftError: There is no such task, or not so many problems, or nothing is left.
    """
    import pyarrow
    import pyarrow.parquet

    built = _build(task)
    size = built.size(split)
    if num_problems is None and size is None:
        raise InvalidValueError(f"{task['name']} has no end of problems: say how many")
    drawn = built.problems(split, num_problems if num_problems is not None else int(size or 0), seed)
    known = {_normal(prompt) for file in without for prompt in _prompts_in(file)}
    fresh = [problem for problem in drawn if _normal(_messages(problem["prompt"])) not in known]
    graded = fresh
    if check_answers:
        scores = built.scores([f"\\boxed{{{problem['answer']}}}" for problem in fresh], fresh)
        graded = [problem for problem, score in zip(fresh, scores, strict=True) if score > CORRECT]
    if not graded:
        raise InvalidValueError(f"{task['name']}: none of {len(drawn)} problems is left to write")
    spec = json.dumps(dict(task), sort_keys=True)
    rows = [_row(problem, spec, str(task["name"]), split, index) for index, problem in enumerate(graded)]
    about = {
        "task": dict(task),
        "split": split,
        "seed": seed,
        "drawn": len(drawn),
        "left_out_as_known": len(drawn) - len(fresh),
        "left_out_as_not_graded": len(fresh) - len(graded),
        "written": len(rows),
        "sha256": hashlib.sha256("\n".join(json.dumps(row, sort_keys=True) for row in rows).encode()).hexdigest(),
    }
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"entrocraft": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        pyarrow.parquet.write_table(table, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return about


def _messages(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _normal(messages: Sequence[Mapping[str, str]]) -> str:
    """Return what is asked, such that the same question is the same text."""
    return " ".join(message["content"] for message in messages if message["role"] == "user").casefold().replace(" ", "")


def _prompts_in(file: Path) -> list[Any]:
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(file, columns=["prompt"])["prompt"].to_pylist())
    except (OSError, ValueError, KeyError) as error:
        raise InvalidValueError(f"{file} is no parquet file with prompts: {first_line(error)}") from error


def _row(problem: Problem, spec: str, name: str, split: Split, index: int) -> dict[str, Any]:
    columns = {column: value for column, value in problem.items() if column != "prompt"}
    return {
        "data_source": f"entrocraft/{name}",
        "prompt": _messages(problem["prompt"]),
        "ability": name,
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"task": spec, "problem": columns})},
        "extra_info": {"index": index, "split": split},
    }


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **more: Any) -> float:
    """Return the reward of a completion, in verl's signature; for `reward.custom_reward_function`.

    Args:
        data_source: Not looked at.
        solution_str: The completion.
        ground_truth: From `write_parquet`.
        extra_info: Not looked at.
        more: Nor whatever else verl passes.

    Example:
        >>> problem = {"numbers": [2, 3], "target": 6}
        >>> truth = json.dumps({"task": '{"name": "countdown", "num_numbers": 2}', "problem": problem})
        >>> compute_score("entrocraft/countdown", "2*3", truth), compute_score("entrocraft/countdown", "2+3", truth)
        (1.0, 0.0)
    """
    truth = json.loads(ground_truth)
    return _task(truth["task"]).scores([solution_str], [truth["problem"]])[0]


def compute_signed_score(*args: Any, **kwargs: Any) -> float:
    """Return the same from -1 to 1, as the authors' code has rewards."""
    return 2.0 * compute_score(*args, **kwargs) - 1.0


@cache
def _task(spec: str) -> Task:
    return _build(json.loads(spec))


def _build(task: Mapping[str, Any]) -> Task:
    options = dict(task)
    return tasks.build(options.pop("name"), **options)
