"""What an engine can carry out and what it can tell, held against what a method asks: once, before anything loads."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from inspect import signature

from entrocraft.control.decision import TURNABLE
from entrocraft.control.methods import METHODS, Method
from entrocraft.control.signals import SIGNALS
from entrocraft.errors import InvalidValueError

PREFERRED = ("token", "budget", "predicted")
"""Methods that may be the default, the best first."""
BETTER_WITH = {"visitation": "budget"}
"""By option: the method that is better with it, as measured (docs/tracking.md, the hard case)."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine, as a run has set it up, can do."""

    engine: str
    """The engine, in words."""
    carries: frozenset[str]
    """What decisions may set; see `Method.turns`."""
    offers: frozenset[str]
    """Signals that it can make; see `Method.needs`."""
    why_not: Mapping[str, str] = field(default_factory=dict)
    """For what it does not carry or offer: the reason, and what to do."""

    @classmethod
    def all_but(cls, engine: str, why_not: Mapping[str, str]) -> "Capabilities":
        """Return those of an engine that can do all that there is, but for what `why_not` has a reason against."""
        carries, offers = TURNABLE.difference(why_not), frozenset(SIGNALS).difference(why_not)
        return cls(engine=engine, carries=carries, offers=offers, why_not=why_not)

    def check(self, method: Method, name: str) -> None:
        """Refuse a method that turns what the engine cannot carry out, or needs what it cannot tell.

        Raises:
            InvalidValueError: The message names the engine, what is missing, and what to do.
        """
        for asked, able, does in ((method.turns, self.carries, "sets"), (method.needs, self.offers, "needs")):
            for missing in sorted(asked - able):
                reason = self.why_not.get(missing, f"choose a method without, of {', '.join(self.fitting())}")
                raise InvalidValueError(f"method {name!r} {does} {missing}, which {self.engine} cannot: {reason}")

    def fitting(self) -> list[str]:
        """Return the methods of this library that the engine can carry out with their default options."""
        methods = {name: method() for name, method in METHODS.items()}
        return [name for name, m in methods.items() if m.turns <= self.carries and m.needs <= self.offers]


def default_method(capabilities: Capabilities | None = None, options: Collection[str] = ()) -> str:
    """Return the method of a run that names none: the best one that has the options given and that the engine carries.

    Example:
        >>> default_method(), default_method(options=["visitation"])
        ('token', 'budget')
    """
    preferred = [*(BETTER_WITH[option] for option in options if option in BETTER_WITH), *PREFERRED]
    fitting = [name for name in preferred if capabilities is None or _fits(METHODS[name](), capabilities)]
    candidates = fitting or preferred
    having = [name for name in candidates if set(options) <= signature(METHODS[name]).parameters.keys()]
    return (having or candidates)[0]


def warn_of_one_update(method: Method, name: str, remedy: str, stacklevel: int) -> None:
    """Warn, if a method acts on the ratio of new to old probabilities, that one update per batch leaves it at 1."""
    if method.acts_on_ratio:
        warnings.warn(
            f"method {name!r} acts on the ratio of new to old probabilities, which is 1 where each batch of rollouts "
            f"makes one update: this run is plain GRPO. {remedy}",
            stacklevel=stacklevel + 1,
        )


def _fits(method: Method, capabilities: Capabilities) -> bool:
    """Return whether the engine carries the method, and measures entropy as often as the method counts on.

    What else a method needs does not make another one the default: a person is told what to change.
    """
    is_fresh = "fresh_entropy" in capabilities.offers or "fresh_entropy" not in method.needs
    return method.turns <= capabilities.carries and is_fresh
