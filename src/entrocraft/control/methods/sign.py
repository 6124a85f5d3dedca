"""Methods that wait for the band to be left and then reject all that moves entropy away: Algorithm 1, and sharper."""

from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.rejecting import Rejecting
from entrocraft.control.planning.fallback import is_stuck
from entrocraft.control.planning.plan import PredictedNats
from entrocraft.errors import InvalidValueError


class Advantage(Rejecting):
    """Algorithm 1 of the paper: the sign of the advantage says which way a rollout moves entropy.

    With `m = 1[H > upper] - 1[H < lower]`, rollout i of advantage A_i is kept iff `m * A_i >= 0`: the predicted change
    is `-A_i`. That needs no pass, and is right where sampled tokens are confident (Theorem 2): there positive
    advantages lower entropy and negative ones raise it. Inside the band everything is kept, and outside it, too,
    a rollout without an advantage.

    Args:
        normalize: What the loss is averaged over; see `Rejecting`.
        fallback: What to do when no rollout moves entropy back; see `Fallback`.
        min_kept: Share of the rollouts that the fallback `escalate` keeps at least.
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range, or of no use with the fallback.

    Degenerate cases: where no rollout has an advantage, everything is kept and nothing is learnt. Where all that have
    one push away from the band, only those without are kept, and the engine makes no step unless `fallback` says so.

    Source: arXiv 2604.26326, Algorithm 1 and Theorem 2.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> Advantage().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).keep  # too low: learn from failures
        tensor([False,  True])
    """

    def __init__(
        self,
        normalize: str = "kept",
        fallback: str = "skip",
        min_kept: float | None = None,
        entropy_bonus: float = 0.0,
    ):
        if min_kept is not None and fallback == "skip":
            raise InvalidValueError(
                "min_kept is for fallback='escalate' here, since all that moves entropy away is rejected; leave it "
                "out, or use method 'budget' or 'token'"
            )
        super().__init__(normalize, fallback, min_kept, entropy_bonus)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        side = goal.side(batch.entropy)
        if side == 0 and not self._always_predicts:
            decision, change = Decision.everything(batch, normalize=self.normalize), torch.zeros_like(batch.advantages)
            return self._fallback.applied(decision, batch, change, side, stuck=False)
        change = self._change(batch)
        decision = Decision.keeping(batch, self._kept(change, batch, goal), normalize=self.normalize)
        return self._fallback.applied(decision, batch, change, side, stuck=is_stuck(change, side))

    _always_predicts = False
    """True if changes are predicted inside the band, too."""

    def _change(self, batch: Batch) -> Tensor:
        """Return what each rollout changes entropy by, in any unit: the sign is what counts."""
        return -batch.advantages

    def _kept(self, change: Tensor, batch: Batch, goal: Goal) -> Tensor:
        # m * dH <= 0; inside the band m is 0, and everything is kept.
        return goal.side(batch.entropy) * change <= 0


class Predicted(Advantage):
    """Algorithm 1 on predicted entropy changes: rollout i is kept iff `m * dH_i <= 0`.

    `m = 1[H > upper] - 1[H < lower]` as in `Advantage`, and dH_i is the signal `change`, what rollout i is predicted to
    change entropy by; see `dynamics.predicted_entropy_change` for its formula. The rule follows from the paper's theory
    without its assumption that sampled tokens are confident: it keeps rare successes below the band and rare failures
    above it. A rollout that changes nothing is always kept.

    Args:
        normalize: What the loss is averaged over; see `Rejecting`.
        fallback: What to do when no rollout moves entropy back; see `Fallback`.
        min_kept: Share of the rollouts that the fallback `escalate` keeps at least.
        entropy_bonus: Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it.
        visitation: Add what the policy visits to the predicted change, each of the two with a gain that is learnt from
            the changes measured.
        momentum: Share of an update's effect that the optimizer carries to the next decision; for `visitation` alone.

    Raises:
        UnknownNameError: There is no such normalisation or fallback.
        InvalidValueError: A number is out of range, or of no use with the fallback.

    Source: arXiv 2604.26326, Eq. 4, in place of its sign under Theorem 2; docs/control.md.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(2), change=torch.tensor([-0.1, 0.2]))
        >>> Predicted().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).keep  # what raises entropy stays
        tensor([False,  True])
    """

    def __init__(
        self,
        normalize: str = "kept",
        fallback: str = "skip",
        min_kept: float | None = None,
        entropy_bonus: float = 0.0,
        visitation: bool = False,
        momentum: float = 0.9,
    ):
        super().__init__(normalize, fallback, min_kept, entropy_bonus)
        self._nats = PredictedNats(momentum, visitation=True) if visitation else None
        self._plant = None if self._nats is None else self._nats.plant
        self._always_predicts = visitation  # gains are learnt inside the band, too
        self.needs = frozenset({"change"}) if self._nats is None else self._nats.needs

    def wants(self, batch: Batch, goal: Goal) -> frozenset[str]:
        """Return nothing inside the band, unless gains are to be learnt there: whole passes may be spared."""
        return self.needs if self._always_predicts or goal.side(batch.entropy) else frozenset()

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        decision = super().decide(batch, goal)
        if self._nats is not None:
            self._nats.advance(decision, batch)
        return decision

    def _change(self, batch: Batch) -> Tensor:
        return cast(Tensor, batch.change) if self._nats is None else self._nats.of(batch)
