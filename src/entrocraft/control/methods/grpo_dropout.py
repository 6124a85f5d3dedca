"""GRPODropout: the likeliest of a prompt's successes are left out, until the rest does not lower entropy."""

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.following import Following
from entrocraft.control.methods.groups import rows_by_prompt

_ROUNDING = 1e-12


class GrpoDropout(Following):
    """Leave out rollouts of positive advantage that lower entropy, as many as a prompt's entropy balance needs.

    For each prompt, with the surprisal s_i of rollout i in nats per token, its advantage A_i and G rollouts, a rollout
    changes entropy by `h_i = A_i (s_i - mean s) / G`. The most negative are taken out until the sum of h over the rest
    is at least `threshold`; those of them with `A_i <= 0` are put back. What is kept is centred anew,

        A_i <- A_i - sum_kept(p A) / sum_kept(p),        p = exp(-s),

    and the loss divides by what is kept.

    Args:
        threshold: What the sum of h must reach, in nats per token times the unit of the advantage, in [-0.2, 0.2].
        follow: Move the threshold, so that entropy follows the curve. The higher it is, the more likely successes are
            left out and the higher entropy becomes. Where nothing is left out, nothing lowers entropy further.
        gain: Factor on the gains of that loop; see `Following`.

    Raises:
        InvalidValueError: A number is out of range, there is a gain and nothing follows, or the batch has no `groups`.

    Degenerate cases: a prompt of one rollout, or without an advantage, is left as it is for thresholds of at most 0. A
    rollout of which no token counts keeps its advantage, and is not compared.

    Source: arXiv 2610.11854, equations 2, 4, 7 and 9, and its code's selection, both read. Deviations: its code keeps
    at least a quarter of each prompt's rollouts at random where advantages are all 0, which teach nothing here.
    `follow` is this library's.

    Example:
        >>> batch = Batch(
        ...     step=1, entropy=0.5, advantages=torch.tensor([1.0, 1.0, -1.0, -1.0]), groups=torch.zeros(4),
        ...     num_tokens=torch.full((4,), 10), sequence_log_probs=torch.tensor([-1.0, -5.0, -6.0, -4.0]),
        ... )
        >>> decision = GrpoDropout().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> decision.keep, decision.advantages.round(decimals=3)  # the likelier of the two successes goes
        (tensor([False,  True,  True,  True]), tensor([ 0.0000,  1.3360, -0.6640, -0.6640]))
    """

    needs = frozenset({"sequence_log_probs"})
    turns = frozenset({"rollouts", "advantages"})
    limits, sign, strength_name = (-0.2, 0.2), 1, "threshold"

    def __init__(self, threshold: float = 0.0, follow: bool = False, gain: float | None = None):
        super().__init__(threshold, follow, gain)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        threshold = self.moved(batch, goal)
        keep, advantages = torch.ones(len(batch.advantages), dtype=torch.bool), batch.advantages.clone()
        surprisal = batch.surprisal.double()
        for rows in rows_by_prompt(batch):
            own_G, surprisal_G = advantages[rows], surprisal[rows]
            keep_G = kept(own_G, surprisal_G, threshold)
            # By a softmax: likelihoods themselves may be too small to be divided by. Not a number if nothing is kept.
            likely_G = (-surprisal_G).masked_fill(~keep_G, -torch.inf).softmax(0).nan_to_num(0.0).to(own_G)
            centre = (likely_G * own_G).sum()
            keep[rows], advantages[rows] = keep_G, (own_G - centre) * keep_G
        metrics = {"strength": threshold}
        return Decision(keep=keep, advantages=advantages, normalize=self.normalize, metrics=metrics)


def kept(advantages_G: Tensor, surprisal_G: Tensor, threshold: float) -> Tensor:
    """Return which rollouts of one prompt are kept (G,)."""
    change_G = advantages_G.double() * (surprisal_G - surprisal_G.mean()) / len(surprisal_G)
    ordered_G, order = change_G.sort()
    # The sum of those that are left if the first 0, 1, ..., G - 1 are taken out.
    left_G = ordered_G.flip(0).cumsum(0).flip(0)
    taken_out = (left_G < threshold - _ROUNDING) & (ordered_G < 0)
    keep_G = torch.ones_like(taken_out)
    keep_G[order[taken_out]] = False
    return keep_G | (advantages_G <= 0)
