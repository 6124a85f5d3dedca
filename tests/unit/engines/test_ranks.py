"""Estimates that are made over the tokens of all ranks are those of one process that holds the whole batch."""

import pytest
import torch
from support.meeting import Meeting

from entrocraft.dynamics import estimated_entropy_sensitivity, estimated_self_kernel, estimates
from entrocraft.engines.ranks import OneRank, RanksTokens, tokens_elsewhere


@pytest.mark.parametrize("most_sorted", [2**16, 100], ids=["all sorted", "edges of a sample"])
@pytest.mark.parametrize("estimate", [estimated_entropy_sensitivity, estimated_self_kernel])
def test_estimates_over_three_ranks_are_those_of_one_process(monkeypatch, estimate, most_sorted):
    monkeypatch.setattr(estimates, "_MOST_SORTED", most_sorted)
    generator = torch.Generator().manual_seed(0)
    entropy = torch.rand(12, 40, generator=generator).mul(40).round() / 20  # with ties
    log_probs = -torch.rand(12, 40, generator=generator) * 3
    mask = torch.rand(12, 40, generator=generator) < 0.7
    mask[4:8] = False  # the second rank counts no token
    meeting = Meeting(3)

    def estimated(rank, **elsewhere):
        return estimate(*(whole.chunk(3)[rank] for whole in (log_probs, entropy, mask)), **elsewhere)

    together = meeting.all_do(lambda rank: estimated(rank, elsewhere=RanksTokens(meeting.rank(rank))))
    whole = estimate(log_probs, entropy, mask)
    torch.testing.assert_close(torch.cat(together), whole, rtol=1e-6, atol=1e-7)
    # Each rank by itself would say something else.
    assert (torch.cat([estimated(0), estimated(2)]) - torch.cat([whole[:4], whole[8:]])).abs().max() > 0.01


def test_one_process_holds_all_there_is():
    assert tokens_elsewhere(OneRank()) is None
