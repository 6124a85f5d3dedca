"""The watch over one case: its time, its memory, and how its error reads."""

import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrocraft.errors import EntrocraftError
from fuzz.target import MOST_CHARACTERS, Case, SilentlyWrong, Target, Unbounded, fault_of_message

MOST_BYTES = 256 * 2**20
"""Memory that one case may add to what the process holds at its peak."""
_ROOM = 2 * 2**30  # of addresses beside what a process holds: beyond it, memory cannot be had

Verdict = Literal["accepted", "refused", "traceback", "unbounded", "silently_wrong"]


@dataclass(frozen=True)
class Judgement:
    """How a case ended, and why that is a fault, if it is one."""

    verdict: Verdict
    why: str = ""

    @property
    def is_fault(self) -> bool:
        return self.verdict not in ("accepted", "refused")


class _OutOfTime(BaseException):
    """Raised amid a case that takes too long; no reader catches it."""


def judge(target: Target, case: Case) -> Judgement:
    """Try a case and say how it ended."""
    try:
        with _time_limit(target.cpu_seconds, target.wall_seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = target.try_case(case)
    except _OutOfTime as error:
        return Judgement("unbounded", f"more than its time: {_place(error)}")
    except MemoryError as error:
        return Judgement("unbounded", f"more memory than there is: {_place(error)}")
    except Unbounded as error:
        return Judgement("unbounded", str(error)[:MOST_CHARACTERS])
    except SilentlyWrong as error:
        return Judgement("silently_wrong", str(error)[:MOST_CHARACTERS])
    except (EntrocraftError, OSError) as error:
        outcome, fault = "refused", fault_of_message(str(error))
        if fault:
            return Judgement("traceback", f"{type(error).__name__}: {fault}")
    except BaseException as error:  # a panic of Rust is no Exception
        return Judgement("traceback", f"{type(error).__name__}: {str(error)[:300]} ({_place(error)})")
    grown = _growth_of_peak()
    if grown > MOST_BYTES:
        return Judgement("unbounded", f"{grown / 2**20:.0f} MiB more at its peak")
    return Judgement(outcome)


def limit_memory() -> None:
    """Have this process get no more memory than it holds and some room."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def settled(target: Target, case: Case) -> Judgement:
    """Judge a case, at a fault once more: what is imported on the way counts as no case's memory or time."""
    judgement = judge(target, case)
    return judge(target, case) if judgement.verdict == "unbounded" else judgement


def _growth_of_peak() -> int:
    """Return how much more memory this process has held at its peak than when this was last asked."""
    global _peak_before
    before, _peak_before = _peak_before, _peak_bytes()
    return _peak_before - before


def _peak_bytes() -> int:
    """Return the largest memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


_peak_before = _peak_bytes()


@contextmanager
def _time_limit(cpu_seconds: float, wall_seconds: float) -> Iterator[None]:
    """Raise `_OutOfTime` within this context when either time is over; again and again, lest a reader swallow it."""
    timers = ((signal.ITIMER_PROF, signal.SIGPROF, cpu_seconds), (signal.ITIMER_REAL, signal.SIGALRM, wall_seconds))
    before = [signal.signal(number, _raise_out_of_time) for _, number, _ in timers]
    try:
        for timer, _, seconds in timers:
            signal.setitimer(timer, seconds, 1.0)
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def _raise_out_of_time(*_: Any) -> None:
    raise _OutOfTime


def _place(error: BaseException) -> str:
    """Return the last places of the library and beyond that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
