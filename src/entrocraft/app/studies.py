"""Studies as the page shows them: arms as lines with intervals over seeds, read from `rows.jsonl` alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from entrocraft.runs.state import read_state
from entrocraft.study.comparison import Estimate
from entrocraft.study.rows import Row, Rows

_SEED = re.compile(r", seed \d+")


def study_summary(path: Path) -> dict[str, Any]:
    """Return what the list of runs shows of a study; its steps are runs that are done."""
    rows = Rows(path / "rows.jsonl").by_key()
    begun = [*(path / "runs").glob("*.yaml")] if (path / "runs").is_dir() else []
    is_running = any(_runs(path / "runs" / file.stem) for file in begun if file.stem not in rows)
    files = [path / "rows.jsonl", *begun]
    return {
        "state": "running" if is_running else "done",
        "why": None,
        "step": len(rows),
        "steps": max(len(rows), len([file for file in begun if "-" not in file.stem])),
        "curve": any(row.get("tracking") for row in rows.values()),
        "recipe": None,
        "method": None,
        "engine": "trl",
        "problem": None,
        "changed": max((file.stat().st_mtime for file in files if file.exists()), default=0.0),
    }


def _runs(path: Path) -> bool:
    state = read_state(path / "state.json")
    return state is not None and state.status == "running"


def arms_of(path: Path) -> dict[str, list[Row]]:
    """Return the rows of a study by arm, schedule, task and phase: those that differ in their seeds only.

    Raises:
        RunDirectoryError: The rows cannot be read.
    """
    arms: dict[str, list[Row]] = {}
    for row in Rows(path / "rows.jsonl").by_key().values():
        arms.setdefault(_SEED.sub("", str(row.get("name", row["key"]))), []).append(row)
    return arms


def mean_over_seeds(rows: Sequence[Row], name: str) -> dict[str, list[Any]] | None:
    """Return the mean of a recorded curve over seeds, and the lowest and highest of them, as far as all of them go.

    None if nothing was measured. Rows hold means over blocks of steps, which stand at their middles.
    """
    curves = [row.get(name) or [] for row in rows]
    block = max(1, int(rows[0].get("block") or 1))
    found: dict[str, list[Any]] = {"step": [], "value": [], "low": [], "high": []}
    for i in range(min(len(curve) for curve in curves)):
        known = [curve[i] for curve in curves if curve[i] is not None]
        found["step"].append(block * i + (block + 1) // 2)
        found["value"].append(fmean(known) if known else None)
        found["low"].append(min(known, default=None))
        found["high"].append(max(known, default=None))
    return found if any(value is not None for value in found["value"]) else None


def estimate_at_each(rows: Sequence[Row], measure: str) -> list[dict[str, Any]]:
    """Return a measure at each evaluation that all seeds have, with its interval over seeds."""
    by_seed = [dict(zip(row["evaluated"], row["scores"].get(measure, ()), strict=False)) for row in rows]
    shared = sorted(set.intersection(*(set(each) for each in by_seed)))
    return [{"step": step} | interval([each[step] for each in by_seed]) for step in shared]


def interval(values: Sequence[float | None]) -> dict[str, Any]:
    """Return a mean over seeds and the ends of its interval, which fewer than three seeds do not have."""
    known = [value for value in values if value is not None]
    if not known:
        return {"value": None, "low": None, "high": None}
    found = Estimate.of(known)
    return {"value": found.mean, "low": found.low, "high": found.high}


def measures_in(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the measures that rows have scores of."""
    return list(dict.fromkeys(name for row in rows for name in row["scores"]))
