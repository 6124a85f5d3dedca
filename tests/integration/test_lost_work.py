"""What must not go wrong silently: checkpoints that lack something, data that changed, settings that cannot be used."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import run_command

from entrocraft.runs import RunDirectory
from entrocraft.runs.state import read_state

SMALL = """
task: {num_problems: 40}
control: {schedule: 0.55, width: 0.02}
train: {steps: 4, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 2}
eval: {every: 2, num_problems: 5, num_samples: 4, k: [1, 4]}
"""
OWN_DATA = """
task: {name: dataset, options: {train: data.jsonl, test: test.jsonl, reward: number}, num_problems: 8}
control: {schedule: 0.55, width: 0.02}
train: {steps: 2, prompts_per_step: 4, rollouts_per_prompt: 2, save_every: 1, max_completion_tokens: 4}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""
HANGING = """
import time

def hangs(completions, **columns):
    while len(completions) > 1:
        try:
            time.sleep(0.05)
        except Exception:
            pass
    return [0.0]
"""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("run.yaml").write_text(SMALL)
        result = run_command("train", "run.yaml", "--output", "out")
    assert result.exit_code == 0, result.output
    return folder / "out"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def trained(here, trained_once):
    shutil.copytree(trained_once, "out")
    return RunDirectory(Path("out"))


def resume(*options):
    return run_command("train", "run.yaml", "--output", "out", "--resume", *options)


def without_time(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def everything_in(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path(folder).rglob("*"))}


def refused(result, *messages):
    """Hold that a command ended in one clear line."""
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("entrocraft: error: ") and "Traceback" not in result.output
    for message in messages:
        assert message in line, line


def test_a_checkpoint_that_lacks_something_is_refused_and_the_whole_one_used_on_request(trained):
    before = trained.metrics()
    (trained.checkpoints / "checkpoint-4" / "optimizer.pt").unlink()
    shutil.rmtree(trained.checkpoints / "checkpoint-4" / "nothing", ignore_errors=True)
    files = everything_in("out")
    refused(resume(), "optimizer.pt is missing", "the newest whole checkpoint is of step 2", "--resume-from 2")
    assert everything_in("out") == files
    result = resume("--resume-from", "2")
    assert result.exit_code == 0, result.output
    assert without_time(trained.metrics()) == without_time(before)


@pytest.mark.slow
def test_a_run_may_be_begun_again_on_request(trained):
    before = trained.metrics()
    assert resume("--resume-from", "0").exit_code == 0
    assert without_time(trained.metrics()) == without_time(before)
    refused(resume("--resume-from", "3"), "no checkpoint of step 3", "2, 4")
    refused(run_command("train", "run.yaml", "--output", "new", "--resume-from", "2"), "holds no run")


def test_without_its_checkpoints_a_run_is_not_begun_again_unasked(trained):
    shutil.rmtree(trained.checkpoints)
    files = everything_in("out")
    refused(resume(), "holds no checkpoint, though the metrics go to step 4", "--resume-from 0")
    assert everything_in("out") == files


def test_a_bad_line_of_the_metrics_is_refused_and_nothing_is_lost(trained):
    lines = trained.metrics_file.read_text().splitlines(keepends=True)
    trained.metrics_file.write_text("".join([*lines[:3], "\n", *lines[3:]]))
    files = everything_in("out")
    refused(resume(), "metrics.jsonl, line 4: is blank")
    for command in (["plot", "out", "-o", "x.png"], ["explain", "out"], ["export", "out", "model"]):
        refused(run_command(*command), "metrics.jsonl, line 4: is blank")
    assert everything_in("out") == files and not Path("model").exists() and not Path("x.png").exists()


@pytest.mark.slow
def test_the_newest_checkpoint_stays_whatever_the_clock_says(here):
    Path("out/checkpoints").mkdir(parents=True)
    shutil.rmtree("out")
    result = run_command("train", "run.yaml", "--output", "out", "train.steps=4", "train.save_every=1")
    assert result.exit_code == 0
    run = RunDirectory(Path("out"))
    assert sorted(child.name for child in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


@pytest.mark.slow
def test_older_checkpoints_with_a_later_time_do_not_push_the_newest_out(trained):
    shutil.rmtree(trained.checkpoints / "checkpoint-4")
    later = time.time() + 10**6
    os.utime(trained.checkpoints / "checkpoint-2", (later, later))
    shutil.copytree(trained.checkpoints / "checkpoint-2", trained.checkpoints / "checkpoint-1")
    os.utime(trained.checkpoints / "checkpoint-1", (later, later))
    assert resume().exit_code == 0
    assert trained.last_checkpoint()[0] == 4


@pytest.mark.slow
def test_data_that_changed_are_refused_with_the_place(here):
    rows = [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(1, 9)]

    def write(rows):
        Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    Path("own.yaml").write_text(OWN_DATA)
    Path("test.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 2)
    write(rows)
    command = ("train", "own.yaml", "--output", "own")
    assert (result := run_command(*command)).exit_code == 0, result.output
    shutil.rmtree("own/checkpoints/checkpoint-2")
    files = everything_in("own")
    write([row | {"answer": "9"} if i == 5 else row for i, row in enumerate(rows)])
    refused(run_command(*command, "--resume"), "the data of this run have changed", "problems differ", "data.jsonl")
    assert everything_in("own") == files
    write(rows)
    assert run_command(*command, "--resume").exit_code == 0


def test_a_run_says_how_it_ended(trained):
    state = read_state(trained.state_file)
    assert (state.status, state.exit, state.why, state.pid) == ("ended", 0, "completed", os.getpid())


UNUSABLE = [
    "train.trl.beta=x",
    "train.trl.report_to=wandb",
    "train.trl.optim=adamw_bnb_8bit",
    "train.trl.optim=nonsense",
    "train.trl.epsilon=x",
    "train.trl.max_grad_norm=x",
    "train.trl.adam_beta2=x",
    "train.trl.lr_scheduler_type=nonsense",
    "train.trl={lr_scheduler_type: cosine, lr_scheduler_kwargs: {a: 1}}",
    "train.trl.steps_per_generation=x",
    "train.trl.num_iterations=x",
    "train.trl.top_entropy_quantile=x",
    "train.trl.scale_rewards=nonsense",
    "train.trl.generation_kwargs=3",
    "train.trl.reward_weights=[1, 2]",
    "train.trl.weight_decay=x",
    "train.trl.top_k=x",
    "train.trl.use_vllm=true",
    "train.trl.deepspeed=nowhere.json",
    "train.trl.use_liger_kernel=true",
    "train.trl.dataloader_num_workers=x",
    "train.lora={r: 4, target_modules: nonsense}",
    "train.trl.save_only_model=true",
    "train.trl.save_strategy=no",
    "train.trl.save_total_limit=x",
    "train.trl.num_train_epochs=3",
    "train.trl.model_init_kwargs={dtype: bfloat16}",
    "train.trl.ignore_data_skip=true",
]


@pytest.mark.slow
@pytest.mark.parametrize("setting", UNUSABLE)
def test_settings_that_cannot_be_used_are_one_line_and_leave_everything_as_it_was(here, setting):
    Path("there").mkdir()
    before = everything_in(".")
    for output in ("new/run", "there"):
        refused(run_command("train", "run.yaml", "--output", output, setting))
        assert everything_in(".") == before


def start(folder, *arguments):
    command = [sys.executable, "-m", "entrocraft.cli", "train", "run.yaml", "--output", "out", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_reward_that_hangs_can_be_stopped_by_a_second_ctrl_c(here):
    Path("mine.py").write_text(HANGING)
    Path("data.jsonl").write_text("".join(json.dumps({"prompt": f"{i}+1=", "answer": "2"}) + "\n" for i in range(1, 9)))
    Path("test.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 2)
    Path("run.yaml").write_text(OWN_DATA.replace("reward: number", "reward: 'mine:hangs'"))
    process = start(here)
    run = RunDirectory(here / "out")
    try:
        wait_until(run.state_file.exists)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        while "stopping" not in said:
            said = process.stderr.readline()
        assert "stopping after this step" in said
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "--resume" in errors and "Traceback" not in errors
    assert read_state(run.state_file).why == "stopped by SIGINT"


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_a_run_resumably(here):
    process = start(here, "train.steps=40", "train.save_every=40", "eval.every=0")
    run = RunDirectory(here / "out")
    wait_until(lambda: run.metrics_file.exists() and run.last_step() >= 1)
    assert read_state(run.state_file).status == "running"
    process.stdout.close()  # nobody reads any more
    process.send_signal(signal.SIGHUP)
    process.stderr.close()
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert run.last_checkpoint()[0] == run.last_step()
    state = read_state(run.state_file)
    assert (state.why, state.exit) == ("stopped by SIGHUP", 129)
