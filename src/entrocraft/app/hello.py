"""What the page asks first: what there is to choose from."""

import inspect
from importlib.util import find_spec
from typing import Any

from entrocraft import __version__
from entrocraft.advantages import ESTIMATORS
from entrocraft.app.curves import KINDS, MOST_KNOTS, MOST_STEPS
from entrocraft.app.families import families
from entrocraft.app.launch import NAME
from entrocraft.app.methods import methods
from entrocraft.app.state import App

_Z = 1.96


def hello(app: App) -> dict[str, Any]:
    """Return what the page needs before anything else."""
    can_train = find_spec("trl") is not None
    return {
        "version": __version__,
        "folder": str(app.library.folder),
        "can_train": can_train,
        "why_not": None if can_train else "training needs TRL: pip install 'entrocraft[trl]'",
        "recipes": [recipe.about() for recipe in app.recipes.values()],
        "methods": methods(),
        "estimators": [
            {"name": name, "summary": (inspect.getdoc(ESTIMATORS[name]) or "").partition("\n")[0]}
            for name in sorted(ESTIMATORS)
        ],
        "families": families(),
        "kinds": KINDS,
        "limits": {"steps": MOST_STEPS, "knots": MOST_KNOTS, "name": NAME},
        "entropy_start": entropy_start(app),
    }


def entropy_start(app: App) -> dict[str, Any] | None:
    """Return where entropy starts, as the newest run of the first recipe that has one measured it; None without any.

    The first step is sampled from the model as it was, so its entropy is the model's own, with its error.
    """
    runs = [app.library.recorded(place.path) for place in app.library.places().values() if place.kind == "run"]
    for name, recipe in app.recipes.items():
        for run in sorted(runs, key=lambda each: -each.changed):
            if not recipe.asks_as(run.config):
                continue
            run.update()
            first = run.book.first_measured("entropy", "entropy_stderr")
            if first is not None and first["entropy"] is not None and first["entropy_stderr"] is not None:
                margin = _Z * first["entropy_stderr"]
                return {
                    "value": first["entropy"],
                    "low": first["entropy"] - margin,
                    "high": first["entropy"] + margin,
                    "of": name,
                    "source": run.directory.path.name,
                }
    return None
