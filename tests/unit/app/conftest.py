"""Runs that were never trained, and a server of them."""

import json

import pytest
from starlette.testclient import TestClient
from support.page import CONFIG, step_line

from entrocraft.app.server import Server, Settings
from entrocraft.runs import RunDirectory
from entrocraft.runs.state import StateFile


@pytest.fixture
def make_run(tmp_path):
    """Return what writes a run into the folder `runs`: its name, lines, settings, and how it ended."""

    def make(name="one", lines=None, *, config=CONFIG, why="completed", folder="runs", rollouts=()):
        run = RunDirectory(tmp_path / folder / name)
        run.path.mkdir(parents=True)
        run.config_file.write_text(json.dumps(config))
        (run.path / ".lock").touch()
        for line in [step_line(step) for step in range(1, 5)] if lines is None else lines:
            run.append_metrics(line)
        for line in rollouts:
            with run.rollouts_file.open("a") as file:
                file.write(json.dumps(line) + "\n")
        state = StateFile(run.state_file)
        state.begin()
        if why is not None:
            state.end(0 if why == "completed" else 1, why)
        return run

    return make


@pytest.fixture
def server(tmp_path):
    """Return a server of the folder `runs`, on a port that is free; it does not run."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    server = Server(Settings(port=0, folder=tmp_path / "runs"))
    yield server
    server.close()


@pytest.fixture
def client(server):
    """Return a client of the whole application that has the token."""
    headers = {"Authorization": f"Bearer {server.url.partition('?token=')[2]}"}
    with TestClient(server.application, base_url=f"http://127.0.0.1:{server.port}", headers=headers) as client:
        yield client
