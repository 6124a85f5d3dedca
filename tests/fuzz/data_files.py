"""Data files under the task `dataset`: every format, damaged or strange, with options that fit or do not."""

import csv
import gzip
import io
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet

from entrocraft.registry import build_with
from entrocraft.tasks.dataset import DatasetTask
from fuzz import mutate, noise, places
from fuzz.target import Case, Outcome, Target, expect

_OPTIONS: dict[str, tuple[Any, ...]] = {
    "prompt": ("{q}", "What is {q}?", "{q} {level}", "{meta.id}: {q}", "{messages}"),
    "answer": ("a", "a", "a", "meta.id", "level"),
    "reward": ("exact", "exact", "number", {"name": "exact", "ignore_case": True}),
    "where": ({"level": [0, 1]}, {"level": "1"}, {"q": "1 + 1"}),
    "unless": ({"level": 2}, {"a": [None, ""]}),
    "system": ("Be brief.",),
    "chat": (True, False),
    "test_share": (0.0, 0.5),
    "max_completion_tokens": (1, 256),
}
_ENDINGS = ("jsonl", "jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.gz", "ndjson", "txt", "JSONL")


def draw(rng: Random) -> Case:
    """Draw a file's name and bytes, and the options of the task; `clean` if nothing was damaged in either."""
    rows = [_row(rng, i) for i in range(rng.randint(0, 6))]
    ending, options = rng.choice(_ENDINGS), {"prompt": "{q}", "answer": "a", "reward": "exact"}
    for name in rng.sample(list(_OPTIONS), rng.choice((0, 1, 2))):
        options[name] = rng.choice(_OPTIONS[name])
    clean = rng.random() < 0.25
    if not clean and rng.random() < 0.5:
        rows = mutate.changed(rng, rows)
        rows = rows if isinstance(rows, list) else [rows]
    if not clean and rng.random() < 0.25:
        options = mutate.changed(rng, options, most=1)
        options = options if isinstance(options, dict) else {}
    content = _written(rng, rows, ending)
    if not clean and rng.random() < 0.4:
        content = mutate.edited(rng, content).encode("latin-1", "replace").decode("latin-1")
    if ending.endswith(".gz") and (clean or rng.random() < 0.8):
        content = gzip.compress(content.encode("latin-1"), mtime=0).decode("latin-1")
    kind = "file" if clean else places.kind(rng)
    return {"ending": ending, "content": content, "options": options, "kind": kind, "rows": rows if clean else None}


def _row(rng: Random, i: int) -> dict[str, Any]:
    a, b = rng.randint(0, 50), rng.randint(0, 5)
    answer = rng.choice((a + b, str(a + b), a + b + 0.5))
    row = {"q": rng.choice((f"{a} + {b}", f"{a}+{b} \u00e9", f'{i}, "{a}"\n{b}')), "a": answer, "level": i % 3}
    messages = [{"role": "user", "content": row["q"]}]
    return row | {"meta": {"id": i}} | ({"messages": messages} if rng.random() < 0.2 else {})


def _written(rng: Random, rows: list[Any], ending: str) -> str:
    """Return rows as the bytes of a file, packing aside; what a format cannot hold becomes JSON lines."""
    objects = [row for row in rows if isinstance(row, dict)]
    ending = ending.casefold()
    if ending == "json":
        return mutate.as_bytes(mutate.as_json(rng, rows))
    if ending.startswith(("csv", "tsv")) and objects:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(objects[0]), delimiter="\t" if ending == "tsv" else ",", restval="")
        writer.writeheader()
        writer.writerows({name: row.get(name, "") for name in objects[0]} for row in objects)
        return mutate.as_bytes(stream.getvalue())
    if ending == "parquet":
        try:
            sink = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects), sink)
            return sink.getvalue().decode("latin-1")
        except (pyarrow.ArrowException, ValueError, OverflowError, TypeError, UnicodeError):
            pass  # the rows are no table
    if rng.random() < 0.01:
        return noise.nested(rng) + "\n"
    return mutate.as_bytes("".join(mutate.as_json(rng, row) + "\n" for row in rows))


def try_case(case: Case) -> Outcome:
    """Read a data set; each right answer must be graded as right, and what is not damaged must be as it was."""
    with places.folder() as folder:
        path = folder / f"data.{case['ending']}"
        places.put(path, case["content"], case["kind"])
        task = build_with(DatasetTask, {"test_share": 0.0} | case["options"] | {"train": str(path)}, "task 'dataset'")
        problems = task.problems_up_to("train", 1000)
        graded = case["options"].get("reward", "exact") in ("exact", "number") and "answer" in problems[0]
        if graded:
            answers = [problem["answer"] for problem in problems]
            expect(
                task.scores(answers, problems) == [1.0] * len(problems), f"right answers score less: {answers!r:.300}"
            )
            task.answers_of(answers)
        if case["rows"] and case["options"] == {"prompt": "{q}", "answer": "a", "reward": "exact"}:
            _check_rows(case["rows"], problems)
        assert task.place_of(problems[0])
    return "accepted"


def _check_rows(rows: list[dict[str, Any]], problems: list[dict[str, Any]]) -> None:
    """Hold problems against the rows that were written, in whatever order they come."""
    wanted = sorted((row["q"], float(row["a"])) for row in rows)
    found = sorted((problem["prompt"], float(problem["answer"])) for problem in problems)
    expect(wanted == found, f"written {wanted!r:.300}, read {found!r:.300}")


TARGET = Target("data_files", draw, try_case)
