"""STARE: below the target, the rarest of the rewarded tokens count for more."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.methods.order import kth_largest
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number

SIGNS = (1, -1)
_ROUNDING = 1e-6  # a share of 0.1 of 30 tokens is 3, and not 4


class Stare(Method):
    """Below the target, weigh the rarest rewarded tokens up, and the rarest punished ones down if asked.

    The `share` of greatest surprisal, `ceil(share * N)` of the N counted tokens of positive advantage, gets the factor
    `weight`; with `two_sided`, that of negative advantage gets `negative_weight`. At or above the target all factors
    are 1: the curve is a floor, and nothing lowers entropy. With `adaptive` the weights move at each decision,

        weight <- clip(weight + step * sign(H* - H), 1, most),
        negative_weight <- clip(negative_weight - step * sign(H* - H), least, 1).

    Args:
        share: Share of the tokens of one sign that is weighed, in [0, 1].
        weight: Factor on the rarest tokens of positive advantage, in [1, most].
        negative_weight: Factor on the rarest tokens of negative advantage, in [least, 1]; for `two_sided` alone.
        two_sided: Weigh tokens of negative advantage, too.
        adaptive: Let the weights move.
        step: How far the weights move at each decision; for `adaptive` alone, as the limits are.
        most: Greatest `weight`.
        least: Smallest `negative_weight`.

    Raises:
        InvalidValueError: A number is out of range.

    Degenerate cases: without a token of one sign none of that sign is weighed; where there is one, at least one is.
    Tokens as rare as the last one chosen are chosen with it.

    Source: arXiv 2606.19236 and its code, which was read: variants O1 and C2 (`two_sided`), with its defaults; its
    target of 0.3 nats is the schedule's here. Deviations: tokens are chosen among the whole batch's, by the policy that
    sampled, once per batch, where its code chooses again in each micro-batch by the policy of the moment.

    Example:
        >>> ones = torch.ones(1, 4)
        >>> log_probs = torch.tensor([[-0.1, -3.0, -0.2, -1.0]])
        >>> tokens = Tokens(log_probs_BT=log_probs, entropy_BT=ones, advantages_BT=ones, mask_BT=ones)
        >>> method = Stare(share=0.25)
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(1), reading=method.read(tokens, lambda x: x))
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))
        tensor([[1.0000, 1.1000, 1.0000, 1.0000]])
    """

    needs = frozenset({"surprisal"})
    turns = frozenset({"tokens"})
    normalize = "all"  # what is weighed is still counted

    def __init__(
        self,
        share: float = 0.1,
        weight: float = 1.1,
        negative_weight: float = 0.9,
        two_sided: bool = False,
        adaptive: bool = False,
        step: float = 0.01,
        most: float = 1.5,
        least: float = 0.5,
    ):
        self.share, self.step = checked_number("share", share), checked_number("step", step)
        self.weight, self.most = checked_number("weight", weight), checked_number("most", most)
        self.negative_weight = checked_number("negative_weight", negative_weight)
        self.least = checked_number("least", least)
        if self.share > 1.0 or not 1.0 <= self.weight <= self.most or not self.least <= self.negative_weight <= 1.0:
            raise InvalidValueError(
                f"expected share <= 1, 1 <= weight <= most and least <= negative_weight <= 1, got {share}, "
                f"{weight}, {most}, {least} and {negative_weight}"
            )
        self.two_sided, self.adaptive = two_sided, adaptive

    def read(self, tokens: Tokens, total: Total) -> tuple[float, float]:
        """Return, for positive and for negative advantages, the surprisal from which on a token is weighed."""
        mask_BT = tokens.mask_BT.bool()
        chosen = [mask_BT & (torch.sign(tokens.advantages_BT) == sign) for sign in SIGNS]
        counts = total(torch.stack([chosen_BT.sum() for chosen_BT in chosen]).cpu().double()).tolist()
        thresholds = []
        for chosen_BT, count in zip(chosen, counts, strict=True):
            # All ranks know the counts, and so whether to look for the threshold together.
            k = max(1, math.ceil(self.share * count - _ROUNDING)) if self.share and count else 0
            thresholds.append(kth_largest(tokens.surprisal_BT[chosen_BT], k, total) if k else math.inf)
        return cast(tuple[float, float], tuple(thresholds))

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        if self.adaptive and batch.entropy != goal.target:
            step = math.copysign(self.step, goal.target - batch.entropy)
            self.weight = min(self.most, max(1.0, self.weight + step))
            self.negative_weight = min(1.0, max(self.least, self.negative_weight - step))
        is_low = batch.entropy < goal.target
        weights = (self.weight, self.negative_weight if self.two_sided else 1.0) if is_low else None
        note = None if weights is None else (weights, batch.reading)
        metrics = {"strength": self.weight if is_low else 1.0}
        return Decision.everything(batch, note=note, normalize=self.normalize, metrics=metrics)

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return the weights of the tokens chosen, 1 for the others; None at or above the target."""
        if decision.note is None:
            return None
        surprisal_BT = tokens.surprisal_BT.float().clamp(min=0.0)  # as thresholds are
        factors_BT = torch.ones_like(surprisal_BT)
        for sign, weight, threshold in zip(SIGNS, *decision.note, strict=True):
            factors_BT[(torch.sign(tokens.advantages_BT) == sign) & (surprisal_BT >= threshold)] = weight
        return factors_BT

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"weight": self.weight, "negative_weight": self.negative_weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of STARE", state, self.state_dict())
        self.weight, self.negative_weight = float(state["weight"]), float(state["negative_weight"])
