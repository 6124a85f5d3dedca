"""Trainings on two gloo ranks, of which one dies, or both are ended."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from faults.bench import Bench, Verdict
from faults.fault import Fault
from faults.outcomes import Comparison
from faults.processes import Ended, Started
from faults.trainings import STEPS

SCRIPT = "faults.two_ranks"
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", SCRIPT]
WHOM = {"rank 0": 0, "rank 1": 1}


def ranks_that_die(seed: int) -> Iterator[Fault]:
    """Yield deaths of a rank at random moments, and signals to the launcher."""
    rng = random.Random(seed)
    for name, rank in WHOM.items():
        for number in range(2):
            step, share = rng.randrange(STEPS), rng.random()
            case = partial(end_rank, rank, step, share)
            yield Fault("two ranks", f"{number + 1}: SIGKILL to {name} after step {step} and {share:.2f} s", case)
    for name, number in (("SIGTERM", signal.SIGTERM), ("Ctrl-C", signal.SIGINT)):
        yield Fault("two ranks", f"{name} to the launcher", partial(end_launcher, number))
    yield Fault("two ranks", "random numbers of rank 1 missing", without_random_numbers)


def end_rank(rank: int, step: int, share: float, bench: Bench) -> Verdict:
    """Kill one rank, whose death must end the other, and go on."""
    undisturbed = _undisturbed(bench)
    folder = _new_folder(bench)
    started = Started([*LAUNCH, str(folder)], folder)
    started.wait_until(lambda: _steps_made(folder) >= step and (folder / f"pid-{rank}").exists())
    time.sleep(share)
    pid = int((folder / f"pid-{rank}").read_text())
    hit = not started.has_ended and psutil.pid_exists(pid)
    if hit:
        os.kill(pid, signal.SIGKILL)
    ended = started.ended()
    # The launcher names the rank and its signal.
    problems = [] if not hit or ended.status != 0 else ["the launcher ended with 0"]
    problems += [] if not hit or "SIGKILL" in ended.said or "-9" in ended.said else ["nobody said which rank died"]
    return _went_on(bench, folder, undisturbed, ended, problems)


def end_launcher(number: int, bench: Bench) -> Verdict:
    """Send a signal to the launcher, as a cluster or a person does, and go on."""
    undisturbed = _undisturbed(bench)
    folder = _new_folder(bench)
    started = Started([*LAUNCH, str(folder)], folder)
    started.wait_until(lambda: _steps_made(folder) >= 3)
    started.send(number)
    return _went_on(bench, folder, undisturbed, started.ended(), [])


def without_random_numbers(bench: Bench) -> Verdict:
    """Remove the second rank's random numbers from the newest checkpoint, which is then passed over by the script."""
    undisturbed = _undisturbed(bench)
    folder = _new_folder(bench)
    shutil.copytree(undisturbed / "checkpoints", folder / "checkpoints")
    (folder / "checkpoints" / f"checkpoint-{STEPS}" / "rng_state_1.pth").unlink()
    ended = Started([*LAUNCH, str(folder), str(STEPS)], folder).ended()
    said = "rng_state_1.pth is missing" in ended.said
    problems = [] if ended.status != 0 and said else ["a checkpoint without rank 1's random numbers was resumed"]
    return _went_on(bench, folder, undisturbed, ended, problems)


def _undisturbed(bench: Bench) -> Path:
    folder = bench.folder / "undisturbed-two-ranks"
    if not folder.exists():
        folder.mkdir()
        ended = Started([*LAUNCH, str(folder)], folder).ended()
        assert ended.status == 0, ended.said[-3000:]
    return folder


def _new_folder(bench: Bench) -> Path:
    folder = bench.folder / f"two-ranks-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


def _went_on(bench: Bench, folder: Path, undisturbed: Path, ended: Ended, problems: list[str]) -> Verdict:
    """Judge a run on two ranks after it was resumed."""
    resumed = Started([*LAUNCH, str(folder)], folder).ended()
    if resumed.status != 0:
        problems = [*problems, f"going on ended with {resumed.status}: {resumed.said[-300:]}"]
    lines, wanted = _log(folder), _log(undisturbed)
    have, should = Counter(line["step"] for line in lines), Counter(line["step"] for line in wanted)
    differences = [] if lines == wanted else ["the metrics differ"]
    comparison = Comparison((should - have).total(), (have - should).total(), differences)
    shutil.rmtree(folder)
    said = next((line for line in reversed(ended.said.splitlines()) if "exitcode" in line or "Error" in line), "")
    return bench.judged("two gloo ranks", said.strip(), ended.orphans + resumed.orphans, comparison, problems)


def _log(folder: Path) -> list[dict[str, float]]:
    log = folder / "log.json"
    lines = json.loads(log.read_text()) if log.exists() else []
    return [{key: value for key, value in line.items() if "time" not in key} for line in lines if "loss" in line]


def _steps_made(folder: Path) -> int:
    progress = folder / "progress.txt"
    return int(progress.read_text() or 0) if progress.exists() else 0
