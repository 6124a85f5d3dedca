"""The run directory: what a run leaves behind, and what it resumes from.

config.json      the resolved configuration
metrics.jsonl    one line per optimizer step, and one per evaluation
state.json       whether a process works on it, and how the last one ended
problems.json    hashes of the problems, which a resumed run must find again
controller.json  the controller's state
rollouts.jsonl   what each rollout of recorded steps did, and some of their texts, by token
steering.yaml    a curve that a person wrote mid-run, which the run follows instead
checkpoints/     what training resumes from
curve.png        target, band and entropy over reward
report.md        how it went, in words
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from entrocraft.errors import EntrocraftError, InvalidValueError, RunDirectoryError, os_error_line
from entrocraft.runs.checkpoints import Checkpoint, checkpoints_in
from entrocraft.runs.files import making, read_regular, take_lock, unfinished_in, write_text
from entrocraft.runs.lines import JsonLines, append_line
from entrocraft.runs.metrics import EVALUATION, REQUIRED
from entrocraft.runs.rollouts import rewind_rollouts

_MOST_BYTES = 50_000_000

SCRIPT = "script"
"""Key of a configuration that only a script's run has, in place of a model and a task: what the script is called."""

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
        self.state_file = path / "state.json"
        self.problems_file = path / "problems.json"
        self.controller_file = path / "controller.json"
        self.rollouts_file = path / "rollouts.jsonl"
        self.steering_file = path / "steering.yaml"
        self.curve_file = path / "curve.png"
        self.report_file = path / "report.md"
        self.checkpoints = path / "checkpoints"
        self._metrics = JsonLines(self.metrics_file)

    @property
    def exists(self) -> bool:
        """True if a run was begun here; a saved model has a config.json, too, of another kind."""
        return isinstance(self._read_config(), dict)

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            RunDirectoryError: There is no run here, or its configuration is damaged.
        """
        config = self._read_config()
        if isinstance(config, str):
            raise RunDirectoryError(f"{self.path} is not a run directory: {config}")
        return config

    def _read_config(self) -> dict[str, Any] | str:
        """Return the configuration, or why there is none."""
        try:
            if not self.config_file.is_file():
                return "it has no config.json of a run"
            config = json.loads(read_regular(self.config_file, _MOST_BYTES))
        except (ValueError, RecursionError) as error:
            return f"its config.json cannot be read ({error!s:.80})"
        if not isinstance(config, dict) or not isinstance(config.get("train"), dict):
            return "its config.json is not that of a run"
        return config

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

        A new run that fails before the end of its first step leaves everything as it was.
        """
        self.refuse_unless_usable(config, resume=resume, read=read)
        is_new = not self.exists
        lock_file = self.path / ".lock"
        had_lock = lock_file.exists()
        with making(self.path):
            try:
                lock = take_lock(self.path)
            except OSError as error:
                raise RunDirectoryError(
                    f"cannot write to {self.path}: {os_error_line(error)}; choose another --output"
                ) from error
            try:
                for left in unfinished_in(self.path):  # by a process that was killed while it wrote
                    left.unlink(missing_ok=True)
                self.write(self.config_file, json.dumps(config, indent=2) + "\n")
                yield
            except Exception:
                if is_new and not self.step_metrics():
                    self._remove_own_files()
                    if not had_lock:
                        lock_file.unlink(missing_ok=True)
                raise
            finally:
                lock.release()

    def _remove_own_files(self) -> None:
        """Remove what a run writes, and nothing else that may lie here."""
        own = (self.config_file, self.metrics_file, self.state_file, self.problems_file, self.controller_file)
        for file in (*own, self.rollouts_file, self.curve_file, self.report_file):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def refuse_unless_usable(self, config: Mapping[str, Any], *, resume: bool, read: ReadConfig = dict) -> None:
        """Raise `RunDirectoryError` if `opened` would; it does not look for other processes."""
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file; choose another --output")
        if self.exists:
            if not resume:
                raise RunDirectoryError(
                    f"{self.path} already holds a run; go on with it by --resume, or choose another --output"
                )
            there = self.config()
            try:
                begun_with = read(there)
            except EntrocraftError as error:
                raise RunDirectoryError(f"{self.config_file}: {error}") from error
            self._refuse_other_config(config, begun_with)
        elif self.config_file.is_file() and self.metrics_file.exists():
            self.config()  # says what is wrong with it
        elif self.metrics_file.exists() and not self.config_file.exists():
            raise RunDirectoryError(
                f"{self.config_file} is missing, though {self.metrics_file.name} is there: put it back to go on with "
                "this run, or choose another --output"
            )
        elif self.path.is_dir() and {*self.path.iterdir()} - {self.path / ".lock", *unfinished_in(self.path)}:
            raise RunDirectoryError(f"{self.path} is not empty and holds no run; choose another --output")

    def _refuse_other_config(self, config: Mapping[str, Any], begun_with: Mapping[str, Any]) -> None:
        changed = change_of(begun_with, config)
        if changed is not None:
            raise RunDirectoryError(
                f"{self.path} was begun with {changed}: a resumed run must be the same run. Use the same "
                "configuration, or another --output"
            )

    def write(self, file: Path, text: str) -> None:
        """Replace `file` by `text`, never leaving half of it."""
        write_text(file, text)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics; it survives the death of this process."""
        append_line(self.metrics_file, line)

    def metrics(self) -> list[dict[str, Any]]:
        """Return every whole line of the metrics, steps and evaluations; only what is new is read.

        Raises:
            RunDirectoryError: A line before the last cannot be read.
        """
        return self._metrics.read()

    def step_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of optimizer steps; required columns that a line lacks are None."""
        nothing = dict.fromkeys(REQUIRED)
        return [nothing | line for line in self.metrics() if "entropy" in line]

    def eval_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of evaluations."""
        return [line for line in self.metrics() if any(name.startswith(EVALUATION) for name in line)]

    def last_step(self) -> int:
        """Return the last optimizer step that the metrics tell of; 0 if there is none."""
        return max((line["step"] for line in self.metrics() if "entropy" in line), default=0)

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return step and folder of the newest checkpoint that was written to its end."""
        finished = self._finished_checkpoints()
        return (finished[-1].step, finished[-1].folder) if finished else None

    def _finished_checkpoints(self) -> list[Checkpoint]:
        return [each for each in checkpoints_in(self.checkpoints) if each.is_finished]

    def checkpoint_to_resume(
        self, *, controlled: bool, step: int | None = None, unsound: Callable[[Path], list[str]] = lambda folder: []
    ) -> Checkpoint | None:
        """Return the checkpoint to go on from; None to begin at the first step. Nothing is changed.

        One that a killed process did not write to its end is passed over; one that lost something later is not.

        Args:
            controlled: Whether the run has entropy control.
            step: Step of the checkpoint that is asked for, 0 for none; by default the newest.
            unsound: Says what else is wrong with a checkpoint's folder that can be read, such as weights that are NaN.

        Raises:
            RunDirectoryError: There is no such checkpoint, it is not whole, or the metrics lack steps before it.
        """
        finished = self._finished_checkpoints()
        there = ", ".join(str(each.step) for each in finished) or "none"
        if step == 0 or (step is None and not finished):
            return None
        chosen = finished[-1] if step is None else next((each for each in finished if each.step == step), None)
        if chosen is None:
            raise RunDirectoryError(
                f"{self.checkpoints} holds no checkpoint of step {step}; there are: {there}; 0 begins again"
            )

        def damage_of(each: Checkpoint) -> list[str]:
            return each.damage(controlled=controlled) or unsound(each.folder)

        damage = damage_of(chosen)
        if damage:
            whole = [each.step for each in finished if each.step < chosen.step and not damage_of(each)]
            rest = f"the newest whole checkpoint is of step {whole[-1]}" if whole else "no earlier checkpoint is whole"
            go_on = f"--resume-from {whole[-1]} goes on from there" if whole else "--resume-from 0 begins again"
            raise RunDirectoryError(
                f"cannot resume exactly from {chosen.folder}: {', '.join(damage)}; {rest}. Put back what is missing, "
                f"or {go_on} and forgets what came after"
            )
        if step is None and self.last_step() < chosen.step:
            raise RunDirectoryError(
                f"{self.metrics_file} ends at step {self.last_step()}, before the checkpoint of step {chosen.step}: "
                f"put the lines back, or go on without them by --resume-from {chosen.step}"
            )
        return chosen

    def rewind_record_to(self, step: int) -> None:
        """Forget metrics and rollouts of steps after `step`, and leave checkpoints alone; errors as of `rewind_to`."""
        kept = self._metrics.keep_up_to(step)
        if kept is not None:
            self.write(self.metrics_file, kept.decode("utf-8"))
        rewind_rollouts(self.rollouts_file, step)

    def rewind_to(self, step: int) -> None:
        """Forget metrics, rollouts and checkpoints of steps after `step`, which will be made again.

        Raises:
            RunDirectoryError: A line of the metrics cannot be read; nothing is changed then.
        """
        self.rewind_record_to(step)
        for each in checkpoints_in(self.checkpoints):
            if each.step > step:
                shutil.rmtree(each.folder)


def model_path_of(model_or_run: str) -> str:
    """Return the folder to load a model from: a run's newest checkpoint, or the argument itself.

    Raises:
        InvalidValueError: It is a run without a checkpoint, or the newest has lost its weights.

    A run whose metrics go further than its newest checkpoint is warned of: its scores are not those of the weights.
    """
    run = RunDirectory(Path(model_or_run))
    if not run.exists:
        return model_or_run
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise InvalidValueError(f"{model_or_run} has no checkpoint yet; train further, or name a model")
    step, folder = checkpoint
    damage = Checkpoint(step, folder).damage_of_weights()
    if damage:
        raise InvalidValueError(f"cannot take the weights of {folder}: {', '.join(damage)}; put back what is missing")
    last = run.last_step()
    if last > step:
        warnings.warn(
            f"{model_or_run}: the newest checkpoint is of step {step}, and the metrics go to step {last}; this is the "
            f"model of step {step}",
            stacklevel=2,
        )
    return str(folder)


def change_of(begun_with: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return in words the first setting in which two configurations differ; None if they do not.

    Example:
        >>> change_of({"train": {"steps": 5}}, {"train": {"steps": 6}})
        'train.steps=5, now 6'
    """
    before, after = (_flatten(json.loads(json.dumps(each))) for each in (begun_with, now))
    key = next((key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)), None)
    return None if key is None else f"{key}={before.get(key)!r}, now {after.get(key)!r}"


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with keys such as `train.steps`."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
