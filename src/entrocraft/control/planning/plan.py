"""How much of a batch's predicted changes to keep, for entropy to follow its curve."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.control.planning.ranking import EVERYTHING, Limits, Ranking

_ON_THE_CURVE = 0.25
"""Share of the band, around its middle, in which entropy is taken to be on the curve."""
REJECTION_COST_OF_ROLLOUTS = 0.3
"""What a nat of effect by rejected rollouts costs, against a nat of distance from the curve; see `EntropyPlant`."""
REJECTION_COST_OF_TOKENS = 0.05
"""What a nat of effect by left-out tokens costs: a few tokens less cost an update less than whole rollouts do."""


def limits_for(changes: Ranking, plant: EntropyPlant, goal: Goal, min_kept: float) -> tuple[Limits, dict[str, float]]:
    """Return which changes to keep for entropy to follow the curve, and what to log of it.

    The plant looks ahead along the curve and says which effect it wants of this update, in nats; the ranking says which
    changes to leave out, the most contrary first, to have it.

    Args:
        changes: Predicted changes, in nats.
        plant: The model of how entropy answers, which has observed this batch.
        goal: The stretch of the curve that this decision is about.
        min_kept: Share of the changes that is kept at least, in (0, 1].
    """
    low, free, high = changes.reach(min_kept)
    # From the middle of the band, in nats.
    slack = _ON_THE_CURVE * (goal.upper - goal.lower) / 2
    wanted = plant.plan(goal.ahead(plant.horizon), free, low, high, slack=slack)
    # With nothing to choose from (low = high) there is nothing to saturate.
    saturated = low < high and not low < wanted < high
    return changes.limits(wanted, min_kept), {"wanted_effect": wanted, "saturated": float(saturated)}


class PredictedNats:
    """Predicted changes of rollouts, in nats: each term of them with a gain that is learnt on the way.

    The terms are the local change, and with `visitation` the change by visiting other contexts. How much entropy really
    answers to either is not known beforehand; an `EntropyPlant` learns it from the entropies that follow.

    Args:
        momentum: Share of an update's effect that the optimizer carries to the next decision; see `EntropyPlant`.
        visitation: Whether there is a second term.
    """

    def __init__(self, momentum: float, *, visitation: bool):
        self.needs = frozenset({"change", "fresh_entropy"} | ({"visitation"} if visitation else set()))
        self.plant = EntropyPlant(1 + visitation, momentum, rejection_cost=REJECTION_COST_OF_ROLLOUTS)
        self._visitation = visitation

    def of(self, batch: Batch) -> Tensor:
        """Take in the batch's entropy, and return what each rollout would change it by (B,), in nats."""
        terms = [batch.change, batch.visitation] if self._visitation else [batch.change]
        columns = [torch.as_tensor(term) for term in terms]
        self.plant.observe(batch.entropy, batch.entropy_stderr)
        # Each term in its own unit, so that the gains, in nats per unit, are of one size.
        sizes = torch.tensor([Ranking.of(term).size() for term in columns])
        self._terms = torch.stack(columns, dim=1).double().cpu() / self.plant.unit(sizes)
        return (self._terms @ self.plant.gains).to(batch.advantages.device)

    def advance(self, decision: Decision, batch: Batch) -> None:
        """Tell the plant what enters the update."""
        # What each rollout changes is linear in its advantage, which is 0 if it was rejected, less if weakened.
        share = torch.where(batch.advantages != 0, decision.advantages / batch.advantages, 0.0)
        terms = self._terms * share.cpu().double()[:, None]
        advance(self.plant, decision, [Ranking.of(term).effect(EVERYTHING) for term in terms.T])


def advance(plant: EntropyPlant, decision: Decision, effects: list[float]) -> None:
    """Tell the plant the effect of what is kept, per term.

    An update without an advantage is not made: weights and momentum stay, and so does the plant. (It is made where the
    loss has other terms, such as KL, of which a method knows nothing.)
    """
    if not decision.moves_nothing:
        plant.advance(torch.tensor(effects, dtype=torch.float64))
    decision.metrics.update(plant.metrics())
