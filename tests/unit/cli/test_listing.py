"""What `entrocraft list` shows."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from entrocraft import advantages, tasks
from entrocraft.cli import main
from entrocraft.cli.listing import rows_of
from entrocraft.control.methods import METHODS


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", METHODS),
        ("tasks", tasks.available()),
        ("estimators", advantages.available()),
        ("schedules", ["linear", "cosine", "piecewise"]),
        ("models", ["countdown-base"]),
    ],
)
def test_everything_there_is_stands_with_its_options_and_a_sentence(kind, names, tmp_path):
    rows = {name: (options, said) for name, options, said in rows_of(kind, tmp_path)}
    assert set(names) <= rows.keys()
    assert all(said for _, said in rows.values())
    shown = CliRunner().invoke(main, ["list", kind])
    assert shown.exit_code == 0 and all(name in shown.output for name in names)


def test_options_are_those_of_the_constructor(tmp_path):
    rows = {name: options for name, options, _ in rows_of("methods", tmp_path)}
    assert rows["entropy_bonus"] == "step=0.0001, least=0.0, most=0.005, start=0.0"
    assert rows["none"] == ""
    assert {name: options for name, options, _ in rows_of("estimators", tmp_path)}["grpo"] == "eps=0.0001"


def test_a_folder_without_runs_is_an_empty_list(tmp_path):
    assert rows_of("runs", tmp_path) == rows_of("runs", tmp_path / "nowhere") == []
    assert CliRunner().invoke(main, ["list", "everything"]).exit_code == 2


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    for name in ("damaged", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"train": {"steps": 3}}')
    (tmp_path / "damaged" / "config.json").write_text('{"train": {"stps": 3}}')
    damaged, whole = rows_of("runs", tmp_path)
    assert damaged[1] == "?" and "stps" in damaged[2]
    assert whole[1:] == ("0 of 3", "unknown")


def test_a_run_of_any_name_is_listed_under_it(tmp_path):
    for name in ("[b]bold", "l\u00e4ufe", "no text \udcff", "a\x1b[31mred"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"train": {"steps": 3}}')
    shown = CliRunner().invoke(main, ["list", "runs", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    for said in ("/[b]bold", "/l\u00e4ufe", r"/no text \udcff", r"/a\x1b[31mred"):
        assert said in shown.output


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_is_no_mistake():
    command = f"{sys.executable} -m entrocraft schedule 0.5 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("141\n", "")
