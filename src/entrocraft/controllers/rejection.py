"""Rejection of rollouts: the paper's Algorithm 1, the authors' variant of it, and a sharper rule."""

import warnings
from typing import Literal, cast, get_args

import torch

from entrocraft.controllers.base import BatchStats, Controller, Decision, Normalize, check_normalize
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band

Rule = Literal["advantage", "reward", "predicted", "aligned"]


class RejectionController(Controller):
    """Out of the band, keep only the rollouts that move entropy back towards it.

    With `m = 1[H > upper] - 1[H < lower]`, rollout i of advantage A_i and predicted entropy change dH_i:

    - `advantage`: keep iff `m * A_i >= 0` (Algorithm 1). Sound where sampled tokens are confident
      (Theorem 2): then positive advantages lower entropy and negative ones raise it.
    - `reward`: keep iff `m * (R_i - reward_baseline) > 0`, and use `R_i - reward_baseline` as the
      advantage. This is what the authors' code does: above the band `max(R, 0)` (RAFT++), below it
      `min(R, 0)` (NSR), on raw rewards of -1 and 1. Set `reward_baseline=0.5` for rewards of 0 and 1.
    - `predicted`: keep iff `m * dH_i <= 0`. It follows from the same theory with no assumption about
      confidence, and keeps rare successes below the band and rare failures above it.
    - `aligned`: the same, for predictions that also see what rollouts share, parameters and visitation.
      It is here for callers who bring such predictions; the TRL engine does not make them yet.

    Inside the band (m = 0) everything is kept, whatever the rule. A rollout of zero advantage is always
    kept by `advantage` and `predicted`. If nothing is kept, the decision is empty, says so in a warning
    once, and is counted.

    Args:
        band: Where entropy should be.
        rule: See above.
        normalize: What the loss is averaged over: `kept` rollouts (Eq. 5), or `all`, as the authors'
            code does, where rejecting also shortens the step.
        reward_baseline: For rule `reward` only: what a neutral reward is.

    Raises:
        UnknownNameError: There is no such rule or normalisation.
        InvalidValueError: At decision time, the statistics lack what the rule needs.

    Example:
        >>> from entrocraft import Band, BatchStats, RejectionController, constant
        >>> controller = RejectionController(Band(constant(0.5), width=0.1))
        >>> stats = BatchStats(step=1, total_steps=10, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> controller.decide(stats).keep  # entropy is low: learn from failures
        tensor([False,  True])
    """

    def __init__(
        self,
        band: Band,
        rule: Rule = "advantage",
        normalize: Normalize = "kept",
        reward_baseline: float = 0.0,
    ):
        super().__init__(band)
        if rule not in get_args(Rule):
            raise UnknownNameError.of("rejection rule", rule, get_args(Rule))
        self.rule = rule
        self.normalize = check_normalize(normalize)
        self.reward_baseline = reward_baseline
        self.predictor_needed = rule in ("predicted", "aligned")
        self.rewards_needed = rule == "reward"
        self._warned_no_negative = False

    def _decide(self, stats: BatchStats, direction: int) -> Decision:
        advantages = stats.advantages
        if direction == 0:
            keep = torch.ones_like(advantages, dtype=torch.bool)
        elif self.rule == "advantage":
            keep = direction * advantages >= 0
        elif self.predictor_needed:
            if stats.predicted_change is None:
                raise InvalidValueError(
                    f"rule {self.rule!r} needs BatchStats.predicted_change: compute it with "
                    "predicted_entropy_change, or use rule 'advantage'"
                )
            keep = direction * stats.predicted_change <= 0
        else:
            if stats.rewards is None:
                raise InvalidValueError("rule 'reward' needs BatchStats.rewards, the raw rewards")
            advantages = (stats.rewards - self.reward_baseline).to(advantages.dtype)
            keep = direction * advantages > 0
            self._warn_if_rewards_cannot_raise_entropy(stats, direction)
        return Decision(
            keep=keep,
            advantages=torch.where(keep, advantages, torch.zeros_like(advantages)),
            normalize=self.normalize,
        )

    def _warn_if_rewards_cannot_raise_entropy(self, stats: BatchStats, direction: int) -> None:
        rewards = cast(torch.Tensor, stats.rewards) - self.reward_baseline
        failures_score_zero = bool((rewards >= 0).all()) and bool((rewards == 0).any())
        if direction > 0 or not failures_score_zero or self._warned_no_negative:
            return
        self._warned_no_negative = True
        warnings.warn(
            f"rule 'reward': entropy is below the band and no reward is below {self.reward_baseline:g}, so "
            "nothing can raise it. The rule expects failures to score less than `reward_baseline`: "
            "for rewards of 0 and 1 set reward_baseline=0.5.",
            stacklevel=2,
        )
