"""Tasks of this library as verl takes them: problems in a parquet file, and the function that grades them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, first_line
from entrocraft.grading import verifiers
from entrocraft.runs.files import replacing
from entrocraft.tasks import Problem, Split, Task
from entrocraft.tasks.base import CORRECT
from entrocraft.tasks.layouts import PLAIN, VERL

_AT_ONCE = 4096  # problems whose answers are checked together


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
        num_problems: How many to write; None for all there are.
        path: The file to write; it is replaced as a whole, or not at all.
        seed: Of the draw.
        without: Files of the same kind whose prompts are left out, but for case and white space: what is tested on. The
            same question is known again only under the same instruction.
        check_answers: Leave out problems whose own answer, in a box, is not graded as right; for tasks with an
            `answer`.

    Returns:
        What the metadata say: the task, the seed, how many problems were looked at, left out and written, and the
        SHA-256 of the rows.

    Raises:
        EntrocraftError: There is no such task, or not so many problems, or nothing is left.
    """
    import pyarrow
    import pyarrow.parquet

    built = _build(task)
    size = built.size(split)
    if num_problems is None and size is None:
        raise InvalidValueError(f"{task['name']} has no end of problems: say how many")
    known = {_normal(_messages(prompt)) for file in without for prompt in _prompts_in(file)}
    drawn = built.problems(split, size if size is not None else (num_problems or 0) + len(known), seed)
    if check_answers and "answer" not in drawn[0]:
        raise InvalidValueError(f"{task['name']} has no `answer` to check; it has {', '.join(sorted(drawn[0]))}")
    wanted = len(drawn) if num_problems is None else num_problems
    written: list[Problem] = []
    num_seen = num_known = 0
    for start in range(0, len(drawn), _AT_ONCE):
        part = drawn[start : start + _AT_ONCE]
        fresh = [problem for problem in part if _normal(_messages(problem["prompt"])) not in known]
        if check_answers:
            scores = built.scores([f"\\boxed{{{problem['answer']}}}" for problem in fresh], fresh)
            written += [problem for problem, score in zip(fresh, scores, strict=True) if score > CORRECT]
        else:
            written += fresh
        num_seen, num_known = num_seen + len(part), num_known + len(part) - len(fresh)
        if len(written) >= wanted:
            break
    not_graded = num_seen - num_known - len(written)
    if not written or (num_problems is not None and len(written) < num_problems):
        raise InvalidValueError(
            f"{task['name']}: {wanted} problems were asked for, and of {num_seen} there are {len(written)} left: "
            f"{num_known} are in --without, {not_graded} are not graded right by their own answer"
        )
    # With what the data have settled, so that nothing has to read them to grade.
    spec = json.dumps(dict(task) | dict(built.decided), sort_keys=True)
    rows = [
        _row(problem, spec, str(task["name"]), split, index, whole=built.reads_prompts)
        for index, problem in enumerate(written[:wanted])
    ]
    checksum = hashlib.sha256()
    for row in rows:
        checksum.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    about = {
        "task": dict(task),
        "split": split,
        "seed": seed,
        "looked_at": num_seen,
        "left_out_as_known": num_known,
        "left_out_as_not_graded": not_graded,
        "written": len(rows),
        "sha256": checksum.hexdigest(),
    }
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"entrocraft": json.dumps(about)})
    with replacing(path) as unfinished:
        pyarrow.parquet.write_table(table, unfinished)
    return about


def _messages(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _normal(messages: Sequence[Mapping[str, str]]) -> str:
    """Return what is asked, such that the same question is the same text."""
    asked = " ".join(message["content"] for message in messages if message["role"] == "user")
    return "".join(asked.casefold().split())


def _prompts_in(file: Path) -> list[Any]:
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(file, columns=["prompt"])["prompt"].to_pylist())
    except (OSError, ValueError, KeyError) as error:
        raise InvalidValueError(f"{file} is no parquet file with prompts: {first_line(error)}") from error


def _row(problem: Problem, spec: str, name: str, split: Split, index: int, *, whole: bool) -> dict[str, Any]:
    columns = {column: value for column, value in problem.items() if whole or column != "prompt"}
    return {
        "data_source": f"entrocraft/{name}",
        "prompt": _messages(problem["prompt"]),
        "ability": name,
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"task": spec, "problem": columns})},
        "extra_info": {"index": index, "split": split},
    }


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    own_rewards: bool = False,
    **more: Any,
) -> float:
    """Return the reward of a completion, in verl's signature; for `reward.custom_reward_function`.

    Args:
        data_source: Not looked at.
        solution_str: The completion.
        ground_truth: From `write_parquet`; or just the right answer, as other data for verl have it, which is graded as
            mathematics.
        extra_info: Not looked at.
        own_rewards: Grade by a `package.module:function` that the data name. Off by default: data may be another's.
        more: Nor whatever else verl passes.

    Raises:
        InvalidValueError: The data name a function, and `own_rewards` is off.

    Example:
        >>> problem = {"numbers": [2, 3], "target": 6}
        >>> truth = json.dumps({"task": '{"name": "countdown", "num_numbers": 2}', "problem": problem})
        >>> compute_score("entrocraft/countdown", "2*3", truth), compute_score("entrocraft/countdown", "2+3", truth)
        (1.0, 0.0)
    """
    try:
        truth = json.loads(ground_truth)
    except ValueError:
        truth = None
    if not isinstance(truth, dict) or not {"task", "problem"} <= truth.keys():
        return verifiers.build(VERL.reward).scores([solution_str], [ground_truth])[0]
    return _task(truth["task"], own_rewards).scores([solution_str], [truth["problem"]])[0]


def compute_signed_score(*args: Any, **kwargs: Any) -> float:
    """Return the same from -1 to 1, as the authors' code has rewards."""
    return 2.0 * compute_score(*args, **kwargs) - 1.0


@cache
def _task(spec: str, own_rewards: bool) -> Task:
    options = json.loads(spec)
    if options["name"] == "dataset":
        options.setdefault("reward", PLAIN.reward)  # files of old do not say what was the default
    reward = options.get("reward")
    if isinstance(reward, str) and ":" in reward and not own_rewards:
        raise InvalidValueError(
            f"the data are graded by {reward!r}, code that they name themselves; if you trust them, set "
            "+reward.custom_reward_function.reward_kwargs.own_rewards=true"
        )
    return _build(options)


def _build(task: Mapping[str, Any]) -> Task:
    options = dict(task)
    return tasks.build(options.pop("name"), **options)
