"""The rows of a harness run, kept on file as they come, and the table that they make."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrocraft.runs.files import write_text
from faults.bench import Verdict
from faults.fault import Fault

_HEADINGS = ("kind", "tried", "came in time", "survived", "lost steps", "counted twice", "orphans")


class Rows:
    """What became of each fault, in a JSON file that is whole after each of them.

    Args:
        file: Where they are kept.
        about: What is said of the harness run as a whole, such as its command.
        go_on: Keep the rows of what was survived already.
    """

    def __init__(self, file: Path, about: dict[str, Any], *, go_on: bool):
        self._file, self._about = file, about
        self._rows: list[dict[str, Any]] = []
        if go_on and file.exists():
            self._rows = [row for row in json.loads(file.read_text())["faults"] if row["survived"]]

    def has(self, fault: Fault) -> bool:
        """Return whether a fault was tried already."""
        return any((row["kind"], row["fault"]) == (fault.kind, fault.name) for row in self._rows)

    def add(self, fault: Fault, verdict: Verdict, seconds: float) -> None:
        """Add what became of a fault."""
        row = {"kind": fault.kind, "fault": fault.name} | asdict(verdict)
        self._rows.append(row | {"survived": verdict.survived, "seconds": round(seconds, 1)})
        self._write()

    def drop_all_but(self, faults: Iterable[Fault]) -> None:
        """Drop the rows of faults that there are no more."""
        names = {(fault.kind, fault.name) for fault in faults}
        self._rows = [row for row in self._rows if (row["kind"], row["fault"]) in names]

    def say_not_tried(self, not_tried: dict[str, str]) -> None:
        """Note kinds that cannot be tried here, and why."""
        self._about["not_tried"] = not_tried
        self._write()

    def _write(self) -> None:
        rows = ",\n    ".join(json.dumps(row) for row in self._rows)
        about = json.dumps(self._about | {"table": self.by_kind()}, indent=2).removesuffix("\n}")
        write_text(self._file, f'{about},\n  "faults": [\n    {rows}\n  ]\n}}\n')

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return the counts of each kind, and of all together."""
        kinds = dict.fromkeys(row["kind"] for row in self._rows)
        counts = {kind: _counts(row for row in self._rows if row["kind"] == kind) for kind in kinds}
        return counts | {"all": _counts(self._rows)}

    def __str__(self) -> str:
        cells = [_HEADINGS, *((kind, *map(str, counts.values())) for kind, counts in self.by_kind().items())]
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
        return "\n".join(_line(row, widths) for row in cells)


def _counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    rows = list(rows)
    names = {
        "struck": "came in time",
        "survived": "survived",
        "lost": "lost steps",
        "twice": "counted twice",
        "orphans": "orphans",
    }
    return {"tried": len(rows)} | {name: sum(row[key] for row in rows) for key, name in names.items()}


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    first, *rest = (
        text.ljust(width) if column == 0 else text.rjust(width)
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest])
