"""`docs/metrics.md`, from the table of columns: `python -m entrocraft.reports.metrics_page > docs/metrics.md`."""

from entrocraft.runs.metrics import COLUMNS, OLD_NAMES, TRACKERS, Column

_HEAD = f"""# Metrics

<!-- Made by `python -m entrocraft.reports.metrics_page` from the table in `entrocraft.runs.metrics`. Change that. -->

This page lists what a run logs.
Look first at `entropy` beside `target`, at `kept_token_fraction`, and at `reward`.

A run of the command line writes `metrics.jsonl`: one line of JSON for each optimizer step, and one for each evaluation.
A TRL script and verl log the same columns to their trackers, where those that are not the trainer's own have the
prefix `{TRACKERS}`.
Every step's line has the columns marked *always*, with null where they do not apply.
The others are there where the method, the task or the framework knows them.
A method of your own may log more; they keep the names that it gives them.
Columns marked *trackers only* follow from others of the same line, and are not in the file.
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
