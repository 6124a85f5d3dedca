"""What the README tells people to run, runs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from support.commands import run_command

import entrocraft as ec
from entrocraft.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_trl_snippet_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "GRPOTrainer" in code]
    assert "max_steps=50" in snippet
    names = {"__name__": "__main__"}
    exec(snippet.replace("max_steps=50", "max_steps=2"), names)
    assert "entrocraft/target" in next(line for line in names["trainer"].state.log_history if "loss" in line)


def test_the_schedules_of_the_readme_are_understood():
    specs = re.findall(r"entrocraft schedule \"(.*?)\"", README)
    assert specs
    for spec in specs:
        ec.schedule_from(spec)


def test_the_commands_of_the_readme_exist():
    commands = set(re.findall(r"^entrocraft (\w+)", README, re.MULTILINE))
    assert {"train", "eval", "plot", "schedule"} <= commands <= set(main.commands)


def test_the_runs_of_the_readme_can_begin(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^entrocraft (train recipes/.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        result = run_command(*shlex.split(command), "--output", "runs/of the readme", "--dry-run")
        assert result.exit_code == 0, result.output


def test_the_methods_of_the_readme_are_known():
    (table,) = re.findall(r"^\| method \| leaves out \|.*\n\|[-|]*\n((?:\|.*\n)+)", README, re.MULTILINE)
    cells = [row.split("|")[1] for row in table.splitlines()]
    assert len(cells) == 7
    for cell in cells:
        name, *settings = re.findall(r"`(.+?)`", cell)
        ec.EntropyControl.of({"method": name} | {k: v for text in settings for k, v in yaml.safe_load(text).items()})
    (shown,) = re.findall(r"`entropy_control=({.*?})`", README)
    assert ec.EntropyControl.of(yaml.safe_load(shown)).method_name == "budget"
