"""Means over seeds and paired differences, against scipy."""

import numpy as np
import pytest
import scipy.stats

from entrocraft.errors import InvalidValueError
from entrocraft.study.comparison import Estimate, paired_difference


@pytest.mark.parametrize("count", [3, 5, 12])
def test_intervals_are_those_of_a_percentile_bootstrap(count):
    values = np.random.default_rng(count).normal(0.4, 0.05, count)
    found = Estimate.of(values.tolist())
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=40_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.low, abs=0.004)
    assert found.high == pytest.approx(theirs.high, abs=0.004)


def test_two_seeds_have_no_interval_and_none_no_mean():
    assert str(Estimate.of([0.25, 0.75])) == "0.500"
    with pytest.raises(InvalidValueError, match="no seeds"):
        Estimate.of([])


@pytest.mark.parametrize("count", [4, 6, 9])
def test_the_p_value_is_that_of_the_exact_permutation_test_for_pairs(count):
    rng = np.random.default_rng(count)
    first, second = rng.normal(0.45, 0.05, count), rng.normal(0.4, 0.05, count)
    theirs = scipy.stats.permutation_test(
        (first, second), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)))
    assert found.p_value == pytest.approx(theirs.pvalue)


def test_only_seeds_that_both_have_are_compared():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: 1.0, 5: 3.0}, {5: 2.0}).estimate.mean == 1.0


def test_no_difference_at_all_is_no_evidence():
    assert paired_difference({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}).p_value == 1.0


def test_many_seeds_are_tested_by_random_signs():
    seeds = range(40)
    assert paired_difference({s: 1.0 + 0.01 * s for s in seeds}, dict.fromkeys(seeds, 0.0)).p_value < 0.001
