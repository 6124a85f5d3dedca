"""Entropy control for reinforcement learning of language models: draw the curve, the policy follows.

The names here are the pure core: schedules, entropy, advantages, dynamics and controllers, and `decide` for loops of
one's own. They need torch and nothing else, but for `plot` and `draw`, which need matplotlib and anywidget once they
are called. Engines live in `entrocraft.engines`, tasks in `entrocraft.tasks`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrocraft import advantages, controllers
    from entrocraft.app.notebook import draw
    from entrocraft.control import EntropyControl
    from entrocraft.control.batch import Batch, Tokens
    from entrocraft.control.decision import Decision
    from entrocraft.control.goal import Goal
    from entrocraft.control.methods import Method
    from entrocraft.controllers import BatchStats, Controller, RejectionController
    from entrocraft.dynamics import (
        entropy_sensitivity,
        estimated_entropy_sensitivity,
        predicted_entropy_change,
    )
    from entrocraft.engines.loop import Decided, Loop, decide
    from entrocraft.entropy import batch_entropy, token_entropy, token_log_probs
    from entrocraft.errors import EntrocraftError
    from entrocraft.evaluation import pass_at_k
    from entrocraft.reports.plots.curves import plot
    from entrocraft.schedules import (
        Band,
        Schedule,
        adaptive,
        constant,
        cosine,
        cyclic,
        exponential,
        join,
        linear,
        piecewise,
        polynomial,
        schedule_from,
        steps,
        warmup,
    )

__version__ = "0.1.0"

__all__ = [
    "Band",
    "Batch",
    "BatchStats",
    "Controller",
    "Decided",
    "Decision",
    "EntrocraftError",
    "EntropyControl",
    "Goal",
    "Loop",
    "Method",
    "RejectionController",
    "Schedule",
    "Tokens",
    "adaptive",
    "advantages",
    "batch_entropy",
    "constant",
    "controllers",
    "cosine",
    "cyclic",
    "decide",
    "draw",
    "entropy_sensitivity",
    "estimated_entropy_sensitivity",
    "exponential",
    "join",
    "linear",
    "pass_at_k",
    "piecewise",
    "plot",
    "polynomial",
    "predicted_entropy_change",
    "schedule_from",
    "steps",
    "token_entropy",
    "token_log_probs",
    "warmup",
]

_HOMES = {
    "app.notebook": ("draw",),
    "control": ("EntropyControl",),
    "control.batch": ("Batch", "Tokens"),
    "control.decision": ("Decision",),
    "control.goal": ("Goal",),
    "control.methods": ("Method",),
    "controllers": ("BatchStats", "Controller", "RejectionController"),
    "dynamics": ("entropy_sensitivity", "estimated_entropy_sensitivity", "predicted_entropy_change"),
    "engines.loop": ("Decided", "Loop", "decide"),
    "entropy": ("batch_entropy", "token_entropy", "token_log_probs"),
    "errors": ("EntrocraftError",),
    "evaluation": ("pass_at_k",),
    "reports.plots.curves": ("plot",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: command lines and graders that need no torch do not load it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("advantages", "controllers"):
        return importlib.import_module(f"{__name__}.{name}")
    home = next((home for home, names in _HOMES.items() if name in names), "schedules")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
