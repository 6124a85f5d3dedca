"""What rollouts show of the paper's conditions, of predictors, and of where entropy changes come from.

Shapes: P prompts, G rollouts per prompt, B = P * G rollouts, T tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from entrocraft.analysis.diagnosis.rollouts import ScoredRollouts
from entrocraft.dynamics import sequence_condition, token_condition


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Shares, 0 to 1, of some rollouts for which reinforcing lowers entropy; None if there is none of them."""

    num_rollouts: int
    sequence_condition: float | None
    """Share of rollouts that meet Theorem 2 as stated, which weighs all tokens alike and so says little."""
    mean_sensitivity: float | None
    """Share of rollouts with a mean sensitivity S above 0, the sign that decides to first order."""
    token_condition: float | None
    """Share of tokens that meet Theorem 1."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well a predictor agrees with the exact local change, over the rollouts that change anything."""

    by_count: float
    """Share of rollouts with the same sign."""
    by_size: float
    """Share of the size of all exact changes that rollouts with the same sign have."""
    correlation: float | None
    """Pearson's correlation of predicted and exact changes; None where one side does not vary."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two parts of the predicted change of the batch, in nats per token per unit step."""

    local_size: float
    """Sum of the absolute local changes of the rollouts."""
    local: float
    """Sum of the local changes with their signs."""
    visitation_size: float
    """Sum of the absolute changes by visiting other contexts."""
    visitation: float
    """Sum of these changes with their signs."""

    @property
    def ratio(self) -> float:
        """Visitation over local, by size; infinite if there is no local change."""
        return self.visitation_size / self.local_size if self.local_size else math.inf


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Medians over some rollouts of their means per token, in nats; None if there is none of them."""

    log_likelihood: float | None
    """Median of the rollouts' mean log-probability."""
    baseline: float | None
    """Median of the rollouts' mean output-space baseline; see `dynamics.output_space_baseline`."""


def agreement_of(predicted_B: Tensor, exact_B: Tensor) -> Agreement:
    """Return how well predicted changes agree with exact ones, where those are not zero.

    Args:
        predicted_B: Predicted changes, in any unit.
        exact_B: Exact changes, in any unit, and not all zero. A rollout of zero has no sign and does not count.

    Example:
        >>> a = agreement_of(torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([3.0, -1.0, 4.0, 0.0]))
        >>> round(a.by_count, 3), a.by_size  # 2 of 3; 7 of 8
        (0.667, 0.875)
    """
    moving_B = exact_B != 0
    predicted, exact = predicted_B[moving_B].double(), exact_B[moving_B].double()
    same = (predicted.sign() == exact.sign()).double()
    varies = len(exact) > 1 and bool(predicted.std() > 0) and bool(exact.std() > 0)
    return Agreement(
        by_count=same.mean().item(),
        by_size=((same * exact.abs()).sum() / exact.abs().sum()).item(),
        correlation=torch.corrcoef(torch.stack([predicted, exact]))[0, 1].item() if varies else None,
    )


def conditions_of(r: ScoredRollouts, rows_B: Tensor) -> Conditions:
    """Return how often the paper's conditions hold among the rollouts where `rows_B` is True."""
    num_rollouts = int(rows_B.sum())
    if not num_rollouts:
        return Conditions(num_rollouts=0, sequence_condition=None, mean_sensitivity=None, token_condition=None)
    log_probs_BT, baseline_BT, mask_BT = r.log_probs_BT[rows_B], r.baseline_BT[rows_B], r.mask_BT[rows_B].bool()
    return Conditions(
        num_rollouts=num_rollouts,
        sequence_condition=sequence_condition(log_probs_BT, baseline_BT, mask_BT).double().mean().item(),
        mean_sensitivity=(row_means(r.sensitivity_BT[rows_B], mask_BT) > 0).double().mean().item(),
        token_condition=token_condition(log_probs_BT, baseline_BT)[mask_BT].double().mean().item(),
    )


def row_means(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return each row's mean over the counted tokens (B,), float64; 0 for a row with none."""
    mask_BT = mask_BT.bool()
    return x_BT.double().masked_fill(~mask_BT, 0.0).sum(-1) / mask_BT.sum(-1).clamp(min=1)


def likelihood_of(log_likelihood_B: Tensor, baseline_B: Tensor, rows_B: Tensor) -> Likelihood:
    """Return the medians of log-likelihood and baseline over the rollouts where `rows_B` is True."""
    if not rows_B.any():
        return Likelihood(log_likelihood=None, baseline=None)
    return Likelihood(
        log_likelihood=log_likelihood_B[rows_B].quantile(0.5).item(), baseline=baseline_B[rows_B].quantile(0.5).item()
    )
