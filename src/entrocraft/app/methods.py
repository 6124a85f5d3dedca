"""What the page says of methods, from a table in `methods.json`: the methods themselves need torch, the page not.

`python -m entrocraft.app.methods` writes the table anew from the methods; a test refuses one that is out of date.
"""

import inspect
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("methods.json")

_WITHOUT_TARGET = ("bapo", "ce_gppo", "clip_cov", "clip_higher", "fixed_bonus", "kl_cov", "none")
_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


@cache
def methods() -> list[dict[str, Any]]:
    """Return each method: name, summary, options with defaults and summaries, and whether it follows the curve."""
    return json.loads(TABLE.read_text("utf-8"))


def options_of(method: str) -> list[str]:
    """Return the names of a method's options."""
    return next([option["name"] for option in each["options"]] for each in methods() if each["name"] == method)


def follows(method: str, options: dict[str, Any]) -> bool:
    """Return whether a method so set moves entropy to the curve; some merely watch it."""
    said = next((each for each in methods() if each["name"] == method), None)
    # Of flexible_clip's strategies, one follows the curve, and the others the clock or a line of their own.
    has_target = said is None or (said["has_target"] and options.get("strategy", "curve") == "curve")
    return has_target or bool(options.get("follow"))


def made_anew() -> list[dict[str, Any]]:
    """Return the table as the methods themselves say it; this loads torch."""
    from entrocraft.control.methods import METHODS

    return [
        {
            "name": name,
            "summary": (inspect.getdoc(METHODS[name]) or "").partition("\n")[0],
            "options": _options(METHODS[name]),
            "has_target": not (name in _WITHOUT_TARGET or "follow" in inspect.signature(METHODS[name]).parameters),
        }
        for name in sorted(METHODS)
    ]


def _options(builder: Callable[..., Any]) -> list[dict[str, Any]]:
    said = dict(_ARGUMENT.findall(inspect.getdoc(builder) or ""))
    return [
        {
            "name": name,
            "default": None if parameter.default is parameter.empty else parameter.default,
            "summary": " ".join(said.get(name, "").split()),
        }
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


if __name__ == "__main__":
    TABLE.write_text(json.dumps(made_anew(), indent=2, ensure_ascii=False) + "\n", "utf-8")
