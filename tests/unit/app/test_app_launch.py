import subprocess
import sys
import time

import pytest
from support.page import step_line

from entrocraft.app import launch
from entrocraft.app.errors import ConflictError
from entrocraft.app.launch import Launcher
from entrocraft.app.library import Library
from entrocraft.errors import InvalidValueError
from entrocraft.study.child import Child


class Script(Child):
    """A child that runs a script in the place of the command line; signals and pipes are real."""

    def __init__(self, arguments, log, threads):
        self.log, self.arguments = log, arguments
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", arguments[0]],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


SLEEPS = "import time; time.sleep(60)"
HEEDS_NOTHING = "import signal, time; signal.signal(15, lambda *_: None); print('ready', flush=True); time.sleep(60)"
FAILS = "import sys; print('loading'); sys.exit('entrocraft: error: the model is not there')"


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "runs")


@pytest.fixture
def launcher(library, monkeypatch):
    monkeypatch.setattr(launch, "Child", Script)
    launcher = Launcher(library)
    yield launcher
    for training in (launcher._current, launcher._waiting):
        if training is not None and training.child is not None:
            training.child.kill()
            training.child.wait(10)


def state_of(library, name):
    standing = library.run(name).standing()
    return standing.state, standing.why


def wait_for_end(launcher, name):
    deadline = time.monotonic() + 120
    while launcher.live == name and time.monotonic() < deadline:
        launcher.poll()
        time.sleep(0.02)
    assert launcher.live != name


def test_one_is_at_work_one_waits_and_a_third_is_refused(launcher, library):
    launcher.start("a", [SLEEPS])
    launcher.start("b", [SLEEPS])
    with pytest.raises(ConflictError, match="a is at work and b waits"):
        launcher.start("c", [SLEEPS])
    assert launcher.live == "a"
    assert state_of(library, "a")[0] == "running" and state_of(library, "b") == ("queued", "it waits for a")
    launcher.stop("a", now=False)
    wait_for_end(launcher, "a")
    assert launcher.live == "b" and state_of(library, "b")[0] == "running"
    assert state_of(library, "a") == ("stopped", "it was stopped before its first step")
    launcher.start("c", [SLEEPS])  # there is room again
    assert state_of(library, "c")[0] == "queued"


def test_the_output_goes_to_the_new_directory(launcher, library):
    launcher.start("a", [SLEEPS])
    assert launcher._current.child.arguments == [SLEEPS, "--output", str(library.folder / "a")]


def test_a_start_that_fails_is_said_in_the_commands_own_words(launcher, library):
    launcher.start("a", [FAILS])
    wait_for_end(launcher, "a")
    assert state_of(library, "a") == ("failed", "the model is not there")
    assert launcher.last_lines("a") == ["loading", "entrocraft: error: the model is not there"]
    assert launcher.refuse_unless_free("a") == "a"  # nothing was left behind


def test_an_end_is_noticed_whatever_ended_it(launcher, library):
    launcher.start("a", [SLEEPS])
    launcher._current.child.kill()
    wait_for_end(launcher, "a")
    assert state_of(library, "a")[0] == "stopped"


def test_a_training_that_tells_itself_how_it_ended_is_believed(launcher, library, make_run):
    launcher.start("a", [SLEEPS])
    make_run("a", [step_line(1)], why="error: the disk is full")
    launcher._current.child.kill()
    wait_for_end(launcher, "a")
    assert state_of(library, "a") == ("failed", "error: the disk is full")


def test_what_does_not_heed_a_signal_is_killed_when_it_was_asked_at_once(launcher, library, monkeypatch):
    monkeypatch.setattr(launch, "_SECONDS_TO_SECOND_SIGNAL", 0.05)
    monkeypatch.setattr(launch, "_SECONDS_TO_KILL", 0.3)
    launcher.start("a", [HEEDS_NOTHING])
    while launcher.last_lines("a") != ["ready"]:
        time.sleep(0.02)
    launcher.stop("a", now=False)
    for _ in range(40):
        launcher.poll()
        time.sleep(0.02)
    assert launcher.live == "a"  # it may end its step
    launcher.stop("a", now=True)
    wait_for_end(launcher, "a")


def test_killing_takes_along_what_a_training_has_started(launcher, tmp_path):
    file = tmp_path / "grandchild"
    script = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    launcher.start("a", [script])
    while not file.exists() or not file.read_text():
        time.sleep(0.02)
    launcher._current.child.kill()
    wait_for_end(launcher, "a")
    deadline = time.monotonic() + 120
    while _is_alive(int(file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(int(file.read_text()))


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_waited_and_cannot_be_started_is_said(launcher, library, monkeypatch):
    launcher.start("a", [SLEEPS])
    launcher.start("b", [SLEEPS])

    def full(*arguments):
        raise OSError(28, "No space left on device", "b.log")

    monkeypatch.setattr(launch, "Child", full)
    launcher.stop("a", now=False)
    wait_for_end(launcher, "a")
    assert launcher.live is None and state_of(library, "b") == ("failed", "b.log: No space left on device")


def test_what_waits_can_be_taken_back(launcher, library):
    launcher.start("a", [SLEEPS])
    launcher.start("b", [SLEEPS])
    launcher.stop("b", now=False)
    assert state_of(library, "b") == ("stopped", "it was taken back before it began")
    launcher.start("c", [SLEEPS])
    assert state_of(library, "c")[0] == "queued"


def test_what_was_started_elsewhere_is_not_stopped_here(launcher, make_run):
    make_run("a", why=None)
    with pytest.raises(ConflictError, match="was started elsewhere"):
        launcher.stop("a", now=False)


@pytest.mark.parametrize("name", ["", "A", "../a", "a/b", ".a", "a b", "a" * 65, "-a", None, 3, "a\n", "ä", "a~b"])
def test_names_are_plain(launcher, name):
    with pytest.raises(InvalidValueError, match="name: expected"):
        launcher.refuse_unless_free(name)


@pytest.mark.parametrize("name", ["a", "0", "a-b_c.d", "a" * 64])
def test_a_name_that_is_free_is_taken(launcher, name):
    assert launcher.refuse_unless_free(name) == name


def test_a_name_that_is_not_free_is_refused(launcher, library, make_run):
    make_run("taken")
    (library.folder / "file").write_text("")
    (library.folder / "empty").mkdir()
    launcher.start("busy", [SLEEPS])
    for name in ("taken", "file", "busy"):
        with pytest.raises(ConflictError):
            launcher.refuse_unless_free(name)
    assert launcher.refuse_unless_free("empty") == "empty"


def test_closing_stops_what_is_at_work_and_lets_nothing_follow(launcher):
    launcher.close()
    assert not launcher.is_at_work
    launcher.start("a", [SLEEPS])
    child = launcher._current.child
    launcher.start("b", [SLEEPS])
    assert launcher.is_at_work
    launcher.close()
    assert child.wait(10) == -15 and not launcher.is_at_work
    launcher.poll()
    assert launcher.live is None
