"""Help is instant: nothing heavy is imported before a command runs."""

import json
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.commands import run_command

import entrocraft.cli
from entrocraft.cli import main

HEAVY = {"torch", "numpy", "transformers", "trl", "datasets", "pydantic", "matplotlib", "rich", "yaml", "verl", "ray"}
SHOW_HELP = """
import json, sys, time
begun = time.process_time()
from entrocraft.cli import main
try:
    main(sys.argv[1:], "entrocraft")
except SystemExit as stopped:
    assert not stopped.code
print(json.dumps([time.process_time() - begun, sorted(name for name in sys.modules if "." not in name)]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["verl", "data", "--help"]])
def test_help_loads_nothing_heavy_and_is_instant(arguments):
    shown = subprocess.run([sys.executable, "-c", SHOW_HELP, *arguments], capture_output=True, text=True, check=True)
    *text, measured = shown.stdout.splitlines()
    seconds, loaded = json.loads(measured)
    assert "Usage: entrocraft" in text[0] and not HEAVY & set(loaded)
    assert seconds < 1.0  # 0.1 where nothing else runs; of the processor, as this machine may be busy


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [("outptu: a", [], "unknown key 'outptu'"), ("", ["control.width=-1"], "control"), ("a: [", [], "YAML")],
)
def test_a_mistake_in_a_configuration_is_said_before_anything_heavy_is_loaded(tmp_path, text, overrides, said):
    (tmp_path / "run.yaml").write_text(text)
    code = f"{SHOW_HELP.replace('assert not stopped.code', 'assert stopped.code == 2')}"
    arguments = ["train", str(tmp_path / "run.yaml"), *overrides]
    shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    _, loaded = json.loads(shown.stdout)
    assert not {"torch", "transformers", "trl", "datasets"} & set(loaded)
    assert said in shown.stderr and len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_says_what_it_does_in_one_sentence(name):
    first_line = main.commands[name].help.splitlines()[0]
    assert first_line.endswith(".") and first_line[0].isupper()


@pytest.mark.parametrize("arguments", [["--help"], ["verl", "--help"]])
def test_summaries_of_commands_end(arguments):
    text = CliRunner().invoke(main, arguments).output
    assert "Commands:" in text
    assert "..." not in text.split("Commands:")[1]


def test_every_module_of_commands_is_short():
    for file in Path(entrocraft.cli.__file__).parent.glob("*.py"):
        assert len(file.read_text().splitlines()) < 200, file.name


def test_the_package_itself_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "entrocraft", "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("Usage: ") and "entrocraft" in shown.stdout.splitlines()[0]
    assert set(main.commands) <= set(shown.stdout.split())


def test_a_terminal_is_told_at_once_what_loads_and_a_script_is_not(tmp_path):
    (tmp_path / "run.yaml").write_text("model: nowhere")
    arguments = ["train", str(tmp_path / "run.yaml"), "--dry-run"]
    command = [sys.executable, "-m", "entrocraft", *arguments]
    terminal, at_terminal = pty.openpty()
    with subprocess.Popen(command, stderr=at_terminal) as process:
        assert os.read(terminal, 10_000).startswith(b"entrocraft: loading PyTorch")
        process.kill()
    os.close(at_terminal), os.close(terminal)
    assert "loading" not in CliRunner().invoke(main, arguments).stderr


def test_what_transformers_is_about_to_rename_is_no_warning_to_users():
    with warnings.catch_warnings():
        assert run_command("list", "models").exit_code == 0
        ours = ("transformers.training_args", "trl.trainer.utils", "entrocraft.models.sampling")
        for module, shown in ({name: False for name in ours} | {"mine": True}).items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.warn_explicit("`old` is deprecated", FutureWarning, "there.py", 1, module=module)
            assert bool(caught) == shown, module
