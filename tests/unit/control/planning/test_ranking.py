import math
import operator

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from entrocraft.control.planning.ranking import EVERYTHING, Ranking, binned

sizes = st.floats(1e-3, 1e2).flatmap(lambda size: st.sampled_from([size, -size]))
changes = st.lists(st.one_of(sizes, st.just(0.0)), min_size=1, max_size=12)


def effects_of_all_trims(values, floor, is_kept):
    """Return the effect of every set that rejects from one end and keeps its floor, by brute force; ties stay whole."""
    moving = [value for value in values if value != 0]
    kept_sets = [[value for value in moving if is_kept(value, edge)] for edge in moving]
    return [sum(kept) / math.sqrt(len(kept)) for kept in kept_sets if len(kept) >= floor * len(moving)]


@given(changes, st.floats(0.05, 1.0))
@example([1.0, 1.0, 0.5], 0.5)  # rejecting the lowest lowers the effect, too
def test_reach_is_what_trimming_either_end_can_do(values, floor):
    assume(any(values))
    low, free, high = Ranking.of(torch.tensor(values, dtype=torch.float64)).reach(floor)
    assert low == pytest.approx(min(effects_of_all_trims(values, floor, operator.le)))
    assert high == pytest.approx(max(effects_of_all_trims(values, floor, operator.ge)))
    moving = [value for value in values if value != 0]
    assert free == pytest.approx(sum(moving) / math.sqrt(len(moving)))


@given(changes, st.floats(0.05, 1.0), st.floats(-300, 300))
def test_limits_reject_no_more_than_the_wanted_effect_needs_and_never_below_the_floor(values, floor, wanted):
    change = torch.tensor(values, dtype=torch.float64)
    ranking = Ranking.of(change)
    low, high = ranking.limits(wanted, floor)
    moving = change[change != 0]
    kept = moving[(moving >= low) & (moving <= high)]
    assert len(kept) >= min(len(moving), max(1, math.ceil(floor * len(moving))))
    if not len(moving):
        return
    reach_low, free, reach_high = ranking.reach(floor)
    effect = ranking.effect((low, high))
    if wanted >= free:
        assert effect >= min(wanted, reach_high) - 1e-6 and high == math.inf
        one_more = moving[moving >= moving[moving < low].max()] if len(kept) < len(moving) else None
    else:
        assert effect <= max(wanted, reach_low) + 1e-6 and low == -math.inf
        one_more = moving[moving <= moving[moving > high].min()] if len(kept) < len(moving) else None
    if one_more is not None:  # to reject one value less would not do
        side = 1 if wanted >= free else -1
        assert side * one_more.sum() / len(one_more) ** 0.5 < side * wanted + 1e-9


@given(changes, st.floats(0.05, 1.0), st.floats(-1e-12, 1e-12))
def test_what_is_wanted_but_for_rounding_rejects_nothing(values, floor, error):
    ranking = Ranking.of(torch.tensor(values, dtype=torch.float64))
    _, free, _ = ranking.reach(floor)
    assert ranking.limits(free + error * ranking.size(), floor) == EVERYTHING


def test_a_batch_without_gradient_asks_for_nothing():
    ranking = Ranking.of(torch.zeros(3))
    assert ranking.reach(0.25) == (0.0, 0.0, 0.0)
    assert ranking.limits(1.0, 0.25) == EVERYTHING
    assert ranking.effect(EVERYTHING) == ranking.size() == 0.0


@given(st.lists(sizes, min_size=1, max_size=50), st.integers(0, 50))
def test_bins_add_up_over_ranks(values, cut):
    change = torch.tensor(values, dtype=torch.float64)
    together = binned(change)
    assert torch.allclose(binned(change[:cut]) + binned(change[cut:]), together)
    assert together[:, 0].sum().item() == pytest.approx(sum(values))
    assert together[:, 1].sum().item() == len(values)


def test_bins_rank_as_the_changes_themselves_to_the_width_of_a_bin():
    change = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    exact, coarse = Ranking.of(change), Ranking.of_bins(binned(change))
    assert coarse.reach(0.25) == pytest.approx(exact.reach(0.25), rel=0.01)
    assert coarse.size() == pytest.approx(exact.size(), rel=0.01)
    for wanted in (-100.0, -20.0, 20.0, 100.0):
        low, high = coarse.limits(wanted, 0.25)
        kept = change[(change >= low) & (change <= high)]
        assert (kept.sum() / len(kept) ** 0.5).item() == pytest.approx(coarse.effect((low, high)), rel=2e-3)
        assert abs(coarse.effect((low, high))) >= min(abs(wanted), abs(exact.effect(exact.limits(wanted, 0.25)))) * 0.99


def test_what_is_too_small_or_too_large_for_the_bins_is_not_lost_or_in_the_way():
    bins = binned(torch.tensor([1e-12, -1e-12, 0.0, 1e6, -1e6]))
    ranking = Ranking.of_bins(bins)
    assert len(ranking.counts_K) == 2
    assert ranking.effect(EVERYTHING) == pytest.approx(0.0)
