"""`entrocraft train` on two processes, as `accelerate launch` starts them: one run, the same as on one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.commands import run_command
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer
from two_ranks_train import CONFIG, fix_completions

from entrocraft.runs import RunDirectory

pytestmark = pytest.mark.slow
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
REWARDS = """
import os


def digits(completions, **columns):
    return [sum(character in "02468(" for character in text) / 8 for text in completions]


def raising(completions, **columns):
    if os.environ["RANK"] == "1" and len(completions) > 1:
        raise ValueError("no reward here")
    return digits(completions)
"""


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture(scope="module")
def folder(tiny_model, tokenizer, tmp_path_factory):
    """Return the folder in which all commands have ended on both ranks."""
    folder = tmp_path_factory.mktemp("launched")
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "rewards.py").write_text(REWARDS)
    problems = [{"numbers": f"{number},{number + 3}"} for number in range(20)]
    (folder / "problems.jsonl").write_text("".join(f"{json.dumps(problem)}\n" for problem in problems))
    script = str(Path(__file__).with_name("two_ranks_train.py"))
    done = subprocess.run(
        [*LAUNCH, script, str(folder)], capture_output=True, text=True, timeout=300, env=environment(), cwd=folder
    )
    assert all((folder / f"ended-{rank}.json").exists() for rank in (0, 1)), done.stderr[-3000:]
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    """Work in that folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is put there
    yield folder
    sys.modules.pop("rewards", None)


def ended(folder, name, status):
    """Return what the main process said on a command, after checking that the other one ended alike and said nothing.

    Progress bars of libraries and the warning of this test's problems aside.
    """
    main, other = (json.loads((folder / f"ended-{rank}.json").read_text())[name] for rank in (0, 1))
    assert (main["status"], other["status"]) == (status, status), (main, other)
    assert not other["said"] and "entrocraft" not in other["erred"]
    lines = [line for line in main["erred"].splitlines() if line.startswith("entrocraft: ") and "warning" not in line]
    return main["said"], lines


def lines_of(run):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in run.metrics()]


def weights_of(run, step=4):
    return load_file(run.checkpoints / f"checkpoint-{step}" / "model.safetensors")


# ---- one run ----------------------------------------------------------------------------------------------


@pytest.fixture
def one(there, monkeypatch):
    """Return the run of one process with the same completions."""
    run = RunDirectory(there / "one")
    if not run.exists:
        monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", GRPOTrainer._generate_single_turn)
        fix_completions()
        assert run_command("train", "run.yaml", "--output", "one").exit_code == 0
    return run


@pytest.mark.parametrize("how", ["fixed", "sharded", "sharded again"])
def test_two_processes_are_one_on_the_same_completions(there, one, how):
    said, errors = ended(there, how, 0)
    output = how.split()[0]
    assert said.endswith(f"done: {output}/report.md\n") and not errors
    two = RunDirectory(Path(output))
    assert one.config() == two.config()
    assert len(one.step_metrics()) == 4 and len(one.eval_metrics()) == 3
    assert any(line["kept_token_fraction"] < 1 for line in one.step_metrics())
    for mine, theirs in zip(lines_of(one), lines_of(two), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    before = load_file("model/model.safetensors")
    for name, weight in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], weight, rtol=0, atol=1e-6)
        assert weight.dtype == torch.float64 and not torch.equal(weight, before[name])
    recorded = [len(run.rollouts_file.read_text().splitlines()) for run in (one, two)]
    assert recorded[0] == recorded[1] == 4
    is_sharded = (two.checkpoints / "checkpoint-2" / "pytorch_model_fsdp.bin").exists()
    assert is_sharded == (output == "sharded")


def test_all_stop_at_the_step_at_which_one_was_told_to_and_go_on_as_if_they_had_not(there):
    _, told = ended(there, "stopped", 143)
    assert told == ["entrocraft: stopped by SIGTERM after step 2; go on with --resume"]
    assert [line["step"] for line in RunDirectory(Path("stopped")).step_metrics()] == [1, 2]
    assert json.loads(Path("stopped/state.json").read_text())["why"] == "stopped by SIGTERM"
    ended(there, "whole", 0)
    ended(there, "resumed", 0)
    whole, resumed = RunDirectory(Path("whole")), RunDirectory(Path("resumed"))
    assert lines_of(whole) == lines_of(resumed)
    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], weight)
    # Each drew rollouts of its own, by random numbers of its own.
    files = sorted(file.name for file in (resumed.checkpoints / "checkpoint-4").glob("rng_state*"))
    assert files == ["rng_state_0.pth", "rng_state_1.pth"]


def test_a_complete_run_is_gone_on_with_by_any_number_of_processes(there):
    said, _ = ended(there, "again", 0)
    assert said == "done: resumed/report.md\n"
    before = lines_of(RunDirectory(Path("resumed")))
    assert run_command("train", "run.yaml", "--output", "resumed", "--resume").exit_code == 0
    assert lines_of(RunDirectory(Path("resumed"))) == before


def test_another_number_of_processes_is_refused_with_a_way_on_and_nothing_changed(there):
    before = Path("stopped/metrics.jsonl").read_bytes()
    result = run_command("train", "run.yaml", "--output", "stopped", "--resume")
    assert result.exit_code == 2
    assert "checkpoint-2 was saved by 2 processes, and 1 would go on" in result.stderr
    assert "Launch as many as before, or begin a new run from these weights, with model=" in result.stderr
    assert Path("stopped/metrics.jsonl").read_bytes() == before
    Path("stopped/checkpoints/checkpoint-2/rng_state_1.pth").unlink()
    assert "saved by 2" in run_command("train", "run.yaml", "--output", "stopped", "--resume").stderr


# ---- mistakes ---------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_each_process_does_and_writes_nothing(there):
    said, _ = ended(there, "dry", 0)
    assert "in 2 micro-batches of 8, each divided among 2 processes, 4 prompts in each batch" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clash", "error: resumed already holds a run"),
        ("unknown", "error: config: unknown key 'train.stepz'"),
        ("odd", "error: train.micro_batch_size must be a multiple of 2, the processes that share each pass, got 5"),
        ("lacking", "error: process 1: cannot read lacking.yaml: No such file"),
        ("unsharded", "error: FSDP was asked for, and accelerate shards nothing on the cpu"),
        ("unlike", "do not have the same configuration: give all machines the same files"),
        ("raising", "error: process 1: reward 'rewards:raising' raised"),
    ],
)
def test_what_is_wrong_in_any_process_is_said_once_and_ends_all(there, name, expected):
    said, (error,) = ended(there, name, 2)
    assert not said and expected in error
    assert not Path("new").exists() and not Path("raising").exists()


# ---- a launcher --------------------------------------------------------------------------------------------


def test_the_command_is_launched_stopped_and_resumed(tmp_path):
    recipe = Path(__file__).parents[2] / "recipes" / "countdown.yaml"
    small = ["train.steps=4", "train.prompts_per_step=4", "train.save_every=1", "eval.num_problems=2", "eval.k=[1]"]
    arguments = ["train", str(recipe), *small, "eval.num_samples=2", "--output", "run"]
    command = [*LAUNCH, "-m", "entrocraft.cli", *arguments]
    options = {"text": True, "env": environment(), "cwd": tmp_path, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step 1/4"):
            assert process.poll() is None, process.stderr.read()[-3000:]
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=200)[1]
    assert "entrocraft: SIGTERM: stopping after this step" in said and "entrocraft: stopped by SIGTERM after" in said
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["exit"], state["why"]) == (143, "stopped by SIGTERM")
    made = [line["step"] for line in RunDirectory(tmp_path / "run").step_metrics()]
    done = subprocess.run([*command, "--resume"], stdout=subprocess.PIPE, timeout=200, **options)
    assert done.returncode == 0 and done.stdout.endswith("done: run/report.md\n"), done.stderr[-3000:]
    lines = RunDirectory(tmp_path / "run").step_metrics()
    assert 1 <= len(made) < 4 and [line["step"] for line in lines] == [1, 2, 3, 4]
