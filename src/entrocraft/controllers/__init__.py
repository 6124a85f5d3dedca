"""Controllers by name. Add a method by adding a class and a line below."""

from collections.abc import Callable
from typing import Any

from entrocraft.control.controller import BatchStats, Controller, Decision, NoControl, Normalize, Prediction
from entrocraft.control.methods.entropic import EntroPICController
from entrocraft.control.methods.rejection import RejectionController, Rule
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band

_CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "entropic": EntroPICController,
    "none": NoControl,
    "rejection": RejectionController,
}


def available() -> list[str]:
    """Return the names that `build` knows."""
    return sorted(_CONTROLLERS)


def build(name: str, band: Band, **options: Any) -> Controller:
    """Build controller `name` on `band`.

    Raises:
        UnknownNameError: No controller has that name, or an option takes a word it does not know.
        InvalidValueError: The controller has no such option.

    Example:
        >>> from entrocraft import Band, constant
        >>> build("rejection", Band(constant(0.5), width=0.1), rule="predicted").rule
        'predicted'
    """
    if name not in _CONTROLLERS:
        raise UnknownNameError.of("controller", name, _CONTROLLERS)
    try:
        return _CONTROLLERS[name](band, **options)
    except TypeError as error:
        raise InvalidValueError(f"controller {name!r}: {error}") from error


__all__ = [
    "BatchStats",
    "Controller",
    "Decision",
    "EntroPICController",
    "NoControl",
    "Normalize",
    "Prediction",
    "RejectionController",
    "Rule",
    "available",
    "build",
]
