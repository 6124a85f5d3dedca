"""The runs and studies that there are, by the name that the page calls them: names are looked up, never made paths."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrocraft.app.errors import NotFoundError
from entrocraft.app.recipes import Recipe
from entrocraft.app.recorded import RecordedRun, Signature
from entrocraft.app.studies import study_summary
from entrocraft.errors import EntrocraftError

_NOT_IN_NAMES = re.compile(r"[^\w.~-]")
_AT_WORK = ("running", "queued")
_MOST_OPEN = 64
"""Runs that are held in memory at once."""
_LEVELS = 2
"""Depth below a folder at which runs are looked for."""


@dataclass(frozen=True)
class Place:
    """A folder that holds a run or a study."""

    name: str
    path: Path
    kind: Literal["run", "study"]


class Library:
    """All runs and studies of some folders.

    A run two levels down is called by both folders, `demo~grpo`. Links that lead out of their folder are left out.

    Args:
        folder: Where new runs go; its runs are listed.
        others: Runs, or folders of runs, that are listed, too.
        recipes: What runs may have been made by, by name.
    """

    def __init__(self, folder: Path, others: Sequence[Path] = (), recipes: Mapping[str, Recipe] | None = None):
        self.folder = folder
        self._recipes = recipes or {}
        self._others = others
        self._runs: dict[Path, RecordedRun] = {}
        self._summaries: dict[Path, tuple[Signature, dict[str, Any]]] = {}
        self._expected: dict[str, Path] = {}
        self._lock = threading.Lock()

    def places(self) -> dict[str, Place]:
        """Return what there is now, by name."""
        found: dict[str, Place] = {}
        seen: set[Path] = set()
        for root in (self.folder, *self._others):
            kind = kind_of(root)
            inner = [(root, kind, (root.resolve().name,))] if kind else _below(root)
            for path, each, parts in inner:
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
                name = _free_name(_NOT_IN_NAMES.sub("_", "~".join(parts)), found)
                found[name] = Place(name, path, each)
        for name, path in self._expected.items():
            found.setdefault(name, Place(name, path, "run"))
        return found

    def expect(self, name: str) -> RecordedRun:
        """Return a run of this folder that is about to be, and list it from now on."""
        path = self.folder / name
        self._expected[name] = path
        return self.recorded(path)

    def forget_if_there(self, name: str) -> None:
        """List a run that was expected only as long as its directory is there, if it is."""
        if self.recorded(self._expected[name]).config is not None:
            del self._expected[name]

    def place(self, name: str) -> Place:
        """Return what is called by a name.

        Raises:
            NotFoundError: Nothing is.
        """
        place = self.places().get(name)
        if place is None:
            raise NotFoundError(f"there is no run {name!r:.80}")
        return place

    def run(self, name: str) -> RecordedRun:
        """Return the run that is called by a name.

        Raises:
            NotFoundError: There is none; a study is none.
        """
        place = self.place(name)
        if place.kind != "run":
            raise NotFoundError(f"{name} is a study; look at it under Compare")
        return self.recorded(place.path)

    def recorded(self, path: Path) -> RecordedRun:
        """Return the run of a directory: the same object each time, unless many others were asked for since."""
        with self._lock:
            run = self._runs.pop(path, None) or RecordedRun(path)
            self._runs[path] = run  # the last one asked for stands last
            if len(self._runs) > _MOST_OPEN:
                old = next((each for each, other in self._runs.items() if other.expected is None), path)
                del self._runs[old]
            return run

    def summaries(self) -> list[dict[str, Any]]:
        """Return what the list shows of each, newest first."""
        found = []
        for place in self.places().values():
            try:
                summary = study_summary(place.path) if place.kind == "study" else self._summary(place.path)
            except (EntrocraftError, OSError) as error:  # of one, which is no reason to show none
                summary = _broken(str(error))
            found.append({"name": place.name, "kind": place.kind} | summary)
        return sorted(found, key=lambda each: -each["changed"])

    def recipe_of(self, run: RecordedRun) -> str | None:
        """Return the name of the first recipe that a run may have been made by."""
        return next((name for name, recipe in self._recipes.items() if recipe.made(run.config)), None)

    def _summary(self, path: Path) -> dict[str, Any]:
        """Return what the list shows of a run; one that has ended is read again only if its files have changed."""
        run = self._runs.get(path) or RecordedRun(path)
        signature, known = run.signature, self._summaries.get(path)
        if known is not None and known[0] == signature and known[1]["state"] not in _AT_WORK:
            return known[1]
        summary = self._summary_of(run)
        if summary["state"] in _AT_WORK:
            self.recorded(path)  # which will be read on
        self._summaries[path] = signature, summary
        return summary

    def _summary_of(self, run: RecordedRun) -> dict[str, Any]:
        run.update()
        standing = run.standing()
        return {
            "state": standing.state,
            "why": standing.why,
            "step": run.book.last_step,
            "steps": run.total_steps,
            "curve": run.control is not None,
            "recipe": self.recipe_of(run),
            "method": run.method,
            "engine": run.engine,
            "problem": run.problem,
            "changed": run.changed,
        }


def kind_of(path: Path) -> Literal["run", "study"] | None:
    """Return what a folder holds: a run, a study, or neither."""
    if (path / "rows.jsonl").is_file() or _has_planned_runs(path):
        return "study"
    return "run" if (path / "metrics.jsonl").is_file() or _has_config_of_run(path) else None


def _has_planned_runs(path: Path) -> bool:
    """Return whether a study has begun here: its first row may be hours away."""
    return (path / "runs").is_dir() and next((path / "runs").glob("*.yaml"), None) is not None


def _has_config_of_run(path: Path) -> bool:
    """Return whether there is a run without a step; a saved model has a config.json, too, and no lock."""
    return (path / "config.json").is_file() and (path / ".lock").exists()


def _below(root: Path) -> Iterator[tuple[Path, Literal["run", "study"], tuple[str, ...]]]:
    """Yield the runs and studies below a folder, with the names of the folders that lead to each."""

    def visit(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, Literal["run", "study"], tuple[str, ...]]]:
        try:
            children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        except OSError:
            return
        for child in children:
            if not child.resolve().is_relative_to(top):
                continue
            kind = kind_of(child)
            if kind is not None:
                yield child, kind, (*parts, child.name)
            elif len(parts) + 1 < _LEVELS:
                yield from visit(child, (*parts, child.name))

    top = root.resolve()
    if root.is_dir():
        yield from visit(root, ())


def _free_name(name: str, taken: dict[str, Place]) -> str:
    """Return a name that no other has: with a number behind it, if need be."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}~{number}"
    return free


def _broken(why: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("steps", "recipe", "method", "engine"))
    return {"state": "broken", "why": why, "problem": why, "step": 0, "curve": False, "changed": 0.0} | unknown
