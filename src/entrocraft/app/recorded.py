"""One run as it lies in its directory: settings, state, and what it has recorded so far."""

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrocraft.app.book import Book
from entrocraft.app.curves import band_in
from entrocraft.app.methods import follows
from entrocraft.app.recipes import control_section, estimator_in, method_in
from entrocraft.app.rollouts import RolloutIndex
from entrocraft.control.steering import parse_steering
from entrocraft.control.version_0_1 import settings_from_0_1
from entrocraft.errors import EntrocraftError
from entrocraft.runs.checkpoints import checkpoints_in
from entrocraft.runs.directory import SCRIPT, RunDirectory
from entrocraft.runs.files import read_regular
from entrocraft.runs.state import COMPLETED, read_state
from entrocraft.schedules import Band

State = Literal["queued", "running", "done", "stopped", "failed", "broken"]

Signature = tuple[Any, ...]

_QUIET = 120.0
"""Seconds without a line after which a run of verl, which leaves no state, counts as ended."""
_MOST_STEERING = 65_536


@dataclass(frozen=True)
class Standing:
    """Whether a run goes on, and why not."""

    state: State
    why: str | None = None
    since: float = 0.0
    """From when this is so, in seconds since 1970: what a process wrote that began earlier counts no more."""


class RecordedRun:
    """A run and its book, kept in step with its files by whoever asks first; all methods may be called by any thread.

    Args:
        path: The run's directory.
    """

    def __init__(self, path: Path):
        self.directory = RunDirectory(path)
        self.book = Book(self.directory.metrics_file)
        self.rollouts = RolloutIndex(_rollouts_file(path))
        self.lock = threading.RLock()
        """Held while book and index are read or brought up to date."""
        self.expected: Standing | None = None
        """How the run stands by who starts it, until the process that was started says so itself."""
        self._config: dict[str, Any] | None = None
        self._read_config: tuple[int, int] | None = None

    def update(self) -> None:
        """Take in what was added to the run's files."""
        with self.lock:
            file = _rollouts_file(self.directory.path)
            if file != self.rollouts.path:  # which only now was made
                self.rollouts = RolloutIndex(file)
            self.rollouts.update()
            self.book.update()

    # ---- settings -----------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any] | None:
        """The configuration; None if there is none, as in verl's runs, or it cannot be read."""
        try:
            about = self.directory.config_file.stat()
            signature = about.st_mtime_ns, about.st_ino
        except OSError:
            return None
        if signature != self._read_config:
            try:
                self._config = self.directory.config()
            except (EntrocraftError, OSError):
                self._config = None
            self._read_config = signature
        return self._config

    @property
    def script(self) -> str | None:
        """Name of the script that trains; None if it is the command line, or verl."""
        name = (self.config or {}).get(SCRIPT)
        return None if name is None else str(name)

    @property
    def _train(self) -> Mapping[str, Any]:
        return (self.config or {}).get("train") or {}

    @property
    def _algorithm(self) -> str:
        return str(self._train.get("algorithm", "grpo"))

    @property
    def control(self) -> dict[str, Any] | None:
        """Settings of entropy control; None if nothing controls it, or nobody knows."""
        section = None if self.config is None else control_section(self.config.get("control"))
        return None if section is None else settings_from_0_1(section)

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of the whole run, if they are known."""
        steps = self._train.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def method(self) -> str | None:
        """Name of the method; None without control, or if nobody knows."""
        if self.control is None:
            return None
        return method_in(self.control, self._algorithm)

    @property
    def method_options(self) -> dict[str, Any]:
        """Options of the method, as far as they were given."""
        method = (self.control or {}).get("method")
        return {key: value for key, value in method.items() if key != "name"} if isinstance(method, Mapping) else {}

    @property
    def estimator(self) -> str:
        """Name of the advantage estimator: the one that was asked for, or the trainer's own."""
        return estimator_in(self.control, self._algorithm)

    @property
    def engine(self) -> str:
        """Name of the engine that trains."""
        return "verl" if self.book.is_of_verl else "trl"

    # ---- state --------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Return whether the run goes on."""
        state = read_state(self.directory.state_file)
        if self.expected is not None and (state is None or state.started < self.expected.since):
            return self.expected
        if self.config is None and not self.book.is_of_verl:
            try:
                self.directory.config()
            except EntrocraftError as error:
                return Standing("broken", str(error).partition(": ")[2])
            except OSError as error:
                return Standing("broken", f"config.json cannot be read: {error.strerror}")
        if state is None:
            return self._standing_without_state()
        if state.status == "running":
            return Standing("running")
        if state.status == "died":
            return Standing("stopped", "its process ended without a word; it can go on from its last checkpoint")
        if state.why == COMPLETED:
            return Standing("done")
        return Standing("stopped" if (state.why or "").startswith("stopped by") else "failed", state.why)

    def _standing_without_state(self) -> Standing:
        if self.total_steps is not None and self.book.last_step >= self.total_steps:
            return Standing("done")
        if self.book.is_of_verl:
            is_quiet = time.time() - self.changed > _QUIET
            return Standing("done", "no line for two minutes") if is_quiet else Standing("running")
        return Standing("stopped", "it has no state.json, which tells whether it runs")

    @property
    def signature(self) -> Signature:
        """What changes whenever the run does: time, size and number of its files, and what is expected of it."""
        return (self.expected, *((each.st_mtime_ns, each.st_size, each.st_ino) for each in self._about_files()))

    def _about_files(self) -> Iterator[os.stat_result]:
        for file in (self.directory.metrics_file, self.directory.state_file, self.directory.config_file):
            with suppress(OSError):
                yield file.stat()

    @property
    def changed(self) -> float:
        """When the run was last written to, in seconds since 1970."""
        return max((each.st_mtime for each in self._about_files()), default=0.0)

    @property
    def problem(self) -> str | None:
        """What of the metrics cannot be read, in words."""
        found = self.book.problems
        if not found:
            return None
        return found[0] if len(found) == 1 else f"{found[0]}, and {len(found) - 1} more"

    @property
    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that were written to their end."""
        return [each.step for each in checkpoints_in(self.directory.checkpoints) if each.is_finished]

    @property
    def stops_at(self) -> int | None:
        """The step that a stop would come after; None if it does not run or that is not known."""
        if self.total_steps is None or self.script is not None or self.standing().state != "running":
            return None
        every = steps_between_checkpoints(self._train)
        return min(self.total_steps, (self.book.last_step // every + 1) * every)

    # ---- curve --------------------------------------------------------------------------------------

    @property
    def nats_per_unit(self) -> float | None:
        """The entropy that multiples are of: what was measured first under control; None before that."""
        first = self.book.first_measured("entropy", "target")
        return None if first is None else first["entropy"]

    def own_band(self) -> Band | None:
        """Return the band of the configuration; None without control or if it cannot be read."""
        if self.control is None:
            return None
        try:
            return band_in(self.control)
        except EntrocraftError:
            return None

    def band(self) -> Band | None:
        """Return the band that the run is to follow: the one that a person wrote mid-run, else its own."""
        own = self.own_band()
        if own is None or (self.control or {}).get("steering") is not None:
            return own
        try:
            text = read_regular(self.directory.steering_file, _MOST_STEERING).decode("utf-8")
            return parse_steering(text, own.width or 0.04, own.unit, self.nats_per_unit)
        except (EntrocraftError, OSError, UnicodeDecodeError):
            return own  # there is none, or the run refuses it, too, and stays on its own

    def why_not_steerable(self) -> str | None:
        """Return why the curve cannot be bent; None if it can."""
        if self.engine == "verl":
            return "runs of verl are steered by the file that their setting `steering` names"
        if self.config is None:
            return "its configuration cannot be read"
        if self.control is None:
            return "it runs without entropy control: there is nothing to steer"
        if self.control.get("steering") is not None:
            return f"it follows {self.control['steering']}, as its configuration says: write the curve there"
        if not follows(self.method or "token", self.method_options):
            return f"its method, {self.method}, follows no curve"
        if self.standing().state == "done":
            return "it is done"
        return None


def _rollouts_file(path: Path) -> Path:
    """Return where a run records its rollouts: verl's lie in its folder of checkpoints."""
    ours, of_verl = path / "rollouts.jsonl", path / "checkpoints" / "rollouts.jsonl"
    return of_verl if of_verl.exists() and not ours.exists() else ours


def steps_between_checkpoints(train: Mapping[str, Any]) -> int:
    """Return the optimizer steps after which a batch of rollouts is used up, as `training.plan` has it."""
    rollouts = train.get("prompts_per_step", 64) * train.get("rollouts_per_prompt", 8)
    micro_batch = train.get("micro_batch_size") or rollouts
    accumulation = max(1, rollouts // micro_batch)
    trl = train.get("trl") or {}
    generated = trl.get("generation_batch_size")
    passes = trl.get("steps_per_generation") or (generated // micro_batch if generated else accumulation)
    return math.lcm(passes * trl.get("num_iterations", 1), accumulation) // accumulation
