"""Why entropy moved in a run, as `entrocraft explain` says it."""

from typing import Any

from entrocraft.analysis.explanation import explain, momentum_of
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
    found = explain(lines, momentum_of(run.config or {}))
    text = describe(found)
    return {
        "text": text,
        "findings": text.rpartition("\n\n")[2].splitlines(),
        "change": found.total_change,
        "kept": found.totals(),
        "rejected": found.rejected_totals(),
    }
