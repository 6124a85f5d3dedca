"""The run directory: what a run leaves behind, and what it resumes from.

config.json      the resolved configuration
metrics.jsonl    one line per optimizer step, and one per evaluation
controller.json  the controller's state
steering.yaml    a curve that a person wrote mid-run, which the run follows instead
checkpoints/     what training resumes from
curve.png        target, band and entropy over reward
report.md        how it went, in words
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from entrocraft.errors import EntrocraftError, InvalidValueError, RunDirectoryError
from entrocraft.runs.metrics import EVALUATION

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")

ReadConfig = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class RunDirectory:
    """Paths, metrics and checkpoints of one run.

    Args:
        path: The directory; it need not exist yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.controller_file = path / "controller.json"
        self.steering_file = path / "steering.yaml"
        self.curve_file = path / "curve.png"
        self.report_file = path / "report.md"
        self.checkpoints = path / "checkpoints"

    @property
    def exists(self) -> bool:
        """True if a run was begun here; a saved model has a config.json, too, of another kind."""
        if not self.config_file.is_file():
            return False
        try:
            return "train" in json.loads(self.config_file.read_text())
        except (ValueError, TypeError):
            return False

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            RunDirectoryError: There is no run here.
        """
        if not self.exists:
            raise RunDirectoryError(f"{self.path} is not a run directory: it has no config.json of a run")
        return json.loads(self.config_file.read_text())

    @contextmanager
    def opened(self, config: Mapping[str, Any], *, resume: bool, read: ReadConfig = dict) -> Iterator[None]:
        """Take the directory for this process, writing nothing unless it may be used.

        Args:
            config: The resolved configuration, written to a new run and compared with a resumed one's.
            resume: Go on with the run that is here, if there is one.
            read: Returns a configuration that an earlier version wrote in the words of today.

        Raises:
            RunDirectoryError: Another process is at work here; there is a run and `resume` is false; there
                is something else here; or the run was begun with another configuration.

        A new run that ends in an `EntrocraftError` before its first step leaves nothing behind.
        """
        self.refuse_unless_usable(config, resume=resume, read=read)
        is_new = not self.exists
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunDirectoryError(f"{self.path} is in use by another process") from error
        try:
            self.write(self.config_file, json.dumps(config, indent=2) + "\n")
            yield
        except EntrocraftError:
            if is_new and not self.step_metrics():
                shutil.rmtree(self.path)  # a request that could not even begin leaves nothing behind
            raise
        finally:
            lock.release()

    def refuse_unless_usable(self, config: Mapping[str, Any], *, resume: bool, read: ReadConfig = dict) -> None:
        """Raise `RunDirectoryError` if `opened` would; it does not look for other processes."""
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file; choose another --output")
        if self.exists:
            if not resume:
                raise RunDirectoryError(
                    f"{self.path} already holds a run; go on with it by --resume, or choose another --output"
                )
            self._refuse_other_config(config, read(self.config()))
        elif self.path.is_dir() and any(child.name != ".lock" for child in self.path.iterdir()):
            raise RunDirectoryError(f"{self.path} is not empty and holds no run; choose another --output")

    def _refuse_other_config(self, config: Mapping[str, Any], begun_with: Mapping[str, Any]) -> None:
        begun, now = (_flatten(json.loads(json.dumps(each))) for each in (begun_with, config))
        for key in sorted(begun.keys() | now.keys()):
            if begun.get(key) != now.get(key):
                raise RunDirectoryError(
                    f"{self.path} was begun with {key}={begun.get(key)!r}, now {now.get(key)!r}: a resumed run "
                    "must be the same run. Use the same configuration, or another --output"
                )

    def write(self, file: Path, text: str) -> None:
        """Replace `file` by `text`, never leaving half of it."""
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(text)
        os.replace(temporary, file)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics; it survives the death of this process."""
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return every whole line of the metrics, steps and evaluations."""
        if not self.metrics_file.exists():
            return []
        lines = []
        for line in self.metrics_file.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the last line of a killed run
        return lines

    def step_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of optimizer steps."""
        return [line for line in self.metrics() if "entropy" in line]

    def eval_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of evaluations."""
        return [line for line in self.metrics() if any(name.startswith(EVALUATION) for name in line)]

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return step and folder of the newest whole checkpoint.

        A checkpoint is whole if its `trainer_state.json`, which is written last, can be read.
        """
        found = []
        for folder in self.checkpoints.glob("checkpoint-*"):
            match = _CHECKPOINT.fullmatch(folder.name)
            if match is None:
                continue
            try:
                json.loads((folder / "trainer_state.json").read_text())
            except (OSError, json.JSONDecodeError):
                continue
            found.append((int(match[1]), folder))
        return max(found, default=None)

    def rewind_to(self, step: int) -> None:
        """Forget the metrics of steps after `step`, which will be made again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        self.write(self.metrics_file, "".join(json.dumps(line) + "\n" for line in kept))


def model_path_of(model_or_run: str) -> str:
    """Return the folder to load a model from: a run's newest checkpoint, or the argument itself.

    Raises:
        InvalidValueError: It is a run without a checkpoint.
    """
    run = RunDirectory(Path(model_or_run))
    if not run.exists:
        return model_or_run
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise InvalidValueError(f"{model_or_run} has no checkpoint yet; train further, or name a model")
    return str(checkpoint[1])


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with keys such as `train.steps`."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
