"""Time limits for graders: calls that may take too long, in processes that can be ended.

A signal cannot end such a call: it does not interrupt arithmetic on huge integers, and works in the main thread only.
Forking a process that holds torch is fragile, and Python's own spawning would run a user's script again. So each worker
is a fresh interpreter, `grading.worker`, that reads calls and writes results, one JSON line each. It is kept from
writing files, starting processes and opening connections, because some graders evaluate what a model wrote.
"""

import json
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any

from entrocraft.errors import InvalidValueError, MissingDependencyError, RewardError

Call = Sequence[Any] | Mapping[str, Any]
"""Arguments of one call: by position, or by name."""

_START_SECONDS = 120.0  # until a worker's imports are done, on a machine that is busy
_LATE = object()  # in the place of a result that never came
_NOTHING = object()  # where no value is given for calls that raise


def check_seconds(seconds: float) -> None:
    """Refuse a time limit that is none.

    Raises:
        InvalidValueError: It is not positive, or not finite.
    """
    if not 0 < seconds < 1e6:
        raise InvalidValueError(f"seconds must be positive and finite, got {seconds}")


@dataclass
class Tally:
    """How many calls were made under a time limit, and how many of them came to nothing."""

    made: int = 0
    lost: int = 0
    """Calls that took too long, or on which the function raised."""

    def since(self, before: "Tally") -> "Tally":
        """Return what has been added to an earlier tally."""
        return Tally(self.made - before.made, self.lost - before.lost)


_tally = Tally()


def tally() -> Tally:
    """Return how many calls this process has made so far.

    Example:
        >>> before = tally()
        >>> time_limited("math:sqrt", seconds=20.0).map([(4.0,), (-1.0,)], late=0.0, failed=-1.0)
        [2.0, -1.0]
        >>> tally().since(before)
        Tally(made=2, lost=1)
    """
    return replace(_tally)


class TimeLimited:
    """A function that is called in other processes, where a call that takes too long is ended.

    Args:
        function: Import path, `package.module:function`. It must take and return what JSON can hold; of other values
            that it returns, `float` is taken.
        seconds: Time for one call.
        num_workers: Number of processes, each of which works on one call at a time.
        package: Package that the function needs, named where it is not installed.

    Raises:
        InvalidValueError: `seconds` is not positive and finite.
        MissingDependencyError: The package is not installed.

    Example:
        >>> slow = TimeLimited("time:sleep", seconds=0.2, num_workers=1)
        >>> import warnings
        >>> with warnings.catch_warnings(record=True):
        ...     slow.map([(0.0,), (60.0,), (0.0,)], late="late")
        [None, 'late', None]
        >>> slow.num_late
        1
    """

    def __init__(self, function: str, seconds: float, *, num_workers: int = 2, package: str | None = None):
        check_seconds(seconds)
        if package is not None and find_spec(package.replace("-", "_")) is None:
            raise MissingDependencyError(f"{package} is needed here: pip install 'entrocraft[tasks]'")
        self.function, self.seconds = function, seconds
        self.num_late = 0
        """Number of calls that have taken too long so far."""
        self.num_failed = 0
        """Number of calls so far on which the function raised, where that was not to end anything."""
        self._workers = [_Worker(function, seconds) for _ in range(num_workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(num_workers)

    def map(self, calls: Sequence[Call], late: Any, failed: Any = _NOTHING) -> list[Any]:
        """Return what the function returns for each call, `late` for each that took too long.

        Args:
            calls: Arguments of each call.
            late: Value in the place of a result that did not come in time, or of a process that died. The first one is
                warned of, and all are counted in `num_late`.
            failed: Value in the place of what a call would have returned on which the function raised; the first one is
                warned of, and all are counted in `num_failed`. By default that is an error.

        Raises:
            RewardError: The function raised and no `failed` is given, or it cannot be loaded.
            TypeError, ValueError: Arguments are no JSON.
        """
        # A thread for each worker: it waits for the worker's answer, and for nothing else.
        futures = [self._threads.submit(self._call, call) for call in calls]
        try:
            results = [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            for worker in self._workers:
                worker.end()  # whoever pressed Ctrl-C does not wait for it
            raise
        _tally.made += len(calls)
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, _Raised):
                if failed is _NOTHING:
                    raise RewardError(f"{self.function} {result.what} on {_shortened(call)}")
                if not self.num_failed:
                    self._warn(f"{result.what}", call, failed)
                self.num_failed += 1
                _tally.lost += 1
            elif result is _LATE:
                if not self.num_late:
                    self._warn(f"took more than {self.seconds:g} s or too much memory, and was ended,", call, late)
                self.num_late += 1
                _tally.lost += 1
        return [failed if isinstance(result, _Raised) else late if result is _LATE else result for result in results]

    def _warn(self, what: str, call: Call, value: Any) -> None:
        """Warn of the first call that came to nothing."""
        warnings.warn(
            f"{self.function} {what} on {_shortened(call)}; "
            f"this counts as {value!r} here and wherever it happens again",
            stacklevel=3,
        )

    def _call(self, arguments: Call) -> Any:
        """Give one call to a worker that is idle; there are as many threads as workers, so that one always is."""
        worker = self._idle.get()
        try:
            return worker.call(arguments)
        finally:
            self._idle.put(worker)


@cache
def time_limited(function: str, seconds: float, package: str | None = None) -> TimeLimited:
    """Return the one `TimeLimited` of this process for these arguments, whose workers stay for later calls."""
    return TimeLimited(function, seconds, package=package)


@dataclass(frozen=True)
class _Raised:
    """In the place of a result: what the function did instead of returning one."""

    what: str


class _Worker:
    """An interpreter that makes calls; started when it is first needed, and again after it was ended.

    Args:
        function: Import path of the function.
        seconds: Time for one call.
    """

    def __init__(self, function: str, seconds: float):
        self._function, self._seconds = function, seconds
        self._process: subprocess.Popen[str] | None = None
        self._reader = ThreadPoolExecutor(1)  # so that waiting for a line can have an end

    def call(self, arguments: Call) -> Any:
        """Return what the function returns, `_LATE`, or what it raised as `_Raised`."""
        try:
            answer = self._answer(arguments)
            # It died: somebody else may have ended it, so the call has another try; if the call did, it dies again.
            if answer is None:
                answer = self._answer(arguments)
        except TimeoutError:
            self.end()
            return _LATE
        if answer is None:
            return _LATE
        if "error" in answer:
            return _Raised(" ".join(answer["error"].split()))
        return answer["result"]

    def _answer(self, arguments: Call) -> dict[str, Any] | None:
        """Return the worker's answer to one call; None if the worker died.

        Raises:
            TimeoutError: The call took too long.
            TypeError, ValueError: The arguments are no JSON.
        """
        line = json.dumps(arguments) + "\n"
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = self._read(process, self._seconds)
        except (OSError, ValueError) as error:  # the pipe is broken or closed, or half a line came through it
            if isinstance(error, TimeoutError):
                raise
            answer = None
        if answer is None:
            self.end()
        return answer

    def _start(self) -> "subprocess.Popen[str]":
        """Start the interpreter, and wait until it has loaded the function."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "entrocraft.grading.worker", self._function, str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},  # some functions depend on the order of sets
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._finalizer = weakref.finalize(self, _ended, process)  # also when this interpreter ends
        try:
            ready = self._read(process, _START_SECONDS)
        except TimeoutError:
            ready = None
        if ready is None or "error" in ready:
            self.end()
            why = "its process did not start" if ready is None else ready["error"]
            raise RewardError(f"{self._function} cannot be loaded: {why}")
        return process

    def _read(self, process: "subprocess.Popen[str]", seconds: float) -> dict[str, Any] | None:
        """Return what the next line says; None if the process died, `TimeoutError` if nothing comes in time."""
        assert process.stdout is not None
        line = self._reader.submit(process.stdout.readline).result(timeout=seconds)
        return json.loads(line) if line else None

    def end(self) -> None:
        """End the interpreter, whatever it is doing."""
        if self._process is not None:
            self._process = None
            self._finalizer()


def _ended(process: "subprocess.Popen[str]") -> None:
    """End a process and close its pipes; no method of the worker, which may be gone when this runs."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was written and never read
            pipe.close()  # type: ignore[union-attr]
    process.wait()


def _shortened(value: Any, length: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
