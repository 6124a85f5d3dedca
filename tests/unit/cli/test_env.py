"""`entrocraft env`: versions, hardware, and what of each extra is lacking."""

import getpass
import importlib
import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from support.commands import run_command

import entrocraft

env = importlib.import_module("entrocraft.cli.env")  # the package's own `env` is the command


def test_it_is_plain_text_to_paste():
    lines = run_command("env").output.splitlines()
    rows = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines}
    assert rows["entrocraft"].startswith(entrocraft.__version__)
    assert rows["python"] == f"CPython {platform.python_version()}"
    assert rows["[trl]"] == "installed"
    assert {"platform", "cpu", "gpu", *env.PACKAGES} <= rows.keys()


def test_json_holds_the_same():
    found = json.loads(run_command("env", "--json").output)
    assert found.keys() == {"system", "packages", "extras", "variables"}
    assert found["extras"]["trl"] == [] and found["packages"]["vllm"] is None
    import torch

    assert found["packages"]["torch"] == torch.__version__


def test_what_an_extra_lacks_is_named(monkeypatch):
    wanted = [
        "torch>=2.6",
        'trl<1.17,>=1.16; extra == "trl"',
        'transformers>=5; extra == "trl"',
        'gone; extra == "app"',
    ]
    installed = {"trl": "1.15.0", "transformers": "5.24.0"}

    def version(name):
        try:
            return installed[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(env, "requires", lambda name: wanted)
    monkeypatch.setattr(env, "version", version)
    assert [*env._lacking("trl")] == ["trl 1.15.0, which should be <1.17,>=1.16"]
    assert [*env._lacking("app")] == ["no gone"]
    assert [*env._lacking("verl")] == []


def test_a_torch_that_cannot_be_imported_is_what_it_says(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert env._gpus().startswith("unknown: torch cannot be imported: ")


def test_variables_that_change_a_run_are_named_and_no_others(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    output = run_command("env").output
    assert "OMP_NUM_THREADS       3" in output and "hf_secret" not in output


def test_it_names_no_place_of_this_machine():
    output = run_command("env").output
    assert not [place for place in (str(Path.home()), str(Path.cwd()), platform.node()) if place in output]
    assert getpass.getuser() not in output.split()


def test_nothing_of_it_loads_with_the_command_line():
    code = "import sys, entrocraft.cli; print('packaging.requirements' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("extra", sorted(env.FOR_DEVELOPERS))
def test_extras_for_developers_are_left_out(extra):
    assert extra not in env.environment()["extras"]
