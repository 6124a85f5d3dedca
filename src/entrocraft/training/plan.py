"""The plan of a run, checked as far as can be before the model loads."""

import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from datasets import Dataset
from pyarrow import ArrowException
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from entrocraft.config import RunConfig
from entrocraft.engines.trl.checks import checked_control
from entrocraft.engines.trl.settings import LOSS_DENOMINATOR, loss_type_of
from entrocraft.errors import EntrocraftError, InvalidValueError, MissingDependencyError, UnknownNameError, first_line
from entrocraft.models import best_device, resolve_model
from entrocraft.models.prompts import load_fitting_tokenizer
from entrocraft.runs import RunDirectory
from entrocraft.tasks import Problem, Split, Task
from entrocraft.training.passed_on import refuse_passed_on
from entrocraft.training.processes import Processes, refuse_several

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}

# What TRL is told unless `train.trl` says otherwise.
_DEFAULTS: dict[str, Any] = {
    # Constant rate and a short memory: the optimizer's lag is part of what the filter must steer.
    "lr_scheduler_type": "constant",
    "adam_beta2": 0.95,
    "beta": 0.0,
    "bf16": False,
    "use_cpu": best_device() == "cpu",  # without being told, TRL refuses bf16 there
    "gradient_checkpointing": False,
    "dataloader_pin_memory": torch.cuda.is_available(),
    "report_to": "none",
    "save_total_limit": 2,
}


_SHARDING = {
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
}
"""Variables by which `accelerate launch` asks for ways to shard a model that are not for us."""


_NEVER_SHARDED = ("cpu",)
"""Devices on which accelerate takes no notice of being asked for FSDP."""


@dataclass(frozen=True)
class Plan:
    """A configuration that has been checked as far as can be without loading the model."""

    config: RunConfig
    task: Task
    trl_args: GRPOConfig | RLOOConfig
    train_problems: list[Problem]
    test_problems: list[Problem]
    keep_checkpoints: int | None = None
    """How many checkpoints stay; all if None."""

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


def problems_of(config: RunConfig, task: Task) -> tuple[list[Problem], list[Problem]]:
    """Return the problems of a run: those to train on, and those that are held out."""
    return (
        _problems(task, "train", config.task.num_problems, most=4000, seed=config.seed),
        _problems(task, "test", config.eval.num_problems, most=200),
    )


def plan_run(
    config: RunConfig,
    run: RunDirectory,
    *,
    problems_of: Callable[[RunConfig, Task], tuple[list[Problem], list[Problem]]] = problems_of,
    processes: Processes | None = None,
) -> Plan:
    """Check everything that can be checked before the model loads; write nothing.

    Args:
        config: Settings of the run.
        run: Where it is to be.
        problems_of: Makes its problems. Who plans many runs at once need not make the same ones again.
        processes: Those that train together, which all plan; by default this one, which must be the only one.

    Raises:
        InvalidValueError: The model is not there, TRL refuses the arguments, the batch sizes do not fit, or the
            processes do not hold the same problems.
        OtherProcessError: Another of the processes has refused.
    """
    if processes is None:
        refuse_several("this")
        processes = Processes()
    if processes.count > 1:
        _check_launch()
    task = config.task.build()
    resolve_model(config.model)
    if config.train.lora is not None and find_spec("peft") is None:
        raise MissingDependencyError("train.lora needs peft: pip install 'entrocraft[lora]'")
    processes.meet()  # TRL's arguments join torch's process group, which waits for all and hears nothing meanwhile
    trl_args = _trl_args(config, task, run, processes.count)
    # Checkpoints are rotated by their number; TRL goes by the time of files.
    keep_checkpoints, trl_args.save_total_limit = trl_args.save_total_limit, None
    if config.control is not None:
        if config.control.run is not None:
            raise InvalidValueError(
                f"control.run {config.control.run!r} is for TRL scripts: this run has its directory, {run.path}, "
                "already; leave control.run out"
            )
        with _of_other_types():
            checked_control(config.control, trl_args)
    config.eval.sampling(task, config.train.carried_over())  # refused now, if at all
    plan = Plan(config, task, trl_args, *problems_of(config, task), keep_checkpoints)
    task.scores([""], plan.train_problems[:1])  # a reward that cannot be called is refused now
    with _of_other_types():
        _check_batches(plan)
    _check_alike(plan, processes)
    return plan


def load_tokenizer_of(plan: Plan) -> Any:
    """Load the tokenizer of a plan's model; see `models.prompts.load_fitting_tokenizer` for what is refused."""
    return load_fitting_tokenizer(
        plan.config.model,
        plan.task,
        [*plan.train_problems, *plan.test_problems],
        plan.trl_args.max_completion_length,
        plan.config.train.carried_over().get("chat_template_kwargs"),
    )


def _check_launch() -> None:
    """Refuse ways to shard a model under which the command line cannot save what it resumes from."""
    for name, variable in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise InvalidValueError(
                f"the command line trains under DDP or FSDP2, and {name} was asked for: leave it out, or use "
                "with_entropy_control in a script of your own"
            )
    if wants_fsdp():
        if best_device() in _NEVER_SHARDED:
            raise InvalidValueError(
                f"FSDP was asked for, and accelerate shards nothing on the {best_device()}, where it would train under "
                "DDP: give accelerate launch --multi_gpu in place of --use_fsdp"
            )
        asked = {"--fsdp_version": os.environ.get("FSDP_VERSION", "1")}
        asked["--fsdp_state_dict_type"] = os.environ.get("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT")
        for option, wanted in (("--fsdp_version", "2"), ("--fsdp_state_dict_type", "FULL_STATE_DICT")):
            if asked[option] != wanted:
                raise InvalidValueError(
                    f"the command line saves and resumes under {option} {wanted}, got {asked[option]}: give accelerate "
                    "launch this option"
                )


def wants_fsdp() -> bool:
    """Return whether `accelerate launch` was told to shard the model."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")


def _check_alike(plan: Plan, processes: Processes) -> None:
    """Refuse to train together on settings or problems that are not the same in all processes."""
    about = {"config": plan.config.to_dict(), "train": plan.train_problems, "test": plan.test_problems}
    digests = [hashlib.sha256(json.dumps(each, default=str).encode()).hexdigest() for each in about.values()]
    for index, theirs in enumerate(processes.shared(" ".join(digests))):
        for name, mine, other in zip(about, digests, theirs.split(), strict=True):
            if mine != other:
                what = "configuration" if name == "config" else f"{name} problems"
                raise InvalidValueError(
                    f"processes {index} and {processes.index} do not have the same {what}: give all machines the same "
                    "files"
                )


@contextmanager
def _of_other_types() -> Iterator[None]:
    """Say in one line that an argument which TRL took is of a type that nothing can be done with."""
    try:
        yield
    except EntrocraftError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InvalidValueError(f"train.trl: {first_line(error)}") from error


def _trl_args(config: RunConfig, task: Task, run: RunDirectory, num_processes: int) -> GRPOConfig | RLOOConfig:
    """Return TRL's arguments: our defaults, what the configuration says in its own words, and what it hands on."""
    train = config.train
    micro_batch_size = train.micro_batch_size or train.rollouts_per_step
    if train.rollouts_per_step % micro_batch_size:
        raise InvalidValueError(
            f"train.micro_batch_size must divide the {train.rollouts_per_step} rollouts of a step "
            f"({train.prompts_per_step} prompts x {train.rollouts_per_prompt}), got {micro_batch_size}"
        )
    # Of all processes together, so that a configuration means the same run however many there are.
    if micro_batch_size % num_processes:
        what = "train.micro_batch_size" if train.micro_batch_size else "the rollouts of a step"
        raise InvalidValueError(
            f"{what} must be a multiple of {num_processes}, the processes that share each pass, got {micro_batch_size}"
        )
    arguments = {
        "output_dir": str(run.checkpoints),
        "max_steps": train.steps,
        "per_device_train_batch_size": micro_batch_size // num_processes,
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
    refuse_passed_on(train.trl, TRAINERS[train.algorithm][1])
    try:
        own = {"run_name": run.path.resolve().name}  # what trackers call it
        trl_args = TRAINERS[train.algorithm][1](**_DEFAULTS | own | arguments | train.trl)
    except Exception as error:  # what is raised on an argument that cannot be used may be anything
        raise InvalidValueError(f"TRL refuses the training arguments: {first_line(error)}") from error
    if loss_type_of(trl_args) not in LOSS_DENOMINATOR:
        raise UnknownNameError.of("train.trl.loss_type", trl_args.loss_type, set(LOSS_DENOMINATOR) - {"rloo"})
    return trl_args


def _check_batches(plan: Plan) -> None:
    """Refuse checkpoints amid a batch of rollouts, and fewer problems than one batch asks for."""
    save_every = plan.config.train.save_every
    if save_every % plan.steps_between_checkpoints:
        raise InvalidValueError(
            f"train.save_every must be a multiple of {plan.steps_between_checkpoints}, the optimizer steps after which "
            f"a batch of rollouts is used up, got {save_every}"
        )
    if len(plan.train_problems) < plan.prompts_per_generation:
        raise InvalidValueError(
            f"task.num_problems must be at least {plan.prompts_per_generation}, the prompts of one batch of rollouts, "
            f"got {len(plan.train_problems)}"
        )


def _problems(task: Task, split: Split, num_problems: int | None, *, most: int, seed: int = 0) -> list[Problem]:
    """Return as many problems as are asked for, or by default `most`, or all there are."""
    problems = task.problems_asked_for(split, num_problems, most, seed)
    try:
        # To Arrow and back: TRL gives rewards what this makes of nested columns, and evaluations shall give the same.
        return Dataset.from_list(problems).to_list()
    except (ArrowException, TypeError, OverflowError) as error:
        raise InvalidValueError(
            f"{task.name}: the columns of the {split} problems do not each hold values of one type: {first_line(error)}"
        ) from error
