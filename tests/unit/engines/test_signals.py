"""Signals as the engines make them: those that are wanted, of all ranks' rollouts."""

import pytest
import torch
from support.samples import GOAL, drawn_tokens

import entrocraft as ec
from entrocraft.control.decision import Decision
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.signals import SignalMaker
from entrocraft.engines.tokens import TokenStats, token_stats_of
from entrocraft.errors import InvalidValueError, MeasurementError


class Wanting(ec.Method):
    """Wants the log-probabilities of rollouts outside the band alone."""

    needs = frozenset({"sequence_log_probs"})

    def wants(self, batch, goal):
        return self.needs if goal.side(batch.entropy) else frozenset()

    def decide(self, batch, goal):
        return Decision.everything(batch)


def added(entropy):
    tokens = drawn_tokens()
    rollouts = Rollouts(
        stats=TokenStats(tokens.log_probs_BT, tokens.entropy_BT, torch.zeros_like(tokens.entropy_BT)),
        advantages=tokens.advantages_BT[:, 0],
        mask_BT=tokens.mask_BT,
    )
    counts = tokens.mask_BT.sum(-1).double()
    batch = ec.Batch(step=1, entropy=entropy, advantages=tokens.advantages_BT[:, 0], num_tokens=counts)
    return tokens, SignalMaker(Wanting(), OneRank(), by_rollout=False).added(batch, GOAL, rollouts)[0]


def test_log_probabilities_of_rollouts_are_sums_over_their_counted_tokens():
    tokens, batch = added(0.3)
    expected = [
        sum(float(tokens.log_probs_BT[row, column]) for column in tokens.mask_BT[row].nonzero().flatten())
        for row in range(len(tokens.mask_BT))
    ]
    assert batch.sequence_log_probs.tolist() == pytest.approx(expected, rel=1e-5)
    lengths = tokens.mask_BT.sum(-1)
    torch.testing.assert_close(batch.surprisal * lengths, -batch.sequence_log_probs)


def test_what_is_not_wanted_is_not_made():
    assert added(0.5)[1].sequence_log_probs is None


def test_columns_are_checked_as_the_others_are():
    fields = {"step": 4, "entropy": 0.5, "advantages": torch.ones(2)}
    with pytest.raises(MeasurementError, match="step 4, rank 0: 1 of 2 log-probabilities of rollouts are not finite"):
        ec.Batch(**fields, sequence_log_probs=torch.tensor([-1.0, torch.nan]))
    with pytest.raises(InvalidValueError, match="sequence_log_probs must have one entry per advantage"):
        ec.Batch(**fields, sequence_log_probs=torch.zeros(3))
    with pytest.raises(InvalidValueError, match="sequence_log_probs and num_tokens"):
        ec.Batch(**fields, sequence_log_probs=torch.zeros(2)).surprisal  # noqa: B018


class Predicting(ec.Method):
    """Wants changes of tokens, and keeps what it is told."""

    needs = frozenset({"change"})

    def decide(self, batch, goal):
        return Decision.everything(batch)


@pytest.mark.parametrize("by_rollout", [False, True])
def test_changes_by_rarity_are_advantage_times_rarity_by_weight_in_the_loss(by_rollout):
    log_probs_BT, entropy_BT = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]]), torch.tensor([[0.5, 1.0], [1.0, 1.0]])
    rollouts = Rollouts(
        stats=TokenStats(log_probs_BT, entropy_BT, torch.full((2, 2), 7.0)),  # sensitivities are not asked
        advantages=torch.tensor([2.0, -1.0]),
        mask_BT=torch.tensor([[1, 1], [0, 1]]),
    )
    batch = ec.Batch(step=1, entropy=0.3, advantages=rollouts.advantages, num_tokens=torch.tensor([2.0, 1.0]))
    maker = SignalMaker(Predicting(), OneRank(), by_rollout=by_rollout, by_rarity=True)
    batch, tokens = maker.added(batch, GOAL, rollouts)
    # Rarities 0.5, 1 and 2; a token of the first rollout weighs half where rollouts weigh alike.
    first = torch.tensor([1.0, 2.0]) / (2.0 if by_rollout else 1.0)
    torch.testing.assert_close(tokens.change_BT, torch.stack([first, torch.tensor([0.0, -2.0])]))
    torch.testing.assert_close(batch.change.float(), tokens.change_BT.sum(-1))


class Visiting(Predicting):
    """Wants changes by visiting other contexts."""

    needs = frozenset({"visitation"})


@pytest.mark.parametrize("by_rollout", [False, True])
def test_visitation_is_how_the_batchs_entropy_moves_as_rollouts_become_more_or_less_likely(by_rollout):
    """By finite differences: a step on one rollout, of an advantage for each token, and the batch weighed anew."""
    generator = torch.Generator().manual_seed(3)
    logits = 2.0 * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, 5, (3, 4), generator=generator)
    own = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]])
    stats = token_stats_of(logits, tokens, sensitivity=True, self_kernel=True)
    counts, sums = mask.sum(-1).double(), (stats.entropy_BT * mask).sum(-1)

    def entropy_after(row, step):
        moved, weight = logits.clone(), step / (float(counts[row]) if by_rollout else 1.0)
        direction = torch.nn.functional.one_hot(tokens[row], 5) - logits[row].softmax(-1)
        moved[row] += weight * (own[row] * mask[row])[:, None] * direction
        likelier = ((ec.token_log_probs(moved, tokens) - stats.log_probs_BT) * mask).sum(-1).exp()
        return float((likelier * sums).sum() / (likelier * counts).sum())

    slopes = [(entropy_after(row, 1e-5) - entropy_after(row, -1e-5)) / 2e-5 for row in range(3)]
    rollouts = Rollouts(stats=stats, advantages=own.float(), mask_BT=mask)
    # Another mean, such as that over rollouts, is followed elsewhere; predictions are about this one.
    batch = ec.Batch(step=1, entropy=9.0, advantages=rollouts.advantages_B, num_tokens=counts)
    found, seen = SignalMaker(Visiting(), OneRank(), by_rollout=by_rollout).added(batch, GOAL, rollouts)
    expected = torch.tensor(slopes, dtype=torch.float64) * counts.sum()  # without the factor 1 / tokens of the batch
    torch.testing.assert_close(found.visitation, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.visitation_BT.sum(-1).double(), expected, atol=1e-4, rtol=1e-4)
