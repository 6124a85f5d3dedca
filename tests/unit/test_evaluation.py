import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.errors import InvalidValueError
from entrocraft.evaluation import bootstrap_interval, score_metrics


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_k_subsets_with_a_correct_sample(correct, k):
    if k > len(correct):
        return
    subsets = list(itertools.combinations(correct, k))
    assert ec.pass_at_k(len(correct), sum(correct), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_stays_exact_for_many_samples():
    assert ec.pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)
    assert ec.pass_at_k(32, 0, 32) == 0.0
    assert ec.pass_at_k(32, 32, 1) == 1.0


@pytest.mark.parametrize("arguments", [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(InvalidValueError):
        ec.pass_at_k(*arguments)


def test_scores_average_over_problems():
    scores = score_metrics([[True, False, False, False], [True, True, True, True]], ks=[1, 2])
    assert scores["mean@4"] == scores["pass@1"] == pytest.approx((0.25 + 1) / 2)
    assert scores["pass@2"] == pytest.approx((0.5 + 1) / 2)
    assert scores["mean@4/low"] <= scores["mean@4"] <= scores["mean@4/high"]


def test_the_bootstrap_interval_agrees_with_the_normal_one_for_many_values():
    values = [float(i % 10) for i in range(1000)]
    low, high = bootstrap_interval(values)
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
    assert (low, high) == pytest.approx((4.5 - half, 4.5 + half), abs=0.02)
    assert bootstrap_interval(values) == (low, high)  # seeded
    with pytest.raises(InvalidValueError):
        bootstrap_interval([])
