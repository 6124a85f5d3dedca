"""Files of a run and of its checkpoints that are torn or missing."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from faults.bench import RESUME, Bench, Verdict
from faults.fault import Fault
from faults.interruptions import ADAPTER_FILES, CHECKPOINT_FILES
from faults.trainings import ADAPTER, PLAIN, Training

HARMS = ("missing", "torn")
OF_THE_RUN = (
    "config.json",
    "state.json",
    "problems.json",
    "metrics.jsonl",
    "rollouts.jsonl",
    "controller.json",
)
NEWEST = "checkpoint-6"


def damaged_checkpoints() -> Iterator[Fault]:
    """Yield each file of the newest checkpoint, missing and torn."""
    names = [(PLAIN, name) for name in ("config.json", *CHECKPOINT_FILES)]
    for training, name in [*names, *((ADAPTER, name) for name in ADAPTER_FILES)]:
        for harm in HARMS:
            case = partial(damaged_checkpoint, training, name, harm)
            yield Fault("damaged checkpoint", f"{name} {harm}", case)


def damaged_runs() -> Iterator[Fault]:
    """Yield each file of a run directory, missing and torn."""
    for name in OF_THE_RUN:
        for harm in HARMS:
            yield Fault("damaged run", f"{name} {harm}", partial(damaged_run, name, harm))


def do_harm(file: Path, harm: str) -> None:
    """Remove a file, or its second half."""
    if harm == "missing":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])


def damaged_checkpoint(training: Training, name: str, harm: str, bench: Bench) -> Verdict:
    """Resume from a damaged checkpoint: exactly, or after the line that says from where one can go on."""
    folder = bench.new_folder(training, begun=True)
    do_harm(folder / "out" / "checkpoints" / NEWEST / name, harm)
    ended = bench.train(folder, command=RESUME).ended()
    resumed = None
    if ended.status != 0:
        resumed = bench.train(folder, "--resume-from", "4").ended()
    return bench.verdict(
        training, folder, ended, wanted=[0, 2], words=("--resume-from 4", name), resumed=resumed
    )  # fmt: skip


def damaged_run(name: str, harm: str, bench: Bench) -> Verdict:
    """Resume a run of which a file is damaged: exactly, or, after a line that names it, with the file put back."""
    folder = bench.new_folder(PLAIN, begun=True)
    shutil.rmtree(folder / "out" / "checkpoints" / NEWEST)  # so that there is something left to train
    file = folder / "out" / name
    whole = file.read_bytes()
    if not whole and harm == "torn":
        file.write_bytes(b"x")
    else:
        do_harm(file, harm)
    ended = bench.train(folder, command=RESUME).ended()
    resumed = None
    if ended.status != 0:
        file.write_bytes(whole)
        resumed = bench.train(folder, command=RESUME).ended()
    rollouts = name != "rollouts.jsonl"  # what a file has lost is no step that the run has lost
    return bench.verdict(
        PLAIN, folder, ended, wanted=[0, 2], words=(name,), resumed=resumed, rollouts=rollouts
    )  # fmt: skip
