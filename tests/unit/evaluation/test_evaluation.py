import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.errors import InvalidValueError
from entrocraft.evaluation import bootstrap_interval, correctness, majority_at_k, paired_interval, with_intervals
from entrocraft.evaluation.diversity import num_distinct, self_bleu


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


IMPOSSIBLE = [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)]
NOT_WHOLE = [(4.0, 1, 2), (4, 1.5, 2), (4, float("nan"), 2), ("4", 1, 2), (4, None, 2)]


@pytest.mark.parametrize("arguments", IMPOSSIBLE + NOT_WHOLE)
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(InvalidValueError, match="pass@k needs"):
        ec.pass_at_k(*arguments)


def test_scores_average_over_problems():
    scores = with_intervals(correctness([[True, False, False, False], [True, True, True, True]], ks=[1, 2]))
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


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.booleans()), min_size=1, max_size=7), st.data())
def test_majority_at_k_is_the_share_of_subsets_whose_vote_is_right(samples, data):
    # Equal answers are equally right.
    verdict = {answer: correct for answer, correct in samples}
    answers = [answer for answer, _ in samples]
    correct = [verdict[answer] and answer is not None for answer in answers]
    k = data.draw(st.integers(1, len(samples)))

    def vote(subset):
        counts = {a: sum(answers[i] == a for i in subset) for a in {answers[i] for i in subset} - {None}}
        first = [a for a, count in counts.items() if count == max(counts.values())]
        return sum(verdict[a] for a in first) / len(first) if first else 0.0

    subsets = list(itertools.combinations(range(len(samples)), k))
    expected = sum(map(vote, subsets)) / len(subsets)
    assert majority_at_k(answers, correct, k, num_draws=2000) == pytest.approx(expected, abs=0.06)
    if k == len(samples):
        assert majority_at_k(answers, correct, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 3])
def test_majorities_of_no_one_are_refused(k):
    with pytest.raises(InvalidValueError):
        majority_at_k(["1", "2"], [True, False], k)


def test_a_paired_interval_sees_what_two_intervals_cannot():
    easy_to_hard = [i / 100 for i in range(100)]
    better = [value + 0.02 for value in easy_to_hard]
    assert paired_interval(easy_to_hard, better) == pytest.approx((0.02, 0.02))
    assert bootstrap_interval(easy_to_hard)[1] > bootstrap_interval(better)[0]  # these overlap
    with pytest.raises(InvalidValueError, match="same problems"):
        paired_interval([1.0], [1.0, 2.0])


def test_diversity_falls_from_1_to_0():
    assert num_distinct(["1", "1", None]) == 1 and num_distinct([None]) == 0
    same, other = "the answer to it is four and not five", "the answer to it is seven , I should think"
    assert self_bleu([same] * 4) == pytest.approx(1.0)
    assert 1.0 > self_bleu([same, same, other]) > self_bleu([same, other]) > self_bleu([same, "what"]) == 0.0
