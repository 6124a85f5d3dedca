"""The configuration of a study: YAML in, one frozen, checked object out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from entrocraft.config import explained
from entrocraft.errors import InvalidValueError, did_you_mean
from entrocraft.grading.pass_at_k import KS, with_ks
from entrocraft.yaml_text import read_yaml_file

Overrides = dict[str, Any]
"""Part of a run's configuration, in the words of its YAML: what it says goes over what was there."""

_Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
_PositiveInt = Annotated[int, Field(ge=1, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoringConfig(_Section):
    """One more scoring of the model that each run ends with; what it leaves out is as in the run."""

    task: Overrides | None = None
    """Another task, as `task` of a run's configuration."""
    num_problems: _PositiveInt | None = None
    num_samples: _PositiveInt = 32
    k: tuple[_PositiveInt, ...] = KS
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None

    _default_ks = model_validator(mode="before")(with_ks)

    def model_post_init(self, context: Any) -> None:
        """Refuse a k beyond the number of samples."""
        if not self.k or max(self.k) > self.num_samples:
            raise InvalidValueError(f"k must lie between 1 and num_samples = {self.num_samples}, got {self.k}")


class StudyConfig(_Section):
    """What a study compares, and by which number.

    Its runs are all combinations of an arm, a schedule, a task and a seed. The configuration of each is put together
    from `run`, then the task's part, the phase's, the arm's, and what the arm says of that phase.
    """

    title: str
    about: str = ""
    """What is asked, which number answers it, and which outcome would refute the idea: written before the runs."""
    run: Overrides = {}
    """What all runs share, as in a run's own YAML."""
    arms: Annotated[dict[str, Overrides], Field(min_length=1)]
    """What is compared, by name: methods, learning rates or whatever else differs. An arm may say of phases what it
    does in each: `phases: {A: {control: null}, B: null}`, where null leaves the phase out."""
    schedules: dict[str, Any] = {}
    """Curves, by name: each is followed by every arm that controls entropy and names no curve of its own."""
    tasks: dict[str, Overrides] = {}
    """What to train on, by name; by default the task of `run`."""
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1)] = (0,)
    phases: dict[str, Overrides] = {}
    """One training after another, by name, each from the model that the one before it ended with. The optimizer starts
    anew."""
    score: str = "mean@32"
    """The number that counts: a measure of the evaluations, averaged over those of a run's last quarter."""
    baseline: str | None = None
    """The arm that others are compared with; by default the first."""
    scorings: dict[str, ScoringConfig] = {}
    """More scorings of each run's last model, by name: at another temperature, or on another task."""

    def model_post_init(self, context: Any) -> None:
        """Refuse names that are not there, seeds that come twice, and those in places where `seeds` overrides them."""
        if len(set(self.seeds)) < len(self.seeds):
            raise InvalidValueError(f"seeds must differ, got {list(self.seeds)}")
        if self.baseline is not None and self.baseline not in self.arms:
            raise InvalidValueError(
                f"baseline: there is no arm {self.baseline!r}{did_you_mean(self.baseline, self.arms)}"
            )
        for where, part in self._parts():
            if "seed" in part:
                raise InvalidValueError(
                    f"{where}.seed: each run of a study has one of its seeds, so that arms are compared on the same; "
                    f"leave it out, and set `seeds: [{part['seed']!r:.40}]` beside `arms`"
                )
        for arm, overrides in self.arms.items():
            of_phases = overrides.get("phases", {})
            if not isinstance(of_phases, Mapping):
                raise InvalidValueError(f"arms.{arm}.phases expects phases by name, got {of_phases!r:.80}")
            for phase in of_phases:
                if phase not in self.phases:
                    raise InvalidValueError(
                        f"arms.{arm}.phases: there is no phase {phase!r}{did_you_mean(str(phase), self.phases)}"
                    )
        for where, names in (("arms", self.arms), ("schedules", self.schedules), ("tasks", self.tasks)):
            odd = next((name for name in names if not name.strip() or not name.isprintable() or "|" in name), None)
            if odd is not None:
                raise InvalidValueError(f"{where}: a name must be printable text on one line, without '|', got {odd!r}")

    def _parts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield all that configurations of runs are put together from, with where it stands."""
        yield "run", self.run
        for place, parts in (("tasks", self.tasks), ("phases", self.phases), ("arms", self.arms)):
            for name, part in parts.items():
                yield f"{place}.{name}", part
                of_phases = part.get("phases", {}) if place == "arms" else {}
                for phase, changes in of_phases.items() if isinstance(of_phases, Mapping) else ():
                    if isinstance(changes, Mapping):
                        yield f"arms.{name}.phases.{phase}", changes

    @property
    def compared_with(self) -> str:
        """Name of the arm that others are compared with."""
        return self.baseline if self.baseline is not None else next(iter(self.arms))


def load_study(file: Path) -> StudyConfig:
    """Read a study's YAML file and check it, all its runs' settings included.

    Raises:
        InvalidValueError: The file cannot be read, or holds something that cannot be used; the message names the key.
    """
    data = read_yaml_file(file)
    if not isinstance(data, dict):
        raise InvalidValueError(f"{file}: expected keys and values, got {type(data).__name__}")
    return parse_study(data)


def parse_study(data: Mapping[str, Any]) -> StudyConfig:
    """Check plain data and return the study; see `load_study` for the errors."""
    try:
        return StudyConfig(**data)
    except ValidationError as error:
        raise InvalidValueError(f"study: {explained(error, StudyConfig)}") from error
    except TypeError as error:  # a key that is not text
        raise InvalidValueError(f"study: {error}") from error
