"""What a TRL trainer logs, as the lines of a run's `metrics.jsonl`."""

import math
import time
from typing import Any

from transformers import TrainerCallback

from entrocraft.runs import RunDirectory
from entrocraft.runs.lines import finite
from entrocraft.runs.metrics import COLUMNS, REQUIRED, TRACKERS, TRL
from entrocraft.runs.state import StateFile

_FROM_TRL = tuple(name for name, column in COLUMNS.items() if column.writer == TRL)
_LEFT_OUT = tuple(name for name, column in COLUMNS.items() if column.follows_from)
_WITHOUT_CONTROL = {"direction": 0.0, "kept_fraction": 1.0}
"""What holds where nothing controls entropy; all else is null then."""


class LineWriter(TrainerCallback):
    """Writes a line of metrics for each optimizer step that is logged, and says that the run is alive.

    Args:
        run: The run directory.
        state: The run's state, which tells that it is alive.
    """

    def __init__(self, run: RunDirectory, state: StateFile):
        self._run, self._state = run, state
        self._last = time.perf_counter()

    def written(self, line: dict[str, Any]) -> None:
        """Take note of a line that was written."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return  # the summary at the end of training
        now = time.perf_counter()
        ours = {name.removeprefix(TRACKERS): value for name, value in logs.items() if name.startswith(TRACKERS)}
        known = (
            {"entropy": logs.get("entropy")}
            | _WITHOUT_CONTROL
            | ours
            | {name: logs[name] for name in _FROM_TRL if name in logs}
            | {"step": state.global_step, "tokens": self._num_tokens(args, logs), "seconds": now - self._last}
        )
        line = {name: known.get(name) for name in REQUIRED}
        line |= {name: value for name, value in known.items() if name not in (*REQUIRED, *_LEFT_OUT)}
        self._last = now
        line = finite(line)
        self._run.append_metrics(line)
        self._state.beat()
        self.written(line)

    @staticmethod
    def _num_tokens(args: Any, logs: dict[str, float]) -> int | None:
        """Return the completion tokens sampled for this step; None if it reused those of the step before."""
        if "completions/mean_length" not in logs:
            return None
        mean_length = logs["completions/mean_length"]
        return round(mean_length * args.generation_batch_size) if math.isfinite(mean_length) else None
