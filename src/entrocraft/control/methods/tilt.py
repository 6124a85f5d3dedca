"""No token is left out: all are weighed a little, so that together they move entropy as the curve wants."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.methods.token import checked_bins
from entrocraft.control.planning.plan import REJECTION_COST_OF_TOKENS, advance, wanted_effect
from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.control.planning.ranking import Ranking, binned
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number

_HALVINGS = 100  # of the interval that the multiplier is sought in: changes span twelve orders of magnitude
_ROUNDING = 1e-9  # of the size of a batch's changes


class Tilt(Method):
    """Weigh each token by the change of entropy that is predicted of it: as little as the curve needs, and none to 0.

    With the predicted changes c_i of a batch's n tokens and the effect E that the curve wants of it, the weights

        minimise    sum_i (w_i - 1)^2
        subject to  sum_i w_i c_i / sqrt(n) = E,    |w_i - 1| <= most,

    which are `w_i = 1 + clip(m c_i, -most, most)` with one multiplier m. E comes from the same plan as in `Budget`, on
    a model of how entropy answers that is learnt on the way; with all weights 1 the effect is `Ranking.effect`.

    Args:
        most: By how much a weight may differ from 1, in (0, 1].
        momentum: Share of an update's effect that the optimizer carries to the next decision, in [0, 1).

    Raises:
        InvalidValueError: A number is out of range.

    Degenerate cases: where every change is 0, all weights are 1. Where the curve wants more than weights can do, all
    are at their limits, and `saturated` is logged.

    Source: not in the paper; docs/control.md, "How `budget` and `token` work".

    Example:
        >>> change = torch.tensor([-3.0, -1.0, 1.0, 3.0])  # of four tokens
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(2), change=torch.zeros(2), reading=binned(change))
        >>> decision = Tilt().decide(batch, Goal(lower=0.48, target=0.5, upper=0.52))
        >>> ones = torch.ones(1, 4)
        >>> columns = {"log_probs_BT": ones, "entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
        >>> Tilt().weigh(Tokens(**columns, change_BT=change[None]), decision)  # far below the band: all that weights do
        tensor([[0.5000, 0.5000, 1.5000, 1.5000]])
    """

    needs = frozenset({"change", "fresh_entropy"})
    turns = frozenset({"tokens"})
    normalize = "all"  # what is weighed down is still counted

    def __init__(self, most: float = 0.5, momentum: float = 0.9):
        self.most = checked_number("most", most)
        if not 0.0 < self.most <= 1.0:
            raise InvalidValueError(f"most must lie in (0, 1], got {most}")
        self._plant = EntropyPlant(1, momentum, rejection_cost=REJECTION_COST_OF_TOKENS)

    def read(self, tokens: Tokens, total: Total) -> Tensor:
        """Return sums and counts (K, 2) of the predicted changes of all ranks' counted tokens, in bins."""
        return total(binned(cast(Tensor, tokens.change_BT)[tokens.mask_BT.bool()]))

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        plant = self._plant
        plant.observe(batch.entropy, batch.entropy_stderr)
        changes = Ranking.of_bins(checked_bins(batch, "tilt"))
        # From the predictor's unit to nats: `unit` makes the effect of a whole batch about 1, the gain is learnt.
        scale = float(plant.gains) / float(plant.unit(torch.tensor([changes.size()])))
        in_nats = changes.times(scale)
        farthest = self._farthest(in_nats)
        low, free, high = (self._effect(in_nats, multiplier) for multiplier in (-farthest, 0.0, farthest))
        wanted, metrics = wanted_effect(plant, goal, low, free, high)
        multiplier = self._multiplier(in_nats, wanted, farthest)
        metrics["strength"] = self._spread(in_nats, multiplier)
        note = None if multiplier == 0.0 else multiplier * scale
        decision = Decision.everything(batch, note=note, normalize=self.normalize, metrics=metrics)
        advance(plant, decision, [self._effect(in_nats, multiplier) / float(plant.gains)])
        return decision

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return the weights of tokens, 1 for all where nothing is to be done."""
        if decision.note is None:
            return None
        change_BT = cast(Tensor, tokens.change_BT).masked_fill(~tokens.mask_BT.bool(), 0.0)  # what is masked may be NaN
        return 1.0 + (decision.note * change_BT).clamp(-self.most, self.most)

    def _weights(self, changes: Ranking, multiplier: float) -> Tensor:
        return 1.0 + (multiplier * changes.sums_K / changes.counts_K).clamp(-self.most, self.most)

    def _effect(self, changes: Ranking, multiplier: float) -> float:
        """Return the effect of weighed changes, which grows with the multiplier."""
        weighed = (self._weights(changes, multiplier) * changes.sums_K).sum().item()
        return weighed / math.sqrt(max(changes.counts_K.sum().item(), 1.0))

    def _spread(self, changes: Ranking, multiplier: float) -> float:
        """Return by how much weights differ from 1 in the root mean square."""
        squares = (self._weights(changes, multiplier) - 1.0).square() * changes.counts_K
        return math.sqrt(squares.sum().item() / max(changes.counts_K.sum().item(), 1.0))

    def _farthest(self, changes: Ranking) -> float:
        """Return the multiplier that takes all weights to their limits."""
        sizes_K = (changes.sums_K / changes.counts_K).abs()
        return self.most / sizes_K.min().item() if len(sizes_K) else 0.0

    def _multiplier(self, changes: Ranking, wanted: float, farthest: float) -> float:
        """Return the multiplier whose weights have the wanted effect, by halving, or the farthest towards it."""
        missing = wanted - self._effect(changes, 0.0)
        if abs(missing) <= _ROUNDING * changes.size():
            return 0.0
        side, near, far = math.copysign(1.0, missing), 0.0, farthest
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            is_enough = side * (self._effect(changes, side * middle) - wanted) >= 0.0
            near, far = (near, middle) if is_enough else (middle, far)
        return side * far

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return self._plant.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        self._plant.load_state_dict(state)
