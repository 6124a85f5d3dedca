"""One run of a study at work: its training, then its scorings, each a command of its own."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from entrocraft.config import TaskConfig
from entrocraft.errors import RunDirectoryError
from entrocraft.runs import RunDirectory
from entrocraft.runs.files import take_lock, write_text
from entrocraft.study.cells import PlannedRun, fingerprint, merged
from entrocraft.study.child import Child
from entrocraft.study.rows import row_of
from entrocraft.study.settings import ScoringConfig

_LONGEST_STEP = 600.0
"""Seconds that a training which lost its parent may take to end its step."""


@dataclass(frozen=True)
class Workplace:
    """Where a run of a study has its files."""

    folder: Path
    key: str

    @property
    def run(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(self.folder / self.key)

    @property
    def log(self) -> Path:
        """What its commands printed."""
        return self.folder / f"{self.key}.log"

    @property
    def config(self) -> Path:
        """Its configuration, as `entrocraft train` reads it."""
        return self.folder / f"{self.key}.yaml"

    def scoring(self, settings: ScoringConfig) -> Path:
        """Folder of one scoring, by what it does rather than by its name, which may be any text."""
        return self.folder / f"{self.key}-{fingerprint(settings.model_dump(mode='json'))[:6]}"

    def forget_models(self) -> None:
        """Remove checkpoints and the answers of scorings, which are large; metrics and scores stay."""
        shutil.rmtree(self.run.checkpoints, ignore_errors=True)
        for samples in self.folder.glob(f"{self.key}-*/*/samples.jsonl"):
            samples.unlink(missing_ok=True)


class Job:
    """A planned run being made, command after command.

    Args:
        planned: The run.
        name: What it is, in words.
        scorings: Scorings of its last model, by name.
        folder: Where the study's runs lie.
        threads: Threads that it may compute with.
    """

    def __init__(
        self, planned: PlannedRun, name: str, scorings: Mapping[str, ScoringConfig], folder: Path, threads: int
    ):
        self.planned, self.name = planned, name
        self.place = Workplace(folder, planned.key)
        self._scorings = {scoring: (self.place.scoring(settings), settings) for scoring, settings in scorings.items()}
        self._threads = threads
        self._begun = time.monotonic()
        self._commands = self._commands_left()
        self.child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._wait_for_orphan()

    def _wait_for_orphan(self) -> None:
        """Let a training end that an earlier process of this study, killed since, has left at its last step."""
        if not self.place.run.path.is_dir():
            return
        take_lock(self.place.run.path, timeout=_LONGEST_STEP).release()

    def config(self) -> dict[str, Any]:
        """Return what is stated of the run, with the model that it starts from."""
        before = self.planned.after
        if before is None:
            return dict(self.planned.config)
        return merged(self.planned.config, {"model": _last_model(Workplace(self.place.folder, before.key))})

    def _commands_left(self) -> Iterator[Sequence[str]]:
        write_text(self.place.config, yaml.safe_dump(self.config(), sort_keys=False))
        yield ["train", str(self.place.config), "--output", str(self.place.run.path), "--resume"]
        for folder, settings in self._scorings.values():
            if not (folder / "scores.json").is_file():
                yield self._scoring_command(folder, settings)

    def _scoring_command(self, folder: Path, settings: ScoringConfig) -> Sequence[str]:
        task_file = folder.with_name(f"{folder.name}.yaml")
        task = {} if settings.task is None else {"task": settings.task}
        stated = merged(self.config(), task)
        write_text(task_file, yaml.safe_dump({"task": TaskConfig().model_dump(mode="json")} | stated, sort_keys=False))
        options = {
            "--num-problems": settings.num_problems or self.planned.resolved().eval.num_problems,
            "--num-samples": settings.num_samples,
            "--k": ",".join(map(str, settings.k)),
            "--temperature": settings.temperature,
            "--top-p": settings.top_p,
        }
        said = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return ["eval", str(self.place.run.path), "--task", str(task_file), "--output", str(folder), *said]

    def go_on(self) -> int | None:
        """Start the next command if none is at work; return 0 once all are done, and what failed with if one has."""
        if self.child is not None:
            status = self.child.exit_status
            if status != 0:
                return status
        command = next(self._commands, None)
        if command is None:
            return 0
        self.child = Child(command, self.place.log, self._threads)
        return None

    def row(self) -> dict[str, Any]:
        """Return what the run came to."""
        scorings = {name: folder / "scores.json" for name, (folder, _) in self._scorings.items()}
        return row_of(self.planned.key, self.name, self.place.run, scorings, time.monotonic() - self._begun)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps made, and to make."""
        return self.place.run.last_step(), self.planned.resolved().train.steps


def _last_model(place: Workplace) -> str:
    checkpoint = place.run.last_checkpoint()
    if checkpoint is None:
        raise RunDirectoryError(
            f"{place.run.path} has no checkpoint left to go on from; remove its line from rows.jsonl to make it again"
        )
    return str(checkpoint[1].resolve())
