"""DS-GRPO: what is added to each rollout's advantage."""

import pytest
import torch
from support.samples import GOAL

from entrocraft import Batch
from entrocraft.control.methods.ds_grpo import DsGrpo
from entrocraft.errors import InvalidValueError


def test_unlikely_successes_gain_and_unlikely_failures_lose():
    log_probs, rewards = [-10.0, -200.0, -10.0, -200.0, -50.0, 0.0], [1.0, 1.0, 0.0, -1.0, float("nan"), 1.0]
    advantages = [0.5, 0.5, -0.5, -0.5, 0.2, 0.5]
    batch = Batch(
        step=1,
        entropy=0.5,
        advantages=torch.tensor(advantages),
        rewards=torch.tensor(rewards),
        sequence_log_probs=torch.tensor(log_probs, dtype=torch.float64),
    )
    decision = DsGrpo(gamma=0.01, negative_gamma=0.002).decide(batch, GOAL)
    # 0.5 + 0.1, 0.5 + 2, -0.5 - 0.02, -0.5 - 0.4; not scored; no token.
    assert decision.advantages.tolist() == pytest.approx([0.6, 2.5, -0.52, -0.9, 0.2, 0.5])
    assert decision.keep.all() and decision.metrics == {"strength": 0.01}
    assert decision.advantages.dtype == batch.advantages.dtype
    still = DsGrpo(gamma=0.0, negative_gamma=0.0).decide(batch, GOAL)
    assert torch.equal(still.advantages, batch.advantages)


@pytest.mark.parametrize("options", [{"gamma": -0.1}, {"gamma": 0.06}, {"negative_gamma": -0.1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        DsGrpo(**options)
