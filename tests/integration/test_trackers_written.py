"""What tensorboard, trackio and wandb hold after a run of the command line, and what TRL logs of completions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.tracked import from_tensorboard, from_trackio, from_wandb

RUN = """
task: {num_problems: 8}
control: {schedule: "linear(0.5, 0.3)", width: 0.02, method: predicted}
train: {steps: 2, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 2, learning_rate: 1.0e-3}
eval: {every: 1, num_problems: 2, num_samples: 2, k: [1]}
"""
READERS = {"tensorboard": from_tensorboard, "trackio": from_trackio, "wandb": from_wandb}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=READERS)
def tracked(request, tmp_path_factory):
    """Train by the command line with one tracker, and return what it wrote beside what the run recorded."""
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "run.yaml").write_text(RUN)
    settings = [f"train.trl.report_to={request.param}", "train.trl.log_completions=true"]
    command = [sys.executable, "-m", "entrocraft.cli", "train", "run.yaml", "--output", "my run", *settings]
    own_places = {"HOME": str(folder), "TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline"}
    done = subprocess.run(command, cwd=folder, env=os.environ | own_places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = folder / "my run"
    lines, rollouts = (
        [json.loads(line) for line in (run / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "rollouts.jsonl")
    )
    return SimpleNamespace(
        tracker=request.param,
        wrote=READERS[request.param](folder),
        steps=[line for line in lines if "entropy" in line],
        evaluations=[line for line in lines if "eval/mean@2" in line],
        rollouts=rollouts,
        folder=run,
        shown=done.stdout,
    )


def test_the_run_has_its_own_name(tracked):
    assert tracked.wrote.name == "my run"


@pytest.mark.parametrize("name", ["entropy", "target", "lower", "upper", "kept_fraction"])
def test_each_step_is_there_with_the_curve(tracked, name):
    recorded = [(line["step"], pytest.approx(line[name], abs=1e-6)) for line in tracked.steps]
    assert len(recorded) == 2
    assert tracked.wrote.series[f"train/entrocraft/{name}"] == recorded
    if name == "target":
        assert [value for _, value in tracked.wrote.series["train/entrocraft/target"]] == pytest.approx([0.4, 0.3])


def test_held_out_scores_are_there_before_between_and_after(tracked):
    recorded = [(line["step"], pytest.approx(line["eval/mean@2"])) for line in tracked.evaluations]
    assert [step for step, _ in recorded] == [0, 1, 2]
    assert tracked.wrote.series["eval/mean@2"] == recorded


def test_trls_own_metrics_are_there_too(tracked):
    assert [step for step, _ in tracked.wrote.series["train/rewards/reward/mean"]] == [1, 2]


def test_completions_that_trl_logs_are_the_whole_batch_what_is_left_out_included(tracked):
    import pandas

    assert min(line["kept_fraction"] for line in tracked.steps) < 1
    for rollouts in tracked.rollouts:
        (file,) = (tracked.folder / "checkpoints" / "completions").glob(f"*_{rollouts['step']:05}.parquet")
        table = pandas.read_parquet(file)
        assert list(table["reward"]) == pytest.approx(rollouts["reward"]) and len(table) == 16
        assert rollouts["texts"]
        for entry in rollouts["texts"]:
            assert table["completion"][entry["row"]] == entry["completion"]
            assert entry["completion"][:8] in tracked.shown  # of the table at the terminal, which may break lines
        if tracked.tracker != "tensorboard":  # which TRL gives no tables
            assert list(table["completion"]) in tracked.wrote.completions


def test_the_page_of_the_docs_names_each():
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
    assert not [name for name in READERS if f"report_to={name}" not in page]
