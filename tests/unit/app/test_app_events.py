import asyncio
import json
import time

import pytest
from support.page import rollout_line, step_line

from entrocraft.app.events import TICK, Events, Log
from entrocraft.app.launch import Launcher
from entrocraft.app.library import Library


@pytest.fixture
def events(tmp_path):
    library = Library(tmp_path / "runs")
    return Events(library, Launcher(library))


def parsed(frames):
    """Return events by name with their data, and the last id."""
    found, last = [], None
    for frame in frames.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
            last = fields.get("id", last)
    return found, last


class Viewer:
    """Reads a stream until it has what a test waits for."""

    def __init__(self, events, runs, seen=None):
        self._stream = events.stream(set(runs), seen)
        self.seen, self.last = [], None

    async def until(self, is_there, seconds=10.0):
        async with asyncio.timeout(seconds):
            while not any(is_there(*each) for each in self.seen):
                found, last = parsed(await anext(self._stream))
                self.seen += found
                self.last = last or self.last
        return next(each for each in self.seen if is_there(*each))

    def of(self, name):
        return [data for event, data in self.seen if event == name]

    async def close(self):
        await self._stream.aclose()


def scenario(events, play):
    """Play with the events of a server that works."""

    async def main():
        work = asyncio.create_task(events.work())
        try:
            await play()
        finally:
            work.cancel()

    asyncio.run(main())


def is_step(number):
    return lambda event, data: event == "steps" and number in data["step"]


def test_new_steps_are_told_in_columns(events, make_run):
    run = make_run(lines=[step_line(1)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.append_metrics(step_line(2, 0.5, direction=0.0))
        run.append_metrics({"step": 2, "eval/mean@2": 0.25})
        _, data = await viewer.until(is_step(2))
        assert data["run"] == "one" and data["step"] == [2]
        assert data["columns"]["entropy"] == [0.5] and data["columns"]["distance"] == [pytest.approx(0.1)]
        assert set(data["columns"]) == {
            "entropy",
            "target",
            "lower",
            "upper",
            "reward",
            "kept_token_fraction",
            "distance",
        }
        _, line = await viewer.until(lambda event, data: event == "eval")
        assert line == {"run": "one", "line": {"step": 2, "mean@2": 0.25}}
        assert [each["kind"] for each in viewer.of("event")] == ["inside", "evaluation"]
        _, state = await viewer.until(lambda event, data: event == "state" and data["step"] == 2)
        assert (state["state"], state["steps"], state["stops_at"], state["seconds_left"]) == ("running", 4, 3, 4.0)
        await viewer.close()

    scenario(events, play)


def test_what_came_before_the_viewer_is_not_told(events, make_run):
    run = make_run(lines=[step_line(1), {"step": 1, "eval/mean@2": 0.5}], rollouts=[rollout_line(1)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.append_metrics(step_line(2))
        await viewer.until(is_step(2))
        assert [data["step"] for data in viewer.of("steps")] == [[2]]
        assert viewer.of("eval") == [] and viewer.of("rollouts") == []
        await viewer.close()

    scenario(events, play)


def test_a_curve_that_is_followed_is_told_with_its_step(events, make_run):
    run = make_run(lines=[step_line(1, steering_accepted=0.0)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.append_metrics(step_line(2, steering_accepted=1.0))
        _, data = await viewer.until(lambda event, data: event == "steering")
        assert (data["run"], data["step"], data["accepted"]) == ("one", 2, True)
        await viewer.close()

    scenario(events, play)


def test_the_newest_rollouts_are_told_alone(events, make_run):
    run = make_run(lines=[step_line(1)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.rollouts_file.write_text("".join(json.dumps(rollout_line(step)) + "\n" for step in (1, 2, 3)))
        _, data = await viewer.until(lambda event, data: event == "rollouts")
        assert data["step"] == 3 and data["groups"][0]["rollouts"][0]["text"] == "1+2"
        assert len(viewer.of("rollouts")) == 1
        await viewer.close()

    scenario(events, play)


def test_a_run_that_was_rewound_is_told_to_be_asked_anew(events, make_run):
    run = make_run(lines=[step_line(1), step_line(2)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.rewind_to(1)
        run.append_metrics(step_line(2, 0.25))
        assert (await viewer.until(lambda event, data: event == "reset"))[1] == {"run": "one"}
        assert viewer.of("steps") == []
        run.append_metrics(step_line(3))
        await viewer.until(is_step(3))
        await viewer.close()

    scenario(events, play)


def test_a_viewer_who_was_away_gets_what_it_has_missed(events, make_run):
    run = make_run(lines=[step_line(1)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        run.append_metrics(step_line(2))
        await viewer.until(is_step(2))
        last = viewer.last
        await viewer.close()
        run.append_metrics(step_line(3))
        await asyncio.sleep(3 * TICK)  # followed on, though nobody looks
        again = Viewer(events, ["one"], last)
        await again.until(is_step(3))
        assert [data["step"] for data in again.of("steps")] == [[3]] and again.of("reset") == []
        await again.close()

    scenario(events, play)


@pytest.mark.parametrize("seen", ["other-1", "nonsense", "", "-", "other-9999999999999999999999"])
def test_a_viewer_of_another_server_is_told_to_ask_anew(events, make_run, seen):
    make_run(why=None)

    async def play():
        viewer = Viewer(events, ["one"], seen)
        assert (await viewer.until(lambda event, data: event == "reset"))[1] == {"run": "one"}
        await viewer.close()

    scenario(events, play)


def test_what_was_fetched_names_the_event_after_which_news_come(events, make_run):
    run = make_run(lines=[step_line(1)], why=None)

    async def play():
        seen = events.watch("one")
        run.append_metrics(step_line(2))
        await asyncio.sleep(3 * TICK)
        viewer = Viewer(events, ["one"], seen)
        await viewer.until(is_step(2))
        await viewer.close()

    scenario(events, play)


def test_viewers_of_one_run_hear_nothing_of_another_and_share_the_bytes(events, make_run):
    one, two = make_run("one", [step_line(1)], why=None), make_run("two", [step_line(1)], why=None)

    async def play():
        viewers = [Viewer(events, ["one"]), Viewer(events, ["one"]), Viewer(events, ["two"])]
        for viewer in viewers:
            await viewer.until(lambda event, data: event == "runs")
        one.append_metrics(step_line(2))
        await viewers[0].until(is_step(2))
        await viewers[1].until(is_step(2))
        two.append_metrics(step_line(3))
        await viewers[2].until(is_step(3))
        assert {data["run"] for data in viewers[2].of("steps")} == {"two"}
        assert {data["run"] for data in viewers[0].of("steps")} == {"one"}
        frames = [frame for _, run, frame in events.log._frames if run == "one" and b"event: steps" in frame]
        assert len(frames) == 1  # put into words once
        for viewer in viewers:
            await viewer.close()

    scenario(events, play)


def test_many_lines_at_once_are_a_few_events(events, make_run):
    run = make_run(lines=[step_line(1)], why=None)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        begun = time.monotonic()
        with run.metrics_file.open("a") as file:
            for step in range(2, 402):
                file.write(json.dumps(step_line(step)) + "\n")
                file.flush()
        await viewer.until(is_step(401))
        told = [step for data in viewer.of("steps") for step in data["step"]]
        assert told == [*range(2, 402)]
        assert len(viewer.of("steps")) <= (time.monotonic() - begun) / TICK + 1
        await viewer.close()

    scenario(events, play)


def test_a_new_run_is_told_to_everyone(events, make_run):
    make_run("one")

    async def play():
        viewer = Viewer(events, [])
        await viewer.until(lambda event, data: event == "runs")
        make_run("two")
        await viewer.until(lambda event, data: event == "runs" and len(data["runs"]) == 2)
        await viewer.close()

    scenario(events, play)


def test_a_run_that_is_not_there_breaks_no_stream(events, make_run):
    make_run("one")

    async def play():
        viewer = Viewer(events, ["one", "gone"])
        _, data = await viewer.until(lambda event, data: event == "state" and data["run"] == "gone")
        assert data["state"] == "broken" and "there is no run 'gone'" in data["why"]
        await viewer.until(lambda event, data: event == "runs")
        await viewer.close()

    scenario(events, play)


def test_a_run_that_nobody_looks_at_is_followed_no_longer(events, make_run, monkeypatch):
    make_run("one")
    monkeypatch.setattr("entrocraft.app.events._KEPT_WATCHED", 0.1)

    async def play():
        events.watch("one")
        assert "one" in events._watched
        async with asyncio.timeout(60):
            while events._watched:
                await asyncio.sleep(TICK)

    scenario(events, play)


def test_one_look_that_goes_wrong_is_not_the_last(events, make_run, monkeypatch, caplog):
    run, poll, times = make_run(lines=[step_line(1)], why=None), events._launcher.poll, []

    def goes_wrong_once():
        times.append(1)
        if len(times) == 2:
            raise OSError("a full disk")
        poll()

    monkeypatch.setattr(events._launcher, "poll", goes_wrong_once)

    async def play():
        viewer = Viewer(events, ["one"])
        await viewer.until(lambda event, data: event == "runs")
        await asyncio.sleep(3 * TICK)
        run.append_metrics(step_line(2))
        await viewer.until(is_step(2))
        await viewer.close()

    scenario(events, play)
    assert "a full disk" in caplog.text


def test_the_log_is_bounded_and_says_what_it_lost(monkeypatch):
    monkeypatch.setattr("entrocraft.app.events._MOST_FRAMES", 3)
    log = Log("boot")
    for step in range(5):
        log.add("steps", {"step": step}, "a")
    assert log.number_of("boot-1") is None and log.since(1, {"a"})[1] is None
    assert log.number_of("boot-2") == 2
    assert log.since(2, {"a"})[1].count(b"event: steps") == 3
    assert log.number_of("boot-5") == 5 and log.since(5, {"a"}) == (5, b"")
    assert log.number_of("boot-6") is None


def test_no_text_of_a_run_can_end_an_event_early():
    log = Log("boot")
    log.add("rollouts", {"text": "a\n\nevent: state\ndata: {}\r\n\u2028", "number": float("nan")}, "a")
    frame = log.since(0, {"a"})[1]
    assert frame.count(b"\n\n") == 1 and frame.endswith(b"\n\n") and b"\r" not in frame
    assert parsed(frame)[0] == [("rollouts", {"text": "a\n\nevent: state\ndata: {}\r\n\u2028", "number": None})]
