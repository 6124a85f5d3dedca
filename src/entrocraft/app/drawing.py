"""The answer to a curve being drawn: its columns, and the same curve as YAML, as Python and as a command."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from entrocraft.app.curves import Drawing, columns_of, drawing_from, knots_in
from entrocraft.app.recipes import Recipe
from entrocraft.app.requests import Request
from entrocraft.app.shapes import as_text
from entrocraft.app.starting import SETTINGS, command_of, control_of
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band

CURVE_FIELDS = (
    "knots",
    "text",
    "yaml",
    "kind",
    "unit",
    "width",
    "lower",
    "upper",
    "steps",
    "points",
    "initial",
    "recipe",
    "settings",
)


def drawn(request: Request, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Return a drawn curve as columns in the unit that was asked for, as knots, and as text of three kinds.

    Raises:
        EntrocraftError: The curve or a setting cannot be used.
    """
    drawing = drawing_from(request)
    name = request.get("recipe")
    recipe = None if name is None else recipe_called(name, recipes)
    settings = request.part("settings", SETTINGS)
    control = control_of(recipe, drawing.band, settings)
    path = Path("recipe.yaml") if recipe is None else recipe.path
    return {
        **columns_of(drawing.band, drawing.steps, drawing.points),
        **knots_in(drawing.band),
        "yaml": yaml_of(control),
        "python": _python(drawing, control),
        "command": shlex.join(["entrocraft", *command_of(path, control, settings)]),
    }


def yaml_of(control: Mapping[str, Any]) -> str:
    """Return a control section as a configuration says it."""
    return yaml.safe_dump({"control": dict(control)}, sort_keys=False, width=10_000, allow_unicode=True)


def recipe_called(name: Any, recipes: Mapping[str, Recipe]) -> Recipe:
    """Return a recipe by its name.

    Raises:
        UnknownNameError: There is none.
    """
    if not isinstance(name, str):
        raise InvalidValueError(f"recipe: expected a name, got {name!r:.80}")
    if name not in recipes:
        raise UnknownNameError.of("recipe", name, recipes)
    return recipes[name]


def _python(drawing: Drawing, control: Mapping[str, Any]) -> str:
    """Return the same settings for a script of one's own."""
    others = {key: value for key, value in control.items() if key not in ("schedule", "width", "lower", "upper")}
    arguments = [*_curve_arguments(drawing.band), *(f"{key}={value!r}" for key, value in others.items())]
    inside = "".join(f"    {argument},\n" for argument in arguments)
    return f"import entrocraft as ec\n\ncontrol = ec.EntropyControl(\n{inside})\n"


def _curve_arguments(band: Band) -> list[str]:
    if band.schedule is not None:
        return [f"schedule={as_text(band.schedule, 'ec.')}", f"width={band.width!r}"]
    edges = {"lower": band.lower, "upper": band.upper}
    return [f"{name}={as_text(edge, 'ec.')}" for name, edge in edges.items() if edge is not None]
