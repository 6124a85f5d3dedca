"""Weights that are no numbers: in a checkpoint, in the model itself, or because the run has diverged."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from faults.bench import RESUME, Bench, Verdict
from faults.damage import NEWEST
from faults.fault import Fault
from faults.outcomes import Comparison
from faults.trainings import ADAPTER, PLAIN, Training


def weights_that_are_no_numbers() -> Iterator[Fault]:
    """Yield NaN in a checkpoint's weights, in the model's, and a run that diverges."""
    yield Fault("NaN weights", "in the newest checkpoint", lambda bench: in_checkpoint(PLAIN, bench))
    yield Fault("NaN weights", "in the newest checkpoint's adapter", lambda bench: in_checkpoint(ADAPTER, bench))
    yield Fault("NaN weights", "in the newest checkpoint of a complete run", lambda bench: in_last(PLAIN, bench))
    yield Fault("NaN weights", "in the model", in_model)
    yield Fault("NaN weights", "by a learning rate of 1e39", by_divergence)


def spoil(file: Path) -> None:
    """Put NaN into the first weight of a safetensors file."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(file, "pt") as opened:
        about, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, file, metadata=about)


def in_checkpoint(training: Training, bench: Bench) -> Verdict:
    """Resume from a checkpoint with NaN, of a run that has steps left to make."""
    folder = bench.new_folder(training, begun=True)
    shutil.rmtree(folder / "out" / "checkpoints" / NEWEST)
    shutil.copytree(folder / "out" / "checkpoints" / "checkpoint-4", folder / "out" / "checkpoints" / "checkpoint-2")
    weights = next((folder / "out" / "checkpoints" / "checkpoint-4").glob("*model.safetensors"))
    spoil(weights)
    ended = bench.train(folder, command=RESUME).ended()
    resumed = bench.train(folder, "--resume-from", "0").ended()
    return bench.verdict(training, folder, ended, wanted=[2], words=("NaN", "--resume-from"), resumed=resumed)


def in_last(training: Training, bench: Bench) -> Verdict:
    """Resume a complete run of which the last checkpoint holds NaN."""
    folder = bench.new_folder(training, begun=True)
    spoil(folder / "out" / "checkpoints" / NEWEST / "model.safetensors")
    (folder / "out" / "report.md").unlink()
    ended = bench.train(folder, command=RESUME).ended()
    resumed = bench.train(folder, "--resume-from", "4").ended()
    return bench.verdict(training, folder, ended, wanted=[2], words=("NaN", "--resume-from 4"), resumed=resumed)


def in_model(bench: Bench) -> Verdict:
    """Train a model with NaN, which must leave nothing behind; then the sound one."""
    from entrocraft.models import resolve_model

    folder = bench.new_folder(PLAIN)
    shutil.copytree(resolve_model("countdown-base"), folder / "model")
    spoil(folder / "model" / "model.safetensors")
    ended = bench.train(folder, "model=model").ended()
    left = [] if not (folder / "out").exists() else ["a run directory was left"]
    resumed = bench.train(folder).ended()
    verdict = bench.verdict(PLAIN, folder, ended, wanted=[2], words=("NaN",), resumed=resumed)
    return bench.also(verdict, left)


def by_divergence(bench: Bench) -> Verdict:
    """Train at a learning rate that no model survives; there is no run to compare with."""
    folder = bench.new_folder(PLAIN)
    ended = bench.train(folder, "train.learning_rate=1e39").ended()
    problems = [] if ended.status == 2 else [f"exit status {ended.status}, wanted 2"]
    problems += [f"it did not say {word!r}" for word in ("diverged", "learning_rate") if word not in ended.last_line]
    problems += ["a traceback"] if "Traceback" in ended.said else []
    return bench.judged(PLAIN.name, ended.last_line, ended.orphans, Comparison(), problems)
