"""The learning rate follows the curve, and tokens are left out where no rate within its limits would."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.methods.learning_rate import LearningRate
from entrocraft.control.methods.token import Token
from entrocraft.control.states import check_state


class RateAndToken(Method):
    """Scale the learning rate as `LearningRate` does, and leave tokens out as `Token` does while it is at a limit.

    Most of the fall of entropy comes from steps that are too large, and smaller ones cost nothing but time. So the rate
    comes first. What it cannot do is hold entropy against what is learnt, or hurry it down: then the rate waits at
    `least` or `most`, and tokens are chosen with the effect in mind that they have at that rate.

    Args:
        start: Factor on the learning rate of the first update; see `LearningRate`.
        least: Smallest factor. Where a curve holds entropy, this is how fast one learns.
        most: Greatest factor.
        gain: Factor on the gains of the rate's loop.
        min_kept: Share of the tokens with a gradient that is kept at least, in (0, 1].
        momentum: Share of an update's effect that the optimizer carries to the next decision, in [0, 1).

    Raises:
        InvalidValueError: A number is out of range, or they are out of order.

    Degenerate cases: as those of `LearningRate` and of `Token`.

    Source: not in the paper; docs/control.md, "The learning rate as the means".

    Example:
        >>> import torch
        >>> from entrocraft.control.planning.ranking import binned
        >>> change = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, 4.0])  # of six tokens
        >>> signals = {"advantages": torch.ones(2), "change": torch.zeros(2), "reading": binned(change)}
        >>> goal = Goal(lower=0.48, target=0.5, upper=0.52)
        >>> method = RateAndToken(start=0.5, least=0.1)
        >>> on_the_curve = method.decide(Batch(step=1, entropy=0.5, **signals), goal)
        >>> on_the_curve.knobs, on_the_curve.kept_share
        ({'learning_rate': 0.5}, 1.0)
        >>> far_below = method.decide(Batch(step=2, entropy=0.3, **signals), goal)
        >>> round(far_below.knobs["learning_rate"], 3), far_below.kept_share  # tokens that lower entropy are left out
        (0.1, 0.5)
    """

    def __init__(
        self,
        start: float = 0.3,
        least: float = 0.1,
        most: float = 1.0,
        gain: float = 1.0,
        min_kept: float = 0.1,
        momentum: float = 0.9,
    ):
        self._rate = LearningRate(start, least, most, gain)
        self._token = Token(min_kept=min_kept, momentum=momentum)
        self.needs, self.turns = self._token.needs, self._token.turns | self._rate.turns

    def read(self, tokens: Tokens, total: Total) -> Tensor:
        """Return what `Token.read` does."""
        return self._token.read(tokens, total)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        rate = self._rate.decide(batch, goal)
        factor = rate.knobs["learning_rate"]
        decision = self._token.decide_at(factor, batch, goal, leaves_out=self._rate.is_at_limit)
        return replace(decision, knobs=rate.knobs, metrics=decision.metrics | rate.metrics)

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return what `Token.weigh` does."""
        return self._token.weigh(tokens, decision)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"rate": self._rate.state_dict(), "token": self._token.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of the rate and tokens", state, self.state_dict())
        self._rate.load_state_dict(state["rate"])
        self._token.load_state_dict(state["token"])
