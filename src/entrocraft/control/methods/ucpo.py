"""UCPO: of the successes of a prompt, unlikely ones count for more and likely ones for less."""

from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.following import Following
from entrocraft.control.methods.groups import rows_by_prompt


class Ucpo(Following):
    """Spread the advantages of a prompt's successes towards a uniform policy over correct answers.

    For each prompt with n successes, of probabilities `q_i ~ exp(-s_i)` with the surprisal s_i in nats per token,

        A_i <- A_i n [(1 - tau) / n + tau (1 / q_i) / sum_j (1 / q_j)],

    which leaves the sum of their advantages as it was. Failures keep theirs.

    Args:
        tau: Share of the sum that is dealt out by how unlikely a success is, in [0, 1].
        follow: Move `tau`, so that entropy follows the curve. The greater it is, the more unlikely successes are learnt
            and the higher entropy becomes. At 0 nothing lowers entropy further.
        gain: Factor on the gains of that loop; see `Following`.

    Raises:
        InvalidValueError: A number is out of range, there is a gain and nothing follows, or the batch has no `groups`.

    Degenerate cases: prompts with one success or none are left as they are, and so are those whose rewards are all
    equal if the estimator gives them no advantage. A rollout of which no token counts keeps its advantage.

    Source: arXiv 2605.00365, equations 16, 47 and 51, from an implementation that was read and an account of its
    authors' code; probabilities per token are those of the latter. Deviations: a success is a reward above 0; each
    keeps its own advantage in front of the factor, where all successes of a prompt share one there. `follow` is this
    library's.

    Example:
        >>> fields = {"rewards": torch.tensor([1.0, 1.0, 0.0]), "groups": torch.zeros(3)}
        >>> fields |= {"num_tokens": torch.ones(3), "sequence_log_probs": torch.tensor([0.6, 0.2, 0.2]).log()}
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.tensor([1.0, 1.0, -2.0]), **fields)
        >>> Ucpo(tau=0.4).decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).advantages  # 1/q is 1 to 3
        tensor([ 0.8000,  1.2000, -2.0000])
    """

    needs = frozenset({"rewards", "sequence_log_probs"})
    turns = frozenset({"advantages"})
    limits, sign, strength_name = (0.0, 1.0), 1, "tau"

    def __init__(self, tau: float = 0.2, follow: bool = False, gain: float | None = None):
        super().__init__(tau, follow, gain)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        tau, advantages = self.moved(batch, goal), batch.advantages.clone()
        surprisal = batch.surprisal.double()
        for rows in rows_by_prompt(batch, among=cast(Tensor, batch.rewards) > 0):
            # 1 / q_i over the sum of these is a softmax of surprisals.
            factors = 1.0 - tau + tau * len(rows) * torch.softmax(surprisal[rows], dim=0)
            advantages[rows] *= factors.to(advantages.dtype)
        metrics = {"strength": tau}
        return Decision.everything(batch, advantages=advantages, normalize=self.normalize, metrics=metrics)
