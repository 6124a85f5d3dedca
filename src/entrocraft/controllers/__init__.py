"""Controllers by name, for loops of one's own and for what is decided by hand.

This is a face: the code is in `entrocraft.control`. Add a method there, by adding a module and a line in
`control.methods`.
"""

from typing import Any

from entrocraft.control.controller import BatchStats, Controller, course_and_method
from entrocraft.control.course import Course
from entrocraft.control.decision import Decision, Normalize
from entrocraft.control.methods import METHODS, Method
from entrocraft.control.settings import PRESETS
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band


def available() -> list[str]:
    """Return the names that `build` knows.

    Example:
        >>> "token" in available()
        True
    """
    return sorted({*METHODS, *PRESETS, "rejection"})


def build(name: str, band: Band, **options: Any) -> Controller:
    """Build the controller of method `name` on `band`.

    Args:
        name: One of `available()`, or the import path of a method of one's own, `my_package.mine:MyMethod`.
            `rejection`, an old name, takes the method as its option `rule`.
        band: Where entropy should be.
        options: The method's own, and `guard`, `momentum` and `steps_per_decision`, as `course_and_method` takes them.

    Raises:
        UnknownNameError: No method has that name, it has no such option, or an option takes a word it does not know.
        InvalidValueError: An option is of another type, or out of range.

    Example:
        >>> from entrocraft import Band, constant
        >>> build("rejection", Band(constant(0.5), width=0.1), rule="predicted").rule
        'predicted'
        >>> build("token", Band(constant(0.5), width=0.1), min_kept=0.2).method.min_kept
        0.2
    """
    if name == "rejection":
        return RejectionController(band, **options)
    if ":" not in name and name not in available():
        raise UnknownNameError.of("controller", name, available())
    return Controller(*_course_and_method(band, name, options), _resolved(name))


class RejectionController(Controller):
    """The controller of a method that rejects, or of any other: the method is called `rule` here.

    Args:
        band: Where entropy should be.
        rule: The method; by default `advantage`, Algorithm 1 of the paper.
        normalize: What the loss is averaged over: `kept` (Eq. 5) or `all`.
        options: As `build` takes them.

    Raises:
        UnknownNameError: No method has that name, it has no such option, or an option takes a word it does not know.
        InvalidValueError: An option is of another type, or out of range.

    Example:
        >>> import torch
        >>> from entrocraft import Band, BatchStats, RejectionController, constant
        >>> controller = RejectionController(Band(constant(0.5), width=0.1))
        >>> stats = BatchStats(step=1, total_steps=10, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> controller.decide(stats).keep  # entropy is low: learn from failures
        tensor([False,  True])
    """

    def __init__(self, band: Band, rule: str = "advantage", normalize: Normalize = "kept", **options: Any):
        super().__init__(*_course_and_method(band, rule, {"normalize": normalize} | options), _resolved(rule))
        self.rule = rule


def _resolved(name: str) -> str:
    """Return the method behind a preset, which differs in its predictions: a batch made by hand has its own."""
    return PRESETS[name]["method"] if name in PRESETS else name


def _course_and_method(band: Band, name: str, options: dict[str, Any]) -> tuple[Course, Method]:
    if name in PRESETS and options.get("visitation"):
        raise InvalidValueError(f"rule {name!r} takes no visitation: its predictions hold it already")
    settings = {key: options.pop(key) for key in ("guard", "momentum", "steps_per_decision") if key in options}
    return course_and_method(band, _resolved(name), options, **settings)


__all__ = [
    "BatchStats",
    "Controller",
    "Decision",
    "Method",
    "Normalize",
    "RejectionController",
    "available",
    "build",
]
