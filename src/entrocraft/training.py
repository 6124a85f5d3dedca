"""One training run, from a configuration to a run directory."""

import math
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import FrameType
from typing import Any

import torch
import transformers
from datasets import Dataset
from pyarrow import ArrowException
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from entrocraft.config import LoraSettings, RunConfig
from entrocraft.engines.checkpoints import STATE_FILE
from entrocraft.engines.trl import with_entropy_control
from entrocraft.engines.trl.dropping import LOSS_DENOMINATOR, check_trainer_args, loss_type_of, settled
from entrocraft.errors import InvalidValueError, MissingDependencyError, UnknownNameError, first_line
from entrocraft.evaluation import correctness, with_intervals
from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.samplers import TransformersSampler
from entrocraft.evaluation.samples import by_problem
from entrocraft.models import best_device, context_length, load_model, load_tokenizer, resolve_model
from entrocraft.progress import Progress
from entrocraft.prompts import check_prompts
from entrocraft.report import write_report
from entrocraft.runs import RunDirectory
from entrocraft.tasks import Problem, Split, Task
from entrocraft.tasks.base import CORRECT

_TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}

# What TRL is told unless `train.trl` says otherwise.
_DEFAULTS: dict[str, Any] = {
    # Constant rate and a short memory: the optimizer's lag is part of what the filter must steer.
    "lr_scheduler_type": "constant",
    "adam_beta2": 0.95,
    "beta": 0.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": torch.cuda.is_available(),
    "report_to": "none",
    "save_total_limit": 2,
}

# What TRL logs under its own names, and we keep beside our columns.
_KEPT_TRL_METRICS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "kl",
    "reward_std",
    "frac_reward_zero_std",
    "completions/mean_length",
    "completions/clipped_ratio",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    steps: int
    """Optimizer steps made, those before a resumption included."""
    stopped_by: int | None = None
    """The signal that stopped it before its end, if one did."""


@dataclass(frozen=True)
class Plan:
    """A configuration that has been checked as far as can be without loading the model."""

    config: RunConfig
    task: Task
    trl_args: GRPOConfig | RLOOConfig
    train_problems: list[Problem]
    test_problems: list[Problem]

    @property
    def _passes_per_generation(self) -> int:
        """Micro-batches made of one batch of rollouts, all iterations over it included."""
        return self.trl_args.steps_per_generation * self.trl_args.num_iterations

    @property
    def steps_between_checkpoints(self) -> int:
        """Optimizer steps after which a batch of rollouts is used up, so that nothing in flight is lost."""
        accumulation = self.trl_args.gradient_accumulation_steps
        return math.lcm(self._passes_per_generation, accumulation) // accumulation

    @property
    def prompts_per_generation(self) -> int:
        """Prompts in one batch of rollouts."""
        return self.trl_args.generation_batch_size // self.trl_args.num_generations

    def prompt_order(self) -> list[int]:
        """Return which training problem each prompt of the run is, epoch after shuffled epoch.

        The order is a function of the configuration alone. TRL's sampler would shuffle, too, but forgets
        on resumption how many epochs it has shuffled.
        """
        micro_batches = self.trl_args.max_steps * self.trl_args.gradient_accumulation_steps
        needed = math.ceil(micro_batches / self._passes_per_generation) * self.prompts_per_generation
        rng = random.Random(self.config.seed)
        order: list[int] = []
        while len(order) < needed:
            epoch = list(range(len(self.train_problems)))
            rng.shuffle(epoch)
            order += epoch
        return order[:needed]


def plan_run(config: RunConfig, run: RunDirectory) -> Plan:
    """Check everything that can be checked before the model loads; write nothing.

    Raises:
        InvalidValueError: The model is not there, TRL refuses the arguments, or the batch sizes do not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidValueError(
            "the command line trains in one process; on several, use with_entropy_control in a script of your own"
        )
    task = config.task.build()
    resolve_model(config.model)
    train = config.train
    if train.lora is not None and find_spec("peft") is None:
        raise MissingDependencyError("train.lora needs peft: pip install 'entrocraft[lora]'")
    micro_batch_size = train.micro_batch_size or train.rollouts_per_step
    if train.rollouts_per_step % micro_batch_size:
        raise InvalidValueError(
            f"train.micro_batch_size must divide the {train.rollouts_per_step} rollouts of a step "
            f"({train.prompts_per_step} prompts x {train.rollouts_per_prompt}), got {micro_batch_size}"
        )
    arguments = {
        "output_dir": str(run.checkpoints),
        "max_steps": train.steps,
        "per_device_train_batch_size": micro_batch_size,
        "gradient_accumulation_steps": train.rollouts_per_step // micro_batch_size,
        "num_generations": train.rollouts_per_prompt,
        "max_completion_length": train.max_completion_tokens or task.max_completion_tokens,
        "learning_rate": train.learning_rate,
        "temperature": train.temperature,
        "seed": config.seed,
        "save_steps": train.save_every,
        "shuffle_dataset": False,  # see Plan.prompt_order
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    clashes = sorted(set(train.trl) & set(arguments))
    if clashes:
        raise InvalidValueError(f"train.trl.{clashes[0]} is set elsewhere in the configuration; see `--dry-run`")
    try:
        trl_args = _TRAINERS[train.algorithm][1](**_DEFAULTS | arguments | train.trl)
    except (TypeError, ValueError, ImportError) as error:
        raise InvalidValueError(f"TRL refuses the training arguments: {error}") from error
    if loss_type_of(trl_args) not in LOSS_DENOMINATOR:
        raise UnknownNameError.of("train.trl.loss_type", trl_args.loss_type, set(LOSS_DENOMINATOR) - {"rloo"})
    if config.control is not None:
        check_trainer_args(settled(config.control, trl_args), trl_args)
    config.eval.sampling(task)  # refused now, if at all
    plan = Plan(
        config,
        task,
        trl_args,
        _problems(task, "train", config.task.num_problems, most=4000, seed=config.seed),
        _problems(task, "test", config.eval.num_problems, most=200),
    )
    task.scores([""], plan.train_problems[:1])  # a reward that cannot be called is refused now
    if train.save_every % plan.steps_between_checkpoints:
        raise InvalidValueError(
            f"train.save_every must be a multiple of {plan.steps_between_checkpoints}, the optimizer steps after which "
            f"a batch of rollouts is used up, got {train.save_every}"
        )
    if len(plan.train_problems) < plan.prompts_per_generation:
        raise InvalidValueError(
            f"task.num_problems must be at least {plan.prompts_per_generation}, the prompts of one batch of rollouts, "
            f"got {len(plan.train_problems)}"
        )
    return plan


def _problems(task: Task, split: Split, num_problems: int | None, *, most: int, seed: int = 0) -> list[Problem]:
    """Return as many problems as are asked for, or by default `most`, or all there are."""
    problems = task.problems_asked_for(split, num_problems, most, seed)
    try:
        # There and back: TRL gives rewards what this makes of nested columns, and evaluations shall give the same.
        return Dataset.from_list(problems).to_list()
    except (ArrowException, TypeError, OverflowError) as error:
        raise InvalidValueError(
            f"{task.name}: the columns of the {split} problems do not each hold values of one type: {first_line(error)}"
        ) from error


def train(config: RunConfig, run: RunDirectory, *, resume: bool = False) -> Outcome:
    """Train as `config` says and leave the results in `run`.

    Ctrl-C and SIGTERM end the run after the step in progress, with a checkpoint; a second signal ends
    it at once. Resuming a run that was killed repeats the steps since its last checkpoint exactly.

    Args:
        config: The configuration.
        run: Where results go.
        resume: Go on with the run that is there, if there is one.

    Returns:
        How it ended.

    Raises:
        EntrocraftError: Something about the request is wrong; see `plan_run` and `RunDirectory.opened`.
    """
    plan = plan_run(config, run)
    run.refuse_unless_usable(config.to_dict(), resume=resume)
    tokenizer = load_tokenizer(config.model)
    problems = [*plan.train_problems, *plan.test_problems]
    check_prompts(problems, tokenizer, context_length(config.model), plan.trl_args.max_completion_length)
    model = load_model(config.model).to(best_device())
    with run.opened(config.to_dict(), resume=resume), _StopSignals() as stop:
        checkpoint = run.last_checkpoint()
        step = checkpoint[0] if checkpoint else 0
        run.rewind_to(step)
        if checkpoint and step == config.train.steps:
            model = load_model(str(checkpoint[1])).to(
                best_device()
            )  # otherwise TRL does, after it has copied the reference
        progress = Progress(config.train.steps, step)
        evaluator = _Evaluator(plan, run, model, tokenizer, progress)
        if step == 0:
            evaluator.evaluate(0)
        if step < config.train.steps:
            trainer = _build_trainer(plan, model, tokenizer, run)
            trainer.add_callback(_MetricsWriter(run, progress))
            trainer.add_callback(_Stopper(stop, plan.steps_between_checkpoints))
            trainer.add_callback(evaluator)
            with progress:
                trainer.train(resume_from_checkpoint=str(checkpoint[1]) if checkpoint else None)
            step = trainer.state.global_step
        if step == config.train.steps:
            evaluator.evaluate(step)
        write_report(run)
        return Outcome(steps=step, stopped_by=stop.signal if step < config.train.steps else None)


def _build_trainer(plan: Plan, model: Any, tokenizer: Any, run: RunDirectory) -> Any:
    config = plan.config
    trainer_class: Any = _TRAINERS[config.train.algorithm][0]
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


class _MetricsWriter(TrainerCallback):
    """Writes one line of metrics per optimizer step, and shows it."""

    def __init__(self, run: RunDirectory, progress: Progress):
        self._run, self._progress = run, progress
        self._last = time.perf_counter()
        self._steered = 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return  # the summary at the end of training
        now = time.perf_counter()
        line = {
            "step": state.global_step,
            "entropy": logs.get("entrocraft/entropy", logs.get("entropy")),
            **{name: logs.get(f"entrocraft/{name}") for name in ("target", "lower", "upper")},
            "direction": logs.get("entrocraft/direction", 0.0),
            "kept_fraction": logs.get("entrocraft/kept_fraction", 1.0),
            "reward": logs.get("reward"),
            "tokens": self._num_tokens(args, logs),
            "seconds": now - self._last,
        }
        ours = {name.removeprefix("entrocraft/"): value for name, value in logs.items() if "entrocraft/" in name}
        line |= {name: value for name, value in ours.items() if name not in line}
        line |= {name: logs[name] for name in _KEPT_TRL_METRICS if name in logs}
        self._last = now
        self._run.append_metrics(line)
        self._note_steering(line)
        self._progress.show(line)

    def _note_steering(self, line: dict[str, Any]) -> None:
        """Tell the person who bent the curve that the run follows it."""
        accepted = line.get("steering_accepted", 0.0)
        if accepted > self._steered:
            self._progress.note(f"step {line['step']}: following the curve of {self._run.steering_file}")
        self._steered = accepted

    @staticmethod
    def _num_tokens(args: Any, logs: dict[str, float]) -> int | None:
        """Return the completion tokens sampled for this step; None if it reused those of the step before."""
        if "completions/mean_length" not in logs:
            return None
        return round(logs["completions/mean_length"] * args.generation_batch_size)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        saved = self._run.checkpoints / f"checkpoint-{state.global_step}" / STATE_FILE
        if saved.exists():
            self._run.write(self._run.controller_file, saved.read_text())


class _Evaluator(TrainerCallback):
    """Evaluates on held-out problems, from the outside of the training's random state."""

    def __init__(self, plan: Plan, run: RunDirectory, model: Any, tokenizer: Any, progress: Progress):
        self._config, self._task, self._run, self._progress = plan.config.eval, plan.task, run, progress
        self._sampler = TransformersSampler(model, tokenizer)
        self._max_tokens = plan.trl_args.max_completion_length
        self._problems = plan.test_problems
        self._done = {line["step"] for line in run.eval_metrics()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._config.every and state.global_step % self._config.every == 0:
            self.evaluate(state.global_step)

    def evaluate(self, step: int) -> None:
        """Evaluate once per step and add a line to the metrics."""
        if step in self._done:
            return
        self._done.add(step)
        samples = evaluate(
            lambda: self._sampler,
            self._task,
            self._problems,
            self._config.sampling(self._task),
            max_tokens=self._max_tokens,
            seed=step,
            with_answers=False,
        )
        correct = [[sample.score > CORRECT for sample in group] for group in by_problem(samples)]
        scores = with_intervals(correctness(correct, self._config.k))
        self._run.append_metrics({"step": step} | {f"eval/{name}": value for name, value in scores.items()})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if "/" not in name)
        self._progress.note(f"held-out problems at step {step}: {shown}")


class _StopSignals:
    """Remembers the first SIGINT or SIGTERM; the second one acts as usual."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> "_StopSignals":
        self._previous = {number: signal.signal(number, self._remember) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()


class _Stopper(TrainerCallback):
    """Ends training with a checkpoint at the first step after a signal where a run can be resumed."""

    def __init__(self, stop: _StopSignals, every: int):
        self._stop, self._every = stop, every

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._stop.signal is not None and state.global_step % self._every == 0:
            control.should_save = True
            control.should_training_stop = True
