import json
import os
import subprocess
import sys

import pytest

from entrocraft.runs.state import COMPLETED, StateFile, read_state


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state.json"


def test_a_run_says_that_it_is_alive_and_how_it_ended(file):
    assert read_state(file) is None
    state = StateFile(file)
    state.begin()
    begun = read_state(file)
    assert begun.pid == os.getpid() and begun.status == "running" and begun.ended is None
    state.beat()
    assert read_state(file).heartbeat >= begun.heartbeat
    state.end(0, COMPLETED)
    ended = read_state(file)
    assert (ended.status, ended.exit, ended.why) == ("ended", 0, "completed")
    assert [child.name for child in file.parent.iterdir()] == ["state.json"]


def test_a_process_that_died_without_a_word_is_recognised(file):
    StateFile(file).begin()
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"pid": died.pid}))
    assert read_state(file).status == "died"
    file.write_text(json.dumps(data | {"pid": died.pid, "host": "elsewhere"}))
    assert read_state(file).status == "running"


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"pid": 1}', "\x00", '{"pid": "x", "host": 1, "started": 1}'])
def test_what_is_no_state_is_none(file, text):
    file.write_text(text)
    assert read_state(file) is None


def test_a_pipe_and_a_process_that_is_no_whole_number_are_no_state(file):
    StateFile(file).begin()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": 1.5}))
    assert read_state(file) is None
    file.unlink()
    os.mkfifo(file)
    assert read_state(file) is None
