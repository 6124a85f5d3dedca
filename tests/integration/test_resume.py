"""Runs that are killed or stopped, as a user's shell or a cluster would, and resumed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrocraft.runs import RunDirectory

pytestmark = pytest.mark.slow

CONFIG = """
task: {num_problems: 20} # less than three steps an epoch
control: {schedule: "linear(1.0, 0.8, unit='initial')", width: 0.02}
train: {steps: 12, prompts_per_step: 8, rollouts_per_prompt: 4, save_every: 3, trl: {beta: 0.05}}
eval: {every: 4, num_problems: 5, num_samples: 4, k: [1, 4]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    (folder / "run.yaml").write_text(CONFIG)
    return folder


def start(folder, output, *options):
    command = [sys.executable, "-m", "entrocraft.cli", "train", "run.yaml", "--output", output, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder, output, *options):
    process = start(folder, output, *options)
    _, errors = process.communicate(timeout=180)
    return process.returncode, errors


def wait_for_step(folder, output, step):
    run, deadline = RunDirectory(folder / output), time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(run.step_metrics()) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


def without_time(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(folder):
    status, errors = finish(folder, "whole")
    assert status == 0, errors
    return RunDirectory(folder / "whole")


def same_outcome(folder, output, uninterrupted):
    run = RunDirectory(folder / output)
    assert without_time(run.metrics()) == without_time(uninterrupted.metrics())
    assert json.loads(run.controller_file.read_text()) == json.loads(uninterrupted.controller_file.read_text())


def test_a_killed_run_resumes_to_the_same_metrics_as_if_nothing_had_happened(folder, uninterrupted):
    random_step = random.randint(1, 11)  # anew each time the suite runs
    process = start(folder, "killed")
    wait_for_step(folder, "killed", random_step)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    status, errors = finish(folder, "killed", "--resume")
    assert status == 0, (random_step, errors)
    same_outcome(folder, "killed", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_run_leaves_a_checkpoint_and_resumes(folder, uninterrupted, number):
    output = f"stopped-{number}"
    process = start(folder, output)
    wait_for_step(folder, output, 4)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "go on with --resume" in errors and "Traceback" not in errors
    run = RunDirectory(folder / output)
    last = run.step_metrics()[-1]["step"]
    assert last < 12 and run.last_checkpoint()[0] == last
    assert "It stopped there" in run.report_file.read_text()
    status, errors = finish(folder, output, "--resume")
    assert status == 0, errors
    same_outcome(folder, output, uninterrupted)


def test_a_checkpoint_that_was_cut_short_is_passed_over(folder, uninterrupted):
    process = start(folder, "torn")
    wait_for_step(folder, "torn", 8)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    run = RunDirectory(folder / "torn")
    step, newest = run.last_checkpoint()
    state = Path(newest, "trainer_state.json")
    state.write_text(state.read_text()[:100])
    assert run.last_checkpoint()[0] < step
    status, errors = finish(folder, "torn", "--resume")
    assert status == 0, errors
    same_outcome(folder, "torn", uninterrupted)


def test_a_resumed_run_refuses_another_configuration(folder, uninterrupted):
    status, errors = finish(folder, "whole", "--resume", "seed=1")
    assert status == 2 and "begun with seed=0, now 1" in errors
