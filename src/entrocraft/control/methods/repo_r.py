"""REPO-R: advantages are scaled by how rare a token is, with a strength that adapts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class RepoR(Method):
    """Let rare tokens count for more where they are rewarded and for less where they are punished, or the reverse.

    With the log-probability l of the sampled token, in nats, and the strength z,

        A > 0:  A <- max(0, A (1 - z l)),        A < 0:  A <- min(0, A (1 + z l)).

    A positive z raises entropy, a negative one lowers it. Before each update z takes one step towards more where
    entropy is below the target, towards less where it is above: away from 0 it doubles, towards 0 it halves, and where
    that would take its size below `least`, it goes on at `least` with the other sign.

    Args:
        zeta: z before the first decision, per nat.
        adaptive: Let z follow the curve; otherwise it stays, and the curve is only watched.
        least: Smallest size of z, more than 0; for `adaptive` alone, as `most` is.
        most: Greatest size of z.

    Raises:
        InvalidValueError: A number is not finite, or out of order.

    Degenerate cases: where no token has an advantage nothing changes, and z moves all the same. Tokens whose advantage
    the clamp takes to 0 are left out, and still counted in the loss's mean.

    Source: arXiv 2603.11682, Appendix D.2, by its implementation for SkyRL (pull request 1896), which was read, with
    its defaults; the paper itself was not. Deviations: log-probabilities are those of the policy that sampled, once
    per batch, where that looks again at each mini-batch, which is the same for the first; the target is the schedule's;
    z moves before the batch's update, not after it.

    Example:
        >>> ones = torch.ones(1, 2)
        >>> tokens = Tokens(log_probs_BT=-2 * ones, entropy_BT=ones, advantages_BT=torch.tensor([[1.0, -1.0]]),
        ...                 mask_BT=ones)
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(1))
        >>> method = RepoR(zeta=0.02)
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))  # low: z is now 0.04
        tensor([[1.0800, 0.9200]])
    """

    turns = frozenset({"tokens"})
    normalize = "all"  # what is weighed down is still counted

    def __init__(self, zeta: float = 1e-3, adaptive: bool = True, least: float = 1e-4, most: float = 0.05):
        self.zeta = checked_number("zeta", zeta, minimum=-float("inf"))
        self.adaptive = adaptive
        self.least, self.most = checked_number("least", least), checked_number("most", most)
        if adaptive and not (0.0 < self.least <= self.most and abs(self.zeta) <= self.most):
            raise InvalidValueError(f"expected 0 < least <= most and |zeta| <= most, got {least}, {most} and {zeta}")

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        if self.adaptive and batch.entropy != goal.target:
            self._step(1 if batch.entropy < goal.target else -1)
        metrics = {"strength": self.zeta}
        return Decision.everything(batch, note=self.zeta, normalize=self.normalize, metrics=metrics)

    def _step(self, direction: int) -> None:
        size = abs(self.zeta)
        if self.zeta * direction > 0:
            self.zeta = direction * min(self.most, 2.0 * size)
        elif size / 2.0 >= self.least:
            self.zeta /= 2.0
        else:
            self.zeta = direction * self.least

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor:
        """Return `max(0, 1 - sign(A) z l)` for each token."""
        rarity_BT = -tokens.log_probs_BT.masked_fill(~tokens.mask_BT.bool(), 0.0)  # what is masked may be NaN
        return (1.0 + torch.sign(tokens.advantages_BT) * decision.note * rarity_BT).clamp(min=0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"zeta": self.zeta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of REPO-R", state, self.state_dict())
        self.zeta = float(state["zeta"])
