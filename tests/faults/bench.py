"""The bench that faults are tried on: undisturbed runs, made once, and the verdict on a disturbed one."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faults.nursery import Nursery
from faults.outcomes import Comparison, compare
from faults.processes import Ended, Started, command_line
from faults.trainings import PLAIN, Training

TRAIN = ("train", "run.yaml", "--output", "out")
RESUME = (*TRAIN, "--resume")


@dataclass(frozen=True)
class Verdict:
    """What became of a run that a fault was tried on."""

    training: str
    said: str = ""
    """The line that told what to do."""
    lost: int = 0
    twice: int = 0
    orphans: int = 0
    struck: bool = True
    """False if the run had ended before the fault came."""
    problems: tuple[str, ...] = ()
    """What is not as it should be, in words; empty if the run survived."""

    @property
    def survived(self) -> bool:
        """True if nothing was lost, counted twice, orphaned or left unsaid."""
        return not (self.problems or self.lost or self.twice or self.orphans)


@dataclass(frozen=True)
class Undisturbed:
    """A training that nothing has disturbed."""

    out: Path
    """Its run directory."""
    seconds: float
    """Time from where the run itself began, its imports and its model being loaded, to its end."""


class Bench:
    """A folder in which trainings are started, disturbed and resumed.

    Args:
        folder: Where everything is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._undisturbed: dict[str, Undisturbed] = {}
        self._nursery: Nursery | None = None
        self._seconds_to_begin = 0.0
        self._count = 0

    def undisturbed(self, training: Training) -> Undisturbed:
        """Return a training without any fault, which is made once."""
        if training.name not in self._undisturbed:
            folder = training.lay_out(self.folder / f"undisturbed-{training.name.replace(' ', '-')}")
            started = self.train(folder)
            started.wait_until((folder / "out" / "state.json").exists)
            seconds_to_begin, ended = started.seconds, started.ended()
            assert ended.status == 0, ended.said
            self._undisturbed[training.name] = Undisturbed(folder / "out", ended.seconds - seconds_to_begin)
        return self._undisturbed[training.name]

    def new_folder(self, training: Training, *, begun: bool = False) -> Path:
        """Return a folder with all that a training needs, and with its finished run if it has begun."""
        self._count += 1
        folder = training.lay_out(self.folder / f"fault-{self._count}")
        if begun:
            shutil.copytree(self.undisturbed(training).out, folder / "out")
        return folder

    def train(self, folder: Path, *arguments: str, command: Sequence[str] = TRAIN, **settings: str) -> Started:
        """Start the training of a folder."""
        return Started(command_line(*command, *arguments), folder, nursery=self.nursery, **settings)

    def strike(self, folder: Path, specification: str) -> Started:
        """Start the training of a folder with a fault at an exact place; see `child.py`."""
        return Started([*command_line()[:2], "faults.child", specification, *TRAIN], folder, nursery=self.nursery)

    @property
    def nursery(self) -> Nursery:
        """What forks trainings."""
        self._nursery = self._nursery or Nursery()
        return self._nursery

    def seconds_to_begin(self) -> float:
        """Return how long a new process takes until the run itself begins."""
        if not self._seconds_to_begin:
            folder = self.new_folder(PLAIN)
            started = Started(command_line(*TRAIN), folder)
            started.wait_until((folder / "out" / "state.json").exists)
            self._seconds_to_begin = started.seconds
            started.ended()
        return self._seconds_to_begin

    def close(self) -> None:
        """End what forks trainings."""
        if self._nursery is not None:
            self._nursery.end()
            self._nursery = None

    def verdict(
        self,
        training: Training,
        folder: Path,
        ended: Ended,
        *,
        wanted: Sequence[int],
        words: Sequence[str] = ("--resume",),
        resumed: Ended | None = None,
        rollouts: bool = True,
    ) -> Verdict:
        """Judge a run by how it ended, what it said, and what it and its resumption left behind.

        Args:
            training: What was run.
            folder: Where.
            ended: How the disturbed process ended.
            wanted: Exit statuses that are right for it.
            words: What it must have said if it ended by itself and not well.
            resumed: How the process ended that went on, if there was one; else the run must be complete.
            rollouts: Whether `rollouts.jsonl` must agree, too.
        """
        problems = []
        if ended.status not in wanted:
            problems.append(f"exit status {ended.status}, wanted {' or '.join(map(str, wanted))}")
        if ended.status > 0:
            problems += [f"it did not say {word!r}" for word in words if word not in ended.last_line]
        orphans = ended.orphans
        for each in (ended, resumed):
            if each is not None and (trace := _trace(each.said)):
                problems.append(f"a traceback: {trace}")
        if resumed is not None:
            orphans += resumed.orphans
            if resumed.status != 0:
                problems.append(f"going on ended with {resumed.status}: {resumed.last_line[:200]}")
        comparison = compare(folder / "out", self.undisturbed(training).out, rollouts=rollouts)
        shutil.rmtree(folder, ignore_errors=True)
        return self.judged(training.name, ended.last_line, orphans, comparison, problems)

    @staticmethod
    def also(verdict: Verdict, problems: Sequence[str]) -> Verdict:
        """Return a verdict with more problems."""
        return replace(verdict, problems=(*verdict.problems, *problems))

    @staticmethod
    def judged(training: str, said: str, orphans: int, comparison: Comparison, problems: Sequence[str]) -> Verdict:
        """Return the verdict that follows from all that was found."""
        found = (*problems, *comparison.differences)
        return Verdict(training, shown(said), comparison.lost, comparison.twice, orphans, problems=found)


def _trace(said: str) -> str:
    """Return the last line of a traceback, or of an exception that was ignored; nothing if there is neither."""
    found = re.search(r"Traceback \(most recent call last\)|Exception ignored", said)
    if found is None:
        return ""
    return next((line for line in reversed(said[found.start() :].splitlines()) if re.match(r"[\w.]+(:|$)", line)), "?")


def shown(said: str, most: int = 160) -> str:
    """Return a line with the paths of this bench and long middles left out."""
    text = re.sub(r"/\S*/(?=out\b)", "", said.removeprefix("entrocraft: ").removeprefix("error: "))
    return text if len(text) <= most else f"{text[: most - 40]} ... {text[-35:]}"
