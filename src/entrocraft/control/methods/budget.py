"""Rejection of only as many rollouts as the curve needs, planned ahead on a model of how entropy answers."""

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.rejecting import Rejecting
from entrocraft.control.planning.fallback import is_stuck
from entrocraft.control.planning.plan import PredictedNats, limits_for
from entrocraft.control.planning.ranking import Ranking


class Budget(Rejecting):
    """Reject only as many rollouts as the wanted change of entropy needs, the most contrary first.

    With `s_k` the effect of what update k keeps, `sum(change) / sqrt(n)` over its n rollouts, entropy is modelled by

        E_k = momentum E_{k-1} + (1 - momentum) s_k,        H_{k+1} = H_k + drift + gain E_k,

    whose drift and gain a Kalman filter learns on the way (`EntropyPlant`). Each decision plans the effects that keep H
    closest to the next twelve targets at the least rejection, and carries out the first. So it acts before the band is
    left, and inside it, too. What changes nothing is always kept.

    Args:
        normalize: What the loss is averaged over; see `Rejecting`.
        fallback: What to do when no rollout moves entropy back; see `Fallback`.
        min_kept: Share of the rollouts with a gradient that is kept at least, in (0, 1].
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.
        visitation: Add what the policy visits to the predicted change, each of the two with a gain of its own.
        momentum: Share of an update's effect that the optimizer carries to the next decision, in [0, 1).

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range, or of no use with the fallback.

    Degenerate cases: where every change is 0, everything is kept. Where the curve wants more than rejection can do,
    what comes nearest to it is kept, never less than the `min_kept` share, and `saturated` is logged.

    Source: not in the paper; docs/control.md, "How `budget` and `token` work".

    Example:
        >>> import torch
        >>> change = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, 4.0])
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(6), change=change)
        >>> Budget().decide(batch, Goal(lower=0.48, target=0.5, upper=0.52)).keep  # far below: what lowers entropy goes
        tensor([False, False, False,  True,  True,  True])
    """

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
        self._nats = PredictedNats(momentum, visitation=visitation)
        self._plant, self.needs = self._nats.plant, self._nats.needs

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        side, change = goal.side(batch.entropy), self._nats.of(batch)
        (low, high), metrics = limits_for(Ranking.of(change), self._nats.plant, goal, self.min_kept)
        # Changes of 0 have no gradient: there is nothing to reject, whatever the limits.
        keep = (change == 0) | ((change >= low) & (change <= high))
        decision = Decision.keeping(batch, keep, normalize=self.normalize, metrics=metrics)
        decision = self._fallback.applied(decision, batch, change, side, stuck=is_stuck(change, side))
        self._nats.advance(decision, batch)
        return decision
