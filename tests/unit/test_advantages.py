import statistics

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


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
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


@given(st.integers(2, 40), st.floats(-3, 3, width=32), st.booleans())
def test_equal_rewards_leave_exactly_nothing(num_rollouts, reward, double):
    rewards_PG = torch.full((3, num_rollouts), reward, dtype=torch.float64 if double else torch.float32)
    for name in ("grpo", "dr_grpo", "rloo", "reinforce_plus_plus"):
        assert not ec.advantages.estimate(name, rewards_PG).any()


@pytest.mark.parametrize("name", ["grpo", "reinforce_plus_plus"])
def test_a_divisor_that_may_be_zero_is_refused(name):
    with pytest.raises(InvalidValueError, match="eps must be more than 0"):
        ec.advantages.estimate(name, torch.ones(1, 2), eps=0.0)


def test_whole_rewards_are_compared_as_numbers_in_groups_of_any_size():
    advantages = ec.advantages.estimate_by_group("dr_grpo", torch.tensor([1, 0, 0]), torch.tensor([0, 0, 0]))
    torch.testing.assert_close(advantages, torch.tensor([2 / 3, -1 / 3, -1 / 3]))
