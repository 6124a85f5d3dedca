"""The processes that train one model together, as `accelerate launch` or `torchrun` has started them.

What they tell each other outside of training goes through the launcher's key-value store and not through collectives:
that works before there is a process group and after one of them has failed, and it waits for as long as it takes.
"""

import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from entrocraft.errors import USER_ERRORS, InvalidValueError, first_line, user_error_line

_FAILED, _HEARD, _SAID = "failed", "heard", "said"
_NO_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many processes MPI has started, which is no launcher of ours."""
_PATIENCE = 3.0
"""Seconds that a process waits for the main one to say what went wrong, before it says so itself."""
_LONGEST_PAUSE = 0.2
_RUNS = itertools.count()
"""Numbers of the runs that this process takes part in, which do not hear each other."""


class OtherProcessError(Exception):
    """Another process of the run has failed; the message is its own."""

    def __init__(self, index: int, status: int, said: str):
        super().__init__(f"process {index}: {said}")
        self.status = status


class Processes:
    """The processes of a run: this one, how many there are, and what they tell each other.

    Args:
        count: How many there are.
        index: Which of them this is, from 0; the first is the main one, which alone writes and speaks.
        store: The launcher's store, for more than one.
    """

    def __init__(self, count: int = 1, index: int = 0, store: Any = None):
        self.count, self.index, self._store = count, index, store
        self._exchanges = 0

    @property
    def is_main(self) -> bool:
        """True in the process that writes the run directory, speaks to the user and reads what the user writes."""
        return self.index == 0

    @classmethod
    def launched(cls) -> "Processes":
        """Return the processes that a launcher has started; one if there is no launcher.

        Raises:
            InvalidValueError: They were started by something that does not say which of them this is.
        """
        count = launched_processes()
        if count == 1:
            _warn_of_one()
            return cls()
        if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            raise InvalidValueError(
                f"{count} processes were started without RANK and MASTER_ADDR, which say who they are: start them by "
                "accelerate launch or torchrun"
            )
        store, index, count = next(iter(dist.rendezvous("env://", timeout=timedelta(minutes=10))))
        return cls(count, index, dist.PrefixStore(f"entrocraft {next(_RUNS)}", store))

    # ---- telling each other ------------------------------------------------------------------------------

    def shared(self, text: str = "") -> list[str]:
        """Return what all processes pass here, in their order; each waits for the others, however long they take.

        Raises:
            OtherProcessError: One of them has failed meanwhile.
        """
        if self.count == 1:
            return [text]
        self._exchanges += 1
        self._store.set(f"{self._exchanges}/{self.index}", text)
        return [self._awaited(f"{self._exchanges}/{index}") for index in range(self.count)]

    def meet(self) -> None:
        """Wait for all processes; raises `OtherProcessError` if one of them has failed."""
        self.shared()

    def from_main(self, text: str) -> str:
        """Return what the main process passes here."""
        return self.shared(text)[0]

    def _awaited(self, key: str) -> str:
        pause = 0.002
        while not self._store.check([key]):
            self.raise_if_failed()
            # Sleeping, and not waiting in the store, so that signals are heard.
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        text: str = self._store.get(key).decode()
        return text

    # ---- failing together --------------------------------------------------------------------------------

    def fail(self, status: int, said: str) -> None:
        """Tell the other processes that this one ends here, unless another has before; the main one says so itself."""
        if self.count > 1:
            self._store.compare_set(_FAILED, "", f"{self.index} {status} {said}")
            if self.is_main:
                self._store.set(_HEARD, "")

    def raise_if_failed(self) -> None:
        """Raise `OtherProcessError` if another process has failed: what goes wrong here may follow from that."""
        failure = self._failure()
        if failure is not None and failure[0] != self.index:
            raise OtherProcessError(*failure)

    def _failure(self) -> tuple[int, int, str] | None:
        try:
            if self.count == 1 or not self._store.check([_FAILED]):
                return None
            index, status, said = self._store.get(_FAILED).decode().split(" ", 2)
        except dist.DistError:  # the store is gone with the process that held it, which says what matters
            return None
        return int(index), int(status), said

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Within it, what goes wrong in one process is said once, by the main one, and all end with the same status."""
        if self.count == 1:
            yield
            return
        try:
            yield
        except OtherProcessError as error:
            self._end(error.status, f"error: {error}")
        except KeyboardInterrupt:  # which the launcher passes on to all
            self.fail(130, "stopped by SIGINT")
            if self.is_main:
                raise
            sys.exit(130)
        except Exception as error:
            is_users = isinstance(error, USER_ERRORS)
            status, said = (
                (2, user_error_line(error)) if is_users else (1, f"{type(error).__name__}: {first_line(error)}")
            )
            self.fail(status, said)
            failure = self._failure()
            _ignore_launcher()
            if not self.is_main and is_users and failure is not None:
                self._end(failure[1], f"error: process {failure[0]}: {failure[2]}")
            raise

    def _end(self, status: int, text: str) -> None:
        """End this process; the main one says why, or another in its place if that cannot."""
        _ignore_launcher()
        if self.is_main:
            is_said = self._store.check([_SAID])
            self._store.set(_HEARD, "")
        else:
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline and not self._store.check([_HEARD]):
                time.sleep(0.02)
            # The first that comes to its patience's end speaks.
            is_said = self._store.check([_HEARD]) or self._store.add(_SAID, 1) > 1
        if not is_said:
            print(f"entrocraft: {text}", file=sys.stderr, flush=True)
        sys.exit(status)

    def leave(self) -> None:
        """Wait for all processes before any ends: when one has ended with an error, the launcher kills the others."""
        if self.count > 1:
            _ignore_launcher()
            self.meet()


def launched_processes(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes a launcher has started for one run; 1 without a launcher.

    Raises:
        InvalidValueError: MPI has started several, which accelerate would take for ranks on the CPU alone.

    Example:
        >>> launched_processes({"WORLD_SIZE": "2", "RANK": "0"}), launched_processes({})
        (2, 1)
    """
    if "WORLD_SIZE" in environment:
        return int(environment["WORLD_SIZE"] or 1)
    for name in _NO_LAUNCHERS:
        if int(environment.get(name) or 1) > 1:
            raise InvalidValueError(
                f"{environment[name]} processes were started by MPI ({name}); start them by accelerate launch or "
                "torchrun"
            )
    return 1


def _warn_of_one(environment: Mapping[str, str] = os.environ) -> None:
    """Warn of `accelerate launch`, which without GPUs starts one process alone, however many are asked for."""
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment and "RANK" not in environment:
        warnings.warn(
            "accelerate launch was told of several processes and has started this one alone, which trains by itself: "
            "without GPUs it takes --multi_gpu to start them all, or torchrun",
            stacklevel=2,
        )


def refuse_several(what: str) -> None:
    """Raise `InvalidValueError` if a launcher has started several processes, where one is to do something by itself."""
    count = launched_processes()
    if count > 1:
        raise InvalidValueError(f"{what} is done by one process, and {count} were launched; leave out the launcher")


def _ignore_launcher() -> None:
    """Have this process come to its own end: when one has ended, the launcher sends SIGTERM to the others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
