"""Mean and breadth at several temperatures, compared at equal means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrocraft.config import EvalConfig
from entrocraft.study.frontier import at_several_temperatures, lead_at_equal_means, points_of, unbeaten
from entrocraft.study.settings import ScoringConfig

points = st.lists(st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=1, max_size=6)


def test_scorings_that_differ_in_how_they_sample_belong_together_and_to_the_evaluations_of_their_kind():
    scorings = {
        "hot": ScoringConfig(temperature=1.2, num_problems=400),
        "cold": ScoringConfig(temperature=0.6, top_p=0.95, num_problems=400),
        "with more samples": ScoringConfig(temperature=1.0, num_samples=64),
        "as many": ScoringConfig(temperature=1.0),
        "on A": ScoringConfig(task={"name": "countdown"}, temperature=0.6),
    }
    groups = at_several_temperatures(scorings, EvalConfig(num_problems=200, num_samples=32))
    assert groups == [["as evaluated", "as many"], ["hot", "cold"]]


def test_a_runs_points_are_its_last_evaluation_and_its_scorings():
    row = {
        "scores": {"mean@4": [0.1, 0.3], "pass@4": [0.8, 0.6]},
        "scorings": {"hot": {"mean@4": 0.2, "pass@4": 0.9}, "short": {"mean@2": 0.2}},
    }
    assert points_of(row, ["as evaluated", "hot"], ("mean@4", "pass@4")) == [(0.3, 0.6), (0.2, 0.9)]
    assert points_of(row, ["hot", "short"], ("mean@4", "pass@4")) is None


def test_a_point_is_unbeaten_if_no_other_is_better_in_one_number_and_at_least_level_in_the_other():
    there = {"high": (0.2, 0.9), "right": (0.4, 0.5), "level": (0.4, 0.4), "below both": (0.1, 0.3)}
    assert unbeaten(there) == {"high", "right"}
    assert unbeaten({"a": (0.1, 0.1), "its equal": (0.1, 0.1)}) == {"a", "its equal"}


def test_the_lead_is_the_mean_distance_over_the_means_that_both_reach():
    """Between means of 0.2 and 0.3 the one falls from 0.9 to 0.7, the other from 0.7 to 0.6: 0.2 and 0.1 apart."""
    one, other = [(0.4, 0.5), (0.2, 0.9)], [(0.1, 0.8), (0.3, 0.6)]
    assert lead_at_equal_means(one, other) == pytest.approx(0.15)


def test_a_corner_between_the_ends_counts():
    """At 0.3 the baseline lies 0.05 below the straight line of the other, and at both ends on it: 0.025 on average."""
    assert lead_at_equal_means([(0.2, 0.8), (0.4, 0.6)], [(0.2, 0.8), (0.3, 0.65), (0.4, 0.6)]) == pytest.approx(0.025)


def test_a_temperature_that_is_below_another_in_both_counts_for_nothing():
    """The coldest has a lower mean than the next one, and less breadth."""
    assert lead_at_equal_means([(0.3, 0.7), (0.2, 0.8)], [(0.3, 0.6), (0.2, 0.7), (0.25, 0.5)]) == pytest.approx(0.1)


def test_models_without_a_mean_in_common_are_not_compared():
    assert lead_at_equal_means([(0.5, 0.6), (0.4, 0.7)], [(0.3, 0.8), (0.2, 0.9)]) is None
    assert lead_at_equal_means([(0.5, 0.6), (0.3, 0.9)], [(0.3, 0.8), (0.2, 0.9)]) == pytest.approx(0.1)  # one alone


@given(points, points)
def test_a_lead_of_the_one_is_a_lag_of_the_other(one, other):
    lead, lag = lead_at_equal_means(one, other), lead_at_equal_means(other, one)
    assert (lead is None and lag is None) or lead == pytest.approx(-lag, abs=1e-9)
    assert lead_at_equal_means(one, one) == pytest.approx(0.0)
