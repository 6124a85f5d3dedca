"""The default: only as many tokens are left out as the curve needs, planned on a model of how entropy answers."""

from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Total
from entrocraft.control.methods.rejecting import Rejecting
from entrocraft.control.planning.fallback import is_stuck
from entrocraft.control.planning.plan import REJECTION_COST_OF_TOKENS, advance, limits_for
from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.control.planning.ranking import EVERYTHING, Ranking, binned
from entrocraft.errors import InvalidValueError, MeasurementError


class Token(Rejecting):
    """Leave out of the loss only as many tokens as the wanted change of entropy needs, the most contrary first.

    `Budget`, whose equations hold here, with tokens for rollouts: many small choices instead of few large ones.
    Predicted changes are put into bins that are the same on every rank, so that ranks exchange sums and counts alone.

    Args:
        normalize: What the loss is averaged over; see `Rejecting`.
        fallback: What to do when no token moves entropy back; see `Fallback`.
        min_kept: Share of the tokens with a gradient that is kept at least, in (0, 1].
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.
        visitation: Add what the policy visits to the predicted change. The two are parts of one sum, with one gain.
        momentum: Share of an update's effect that the optimizer carries to the next decision, in [0, 1).

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range, or of no use with the fallback.

    Degenerate cases: as those of `Budget`. A rollout all of whose tokens are left out has no part in the update.

    Source: not in the paper; docs/control.md, "How `budget` and `token` work".

    Example:
        >>> change = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, 4.0])  # of six tokens
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(2), change=torch.zeros(2), reading=binned(change))
        >>> decision = Token().decide(batch, Goal(lower=0.48, target=0.5, upper=0.52))
        >>> ones = torch.ones(1, 6)
        >>> columns = {"log_probs_BT": ones, "entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
        >>> tokens = Tokens(**columns, change_BT=change[None])
        >>> Token().weigh(tokens, decision)  # far below the band: what lowers entropy is left out
        tensor([[0., 0., 0., 1., 1., 1.]])
    """

    rejects = "tokens"
    _plant: EntropyPlant

    def __init__(
        self,
        normalize: str = "kept",
        fallback: str = "skip",
        min_kept: float = 0.1,
        entropy_bonus: float = 0.0,
        visitation: bool = False,
        momentum: float = 0.9,
    ):
        super().__init__(normalize, fallback, min_kept, entropy_bonus)
        self.needs = frozenset({"change", "fresh_entropy"} | ({"visitation"} if visitation else set()))
        self._plant = EntropyPlant(1, momentum, rejection_cost=REJECTION_COST_OF_TOKENS)

    def _change(self, local: Tensor | None, visitation: Tensor | None) -> Tensor:
        """Return the predicted change of tokens or rollouts: the local part, and that of visitation if it is wanted."""
        local = cast(Tensor, local)
        return local + cast(Tensor, visitation) if "visitation" in self.needs else local

    def read(self, tokens: Tokens, total: Total) -> Tensor:
        """Return sums and counts (K, 2) of the predicted changes of all ranks' counted tokens, in bins."""
        return total(binned(self._change(tokens.change_BT, tokens.visitation_BT)[tokens.mask_BT.bool()]))

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return self.decide_at(1.0, batch, goal)

    def decide_at(self, rate: float, batch: Batch, goal: Goal, *, leaves_out: bool = True) -> Decision:
        """Return the decision for an update whose learning rate is the configured one times `rate`.

        Args:
            rate: Factor on the learning rate, by which the update's effect is larger or smaller.
            batch: The batch.
            goal: The stretch of the curve that this decision is about.
            leaves_out: Whether anything may be left out; if not, the plan takes note of the update all the same.
        """
        plant, side = self._plant, goal.side(batch.entropy)
        plant.observe(batch.entropy, batch.entropy_stderr)
        changes = Ranking.of_bins(_checked_bins(batch))
        # From the predictor's unit to nats: `unit` makes the effect of a whole batch about 1, the gain is learnt.
        gain = float(plant.gains)
        scale = rate * gain / float(plant.unit(torch.tensor([changes.size()])))
        in_nats = changes.times(scale)
        # Limits are in nats; tokens are compared with them in the unit of their predictions.
        limits, metrics = EVERYTHING, {"wanted_effect": in_nats.effect(EVERYTHING), "saturated": 0.0}
        if leaves_out:
            limits, metrics = limits_for(in_nats, plant, goal, self.min_kept)
        decision = Decision.everything(
            batch,
            note=None if limits == EVERYTHING else (limits[0] / scale, limits[1] / scale),
            normalize=self.normalize,
            kept_share=in_nats.count(limits) / max(in_nats.count(EVERYTHING), 1.0),
            metrics=metrics,
        )
        # A bin of one sign is all of that sign, so its sum tells which way its tokens go.
        stuck = is_stuck(changes.sums_K, side)
        change = self._change(batch.change, batch.visitation)
        decision = self._fallback.applied(decision, batch, change, side, stuck=stuck)
        if decision.note is None:
            limits = EVERYTHING  # nothing to leave out, or weakened instead
        # 1, unless the fallback has weakened the advantages: effects are linear in them.
        share = float(decision.advantages.abs().sum() / batch.advantages.abs().sum().clamp(min=1e-12))
        advance(plant, decision, [share * in_nats.effect(limits) / gain])
        return decision

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return 1 for the tokens within the limits that were decided, 0 for those outside."""
        if decision.note is None:
            return None
        change_BT, (low, high) = self._change(tokens.change_BT, tokens.visitation_BT), decision.note
        return ((change_BT == 0) | ((change_BT >= low) & (change_BT <= high))).float()


def _checked_bins(batch: Batch) -> Tensor:
    """Return the batch's reading, if it is one that `Token.read` may have made."""
    bins = batch.reading
    if not isinstance(bins, Tensor) or bins.ndim != 2 or bins.shape[1] != 2:
        got = "none" if bins is None else repr(bins) if not isinstance(bins, Tensor) else f"shape {tuple(bins.shape)}"
        raise InvalidValueError(
            f"method 'token' needs Batch.reading, sums and counts (K, 2) of tokens' predicted changes, got {got}; "
            "compute it with control.planning.ranking.binned, or use method 'budget'"
        )
    if not torch.isfinite(bins).all():
        raise MeasurementError(
            f"step {batch.step}: predicted changes of tokens are not finite; check the rewards and the logits"
        )
    return bins
