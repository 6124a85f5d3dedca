"""A run's model for others: loads without us, and says how it came about."""

from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from support.commands import run_command
from transformers import AutoModelForCausalLM, AutoTokenizer

from entrocraft.models import load_model
from entrocraft.runs import RunDirectory

SMALL = """
task: {num_problems: 20}
control: {schedule: 0.55, width: 0.02}
train: {steps: 1, prompts_per_step: 2, rollouts_per_prompt: 2, save_every: 1}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(SMALL)
    assert run_command("train", "run.yaml").exit_code == 0
    run = RunDirectory(Path("runs/run"))
    run.append_metrics(run.step_metrics()[0] | {"step": 2})  # a step after the last checkpoint is not in the weights
    return run


@pytest.mark.slow
def test_the_model_loads_elsewhere_and_its_card_says_how_it_was_trained(trained):
    result = run_command("export", "runs/run", "model")
    assert result.exit_code == 0, result.output
    exported = AutoModelForCausalLM.from_pretrained("model", use_safetensors=True).state_dict()
    checkpoint = load_model(str(trained.last_checkpoint()[1])).state_dict()
    assert all(torch.equal(exported[name], value) for name, value in checkpoint.items())
    assert AutoTokenizer.from_pretrained("model")("1+2")["input_ids"]
    card = Path("model/README.md").read_text()
    about = yaml.safe_load(card.split("---")[1])
    assert about["library_name"] == "transformers" and "base_model" not in about  # countdown-base is not on the hub
    assert "schedule: " in card and "0.55" in card and "mean@2" in card and "- trl 1.16" in card
    assert "for 1 steps" in card
    assert "](curve.png)" in card and Path("model/curve.png").exists()
    assert run_command("export", "runs/run", "model").exit_code == 2
    assert run_command("export", "model", "again").exit_code == 2  # a model is no run


@pytest.mark.slow
def test_a_card_speaks_of_a_curve_only_where_there_was_one(trained):
    assert run_command("train", "run.yaml", "control=null", "--output", "runs/plain").exit_code == 0
    assert run_command("export", "runs/run", "model").exit_code == 0
    assert run_command("export", "runs/plain", "plain").exit_code == 0
    assert "on a curve by" in Path("model/README.md").read_text()
    assert "on a curve by" not in Path("plain/README.md").read_text()


@pytest.mark.slow
def test_it_is_pushed_privately_unless_asked(trained, monkeypatch):
    calls = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo_id, **options: calls.append((repo_id, options)) or "url"
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **options: calls.append(options))
    assert run_command("export", "runs/run", "model", "--push", "org/name").exit_code == 0
    assert calls[0] == ("org/name", {"private": True, "exist_ok": True})
    assert calls[1] == {"repo_id": "org/name", "folder_path": Path("model")}

    def refuse(self, **options):
        raise OSError("Invalid username or password.\nmore")

    monkeypatch.setattr(HfApi, "upload_folder", refuse)
    result = run_command("export", "runs/run", "other", "--push", "org/name", "--public")
    assert result.exit_code == 2 and "Invalid username or password." in result.stderr
    assert "hf upload org/name other" in result.stderr
    assert calls[2][1]["private"] is False
