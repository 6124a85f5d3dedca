"""From a batch of rollouts to a decision, the same in every engine.

What the engine has to bring is what its framework knows of the rollouts; what it gets back is which of them, and
which of their tokens, the update may use.

Shapes: B rollouts of this rank, T tokens.
"""

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from entrocraft.control import EntropyControl
from entrocraft.control.batch import Batch, refuse_infinite_rewards
from entrocraft.control.controller import Controller
from entrocraft.control.decision import Decision, Normalize
from entrocraft.control.steering import SteeringFile, format_steering, parse_steering
from entrocraft.dynamics import QUADRANTS, estimated_entropy_sensitivity, quadrants
from entrocraft.engines.ranks import Ranks, tokens_elsewhere
from entrocraft.engines.rollouts import RiseOfLogProbs, Rollouts, equally_rewarded
from entrocraft.engines.signals import SignalMaker
from entrocraft.entropy import Aggregation, entropy_from_sums, entropy_standard_error, entropy_sums
from entrocraft.errors import InvalidValueError, MeasurementError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """A decision, and what it means for the rollouts of this rank."""

    decision: Decision
    batch: Batch | None
    """What it was decided on; None if the loss counts no token of it."""
    keep_B: Tensor
    """Which of this rank's rollouts enter the gradient."""
    advantages: Tensor
    """What the update must use, in the shape of the rollouts' own or (B, T); 0 for rollouts and tokens left out."""
    kept_BT: Tensor
    """1 for the tokens of this rank's rollouts that the update uses."""
    change_BT: Tensor | None = None
    """What each of their tokens is predicted to change entropy by; None if the decision did not ask."""
    is_own: bool
    """False if the advantages are not the rollouts' own even where all of them are kept: tokens were weighed, or what
    rounding had left of equal rewards was taken away."""

    @property
    def changes_nothing(self) -> bool:
        """True if the update is to be the one that would have been made without control."""
        decision = self.decision
        return (
            self.is_own
            and self.batch is not None
            and bool(decision.keep.all())
            and torch.equal(decision.advantages, self.batch.advantages)
            and not decision.turned_now
        )

    def loss_scale(self, *, by_tokens: bool) -> float:
        """Return the factor from a loss averaged over all rollouts, or all of their tokens, to what was decided."""
        sizes = self.batch.num_tokens if by_tokens and self.batch is not None else None
        return self.decision.loss_scale(sizes)


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
        self._ranks, self._by_rollout = ranks, by_rollout
        # A surrogate may have terms of its own.
        self._other_terms = other_terms or "surrogate" in controller.method.turns
        self._signals = SignalMaker(
            controller.method, ranks, by_rollout=by_rollout, by_rarity=control.predictor == "rarity"
        )
        self._aggregation: Aggregation = control.aggregation  # type: ignore[assignment]
        self._has_edges = control.lower is not None
        self._steering = (
            None
            if control.steering is None
            else SteeringFile(control.steering, control.band_width, control.band().unit)
        )

    def decide(
        self,
        rollouts: Rollouts,
        *,
        step: int,
        total_steps: int,
        groups: Tensor,
        rewards: Tensor | None = None,
        rise: RiseOfLogProbs | None = None,
    ) -> Update:
        """Return what the next update may use.

        Args:
            rollouts: This rank's.
            step: The optimizer step about to be made, counted from 1.
            total_steps: Optimizer steps of the whole run.
            groups: Index of the prompt that each rollout of all ranks answers.
            rewards: One per rollout of all ranks. Where a prompt's are all equal, advantages that rounding left are 0.
            rise: For predictions that come from the whole model's response; otherwise they are made from the stats.

        Raises:
            MeasurementError: Entropy, an advantage, a reward or a prediction is not finite; the message names the step.
        """
        self._follow_steering(step)
        own = rollouts
        if rewards is not None:
            # Whatever a trainer makes of them: TRL gives all rollouts of such a prompt no advantage, without a word.
            refuse_infinite_rewards(rewards, step, self._ranks.count)
            rollouts = rollouts.without_rounding(self._ranks.local(equally_rewarded(rewards, groups)))
        mask_BT = rollouts.mask_BT
        batch = self._measured(rollouts, step, groups, rewards)
        if batch is None:
            return self._passed_over(rollouts, step)
        # The goal comes before the signals, which some methods want outside the band alone.
        goal = self.controller.goal(batch, total_steps)
        # What the update's tokens do to entropy is logged with every decision, and predictions may be made of it.
        stats = rollouts.stats
        if stats.sensitivity_BT is None:
            estimated = estimated_entropy_sensitivity(
                stats.log_probs_BT, stats.entropy_BT, mask_BT, elsewhere=tokens_elsewhere(self._ranks)
            )
            rollouts = replace(rollouts, stats=replace(stats, sensitivity_BT=estimated))
        batch, tokens = self._signals.added(batch, goal, rollouts, rise)
        decision = self.controller.decide(batch, goal)
        weights_BT = self.controller.weigh(tokens, decision)
        if self._steering is not None:
            decision.metrics.update(
                steering_accepted=float(self._steering.accepted), steering_refused=float(self._steering.refused)
            )
        decision.metrics["num_tokens"] = float(batch.num_tokens.sum()) if batch.num_tokens is not None else 0.0
        # What the loss will count: a token of a kept rollout that was not weighed down to nothing.
        kept_BT = mask_BT * self._ranks.local(decision.keep).to(mask_BT)[:, None]
        if weights_BT is not None:
            kept_BT = kept_BT * (weights_BT != 0)
        decision.metrics.update(self._quadrants(rollouts, kept_BT, decision.normalize))
        if weights_BT is not None and decision.advantages.any():
            update = self._weighed(rollouts, decision, batch, kept_BT, weights_BT)
        else:
            # Ranks may differ in this: none of them exchanges anything for it.
            is_cleaned = not torch.equal(rollouts.advantages, own.advantages)
            update = self._without_rollouts(rollouts, decision, batch, is_cleaned=is_cleaned)
        return replace(update, change_BT=tokens.change_BT)

    # ---- measure -------------------------------------------------------------------------------------

    def _measured(self, rollouts: Rollouts, step: int, groups: Tensor, rewards: Tensor | None) -> Batch | None:
        """Return the batch over all ranks, as far as it is known without predictions; None if no token counts."""
        # Sums and counts go over the ranks, never means: ranks hold different numbers of tokens.
        sums_B, counts_B = entropy_sums(rollouts.stats.entropy_BT, rollouts.mask_BT)
        sums, counts, advantages = self._ranks.gathered(sums_B, counts_B, rollouts.advantages_B)
        if not counts.any():
            return None
        try:
            entropy = entropy_from_sums(sums, counts, self._aggregation)
        except MeasurementError as error:
            raise MeasurementError(f"step {step}: {error}") from error
        return Batch(
            step=step,
            entropy=entropy,
            advantages=advantages,
            rewards=rewards if self.controller.rewards_needed else None,
            groups=groups,
            num_tokens=counts,
            entropy_stderr=entropy_standard_error(sums, counts, groups, self._aggregation),
            num_ranks=self._ranks.count,
            temperature=rollouts.temperature,
        )

    def _quadrants(self, rollouts: Rollouts, kept_BT: Tensor, normalize: Normalize) -> dict[str, float]:
        """Return what each quadrant contributes to the change of entropy, in the whole batch and in what is kept."""
        sensitivity_BT = rollouts.stats.sensitivity_BT
        assert sensitivity_BT is not None, "estimated, if it was not measured"
        own_BT, rows = rollouts.advantages.view(len(kept_BT), -1), []
        # Nats per unit step, times tokens: what can be added up over ranks. The last column is the divisor.
        for counted_BT in (rollouts.mask_BT, kept_BT):
            four = quadrants(sensitivity_BT, own_BT, counted_BT)
            contributions = [getattr(four, name).contribution * four.num_tokens for name in QUADRANTS]
            by_sign_BT = [counted_BT * (own_BT * sign > 0) for sign in (1, -1)]
            rows.append([*contributions, *(float(counted.sum()) for counted in by_sign_BT), four.num_tokens])
        sums, kept_sums = self._ranks.summed(torch.tensor(rows)).tolist()
        num_tokens, num_kept = sums.pop(), kept_sums.pop()
        by_sign: dict[str, float] = {}
        for name in ("kept_negative_fraction", "kept_positive_fraction"):
            total, kept = sums.pop(), kept_sums.pop()
            by_sign |= {name: kept / total} if total else {}
        # Of what is kept, per token of what the loss is averaged over (Eq. 5 for `kept`).
        divisor = num_tokens if normalize == "all" else num_kept
        metrics = {f"quadrants/{name}": total / max(num_tokens, 1) for name, total in zip(QUADRANTS, sums, strict=True)}
        return (
            metrics
            | by_sign
            | {
                f"kept_quadrants/{name}": total / max(divisor, 1)
                for name, total in zip(QUADRANTS, kept_sums, strict=True)
            }
        )

    # ---- steer ---------------------------------------------------------------------------------------

    def _follow_steering(self, step: int) -> None:
        """Follow the steering file if a person has changed it; the main rank looks, and all ranks do the same."""
        if self._steering is None:
            return
        course = self.controller.course
        self._steering.initial_entropy = course.initial_entropy
        if self._has_edges and course.drawn_width is not None:  # which have no width of their own
            self._steering.width, self._steering.unit = course.drawn_width, "nats"
        seen = self._steering.poll() if self._ranks.is_main else None
        text = self._ranks.from_main(None if seen is None else format_steering(seen))
        if text is None:
            return
        band = parse_steering(text, self._steering.width)
        # A resumed run reads again what it follows already.
        if band == self.controller.band:
            return
        try:
            self.controller.steer(band)
        except InvalidValueError as error:
            self._steering.refuse(error)
            return
        logger.info("step %d: following %r from %s", step, band, self._steering.path)

    # ---- what it means for this rank -----------------------------------------------------------------

    def _passed_over(self, rollouts: Rollouts, step: int) -> Update:
        """Return the update of a batch of which no token counts: none."""
        num_rollouts = len(rollouts.mask_BT) * self._ranks.count
        decision = self.controller.pass_over(step, num_rollouts)
        keep_B = self._ranks.local(decision.keep).to(rollouts.advantages.device)
        return Update(
            decision=decision,
            batch=None,
            keep_B=keep_B,
            advantages=torch.zeros_like(rollouts.advantages),
            kept_BT=rollouts.mask_BT,
            is_own=False,
        )

    def _without_rollouts(self, rollouts: Rollouts, decision: Decision, batch: Batch, *, is_cleaned: bool) -> Update:
        """Leave out of the loss the rollouts that are not kept; give the others the advantages that were decided.

        A batch without any advantage is left out whole, too, unless the loss has other terms: momentum alone would act.
        """
        if decision.moves_nothing and not self._other_terms:
            nothing = torch.zeros_like(decision.keep)
            decision.metrics.update(kept_fraction=0.0, kept_token_fraction=0.0)
            decision = replace(decision, keep=nothing)
        keep_B = self._ranks.local(decision.keep).to(rollouts.advantages.device)
        advantages = self._decided_advantages(rollouts, decision, batch)
        kept = keep_B if advantages.ndim == 1 else keep_B[:, None]
        return Update(
            decision=decision,
            batch=batch,
            keep_B=keep_B,
            advantages=advantages * kept,
            kept_BT=rollouts.mask_BT * keep_B[:, None],
            is_own=not is_cleaned,
        )

    def _weighed(
        self, rollouts: Rollouts, decision: Decision, batch: Batch, kept_BT: Tensor, weights_BT: Tensor
    ) -> Update:
        """Weigh tokens in the loss, and leave out of the pass the rollouts of which no token is kept.

        The factor that `normalize="kept"` asks for is the weight in the loss of all tokens over that of the kept ones;
        it goes into the advantages, which alone feel the mask.
        """
        mask_BT, own = rollouts.mask_BT, rollouts.advantages
        if not torch.equal(decision.advantages, batch.advantages):
            own = self._decided_advantages(rollouts, decision, batch)
        counts, kept_counts, loss_weights = self._ranks.gathered(
            mask_BT.sum(-1), kept_BT.sum(-1), rollouts.loss_weights(by_rollout=self._by_rollout)
        )
        factor = 1.0
        if decision.normalize == "kept":
            # Where rollouts weigh alike, one that keeps half of its tokens keeps half of its weight.
            kept_weights = loss_weights * kept_counts / counts.clamp(min=1)
            factor = float(loss_weights.sum() / kept_weights.sum().clamp(min=1e-9))
        keep = decision.keep & (kept_counts > 0)
        decision.metrics["kept_token_fraction"] = float(kept_counts.sum() / counts.sum())
        decision.metrics["kept_fraction"] = keep.double().mean().item()
        return Update(
            decision=replace(decision, keep=keep, normalize="all"),
            batch=batch,
            keep_B=self._ranks.local(keep).to(mask_BT.device),
            advantages=factor * own.view(len(mask_BT), -1) * (weights_BT * kept_BT),
            kept_BT=kept_BT,
            is_own=False,
        )

    def _decided_advantages(self, rollouts: Rollouts, decision: Decision, batch: Batch) -> Tensor:
        """Return this rank's advantages as they were decided, in the shape of its own.

        Advantages of single tokens are multiplied by what their mean was, which leaves their relations as they were.
        """
        own = rollouts.advantages
        before_B, after_B = (
            self._ranks.local(values).to(device=own.device, dtype=own.dtype)
            for values in (batch.advantages, decision.advantages)
        )
        if own.ndim == 1:
            return after_B
        # A mean of 0 has no factor: there the new advantage is added to each token instead.
        is_nothing_B = before_B == 0
        factor_B = torch.where(is_nothing_B, 1.0, after_B / before_B)
        added_BT = torch.where(is_nothing_B, after_B, 0.0)[:, None] * rollouts.mask_BT
        return own * factor_B[:, None] + added_BT
