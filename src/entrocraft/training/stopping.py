"""Signals that ask a run to stop, and the callback that stops it where it can be resumed."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from entrocraft.engines.trl.ranks import AcceleratorRanks

_HARD_EXIT_AT = 3
_STDERR = 2


class StoppedAtOnceError(BaseException):
    """A second signal, which ends the run amid a step; like KeyboardInterrupt no `Exception`, lest a reward stop it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP and says what follows from it.

    The second raises `StoppedAtOnceError` wherever the run is, and the third ends the process, should something have
    swallowed that. A SIGHUP that is ignored, as `nohup` asks for, stays ignored.

    Args:
        speaks: Whether to say what a signal does; of several processes one does.
    """

    _NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self, *, speaks: bool = True) -> None:
        self._speaks = speaks
        self.signal: int | None = None
        self._count = 0
        self._is_settled = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self  # only there signals can be caught
        for name in self._NAMES:
            number = getattr(signal, name, None)  # there is no SIGHUP on Windows
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def settle(self) -> None:
        """Say that the run has ended: what comes now changes nothing any more."""
        self._is_settled = True

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._is_settled:
            return
        self._count += 1
        name = signal.Signals(number).name
        if self._count == 1:
            self.signal = number
            self._say(
                f"{name}: stopping after this step, with a checkpoint. Once more stops at once, and the steps since "
                "the last checkpoint are made again on --resume"
            )
            return
        if self._count >= _HARD_EXIT_AT:
            self._say(f"{name}: stopped; go on with --resume")
            os._exit(128 + number)
        self._say(f"{name}: stopping at once")
        raise StoppedAtOnceError(number)

    def _say(self, text: str) -> None:
        """Write a line to standard error from within a signal's handler, which may have interrupted another write."""
        if not self._speaks:
            return
        try:
            os.write(_STDERR, f"entrocraft: {text}\n".encode())
        except OSError:
            return  # the terminal is gone, which is what SIGHUP says


class Stopper(TrainerCallback):
    """Ends training with a checkpoint at the first step after a signal where a run can be resumed.

    Args:
        stop: What this process has heard.
        every: Optimizer steps after which a run can be resumed.
        ranks: The ranks of the trainer, which all stop at the step where the first of them has heard a signal.
    """

    def __init__(self, stop: StopSignals, every: int, ranks: AcceleratorRanks):
        self._stop, self._every, self._ranks = stop, every, ranks

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        heard = self._ranks.greatest(self._stop.signal or 0)
        if heard:  # else one may come this very moment, for the next step
            self._stop.signal = heard
        if heard and state.global_step % self._every == 0:
            control.should_save = True
            control.should_training_stop = True
