import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from entrocraft.app.answers import mistake
from entrocraft.app.gate import LOCAL_HOSTS, MOST_BODY, Gate, Refusal

TOKEN = "a-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ORIGIN = {"Origin": "http://localhost:8000"}
COOKIE = {"Cookie": f"entrocraft-8000={TOKEN}"}


async def echo(request):
    return JSONResponse({"length": len(await request.body()), "path": request.url.path})


def client_of(token=TOKEN, hosts=LOCAL_HOSTS):
    routes = [Route("/", echo, methods=["GET"]), Route("/api/thing", echo, methods=["GET", "POST", "PUT", "DELETE"])]
    app = Starlette(routes=routes, exception_handlers={Refusal: mistake})
    return TestClient(Gate(app, token, hosts, "entrocraft-8000"), base_url="http://localhost:8000")


@pytest.fixture
def client():
    return client_of()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:8000", "[::1]"]
)
def test_the_port_of_the_host_is_not_looked_at(client, host):
    assert client.get("/api/thing", headers=BEARER | {"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "localhost:8000:8000",
        "localhost/",
        "",
        "127.0.0.2",
        "0.0.0.0",
        "localhost:123456",
    ],
)
def test_a_host_that_is_none_of_ours_is_refused_even_with_the_token(client, host):
    answer = client.get("/api/thing", headers=BEARER | {"Host": host})
    assert answer.status_code == 403 and "--allow-host" in answer.json()["message"]


def test_further_names_are_those_that_were_allowed():
    client = client_of(hosts=(*LOCAL_HOSTS, "hub.example"))
    assert client.get("/api/thing", headers=BEARER | {"Host": "hub.example"}).status_code == 200
    assert client.get("/api/thing", headers=BEARER | {"Host": "other.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/thing", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Cookie": "entrocraft-8000=wrong"}],
)
def test_without_the_token_nothing_is_answered(client, path, headers):
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401 and "--url" in answer.json()["message"]


def test_the_cookie_of_another_port_is_none(client):
    assert client.get("/api/thing", headers={"Cookie": f"entrocraft-8001={TOKEN}"}).status_code == 401
    others = f'odd={{"a"; b="c;"; entrocraft-8000={TOKEN}; z=@'
    assert client.get("/api/thing", headers={"Cookie": others}).status_code == 200


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(client):
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "./"  # right below a path prefix, too
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"entrocraft-8000={TOKEN};")
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "domain" not in cookie.lower()
    client.cookies.clear()
    assert client.get("/api/thing", headers={"Cookie": cookie.partition(";")[0]}).status_code == 200


@pytest.mark.parametrize(
    "address", [f"/api/thing?token={TOKEN}", "/?token=wrong", f"/?token={TOKEN}&token=x", "/?token="]
)
def test_the_token_is_taken_from_the_pages_own_address_alone(client, address):
    assert client.get(address, follow_redirects=False).status_code == 401


def test_without_a_token_of_its_own_the_gate_still_checks_everything_else():
    client = client_of(token=None)
    assert client.get("/api/thing").status_code == 200
    assert client.get("/api/thing", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/api/thing", json={}).status_code == 403
    assert client.post("/api/thing", json={}, headers=ORIGIN).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:9000",  # another server of this machine
        "http://localhost",
        "null",
        "file://localhost:8000",
        "http://localhost:8000.evil.example",
        "http://user@localhost:8000",
        "http://[",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_foreign_origin_is_refused(client, origin, method):
    body = {} if method == "GET" else {"json": {}}
    answer = client.request(method, "/api/thing", headers=COOKIE | BEARER | {"Origin": origin}, **body)
    assert answer.status_code == 403 and "origin" in answer.json()["message"]


def test_the_origin_of_a_proxy_that_speaks_https_is_the_pages_own(client):
    headers = COOKIE | {"Origin": "https://localhost:8000"}
    assert client.post("/api/thing", json={}, headers=headers).status_code == 200


def test_a_write_needs_its_origin_unless_a_program_brings_the_token_itself(client):
    assert client.post("/api/thing", json={}, headers=COOKIE).status_code == 403
    assert client.post("/api/thing", json={}, headers=COOKIE | ORIGIN).status_code == 200
    assert client.post("/api/thing", json={}, headers=BEARER).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Same-Origin", "other"])
def test_what_the_browser_says_comes_from_elsewhere_is_refused(client, site):
    headers = COOKIE | {"Sec-Fetch-Site": site}
    assert client.get("/api/thing", headers=headers).status_code == 403
    assert client.post("/api/thing", json={}, headers=headers | ORIGIN).status_code == 403
    assert client.get("/", headers=headers).status_code == 200  # the page may be linked to


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_what_the_page_itself_sends_passes(client, site):
    headers = COOKIE | ORIGIN | {"Sec-Fetch-Site": site}
    assert client.get("/api/thing", headers=headers).status_code == 200
    assert client.put("/api/thing", json={}, headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused_whatever_the_routes_say(client, method):
    answer = client.request(method, "/api/thing", headers=BEARER | ORIGIN | {"Content-Type": "application/json"})
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, PUT, POST"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_what_a_form_can_send_is_no_write(client, kind):
    headers = COOKIE | ORIGIN | ({} if kind is None else {"Content-Type": kind})
    answer = client.post("/api/thing", content=b"{}", headers=headers)
    assert answer.status_code == 415


def test_a_body_is_bounded_by_what_it_says_and_by_what_it_is(client):
    headers = BEARER | {"Content-Type": "application/json"}

    def pieces(count):
        return (b"x" * 1024 for _ in range(count))  # sent in chunks, without a length

    assert client.post("/api/thing", content=b"x" * MOST_BODY, headers=headers).json()["length"] == MOST_BODY
    assert client.post("/api/thing", content=b"x" * (MOST_BODY + 1), headers=headers).status_code == 413
    assert client.post("/api/thing", content=pieces(64), headers=headers).json()["length"] == MOST_BODY
    assert client.post("/api/thing", content=pieces(65), headers=headers).status_code == 413
    assert client.post("/api/thing", content=b"", headers=headers | {"Content-Length": "-1"}).status_code == 413


def test_a_websocket_is_refused_before_it_is_open(client):
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/api/thing", headers=BEARER):
        pass
    assert refused.value.code == 1008


def test_a_protocol_that_nobody_thought_of_does_not_pass():
    import asyncio

    async def speak():
        await Gate(echo, None, LOCAL_HOSTS, "c")({"type": "webtransport"}, None, None)

    with pytest.raises(RuntimeError, match="webtransport"):
        asyncio.run(speak())


@pytest.mark.parametrize("headers", [BEARER, {}, {"Host": "evil.example"}])
def test_every_answer_has_the_headers_that_shut_the_page_in(client, headers):
    answer = client.get("/api/thing", headers=headers)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
