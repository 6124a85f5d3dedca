"""`entrocraft demo`: two trainings and a picture, wherever it is called, and again where it was stopped."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml
from support.commands import run_command

from entrocraft.cli.demo import ARMS

demo = importlib.import_module("entrocraft.cli.demo")  # the package's own `demo` is the command
ROOT = Path(__file__).parents[2]
SMALL = ["task.num_problems=8", "train.prompts_per_step=2", "train.rollouts_per_prompt=2", "eval.num_problems=2"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Make the demo's runs small, and work where there is no checkout."""
    monkeypatch.chdir(tmp_path)
    for name, (title, changes) in ARMS.items():
        monkeypatch.setitem(ARMS, name, (title, [*changes, *SMALL]))
    return tmp_path


def steps_of(folder):
    return [line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "entropy" in line]


@pytest.mark.slow
def test_it_trains_both_and_draws_them_and_goes_on_where_it_was_stopped(small):
    result = run_command("demo", "--steps", "2", "--seed", "3")
    assert result.exit_code == 0, result.output
    runs = plain, _ = [Path("runs/demo") / name for name in ("grpo", "entrocraft")]
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    assert configs[0]["control"] is None and "linear(1.0, 0.8" in json.dumps(configs[1]["control"])
    assert [config["train"]["learning_rate"] for config in configs] == [1e-4, 1e-4]
    assert [config["seed"] for config in configs] == [3, 3]
    assert [len(steps_of(run)) for run in runs] == [2, 2]
    assert Path("runs/demo/comparison.png").read_bytes().startswith(b"\x89PNG")

    first, last = (steps_of(plain)[at]["entropy"] for at in (0, -1))
    assert f"grpo:       entropy {first:.3f} -> {last:.3f} nats ({last / first:.0%} of its start)" in result.output
    assert "from its target on average" in result.output.split("entrocraft: entropy")[1]

    Path("runs/demo/comparison.png").unlink()
    before = [(run / "metrics.jsonl").read_text() for run in runs]
    assert run_command("demo", "--steps", "2", "--seed", "3").exit_code == 0
    assert [(run / "metrics.jsonl").read_text() for run in runs] == before
    assert Path("runs/demo/comparison.png").exists()

    other = run_command("demo", "--steps", "2", "--seed", "4")
    assert other.exit_code == 2 and "begun with seed=3, now 4" in other.output


@pytest.mark.slow
def test_without_matplotlib_it_says_so_before_it_trains_and_trains(small, monkeypatch):
    monkeypatch.setattr(demo, "_can_draw", lambda: False)
    result = run_command("demo", "--steps", "1", "--output", "out")
    assert result.exit_code == 0 and "out/grpo" in result.output
    assert not Path("out/comparison.png").exists() and len(steps_of(Path("out/entrocraft"))) == 1


def test_what_is_missing_for_pictures_is_said_with_what_to_install(monkeypatch, capsys):
    assert demo._can_draw() and not capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "entrocraft.reports.plots.style")
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    assert not demo._can_draw()
    assert "pip install 'entrocraft[plots]'" in capsys.readouterr().err


def test_it_is_the_recipe_of_the_checkout():
    packaged = ROOT / "src/entrocraft/assets/recipes/countdown.yaml"
    assert yaml.safe_load(packaged.read_text()) == yaml.safe_load((ROOT / "recipes/countdown.yaml").read_text())


def test_make_demo_calls_it():
    assert "entrocraft demo" in (ROOT / "Makefile").read_text().split("\ndemo:")[1].split("\n\n")[0]
