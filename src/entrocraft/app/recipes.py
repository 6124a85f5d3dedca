"""What may be trained from the page: recipes that the command line named, and those that come with the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from entrocraft.app.curves import band_in, request_of
from entrocraft.config import RunConfig, parse_config
from entrocraft.control.settings import DEFAULT_SCHEDULE, DEFAULT_WIDTH
from entrocraft.errors import InvalidValueError
from entrocraft.yaml_text import read_yaml_file

_ASKED = ("model", "task.name", "task.options", "train.temperature")
_OF_A_STEP = (
    "algorithm",
    "prompts_per_step",
    "rollouts_per_prompt",
    "micro_batch_size",
    "learning_rate",
    "lora",
    "trl",
)
_TRAINED = (*_ASKED, *(f"train.{name}" for name in _OF_A_STEP))
_DEFAULT_METHODS = {"rloo": "budget"}
"""By algorithm, what `EntropyControl.settled` chooses where it is not the usual."""


@dataclass(frozen=True)
class Recipe:
    """A configuration file that trainings may start from.

    Its control section is kept as it is written: to check a method needs torch, which the child process does.
    """

    name: str
    path: Path
    title: str
    config: RunConfig
    """The configuration without its control section."""
    control: dict[str, Any] | None
    """The control section; None for training without control."""

    @property
    def method(self) -> str:
        """Name of the method; `none` for training without control."""
        return "none" if self.control is None else method_in(self.control, self.config.train.algorithm)

    @property
    def estimator(self) -> str:
        """Name of the advantage estimator: the one that is named, or the trainer's own."""
        return estimator_in(self.control, self.config.train.algorithm)

    def asks_as(self, config: Mapping[str, Any] | None) -> bool:
        """Return whether a run asked the same model the same kind of problems at the same temperature."""
        return config is not None and _at(config, _ASKED) == _at(self.config.to_dict(), _ASKED)

    def made(self, config: Mapping[str, Any] | None) -> bool:
        """Return whether a run was this recipe's, but for its curve, method, seed and length."""
        return config is not None and _at(config, _TRAINED) == _at(self.config.to_dict(), _TRAINED)

    def _curve(self) -> dict[str, Any] | None:
        """Return the recipe's own curve in the words of a request."""
        if self.control is None:
            return None
        return request_of(band_in(self.control))

    def about(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        train = self.config.train
        control = (
            None if self.control is None else {"schedule": DEFAULT_SCHEDULE, "width": DEFAULT_WIDTH} | self.control
        )
        return {
            "name": self.name,
            "title": self.title,
            "config": self.config.to_dict() | {"control": control},
            "curve": self._curve(),
            "method": self.method,
            "estimator": self.estimator,
            "budget": {
                "prompts": train.prompts_per_step,
                "rollouts": train.rollouts_per_prompt,
                "steps": train.steps,
            },
        }


def read_recipe(path: Path, name: str | None = None) -> Recipe:
    """Read a configuration file.

    Raises:
        InvalidValueError: It cannot be read, or holds something that cannot be used.
    """
    data = read_yaml_file(path)
    if not isinstance(data, dict):
        raise InvalidValueError(f"{path}: expected keys and values, got {type(data).__name__}")
    control = control_section(data.get("control", {}))
    config = parse_config({key: value for key, value in data.items() if key != "control"})
    return Recipe(name or path.stem, path, _title_of(path), config, control)


def control_section(value: Any) -> dict[str, Any] | None:
    """Return a configuration's control section as settings by name: it may be a bare schedule."""
    if value is None:
        return None
    return dict(value) if isinstance(value, Mapping) and "type" not in value else {"schedule": value}


def _at(config: Mapping[str, Any], paths: Sequence[str]) -> list[Any]:
    """Return the values at some paths, such as `train.steps`; None where there is none."""
    found = []
    for path in paths:
        value: Any = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        found.append(value)
    return found


def method_in(control: Mapping[str, Any], algorithm: str) -> str:
    """Return the name of the method that a control section asks for, or gets."""
    name = _name_in(control.get("method"))
    if name in (None, "rejection"):  # what version 0.1 called all methods that have a rule
        name = control.get("rule")
    return name if isinstance(name, str) else _DEFAULT_METHODS.get(algorithm, "token")


def estimator_in(control: Mapping[str, Any] | None, algorithm: str) -> str:
    """Return the name of the estimator that a control section asks for, or the trainer's own."""
    return _name_in((control or {}).get("estimator")) or algorithm


def _name_in(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) else None


def recipes_from(given: Sequence[Path]) -> dict[str, Recipe]:
    """Return the given recipes and those of the package, by name; of two alike in name, the given one.

    Raises:
        InvalidValueError: A file cannot be used, or two have the same name.
    """
    found: dict[str, Recipe] = {}
    for path in given:
        recipe = read_recipe(path)
        if recipe.name in found:
            raise InvalidValueError(f"two recipes are called {recipe.name!r}: {found[recipe.name].path} and {path}")
        found[recipe.name] = recipe
    for path in sorted(Path(str(files("entrocraft") / "assets" / "recipes")).glob("*.yaml")):
        found.setdefault(path.stem, read_recipe(path))
    return found


def _title_of(path: Path) -> str:
    """Return a file's first line, if it is a comment; else its name."""
    first = next(iter(path.read_text("utf-8-sig").splitlines()), "")
    return first.removeprefix("#").strip() if first.startswith("#") else path.stem
