"""Rejection of rollouts: the paper's Algorithm 1, the authors' variant of it, and sharper rules."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from entrocraft.control.controller import BatchStats, Controller, Decision, Normalize, check_normalize
from entrocraft.control.guard import GuardAction
from entrocraft.control.planning.fallback import Fallback, is_stuck
from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.control.planning.ranking import EVERYTHING, Limits, Ranking
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band
from entrocraft.schedules.base import checked_number

Rule = Literal["advantage", "reward", "predicted", "aligned", "token", "probabilistic", "budget"]

_ON_THE_CURVE = 0.25
"""Share of the band, around its middle, in which `budget` and `token` take entropy to be on the curve."""
_RELUCTANCE_OF_TOKENS, _RELUCTANCE_OF_ROLLOUTS = 0.05, 0.3
"""Of `EntropyPlant`: a few tokens less cost an update less than whole rollouts do."""
_NEEDS = {
    "predicted_change": "compute it with predicted_entropy_change, or use rule 'advantage'",
    "visitation_change": "compute it with dynamics.visitation_entropy_change, or set visitation=False",
    "token_change": "compute it with controllers.ranking.binned, or use rule 'budget'",
}


class RejectionController(Controller):
    """Keep the rollouts that move entropy where the band wants it.

    With `m = 1[H > upper] - 1[H < lower]`, rollout i of advantage A_i and predicted entropy change dH_i:

    - `advantage`: keep iff `m * A_i >= 0` (Algorithm 1). Sound where sampled tokens are confident
      (Theorem 2): then positive advantages lower entropy and negative ones raise it.
    - `reward`: keep iff `m * (R_i - reward_baseline) > 0`, and use `R_i - reward_baseline` as the
      advantage. This is what the authors' code does: above the band `max(R, 0)` (RAFT++), below it
      `min(R, 0)` (NSR), on raw rewards of -1 and 1. Set `reward_baseline=0.5` for rewards of 0 and 1.
    - `predicted`: keep iff `m * dH_i <= 0`. It follows from the same theory with no assumption about
      confidence, and keeps rare successes below the band and rare failures above it.
    - `aligned`: the same, for predictions that also see what rollouts share, parameters and visitation.
    - `probabilistic`: as `predicted`, but a rollout that moves entropy away is accepted with probability
      `max(0, 1 - distance from the band / width of the band)` (the paper's wording, section 4).
    - `budget`: reject only as many as the wanted change needs, the most contrary first, and never more than
      `1 - min_kept`. What is wanted, and what a rejection changes, comes from a model of the plant that is
      learnt on the way (`EntropyPlant`); it acts before the band is left, and so inside it, too.
    - `token`: the same with tokens instead of rollouts: the most contrary tokens are left out of the loss.

    Inside the band (m = 0) every rule but these two keeps everything. A rollout that changes nothing (zero
    advantage) is always kept, except by `reward`. `fallback` says what happens if no rollout moves entropy back.

    Args:
        band: Where entropy should be.
        rule: See above.
        normalize: What the loss is averaged over: `kept` rollouts (Eq. 5), or `all`, as the authors'
            code does, where rejecting also shortens the step.
        reward_baseline: For rule `reward` only: what a neutral reward is.
        visitation: Add what the policy visits to the predicted change, each of the two with a gain learnt from
            the changes measured. For the rules that predict.
        min_kept: For the rules `budget` and `token`: share of the rollouts, or tokens, with a gradient that is kept
            at least.
        fallback: What to do when no rollout moves entropy back: `skip` the update, or `escalate`; see `Fallback`.
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.
        momentum: Share of an update's effect that the optimizer carries to the next step; see `EntropyPlant`.
        steps_per_decision: Optimizer steps from one decision to the next.
        seed: Of rule `probabilistic`.
        guard: Whether to watch for a target that is out of reach or does harm, and to ease it; see `Guard`.

    Raises:
        UnknownNameError: There is no such rule, normalisation or fallback.
        InvalidValueError: A value is out of range; at decision time, the statistics lack what the rule needs.

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
        *,
        visitation: bool = False,
        min_kept: float = 0.1,
        fallback: str = "skip",
        entropy_bonus: float = 0.0,
        momentum: float = 0.9,
        steps_per_decision: float = 1.0,
        seed: int = 0,
        guard: GuardAction = "warn",
    ):
        super().__init__(band, guard=guard)
        if rule not in get_args(Rule):
            raise UnknownNameError.of("rejection rule", rule, get_args(Rule))
        self.rule = rule
        self.normalize = check_normalize(normalize)
        self.reward_baseline = reward_baseline
        self.min_kept = checked_number("min_kept", min_kept)
        if not 0.0 < self.min_kept <= 1.0:
            raise InvalidValueError(f"min_kept must lie in (0, 1], got {min_kept}")
        self.seed = seed
        self.predictor_needed = rule not in ("advantage", "reward")
        self.rewards_needed = self.rewards_needed or rule == "reward"
        if visitation and not self.predictor_needed:
            raise InvalidValueError(f"visitation is a part of predictions, which rule {rule!r} does not use")
        if visitation and rule in ("aligned", "token"):
            raise InvalidValueError(
                f"rule {rule!r} takes no visitation: "
                + ("its predictions hold it already" if rule == "aligned" else "visiting is done by whole rollouts")
            )
        self.visitation_needed = visitation
        self.steps_per_decision = checked_number("steps_per_decision", steps_per_decision)
        if self.steps_per_decision <= 0.0:
            raise InvalidValueError(f"steps_per_decision must be positive, got {steps_per_decision}")
        needs_plant = rule in ("budget", "token") or visitation
        memory = momentum**self.steps_per_decision
        reluctance = _RELUCTANCE_OF_TOKENS if rule == "token" else _RELUCTANCE_OF_ROLLOUTS
        self._plant = EntropyPlant(1 + visitation, memory, reluctance=reluctance) if needs_plant else None
        if rule == "reward" and fallback != "skip":
            raise InvalidValueError("rule 'reward' knows no fallback but 'skip': it predicts nothing")
        self._fallback = Fallback(fallback, self.min_kept, entropy_bonus)
        self._warned_no_negative = False

    def _decide(self, stats: BatchStats, direction: int) -> Decision:
        if self.rule == "reward":
            return self._decide_by_reward(stats, direction)
        if self.rule == "token":
            return self._decide_by_token(stats, direction)
        if direction == 0 and self._plant is None:
            return self._kept(stats, torch.ones_like(stats.advantages, dtype=torch.bool))
        change = self._change(stats)
        metrics: dict[str, float] = {}
        match self.rule:
            case "budget":
                limits, metrics = self._spend(stats, Ranking.of(change))
                keep = (change == 0) | ((change >= limits[0]) & (change <= limits[1]))
            case "probabilistic":
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + stats.step)
                lucky = torch.rand(len(change), generator=generator) < self._acceptance(stats)
                keep = (direction * change <= 0) | lucky.to(change.device)
            case _:
                keep = direction * change <= 0
        decision = self._kept(stats, keep, metrics=metrics)
        decision = self._fallback.applied(decision, stats, change, direction, stuck=is_stuck(change, direction))
        if self._plant is not None:
            # What each rollout changes is linear in its advantage, which is 0 if it was rejected, less if weakened.
            share = torch.where(stats.advantages != 0, decision.advantages / stats.advantages, 0.0)
            terms = self._terms * share.cpu().double()[:, None]
            self._advance(decision, [Ranking.of(term).effect(EVERYTHING) for term in terms.T])
        return decision

    def _advance(self, decision: Decision, effects: list[float]) -> None:
        """Tell the plant what enters the update; one that teaches nothing leaves weights and momentum alone."""
        plant = cast(EntropyPlant, self._plant)
        if not decision.teaches_nothing:
            plant.advance(torch.tensor(effects, dtype=torch.float64))
        decision.metrics.update(plant.metrics())

    def _kept(self, stats: BatchStats, keep: Tensor, **fields: Any) -> Decision:
        advantages = torch.where(keep, stats.advantages, torch.zeros_like(stats.advantages))
        return Decision(keep=keep, advantages=advantages, normalize=self.normalize, **fields)

    def _decide_by_token(self, stats: BatchStats, direction: int) -> Decision:
        """Return what rule `budget` decides on tokens instead of rollouts."""
        plant = cast(EntropyPlant, self._plant)
        plant.observe(stats.entropy, stats.entropy_stderr)
        changes = Ranking.of_bins(self._required(stats, "token_change"))
        unit = float(plant.unit(torch.tensor([changes.size()])))
        gain = float(plant.gains)
        in_nats = changes.times(gain / unit)
        limits, metrics = self._spend(stats, in_nats)

        decision = self._kept(
            stats,
            torch.ones_like(stats.advantages, dtype=torch.bool),
            token_limits=None if limits == EVERYTHING else (limits[0] * unit / gain, limits[1] * unit / gain),
            kept_token_share=in_nats.count(limits) / max(in_nats.count(EVERYTHING), 1.0),
            metrics=metrics,
        )
        stuck = is_stuck(changes.sums_K, direction)
        change = self._required(stats, "predicted_change") if stuck else torch.zeros_like(stats.advantages)
        decision = self._fallback.applied(decision, stats, change, direction, stuck=stuck)
        if decision.token_limits is None:
            limits = EVERYTHING  # nothing to leave out, or weakened instead
        share = float(decision.advantages.abs().sum() / stats.advantages.abs().sum().clamp(min=1e-12))
        self._advance(decision, [share * in_nats.effect(limits) / gain])
        return decision

    def _spend(self, stats: BatchStats, changes: Ranking) -> tuple[Limits, dict[str, float]]:
        """Return which changes, in nats, to keep for entropy to follow the curve, and what to log of it."""
        plant = cast(EntropyPlant, self._plant)
        low, free, high = changes.reach(self.min_kept)
        lower, upper = self._bounds
        targets = self._targets_ahead(stats, plant.horizon, self.steps_per_decision)
        wanted = plant.plan(targets, free, low, high, slack=_ON_THE_CURVE * (upper - lower) / 2)
        saturated = low < high and not low < wanted < high
        return changes.limits(wanted, self.min_kept), {"wanted_effect": wanted, "saturated": float(saturated)}

    def _change(self, stats: BatchStats) -> Tensor:
        """Return what each rollout would change entropy by, in whatever unit; the sign is what most rules use."""
        if not self.predictor_needed:
            return -stats.advantages
        terms = [self._required(stats, "predicted_change")]
        if self.visitation_needed:
            terms.append(self._required(stats, "visitation_change"))
        if self._plant is None:
            return terms[0]
        self._plant.observe(stats.entropy, stats.entropy_stderr)
        sizes = torch.tensor([Ranking.of(term).size() for term in terms])
        self._terms = torch.stack(terms, dim=1).double().cpu() / self._plant.unit(sizes)
        return (self._terms @ self._plant.gains).to(stats.advantages.device)

    def _required(self, stats: BatchStats, name: str) -> Tensor:
        value = stats.prediction(name)
        if value is None:
            raise InvalidValueError(f"rule {self.rule!r} needs BatchStats.{name}: {_NEEDS[name]}")
        return value

    def _acceptance(self, stats: BatchStats) -> float:
        """Return the chance of a rollout that moves entropy away: 1 at the edge, 0 a band's width from it."""
        lower, upper = self._bounds
        distance = max(lower - stats.entropy, stats.entropy - upper, 0.0)
        return max(0.0, 1.0 - distance / (upper - lower)) if upper > lower else float(distance == 0.0)

    def _decide_by_reward(self, stats: BatchStats, direction: int) -> Decision:
        if direction == 0:
            keep, advantages = torch.ones_like(stats.advantages, dtype=torch.bool), stats.advantages
        else:
            if stats.rewards is None:
                raise InvalidValueError("rule 'reward' needs BatchStats.rewards, the raw rewards")
            rewards = (stats.rewards - self.reward_baseline).to(stats.advantages.dtype)
            keep = direction * rewards > 0
            advantages = torch.where(keep, rewards, torch.zeros_like(rewards))
            self._warn_if_rewards_cannot_raise_entropy(stats, direction)
        decision = Decision(keep=keep, advantages=advantages, normalize=self.normalize)
        return decision

    def _warn_if_rewards_cannot_raise_entropy(self, stats: BatchStats, direction: int) -> None:
        rewards = cast(Tensor, stats.rewards) - self.reward_baseline
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

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        state = super().state_dict() | {"rule": self.rule, "fallback": self._fallback.state_dict()}
        return state if self._plant is None else state | {"plant": self._plant.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that this controller saved.
        """
        super().load_state_dict(state)
        if state["rule"] != self.rule:
            raise InvalidValueError(f"controller state: expected that of rule {self.rule!r}, got {state['rule']!r}")
        self._fallback.load_state_dict(state["fallback"])
        if self._plant is not None:
            self._plant.load_state_dict(state["plant"])
