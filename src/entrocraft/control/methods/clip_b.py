"""Clip_B: of the punished tokens, those whose punishment lowers entropy most teach nothing."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Total
from entrocraft.control.methods.following import Following

_SPREAD = 1e-12  # below this all tokens are alike


class ClipB(Following):
    """Leave tokens of negative advantage out of the loss that would lower entropy by far more than others.

    With `S = p (H + log p)` of a sampled token, of probability p from a distribution of entropy H, a policy gradient
    moves entropy by `-A (S - mean S)` to first order. A token of negative advantage is left out if

        S - mean S < -threshold * std S,

    with mean and standard deviation over all N counted tokens, the latter with N for a divisor. Tokens of positive
    advantage are all kept. The loss divides by what is kept.

    Args:
        threshold: In standard deviations of S, in [0, 5].
        follow: Move the threshold, so that entropy follows the curve. The higher it is, the fewer tokens are left out
            and the lower entropy becomes. At 5 hardly any is, and nothing lowers entropy further.
        gain: Factor on the gains of that loop; see `Following`.

    Raises:
        InvalidValueError: A number is out of range, or there is a gain and nothing follows.

    Degenerate cases: where S is the same for all tokens, or no advantage is negative, everything is kept.

    Source: Clip_B of arXiv 2602.03392, with the default of its code, which was read. Deviations: means are over the
    whole batch of all ranks; the entropy and the log-probabilities are of the policy that sampled. `follow` is this
    library's.

    Example:
        >>> log_probs = torch.tensor([[0.1, 0.9, 0.9, 0.9]]).log()
        >>> entropy, ones = torch.full((1, 4), 0.5), torch.ones(1, 4)
        >>> tokens = Tokens(log_probs_BT=log_probs, entropy_BT=entropy, advantages_BT=-ones, mask_BT=ones)
        >>> method = ClipB(threshold=1.5)
        >>> batch = Batch(step=1, entropy=0.5, advantages=-torch.ones(1), reading=method.read(tokens, lambda x: x))
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))
        tensor([[0., 1., 1., 1.]])
    """

    needs = frozenset({"token_entropy"})
    turns = frozenset({"tokens"})
    limits, sign, strength_name = (0.0, 5.0), -1, "threshold"

    def __init__(self, threshold: float = 2.5, follow: bool = False, gain: float | None = None):
        super().__init__(threshold, follow, gain)

    def read(self, tokens: Tokens, total: Total) -> tuple[float, float]:
        """Return the mean and the standard deviation of S over all ranks' counted tokens."""
        sensitivity = _sensitivity(tokens)[tokens.mask_BT.bool()].cpu().double()
        count, summed = total(torch.stack([torch.tensor(float(len(sensitivity))), sensitivity.sum()])).tolist()
        mean = summed / max(count, 1.0)
        squares = total(((sensitivity - mean) ** 2).sum().view(1)).item()
        return mean, (squares / max(count, 1.0)) ** 0.5

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        threshold, (mean, std) = self.moved(batch, goal), batch.reading
        note = mean - threshold * std if std >= _SPREAD else None
        return Decision.everything(batch, note=note, normalize=self.normalize, metrics={"strength": threshold})

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return 0 for tokens of negative advantage below the limit that was decided, 1 for the others."""
        if decision.note is None:
            return None
        return 1.0 - ((tokens.advantages_BT < 0) & (_sensitivity(tokens) < decision.note)).float()


def _sensitivity(tokens: Tokens) -> Tensor:
    """Return S (B, T), in nats."""
    log_probs_BT = tokens.log_probs_BT.float()
    return log_probs_BT.exp() * (tokens.entropy_BT.float() + log_probs_BT)
