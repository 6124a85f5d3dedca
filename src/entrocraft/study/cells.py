"""The runs that a study is made of, each known by what it does: two cells that begin alike share the beginning."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from entrocraft.config import RunConfig, parse_config
from entrocraft.errors import EntrocraftError, InvalidValueError
from entrocraft.study.settings import StudyConfig

_NO_NAME = ""


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a study."""

    phase: str
    """Name of the phase; empty if the study has none."""
    config: Mapping[str, Any]
    """Its configuration as the study states it, without defaults; the model is that of `after`, if there is one."""
    after: "PlannedRun | None" = None
    """The run whose last model it starts from."""

    @property
    def key(self) -> str:
        """Fingerprint of what is stated, of the runs before it as well: what is not stated may get other defaults."""
        return fingerprint([self.config, self.after and self.after.key])

    def resolved(self) -> RunConfig:
        """Return the configuration with every default, checked."""
        return parse_config(self.config)


@dataclass(frozen=True)
class Cell:
    """One combination of arm, schedule, task and seed, with its runs, phase after phase."""

    arm: str
    schedule: str
    task: str
    seed: int
    runs: tuple[PlannedRun, ...]

    @property
    def label(self) -> str:
        """Arm, and schedule where there is one: what a row of a table is called."""
        return f"{self.arm}, {self.schedule}" if self.schedule else self.arm

    @property
    def name(self) -> str:
        """All that tells it from the others, in words."""
        return ", ".join([self.label, *([self.task] if self.task else []), f"seed {self.seed}"])

    def name_of(self, run: PlannedRun) -> str:
        """One of its runs in words."""
        return f"{self.name}, phase {run.phase}" if run.phase else self.name


def cells_of(study: StudyConfig) -> list[Cell]:
    """Return all cells of a study, seed by seed, so that early ones can be compared before all are done.

    Raises:
        InvalidValueError: A run's configuration cannot be used; the message names the cell and the key.

    Example:
        >>> arms = {"grpo": {"control": None}, "token": {"control": {"method": "token"}}}
        >>> study = StudyConfig(title="two", arms=arms, schedules={"flat": 0.5, "line": "linear(0.6, 0.4)"})
        >>> [cell.name for cell in cells_of(study)]
        ['grpo, seed 0', 'token, flat, seed 0', 'token, line, seed 0']
    """
    cells = []
    tasks = study.tasks or {_NO_NAME: {}}
    for seed, task, arm in product(study.seeds, tasks, study.arms):
        for schedule in _schedules_of(study, arm, tasks[task]):
            runs = tuple(_runs(study, arm, schedule, tasks[task], seed))
            cell = Cell(arm, schedule, task, seed, runs)
            _check(cell, study)
            cells.append(cell)
    return cells


def runs_of(cells: Sequence[Cell]) -> dict[str, tuple[PlannedRun, str]]:
    """Return each run of the cells once, by its key, with its name in the first cell that has it."""
    runs: dict[str, tuple[PlannedRun, str]] = {}
    for cell in cells:
        for run in cell.runs:
            runs.setdefault(run.key, (run, cell.name_of(run)))
    return runs


def _schedules_of(study: StudyConfig, arm: str, task: Mapping[str, Any]) -> list[str]:
    """Return the names of the schedules that an arm is crossed with: none if it has no use for them."""
    uses = any(_takes_schedule(study, arm, phase, task) for phase in study.phases or {_NO_NAME: {}})
    return [*study.schedules] if study.schedules and uses else [_NO_NAME]


def _takes_schedule(study: StudyConfig, arm: str, phase: str, task: Mapping[str, Any]) -> bool:
    """Return whether an arm controls entropy in a phase, without a curve that it or the phase names itself."""
    parts = _parts(study, arm, phase, task)
    if parts is None:
        return False
    own = merged(*parts[1:]).get("control", {})
    control = merged(*parts).get("control", {})
    return isinstance(control, Mapping) and not (isinstance(own, Mapping) and {"schedule", "lower"} & own.keys())


def _parts(study: StudyConfig, arm: str, phase: str, task: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return what a run's configuration is put together from, the last word last; None if the arm skips the phase."""
    overrides = dict(study.arms[arm])
    of_phase = overrides.pop("phases", {}).get(phase, {})
    if of_phase is None:
        return None
    return [study.run, task, study.phases.get(phase) or {}, overrides, of_phase]


def _runs(study: StudyConfig, arm: str, schedule: str, task: Mapping[str, Any], seed: int) -> Iterator[PlannedRun]:
    before = None
    for phase in study.phases or {_NO_NAME: {}}:
        parts = _parts(study, arm, phase, task)
        if parts is None:
            continue
        curve = {}
        if schedule and _takes_schedule(study, arm, phase, task):
            curve = {"control": {"schedule": study.schedules[schedule]}}
        before = PlannedRun(phase, merged(*parts, curve, {"seed": seed}), before)
        yield before


def _check(cell: Cell, study: StudyConfig) -> None:
    """Refuse a cell whose runs cannot be: a setting that is wrong, or a score that is not measured."""
    if not cell.runs:
        raise InvalidValueError(f"arm {cell.arm!r} leaves out every phase")
    for run in cell.runs:
        where = cell.name_of(run)
        try:
            scores = run.resolved().eval
        except EntrocraftError as error:
            raise InvalidValueError(f"{where}: {error}") from error
        measured = [f"mean@{scores.num_samples}", *(f"pass@{k}" for k in scores.k)]
        if study.score not in measured:
            raise InvalidValueError(
                f"{where}: score {study.score!r} is not among what is measured, {', '.join(measured)}: set score, or "
                "eval.num_samples and eval.k of run"
            )


def fingerprint(data: Any) -> str:
    """Return 12 hexadecimal digits that tell plain data from other data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:12]


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings laid over each other, the last on top; what is nested is merged, anything else replaced.

    A mapping with a `name` or `type`, such as a method with its options, is another thing and replaces what was there.

    Example:
        >>> merged({"train": {"steps": 3, "lora": None}}, {"train": {"steps": 5}}, {"control": None})
        {'train': {'steps': 5, 'lora': None}, 'control': None}
    """
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            below = result.get(key)
            if isinstance(value, Mapping):
                is_another = {"name", "type"} & value.keys()
                result[key] = merged(below if isinstance(below, Mapping) and not is_another else {}, value)
            else:
                result[key] = value
    return result
