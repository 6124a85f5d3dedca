"""What may be asked of the server, and by which address; all of it stands behind the gate."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from entrocraft.app import work
from entrocraft.app.answers import answer, mistake
from entrocraft.app.comparison import compare
from entrocraft.app.drawing import CURVE_FIELDS, drawn
from entrocraft.app.errors import NotFoundError
from entrocraft.app.explaining import explanation
from entrocraft.app.files import file_of
from entrocraft.app.gate import Refusal
from entrocraft.app.hello import hello
from entrocraft.app.overview import overview
from entrocraft.app.recorded import RecordedRun
from entrocraft.app.requests import Request as Fields
from entrocraft.app.requests import parsed_body
from entrocraft.app.series import default_keys, series
from entrocraft.app.state import App
from entrocraft.app.steps import step_of
from entrocraft.errors import EntrocraftError, InvalidValueError

_PING = 15
STATIC = Path(__file__).parent / "static"
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}

Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """The handlers of all routes.

    Args:
        app: What they ask.
    """

    def __init__(self, app: App):
        self._app = app

    def application(self, **options: Any) -> Starlette:
        """Return the application, without the gate."""
        routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/static/{file:path}", self.static, methods=["GET"]),
            Route("/api/hello", self.hello, methods=["GET"]),
            Route("/api/curve", self.curve, methods=["POST"]),
            Route("/api/events", self.events, methods=["GET"]),
            Route("/api/compare", self.compare, methods=["GET"]),
            Route("/api/runs", self.runs, methods=["GET"]),
            Route("/api/runs", self.start, methods=["POST"]),
            Route("/api/runs/{run}", self.run, methods=["GET"]),
            Route("/api/runs/{run}/series", self.series, methods=["GET"]),
            Route("/api/runs/{run}/steps/{step}", self.step, methods=["GET"]),
            Route("/api/runs/{run}/explanation", self.explanation, methods=["GET"]),
            Route("/api/runs/{run}/files/{file}", self.file, methods=["GET"]),
            Route("/api/runs/{run}/stop", self.stop, methods=["POST"]),
            Route("/api/runs/{run}/resume", self.resume, methods=["POST"]),
            Route("/api/runs/{run}/curve", self.steer, methods=["PUT"]),
        ]
        handled: dict[Any, Any] = dict.fromkeys((EntrocraftError, OSError, HTTPException, Refusal, Exception), mistake)
        return Starlette(routes=routes, exception_handlers=handled, **options)

    async def page(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["file"])

    def _file(self, name: str) -> Response:
        """Return one of the page's files: its name is looked up among them, never joined to a path."""
        files = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.suffix in _KINDS}
        file = files.get(name)
        if file is None:
            raise HTTPException(404)
        return FileResponse(file, media_type=_KINDS[file.suffix], headers={"Cache-Control": "no-cache"})

    async def _called(self, request: Request) -> tuple[str, RecordedRun]:
        """Return the run that an address names, with its name."""
        name = request.path_params["run"]
        return name, await run_in_threadpool(self._app.library.run, name)

    async def hello(self, request: Request) -> Response:
        return answer(await run_in_threadpool(hello, self._app))

    async def curve(self, request: Request) -> Response:
        fields = Fields(await body_of(request), CURVE_FIELDS)
        return answer(await run_in_threadpool(drawn, fields, self._app.recipes))

    async def runs(self, request: Request) -> Response:
        return answer({"runs": await run_in_threadpool(self._app.events.summaries)})

    async def run(self, request: Request) -> Response:
        name, run = await self._called(request)
        seen = await run_in_threadpool(self._app.events.watch, name)
        about = await run_in_threadpool(overview, name, run)
        live, recipe = name == self._app.launcher.live, self._app.library.recipe_of(run)
        return answer(about | {"live": live, "recipe": recipe, "id": seen})

    async def series(self, request: Request) -> Response:
        (name, run), query = await self._called(request), request.query_params
        seen = await run_in_threadpool(self._app.events.watch, name)
        keys = [key for key in query.get("keys", "").split(",") if key]

        def read() -> dict[str, Any]:
            with run.lock:
                run.update()
                first, last = (number_in(request, name, None) for name in ("from", "to"))
                return series(run.book, keys or default_keys(run.book), first, last, number_in(request, "points", 1500))

        return answer(await run_in_threadpool(read) | {"id": seen})

    async def step(self, request: Request) -> Response:
        _, run = await self._called(request)
        text = request.path_params["step"]
        if not text.isdecimal() or len(text) > 18:
            raise NotFoundError(f"there is no step {text!r:.40}")
        return answer(await run_in_threadpool(step_of, run, int(text), number_in(request, "page", 0)))

    async def explanation(self, request: Request) -> Response:
        _, run = await self._called(request)
        return answer(await run_in_threadpool(explanation, run))

    async def file(self, request: Request) -> Response:
        name, run = await self._called(request)
        return file_of(run, request.path_params["file"], self._app.launcher.log_of(name))

    async def compare(self, request: Request) -> Response:
        names = names_in(request)
        return answer(await run_in_threadpool(compare, self._app.library, names))

    async def events(self, request: Request) -> Response:
        seen = request.headers.get("last-event-id") or request.query_params.get("last")
        stream = self._app.events.stream(set(names_in(request)), seen)
        return EventSourceResponse(stream, ping=_PING, sep="\n", headers={"Cache-Control": "no-store"})

    async def start(self, request: Request) -> Response:
        fields = Fields(await body_of(request), work.START_FIELDS)
        if request.query_params.get("check") == "1":
            return answer(await work.check(self._app, fields))
        return answer(work.start(self._app, fields), 202)

    async def stop(self, request: Request) -> Response:
        fields = Fields(await body_of(request), ("now",))
        return answer(work.stop(self._app, request.path_params["run"], fields), 202)

    async def resume(self, request: Request) -> Response:
        Fields(await body_of(request), ())
        return answer(work.resume(self._app, request.path_params["run"]), 202)

    async def steer(self, request: Request) -> Response:
        fields = Fields(await body_of(request), CURVE_FIELDS)
        return answer(await run_in_threadpool(work.steer, self._app, request.path_params["run"], fields))


def names_in(request: Request) -> list[str]:
    """Return the names of runs that an address lists, each once."""
    return list(dict.fromkeys(name for name in request.query_params.get("runs", "").split(",") if name))


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings.

    Raises:
        HTTPException: It brings none.
    """
    try:
        return parsed_body(await request.body())
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def number_in(request: Request, name: str, default: Any) -> Any:
    """Return a whole number of the address; the default if it is not there.

    Raises:
        InvalidValueError: It is no such number.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise InvalidValueError(f"{name}: expected a whole number, got {text!r:.40}")
    return int(text)
