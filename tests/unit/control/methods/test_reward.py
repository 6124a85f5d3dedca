"""The authors' code: raw rewards take the place of advantages."""

import pytest
import torch
from support.decisions import ABOVE, ADVANTAGES, BAND, BELOW, INSIDE, decide, stats

import entrocraft as ec


def test_the_authors_variant_switches_to_raw_rewards_out_of_band():
    rewards = torch.tensor([1.0, -1.0, 1.0, -1.0])
    above, below = decide(ABOVE, "reward", rewards=rewards), decide(BELOW, "reward", rewards=rewards)
    assert above.advantages.tolist() == [1.0, 0.0, 1.0, 0.0]  # RAFT++: max(R, 0)
    assert below.advantages.tolist() == [0.0, -1.0, 0.0, -1.0]  # NSR: min(R, 0)
    assert above.keep.tolist() == [True, False, True, False]
    assert decide(INSIDE, "reward", rewards=rewards).advantages.tolist() == ADVANTAGES


def test_the_authors_variant_warns_where_rewards_of_0_and_1_leave_it_nothing():
    with pytest.warns(UserWarning, match=r"reward_baseline=0\.5"):
        decision = decide(BELOW, "reward", rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert decision.empty
    controller = ec.RejectionController(BAND, rule="reward", reward_baseline=0.5)
    shifted = controller.decide(stats(BELOW, rewards=torch.tensor([1.0, 0.0, 1.0, 0.0])))
    assert shifted.advantages.tolist() == [0.0, -0.5, 0.0, -0.5]
