"""`entrocraft diagnose` before a run and `entrocraft explain` after it."""

import json
from pathlib import Path

import pytest
import yaml
from support.commands import run_command

from entrocraft.config import parse_config

SMALL = ("diagnose", "countdown-base", "--task", "countdown", "--num-prompts", "6", "--num-rollouts", "4")
RUN = """
task: {num_problems: 40}
control: {schedule: 0.55, width: 0.02}
train: {steps: 9, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 9}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return run_command


def test_a_diagnosis_is_printed_and_its_block_can_be_pasted(cli):
    result = cli(*SMALL)
    assert result.exit_code == 0, result.output
    block = result.output[result.output.index("\ncontrol:") :]
    assert parse_config(yaml.safe_load(block)).control.method in ("advantage", "token")
    assert list(Path().iterdir()) == []


def test_a_diagnosis_is_written_with_the_command_that_repeats_it(cli):
    result = cli(*SMALL, "--output", "out/here")
    assert result.exit_code == 0, result.output
    assert Path("out/here/diagnosis.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(Path("out/here/diagnosis.json").read_text())
    assert found["num_prompts"] == 6 and len(found["rollouts"]["exact"]) == 24
    again = cli(*found["command"].split()[1:], "--output", "again")
    assert again.exit_code == 0, again.output
    assert json.loads(Path("again/diagnosis.json").read_text()) == found


def test_a_run_is_explained_and_drawn(cli):
    Path("run.yaml").write_text(RUN)
    assert cli("train", "run.yaml", "--output", "run").exit_code == 0
    result = cli("explain", "run", "-o", "why.png")
    assert result.exit_code == 0, result.output
    assert "from step 1 to 9" in result.output and "Of 9 steps" in result.output
    assert Path("why.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_explained_with_its_own_optimizers_memory(cli):
    Path("run.yaml").write_text(RUN)
    trained = cli("train", "run.yaml", "--output", "run", "train.trl.adam_beta1=0.5")
    assert trained.exit_code == 0, trained.output
    own, *given = (cli("explain", "run", *said).output for said in ((), ("--momentum", "0.5"), ("--momentum", "0.9")))
    assert own == given[0] != given[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diagnose", "countdown-base"], "Missing option '--task'"),
        (["diagnose", "countdown-base", "--task", "countdwon"], "did you mean 'countdown'"),
        (["diagnose", "nowhere", "--task", "countdown", "--output", "out"], "model 'nowhere' is not there"),
        (["diagnose", "countdown-base", "--task", "countdown", "--num-prompts", "1"], "--num-prompts"),
        (
            ["diagnose", "countdown-base", "--task", "countdown", "--temperature", "0"],
            "temperature must be finite and above 0",
        ),
        (["diagnose", "countdown-base", "--task", "countdown", "--output", "old/config.json"], "is a file"),
        (["explain", "nowhere"], "is not a run directory"),
        (["explain", "old"], "has no quadrants/positive_confident"),
    ],
)
def test_mistakes_exit_2_with_one_clear_line(cli, arguments, message):
    Path("old").mkdir()
    Path("old/config.json").write_text('{"train": {}}')
    line = {"entropy": 0.5, "target": None, "direction": 0.0, "kept_fraction": 1.0}
    Path("old/metrics.jsonl").write_text("".join(json.dumps(line | {"step": i}) + "\n" for i in range(1, 20)))
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.strip().splitlines()[-1]
    assert [child.name for child in Path().iterdir()] == ["old"]
