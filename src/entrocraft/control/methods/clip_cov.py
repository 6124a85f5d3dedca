"""Clip-Cov: a few of the tokens that lower entropy most teach nothing."""

from typing import cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total, num_counted_and_chosen
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class ClipCov(Method):
    """Leave a small share of the tokens of high covariance out of the loss, drawn at random.

    A token is eligible if `low < (log p - mean log p) (A - mean A) < high`, with means over all counted tokens: a
    policy gradient lowers entropy by the covariance of the two. Of N counted tokens, `max(1, share * N)` eligible ones
    are left out. The loss still divides by all tokens. The curve is watched and not followed: the method has no target.

    Args:
        share: Share of all counted tokens to leave out, in [0, 1].
        low: Covariance above which a token is eligible, in nats times the unit of the advantage.
        high: Covariance below which it is.
        seed: Seed of the draws.

    Raises:
        InvalidValueError: A number is out of range.

    Degenerate cases: without an eligible token nothing is left out; where fewer are eligible than asked for, all are.

    Source: arXiv 2505.22617, with the defaults of its code. Deviations: eligibility and shares are those of the whole
    batch, not of each micro-batch; they are taken from the policy that sampled, once per batch, where its code looks
    again before each update, which is the same for the first; as many tokens are left out as are asked for on average,
    each eligible one with the same chance; tokens that the ratio clips are not spared.

    Example:
        >>> ones = torch.ones(1, 3)
        >>> columns = {"log_probs_BT": ones, "entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
        >>> tokens = Tokens(**columns, covariance_BT=torch.tensor([[0.5, 2.0, 9.0]]))
        >>> method = ClipCov()
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.ones(1), reading=method.read(tokens, lambda x: x))
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))
        tensor([[1., 0., 1.]])
    """

    needs = frozenset({"covariance"})
    turns = frozenset({"tokens"})
    normalize = "all"

    def __init__(self, share: float = 2e-4, low: float = 1.0, high: float = 5.0, seed: int = 0):
        self.share = checked_number("share", share)
        self.low, self.high = checked_number("low", low), checked_number("high", high)
        if self.share > 1.0 or not self.low < self.high:
            raise InvalidValueError(f"expected a share of at most 1 and low < high, got {share}, {low} and {high}")
        self.seed = seed

    def _eligible(self, tokens: Tokens) -> Tensor:
        covariance_BT = cast(Tensor, tokens.covariance_BT)
        return (covariance_BT > self.low) & (covariance_BT < self.high) & tokens.mask_BT.bool()

    def read(self, tokens: Tokens, total: Total) -> tuple[float, float]:
        """Return how many tokens of all ranks count, and how many of these are eligible."""
        return num_counted_and_chosen(tokens, self._eligible(tokens), total)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        num_tokens, num_eligible = batch.reading
        num_left_out = max(1.0, self.share * num_tokens) if self.share else 0.0
        # Drawn token by token with one chance, so many are left out on average, without an exchange of indices.
        chance = min(1.0, num_left_out / max(num_eligible, 1.0))
        metrics = {"eligible_fraction": num_eligible / max(num_tokens, 1.0)}
        return Decision.everything(batch, note=(chance, batch.step), normalize=self.normalize, metrics=metrics)

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor:
        """Return 0 for the tokens drawn, 1 for the others; draws depend on seed, step and row of the whole batch."""
        chance, step = decision.note
        eligible_BT = self._eligible(tokens)
        weights_BT = torch.ones(eligible_BT.shape)
        for row in eligible_BT.any(dim=1).nonzero().flatten().tolist():
            # A generator for each row, so that it does not matter how rows are divided among ranks.
            generator = torch.Generator().manual_seed(hash((self.seed, step, tokens.first_row + row)) % 2**63)
            is_drawn = torch.rand(eligible_BT.shape[1], generator=generator) < chance
            weights_BT[row, eligible_BT[row].cpu() & is_drawn] = 0.0
        return weights_BT.to(tokens.log_probs_BT.device)
