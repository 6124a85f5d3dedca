"""What is logged where each token has an advantage of its own, as a critic gives them."""

import pytest
import torch
from support.decisions import decider_of

from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats


def test_what_quadrants_contribute_goes_by_each_tokens_advantage():
    entropy_BT = torch.full((2, 2), 0.6)
    sensitivity_BT = torch.tensor([[0.5, -0.25], [0.5, 9.0]])
    rollouts = Rollouts(
        stats=TokenStats(-entropy_BT, entropy_BT, sensitivity_BT),
        advantages=torch.tensor([[1.0, -1.0], [-2.0, 9.0]]),  # the first rollout's mean is 0
        mask_BT=torch.tensor([[1, 1], [1, 0]]),
    )
    decider = decider_of(schedule=0.6, width=0.1, method="none")
    metrics = decider.decide(rollouts, step=1, total_steps=10, groups=torch.tensor([0, 0])).decision.metrics
    summed_up = {"positive_confident": -0.5, "positive_rare": 0.0, "negative_confident": 1.0, "negative_rare": -0.25}
    for name, summed in summed_up.items():
        assert metrics[f"quadrants/{name}"] == metrics[f"kept_quadrants/{name}"] == pytest.approx(summed / 3)
