import json
import subprocess
import sys
import textwrap

import pytest
from starlette.testclient import TestClient
from support.page import CONFIG, rollout_line, step_line

from entrocraft.app.routes import STATIC
from entrocraft.app.server import Server, Settings

ADDRESSES = [
    ("GET", "/"),
    ("GET", "/static/index.html"),
    ("GET", "/api/hello"),
    ("POST", "/api/curve"),
    ("GET", "/api/events"),
    ("GET", "/api/compare?runs=one"),
    ("GET", "/api/runs"),
    ("POST", "/api/runs"),
    ("GET", "/api/runs/one"),
    ("GET", "/api/runs/one/series"),
    ("GET", "/api/runs/one/steps/1"),
    ("GET", "/api/runs/one/explanation"),
    ("GET", "/api/runs/one/files/config.json"),
    ("POST", "/api/runs/one/stop"),
    ("POST", "/api/runs/one/resume"),
    ("PUT", "/api/runs/one/curve"),
]


def quadrants(step):
    names = ("positive_confident", "positive_rare", "negative_confident", "negative_rare")
    whole = {f"quadrants/{name}": 0.01 * (i + 1) * (-1) ** step for i, name in enumerate(names)}
    return whole | {f"kept_{name}": value / 2 for name, value in whole.items()}


def test_no_route_is_left_out_of_these_tests(server):
    routes = {(method, route.path) for route in routes_of(server) for method in route.methods if method != "HEAD"}
    listed = set()
    for method, address in ADDRESSES:
        path = address.partition("?")[0].replace("/one", "/{run}").replace("/steps/1", "/steps/{step}")
        path = path.replace("/files/config.json", "/files/{file}").replace("/static/index.html", "/static/{file:path}")
        listed.add((method, path))
    assert listed == routes


def routes_of(server):
    return server.application._app.routes


@pytest.mark.parametrize(("method", "address"), ADDRESSES)
def test_every_route_needs_the_token_and_the_right_host(server, make_run, method, address):
    make_run("one")
    body = {} if method == "GET" else {"json": {}}
    client = TestClient(server.application, base_url="http://127.0.0.1")
    own = {"Origin": "http://127.0.0.1"}
    token = {"Authorization": f"Bearer {server.url.partition('?token=')[2]}"}
    assert client.request(method, address, headers=own, **body).status_code == 401
    foreign = token | {"Host": "evil.example", "Origin": "http://evil.example"}
    assert client.request(method, address, headers=foreign, **body).status_code == 403
    assert client.request(method, address, headers=token | {"Sec-Fetch-Site": "same-site"}, **body).status_code in (
        {200, 404} if address == "/" else {403}
    )


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/runs/one/nothing", "/docs", "/static/", "/x"])
def test_what_is_not_there_is_not_found(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json() == {"message": "there is nothing here"}


@pytest.mark.parametrize(("method", "path"), [("PUT", "/api/hello"), ("POST", "/api/hello"), ("PUT", "/api/runs")])
def test_a_route_takes_its_own_methods_alone(client, method, path):
    answer = client.request(method, path, json={})
    assert answer.status_code == 405 and answer.json() == {"message": "that cannot be done here"}


# ---- files of the page -----------------------------------------------------------------------------------


def test_the_page_and_its_files_are_served_with_their_kinds(client):
    for path, kind in (("/static/vendor/vendor.js", "text/javascript"), ("/static/icon.svg", "image/svg+xml")):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert answer.content == (STATIC / path.removeprefix("/static/")).read_bytes()
    assert client.get("/").content == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path", ["../gate.py", "..%2fgate.py", "%2e%2e/gate.py", "vendor/../../gate.py", "/etc/passwd", "vendor", "vendor/"]
)
def test_no_address_leads_out_of_the_pages_files(client, path):
    answer = client.get(f"/static/{path}")
    assert answer.status_code == 404 and "Refusal" not in answer.text


# ---- reading ---------------------------------------------------------------------------------------------


def test_hello_says_what_there_is_to_choose_from(client, make_run):
    make_run("one", [step_line(1, 0.6, entropy_stderr=0.01)])
    found = client.get("/api/hello").json()
    assert [recipe["name"] for recipe in found["recipes"]] == ["countdown"]
    assert found["recipes"][0]["config"]["train"]["steps"] == 100
    assert found["kinds"] == ["linear", "monotone", "cosine", "step"]
    assert {each["name"] for each in found["methods"]} >= {"token", "budget", "none"}
    assert {"name": "grpo"}.items() <= next(each for each in found["estimators"] if each["name"] == "grpo").items()
    assert found["limits"] == {"steps": 100_000, "knots": 64, "name": "[a-z0-9][a-z0-9._-]{0,63}"}
    start = found["entropy_start"]
    assert (start["value"], start["of"], start["source"]) == (0.6, "countdown", "one")
    assert start["low"] == pytest.approx(0.6 - 0.0196) and start["high"] == pytest.approx(0.6 + 0.0196)


def test_without_a_run_nobody_knows_where_entropy_starts(client):
    assert client.get("/api/hello").json()["entropy_start"] is None


def test_a_curve_is_answered_in_columns(client):
    answer = client.post("/api/curve", json={"text": "linear(0.6, 0.2)", "width": 0.1, "steps": 4})
    assert answer.status_code == 200 and answer.json()["target"] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"text": "linaer(1, 2)"}', 422, "did you mean 'linear'"),
        (b'{"text": "0.5", "recipe": "other"}', 422, "unknown recipe"),
        (b'{"text": "0.5", "recipe": ["countdown"]}', 422, "recipe: expected a name"),
        (b'{"text": 0.5', 400, "Expecting"),
        (b"[]", 400, "expected a JSON object"),
        (b'{"text": NaN}', 400, "NaN is no JSON"),
    ],
)
def test_a_bad_body_is_answered_with_a_sentence(client, body, status, message):
    answer = client.post("/api/curve", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status and message in answer.json()["message"]


def test_a_run_is_listed_opened_and_read(client, make_run):
    make_run("one", rollouts=[rollout_line(2)])
    (listed,) = client.get("/api/runs").json()["runs"]
    assert (listed["name"], listed["state"], listed["step"], listed["live"]) == ("one", "done", 4, False)
    opened = client.get("/api/runs/one").json()
    assert opened["rollout_steps"] == [2] and opened["config"] == CONFIG and opened["recipe"] is None
    read = client.get("/api/runs/one/series?keys=entropy,reward&from=2&to=3").json()
    assert read["step"] == [2, 3] and read["columns"] == {"entropy": [0.6, 0.6], "reward": [0.25, 0.25]}
    assert read["exact"] and read["id"] == opened["id"]
    assert client.get("/api/runs/one/steps/2").json()["groups"][0]["prompt"] == "1,2=3:"


def test_numbers_that_are_none_are_null(client, make_run):
    run = make_run("one", [step_line(1, grad_norm=0.125)])
    text = run.metrics_file.read_text().replace("0.125", "NaN")
    run.metrics_file.write_text(text)
    answer = client.get("/api/runs/one/series?keys=grad_norm")
    assert "NaN" not in answer.text and answer.json()["columns"]["grad_norm"] == [None]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/runs/two", 404),
        ("/api/runs/..", 404),
        ("/api/runs/..%2Felsewhere%2Fsecret", 404),
        ("/api/runs/one/steps/0", 404),
        ("/api/runs/one/steps/-1", 404),
        ("/api/runs/one/steps/x", 404),
        ("/api/runs/one/steps/" + "9" * 30, 404),
        ("/api/runs/one/steps/1?page=9", 404),
        ("/api/runs/one/series?points=1", 422),
        ("/api/runs/one/series?points=x", 422),
        ("/api/runs/one/series?from=-3", 422),
        ("/api/runs/one/explanation", 422),
        ("/api/compare", 422),
        ("/api/compare?runs=one,two", 404),
    ],
)
def test_what_cannot_be_answered_is_said(client, make_run, path, status):
    make_run("one")
    make_run("secret", folder="elsewhere")
    answer = client.get(path)
    assert answer.status_code == status and answer.json()["message"]


def test_a_run_is_explained_in_words(client, make_run):
    make_run("one", [step_line(step, 0.5 + 0.01 * (-1) ** step, **quadrants(step)) for step in range(1, 13)])
    found = client.get("/api/runs/one/explanation").json()
    assert found["text"].startswith("entropy changed by +0.0200 nats per token from step 1 to 12")
    assert len(found["findings"]) == 4 and found["findings"][-1].startswith("Of 12 steps")
    assert found["change"] == pytest.approx(0.02)
    assert sum(found["kept"].values()) == pytest.approx(0.02)  # causes add up


def test_runs_are_compared(client, make_run):
    make_run("one")
    make_run("two")
    found = client.get("/api/compare?runs=one,two,one").json()
    assert [run["name"] for run in found["runs"]] == ["one", "two"]


def test_the_files_of_a_run_are_a_fixed_set(client, make_run, tmp_path):
    run = make_run("one")
    (run.path / "secret").write_text("x")
    (tmp_path / "runs" / "one.log").write_text("a line\n")
    assert client.get("/api/runs/one/files/config.json").json() == CONFIG
    assert client.get("/api/runs/one/files/metrics.jsonl").text == run.metrics_file.read_text()
    assert client.get("/api/runs/one/files/log").text == "a line\n"
    for name in ("secret", "state.json", "report.md", "..%2Fone.log", "checkpoints"):
        answer = client.get(f"/api/runs/one/files/{name}")
        assert answer.status_code == 404
    run.report_file.symlink_to(run.path / "secret")
    assert client.get("/api/runs/one/files/report.md").status_code == 404


# ---- setting in motion -----------------------------------------------------------------------------------


def test_a_running_run_is_steered_by_its_file(client, make_run):
    run = make_run("one", [step_line(1)], why=None)
    answer = client.put("/api/runs/one/curve", json={"knots": [[0, 0.6], [1, 0.3]], "unit": "nats", "width": 0.05})
    assert answer.status_code == 200 and answer.json()["text"] == run.steering_file.read_text()
    opened = client.get("/api/runs/one").json()
    assert opened["steered"] and opened["knots"] == [[0.0, 0.6], [1.0, 0.3]] and opened["width"] == 0.05


@pytest.mark.parametrize(
    ("body", "status"),
    [({"text": "linaer(1, 2)"}, 422), ({}, 422), ({"lower": [[0, 0.6]], "upper": [[0, 0.4]]}, 422)],
)
def test_a_curve_that_cannot_be_used_is_not_written(client, make_run, body, status):
    run = make_run("one", why=None)
    answer = client.put("/api/runs/one/curve", json=body)
    assert answer.status_code == status and not run.steering_file.exists()


def test_what_is_done_is_not_steered(client, make_run):
    run = make_run("one")
    answer = client.put("/api/runs/one/curve", json={"text": "0.5"})
    assert answer.status_code == 409 and "it is done" in answer.json()["message"] and not run.steering_file.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"recipe": "countdown", "name": "Not Plain", "curve": {"text": "0.5"}}, 422),
        ({"recipe": "countdown", "name": "one", "curve": {"text": "0.5"}}, 409),
        ({"recipe": "/etc/passwd", "name": "new", "curve": {"text": "0.5"}}, 422),
        ({"recipe": "countdown", "name": "new", "curve": {"text": "nonsense"}}, 422),
        ({"recipe": "countdown", "name": "new", "curve": {"text": "0.5"}, "model": "evil/model"}, 422),
        ({"recipe": "countdown", "name": "new", "settings": {"method": "token"}}, 422),
        ({"name": "new"}, 422),
    ],
)
def test_what_may_not_be_started_starts_nothing(client, make_run, tmp_path, body, status):
    make_run("one")
    answer = client.post("/api/runs", json=body)
    assert answer.status_code == status and answer.json()["message"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    server = Server(Settings(port=0, folder=tmp_path / "file" / "runs", has_token=False))
    with TestClient(server.application, base_url="http://127.0.0.1") as client:
        body = {"recipe": "countdown", "name": "new", "curve": {"text": "0.5"}}
        answer = client.post("/api/runs", json=body, headers={"Origin": "http://127.0.0.1"})
        assert answer.status_code == 409 and answer.json()["message"].endswith("Not a directory")
    server.close()


@pytest.mark.parametrize(("why", "status"), [("completed", 409), (None, 409)])
def test_what_is_done_or_runs_does_not_go_on(client, make_run, why, status):
    make_run("one", why=why)
    assert client.post("/api/runs/one/resume", json={}).status_code == status
    assert client.post("/api/runs/one/stop", json={}).status_code == 409


def test_the_run_of_a_script_goes_on_by_the_script_alone(client, make_run):
    make_run("one", config={"script": "mine.py", "train": {"steps": 9}}, why="stopped by SIGINT")
    answer = client.post("/api/runs/one/resume", json={})
    assert answer.status_code == 409 and "a run of mine.py: go on with it there" in answer.json()["message"]


def test_a_run_elsewhere_does_not_go_on_from_here(make_run, tmp_path):
    other = make_run("one", folder="elsewhere", why="stopped by SIGTERM")
    server = Server(Settings(port=0, folder=tmp_path / "runs", runs=[other.path], has_token=False))
    with TestClient(server.application, base_url="http://127.0.0.1") as client:
        answer = client.post("/api/runs/one/resume", json={}, headers={"Origin": "http://127.0.0.1"})
        assert answer.status_code == 409 and "entrocraft train --resume" in answer.json()["message"]
    server.close()


# ---- what is never loaded --------------------------------------------------------------------------------


def test_the_server_never_loads_torch(make_run, tmp_path):
    """Every route is asked, in a process of its own."""
    config = CONFIG | {"control": {"schedule": 0.5, "method": {"name": "token", "min_kept": 0.2}, "estimator": "maxrl"}}
    lines = [step_line(step, 0.5 + 0.01 * (-1) ** step, **quadrants(step)) for step in range(1, 13)]
    make_run("one", lines, config=config, rollouts=[rollout_line(2)], why=None)
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from starlette.testclient import TestClient
        from entrocraft.app.server import Server, Settings

        server = Server(Settings(port=0, folder=Path({str(tmp_path / "runs")!r}), has_token=False))
        with TestClient(server.application, base_url="http://127.0.0.1") as client:
            for method, address in {[each for each in ADDRESSES if each[1] != "/api/events"]!r}:
                body = {{}} if method == "GET" else {{"json": {{"text": "0.5"}}, "headers": {{"Origin": "http://127.0.0.1"}}}}
                answer = client.request(method, address, **body)
                print(method, address, answer.status_code)
            chosen = {{"method": "token", "method_options": {{"min_kept": 0.2}}}}
            body = {{"recipe": "countdown", "name": "../x", "curve": {{"text": "0.5"}}, "settings": chosen}}
            client.post("/api/runs", json=body, headers={{"Origin": "http://127.0.0.1"}})
        print([name for name in ("torch", "transformers", "trl", "datasets", "matplotlib") if name in sys.modules])
        """
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    *answers, loaded = said.splitlines()
    assert loaded == "[]", loaded
    statuses = {each.rpartition(" ")[0]: int(each.rpartition(" ")[2]) for each in answers}
    assert len(statuses) == len(ADDRESSES) - 1
    assert {each for each, status in statuses.items() if status >= 400} == {
        "POST /api/runs",
        "POST /api/runs/one/stop",
        "POST /api/runs/one/resume",
    }
    assert json.loads((tmp_path / "runs" / "one" / "config.json").read_text()) == config
