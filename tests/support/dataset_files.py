"""Files of data in the working directory, and the tasks that are made of them."""

import json
from pathlib import Path

from entrocraft.tasks import DatasetTask

ROWS = [{"question": f"{i} + 1", "answer": i + 1, "level": i % 3} for i in range(40)]


def jsonl(name="sums.jsonl", rows=ROWS):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def parquet(rows, name="dapo-math-17k.parquet"):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), name)
    return name


def task(**options):
    return DatasetTask(**{"train": "sums.jsonl", "prompt": "{question}=", "reward": "number"} | options)


def prompts(problems):
    return {problem["prompt"] for problem in problems}
