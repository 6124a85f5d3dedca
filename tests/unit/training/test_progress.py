"""What a person sees while a run goes on."""

import io

from rich.console import Console
from rich.live import Live

from entrocraft.training.progress import Progress


def line(step, seconds=2.0, **changes):
    nothing = {"target": None, "kept_fraction": None, "direction": None, "reward": 0.25}
    return nothing | {"step": step, "entropy": 0.5, "seconds": seconds} | changes


def test_the_time_left_is_that_of_the_steps_made_alone(capsys):
    with Progress(10) as progress:
        progress.show(line(1, seconds=60.0))
        progress.show(line(2, seconds=30.0))
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("time 60.0 s  left 9:00")
    assert second.endswith("time 30.0 s  left 6:00")


def test_a_resumed_run_counts_the_steps_that_are_left(capsys):
    Progress(10).show(line(9, seconds=5.0))
    assert capsys.readouterr().out.endswith("left 0:05\n")


def test_an_evaluation_says_now_and_then_how_far_it_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(10)
    for done in range(1, 7):
        now[0] = done * 15.0
        progress.evaluated(done * 1000, 6000)
    assert capsys.readouterr().out.splitlines() == [
        "evaluating: 2,000 of 6,000 answers",
        "evaluating: 4,000 of 6,000 answers",
    ]


def test_a_terminal_shows_an_evaluation_below_the_table_until_it_is_done():
    progress = Progress(10)
    screen = io.StringIO()
    progress._live = Live(console=Console(file=screen, force_terminal=True, width=100), auto_refresh=False)
    with progress:
        progress.evaluated(10, 20)
        assert "evaluating: 10 of 20 answers" in screen.getvalue()
        progress.show(line(1))
        screen.truncate(0)
        progress.evaluated(20, 20)
        assert "evaluating" not in screen.getvalue()
        assert "0.500" in screen.getvalue()
