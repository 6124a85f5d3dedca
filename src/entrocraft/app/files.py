"""The files of a run that may be read: a fixed set of names, and none that a link leads out of the run."""

from collections.abc import Iterator
from pathlib import Path

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from entrocraft.app.errors import NotFoundError
from entrocraft.app.recorded import RecordedRun
from entrocraft.runs.files import open_regular

_KINDS = {
    "report.md": "text/markdown; charset=utf-8",
    "curve.png": "image/png",
    "config.json": "application/json",
    "metrics.jsonl": "application/x-ndjson",
    "log": "text/plain; charset=utf-8",
}
_CHUNK = 1 << 18


def file_of(run: RecordedRun, name: str, log: Path) -> Response:
    """Return a file of a run, as far as it was written when it was asked for.

    Args:
        run: The run.
        name: One of `report.md`, `curve.png`, `config.json`, `metrics.jsonl` and `log`.
        log: What the run's process prints to.

    Raises:
        NotFoundError: It is none of these names, or is not there.
    """
    folder = run.directory.path.resolve()
    files = {each: folder / each for each in _KINDS if each != "log"} | {"log": log}
    file = files.get(name)
    if file is None or not file.is_file() or file.is_symlink():
        raise NotFoundError(f"there is no file {name!r:.40} of this run; there may be: {', '.join(_KINDS)}")
    size = file.stat().st_size
    headers = {"Content-Length": str(size), "Content-Disposition": f'inline; filename="{name}"'}
    return StreamingResponse(iterate_in_threadpool(_beginning(file, size)), media_type=_KINDS[name], headers=headers)


def _beginning(file: Path, size: int) -> Iterator[bytes]:
    """Yield so many bytes of a file, which may go on growing."""
    with open_regular(file) as opened:
        while size > 0 and (chunk := opened.read(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk
