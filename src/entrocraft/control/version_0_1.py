"""What version 0.1 wrote, in today's words: the state in a checkpoint, and the settings in a run's `config.json`."""

from collections.abc import Mapping
from typing import Any

METHOD_OF_RULE = {"aligned": "predicted"}
"""Rules that are methods under another name; the others kept theirs."""
_COURSE = ("initial_entropy", "progress", "pace", "guard", "grad_norm", "steered_to")
_OPTIONS_OF_RULES = {
    "normalize": "kept",
    "reward_baseline": 0.0,
    "visitation": False,
    "min_kept": 0.1,
    "fallback": "skip",
    "entropy_bonus": 0.0,
}
"""Options that were written for every method, with the values that said nothing."""
_ALWAYS_WRITTEN = {"method", "normalize", "reward_baseline", "rejected"}
"""Settings by which a configuration that version 0.1 wrote is known: no person names all of them."""
_SETTINGS = {"predictor": "estimate", "aligned_share": 1.0, "rejected": "drop"}


def state_from_0_1(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a controller's state as today's controllers save it; one of today is returned as it is.

    Version 0.1 kept course, method and counts in one mapping, and named the method by what it held.
    """
    if "initial_entropy" not in state or "counts" not in state:
        return state
    if "rule" in state:
        method = METHOD_OF_RULE.get(state["rule"], state["rule"])
    else:
        method = "entropic" if "integral" in state else "none"
    own = {name: value for name, value in state.items() if name not in (*_COURSE, "counts", "rule")}
    if method == "reward":
        own = {}  # what its fallback counted: nothing
    if "plant" in own:
        own["plant"] = {_PLANT.get(name, name): value for name, value in own["plant"].items()}
    course = {name: state[name] for name in _COURSE if name in state}
    return {"method": method, "counts": {"uncounted": 0, **state["counts"]}, "course": course, "state": own}


_PLANT = {"restlessness": "process_noise_scale"}


def settings_from_0_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of entropy control without the defaults that version 0.1 wrote for every method.

    Whoever names an option that the method does not have is told so; a run directory of version 0.1 names them all.

    Example:
        >>> settings_from_0_1({"method": "entropic", "min_kept": 7.0})  # a person's
        {'method': 'entropic', 'min_kept': 7.0}
    """
    if not settings.keys() >= _ALWAYS_WRITTEN:
        return dict(settings)
    silent = _OPTIONS_OF_RULES | _SETTINGS
    return {name: value for name, value in settings.items() if silent.get(name, ...) != value}
