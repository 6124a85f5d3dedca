"""One training run, from a configuration to a run directory."""

import signal
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import transformers
from datasets import Dataset

from entrocraft.config import LoraSettings, RunConfig, resolved
from entrocraft.engines.trl import with_entropy_control, with_rollout_recording
from entrocraft.engines.trl.ranks import AcceleratorRanks
from entrocraft.errors import EntrocraftError, InvalidValueError, RunDirectoryError, first_line
from entrocraft.models import best_device, load_model
from entrocraft.models.weights import not_finite_in
from entrocraft.reports.run import write_report
from entrocraft.runs import RunDirectory
from entrocraft.runs.checkpoints import Checkpoint
from entrocraft.runs.state import COMPLETED, StateFile
from entrocraft.training.callbacks import Evaluator, MetricsWriter, settle_checkpoint
from entrocraft.training.failures import explained
from entrocraft.training.plan import TRAINERS, Plan, load_tokenizer_of, plan_run, wants_fsdp
from entrocraft.training.problems import check_problems, write_problems
from entrocraft.training.processes import OtherProcessError, Processes
from entrocraft.training.progress import Progress
from entrocraft.training.stopping import StoppedAtOnceError, Stopper, StopSignals


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    steps: int
    """Optimizer steps made, those before a resumption included."""
    stopped_by: int | None = None
    """The signal that stopped it before its end, if one did."""
    amid_step: bool = False
    """Whether a second signal stopped it amid a step, so that the steps since the last checkpoint are made again."""
    total_steps: int | None = None
    """Optimizer steps that the run was to make."""

    @property
    def when(self) -> str:
        """When it was stopped, in words.

        Example:
            >>> Outcome(steps=3, stopped_by=2, amid_step=True, total_steps=6).when
            'amid step 4'
        """
        if self.steps == self.total_steps:
            return f"after the last step, {self.steps}, and before its report"
        return f"amid step {self.steps + 1}" if self.amid_step else f"after step {self.steps}"


def train(
    config: RunConfig,
    run: RunDirectory,
    *,
    resume: bool = False,
    resume_from: int | None = None,
    processes: Processes | None = None,
) -> Outcome:
    """Train as `config` says and leave the results in `run`.

    Ctrl-C, SIGTERM and SIGHUP end the run after the step in progress, with a checkpoint; a second signal ends
    it at once. Resuming a run that was killed repeats the steps since its last checkpoint exactly.

    Args:
        config: What to train, on what and how.
        run: The directory that results go to.
        resume: Go on with the run that is there, if there is one.
        resume_from: Go on from the checkpoint of this step, 0 for the beginning, and forget what came after it.
        processes: Those that train together, which all call; by default this one, which must be the only one.

    Returns:
        How it ended.

    Raises:
        EntrocraftError: Something about the request is wrong; see `plan_run`, `RunDirectory.opened` and
            `RunDirectory.checkpoint_to_resume`. A run that has not made its first step leaves nothing behind then.
        OtherProcessError: What is wrong is wrong in another process.
    """
    resume = resume or resume_from is not None
    plan = plan_run(config, run, processes=processes)
    processes = processes or Processes()
    problems = {"train": plan.train_problems, "test": plan.test_problems}
    checkpoint = None
    if processes.is_main:  # which alone looks at the run directory, before it writes there
        run.refuse_unless_usable(config.to_dict(), resume=resume, read=resolved)
        checkpoint = _checkpoint(config, run, resume_from, processes.count)
        check_problems(run.problems_file, plan.task, problems)
    step = int(processes.from_main(str(checkpoint.step if checkpoint else 0)))
    checkpoint = Checkpoint(step, run.checkpoints / f"checkpoint-{step}") if step else None
    tokenizer = load_tokenizer_of(plan)
    model = load_model(config.model, best_device())
    processes.meet()
    state = StateFile(run.state_file) if processes.is_main else None
    opened = run.opened(config.to_dict(), resume=resume, read=resolved) if processes.is_main else nullcontext()
    with opened, StopSignals(speaks=processes.is_main) as stop:
        try:
            if state is not None:
                state.begin()
                if not run.problems_file.exists():
                    write_problems(run.problems_file, problems)
            outcome = _go_on(plan, run, checkpoint, model, tokenizer, state, stop, processes)
            _end(state, outcome)
            stop.settle()
        except StoppedAtOnceError as stopped:  # wherever the run was, its very end included
            outcome = Outcome(
                steps=run.last_step(), stopped_by=stopped.number, amid_step=True, total_steps=config.train.steps
            )
            processes.fail(128 + stopped.number, f"stopped by {stopped} {outcome.when}; go on with --resume")
            _end(state, outcome)
        except BaseException as error:
            stop.settle()
            if state is not None:
                with suppress(OSError):  # of a full disk, say
                    state.end(_status_of(error), f"error: {first_line(error)}")
            if isinstance(error, OSError) and not isinstance(error, EntrocraftError):
                raise explained(error, step=run.last_step() + 1, begun=True) or error from error
            raise
        return outcome


def _status_of(error: BaseException) -> int:
    """Return the exit status of a run that ends with this error."""
    if isinstance(error, OtherProcessError):
        return error.status
    return 2 if isinstance(error, EntrocraftError | OSError) else 1


def _end(state: StateFile | None, outcome: Outcome) -> None:
    """Say in the state file how the run has ended."""
    if state is None:
        return
    if outcome.stopped_by is None:
        state.end(0, COMPLETED)
    else:
        state.end(128 + outcome.stopped_by, f"stopped by {signal.Signals(outcome.stopped_by).name}")


def _checkpoint(config: RunConfig, run: RunDirectory, resume_from: int | None, num_processes: int) -> Checkpoint | None:
    """Return the checkpoint to go on from, which is whole; None for the beginning."""
    if resume_from is not None and not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run to go on with; leave out --resume-from")
    checkpoint = run.checkpoint_to_resume(
        controlled=config.control is not None, step=resume_from, unsound=not_finite_in
    )
    last = run.last_step()
    if checkpoint is None and resume_from is None and last > config.train.save_every:
        raise RunDirectoryError(
            f"{run.checkpoints} holds no checkpoint, though the metrics go to step {last}: put one back, or begin "
            "again by --resume-from 0, which forgets these steps"
        )
    # With nothing left to train nobody draws rollouts any more.
    if checkpoint is not None and checkpoint.step < config.train.steps:
        _refuse_other_ranks(checkpoint, num_processes)
    return checkpoint


def _refuse_other_ranks(checkpoint: Checkpoint, num_processes: int) -> None:
    """Refuse to go on with another number of processes, which would not be the same run."""
    folder, before = checkpoint.folder, checkpoint.num_ranks
    if before != num_processes:
        raise RunDirectoryError(
            f"{folder} was saved by {before} process{'es' * (before > 1)}, and {num_processes} would go on: each draws "
            "its rollouts from random numbers of its own, so it would be another run. Launch as many as before, or "
            f"begin a new run from these weights, with model={folder} and another --output"
        )
    missing = checkpoint.missing(ranks=num_processes)
    if missing:
        raise RunDirectoryError(
            f"cannot resume exactly from {folder}: {', '.join(f'{name} is missing' for name in missing)}. Put it back, "
            "or go on from an earlier checkpoint by --resume-from"
        )


def _go_on(
    plan: Plan,
    run: RunDirectory,
    checkpoint: Checkpoint | None,
    model: Any,
    tokenizer: Any,
    state: StateFile | None,
    stop: StopSignals,
    processes: Processes,
) -> Outcome:
    """Make the steps that are left, evaluate before the first and after the last, and write the report."""
    total = plan.config.train.steps
    step = start = checkpoint.step if checkpoint else 0
    if processes.is_main:
        run.rewind_to(step)
    try:
        if checkpoint and processes.is_main:
            settle_checkpoint(run, step, keep=plan.keep_checkpoints)
        processes.meet()
        if checkpoint and step == total:
            # Nothing is left to train. Otherwise TRL loads the checkpoint, after it has copied the reference.
            model = load_model(str(checkpoint.folder), best_device())
        with Progress(total, speaks=processes.is_main) as progress:
            evaluator = Evaluator(plan, run, model, tokenizer, progress, processes)
            if step == 0:
                evaluator.evaluate(0)
            stop.signal = max(int(heard) for heard in processes.shared(str(stop.signal or 0))) or stop.signal
            if step < total and stop.signal is None:
                trainer = _build_trainer(plan, model, tokenizer, run)
                if state is not None:
                    trainer.add_callback(MetricsWriter(run, progress, state, keep_checkpoints=plan.keep_checkpoints))
                ranks = AcceleratorRanks(trainer.accelerator)
                trainer.add_callback(Stopper(stop, plan.steps_between_checkpoints, ranks))
                trainer.add_callback(evaluator)
                evaluator.tell = partial(_tell_trackers, trainer)
                trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
                step = trainer.state.global_step
            if step == total:
                evaluator.evaluate(step)
        if processes.is_main:
            write_report(run)
        processes.meet()
    except (Exception, SystemExit) as error:
        processes.raise_if_failed()
        last = run.last_step()
        known = explained(error, step=min(last + 1, total), begun=last > start)
        if known is not None:
            raise known from error
        raise
    return Outcome(steps=step, stopped_by=stop.signal if step < total else None)


def _tell_trackers(trainer: Any, scores: dict[str, float]) -> None:
    """Tell trackers of scores in the middle of a step.

    `trainer.log` would take the step's own metrics along before the step is done, and the handler's `on_log` would
    take the step for logged.
    """
    trainer.callback_handler.call_event("on_log", trainer.args, trainer.state, trainer.control, logs=scores)


def _build_trainer(plan: Plan, model: Any, tokenizer: Any, run: RunDirectory) -> Any:
    """Return TRL's trainer for the plan, with entropy control if it asks for that."""
    config = plan.config
    trainer_class: Any = TRAINERS[config.train.algorithm][0]
    options: dict[str, Any] = {}
    if config.control is not None:
        trainer_class = with_entropy_control(trainer_class)
        steering = config.control.steering or str(run.steering_file)
        rollouts = config.control.rollouts or str(run.rollouts_file)
        options["entropy_control"] = replace(config.control, steering=steering, rollouts=rollouts)
    else:
        trainer_class = with_rollout_recording(trainer_class)
        options["rollouts"] = str(run.rollouts_file)
    try:
        trainer = trainer_class(
            model=model,
            reward_funcs=plan.task.reward,
            args=plan.trl_args,
            train_dataset=Dataset.from_list(plan.train_problems).select(plan.prompt_order()),
            processing_class=tokenizer,
            peft_config=_lora_config(config.train.lora),
            **options,
        )
    except EntrocraftError:
        raise
    except Exception as error:  # what a library raises on settings that it cannot use may be anything
        raise InvalidValueError(f"TRL refuses the training arguments: {first_line(error)}") from error
    if wants_fsdp() and not trainer.is_fsdp_enabled:  # as with use_cpu where there are GPUs
        raise InvalidValueError("FSDP was asked for, and accelerate shards nothing here; leave out --use_fsdp")
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _lora_config(settings: LoraSettings | None) -> Any:
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules
        if isinstance(settings.target_modules, str)
        else [*settings.target_modules],
        task_type="CAUSAL_LM",
    )
