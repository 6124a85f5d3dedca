"""KL-Cov: the tokens of greatest covariance are held to the policy that sampled."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class KlCov(Method):
    """Add a penalty `beta * |log r|` to the loss of the few tokens of greatest covariance; clip nothing.

    Of the N counted tokens of a mini-batch, the `max(1, int(share * N))` of greatest
    `(log p - mean log p) (A - mean A)` have the loss `-r A + beta |log r|`, with the ratio r of new to old
    probabilities, all others `-r A`. The penalty has the gradient of `-r A'` with `A' = A - beta sign(log r) / r`.
    The curve is watched and not followed: the method has no target. In the first update on a batch the ratio is 1 and
    nothing is penalised: with one update per batch this is plain GRPO.

    Args:
        share: Share of the counted tokens that is penalised, in (0, 1].
        beta: Strength of the penalty, in the unit of the advantage per nat.

    Raises:
        InvalidValueError: A number is out of range.

    Source: arXiv 2505.22617 and its code as verl has it: beta 1, and shares of 2e-3 for 7B and 2e-4 for 32B parameters.
    As there, tokens are chosen in each micro-batch of each rank, by the policy of the moment: at least one of each.

    Example:
        >>> zeros, ones = torch.zeros(1, 2), torch.ones(1, 2)
        >>> columns = {"entropy_BT": ones, "advantages_BT": torch.tensor([[1.0, 0.0]]), "mask_BT": ones}
        >>> seen = MiniBatch(log_probs_BT=zeros, old_log_probs_BT=zeros - 1.0, **columns)
        >>> method, batch = KlCov(beta=0.5), Batch(step=1, entropy=0.5, advantages=torch.ones(1))
        >>> decision = method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> method.surrogate(seen, decision, lambda sums: sums).advantages_BT
        tensor([[0.8161, 0.0000]])
    """

    turns = frozenset({"surrogate"})
    acts_on_ratio = True

    def __init__(self, share: float = 2e-3, beta: float = 1.0):
        self.share, self.beta = checked_number("share", share), checked_number("beta", beta)
        if not 0.0 < self.share <= 1.0:
            raise InvalidValueError(f"share must lie in (0, 1], got {share}")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        return Decision.everything(batch)

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate:
        """Return the advantages, of which those of the tokens chosen pull the ratio back to 1."""
        chosen_BT = self._chosen(seen)
        pull_BT = self.beta * torch.sign(seen.log_ratio_BT) / seen.ratio_BT
        return Surrogate(advantages_BT=seen.advantages_BT - torch.where(chosen_BT, pull_BT, 0.0))

    def _chosen(self, seen: MiniBatch) -> Tensor:
        counted_BT = seen.mask_BT.bool()
        log_probs_N, advantages_N = seen.log_probs_BT[counted_BT], seen.advantages_BT[counted_BT]
        chosen_BT = torch.zeros_like(counted_BT)
        if len(log_probs_N):
            covariance_N = (log_probs_N - log_probs_N.mean()) * (advantages_N - advantages_N.mean())
            is_chosen_N = torch.zeros_like(covariance_N, dtype=torch.bool)
            is_chosen_N[covariance_N.topk(max(1, int(self.share * len(covariance_N)))).indices] = True
            chosen_BT[counted_BT] = is_chosen_N
        return chosen_BT
