"""The configuration of a run: YAML in, one frozen, checked object out.

Unknown keys are refused with the nearest known one, so a typing error cannot silently train with a
default. `key.path=value` overrides are applied to the YAML before it is checked.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from entrocraft import tasks
from entrocraft.control import EntropyControl
from entrocraft.errors import EntrocraftError, InvalidValueError, did_you_mean, shortened
from entrocraft.grading.pass_at_k import KS, with_ks
from entrocraft.models.carried import carried_over
from entrocraft.models.sampling_config import SamplingConfig
from entrocraft.runs.directory import SCRIPT, RunDirectory
from entrocraft.tasks import Task
from entrocraft.tasks.cells import check_unicode
from entrocraft.yaml_text import apply_overrides, read_yaml_file

MOST_STEPS = 1_000_000
"""Optimizer steps of a run, or points of a curve that is shown, at most."""
MOST_PROMPTS = 50_000_000
"""Prompts of all steps of a run together, at most: their order is held in memory."""
MOST_ROWS = 10_000_000
"""Problems of a task, at most."""

PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _control_from(value: Any) -> EntropyControl | None:
    return None if value is None else EntropyControl.of(value)


def _control_to(control: EntropyControl | None) -> dict[str, Any] | None:
    """Return the settings as plain data; those left at None are left out."""
    return None if control is None else control.to_dict()


Control = Annotated[InstanceOf[EntropyControl] | None, BeforeValidator(_control_from), PlainSerializer(_control_to)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskConfig(_Section):
    """What to train on."""

    name: str = "countdown"
    """One of `entrocraft.tasks.available()`."""
    options: dict[str, Any] = {}
    """The task's own options."""
    num_problems: Annotated[PositiveInt, Field(le=MOST_ROWS)] | None = None
    """Distinct training problems; by default 4000, or all there are."""

    def build(self) -> Task:
        """Return the task; its data are read when problems are asked for.

        Raises:
            UnknownNameError: There is no such task.
            InvalidValueError: An option is unknown or out of range.
        """
        if "name" in self.options:
            raise InvalidValueError(
                f"task.options.name: a task has no option 'name', got {self.options['name']!r}; the task is chosen by "
                f"task.name, which is {self.name!r}"
            )
        return tasks.build(self.name, **self.options)


class LoraSettings(_Section):
    """A low-rank adapter, as peft makes it."""

    r: PositiveInt = 16
    """Rank of the adapter."""
    alpha: PositiveInt = 32
    """The adapter's output is multiplied by `alpha / r`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped in training."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Modules that get an adapter, by name."""


class TrainConfig(_Section):
    """How to train; what is not here goes to TRL through `trl`."""

    algorithm: Literal["grpo", "rloo"] = "grpo"
    """TRL's trainer."""
    steps: Annotated[PositiveInt, Field(le=MOST_STEPS)] = 150
    """Optimizer steps."""
    prompts_per_step: Annotated[PositiveInt, Field(le=MOST_STEPS)] = 64
    """Prompts of one optimizer step."""
    rollouts_per_prompt: Annotated[int, Field(ge=2, le=MOST_STEPS, strict=True)] = 8
    """Rollouts of each prompt, which advantages compare."""
    micro_batch_size: PositiveInt | None = None
    """Rollouts in one forward and backward pass, of all processes together; by default all of a step's."""
    learning_rate: PositiveFloat = 5e-5
    temperature: PositiveFloat = 1.0
    """Sampling temperature; entropy is measured at it."""
    lora: LoraSettings | None = None
    """Train a low-rank adapter instead of all weights; needs peft."""
    max_completion_tokens: PositiveInt | None = None
    """Tokens after which a rollout is cut; by default what the task's longest right answer needs."""
    save_every: PositiveInt = 25
    """Optimizer steps between checkpoints."""
    trl: dict[str, Any] = {}
    """Any other argument of TRL's GRPOConfig or RLOOConfig."""

    def model_post_init(self, context: Any) -> None:
        """Refuse more prompts than can be put in order, and what evaluation could not do alike."""
        self.carried_over()
        prompts = self.steps * self.prompts_per_step
        if prompts > MOST_PROMPTS:
            raise InvalidValueError(
                f"steps x prompts_per_step must be at most {MOST_PROMPTS:,}, got {self.steps:,} x "
                f"{self.prompts_per_step:,}; several runs, each from the one before, may do more"
            )

    def carried_over(self) -> dict[str, Any]:
        """Return how evaluation must ask and draw for its scores to be the trained policy's; see `models.carried`."""
        return carried_over(self.trl)

    @property
    def rollouts_per_step(self) -> int:
        """Rollouts that one optimizer step uses."""
        return self.prompts_per_step * self.rollouts_per_prompt


class EvalConfig(_Section):
    """How to evaluate on held-out problems."""

    every: NonNegativeInt = 0
    """Optimizer steps between evaluations; 0 for the first and last only."""
    num_problems: Annotated[PositiveInt, Field(le=MOST_ROWS)] | None = None
    """Held-out problems; by default 200, or all there are."""
    num_samples: PositiveInt = 32
    """Answers drawn to each problem."""
    k: tuple[PositiveInt, ...] = KS
    """The k of pass@k; by default those of 1, 8 and 32 that `num_samples` allows."""
    temperature: PositiveFloat | None = None
    """Sampling temperature; by default the benchmark's own, else 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """See `SamplingConfig`; by default the benchmark's own, else 1."""
    top_k: NonNegativeInt | None = None
    """See `SamplingConfig`; by default the benchmark's own, else 0, for all tokens."""
    batch_size: PositiveInt | None = None
    """Answers drawn at once; see `SamplingConfig`."""

    _default_ks = model_validator(mode="before")(with_ks)

    def model_post_init(self, context: Any) -> None:
        """Refuse no k at all, or one beyond the number of samples."""
        if not self.k:
            raise InvalidValueError("eval.k must name at least one k, such as [1, 8]")
        if max(self.k) > self.num_samples:
            raise InvalidValueError(f"k must be at most num_samples = {self.num_samples}, got {max(self.k)}")

    def sampling(self, task: Task, carried: Mapping[str, Any]) -> SamplingConfig:
        """Return how answers are drawn: as is said here, else as the task wants it, else as training does.

        Args:
            task: The task.
            carried: What training says; see `TrainConfig.carried_over`.
        """
        said = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "batch_size")}
        said = {name: value for name, value in said.items() if value is not None}
        return SamplingConfig(num_samples=self.num_samples, **dict(carried) | dict(task.sampling) | said)


class RunConfig(_Section):
    """Everything that one training run is made of."""

    model: str = "countdown-base"
    """The embedded model's name, a folder, or a hub id."""
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    """Seed of the problems, their order and the rollouts."""
    task: TaskConfig = TaskConfig()
    control: Control = Field(default_factory=EntropyControl)
    """Entropy control; `null` trains with the plain algorithm."""
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `RunConfig(**data)` takes back."""
        return self.model_dump(mode="json")


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply `key.path=value` overrides, and check the result.

    Raises:
        InvalidValueError: The file cannot be read, is not YAML, or holds something that cannot be used; the
            message names the key.
    """
    data = read_yaml_file(path)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InvalidValueError(f"{path}: expected keys and values, got {type(data).__name__}")
    apply_overrides(data, overrides)
    return parse_config(data)


def parse_config(data: Mapping[str, Any], what: object = "config") -> RunConfig:
    """Check plain data and return the configuration; see `load_config` for the errors, which begin with `what`."""
    if SCRIPT in data:
        raise InvalidValueError(
            f"{what}: it is that of a run of the script {data[SCRIPT]!r}, which alone knows its model, task and "
            "checkpoints; go on with it there, or name the folder of a checkpoint and a task"
        )
    _refuse_what_cannot_be_kept(data)
    try:
        return RunConfig(**data)
    except ValidationError as error:
        raise InvalidValueError(f"{what}: {explained(error, RunConfig)}") from error
    except TypeError as error:  # a key that is not text
        raise InvalidValueError(f"{what}: {error}") from error


def _refuse_what_cannot_be_kept(value: Any, path: str = "") -> None:
    """Refuse what the configuration that a run keeps would not hold: half a character, or a key that is no text.

    A key such as 1 or `yes` would be another one there, the text.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidValueError(f"config: {path or 'a key'}: expected text as a key, got {key!r:.80}; quote it")
            check_unicode(key, f"config: {path or 'a key'}")
            _refuse_what_cannot_be_kept(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_what_cannot_be_kept(inner, path)
    else:
        check_unicode(value, f"config: {path}")


def resolved(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data of a configuration in the words of today, with every default; errors as of `load_config`."""
    return parse_config(data).to_dict()


def task_from(spec: str) -> Task:
    """Return the task that a command line names: one of `tasks.available()`, or the task of a configuration file.

    Raises:
        EntrocraftError: There is no such task or file, or it cannot be used.
    """
    return task_config_of(Path(spec)).build() if spec.endswith((".yaml", ".yml")) else tasks.build(spec)


def task_config_of(path: Path) -> TaskConfig:
    """Return the task of a configuration file.

    Raises:
        EntrocraftError: It cannot be used, or names no task: the default is for training, not where one is asked for.
    """
    config = load_config(path)
    if "task" not in config.model_fields_set:
        raise InvalidValueError(f"{path} has no task section, so it says nothing about what to solve")
    return config.task


def carried_from(models: Sequence[str], task_spec: str | None) -> dict[str, Any]:
    """Return how models are to be asked and drawn from: as the runs among them were trained, else as a file says.

    Args:
        models: Models or runs; those that are no runs are asked as the others are, for scores to be compared.
        task_spec: The task as a command line names it, which may be a configuration file.

    Raises:
        EntrocraftError: Two runs were trained differently, so that no one way is right.
    """
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        run = RunDirectory(Path(model))
        if run.exists:
            found[model] = parse_config(run.config(), run.config_file).train.carried_over()
    if not found and task_spec is not None and task_spec.endswith((".yaml", ".yml")):
        return load_config(Path(task_spec)).train.carried_over()
    first, *others = found or [""]
    for other in others:
        if found[other] != found[first]:
            raise InvalidValueError(
                f"{first} was trained with {found[first] or 'nothing'} and {other} with {found[other] or 'nothing'} of "
                "train.trl that changes prompts or sampling: no one way of asking is right for both; evaluate them "
                "apart"
            )
    return found.get(first, {})


def max_tokens_from(model: str, task_spec: str | None) -> int | None:
    """Return the tokens of an answer that a configuration trains with: a file's, or else a run's on its own task.

    None if neither says anything, and the task's own default holds.
    """
    if task_spec is not None and task_spec.endswith((".yaml", ".yml")):
        return load_config(Path(task_spec)).train.max_completion_tokens
    run = RunDirectory(Path(model))
    is_own = task_spec is None and run.exists
    return parse_config(run.config(), run.config_file).train.max_completion_tokens if is_own else None


def explained(error: ValidationError, root: type[BaseModel]) -> str:
    """Return what pydantic found wrong with the data of a `root`, in our words and on one line."""
    return "; ".join(_explain(problem, root) for problem in error.errors())


def _explain(problem: Any, root: type[BaseModel]) -> str:
    """Say one of pydantic's errors in our words: where, what is wrong, what was got."""
    path = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    if problem["type"] == "extra_forbidden":
        known = _fields_at(problem["loc"][:-1], root)
        hint = did_you_mean(problem["loc"][-1], known)
        return f"unknown key {path!r}{f',{hint}' if hint else '.'} Known here: {', '.join(sorted(known))}"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, EntrocraftError):
        return f"{path}: {cause}" if path else str(cause)
    return f"{path}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {shortened(repr(problem['input']), 200)}"


def _fields_at(location: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    """Return the keys that the section at `location` of `root` knows."""
    section = root
    for part in location:
        if str(part) not in section.model_fields:
            continue  # the name of one of several sections
        annotation = section.model_fields[str(part)].annotation
        # An optional section is a union with None.
        section = next(each for each in (annotation, *get_args(annotation)) if _is_section(each))
    return list(section.model_fields)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
