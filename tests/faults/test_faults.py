"""The short form of `make faults`: one or two faults of each kind, on real trainings."""

import json
import signal
from functools import partial
from pathlib import Path

import pytest

from faults import damage, disks, interruptions, ranks, rewards, weights
from faults.bench import Bench
from faults.clocks import jump
from faults.everything import all_faults
from faults.fault import Fault
from faults.outcomes import Comparison, compare
from faults.table import Rows
from faults.trainings import ADAPTER, PLAIN

needs_mounts = pytest.mark.skipif(bool(disks.why_no_mounts()), reason=disks.why_no_mounts() or "mounts work")

SHORT = {
    "SIGTERM amid the training": partial(interruptions.interrupt, PLAIN, [signal.SIGTERM], 0.5, 0.0, False),
    "Ctrl-C while it starts": partial(interruptions.interrupt, PLAIN, interruptions.TWICE, 0.7, 0.1, True),
    "SIGKILL while its first file is written": partial(
        interruptions.interrupt_writing, PLAIN, [signal.SIGKILL], "config.json", 1
    ),
    "SIGKILL before the last state takes its place": partial(
        interruptions.interrupt_writing, PLAIN, [signal.SIGKILL], "controller.json", 3
    ),
    "Ctrl-C twice while an adapter is written": partial(
        interruptions.interrupt_writing, ADAPTER, interruptions.TWICE, "adapter_model.safetensors", 2
    ),
    "a file that may not grow": partial(disks.limited, 7000),
    "optimizer torn": partial(damage.damaged_checkpoint, PLAIN, "optimizer.pt", "torn"),
    "random numbers missing": partial(damage.damaged_checkpoint, PLAIN, "rng_state.pth", "missing"),
    "problems torn": partial(damage.damaged_run, "problems.json", "torn"),
    "the clock set back": partial(jump, -3600.0),
    "a reward that raises": partial(rewards.fail, "raise"),
    "a reward that hangs": partial(rewards.hang, [signal.SIGINT, signal.SIGINT]),
    "NaN in a checkpoint": partial(weights.in_checkpoint, PLAIN),
    "a rank that dies": partial(ranks.end_rank, 1, 3, 0.1),
}
ON_MOUNTS = {
    "a disk that is full": partial(disks.full, PLAIN, "24m"),
    "a read-only disk": disks.mounted_read_only,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("faults"))
    yield bench
    bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_training_survives(bench, name):
    verdict = SHORT[name](bench)
    assert verdict.survived, verdict


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("name", ON_MOUNTS)
def test_a_training_survives_disks(bench, name):
    verdict = ON_MOUNTS[name](bench)
    assert verdict.survived, verdict


def test_the_faults_are_the_same_for_the_same_seed_and_have_names_of_their_own():
    names = [(fault.kind, fault.name) for fault in all_faults(7, 50)]
    assert names == [(fault.kind, fault.name) for fault in all_faults(7, 50)]
    assert len(set(names)) == len(names) > 100
    assert names != [(fault.kind, fault.name) for fault in all_faults(8, 50)]


def write_run(folder, steps, entropy=0.5):
    """Write just so much of a run as the harness compares."""
    folder.mkdir()
    lines = [{"step": step, "entropy": entropy, "seconds": float(step)} for step in steps]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("report.md", "curve.png"):
        (folder / name).touch()
    return folder


def test_the_harness_sees_what_was_lost_counted_twice_changed_and_left(tmp_path):
    whole = write_run(tmp_path / "whole", [1, 2, 3, 4])
    assert compare(write_run(tmp_path / "same", [1, 2, 3, 4]), whole) == Comparison()
    assert compare(write_run(tmp_path / "lost", [1, 2, 4]), whole).lost == 1
    assert compare(write_run(tmp_path / "twice", [1, 2, 2, 3, 4]), whole).twice == 1
    assert compare(write_run(tmp_path / "other", [1, 2, 3, 4], entropy=0.6), whole).differences == [
        "the metrics differ"
    ]
    (tmp_path / "same" / f".{'0' * 32}.json").touch()
    (tmp_path / "same" / "report.md").unlink()
    found = compare(tmp_path / "same", whole).differences
    assert found == ["report.md is missing", f".{'0' * 32}.json was left"]


def test_rows_are_kept_as_they_come_and_what_failed_is_tried_again(tmp_path):
    file, fault = tmp_path / "faults.json", Fault("kind", "name", lambda bench: None)
    well, ill = (Bench.judged("grpo", "", orphans, Comparison(), []) for orphans in (0, 2))
    rows = Rows(file, {"command": "make faults"}, go_on=True)
    rows.add(fault, well, 1.0)
    rows.add(Fault("kind", "other", fault.happen), ill, 1.0)
    kept = json.loads(Path(file).read_text())
    assert kept["table"]["all"] == {
        "tried": 2,
        "came in time": 2,
        "survived": 1,
        "lost steps": 0,
        "counted twice": 0,
        "orphans": 2,
    }
    again = Rows(file, {}, go_on=True)
    assert again.has(fault) and not again.has(Fault("kind", "other", fault.happen))
