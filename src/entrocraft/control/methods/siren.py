"""SIREN: the most uncertain tokens of each rollout are drawn to an anchor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total
from entrocraft.control.states import check_state
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class Siren(Method):
    """Add `coef * (Hp - anchor)^2` to the loss, with the mean Hp over rollouts of their peak entropies.

    A rollout's peak entropy is the mean entropy of its counted tokens above their own `1 - share` quantile. The
    gradient is that of an entropy bonus with a coefficient of each token's own: for one of n peaks of a rollout, of B
    rollouts with peaks, `-2 coef (Hp - anchor) / (n B)`.

    The source's anchor is Hp at the first step. Here it moves with the curve: `Hp / H` of the first batch times the
    target H*, which is the same where the curve stays at the entropy that it began with.

    Args:
        coef: Coefficient of the term.
        share: Share of each rollout's counted tokens that are peaks, in (0, 1).

    Raises:
        InvalidValueError: A number is out of range.

    Degenerate cases: a rollout whose entropies are all the same has no peak, and no part in Hp.

    Source: SIREN, arXiv 2509.25133, and its code, with its defaults; it is run with an upper clip range of 0.28 and
    advantages that are not divided by their deviation, which are the trainer's to set. As there, Hp is that of each
    micro-batch of each rank. Deviations: entropies are those of the full vocabulary, where the source takes those of
    the likeliest 80 %; the anchor follows the curve, and the first batch's Hp is taken before its update.

    Example:
        >>> ones = torch.ones(1, 4)
        >>> seen = {"log_probs_BT": -ones, "entropy_BT": torch.tensor([[0.1, 0.2, 0.3, 2.0]]), "advantages_BT": ones}
        >>> seen["mask_BT"] = ones
        >>> method = Siren(coef=0.5)
        >>> reading = method.read(Tokens(**seen), lambda sums: sums)
        >>> batch = Batch(step=1, entropy=1.0, advantages=torch.ones(1), reading=reading)
        >>> decision = method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))  # half of where entropy began
        >>> method.surrogate(MiniBatch(old_log_probs_BT=-ones, **seen), decision, lambda sums: sums).entropy_coef_BT
        tensor([[-0., -0., -0., -4.]])
    """

    needs = frozenset({"token_entropy"})
    turns = frozenset({"surrogate"})

    def __init__(self, coef: float = 0.005, share: float = 0.2):
        self.coef, self.share = checked_number("coef", coef), checked_number("share", share)
        if not 0.0 < self.share < 1.0:
            raise InvalidValueError(f"share must lie in (0, 1), got {share}")
        self.peak_ratio: float | None = None

    def read(self, tokens: Tokens, total: Total) -> list[float]:
        """Return the sum of the peak entropies of all ranks' rollouts, and how many have one."""
        peaks_BT = self._peaks(tokens.entropy_BT, tokens.mask_BT)
        has_peak_B = peaks_BT.any(dim=1)
        sums = torch.stack([_peak_entropies(tokens.entropy_BT, peaks_BT).sum(), has_peak_B.sum()])
        read: list[float] = total(sums.cpu().double()).tolist()
        return read

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        peak_sum, num_peaked = batch.reading
        if self.peak_ratio is None and num_peaked and batch.entropy > 0.0:
            self.peak_ratio = peak_sum / num_peaked / batch.entropy
        anchor = None if self.peak_ratio is None else self.peak_ratio * goal.target
        return Decision.everything(batch, note=anchor)

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate | None:
        """Return the coefficients of the peaks, 0 for other tokens; the loss's own surrogate stays."""
        peaks_BT = self._peaks(seen.entropy_BT, seen.mask_BT)
        num_peaked = peaks_BT.any(dim=1).sum()
        if decision.note is None or not num_peaked:
            return None
        mean = _peak_entropies(seen.entropy_BT, peaks_BT).sum() / num_peaked
        share_BT = peaks_BT / peaks_BT.sum(dim=1, keepdim=True).clamp(min=1) / num_peaked
        # A coefficient is part of a mean over all counted tokens, and this a sum over peaks.
        coef_BT = -2.0 * self.coef * (mean - decision.note) * share_BT * seen.mask_BT.sum()
        return Surrogate(entropy_coef_BT=coef_BT)

    def _peaks(self, entropy_BT: Tensor, mask_BT: Tensor) -> Tensor:
        counted_BT = mask_BT.bool()
        entropy_BT = entropy_BT.float().masked_fill(~counted_BT, torch.nan)
        # Row by row: torch refuses to take quantiles of more than 16 million numbers at once.
        edge_B = torch.stack([torch.nanquantile(row, 1.0 - self.share) for row in entropy_BT])
        return entropy_BT > edge_B[:, None]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"peak_ratio": self.peak_ratio}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of SIREN", state, self.state_dict())
        self.peak_ratio = None if state["peak_ratio"] is None else float(state["peak_ratio"])


def _peak_entropies(entropy_BT: Tensor, peaks_BT: Tensor) -> Tensor:
    """Return the mean entropy of each rollout's peaks (B,), 0 for one without."""
    return entropy_BT.masked_fill(~peaks_BT, 0.0).sum(dim=1) / peaks_BT.sum(dim=1).clamp(min=1)
