"""The server: one address with a token, one process, and nothing left behind when it ends."""

import asyncio
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from entrocraft.app.events import Events
from entrocraft.app.gate import LOCAL_HOSTS, Gate
from entrocraft.app.launch import Launcher
from entrocraft.app.library import Library
from entrocraft.app.recipes import recipes_from
from entrocraft.app.routes import Routes
from entrocraft.app.state import App
from entrocraft.errors import InvalidValueError, os_error_line

_WILDCARDS = ("0.0.0.0", "::", "")
_SECONDS_TO_END = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server is reached, and what it shows."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 for any that is free."""
    allow_hosts: Sequence[str] = ()
    """Further names that requests may be sent to."""
    has_token: bool = True
    folder: Path = Path("runs")
    """Where new runs go."""
    recipes: Sequence[Path] = ()
    runs: Sequence[Path] = ()
    """Runs, or folders of runs, that are shown as well."""

    def __post_init__(self) -> None:
        if not self.has_token and self.host not in LOCAL_HOSTS:
            raise InvalidValueError(
                f"--no-token is for this machine alone, and {self.host!r} is reached from others: leave out one of both"
            )


class Server:
    """The server of the page, ready to be run.

    Args:
        settings: How it is reached, and what it shows.

    Raises:
        EntrocraftError: The address cannot be used, or a recipe is none.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        recipes = recipes_from(settings.recipes)
        library = Library(settings.folder, settings.runs, recipes)
        launcher = Launcher(library)
        self._app = App(library, recipes, launcher, Events(library, launcher))
        self._socket = _bound(settings.host, settings.port)
        self.port: int = self._socket.getsockname()[1]
        self._say: Callable[[str], None] = print
        self._is_in_haste = lambda: False
        self._token = secrets.token_urlsafe(24) if settings.has_token else None

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._settings.host, self._settings.host)
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/" + ("" if self._token is None else f"?token={self._token}")

    @property
    def application(self) -> ASGIApp:
        """The application, behind its gate."""
        own = () if self._settings.host in _WILDCARDS else (self._settings.host,)
        return Gate(
            Routes(self._app).application(lifespan=self._lifespan),
            self._token,
            (*LOCAL_HOSTS, *own, *self._settings.allow_hosts),
            f"entrocraft-{self.port}",
        )

    @asynccontextmanager
    async def _lifespan(self, application: object) -> AsyncIterator[None]:
        work = asyncio.create_task(self._app.events.work())
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            self._app.launcher.close()
            if self._app.launcher.is_at_work:
                self._say(f"{self._app.launcher.live} stops after this step; Ctrl-C again does not wait for it")
            while self._app.launcher.is_at_work and not self._is_in_haste():
                await asyncio.sleep(0.1)

    def close(self) -> None:
        """Give the port back; for a server that is not run."""
        self._socket.close()

    def run(self, say: Callable[[str], None], *, open_browser: bool) -> None:
        """Serve until a signal ends it.

        Args:
            say: Prints a line.
            open_browser: Whether to show the page at once.
        """
        self._say = say
        config = uvicorn.Config(
            self.application,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        with _told_to_others(self.port, self.url):
            say(self.url)
            if self._settings.host in _WILDCARDS:
                say("others can reach this server; requests need the token, and a host name that --allow-host names")
            if open_browser and _has_screen():
                threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()
            server = uvicorn.Server(config)
            self._is_in_haste = lambda: server.force_exit
            server.run(sockets=[self._socket])


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        why = os_error_line(error) if isinstance(error, OSError) else str(error)
        raise InvalidValueError(
            f"cannot listen on {host} port {port}: {why}. `entrocraft app --url` prints the address of a page that "
            "runs already; another --port may be free"
        ) from error


def _has_screen() -> bool:
    """Return whether a browser can be shown: over ssh it would be one in the terminal, which takes that over."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return os.name == "nt" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()) or os.uname().sysname == "Darwin"


def _address_file(port: int) -> Path:
    """Return the file in which the address of a server on this machine is kept, for its own user alone."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "entrocraft" / f"app-{port}"


@contextmanager
def _told_to_others(port: int, url: str) -> Iterator[None]:
    """Keep the address with its token where `entrocraft app --url` finds it, as long as the server runs."""
    file = _address_file(port)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.unlink(missing_ok=True)  # one that was left behind might be readable by others
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(f"{os.getpid()} {url}\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def address_of(port: int) -> str:
    """Return the address of the server that this user runs on a port of this machine.

    Raises:
        InvalidValueError: None does.
    """
    try:
        pid, _, url = _address_file(port).read_text("utf-8").strip().partition(" ")
        os.kill(int(pid), 0)
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f"no page of yours runs on port {port} of this machine; start one: entrocraft app"
        ) from error
    return url
