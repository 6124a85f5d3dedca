"""One training run, from a configuration to a run directory."""

from dataclasses import dataclass, replace
from typing import Any

import transformers
from datasets import Dataset

from entrocraft.config import LoraSettings, RunConfig, resolved
from entrocraft.engines.trl import with_entropy_control
from entrocraft.errors import InvalidValueError
from entrocraft.models import best_device, context_length, load_model, load_tokenizer
from entrocraft.models.prompts import check_prompts
from entrocraft.reports.run import write_report
from entrocraft.runs import RunDirectory
from entrocraft.training.callbacks import Evaluator, MetricsWriter
from entrocraft.training.plan import TRAINERS, Plan, plan_run
from entrocraft.training.progress import Progress
from entrocraft.training.stopping import Stopper, StopSignals


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    steps: int
    """Optimizer steps made, those before a resumption included."""
    stopped_by: int | None = None
    """The signal that stopped it before its end, if one did."""


def train(config: RunConfig, run: RunDirectory, *, resume: bool = False) -> Outcome:
    """Train as `config` says and leave the results in `run`.

    Ctrl-C and SIGTERM end the run after the step in progress, with a checkpoint; a second signal ends
    it at once. Resuming a run that was killed repeats the steps since its last checkpoint exactly.

    Args:
        config: What to train, on what and how.
        run: The directory that results go to.
        resume: Go on with the run that is there, if there is one.

    Returns:
        How it ended.

    Raises:
        EntrocraftError: Something about the request is wrong; see `plan_run` and `RunDirectory.opened`.
    """
    plan = plan_run(config, run)
    run.refuse_unless_usable(config.to_dict(), resume=resume, read=resolved)
    tokenizer = load_tokenizer(config.model)
    problems = [*plan.train_problems, *plan.test_problems]
    check_prompts(plan.task, problems, tokenizer, context_length(config.model), plan.trl_args.max_completion_length)
    model = load_model(config.model).to(best_device())
    with run.opened(config.to_dict(), resume=resume, read=resolved), StopSignals() as stop:
        checkpoint = run.last_checkpoint()
        step = checkpoint[0] if checkpoint else 0
        run.rewind_to(step)
        if checkpoint and step == config.train.steps:
            # Nothing is left to train. Otherwise TRL loads the checkpoint, after it has copied the reference.
            model = load_model(str(checkpoint[1])).to(best_device())
        progress = Progress(config.train.steps, step)
        evaluator = Evaluator(plan, run, model, tokenizer, progress)
        if step == 0:
            evaluator.evaluate(0)
        if step < config.train.steps:
            trainer = _build_trainer(plan, model, tokenizer, run)
            trainer.add_callback(MetricsWriter(run, progress))
            trainer.add_callback(Stopper(stop, plan.steps_between_checkpoints))
            trainer.add_callback(evaluator)
            with progress:
                trainer.train(resume_from_checkpoint=str(checkpoint[1]) if checkpoint else None)
            step = trainer.state.global_step
        if step == config.train.steps:
            evaluator.evaluate(step)
        write_report(run)
        return Outcome(steps=step, stopped_by=stop.signal if step < config.train.steps else None)


def _build_trainer(plan: Plan, model: Any, tokenizer: Any, run: RunDirectory) -> Any:
    """Return TRL's trainer for the plan, with entropy control if it asks for that."""
    config = plan.config
    trainer_class: Any = TRAINERS[config.train.algorithm][0]
    options = {}
    if config.control is not None:
        trainer_class = with_entropy_control(trainer_class)
        steering = config.control.steering or str(run.steering_file)
        options["entropy_control"] = replace(config.control, steering=steering)
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
    except (ValueError, ImportError, NotImplementedError) as error:
        raise InvalidValueError(f"TRL refuses the training arguments: {error}") from error
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
