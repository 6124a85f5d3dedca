"""STEER: tokens that would change entropy most count for less, and those that change it least for more."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Total
from entrocraft.control.methods.following import Following
from entrocraft.control.methods.order import kth_largest


class SteerWeights(Following):
    """Weigh tokens by how little their part in the update changes entropy.

    With the probability p of a sampled token, the entropy H of its distribution and its advantage A, the size of the
    change is `O = |A (1 - p) (log p + H)|`, and the token's weight

        1 + spread - 2 spread (O - min O) / (max O - min O),

    from `1 + spread` for the least change to `1 - spread` for the greatest, over all counted tokens.

    Args:
        spread: Half of the distance between the weights, in [0, 1].
        follow: Move the spread, so that entropy follows the curve. It holds entropy back wherever training takes it.
            The loop takes for granted that it takes it down, so that more spread means more entropy; at 0 nothing
            lowers entropy further.
        gain: Factor on the gains of that loop; see `Following`.

    Raises:
        InvalidValueError: A number is out of range, or there is a gain and nothing follows.

    Degenerate cases: where all tokens change entropy by as much, without an advantage for one, all weights are 1.

    Source: STEER, arXiv 2510.10150, by its code of January 2026, which was read, with its linear weights, 1.2 to 0.8;
    an earlier version squares `1 - p`. Deviations: least and greatest are of the whole batch, not of each micro-batch;
    O is of the policy that sampled, once per batch, so that its ratio of probabilities is 1, which is the same for the
    first update; the exponential weights are left out. `follow` is this library's.

    Example:
        >>> log_probs = torch.tensor([[0.1, 0.5, 1.0]]).log()
        >>> ones = torch.ones(1, 3)
        >>> tokens = Tokens(log_probs_BT=log_probs, entropy_BT=0.5 * ones, advantages_BT=ones, mask_BT=ones)
        >>> method = SteerWeights()
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.ones(1), reading=method.read(tokens, lambda x: x))
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))
        tensor([[0.8000, 1.1762, 1.2000]])
    """

    needs = frozenset({"token_entropy"})
    turns = frozenset({"tokens"})
    normalize = "all"  # what is weighed down is still counted
    limits, sign, strength_name = (0.0, 1.0), 1, "spread"

    def __init__(self, spread: float = 0.2, follow: bool = False, gain: float | None = None):
        super().__init__(spread, follow, gain)

    def read(self, tokens: Tokens, total: Total) -> tuple[float, float]:
        """Return the least and the greatest change over all ranks' counted tokens."""
        change_N = _change(tokens)[tokens.mask_BT.bool()]
        count = int(total(torch.tensor([float(len(change_N))]).double()).item())
        return (kth_largest(change_N, count, total), kth_largest(change_N, 1, total)) if count else (0.0, 0.0)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        spread, (least, greatest) = self.moved(batch, goal), batch.reading
        note = (spread, least, greatest) if greatest > least else None
        return Decision.everything(batch, note=note, normalize=self.normalize, metrics={"strength": spread})

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return the weights, which fall along a line from the least change to the greatest."""
        if decision.note is None:
            return None
        spread, least, greatest = decision.note
        return 1.0 + spread - 2.0 * spread * (_change(tokens) - least) / (greatest - least)


def _change(tokens: Tokens) -> Tensor:
    """Return O (B, T), in nats times the unit of the advantage; 0 where the mask is."""
    log_probs_BT, entropy_BT = tokens.log_probs_BT.float(), tokens.entropy_BT.float()
    change_BT = tokens.advantages_BT * (1.0 - log_probs_BT.exp()) * (log_probs_BT + entropy_BT)
    return change_BT.abs().float().masked_fill(~tokens.mask_BT.bool(), 0.0)  # what is masked may be NaN
