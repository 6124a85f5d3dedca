"""What the README tells people to run, runs."""

import re
from pathlib import Path

import pytest

from entrocraft.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.slow
def test_the_trl_snippet_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "GRPOTrainer" in code]
    assert "max_steps=50" in snippet
    names = {"__name__": "__main__"}
    exec(snippet.replace("max_steps=50", "max_steps=2"), names)
    assert "entrocraft/target" in next(line for line in names["trainer"].state.log_history if "loss" in line)


def test_the_schedules_of_the_readme_are_understood():
    import entrocraft as ec

    specs = re.findall(r"entrocraft schedule \"(.*?)\"", README)
    assert specs
    for spec in specs:
        ec.schedule_from(spec)


def test_the_commands_of_the_readme_exist():
    commands = set(re.findall(r"^entrocraft (\w+)", README, re.MULTILINE))
    assert {"train", "eval", "plot", "schedule"} <= commands <= set(main.commands)
