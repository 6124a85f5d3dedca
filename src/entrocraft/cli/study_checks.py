"""What a study is refused for before the first of its runs begins."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from entrocraft.cli.train import import_training
from entrocraft.config import RunConfig, parse_config
from entrocraft.errors import EntrocraftError, InvalidValueError, RunDirectoryError
from entrocraft.models.prompts import load_fitting_tokenizer
from entrocraft.reports.evaluation import MOST_PROBLEMS
from entrocraft.runs import RunDirectory
from entrocraft.study.cells import Cell, PlannedRun, merged, runs_of
from entrocraft.study.job import Workplace
from entrocraft.study.queue import rows_of
from entrocraft.study.settings import ScoringConfig, StudyConfig
from entrocraft.tasks import Problem, Task


class StudyChecks:
    """Checks of a study, which make each set of problems of runs once.

    Args:
        settings: The study.
        cells: All its cells.
        folder: Where its rows and runs are.
    """

    def __init__(self, settings: StudyConfig, cells: Sequence[Cell], folder: Path):
        self._settings, self._cells, self._folder = settings, cells, folder
        self._training: Any = import_training()
        self._problems: dict[str, tuple[Task, tuple[list[Problem], list[Problem]]]] = {}

    def check(self) -> None:
        """Refuse what would fail a run, once for each arm, schedule, task and phase.

        Raises:
            EntrocraftError: Training or a scoring would refuse, or the data are not those of the runs that are done.
        """
        self._check_trainings()
        self._check_scorings()
        self._check_data()

    def _check_trainings(self) -> None:
        """Refuse what `entrocraft train` would before it loads the model."""
        fitting = set()
        with tempfile.TemporaryDirectory() as nowhere:
            for cell, run in self._kinds_of_runs():
                config = run.resolved()
                what = (config.model, _key_of(config))
                try:
                    plan = self._training.plan_run(
                        config, RunDirectory(Path(nowhere) / "run"), problems_of=self._problems_of
                    )
                    if run.after is None and what not in fitting:
                        self._training.load_tokenizer_of(plan)
                        fitting.add(what)
                except EntrocraftError as error:
                    raise InvalidValueError(f"{cell.name}: {error}") from error

    def _check_scorings(self) -> None:
        """Refuse what `entrocraft eval` would, hours later, once a run has ended."""
        checked = set()
        for name, scoring in self._settings.scorings.items():
            for cell, run in self._kinds_of_runs():
                model = cell.runs[0].resolved().model
                config = parse_config(merged(run.config, {"task": scoring.task} if scoring.task is not None else {}))
                what = (name, model, config.task.model_dump_json(), config.eval.num_problems)
                if what in checked:
                    continue
                checked.add(what)
                try:
                    _check_scoring(scoring, config, model)
                except EntrocraftError as error:
                    raise InvalidValueError(f"scorings.{name}: {error}") from error

    def _check_data(self) -> None:
        """Refuse data other than those of the runs that are done.

        A row is found by its configuration, which says where data are and not what they hold.
        """
        done, compared = rows_of(self._folder, self._cells), set[str]()
        for key, (run, name) in runs_of(self._cells).items():
            place, config = Workplace(self._folder / "runs", key).run, run.resolved()
            if key not in done or _key_of(config) in compared or not place.problems_file.exists():
                continue
            compared.add(_key_of(config))
            problems = dict(zip(("train", "test"), self._problems_of(config, config.task.build()), strict=True))
            try:
                self._training.check_problems(place.problems_file, self._problems[_key_of(config)][0], problems)
            except EntrocraftError as error:
                raise RunDirectoryError(f"{name}, which is done: {error}") from error

    def _kinds_of_runs(self) -> Iterator[tuple[Cell, PlannedRun]]:
        """Yield one run for each arm, schedule, task and phase: what differs in its seed alone is as right or wrong."""
        seen: set[tuple[str, str, str, str]] = set()
        for cell in self._cells:
            for run in cell.runs:
                kind = (cell.arm, cell.schedule, cell.task, run.phase)
                if kind not in seen:
                    seen.add(kind)
                    yield cell, run

    def _problems_of(self, config: RunConfig, task: Task) -> tuple[list[Problem], list[Problem]]:
        """Return a run's problems, made by the first task that was asked: it knows where each stands."""
        key = _key_of(config)
        if key not in self._problems:
            self._problems[key] = task, self._training.problems_of(config, task)
        return self._problems[key][1]


def _key_of(config: RunConfig) -> str:
    """Return what a run's problems are made by."""
    return f"{config.task.model_dump_json()} {config.eval.num_problems} {config.seed}"


def _check_scoring(scoring: ScoringConfig, config: RunConfig, model: str) -> None:
    """Refuse a scoring that the model or the task cannot go through.

    Args:
        scoring: The scoring.
        config: Configuration of the run that it scores, with the scoring's task.
        model: The model that the run, or the first of its phases, begins with.
    """
    task = config.task.build()
    problems = task.problems_asked_for("test", scoring.num_problems or config.eval.num_problems, MOST_PROBLEMS)
    task.scores([""], problems[:1])
    load_fitting_tokenizer(
        model,
        task,
        problems,
        config.train.max_completion_tokens or task.max_completion_tokens,
        config.train.carried_over().get("chat_template_kwargs"),
    )
