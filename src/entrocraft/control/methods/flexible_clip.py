"""Flexible Entropy Control: clip ranges that are wide for rare tokens and narrow for likely ones."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.states import check_state
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import MOST, checked_number

Strategy = Literal["curve", "id", "did", "od"]


class Threshold(NamedTuple):
    """How far a token's ratio may go, `slope * p + intercept`, by its probability p."""

    slope: float
    intercept: float

    def of(self, probs: Tensor) -> Tensor:
        """Return the threshold of each token."""
        return self.slope * probs + self.intercept


class FlexibleClip(Method):
    """Clip the ratio less the rarer the token: upwards to raise entropy, downwards to lower it, by a strategy.

    With a token's probability p under the policy of the moment and its ratio r of that to the old one, the dynamic
    thresholds are `H(p) = upper_slope p + upper_intercept` and `M(p) = lower_slope p + lower_intercept`. Tokens have no
    gradient if `A > 0` and `r > 1 + E+(p)`, or if `A < 0` and `r < 1 - E-(p)`, where a strategy sets two shares:

        E+ = up * H + (1 - up) * clip,    E- = down * M + (1 - down) * clip.

    - `curve`, this library's, and `od`, the source's "oscillatory decay": a switch, up 1 and down 0 from when entropy
      is at `low` or below it, up 0 and down 1 from when it is above `high`. For `curve` these are the edges of the
      schedule's band. For `od` they are `floor * H0` and `floor * H0 + (1 - floor) * H0 * (1 - k/T)`, with the entropy
      H0 of the first batch, and step k of T.
    - `id`, "increase then decrease", with the source's lambda, `m = 1 - 2k/T`: up m and down 0 in the first half of the
      run, then up 0 and down `1 + m`.
    - `did`, "decrease, increase, decrease": up `1 - m` and down 0 in the first half, then up 1 and down `1 + m`.

    Under `id`, `did` and `od` the curve is watched and not followed. In the first update on a batch the ratio is 1:
    with one update per batch this is plain GRPO.

    Args:
        strategy: `curve`, which follows the schedule, or one of the source's own: `id`, `did` or `od`.
        upper_slope: What the upper threshold changes by from rare to sure tokens, at most 0.
        upper_intercept: Upper threshold of the rarest tokens, at least `-upper_slope`.
        lower_slope: What the lower threshold changes by from rare to sure tokens, at most 0.
        lower_intercept: Lower threshold of the rarest tokens, from `-lower_slope` to 1.
        clip: Threshold where none is dynamic, in [0, 1].
        floor: Least entropy under `od`, in multiples of the first batch's, in [0, 1].

    Raises:
        UnknownNameError: There is no such strategy.
        InvalidValueError: A number is out of range.

    Degenerate cases: until entropy has been at the one edge or the other, a switch is at neither, and both thresholds
    are `clip`. `id`, `did` and `od` refuse a goal that does not say how much of the run is over.

    Source: arXiv 2602.09782, by the equations in its first author's account of it, with `floor` from there. That does
    not give slopes and intercepts, and the authors' repository holds no code yet: the numbers are those of Tencent's
    IterSynth, whose launch script sets this method up. Its limits of 0.05 and 0.6 on thresholds are not taken over,
    which with these numbers change nothing; nor is its fixed H0. Deviations: k counts optimizer steps as schedules do,
    and moves with the batch; entropy is the batch's, before its update; the source says nothing of where its switch
    stands at first; thresholds have no gradient of their own.

    Example:
        >>> zeros, ones = torch.zeros(1, 2), torch.ones(1, 2)
        >>> columns = {"entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
        >>> rare_and_likely = torch.tensor([[0.1, 0.8]]).log()
        >>> old = rare_and_likely - torch.tensor([[1.4, 1.4]]).log()  # both have become 1.4 times as likely
        >>> seen = MiniBatch(log_probs_BT=rare_and_likely, old_log_probs_BT=old, **columns)
        >>> method, low = FlexibleClip(), Batch(step=1, entropy=0.3, advantages=torch.ones(1))
        >>> decision = method.decide(low, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> method.surrogate(seen, decision, lambda sums: sums).advantages_BT  # up to 1.475 and 1.3
        tensor([[1., 0.]])
    """

    turns = frozenset({"surrogate"})
    acts_on_ratio = True

    def __init__(
        self,
        strategy: Strategy = "curve",
        upper_slope: float = -0.25,
        upper_intercept: float = 0.5,
        lower_slope: float = -0.13,
        lower_intercept: float = 0.3,
        clip: float = 0.2,
        floor: float = 0.2,
    ):
        if strategy not in get_args(Strategy):
            raise UnknownNameError.of("strategy", strategy, get_args(Strategy))
        self.strategy = strategy
        self.upper = _checked_threshold("upper", upper_slope, upper_intercept, most=MOST)
        self.lower = _checked_threshold("lower", lower_slope, lower_intercept, most=1.0)  # ratios are positive
        self.clip, self.floor = checked_number("clip", clip, maximum=1.0), checked_number("floor", floor, maximum=1.0)
        self.initial_entropy: float | None = None
        self.is_raising: bool | None = None
        """Where the switch stands: up, down, or neither yet."""

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        if self.initial_entropy is None:
            self.initial_entropy = batch.entropy
        up, down = self._shares(batch.entropy, goal)
        note = self._mixed(self.upper, up), self._mixed(self.lower, down)
        return Decision.everything(batch, note=note, metrics={"strength": up - down})

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate:
        """Return the advantages, 0 for tokens beyond their own range."""
        upper, lower = decision.note
        ratio_BT, own_BT = seen.ratio_BT, seen.advantages_BT
        probs_BT = seen.log_probs_BT.masked_fill(~seen.mask_BT.bool(), 0.0).exp()
        is_above_BT, is_below_BT = ratio_BT > 1.0 + upper.of(probs_BT), ratio_BT < 1.0 - lower.of(probs_BT)
        return Surrogate(advantages_BT=own_BT.masked_fill(torch.where(own_BT > 0, is_above_BT, is_below_BT), 0.0))

    def _shares(self, entropy: float, goal: Goal) -> tuple[float, float]:
        """Return how much of the upper and of the lower threshold is dynamic in this update."""
        if self.strategy == "curve":
            return self._switched(entropy, goal.lower, goal.upper)
        if goal.elapsed is None:
            raise InvalidValueError(
                f"strategy {self.strategy!r} goes by how much of the run is over, which this goal does not say: give "
                "Goal(..., elapsed=step / total_steps), or choose strategy 'curve'"
            )
        if self.strategy == "od":
            first = self.initial_entropy or 0.0
            low = self.floor * first
            return self._switched(entropy, low, low + (first - low) * (1.0 - goal.elapsed))
        m = 1.0 - 2.0 * goal.elapsed
        if self.strategy == "id":
            return (m, 0.0) if m >= 0.0 else (0.0, 1.0 + m)
        return (1.0 - m, 0.0) if m >= 0.0 else (1.0, 1.0 + m)

    def _switched(self, entropy: float, low: float, high: float) -> tuple[float, float]:
        if entropy <= low:
            self.is_raising = True
        elif entropy > high:
            self.is_raising = False
        return float(self.is_raising is True), float(self.is_raising is False)

    def _mixed(self, dynamic: Threshold, share: float) -> Threshold:
        return Threshold(share * dynamic.slope, share * dynamic.intercept + (1.0 - share) * self.clip)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"initial_entropy": self.initial_entropy, "is_raising": self.is_raising}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of flexible clipping", state, self.state_dict())
        first = state["initial_entropy"]
        self.initial_entropy = None if first is None else float(first)
        self.is_raising = state["is_raising"]


def _checked_threshold(edge: str, slope: float, intercept: float, most: float) -> Threshold:
    slope = checked_number(f"{edge}_slope", slope, minimum=-most, maximum=0.0)
    # A negative threshold would clip tokens that have not moved.
    return Threshold(slope, checked_number(f"{edge}_intercept", intercept, minimum=-slope, maximum=most))
