"""Clocks that jump, and files whose times are in disorder."""

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial

from entrocraft.runs import RunDirectory
from faults.bench import RESUME, Bench, Verdict
from faults.fault import Fault
from faults.trainings import PLAIN

_YEARS = 365.25 * 24 * 3600
JUMPS = {"ten years back": -10 * _YEARS, "an hour back": -3600.0, "ten years ahead": 10 * _YEARS}


def clock_jumps() -> Iterator[Fault]:
    """Yield clocks that are set amid a run, and checkpoints whose times say the contrary of their numbers."""
    for name, seconds in JUMPS.items():
        yield Fault("clock jumps", f"{name} at the first checkpoint", partial(jump, seconds))
    yield Fault("clock jumps", "each checkpoint older than the one before, killed and resumed", backwards)


def jump(seconds: float, bench: Bench) -> Verdict:
    """Set the clock that the training reads; the system's own stays as it is."""
    folder = bench.new_folder(PLAIN)
    specification = folder / "strike.json"
    specification.write_text(json.dumps({"file": "trainer_state.json", "nth": 1, "clock": seconds}))
    ended = bench.strike(folder, specification.name).ended()
    return bench.verdict(PLAIN, folder, ended, wanted=[0])


def backwards(bench: Bench) -> Verdict:
    """Date the checkpoints as a clock that runs backwards would, kill the run after the second, and go on."""
    folder = bench.new_folder(PLAIN)
    run = RunDirectory(folder / "out")
    started, now = bench.train(folder), time.time()

    def has_second() -> bool:
        newest = run.last_checkpoint()
        for each in run.checkpoints.glob("checkpoint-*/*"):
            step = int(each.parent.name.partition("-")[2])
            for path in (each, each.parent):
                os.utime(path, (now - step * 1e6, now - step * 1e6))
        return newest is not None and newest[0] >= 4

    started.wait_until(has_second)
    started.send(signal.SIGKILL)
    ended = started.ended()
    resumed = bench.train(folder, command=RESUME).ended()
    return bench.verdict(PLAIN, folder, ended, wanted=[-signal.SIGKILL, 0], resumed=resumed)
