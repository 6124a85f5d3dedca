"""The one check before every route: who asks, from where, and by which method. What is not allowed is refused.

Any page in any tab can send requests to this machine, and on a shared one any user can; and what is behind the gate
starts processes. So each rule here is an allow-list:

- `Host` must be a name that this server was told of. A page that rebinds its own name to 127.0.0.1 is of the same
  origin for the browser and may read every answer; only this header still names it. The port is not looked at:
  `ssh -L 9000:localhost:8000` arrives as `localhost:9000`.
- `Origin`, where there is one, must be that same host, and a write must have one.
- `Sec-Fetch-Site` must say `same-origin` or `none` if it says anything. Other ports of localhost are the same *site*,
  so that a cookie of `SameSite=Strict` goes along with their requests. The page itself may be linked to.
- A write is a PUT or POST of JSON, which no form sends and which no foreign script may send without asking first.
- A token, as a cookie or as `Authorization: Bearer`, compared in constant time.
"""

import re
from collections.abc import Iterable
from hmac import compare_digest
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 65_536
"""Bytes of a request's body."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_READS, _WRITES = ("GET", "HEAD"), ("PUT", "POST")
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refusal(Exception):
    """A request that does not pass, with the status of the answer and why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Gate:
    """Outermost application: passes on what may pass, and puts the same headers on every answer.

    Args:
        app: What is behind the gate.
        token: The secret; None if everyone who reaches this server may use it.
        hosts: Names that `Host` may have, without port.
        cookie: Name of the cookie that holds the token. Cookies do not tell ports apart, so the name must.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Iterable[str], cookie: str):
        self._app, self._token, self._cookie = app, token, cookie
        self._hosts = {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            # There are none here, and same-origin rules do not hold for them: refused before the handshake.
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets"})
        else:
            raise RuntimeError(f"the server speaks a protocol that the gate does not know: {scope['type']}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            welcome = self._check(scope)
        except Refusal as refusal:
            allowed = {"Allow": ", ".join((*_READS, *_WRITES))} if refusal.status == 405 else None
            response: Response = JSONResponse({"message": refusal.message}, refusal.status, headers=allowed)
            await response(scope, receive, send_with_headers)
            return
        if welcome is not None:
            await welcome(scope, receive, send_with_headers)
            return
        await self._app(scope, _limited(receive), send_with_headers)

    def _check(self, scope: Scope) -> Response | None:
        """Return None if a request may pass, or the answer to one that brings the token in its address.

        Raises:
            Refusal: It may not.
        """
        headers = Headers(scope=scope)
        host = _only(headers, "host")
        match = _HOST.fullmatch(host or "")
        if host is None or match is None or match["name"].lower().strip("[]") not in self._hosts:
            raise Refusal(403, f"host {host!r:.100} is none of this server's; start it with --allow-host to add a name")
        method, is_page = scope["method"], scope["path"] == "/"
        if method not in (*_READS, *_WRITES):
            raise Refusal(405, f"expected one of {', '.join((*_READS, *_WRITES))}, got {method!r:.20}")
        bearer = _bearer(headers)
        self._check_origin(headers, host, is_write=method in _WRITES, has_bearer=bearer is not None)
        site = headers.get("sec-fetch-site")
        if site not in (None, "same-origin", "none") and not (is_page and method in _READS):
            raise Refusal(403, f"a request from another site ({site!r:.40}) is not answered")
        if method in _WRITES:
            _check_body(headers)
        return self._check_token(scope, headers, bearer, is_page=is_page and method in _READS)

    @staticmethod
    def _check_origin(headers: Headers, host: str, *, is_write: bool, has_bearer: bool) -> None:
        origin = headers.get("origin")
        if origin is None:
            # Browsers send it with every write. A program has none, and must then bring the token itself, which no
            # browser adds by itself as it does a cookie.
            if is_write and not has_bearer:
                raise Refusal(403, "a write needs an Origin, or the token as Authorization: Bearer")
            return
        try:
            parts = urlsplit(origin)
        except ValueError:
            raise Refusal(403, f"origin {origin!r:.100} is none") from None
        if len(headers.getlist("origin")) > 1 or parts.scheme not in ("http", "https") or parts.netloc != host:
            raise Refusal(403, f"origin {origin!r:.100} is not this page's own")

    def _check_token(self, scope: Scope, headers: Headers, bearer: str | None, *, is_page: bool) -> Response | None:
        if self._token is None:
            return None
        if is_page:
            brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if len(brought) == 1 and _is_same(brought[0], self._token):
                # To the bare address, so that the token stays in no history and no picture of the screen.
                response = RedirectResponse("./", 303)
                response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
                return response
        for given in (bearer, _cookie(headers, self._cookie)):
            if given is not None and _is_same(given, self._token):
                return None
        raise Refusal(401, "this needs the token: open the address that `entrocraft app --url` prints")


def _only(headers: Headers, name: str) -> str | None:
    """Return a header that must stand once; None if it does not."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else None


def _check_body(headers: Headers) -> None:
    kind = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"expected a body of application/json, got {kind or 'none'!r:.60}")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BODY:
        raise Refusal(413, f"expected a body of {MOST_BODY:,} bytes at most, got {length:.20}")


def _limited(receive: Receive) -> Receive:
    """Return a `receive` that refuses a body which is longer than its header said."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            raise Refusal(413, f"expected a body of {MOST_BODY:,} bytes at most, and it goes on")
        return message

    return limited


def _bearer(headers: Headers) -> str | None:
    scheme, _, value = (headers.get("authorization") or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _cookie(headers: Headers, name: str) -> str | None:
    """Return a cookie; those of other servers on this host stand beside it and may look like anything."""
    pairs = (part.strip().partition("=") for part in (headers.get("cookie") or "").split(";"))
    return next((value for key, _, value in pairs if key == name), None)


def _is_same(given: str, secret: str) -> bool:
    return compare_digest(given.encode("utf-8", "replace"), secret.encode())


def refused(refusal: Refusal) -> JSONResponse:
    """Return the answer to a request that was refused while it was read."""
    return JSONResponse({"message": refusal.message}, refusal.status)
