"""DS-GRPO: unlikely answers are rewarded more where they are right, and punished more where they are wrong."""

from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.following import Following
from entrocraft.schedules.base import checked_number


class DsGrpo(Following):
    """Add to each success's advantage how unlikely it is, and take as much from each failure's.

    With the log-probability l_i of rollout i in nats, summed over its tokens,

        A_i <- A_i - gamma * l_i  for a success,        A_i <- A_i + negative_gamma * l_i  for a failure.

    Args:
        gamma: For successes, in units of the advantage per nat, in [0, 0.05]. As l grows with length, so does its
            effect: a tenth of one over a rollout's usual nats is a gentle start.
        negative_gamma: For failures, in the same unit, at least 0.
        follow: Move `gamma`, so that entropy follows the curve. The greater it is, the more unlikely successes are
            learnt and the higher entropy becomes. At 0 nothing lowers entropy further.
        gain: Factor on the gains of that loop; see `Following`.

    Raises:
        InvalidValueError: A number is out of range, or there is a gain and nothing follows.

    Degenerate cases: prompts without success, with nothing else, or of one rollout have advantages, too. A rollout that
    no reward function scored, or of which no token counts, keeps its own.

    Source: differential smoothing, arXiv 2511.19942, equation 6, from two accounts of it that agree, one of them code;
    the paper was not read, and the defaults are ours. Deviations: a success is a reward above 0. `follow` is this
    library's.

    Example:
        >>> fields = {"rewards": torch.tensor([1.0, 0.0]), "sequence_log_probs": torch.tensor([-100.0, -100.0])}
        >>> fields["num_tokens"] = torch.full((2,), 50)
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.tensor([0.7, -0.7]), **fields)
        >>> DsGrpo().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).advantages
        tensor([ 0.8000, -0.8000])
    """

    needs = frozenset({"rewards", "sequence_log_probs"})
    turns = frozenset({"advantages"})
    limits, sign, strength_name = (0.0, 0.05), 1, "gamma"

    def __init__(
        self, gamma: float = 1e-3, negative_gamma: float = 1e-3, follow: bool = False, gain: float | None = None
    ):
        super().__init__(gamma, follow, gain)
        self.negative_gamma = checked_number("negative_gamma", negative_gamma)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        gamma = self.moved(batch, goal)
        rewards, log_probs = cast(Tensor, batch.rewards), cast(Tensor, batch.sequence_log_probs)
        added = torch.where(rewards > 0, -gamma, self.negative_gamma) * log_probs
        advantages = batch.advantages + added.masked_fill(rewards.isnan(), 0.0).to(batch.advantages.dtype)
        metrics = {"strength": gamma}
        return Decision.everything(batch, advantages=advantages, normalize=self.normalize, metrics=metrics)
