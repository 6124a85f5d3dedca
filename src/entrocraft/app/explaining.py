"""Why entropy moved in a run, as `entrocraft explain` says it."""

from typing import Any

from entrocraft.analysis.explanation import explain
from entrocraft.app.recorded import RecordedRun
from entrocraft.reports.explanation import describe
from entrocraft.runs.metrics import quadrant_columns

_NEEDED = (
    "skipped",
    "kept_token_fraction",
    *quadrant_columns(kept=False).values(),
    *quadrant_columns(kept=True).values(),
)


def explanation(run: RecordedRun) -> dict[str, Any]:
    """Return the explanation as text, its findings as sentences, and what each cause has changed.

    Raises:
        EntrocraftError: There is too little to explain.
    """
    with run.lock:
        run.update()
        lines = list(run.book.rows(names=_NEEDED))
    found = explain(lines, _momentum(run))
    text = describe(found)
    return {
        "text": text,
        "findings": text.rpartition("\n\n")[2].splitlines(),
        "change": found.total_change,
        "kept": found.totals(),
        "rejected": found.rejected_totals(),
    }


def _momentum(run: RecordedRun) -> float:
    """Return the optimizer's memory, Adam's beta1, which `train.trl` may set."""
    trl = ((run.config or {}).get("train") or {}).get("trl") or {}
    beta1 = trl.get("adam_beta1")
    return float(beta1) if isinstance(beta1, int | float) else 0.9
