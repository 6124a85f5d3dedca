"""From a batch of rollouts to a decision, the same in every engine.

What the engine has to bring is what its framework knows of the rollouts; what it gets back is which of them, and
which of their tokens, the update may use.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import torch
from torch import Tensor

from entrocraft.control import EntropyControl
from entrocraft.control.planning.ranking import binned
from entrocraft.control.steering import SteeringFile, format_steering, parse_steering
from entrocraft.controllers import BatchStats, Controller, Decision, Normalize, Prediction
from entrocraft.dynamics import (
    QUADRANTS,
    estimated_entropy_sensitivity,
    estimated_self_kernel,
    quadrants,
    visitation_entropy_change,
)
from entrocraft.engines.ranks import Ranks
from entrocraft.engines.tokens import Scores
from entrocraft.entropy import entropy_from_sums, entropy_standard_error, entropy_sums
from entrocraft.errors import InvalidValueError, MeasurementError

logger = logging.getLogger(__name__)

_ROUNDING = 0.02
"""Advantages below this are rounding where all rewards of a prompt are equal: what a rounded mean leaves of them, over a
deviation that is rounding, too."""

RiseOfLogProbs = Callable[[float], Tensor]
"""Takes the entropy of the batch; returns how each token's log-probability (B, T) rises with the policy's entropy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """One rank's rollouts, as the update would use them if nothing were rejected."""

    scores: Scores
    advantages: Tensor
    """(B,), or (B, T) for one per token."""
    mask_BT: Tensor
    """1 where the loss counts a token."""

    @property
    def advantages_B(self) -> Tensor:
        """One advantage per rollout; of token-level ones, the mean over counted tokens."""
        if self.advantages.ndim == 1:
            return self.advantages
        return (self.advantages * self.mask_BT).sum(-1) / self.mask_BT.sum(-1).clamp(min=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ruling:
    """A decision, and what it means for the rollouts of this rank."""

    decision: Decision
    stats: BatchStats
    keep_B: Tensor
    """Which of this rank's rollouts enter the gradient."""
    advantages: Tensor
    """What the update must use, in the shape of the rollouts' own; those of rejected rollouts, or tokens, are 0."""

    @property
    def changes_nothing(self) -> bool:
        """True if the update is to be the one that would have been made without control."""
        decision, stats = self.decision, self.stats
        return (
            bool(decision.keep.all())
            and torch.equal(decision.advantages, stats.advantages)
            and decision.token_limits is None
            and not decision.entropy_coef
        )

    def loss_scale(self, *, by_tokens: bool) -> float:
        """Return the factor from a loss averaged over all rollouts, or all of their tokens, to what was decided."""
        return self.decision.loss_scale(self.stats.num_tokens if by_tokens else None)


class Decider:
    """Asks the controller about each batch, and tells it what it needs to know.

    Args:
        controller: Decides.
        control: The settings it was built from.
        ranks: Among which the batch is divided.
        by_rollout: True if the loss averages over each rollout's tokens before it averages over rollouts, so that
            rollouts weigh alike; False if all tokens do.
        other_terms: True if the loss has terms that rollouts feel whatever their advantage: KL, an entropy bonus.
    """

    def __init__(
        self,
        controller: Controller,
        control: EntropyControl,
        ranks: Ranks,
        *,
        by_rollout: bool,
        other_terms: bool = False,
    ):
        self.controller = controller
        self._control, self._ranks, self._by_rollout, self._other_terms = control, ranks, by_rollout, other_terms
        self._steering = None if control.steering is None else SteeringFile(control.steering, control.band_width)

    def decide(
        self,
        rollouts: Rollouts,
        *,
        step: int,
        total_steps: int,
        groups: Tensor,
        rewards: Tensor | None = None,
        rise: RiseOfLogProbs | None = None,
    ) -> Ruling:
        """Return what the next update may use.

        Args:
            rollouts: This rank's.
            step: The optimizer step about to be made, counted from 1.
            total_steps: Optimizer steps of the whole run.
            groups: Index of the prompt that each rollout of all ranks answers.
            rewards: One per rollout of all ranks. Where a prompt's are all equal, advantages that rounding left are 0.
            rise: For predictions that come from the model's own response; otherwise they are made from the scores.

        Raises:
            MeasurementError: Entropy, an advantage or a prediction is not finite; the message names the step.
        """
        self._follow_steering(step)
        rollouts = self._without_rounding(rollouts, rewards, groups)
        mask_BT, advantages_B = rollouts.mask_BT, rollouts.advantages_B
        scores = self._completed(rollouts.scores, mask_BT, estimated=rise is None)
        sums, counts, advantages = self._ranks.gathered(*entropy_sums(scores.entropy_BT, mask_BT), advantages_B)
        try:
            entropy = entropy_from_sums(sums, counts, self._control.aggregation)
        except MeasurementError as error:
            raise MeasurementError(f"step {step}: {error}") from error

        change_BT = cache(lambda: self._token_changes(rollouts, scores, entropy, rise))
        stats = BatchStats(
            step=step,
            total_steps=total_steps,
            entropy=entropy,
            advantages=advantages,
            rewards=rewards if self.controller.rewards_needed else None,
            groups=groups,
            num_tokens=counts,
            entropy_stderr=entropy_standard_error(sums, counts, groups),
            num_ranks=self._ranks.count,
            **self._predictions(scores, change_BT, advantages_B, mask_BT, entropy),
        )
        decision = self.controller.decide(stats)
        if self._steering is not None:
            decision.metrics.update(
                steering_accepted=float(self._steering.accepted), steering_refused=float(self._steering.refused)
            )
        decision.metrics["num_tokens"] = counts.sum().item()
        kept_BT = mask_BT * self._ranks.local(decision.keep).to(mask_BT)[:, None]
        if decision.token_limits is not None:
            low, high = decision.token_limits
            kept_BT = kept_BT * ((change_BT() == 0) | ((change_BT() >= low) & (change_BT() <= high)))
        decision.metrics.update(self._quadrants(scores, advantages_B, mask_BT, kept_BT, decision.normalize))
        if decision.token_limits is not None:
            return self._without_tokens(rollouts, decision, stats, kept_BT)
        return self._without_rollouts(rollouts, decision, stats)

    def _without_rounding(self, rollouts: Rollouts, rewards: Tensor | None, groups: Tensor) -> Rollouts:
        """Return the rollouts with advantages of exactly 0 where there is nothing to compare: rules act on signs."""
        if rewards is None:
            return rollouts
        prompts, index_B = groups.unique(return_inverse=True)
        highest_P = torch.full((len(prompts),), -torch.inf, dtype=rewards.dtype)
        lowest_P = -highest_P
        highest_P.scatter_reduce_(0, index_B, rewards, "amax")
        lowest_P.scatter_reduce_(0, index_B, rewards, "amin")
        own = rollouts.advantages
        equal_B = self._ranks.local((highest_P == lowest_P)[index_B]).to(own.device)
        is_rounding = equal_B.view(-1, *[1] * (own.ndim - 1)) & (own.abs() < _ROUNDING)
        return replace(rollouts, advantages=own.masked_fill(is_rounding, 0.0))

    def _follow_steering(self, step: int) -> None:
        """Follow the steering file if a person has changed it; the main rank looks, and all ranks do the same."""
        if self._steering is None:
            return
        seen = self._steering.poll() if self._ranks.is_main else None
        text = self._ranks.from_main(None if seen is None else format_steering(seen))
        if text is None:
            return
        band = parse_steering(text, self._steering.width)
        if band == self.controller.band:
            return
        try:
            self.controller.steer(band)
        except InvalidValueError as error:
            self._steering.refuse(error)
            return
        logger.info("step %d: following %r from %s", step, band, self._steering.path)

    def _completed(self, scores: Scores, mask_BT: Tensor, *, estimated: bool) -> Scores:
        """Return the scores with what the predictions of the controller are made of."""
        if scores.sensitivity_BT is not None:
            return scores  # exact
        estimates = {}
        if self.controller.predictor_needed and estimated:
            estimates["sensitivity_BT"] = estimated_entropy_sensitivity(scores.log_probs_BT, scores.entropy_BT, mask_BT)
        if self.controller.visitation_needed:
            estimates["self_kernel_BT"] = estimated_self_kernel(scores.log_probs_BT, scores.entropy_BT, mask_BT)
        return replace(scores, **estimates)

    def _predictions(
        self,
        scores: Scores,
        change_BT: Callable[[], Tensor],
        advantages_B: Tensor,
        mask_BT: Tensor,
        entropy: float,
    ) -> dict[str, Prediction]:
        """Return what the controller may ask of all ranks, made when asked for."""

        def visitation() -> Tensor:
            change_B = visitation_entropy_change(
                cast(Tensor, scores.self_kernel_BT), scores.entropy_BT, advantages_B, mask_BT, entropy
            )
            return self._ranks.gathered(change_B * self._loss_weights(mask_BT))[0]

        return {
            "predicted_change": lambda: self._ranks.gathered(change_BT().sum(-1))[0],
            "visitation_change": visitation,
            "token_change": lambda: self._ranks.summed(binned(change_BT()[mask_BT.bool()])),
        }

    def _token_changes(self, rollouts: Rollouts, scores: Scores, entropy: float, rise: RiseOfLogProbs | None) -> Tensor:
        """Return what each token's part in the update would change entropy by (B, T), 0 where the mask is."""
        mask_BT = rollouts.mask_BT
        rise_BT = -cast(Tensor, scores.sensitivity_BT) if rise is None else rise(entropy)
        rise_BT = rise_BT.masked_fill(~mask_BT.bool(), 0.0)  # what is masked may be NaN
        weights_B = self._loss_weights(mask_BT) / mask_BT.sum(-1).clamp(min=1)
        return rollouts.advantages.view(len(mask_BT), -1) * rise_BT * weights_B[:, None]

    def _loss_weights(self, mask_BT: Tensor) -> Tensor:
        """Return what each rollout weighs in the loss: its tokens, or 1 if the loss averages over each rollout's."""
        counts_B = mask_BT.sum(-1).float()
        return torch.ones_like(counts_B) if self._by_rollout else counts_B

    def _quadrants(
        self, scores: Scores, advantages_B: Tensor, mask_BT: Tensor, kept_BT: Tensor, normalize: Normalize
    ) -> dict[str, float]:
        """Return what each quadrant contributes to the change of entropy, in the whole batch and in what is kept."""
        sensitivity_BT = scores.sensitivity_BT
        if sensitivity_BT is None:
            sensitivity_BT = estimated_entropy_sensitivity(scores.log_probs_BT, scores.entropy_BT, mask_BT)
        rows = []
        for counted_BT in (mask_BT, kept_BT):
            four = quadrants(sensitivity_BT, advantages_B, counted_BT)
            rows.append([getattr(four, name).contribution * four.num_tokens for name in QUADRANTS] + [four.num_tokens])
        sums, kept_sums = self._ranks.summed(torch.tensor(rows)).tolist()
        num_tokens, num_kept = sums.pop(), kept_sums.pop()
        divisor = num_tokens if normalize == "all" else num_kept
        metrics = {f"quadrants/{name}": total / max(num_tokens, 1) for name, total in zip(QUADRANTS, sums, strict=True)}
        return metrics | {
            f"kept_quadrants/{name}": total / max(divisor, 1) for name, total in zip(QUADRANTS, kept_sums, strict=True)
        }

    def _without_rollouts(self, rollouts: Rollouts, decision: Decision, stats: BatchStats) -> Ruling:
        """Leave out of the loss the rollouts that are not kept; give the others the advantages that were decided.

        Advantages of single tokens are multiplied by what their mean was, which leaves them what they say of each other.
        """
        own = rollouts.advantages
        if decision.teaches_nothing and not self._other_terms:
            nothing = torch.zeros_like(decision.keep)
            decision.metrics.update(kept_fraction=0.0, kept_token_fraction=0.0)
            decision = replace(decision, keep=nothing)
        keep_B = self._ranks.local(decision.keep).to(own.device)
        before_B, after_B = (
            self._ranks.local(values).to(device=own.device, dtype=own.dtype)
            for values in (stats.advantages, decision.advantages)
        )
        if own.ndim == 1:
            advantages = after_B * keep_B
        else:
            is_nothing_B = before_B == 0
            factor_B = torch.where(is_nothing_B, 1.0, after_B / before_B)
            added_BT = torch.where(is_nothing_B, after_B, 0.0)[:, None] * rollouts.mask_BT
            advantages = (own * factor_B[:, None] + added_BT) * keep_B[:, None]
        return Ruling(decision=decision, stats=stats, keep_B=keep_B, advantages=advantages)

    def _without_tokens(self, rollouts: Rollouts, decision: Decision, stats: BatchStats, kept_BT: Tensor) -> Ruling:
        """Leave out of the loss the tokens that are not kept, and of the pass the rollouts that have no others.

        The factor that `normalize="kept"` asks for is the weight in the loss of all tokens over that of the kept ones;
        it goes into the advantages, which alone feel the mask.
        """
        mask_BT = rollouts.mask_BT
        weights_B = self._loss_weights(mask_BT)
        counts, kept_counts, weights = self._ranks.gathered(mask_BT.sum(-1), kept_BT.sum(-1), weights_B)
        factor = 1.0
        if decision.normalize == "kept":
            kept_weights = weights * kept_counts / counts.clamp(min=1)
            factor = float(weights.sum() / kept_weights.sum().clamp(min=1e-9))
        keep = decision.keep & (kept_counts > 0)
        decision.metrics["kept_token_fraction"] = float(kept_counts.sum() / counts.sum())
        decision.metrics["kept_fraction"] = keep.double().mean().item()
        return Ruling(
            decision=replace(decision, keep=keep, normalize="all"),
            stats=stats,
            keep_B=self._ranks.local(keep).to(mask_BT.device),
            advantages=factor * rollouts.advantages.view(len(mask_BT), -1) * kept_BT,
        )
