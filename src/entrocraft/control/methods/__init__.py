"""Methods by name. Add one by adding a module and a line below."""

from collections.abc import Mapping
from inspect import isclass, signature
from typing import Any

from entrocraft.control.methods.adaptive_clip import AdaptiveClip
from entrocraft.control.methods.adaptive_temperature import AdaptiveTemperature
from entrocraft.control.methods.aent import AEnt
from entrocraft.control.methods.bapo import Bapo
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.methods.budget import Budget
from entrocraft.control.methods.ce_gppo import CeGppo
from entrocraft.control.methods.clip_b import ClipB
from entrocraft.control.methods.clip_cov import ClipCov
from entrocraft.control.methods.clip_higher import ClipHigher
from entrocraft.control.methods.ds_grpo import DsGrpo
from entrocraft.control.methods.entropic import Entropic, EntropicPort, EntropicReleased
from entrocraft.control.methods.entropy_bonus import EntropyBonus, FixedBonus
from entrocraft.control.methods.flexible_clip import FlexibleClip
from entrocraft.control.methods.grpo_dropout import GrpoDropout
from entrocraft.control.methods.kl_cov import KlCov
from entrocraft.control.methods.learning_rate import LearningRate
from entrocraft.control.methods.none import NoControl
from entrocraft.control.methods.probabilistic import Probabilistic
from entrocraft.control.methods.rate_and_token import RateAndToken
from entrocraft.control.methods.repo_r import RepoR
from entrocraft.control.methods.reward import Reward
from entrocraft.control.methods.sign import Advantage, Predicted
from entrocraft.control.methods.siren import Siren
from entrocraft.control.methods.stare import Stare
from entrocraft.control.methods.steer_weights import SteerWeights
from entrocraft.control.methods.token import Token
from entrocraft.control.methods.ucpo import Ucpo
from entrocraft.errors import InvalidValueError, UnknownNameError

METHODS: dict[str, type[Method]] = {
    "adaptive_clip": AdaptiveClip,
    "adaptive_temperature": AdaptiveTemperature,
    "advantage": Advantage,
    "aent": AEnt,
    "bapo": Bapo,
    "budget": Budget,
    "ce_gppo": CeGppo,
    "clip_b": ClipB,
    "clip_cov": ClipCov,
    "clip_higher": ClipHigher,
    "ds_grpo": DsGrpo,
    "entropic": Entropic,
    "entropic_port": EntropicPort,
    "entropic_released": EntropicReleased,
    "entropy_bonus": EntropyBonus,
    "fixed_bonus": FixedBonus,
    "flexible_clip": FlexibleClip,
    "grpo_dropout": GrpoDropout,
    "kl_cov": KlCov,
    "learning_rate": LearningRate,
    "none": NoControl,
    "predicted": Predicted,
    "probabilistic": Probabilistic,
    "rate_and_token": RateAndToken,
    "repo_r": RepoR,
    "reward": Reward,
    "siren": Siren,
    "stare": Stare,
    "steer_weights": SteerWeights,
    "token": Token,
    "ucpo": Ucpo,
}
"""All methods of this library; one of a user's own is named by its import path, `my_package.mine:MyMethod`."""


def method_class(name: str | type[Method]) -> type[Method]:
    """Return the class of a method: one of `METHODS`, or what an import path names.

    Raises:
        UnknownNameError: No method has that name.
        InvalidValueError: The path cannot be imported, or what it names is no `Method`.

    Example:
        >>> method_class("token").__name__, method_class("entrocraft.control.methods.token:Token").__name__
        ('Token', 'Token')
    """
    found: Any = name
    if isinstance(name, str):
        if name in METHODS:
            return METHODS[name]
        if ":" not in name:
            raise UnknownNameError.of("method", name, METHODS)
        from entrocraft.registry import load_object

        found = load_object(name, "method")
    if not isclass(found) or not issubclass(found, Method):
        raise InvalidValueError(f"method {name!r}: expected a class derived from entrocraft.Method, got {found!r:.80}")
    return found


def build_method(name: str | type[Method], options: Mapping[str, Any], momentum: float | None = None) -> Method:
    """Build a method with its options, which are checked by the names and types of its constructor's arguments.

    Args:
        name: One of `METHODS`, an import path, or a class.
        options: The method's own.
        momentum: Share of an update's effect that the optimizer carries to the next decision, for a method that takes
            it and is not told otherwise.

    Raises:
        UnknownNameError: There is no such method, or it has no such option.
        InvalidValueError: The path cannot be imported or names no method; an option is of another type or out of range.

    Example:
        >>> build_method("token", {"min_kept": 0.2}).min_kept
        0.2
    """
    from entrocraft.registry import build_with

    found = method_class(name)
    if momentum is not None and "momentum" in signature(found).parameters:
        options = {"momentum": momentum} | dict(options)
    method = build_with(found, options, f"method {name_of(name)!r}")
    check_needs(method, name_of(name))
    return method


def name_of(name: str | type[Method]) -> str:
    """Return a method's name as text: of a class, its import path."""
    return name if isinstance(name, str) else f"{name.__module__}:{name.__qualname__}"


def check_needs(method: Method, name: str) -> None:
    """Refuse a method that needs or turns what nobody knows.

    Raises:
        UnknownNameError: There is no such signal or setting; the message has the nearest.
        InvalidValueError: They are no set of names, or there is a surrogate that `turns` does not name.
    """
    from entrocraft.control.decision import TURNABLE
    from entrocraft.control.signals import SIGNALS

    for field, words, example in (("needs", method.needs, "rewards"), ("turns", method.turns, "rollouts")):
        if not isinstance(words, frozenset | set) or not all(isinstance(word, str) for word in words):
            raise InvalidValueError(
                f"method {name!r}: `{field}` must be a set of names, such as frozenset({{{example!r}}}), got "
                f"{words!r:.80}"
            )
    for need in sorted(set(method.needs) - SIGNALS.keys()):
        raise UnknownNameError.of(f"signal that method {name!r} needs", need, SIGNALS)
    for turn in sorted(set(method.turns) - TURNABLE):
        raise UnknownNameError.of(f"setting that method {name!r} turns", turn, TURNABLE)
    if type(method).surrogate is not Method.surrogate and "surrogate" not in method.turns:
        raise InvalidValueError(
            f"method {name!r} has a surrogate, and says that it turns {', '.join(sorted(method.turns)) or 'nothing'}; "
            "add 'surrogate' to `turns`, for engines to know"
        )


__all__ = ["METHODS", "Method", "Total", "build_method", "check_needs", "method_class", "name_of"]
