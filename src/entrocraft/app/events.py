"""News of runs, told to all viewers at once: each file has one reader, and each event is put into words once.

A viewer that was away names the last event it has seen and gets those since, as far back as they are kept; else it is
told to `reset`, and asks for everything anew. What is asked for while news come in may be told twice: a viewer leaves
out steps that it has.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from entrocraft.app.answers import to_json
from entrocraft.app.happenings import evaluated, happenings
from entrocraft.app.launch import Launcher
from entrocraft.app.library import Library
from entrocraft.app.overview import evaluation_of, seconds_left
from entrocraft.app.recorded import RecordedRun
from entrocraft.app.series import default_keys
from entrocraft.app.steps import groups_of
from entrocraft.errors import EntrocraftError

_logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between looks at the files: at most four events of a kind a second."""
_LIST_EVERY = 2.0
_STATE_EVERY = 1.0
_KEPT_WATCHED = 60.0
"""Seconds for which a run is followed after it was last asked for."""
_MOST_FRAMES, _MOST_BYTES = 4096, 16 * 2**20
_MOST_ROWS = 2000
"""Steps told one by one; of more at once a viewer asks itself."""

Event = tuple[str, dict[str, Any]]


class Log:
    """The last events, numbered, as the bytes that go out.

    Example:
        >>> log = Log("b")
        >>> log.add("steps", {"run": "a", "step": [1]}, "a")
        >>> log.since(0, {"a"})
        (1, b'id: b-1\\nevent: steps\\ndata: {"run":"a","step":[1]}\\n\\n')
        >>> log.since(0, {"other"})
        (1, b'')
    """

    def __init__(self, boot: str):
        self._boot = boot
        self._frames: deque[tuple[int, str | None, bytes]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.last = 0
        """Number of the last event."""

    @property
    def last_id(self) -> str:
        """What a viewer names who has seen everything so far."""
        return f"{self._boot}-{self.last}"

    def add(self, event: str, data: dict[str, Any], run: str | None) -> None:
        """Add an event about a run, or about none in particular."""
        frame = f"event: {event}\ndata: {to_json(data)}\n\n"
        with self._lock:
            self.last += 1
            self._frames.append((self.last, run, f"id: {self.last_id}\n{frame}".encode("utf-8", "replace")))
            self._bytes += len(self._frames[-1][2])
            while len(self._frames) > _MOST_FRAMES or self._bytes > _MOST_BYTES:
                self._bytes -= len(self._frames.popleft()[2])

    def number_of(self, seen: str) -> int | None:
        """Return the number of an event that a viewer names; None if what came after it is no longer kept."""
        boot, _, number = seen.rpartition("-")
        if boot != self._boot or not number.isdecimal() or len(number) > 18:
            return None
        return int(number) if self._keeps(int(number)) else None

    def _keeps(self, number: int) -> bool:
        first = self._frames[0][0] if self._frames else self.last + 1
        return first - 1 <= number <= self.last

    def since(self, number: int, runs: set[str]) -> tuple[int, bytes | None]:
        """Return the last number, and the events after `number` about some runs or none; None if some are gone."""
        with self._lock:
            if not self._keeps(number):
                return self.last, None
            found = []
            for each, run, frame in reversed(self._frames):
                if each <= number:
                    break
                if run is None or run in runs:
                    found.append(frame)
            return self.last, b"".join(reversed(found))


@dataclass
class _Watched:
    """How far a run has been told of."""

    run: RecordedRun
    until: float
    """Until when it is followed without a viewer."""
    generation: int
    rows: int
    evaluations: int
    newest_rollouts: int | None
    had_config: bool
    state: dict[str, Any] = field(default_factory=dict)
    state_told: float = 0.0


class Events:
    """Follows the runs that are looked at, and wakes their viewers.

    Args:
        library: The runs.
        launcher: Looked at as often as the files.
    """

    def __init__(self, library: Library, launcher: Launcher):
        self._library, self._launcher = library, launcher
        self.log = Log(secrets.token_hex(4))
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._news = asyncio.Event()
        self._viewers: list[set[str]] = []
        self._list: str = ""
        self._listed = 0.0

    # ---- following ----------------------------------------------------------------------------------

    def watch(self, name: str) -> str:
        """Follow a run from now on; return the event after which its news come."""
        with self._lock:
            watched = self._watched.get(name)
            if watched is None:
                run = self._library.run(name)
                with run.lock:
                    run.update()
                    watched = _Watched(run, 0.0, *_place_of(run), run.config is not None)
                self._watched[name] = watched
            watched.until = time.monotonic() + _KEPT_WATCHED
            return self.log.last_id

    async def work(self) -> None:
        """Look at everything again and again, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            before = self.log.last
            try:
                self._launcher.poll()
                await run_in_threadpool(self._look)
            except Exception:  # of one look: the end of a training must be noticed all the same
                _logger.exception("the page could not look at its runs, and looks again")
            if self.log.last > before:
                self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _look(self) -> None:
        """Add the news of all runs that are followed to the log."""
        viewed = set().union(*self._viewers)
        now = time.monotonic()
        with self._lock:
            for name, watched in [*self._watched.items()]:
                if name in viewed:
                    watched.until = now + _KEPT_WATCHED
                elif watched.until < now:
                    del self._watched[name]
                    continue
                for event, data in self._news_of(name, watched, now):
                    self.log.add(event, {"run": name} | data, name)
        if self._viewers and now - self._listed > _LIST_EVERY:
            self._listed = now
            summaries = self.summaries()
            listed = to_json({"runs": [{**each, "changed": None} for each in summaries]})
            if listed != self._list:
                self._list = listed
                self.log.add("runs", {"runs": summaries}, None)

    def summaries(self) -> list[dict[str, Any]]:
        """Return the list of runs, and which of them is this server's own child."""
        live = self._launcher.live
        return [each | {"live": each["name"] == live} for each in self._library.summaries()]

    def _news_of(self, name: str, watched: _Watched, now: float) -> Iterator[Event]:
        run = watched.run
        with run.lock:
            run.update()
            is_other = run.book.generation != watched.generation or (run.config is not None) != watched.had_config
            if is_other or len(run.book) - watched.rows > _MOST_ROWS:
                watched.generation, watched.rows, watched.evaluations, watched.newest_rollouts = _place_of(run)
                watched.had_config = run.config is not None
                yield "reset", {}
            else:
                yield from _new_rows(run, watched)
                yield from _new_evaluations(run, watched)
                yield from _new_rollouts(run, watched)
            yield from self._new_state(name, run, watched, now)

    def _new_state(self, name: str, run: RecordedRun, watched: _Watched, now: float) -> Iterator[Event]:
        state = self.state_of(name, run)
        is_other = any(state[key] != watched.state.get(key) for key in ("state", "why", "stops_at"))
        is_further = state["step"] != watched.state.get("step") and now - watched.state_told > _STATE_EVERY
        if is_other or is_further:
            watched.state, watched.state_told = state, now
            yield "state", state

    def state_of(self, name: str, run: RecordedRun) -> dict[str, Any]:
        """Return whether a run goes on, how far it is, and what its process said last."""
        standing = run.standing()
        return {
            "state": standing.state,
            "why": standing.why,
            "step": run.book.last_step,
            "steps": run.total_steps,
            "seconds_left": seconds_left(run),
            "stops_at": run.stops_at,
            "last_lines": self._launcher.last_lines(name),
        }

    # ---- telling ------------------------------------------------------------------------------------

    async def stream(self, runs: set[str], seen: str | None) -> AsyncIterator[bytes]:
        """Yield the events of some runs as they come.

        Args:
            runs: Names of the runs.
            seen: The last event that the viewer has seen; None for one who begins.
        """
        number = self.log.last
        if seen is not None:
            known = self.log.number_of(seen)
            if known is None:
                for name in sorted(runs):
                    yield _frame("reset", {"run": name})
            else:
                number = known
        for name in sorted(runs):
            try:
                await run_in_threadpool(self.watch, name)
            except EntrocraftError as error:
                yield _frame("state", {"run": name, "state": "broken", "why": str(error)})
        yield _frame("runs", {"runs": await run_in_threadpool(self.summaries)})
        self._viewers.append(runs)
        try:
            while True:
                news = self._news
                number, frames = self.log.since(number, runs)
                if frames is None:
                    for name in sorted(runs):
                        yield _frame("reset", {"run": name})
                elif frames:
                    yield frames
                else:
                    await news.wait()
        finally:
            self._viewers.remove(runs)


def _frame(event: str, data: dict[str, Any]) -> bytes:
    """Return an event for one viewer, which has no number."""
    return f"event: {event}\ndata: {to_json(data)}\n\n".encode("utf-8", "replace")


def _place_of(run: RecordedRun) -> tuple[int, int, int, int | None]:
    """Return how far a run has come: what was told once it is told no more."""
    steps = run.rollouts.steps
    return run.book.generation, len(run.book), len(run.book.evaluations), steps[-1] if steps else None


def _new_rows(run: RecordedRun, watched: _Watched) -> Iterator[Event]:
    first, count = watched.rows, len(run.book)
    if first == count:
        return
    watched.rows = count
    rows = range(first, count)
    columns = {key: run.book.values(key, rows) for key in default_keys(run.book)}
    yield "steps", {"step": run.book.values("step", rows), "columns": columns}
    before = run.book.row(first - 1) if first else None
    for each in happenings(run.book.rows(first), before):
        if each["kind"] == "steering":
            yield "steering", {"step": each["step"], "accepted": each["accepted"], "message": each["text"]}
        yield "event", each


def _new_evaluations(run: RecordedRun, watched: _Watched) -> Iterator[Event]:
    for line in run.book.evaluations[watched.evaluations :]:
        yield "eval", {"line": evaluation_of(line)}
        yield "event", evaluated(line)
    watched.evaluations = len(run.book.evaluations)


def _new_rollouts(run: RecordedRun, watched: _Watched) -> Iterator[Event]:
    steps = run.rollouts.steps
    if not steps or steps[-1] == watched.newest_rollouts:
        return
    watched.newest_rollouts = steps[-1]
    try:
        yield "rollouts", {"step": steps[-1], "groups": groups_of(run.rollouts.read(steps[-1]), tokens=False)}
    except (EntrocraftError, OSError) as error:
        yield "event", {"step": steps[-1], "kind": "state", "text": str(error)}
