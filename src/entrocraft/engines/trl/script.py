"""The run directory of a TRL script: what `entrocraft plot`, `explain`, `steer` and the page read of it.

It is as that of the command line, as far as a trainer knows what stands there. Checkpoints stay where TRL puts them.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from entrocraft.control import EntropyControl
from entrocraft.control.controller import Controller
from entrocraft.engines.ranks import Ranks
from entrocraft.engines.trl.lines import LineWriter
from entrocraft.engines.trl.settings import loss_type_of, optimizer_name
from entrocraft.errors import EntrocraftError, RunDirectoryError, first_line, os_error_line
from entrocraft.runs import RunDirectory
from entrocraft.runs.directory import SCRIPT, change_of
from entrocraft.runs.files import take_lock, unfinished_in
from entrocraft.runs.state import COMPLETED, StateFile

_ELSEWHERE = "give `run` another folder"


class ScriptRun:
    """Keeps a run directory for a trainer; the main rank writes.

    Args:
        control: The settings, settled, with `run`.
        controller: The controller that decides.
        is_given: Whether it is one that the script has made, instead of that of the settings.
        ranks: Those of the trainer.
    """

    def __init__(self, control: EntropyControl, controller: Controller, *, is_given: bool, ranks: Ranks):
        self.directory = RunDirectory(Path(str(control.run)))
        self.control = replace(
            control,
            steering=control.steering or str(self.directory.steering_file),
            rollouts=control.rollouts or str(self.directory.rollouts_file),
        )
        """The settings, with the files of the run directory in them."""
        self._ranks = ranks
        self._section = replace(control, run=None).to_dict()
        if is_given:
            self._section = EntropyControl.of(controller.band).to_dict() | {"method": controller.name}

    @contextmanager
    def kept(self, trainer: Any, *, resumes: bool) -> Iterator[None]:
        """Keep the directory while the trainer trains; every rank calls it.

        Args:
            trainer: The trainer.
            resumes: Whether it goes on from a checkpoint.

        Raises:
            RunDirectoryError: The directory holds another run, or something else, or cannot be written to.
        """
        lock, problem = self._taken(trainer.args, resumes=resumes) if self._ranks.is_main else (None, None)
        problem = self._ranks.from_main(problem)
        if problem is not None:
            raise RunDirectoryError(problem)
        if lock is None:
            yield
            return
        state = StateFile(self.directory.state_file)
        writer = _ScriptWriter(self.directory, state, self._config(trainer.args))
        trainer.add_callback(writer)
        try:
            yield
            step, total = trainer.state.global_step, trainer.state.max_steps
            state.end(0, COMPLETED if step >= total else f"stopped by the script after step {step}")
        except BaseException as error:
            is_stop = isinstance(error, KeyboardInterrupt)
            if writer.has_begun:
                with suppress(OSError):  # of a full disk, say
                    state.end(130 if is_stop else 1, "stopped by SIGINT" if is_stop else f"error: {first_line(error)}")
            raise
        finally:
            trainer.remove_callback(writer)
            lock.release()

    def _taken(self, trainer_args: Any, *, resumes: bool) -> tuple[FileLock | None, str | None]:
        """Return the directory's lock, or what is wrong."""
        run = self.directory
        try:
            check_run_directory(run.path, trainer_args)
            if run.exists:
                self._refuse_other(trainer_args, resumes=resumes)
            run.path.mkdir(parents=True, exist_ok=True)
            lock = take_lock(run.path)
        except EntrocraftError as error:
            return None, str(error)
        except OSError as error:
            return None, f"cannot write to {run.path}: {os_error_line(error)}; {_ELSEWHERE}"
        for left in unfinished_in(run.path):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)
        return lock, None

    def _refuse_other(self, trainer_args: Any, *, resumes: bool) -> None:
        """Refuse a run of a script that this training does not go on with; one without a step may begin anew."""
        run = self.directory
        if not resumes and run.last_step():
            raise RunDirectoryError(
                f"{run.path} already holds a run, to step {run.last_step()}: go on with it by "
                f"trainer.train(resume_from_checkpoint=True), or {_ELSEWHERE}"
            )
        before, now = (
            {"seed": each.get("seed"), "control": each.get("control"), "algorithm": each["train"].get("algorithm")}
            for each in (run.config(), json.loads(_text(self._config(trainer_args))))
        )
        changed = change_of(before, now)
        if changed is not None and run.last_step():
            raise RunDirectoryError(
                f"{run.path} was begun with {changed}: a resumed run must be the same run. Use the same settings (a "
                f"new curve is for `entrocraft steer`), or {_ELSEWHERE}"
            )

    def _config(self, trainer_args: Any) -> dict[str, Any]:
        """Return what the run is, in the words of the command line's configurations; steps are known later."""
        return {
            SCRIPT: Path(sys.argv[0]).name or "python",
            "seed": trainer_args.seed,
            "control": self._section,
            "train": {
                "algorithm": "rloo" if loss_type_of(trainer_args) == "rloo" else "grpo",
                "learning_rate": trainer_args.learning_rate,
                "temperature": trainer_args.temperature,
                "trl": {"optim": optimizer_name(trainer_args), "adam_beta1": trainer_args.adam_beta1},
            },
        }


def check_run_directory(path: Path, trainer_args: Any) -> None:
    """Refuse a folder that can be no run's of a script, whether it begins or goes on; nothing is written.

    Args:
        path: The folder; it need not exist.
        trainer_args: A GRPOConfig or RLOOConfig.

    Raises:
        RunDirectoryError: It holds a run of another kind or something else, or nothing would be written there.
    """
    run, output = RunDirectory(path), Path(trainer_args.output_dir).resolve()
    if path.resolve() == output:
        raise RunDirectoryError(
            f"run {path} is TRL's output_dir, too, where trainer.save_model writes the model's config.json over the "
            f"run's: give `run` a folder of its own, such as {path / 'run'}"
        )
    if getattr(trainer_args.logging_strategy, "value", trainer_args.logging_strategy) == "no":
        raise RunDirectoryError("run: with logging_strategy='no' there is no step to write down; set logging_steps=1")
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"run {path} is a file, expected a folder; {_ELSEWHERE}")
    if run.exists:
        if SCRIPT not in run.config():
            raise RunDirectoryError(f"{path} holds a run of the command line; {_ELSEWHERE}")
    elif path.is_dir():
        ours = {path / ".lock", *unfinished_in(path)}
        if any(not output.is_relative_to(each.resolve()) for each in {*path.iterdir()} - ours):
            raise RunDirectoryError(f"{path} is not empty, and holds no run of a script; {_ELSEWHERE}")


class _ScriptWriter(LineWriter):
    """Writes down what the run is once its steps are counted, and forgets what is made again; then lines of metrics."""

    def __init__(self, run: RunDirectory, state: StateFile, config: dict[str, Any]):
        super().__init__(run, state)
        self._config = config
        self.has_begun = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        train = self._config["train"] | {"steps": state.max_steps}
        self._run.write(self._run.config_file, _text(self._config | {"train": train}))
        self._run.rewind_record_to(state.global_step)
        self._state.begin()
        self.has_begun = True


def _text(config: dict[str, Any]) -> str:
    """Return a configuration as it is kept; what is no plain data, as of a schedule of one's own, as its text."""
    return json.dumps(config, indent=2, default=str) + "\n"
