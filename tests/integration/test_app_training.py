"""The page's whole way: a real training is started, watched, bent, stopped, gone on with, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx2
import pytest

pytestmark = pytest.mark.slow

RECIPE = """
control: {schedule: "linear(1.0, 0.8, unit='initial')", width: 0.06}
task: {name: countdown, num_problems: 64}
train: {steps: 400, prompts_per_step: 8, rollouts_per_prompt: 4, learning_rate: 1.0e-4, save_every: 5}
eval: {num_problems: 4, num_samples: 2, k: [1, 2]}
"""
CURVE = {"text": "linear(1.0, 0.8, unit='initial')", "width": 0.06, "unit": "initial"}
BENT = {"knots": [[0, 1.0], [0.5, 0.95], [1, 0.9]], "kind": "monotone", "unit": "initial", "width": 0.06}
APP = [sys.executable, "-m", "entrocraft", "app", "--no-browser", "--port", "0"]
LONGEST = 300.0
"""Seconds for what takes a few on a machine that is idle."""


class Page:
    """A server with a browser's rights, that remembers all events of one run."""

    def __init__(self, folder):
        recipe, slow = folder / "tiny.yaml", folder / "slow.yaml"
        recipe.write_text(RECIPE)
        slow.write_text(RECIPE.replace("prompts_per_step: 8", "prompts_per_step: 64"))
        self.process = subprocess.Popen(
            [*APP, str(recipe), str(slow), "--folder", str(folder / "runs")],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1"},
        )
        url = self.process.stderr.readline().removeprefix("entrocraft: ").strip()
        base, _, token = url.partition("?token=")
        self.client = httpx2.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=LONGEST)
        self.events = []

    def follow(self, run):
        """Remember the events of a run from now on."""

        def read():
            with self.client.stream("GET", f"api/events?runs={run}") as stream:
                name = None
                for line in stream.iter_lines():
                    key, _, value = line.partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        self.events.append((name, json.loads(value)))

        def until_the_server_ends():
            try:
                read()
            except httpx2.HTTPError:
                return

        threading.Thread(target=until_the_server_ends, daemon=True).start()

    def asked(self, run="live"):
        return self.client.get(f"api/runs/{run}").json()

    def wait(self, is_so, what):
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            found = is_so()
            if found:
                return found
            assert self.asked()["state"] not in ("failed", "broken"), self.asked()
            time.sleep(0.2)
        raise AssertionError(f"waited {LONGEST:.0f} s for {what}: {self.asked()}")

    def told(self, name, is_it=lambda data: True):
        return [data for event, data in self.events if event == name and is_it(data)]


@pytest.fixture
def page(tmp_path):
    page = Page(tmp_path)
    yield page
    if page.process.poll() is None:
        page.process.kill()
        page.process.wait()


def processes_of(folder):
    """Return the numbers of all processes whose command line names a folder."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{entry}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder).encode() in command and state != "Z":
            found.append(int(entry))
    return found


def wait_until_gone(folder):
    deadline = time.monotonic() + LONGEST
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(folder) == []


def begin(page, recipe):
    """Start a training and wait for its first step."""
    page.client.post("api/runs", json={"recipe": recipe, "name": "live", "curve": CURVE})
    page.wait(lambda: page.asked()["step"] >= 1, "a first step")


def state_once_gone(tmp_path):
    """Return what the run recorded of its end, once no process of any run is left."""
    wait_until_gone(tmp_path / "runs")
    return json.loads((tmp_path / "runs" / "live" / "state.json").read_text())


def test_a_training_is_started_bent_stopped_gone_on_with_and_ends_with_the_server(page, tmp_path):
    client = page.client
    checked = client.post("api/runs?check=1", json={"recipe": "tiny", "name": "live", "curve": CURVE})
    assert checked.status_code == 200 and "8 prompts x 4 rollouts = 32 rollouts a step" in checked.json()["message"]
    odd = {"method": "token", "method_options": {"min_kept": 3}}
    refused = client.post("api/runs?check=1", json={"recipe": "tiny", "curve": CURVE, "settings": odd})
    assert refused.status_code == 422 and "min_kept must lie in (0, 1], got 3" in refused.json()["message"]
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())

    started = client.post("api/runs", json={"recipe": "tiny", "name": "live", "curve": CURVE, "settings": {"seed": 3}})
    assert started.status_code == 202 and page.asked()["state"] == "running"
    page.follow("live")
    again = client.post("api/runs", json={"recipe": "tiny", "name": "live", "curve": CURVE})
    assert again.status_code == 409
    page.wait(lambda: page.told("steps"), "a first step")
    opened = page.asked()
    assert opened["live"] and opened["steerable"] and opened["config"]["seed"] == 3 and opened["recipe"] == "tiny"
    assert opened["unit"] == "initial" and opened["curve"]["target"][0] == pytest.approx(opened["nats_per_unit"])

    # Bent: written at once, followed from a later step on.
    written_at = page.asked()["step"]
    bent = client.put("api/runs/live/curve", json=BENT)
    assert bent.status_code == 200 and "kind: monotone" in bent.json()["text"]
    (followed,) = page.wait(lambda: page.told("steering"), "the bent curve")
    assert followed["accepted"] and followed["step"] > written_at
    step = client.get(f"api/runs/live/steps/{followed['step']}").json()
    wanted = client.post("api/curve", json=BENT | {"steps": 400, "points": 401}).json()
    here = wanted["target"][followed["step"] - 1 : followed["step"] + 1]
    assert min(here) <= step["metrics"]["target"] / opened["nats_per_unit"] <= max(here)
    assert page.asked()["steered"]

    # The answers of a step, by prompt.
    rollouts = page.wait(lambda: page.told("rollouts"), "rollouts")[0]
    group = rollouts["groups"][0]
    assert group["prompt"].endswith(":") and len(group["rollouts"]) == 4

    # Stopped after its step, and gone on with from there.
    stopped = client.post("api/runs/live/stop", json={})
    assert stopped.status_code == 202 and stopped.json()["stops_at"] >= followed["step"]
    page.wait(lambda: page.asked()["state"] == "stopped" and not page.asked()["live"], "the stop")
    last = page.asked()
    assert last["why"] == "stopped by SIGTERM" and last["checkpoints"][-1] == last["step"]
    assert client.post("api/runs/live/resume", json={}).status_code == 202
    assert page.asked()["state"] == "running"
    page.wait(lambda: page.asked()["step"] > last["step"], "a step after the stop")
    steps = client.get("api/runs/live/series?keys=entropy,target").json()["step"]
    assert steps == [*range(1, steps[-1] + 1)]
    told = [step for data in page.told("steps") for step in data["step"]]
    assert told == [*range(told[0], told[-1] + 1)]  # each once, none left out

    # Killed: the training ends its step by itself, and can go on.
    page.process.kill()
    page.process.wait()
    state = state_once_gone(tmp_path)
    assert state["why"] == "stopped by SIGTERM" and state["exit"] == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_told_to_end_stops_its_training_first(page, tmp_path, number):
    begin(page, "tiny")
    page.process.send_signal(number)
    page.process.wait(LONGEST)
    state = state_once_gone(tmp_path)
    assert state["why"] == "stopped by SIGTERM"


def test_a_second_ctrl_c_does_not_wait_and_leaves_nothing_behind_all_the_same(page, tmp_path):
    begin(page, "slow")
    page.process.send_signal(signal.SIGINT)
    assert "live stops after this step" in page.process.stderr.readline()
    page.process.send_signal(signal.SIGINT)
    page.process.wait(LONGEST)
    state = state_once_gone(tmp_path)
    assert state["why"] == "stopped by SIGTERM"


def test_stopped_at_once_a_training_ends_amid_its_step(page, tmp_path):
    begin(page, "tiny")
    assert page.client.post("api/runs/live/stop", json={"now": True}).json() == {"stops_at": None}
    page.wait(lambda: page.asked()["state"] == "stopped" and not page.asked()["live"], "the stop")
    wait_until_gone(tmp_path / "runs" / "live")
    assert page.client.post("api/runs/live/resume", json={}).status_code == 202
    page.wait(lambda: page.asked()["live"], "a second start")


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"micro_batch_size": 8},
        {"micro_batch_size": 8, "trl": {"steps_per_generation": 6}},
        {"micro_batch_size": 16, "trl": {"generation_batch_size": 96, "num_iterations": 2}},
        {"trl": {"num_iterations": 3}},
    ],
)
def test_a_stop_comes_where_the_trainers_own_plan_says(train, tmp_path):
    """The page computes it without the trainer, which it must not load."""
    from entrocraft.app.recorded import steps_between_checkpoints
    from entrocraft.config import parse_config
    from entrocraft.runs import RunDirectory
    from entrocraft.training import plan_run

    settings = {"steps": 60, "prompts_per_step": 8, "rollouts_per_prompt": 4, "save_every": 60} | train
    config = parse_config({"train": settings, "task": {"num_problems": 64}, "eval": {"num_problems": 2}})
    plan = plan_run(config, RunDirectory(tmp_path))
    assert steps_between_checkpoints(config.to_dict()["train"]) == plan.steps_between_checkpoints
