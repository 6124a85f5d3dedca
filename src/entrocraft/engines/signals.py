"""Signals made from an engine's measurements: those that a decision depends on, and no others.

Shapes: B rollouts of this rank, T tokens.
"""

from dataclasses import replace

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.goal import Goal
from entrocraft.control.methods import Method
from entrocraft.dynamics import estimated_self_kernel, token_rarity, visitation_rise
from entrocraft.engines.ranks import Ranks, tokens_elsewhere
from entrocraft.engines.rollouts import RiseOfLogProbs, Rollouts
from entrocraft.entropy import entropy_from_sums, entropy_sums


class SignalMaker:
    """Makes what a method wants to know of a batch; see `control.signals`.

    Args:
        method: The method that asks.
        ranks: Among which the batch is divided.
        by_rollout: True if the loss averages over each rollout's tokens before it averages over rollouts.
        by_rarity: True if changes are predicted by rarity (`dynamics.token_rarity`), and not by sensitivity.
    """

    def __init__(self, method: Method, ranks: Ranks, *, by_rollout: bool, by_rarity: bool = False):
        self._method, self._ranks = method, ranks
        self._by_rollout, self._by_rarity = by_rollout, by_rarity

    def added(
        self, batch: Batch, goal: Goal, rollouts: Rollouts, rise: RiseOfLogProbs | None = None
    ) -> tuple[Batch, Tokens]:
        """Return the batch and this rank's tokens, with the signals that this decision depends on.

        Args:
            batch: The batch over all ranks, as far as it is known.
            goal: The stretch of the curve that the decision is about.
            rollouts: This rank's, whose stats hold sensitivities, exact or estimated.
            rise: For predictions that come from the whole model's response; otherwise they are made from the stats.
        """
        method, stats = self._method, rollouts.stats
        wanted = method.wants(batch, goal)
        change_BT = change = visitation_BT = visitation = sequence_log_probs = covariance_BT = None
        # A rollout's change is the sum over its tokens: effects of one update add up to first order.
        if "change" in wanted:
            change_BT = self._token_changes(rollouts, rise)
            change = self._ranks.gathered(change_BT.sum(-1))[0]
        if "visitation" in wanted:
            visitation_BT = self._token_visitation(rollouts)
            visitation = self._ranks.gathered(visitation_BT.sum(-1))[0]
        if "sequence_log_probs" in wanted:
            sequence_log_probs = self._ranks.gathered(self._sequence_log_probs(rollouts))[0]
        if "covariance" in wanted:
            covariance_BT = self._covariances(rollouts)
        tokens = Tokens(
            log_probs_BT=stats.log_probs_BT,
            entropy_BT=stats.entropy_BT,
            advantages_BT=rollouts.advantages.view(len(rollouts.mask_BT), -1).expand_as(rollouts.mask_BT),
            mask_BT=rollouts.mask_BT,
            change_BT=change_BT,
            visitation_BT=visitation_BT,
            covariance_BT=covariance_BT,
            first_row=self._ranks.index * len(rollouts.mask_BT),
        )
        reading = method.read(tokens, lambda values: self._ranks.summed(values.cpu()))
        batch = replace(
            batch, reading=reading, change=change, visitation=visitation, sequence_log_probs=sequence_log_probs
        )
        return batch, tokens

    def _sequence_log_probs(self, rollouts: Rollouts) -> Tensor:
        """Return the log-probability of each rollout (B,), in nats: the sum over its counted tokens."""
        counted_BT = rollouts.mask_BT.bool()
        return rollouts.stats.log_probs_BT.masked_fill(~counted_BT, 0.0).sum(-1)  # what is masked may be NaN

    def _mean_entropy(self, rollouts: Rollouts) -> float:
        """Return the entropy per token of all ranks: predictions are about it, whatever mean the batch's entropy is."""
        sums, counts = self._ranks.gathered(*entropy_sums(rollouts.stats.entropy_BT, rollouts.mask_BT))
        return entropy_from_sums(sums, counts)

    def _token_changes(self, rollouts: Rollouts, rise: RiseOfLogProbs | None) -> Tensor:
        """Return what each token's part in the update would change entropy by (B, T), 0 where the mask is."""
        stats = rollouts.stats
        if rise is not None:
            return self._in_loss(rise(self._mean_entropy(rollouts)), rollouts)
        if self._by_rarity:
            return self._in_loss(token_rarity(stats.log_probs_BT, stats.entropy_BT, rollouts.mask_BT), rollouts)
        assert stats.sensitivity_BT is not None, "estimated, if it was not measured"
        # Eq. 4 of arXiv 2604.26326: a step along A grad log p changes entropy by -A S, in nats per unit step.
        return self._in_loss(-stats.sensitivity_BT, rollouts)

    def _in_loss(self, rise_BT: Tensor, rollouts: Rollouts) -> Tensor:
        """Return what tokens change (B, T), from what each would at an advantage of 1 and a weight of 1 in the loss."""
        mask_BT = rollouts.mask_BT
        rise_BT = rise_BT.masked_fill(~mask_BT.bool(), 0.0)  # what is masked may be NaN
        # What one token weighs in the loss: 1, or 1 / tokens of its rollout where rollouts weigh alike.
        weights_B = rollouts.loss_weights(by_rollout=self._by_rollout) / mask_BT.sum(-1).clamp(min=1)
        return rollouts.advantages.view(len(mask_BT), -1) * rise_BT * weights_B[:, None]

    def _self_kernels(self, rollouts: Rollouts) -> Tensor:
        """Return the self-kernels (B, T), measured where the engine could, else estimated."""
        stats = rollouts.stats
        if stats.self_kernel_BT is not None:
            return stats.self_kernel_BT
        return estimated_self_kernel(
            stats.log_probs_BT, stats.entropy_BT, rollouts.mask_BT, elsewhere=tokens_elsewhere(self._ranks)
        )

    def _token_visitation(self, rollouts: Rollouts) -> Tensor:
        """Return what each token's part in the update would change entropy by (B, T), by visiting other contexts."""
        mean_entropy, kernel_BT = self._mean_entropy(rollouts), self._self_kernels(rollouts)
        rise_BT = visitation_rise(kernel_BT, rollouts.stats.entropy_BT, rollouts.mask_BT, mean_entropy)
        return self._in_loss(rise_BT, rollouts)

    def _covariances(self, rollouts: Rollouts) -> Tensor:
        """Return `(log p - mean)(A - mean)` of each token (B, T); means are over the counted tokens of all ranks."""
        counted_BT = rollouts.mask_BT.bool()
        log_probs_BT = rollouts.stats.log_probs_BT.masked_fill(~counted_BT, 0.0)  # what is masked may be NaN
        advantages_BT = rollouts.advantages.view(len(counted_BT), -1).expand_as(log_probs_BT)
        # On the CPU, for float64, and as sums and a count, of which ranks make the same means.
        sums = torch.stack([(column * counted_BT).cpu().double().sum() for column in (log_probs_BT, advantages_BT)])
        table = self._ranks.summed(torch.cat([sums, counted_BT.sum().cpu().double().view(1)]))
        mean_log_prob, mean_advantage = (table[:2] / table[2].clamp(min=1)).tolist()
        return (log_probs_BT - mean_log_prob) * (advantages_BT - mean_advantage) * counted_BT
