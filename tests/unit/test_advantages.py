import itertools
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

rewards = st.lists(st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4), min_size=1, max_size=5)


@given(rewards)
def test_group_estimators_agree_with_plain_python(rows):
    rewards_PG = torch.tensor(rows)
    by_hand = {
        "dr_grpo": [[r - statistics.fmean(row) for r in row] for row in rows],
        "grpo": [[(r - statistics.fmean(row)) / (statistics.stdev(row) + 1e-4) for r in row] for row in rows],
        "rloo": [[r - (sum(row) - r) / 3 for r in row] for row in rows],
        "raft_plus_plus": [[max(r, 0.0) for r in row] for row in rows],
        "psr": [[float(r > 0) for r in row] for row in rows],
        "nsr": [[-float(r <= 0) for r in row] for row in rows],
        "w_reinforce": [[0.1 if r > 0 else -1.0 for r in row] for row in rows],
    }
    for name, expected in by_hand.items():
        estimate = ec.advantages.estimate(name, rewards_PG)
        torch.testing.assert_close(estimate, torch.tensor(expected, dtype=torch.float32), atol=2e-4, rtol=2e-4)


@given(rewards)
def test_reinforce_plus_plus_whitens_the_whole_batch(rows):
    flat = [r for row in rows for r in row]
    mean, variance = statistics.fmean(flat), statistics.variance(flat)
    expected = [[(r - mean) / (variance + 1e-8) ** 0.5 for r in row] for row in rows]
    estimate = ec.advantages.estimate("reinforce_plus_plus", torch.tensor(rows))
    torch.testing.assert_close(estimate, torch.tensor(expected, dtype=torch.float32), atol=1e-3, rtol=1e-3)


SUCCESSES = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6), min_size=1, max_size=4)


@given(SUCCESSES, st.integers(1, 6))
def test_pass_at_k_training_is_the_mean_over_all_subsets_standardised(rows, k):
    """By brute force: the standardised reward of every subset, and each rollout's mean over its own."""
    found = ec.advantages.estimate("pass_at_k_training", torch.tensor(rows), k=k)
    for row, advantages in zip(rows, found.tolist(), strict=True):
        subsets = list(itertools.combinations(range(len(row)), k))
        rewards = [max(row[i] for i in subset) for subset in subsets]
        mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
        for rollout, advantage in enumerate(advantages):
            own = [reward for subset, reward in zip(subsets, rewards, strict=True) if rollout in subset]
            expected = (statistics.fmean(own) - mean) / deviation if deviation else 0.0
            assert advantage == pytest.approx(expected, abs=1e-5)


def test_prompts_without_a_subset_of_k_have_no_advantage_and_a_warning_says_so():
    with pytest.warns(UserWarning, match="prompts of 2 rollouts have no subset of k=3"):
        assert not ec.advantages.estimate("pass_at_k_training", torch.tensor([[1.0, 0.0]]), k=3).any()
    ec.advantages.check_estimator({"name": "pass_at_k_training", "k": 8})  # there may be enough rollouts


@given(SUCCESSES)
def test_maxrl_and_f_grpo_agree_with_plain_python(rows):
    maxrl = ec.advantages.estimate("maxrl", torch.tensor(rows)).tolist()
    focal = ec.advantages.estimate("f_grpo", torch.tensor(rows), gamma=2.0).tolist()
    for row, ours, theirs in zip(rows, maxrl, focal, strict=True):
        mean, deviation = statistics.fmean(row), statistics.stdev(row)
        assert ours == pytest.approx([(r - mean) / (mean + 1e-6) for r in row], rel=1e-5, abs=1e-5)
        assert theirs == pytest.approx([(1 - mean) ** 2 * (r - mean) / (deviation + 1e-4) for r in row], abs=1e-5)


@given(rewards, st.floats(0.0, 1.0, width=32))
def test_qae_measures_from_an_interpolated_quantile(rows, k):
    found = ec.advantages.estimate("qae", torch.tensor(rows), k=k).tolist()
    for row, advantages in zip(rows, found, strict=True):
        ordered, place = sorted(row), k * (len(row) - 1)
        below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
        quantile = below + (above - below) * (place - math.floor(place))
        expected = [(r - quantile) / (statistics.stdev(row) + 1e-4) for r in row]
        assert advantages == pytest.approx(expected, rel=2e-3, abs=2e-3)


def test_qae_teaches_rare_successes_alone_and_rare_failures_alone():
    estimated = ec.advantages.estimate("qae", torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0]]))
    assert estimated[0, 0] > 0 and not estimated[0, 1:].any()
    assert not estimated[1, :4].any() and estimated[1, 4] < 0


def test_rewards_below_0_have_no_mean_for_maxrl_to_divide_by():
    with pytest.raises(InvalidValueError, match="rewards must be at least 0, got -1"):
        ec.advantages.estimate("maxrl", torch.tensor([[1.0, -1.0]]))


COMPARING = ["grpo", "dr_grpo", "rloo", "maxrl", "qae", "f_grpo", "pass_at_k_training"]
"""Estimators that compare the rollouts of one prompt."""


@pytest.mark.parametrize("name", COMPARING)
def test_with_nothing_to_compare_there_is_no_advantage(name):
    assert ec.advantages.estimate(name, torch.tensor([[1.0], [0.0]])).abs().max() == 0  # groups of one
    assert ec.advantages.estimate(name, torch.ones(2, 4)).abs().max() == 0  # equal rewards


def test_a_batch_of_one_rollout_has_no_advantage():
    assert ec.advantages.estimate("reinforce_plus_plus", torch.tensor([[3.0]])).item() == 0.0


def test_options_reach_the_estimator():
    estimate = ec.advantages.estimate("w_reinforce", torch.tensor([[1.0, 0.0]]), positive_weight=0.5)
    assert estimate.tolist() == [[0.5, -1.0]]


def test_every_estimator_that_is_listed_can_be_used_on_integers():
    for name in ec.advantages.available():
        assert ec.advantages.estimate(name, torch.tensor([[1, 0], [0, 0]])).shape == (2, 2)


def test_mistakes_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'grpo'"):
        ec.advantages.estimate("grpoo", torch.ones(1, 2))
    with pytest.raises(UnknownNameError, match="option of advantage estimator 'grpo'"):
        ec.advantages.estimate("grpo", torch.ones(1, 2), epsilon=1.0)
    with pytest.raises(InvalidValueError, match=r"\(prompts, rollouts per prompt\)"):
        ec.advantages.estimate("grpo", torch.ones(2))
    with pytest.raises(MeasurementError, match="prompt 1, rollout 0"):
        ec.advantages.estimate("grpo", torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]))


@pytest.mark.parametrize(
    "rewards", [None, "ab", [[1, 0], [1]], [["a", "b"]], [[None, 1.0]], torch.zeros(1, 2, dtype=torch.complex64)]
)
def test_what_is_no_matrix_of_numbers_is_refused(rewards):
    with pytest.raises(InvalidValueError, match="rewards must be"):
        ec.advantages.estimate("grpo", rewards)


@pytest.mark.parametrize("name", ec.advantages.available())
def test_rewards_whose_squares_are_no_numbers_are_refused_and_not_taken_for_equal(name):
    with pytest.raises(MeasurementError, match=r"rewards must lie within 1e\+15 of 0, got 1e\+20"):
        ec.advantages.estimate(name, torch.tensor([[1e20, 0.0, 0.0, 0.0]]))
    advantages = ec.advantages.estimate(name, torch.tensor([[1e15] + [0.0] * 7] * 64))
    assert advantages.isfinite().all() and advantages.any()


@pytest.mark.parametrize("name", ec.advantages.available())
def test_of_no_prompt_there_are_no_advantages(name):
    assert ec.advantages.estimate(name, torch.zeros(0, 4)).shape == (0, 4)
    assert ec.advantages.estimate_by_group(name, torch.zeros(0), torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize("name", ["dr_grpo", "reinforce_plus_plus"])
def test_each_reward_has_a_prompt(name):
    rewards = torch.tensor([1.0, 0.0, 1.0])
    for groups in ([0, 0], [0, 0, 1, 1], [[0], [0], [1]]):
        with pytest.raises(InvalidValueError, match=r"groups must have shape \(3,\)"):
            ec.advantages.estimate_by_group(name, rewards, torch.tensor(groups))
    with pytest.raises(InvalidValueError, match="some of them are no number"):
        ec.advantages.estimate_by_group(name, rewards, torch.tensor([0.0, math.nan, math.nan]))
    with pytest.raises(InvalidValueError, match=r"rewards must have shape \(rollouts,\), got \(1, 3\)"):
        ec.advantages.estimate_by_group(name, rewards[None], torch.tensor([[0, 0, 1]]))


@pytest.mark.parametrize("name", ec.advantages.available())
@given(data=st.data())
def test_rollouts_in_any_order_get_the_advantages_of_their_prompt(name, data):
    num_prompts, size = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 4))
    values = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=num_prompts * size, max_size=num_prompts * size)
    rewards = torch.tensor(data.draw(values))
    groups = torch.arange(num_prompts).repeat_interleave(size)
    order = torch.tensor(data.draw(st.permutations(range(num_prompts * size))))
    expected = ec.advantages.estimate(name, rewards.view(num_prompts, size)).flatten()
    found = ec.advantages.estimate_by_group(name, rewards[order], groups[order])
    torch.testing.assert_close(found, expected[order])


def test_prompts_may_have_lost_rollouts():
    rewards, groups = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]), torch.tensor([3, 7, 7, 3, 3])
    found = ec.advantages.estimate_by_group("w_reinforce", rewards, groups)
    torch.testing.assert_close(found, ec.advantages.estimate("w_reinforce", rewards[:, None])[:, 0])
    found = ec.advantages.estimate_by_group("dr_grpo", rewards, groups)
    torch.testing.assert_close(found, torch.tensor([2 / 3, -0.5, 0.5, -1 / 3, -1 / 3]))


@given(st.integers(2, 40), st.floats(0, 3, width=32), st.booleans())
def test_equal_rewards_leave_exactly_nothing(num_rollouts, reward, double):
    rewards_PG = torch.full((3, num_rollouts), reward, dtype=torch.float64 if double else torch.float32)
    for name in (*COMPARING, "reinforce_plus_plus"):
        if name != "maxrl":
            assert not ec.advantages.estimate(name, -rewards_PG).any()
        assert not ec.advantages.estimate(name, rewards_PG).any()


@pytest.mark.parametrize("name", ["grpo", "reinforce_plus_plus", "maxrl", "qae", "f_grpo"])
def test_a_divisor_that_may_be_zero_is_refused(name):
    with pytest.raises(InvalidValueError, match="eps must be more than 0"):
        ec.advantages.estimate(name, torch.ones(1, 2), eps=0.0)


def test_whole_rewards_are_compared_as_numbers_in_groups_of_any_size():
    advantages = ec.advantages.estimate_by_group("dr_grpo", torch.tensor([1, 0, 0]), torch.tensor([0, 0, 0]))
    torch.testing.assert_close(advantages, torch.tensor([2 / 3, -1 / 3, -1 / 3]))


# Options and functions of a user's own, as settings give them

WEIGHTED = {"name": "w_reinforce", "positive_weight": 0.5}
OWN = """
def scaled(rewards_PG, *, scale: float = 1.0):
    return scale * (rewards_PG - rewards_PG.mean())

def listed(rewards_PG): return rewards_PG.tolist()
def summed(rewards_PG): return rewards_PG.sum()
def broken(rewards_PG): return rewards_PG / 0.0
def raising(rewards_PG): raise RuntimeError("no\\nway")
def needing(rewards_PG, *, weight: float): return weight * rewards_PG
def whole(rewards_PG): return (rewards_PG > 0).long()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own_estimators.py").write_text(OWN)
    yield lambda name: f"own_estimators:{name}"
    sys.modules.pop("own_estimators", None)


def test_an_estimator_is_specified_with_its_options_wherever_it_is_named():
    rewards = torch.tensor([[1.0, 0.0]])
    ec.advantages.check_estimator(WEIGHTED)
    assert ec.advantages.estimate(WEIGHTED, rewards).tolist() == [[0.5, -1.0]]
    assert ec.advantages.estimate(WEIGHTED, rewards, positive_weight=0.2).tolist() == [[pytest.approx(0.2), -1.0]]
    groups = torch.tensor([0, 0, 1])
    assert ec.advantages.estimate_by_group(WEIGHTED, torch.tensor([1.0, 0.0, 1.0]), groups).tolist() == [0.5, -1.0, 0.5]


def test_whitening_with_an_option_is_over_the_whole_batch_too():
    rewards, groups = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 1])
    found = ec.advantages.estimate_by_group({"name": "reinforce_plus_plus", "eps": 0.5}, rewards, groups)
    torch.testing.assert_close(found, ec.advantages.estimate("reinforce_plus_plus", rewards[None], eps=0.5)[0])


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("grpoo", UnknownNameError, "did you mean 'grpo'"),
        ({"name": "grpo", "esp": 0.1}, UnknownNameError, "advantage estimator 'grpo' 'esp': did you mean 'eps'"),
        ({"name": "psr", "eps": 0.1}, UnknownNameError, "advantage estimator 'psr' takes no options, got 'eps'"),
        ({"name": "grpo", "eps": "0.1"}, InvalidValueError, "'grpo': eps: input should be a valid number, got '0.1'"),
        ({"name": "grpo", "eps": True}, InvalidValueError, "'grpo': eps: input should be a valid number, got True"),
        ({"name": "grpo", "eps": 0.0}, InvalidValueError, "eps must be more than 0"),
        ({"name": "grpo", "eps": float("inf")}, InvalidValueError, "eps must be more than 0 and finite"),
        ({"name": "w_reinforce", "positive_weight": float("nan")}, InvalidValueError, "positive_weight must be finite"),
        ({"name": "pass_at_k_training", "k": 0}, InvalidValueError, "k must be at least 1, got 0"),
        ({"name": "qae", "k": 1.5}, InvalidValueError, r"k must lie in \[0, 1\], got 1.5"),
        ({"name": "f_grpo", "gamma": -0.5}, InvalidValueError, "gamma must be at least 0 and finite, got -0.5"),
        ({"positive_weight": 0.1}, InvalidValueError, "a mapping needs a name"),
        ({"name": ["grpo"]}, UnknownNameError, "advantage estimator"),
        (5, InvalidValueError, "expected a name, or a mapping of a name and its options, got 5"),
        ("nowhere:f", InvalidValueError, "advantage estimator 'nowhere:f': cannot import nowhere: there is no module"),
        ("math:sqr", InvalidValueError, "module math has no 'sqr': did you mean 'sqrt'"),
        ("math:pi", InvalidValueError, "advantage estimator 'math:pi' is no function"),
    ],
)
def test_a_specification_that_cannot_be_used_is_refused_before_there_are_rewards(spec, error, message):
    with pytest.raises(error, match=message):
        ec.advantages.check_estimator(spec)


def test_a_function_of_ones_own_is_named_by_its_import_path(own):
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = 2.0 * (rewards - 0.75)
    spec = {"name": own("scaled"), "scale": 2.0}
    ec.advantages.check_estimator(spec)
    torch.testing.assert_close(ec.advantages.estimate(spec, rewards), expected)
    groups = torch.tensor([0, 0, 1, 1])
    found = ec.advantages.estimate_by_group(spec, rewards.flatten(), groups)
    torch.testing.assert_close(found, expected.flatten())
    assert ec.advantages.estimate(own("whole"), rewards).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("listed", {}, MeasurementError, r"listed' must return a tensor of shape \(2, 2\), .* got \[\[1.0, 0.0\]"),
        ("summed", {}, MeasurementError, r"summed' must return a tensor of shape \(2, 2\), .* got \(\)"),
        ("broken", {}, MeasurementError, r"are not finite, the first is inf \(prompt 0, rollout 0\)"),
        ("raising", {}, MeasurementError, r"raising' raised RuntimeError on rewards of shape \(2, 2\): no$"),
        ("needing", {}, InvalidValueError, "needing' needs weight"),
        ("scaled", {"scales": 1.0}, UnknownNameError, "did you mean 'scale'"),
        ("scaled", {"rewards_PG": 1.0}, UnknownNameError, "Known: scale"),
        ("scaled", {"scale": "x"}, InvalidValueError, "scale: input should be a valid number"),
        ("scale", {}, InvalidValueError, "did you mean 'scaled'"),
    ],
)
def test_a_function_that_is_no_estimator_is_refused(own, name, options, error, message):
    with pytest.raises(error, match=message):
        ec.advantages.check_estimator({"name": own(name), **options})


def test_advantages_of_a_function_of_ones_own_carry_no_gradient():
    rewards = torch.tensor([[1.0, 0.0]], requires_grad=True)
    assert not ec.advantages.estimate("torch:square", rewards).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rewards_in_half_precision_are_compared_in_float32(dtype):
    rewards = torch.tensor([[0.1, 0.1], [0.1, 0.1]], dtype=dtype)
    for name in ec.advantages.available():
        advantages = ec.advantages.estimate(name, rewards)
        assert advantages.dtype == torch.float32 and advantages.isfinite().all()
        by_group = ec.advantages.estimate_by_group(name, rewards.flatten(), torch.tensor([0, 0, 1, 1]))
        torch.testing.assert_close(by_group, advantages.flatten())
    assert not ec.advantages.estimate("reinforce_plus_plus", rewards).any()


def test_settings_are_checked_without_torch():
    code = (
        "import sys, entrocraft.advantages as a; a.check_estimator('grpo'); "
        "print([m for m in ('torch', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
