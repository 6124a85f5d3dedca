"""Signals that ask a run to stop, and the callback that stops it where it can be resumed."""

import signal
from types import FrameType
from typing import Any

from transformers import TrainerCallback


class StopSignals:
    """Remembers the first SIGINT or SIGTERM; the second one acts as usual."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> "StopSignals":
        self._previous = {number: signal.signal(number, self._remember) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()


class Stopper(TrainerCallback):
    """Ends training with a checkpoint at the first step after a signal where a run can be resumed."""

    def __init__(self, stop: StopSignals, every: int):
        self._stop, self._every = stop, every

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stop.signal is not None and state.global_step % self._every == 0:
            control.should_save = True
            control.should_training_stop = True
