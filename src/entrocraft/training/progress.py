"""Live progress: a table on a terminal, one line a step everywhere else."""

import time
from collections.abc import Mapping
from contextlib import suppress
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from entrocraft.runs.metrics import COLUMNS

_DIRECTIONS = {0.0: "in band", 1.0: "above", -1.0: "below"}
_SHOWN_ROWS = 12
_SAY_EVERY = 20.0
"""Seconds between lines about an evaluation, where they cannot take each other's place."""


class Progress:
    """Shows each step's entropy beside its target, the kept fraction, the reward and the time left.

    It is a context manager; within it, a terminal shows a live table.

    Args:
        total_steps: Optimizer steps of the run.
        speaks: Whether to show anything; of several processes one does.
    """

    def __init__(self, total_steps: int, *, speaks: bool = True):
        self._total, self._speaks = total_steps, speaks
        self._seconds: list[float] = []
        self._rows: list[dict[str, str]] = []
        self._said = time.monotonic()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if speaks and self._console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()  # the last table stays

    def evaluated(self, done: int, total: int) -> None:
        """Show how far an evaluation has come: below the table on a terminal, now and then as a line elsewhere."""
        text = f"evaluating: {done:,} of {total:,} answers"
        with suppress(OSError):
            if self._live is not None:
                self._live.update(Group(self._table(), Text(text)) if done < total else self._table(), refresh=True)
            elif self._speaks and done < total and time.monotonic() - self._said > _SAY_EVERY:
                self._said = time.monotonic()
                print(text, flush=True)

    def note(self, text: str) -> None:
        """Show a line of text above what is live; where nobody can see it any more, training goes on."""
        with suppress(OSError):
            if self._live is not None:
                self._console.print(text)
            elif self._speaks:
                print(text, flush=True)

    def show(self, line: Mapping[str, Any]) -> None:
        """Show one line of the metrics."""
        cells = self._cells(line)
        with suppress(OSError):  # the terminal may be gone
            self._show(cells)

    def _show(self, cells: dict[str, str]) -> None:
        if self._live is None:
            print("  ".join(f"{name} {text}" for name, text in cells.items()), flush=True)
            return
        self._rows = [*self._rows[1 - _SHOWN_ROWS :], cells]
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        names = list(self._rows[-1]) if self._rows else []
        table = Table(*(f"{name}\n{COLUMNS[name].unit}" if name in COLUMNS else name for name in names))
        for row in self._rows:
            table.add_row(*row.values())
        return table

    def _cells(self, line: Mapping[str, Any]) -> dict[str, str]:
        """Return what is shown of a step, by its heading."""
        step = int(line["step"])
        self._seconds.append(line["seconds"])
        left = int(fmean(self._seconds) * (self._total - step))
        cells = {"step": f"{step:>{len(str(self._total))}}/{self._total}", "entropy": _number(line["entropy"])}
        if line["target"] is not None:
            cells["target"] = f"{line['target']:.3f} ({_DIRECTIONS.get(line['direction'], 'mixed')})"
            kept = line.get("kept_token_fraction", line["kept_fraction"])
            cells["kept"] = "-" if kept is None else f"{kept:.0%}"
        cells["reward"] = _number(line["reward"])
        cells["time"] = f"{line['seconds']:.1f} s"
        cells["left"] = f"{left // 60}:{left % 60:02d}"
        return cells


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
