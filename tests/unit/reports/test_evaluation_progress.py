"""How far an evaluation is, at a terminal."""

import io
import sys

import pytest

from entrocraft.reports.evaluation import _ProgressBar


class Stream(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_sees_how_many_answers_there_are_and_a_script_nothing(is_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Stream(is_terminal))
    with _ProgressBar("a-model") as advance:
        advance(10, 40)
    seen = sys.stderr.getvalue()
    assert ("a-model" in seen and "10/40" in seen) is is_terminal
