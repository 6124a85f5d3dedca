"""Signals: at random moments, and while a file of the run is being written."""

import json
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from entrocraft.runs import RunDirectory
from entrocraft.runs.state import read_state
from faults.bench import RESUME, TRAIN, Bench, Verdict
from faults.child import STRUCK
from faults.fault import Fault
from faults.processes import Ended, Started, command_line
from faults.trainings import ADAPTER, GRADED, PLAIN, STEPS, UNCONTROLLED, Training

KILL, TERMINATE, HANG_UP = [signal.SIGKILL], [signal.SIGTERM], [signal.SIGHUP]
TWICE = [signal.SIGINT, signal.SIGINT]
SIGNALS = {"SIGKILL": KILL, "SIGTERM": TERMINATE, "SIGHUP": HANG_UP, "Ctrl-C twice": TWICE}
_MOST_SECONDS_BETWEEN = 1.0
RUN_FILES = (
    "config.json",
    "state.json",
    "problems.json",
    "metrics.jsonl",
    "rollouts.jsonl",
    "controller.json",
    "curve.png",
    "report.md",
)
CHECKPOINT_FILES = (
    "entrocraft.json",
    "model.safetensors",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
WRITTEN_NATIVELY = ("tokenizer.json",)
"""Files that are written where no strike of `child.py` reaches; they are watched from outside."""
REMOVED = ("checkpoint-2",)
"""A checkpoint that is removed when two newer ones are there."""


def random_moments(count: int, seed: int) -> Iterator[Fault]:
    """Yield signals at random moments of trainings; every fifth comes while the command is still starting."""
    rng = random.Random(seed)
    trainings = (PLAIN, ADAPTER, GRADED, UNCONTROLLED)
    for number in range(count):
        name, training = [*SIGNALS][number % len(SIGNALS)], trainings[number // len(SIGNALS) % len(trainings)]
        moment, gap, starting = rng.random(), rng.random() * _MOST_SECONDS_BETWEEN, number % 5 == 4
        # Of the training itself: so many steps, and a share of the time of one.
        where = f"after {moment:.0%} of its start" if starting else f"{moment * STEPS:.2f} steps after its beginning"
        case = partial(interrupt, training, SIGNALS[name], moment, gap, starting)
        yield Fault("random moments", f"{number + 1}: {name} {where}", case)


def aimed() -> Iterator[Fault]:
    """Yield SIGKILL at each file that a run writes, and one of the other signals in turn at every second of them."""
    others = [name for name in SIGNALS if name != "SIGKILL"]
    places = [(PLAIN, name) for name in (*RUN_FILES, *CHECKPOINT_FILES, *REMOVED)]
    places += [(ADAPTER, name) for name in ADAPTER_FILES]
    for number, (training, file) in enumerate(places):
        for name in ("SIGKILL", *others[number % 6 // 2 : number % 6 // 2 + 1 - number % 2]):
            nth = 2 if file in ("state.json", "metrics.jsonl", "rollouts.jsonl", *CHECKPOINT_FILES) else 1
            nth = 3 if file == "controller.json" else nth  # the last, after the last checkpoint
            case = partial(interrupt_writing, training, SIGNALS[name], file, nth)
            yield Fault("files being written", f"{name} while {file} is written", case)


def interrupt(
    training: Training, signals: list[int], moment: float, gap: float, starting: bool, bench: Bench
) -> Verdict:
    """Send signals when a share of the start of the command, or of the training after it, is over; and go on."""
    seconds = bench.undisturbed(training).seconds
    folder = bench.new_folder(training)
    if starting:
        begin = moment * bench.seconds_to_begin()
        started = Started(command_line(*TRAIN), folder)
        time.sleep(begin)
    else:
        # By the steps made, since a machine that others use is no clock.
        steps, share = divmod(moment * STEPS, 1.0)
        run = RunDirectory(folder / "out")
        started = bench.train(folder)
        started.wait_until(lambda: run.state_file.exists() and run.last_step() >= steps)
        time.sleep(share * seconds / (STEPS + 1))  # evaluations and the report count as one more
    struck = started.send(signals[0])
    for number in signals[1:]:
        time.sleep(gap)
        started.send(number)
    return replace(_went_on(training, signals, folder, started.ended(), bench), struck=struck)


def interrupt_writing(training: Training, signals: list[int], file: str, nth: int, bench: Bench) -> Verdict:
    """Send signals while a file is being written for the nth time, and go on."""
    folder = bench.new_folder(training)
    if file in WRITTEN_NATIVELY:
        started = bench.train(folder)
        started.wait_until(lambda: any(folder.glob(f"out/checkpoints/checkpoint-{2 * nth}/{file}")))
        hit = all([started.send(number) for number in signals])
    else:
        specification = folder / "strike.json"
        specification.write_text(json.dumps({"file": file, "nth": nth, "signals": signals}))
        started = bench.strike(folder, specification.name)
        started.wait_until(lambda: False)
        hit = (folder / STRUCK).exists()
    verdict = _went_on(training, signals, folder, started.ended(), bench)
    return verdict if hit else bench.also(verdict, [f"the fault did not happen: {file} was not written {nth} times"])


def _went_on(training: Training, signals: list[int], folder: Path, ended: Ended, bench: Bench) -> Verdict:
    """Judge an interrupted run after it was resumed."""
    run = RunDirectory(folder / "out")
    state = read_state(run.state_file)
    # Before a run has begun, and after it has ended, a signal does what the system does of itself.
    is_open = state is not None and state.status != "ended"
    wanted = [0, -signals[0]] if signals == KILL or not is_open else [0]
    wanted += [] if signals == KILL else [128 + signals[0]]
    words = () if not run.exists or signals == KILL else ("--resume",)
    resumed = bench.train(folder, command=RESUME).ended()
    return bench.verdict(training, folder, ended, wanted=wanted, words=words, resumed=resumed)
