"""What may be trained from the page: recipes that the command line named, and those that come with the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from entrocraft.config import RunConfig, parse_config
from entrocraft.control.settings import DEFAULT_SCHEDULE, DEFAULT_WIDTH
from entrocraft.errors import InvalidValueError
from entrocraft.yaml_text import read_yaml_file


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
