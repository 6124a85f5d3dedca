"""From what the page chose to the command that trains: typed settings of a recipe, and nothing else.

No model, task or reward comes from the page: those can name code. They are the recipe's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from entrocraft.advantages import ESTIMATORS
from entrocraft.app.curves import CURVE_SETTINGS, MOST_STEPS
from entrocraft.app.methods import follows, methods, options_of
from entrocraft.app.recipes import Recipe
from entrocraft.app.requests import Request
from entrocraft.app.shapes import as_text
from entrocraft.errors import InvalidValueError
from entrocraft.schedules import Band

SETTINGS = ("steps", "seed", "method", "method_options", "estimator")
"""What the page may set beside the curve."""
_MOST_SEED = 2**32 - 1
_OF_THE_METHOD = (
    "method",
    "rule",
    "normalize",
    "reward_baseline",
    "visitation",
    "min_kept",
    "fallback",
    "entropy_bonus",
    "predictor",
)
"""Settings of control that go with a method, and so go if the page names another."""
_MOST_OPTION = 200


def control_of(recipe: Recipe | None, band: Band, settings: Request) -> dict[str, Any]:
    """Return the control section: the recipe's, with the curve and what else the page has chosen in its place.

    Raises:
        EntrocraftError: A method, option or estimator is none that this library has.
    """
    return curve_settings(band) | _control_beside_curve(recipe, settings)


def control_without_curve(recipe: Recipe, settings: Request) -> dict[str, Any] | None:
    """Return the control section of a training that follows no curve; None for the plain algorithm.

    A method that has no target may be chosen all the same, and so may an estimator.

    Raises:
        EntrocraftError: The method follows a curve; or as of `control_of`.
    """
    control = _control_beside_curve(recipe, settings)
    method = settings.get("method", "none")
    if method == "none" and "estimator" not in control:
        return None
    if follows(method, control["method"] if isinstance(control.get("method"), dict) else {}):
        raise InvalidValueError(f"method {method} follows a curve: draw one, or choose method none")
    return control | {"method": control.get("method", "none")}


def _control_beside_curve(recipe: Recipe | None, settings: Request) -> dict[str, Any]:
    """Return all of the control section but the curve; what the recipe has already is left as it is there."""
    control = {name: value for name, value in ((recipe and recipe.control) or {}).items() if name not in CURVE_SETTINGS}
    method = settings.one_of("method", [each["name"] for each in methods()], None)
    options = {} if method is None else _options(method, settings)
    if method is not None and (options or recipe is None or method != recipe.method):
        control = {name: value for name, value in control.items() if name not in _OF_THE_METHOD}
        control["method"] = {"name": method} | options if options else method
    estimator = settings.one_of("estimator", sorted(ESTIMATORS), None)
    if estimator is not None and (recipe is None or estimator != recipe.estimator):
        control["estimator"] = estimator
    return control


def curve_settings(band: Band) -> dict[str, Any]:
    """Return the settings of entropy control that make a band."""
    if band.schedule is not None:
        return {"schedule": as_text(band.schedule), "width": band.width}
    return {name: as_text(edge) for name, edge in (("lower", band.lower), ("upper", band.upper)) if edge is not None}


def _options(method: str, settings: Request) -> dict[str, Any]:
    """Return the options of a method, each a number, a word, or true or false; the method itself checks them."""
    known = options_of(method)
    options = settings.part("method_options", known).fields()
    for name, value in options.items():
        if not isinstance(value, str | int | float | bool) or len(str(value)) > _MOST_OPTION:
            raise InvalidValueError(
                f"method_options.{name}: expected a number, a word, true or false, got {value!r:.80}"
            )
    return options


def command_of(recipe: Path, control: Mapping[str, Any] | None, settings: Request) -> list[str]:
    """Return the command that trains, as it would follow `entrocraft` on a command line.

    Args:
        recipe: The configuration file.
        control: The control section in the recipe's place; None to train without control.
        settings: What else the page has chosen.

    Raises:
        EntrocraftError: A setting cannot be used.
    """
    overrides = [f"control={_on_one_line(control)}"]
    if settings.get("steps") is not None:
        overrides.append(f"train.steps={settings.whole_number('steps', 1, least=1, most=MOST_STEPS)}")
    if settings.get("seed") is not None:
        overrides.append(f"seed={settings.whole_number('seed', 0, least=0, most=_MOST_SEED)}")
    return ["train", str(recipe), *overrides]


def _on_one_line(data: Mapping[str, Any] | None) -> str:
    if data is None:
        return "null"
    return yaml.safe_dump(dict(data), default_flow_style=True, sort_keys=False, width=1_000_000).strip()
