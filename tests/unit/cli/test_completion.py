"""Completion in a shell, as docs/install.md describes it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "install.md").read_text()


def answer(**environment):
    command = [sys.executable, "-m", "entrocraft"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("typed", "offered"), [("de", {"demo"}), ("dia", {"diagnose"}), ("e", {"env", "eval"})])
def test_commands_are_completed(typed, offered):
    lines = answer(_ENTROCRAFT_COMPLETE="bash_complete", COMP_WORDS=f"entrocraft {typed}", COMP_CWORD="1").splitlines()
    assert offered <= {line.split(",")[1] for line in lines}
    assert all(line.split(",")[1].startswith(typed) for line in lines)


def test_the_lines_of_the_documentation_give_scripts():
    shells = re.findall(r"(_ENTROCRAFT_COMPLETE)=(\w+_source) entrocraft", PAGE)
    assert [how for _, how in shells] == ["bash_source", "zsh_source", "fish_source"]
    for variable, how in shells[1:]:  # bash's asks for the version of bash that is here
        assert "_ENTROCRAFT_COMPLETE" in answer(**{variable: how})
