"""Where commands write and how much they are asked for: one line that says why not, and nothing half-made."""

import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from support.commands import run_command

from entrocraft.config import parse_config
from entrocraft.models import resolve_model
from entrocraft.reports.plots.style import Figure
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import QUADRANTS

SIZES = ("--num-problems", 2, "--num-samples", 2, "--k", 1, "--max-tokens", 2)
WRITING = {
    "schedule": (["schedule", "0.5", "-o"], ".png"),
    "plot": (["plot", "run", "-o"], ".png"),
    "explain": (["explain", "run", "-o"], ".png"),
    "train": (["train", "run.yaml", "--output"], ""),
    "eval": (["eval", "countdown-base", "--task", "countdown", *SIZES, "--output"], ""),
    "diagnose": (["diagnose", "countdown-base", "--task", "countdown", "--num-prompts", 2, "--output"], ""),
    "export": (["export", "run"], ""),
    "verl data": (["verl", "data", "countdown", "--num-problems", 3, "-o"], ".parquet"),
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Go to a folder with a run of ten steps, its model as a checkpoint, a file, and a pipe of each ending."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("task: {num_problems: 8}\ntrain: {prompts_per_step: 2, rollouts_per_prompt: 2}\n")
    Path("file").touch()
    for ending in {ending for _, ending in WRITING.values()}:
        os.mkfifo(f"pipe{ending}")
    run = RunDirectory(Path("run"))
    with run.opened(parse_config({"train": {"steps": 10}}).to_dict(), resume=False):
        for step in range(1, 11):
            line = {"entropy": 0.5 + 0.01 * step, "target": 0.5, "lower": 0.4, "upper": 0.6, "direction": 0.0}
            line |= {f"quadrants/{name}": 0.1 * step for name in QUADRANTS}
            line |= {f"kept_quadrants/{name}": 0.1 * (step % 3) for name in QUADRANTS}
            run.append_metrics({"step": step, "reward": 0.1, "kept_fraction": 1.0} | line)
    shutil.copytree(resolve_model("countdown-base"), run.checkpoints / "checkpoint-10")
    (run.checkpoints / "checkpoint-10" / "trainer_state.json").write_text("{}")


def everything():
    return sorted((str(path), path.is_fifo()) for path in Path().rglob("*") if path.name != ".lock")


def refused(result, *messages):
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith(("entrocraft: error: ", "Error: ")) and len(line) < 1300
    assert all(message in line for message in messages), line


@pytest.mark.parametrize(
    ("place", "said"),
    [("a" * 300, ["File name too long"]), ("file/x", ["Not a directory"]), ("pipe", [])],
    ids=lambda text: text[:6],
)
@pytest.mark.parametrize("command", WRITING)
def test_a_place_that_cannot_be_written_to_is_named_and_nothing_is_left(command, place, said):
    arguments, ending = WRITING[command]
    before = everything()
    refused(run_command(*arguments, place + ending), place[:4], *said)
    assert everything() == before


@pytest.mark.parametrize("command", ["schedule", "plot", "explain"])
def test_a_disk_that_is_full_leaves_no_picture(command, monkeypatch):
    def full(self, file, **options):
        Path(file).touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    arguments, _ = WRITING[command]
    before = everything()
    refused(run_command(*arguments, "new/curve.png"), "new/curve.png: No space left on device")
    assert everything() == before


def test_a_disk_that_is_full_leaves_no_folder_of_a_diagnosis(monkeypatch):
    def full(file, text):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr("entrocraft.runs.files.write_text", full)
    arguments, _ = WRITING["diagnose"]
    before = everything()
    refused(run_command(*arguments, "new/diagnosis"), "new/diagnosis/diagnosis.json: No space left on device")
    assert everything() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "run.yaml", "train.steps=10", "--output", "run", "--resume"],
        ["eval", "run"],
        ["diagnose", "run", "--task", "countdown"],
        ["export", "run", "new"],
        ["steer", "run", "0.5"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_run_whose_settings_are_damaged_is_named_by_their_file(arguments):
    file = Path("run/config.json")
    settings = json.loads(file.read_text())
    settings["train"]["steps"] = -1
    file.write_text(json.dumps(settings))
    refused(run_command(*arguments), "run/config.json: ", "train.steps")


def test_an_export_whose_card_cannot_be_written_leaves_nothing(monkeypatch):
    def full(self, file):
        Path(file).touch()
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(ModelCard, "save", full)
    before = everything()
    refused(run_command("export", "run", "new/model"), "cannot write new/model", "No space left on device")
    assert everything() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["schedule", "0.5", "--steps", 10**8],
        ["train", "run.yaml", "train.steps=1000000000", "--dry-run"],
        ["train", "run.yaml", "task.name=additions", "task.options.max_number=1000000000000", "--dry-run"],
        ["eval", "countdown-base", "--task", "countdown", "--num-samples", 10**17],
        ["eval", "countdown-base", "--task", "countdown", "--num-problems", 10**17],
        ["diagnose", "countdown-base", "--task", "countdown", "--num-prompts", 10**17],
        ["diagnose", "countdown-base", "--task", "countdown", "--num-rollouts", 10**17],
        ["schedule", "x" * 10**6],
        ["train", "run.yaml", "train.steps=" + "9" * 10**6],
    ],
    ids=lambda arguments: " ".join(map(str, arguments))[:60],
)
def test_what_is_without_bound_is_refused_at_once_in_a_line_that_can_be_read(arguments):
    before = everything()
    refused(run_command(*arguments))
    assert everything() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "run.yaml", "model=half"],
        ["eval", "half", "--task", "countdown"],
        ["diagnose", "half", "--task", "countdown"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_half_a_model_is_refused_by_every_command_that_takes_one(arguments):
    shutil.copytree(resolve_model("countdown-base"), "half")
    weights = load_file("half/model.safetensors")
    half = {name: weights[name] for name in sorted(weights)[::2]}
    save_file(half, "half/model.safetensors", metadata={"format": "pt"})
    before = everything()
    refused(run_command(*arguments), "model 'half': the file lacks model.layers.0.")
    assert everything() == before


def test_what_explains_a_run_without_control_is_said():
    run = RunDirectory(Path("plain"))
    with run.opened(parse_config({"control": None}).to_dict(), resume=False):
        for step in range(1, 11):
            run.append_metrics({"step": step, "entropy": 0.5, "target": None, "kept_fraction": 1.0})
    refused(run_command("explain", "plain"), "without entropy control", "control: {method: none}")
