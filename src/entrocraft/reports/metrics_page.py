"""`docs/metrics.md`, from the table of columns: `python -m entrocraft.reports.metrics_page > docs/metrics.md`."""

from entrocraft.runs.metrics import COLUMNS, OLD_NAMES, TRACKERS, Column

_HEAD = f"""# Metrics

<!-- Made by `python -m entrocraft.reports.metrics_page` from the table in `entrocraft.runs.metrics`. Change that. -->

A run writes `metrics.jsonl`: one line of JSON for each optimizer step, and one for each evaluation.
Every step's line has the columns marked *always*, and null in those that do not apply.
The others are there where the method, the task or the framework knows them.
Trackers show what is not TRL's own under `{TRACKERS}`.
A method of your own may log columns of its own; they stand in the file as it names them.

What follows from other columns of the same line is told to trackers only.
"""


def metrics_page() -> str:
    """Return the page of documentation on the columns of `metrics.jsonl`, as Markdown."""
    rows = [
        f"| `{column.name}` | {column.unit} | {column.meaning}{_notes(column)} | {column.writer} |"
        for column in COLUMNS.values()
    ]
    old = ", ".join(f"`{old}` is now `{new}`" for old, new in OLD_NAMES.items())
    table = "\n".join(["| column | unit | meaning | known by |", "|---|---|---|---|", *rows])
    return f"{_HEAD}\n{table}\n\nIn files of earlier versions: {old}.\n"


def _notes(column: Column) -> str:
    if column.follows_from:
        return f" Trackers only: `{column.follows_from}`."
    return " *Always.*" if column.required else ""


if __name__ == "__main__":
    print(metrics_page(), end="")
