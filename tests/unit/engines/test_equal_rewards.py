"""Advantages where all rewards of a prompt are equal: rounding is taken away, and nothing else is."""

import math

import pytest
import torch
from support.decisions import decider_of

from entrocraft.engines.rollouts import Rollouts, equally_rewarded
from entrocraft.engines.tokens import TokenStats
from entrocraft.errors import MeasurementError

NAN = math.nan
BELOW = {"schedule": 0.9, "width": 0.1, "method": "advantage"}  # entropy is 0.6: what has an advantage above 0 goes


def decided(own, rewards, groups, **more):
    entropy_BT = torch.full((len(own), 2), 0.6)
    rollouts = Rollouts(
        stats=TokenStats(-entropy_BT, entropy_BT), advantages=torch.tensor(own), mask_BT=torch.ones(len(own), 2), **more
    )
    fields = {"groups": torch.tensor(groups), "rewards": torch.tensor(rewards).double()}
    return decider_of(**BELOW).decide(rollouts, step=1, total_steps=10, **fields).advantages.tolist()


def test_a_rollout_that_nothing_scored_does_not_make_a_signal_of_the_others_rounding():
    own = [-7e-5, 7e-5, 0.0, 7e-5, -1.0, 1.0]  # TRL leaves the unscored one out of the mean, and gives it 0
    assert decided(own, [0.1, 0.1, NAN, 0.1, 0.0, 1.0], [0, 0, 0, 0, 1, 1]) == [0.0] * 4 + [-1.0, 0.0]


def test_the_only_rollout_of_a_prompt_is_compared_with_nothing_of_its_own():
    own = [-0.01, -0.015, -1.0]  # of an estimator that compares over the batch
    assert decided(own, [0.0, 0.0, 1.0], [0, 1, 2]) == pytest.approx(own)


def test_advantages_that_hold_more_than_rewards_stay_where_rewards_are_equal():
    own, rewards, groups = [-0.015, 0.015, -1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [0, 0, 1, 1]
    assert decided(own, rewards, groups) == [0.0, 0.0, -1.0, 0.0]
    assert decided(own, rewards, groups, compare_rewards=False) == pytest.approx([-0.015, 0.0, -1.0, 0.0])


def test_rounding_of_any_size_goes_where_it_is_known_to_be_rounding():
    own, rewards, groups = [-0.4, -0.4, -0.4, -1.0, 1.0], [333.3, 333.3, 333.3, 0.0, 1.0], [0, 0, 0, 1, 1]
    assert decided(own, rewards, groups, compare_rewards=True) == [0.0, 0.0, 0.0, -1.0, 0.0]
    # As of an estimator that compares over the batch, by which a prompt's equal rewards may all be bad.
    assert decided(own, rewards, groups) == pytest.approx([-0.4, -0.4, -0.4, -1.0, 0.0])


@pytest.mark.parametrize("reward", [math.inf, -math.inf])
def test_an_infinite_reward_is_refused_and_one_of_nan_was_never_given(reward):
    own = [0.0, 0.0, 0.0, 0.0]  # what TRL makes of such a prompt: every step would be skipped without a word
    with pytest.raises(MeasurementError, match=r"step 1, rank 0: 1 of 4 rewards are not finite.*\(rollout 1 of that"):
        decided(own, [0.0, reward, 0.0, NAN], [0, 0, 0, 0])
    assert decided([-1.0, 1.0, 0.0], [0.0, 1.0, NAN], [0, 0, 0]) == [-1.0, 0.0, 0.0]


def test_prompts_are_those_of_all_ranks_in_any_order():
    rewards, groups = torch.tensor([0.5, 0.1, 0.5, 0.2, 0.5]), torch.tensor([9, 4, 9, 4, 9])
    assert equally_rewarded(rewards, groups).tolist() == [True, False, True, False, True]
    assert not equally_rewarded(torch.full((2,), NAN), torch.zeros(2)).any()  # nothing was scored
