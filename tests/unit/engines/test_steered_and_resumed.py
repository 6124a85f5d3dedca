"""A steering file that is read again when a run goes on."""

import json

import pytest
import torch
from support.decisions import decider_of

from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats

EDGES = {"lower": "linear(0.5, 0.3)", "upper": "linear(0.7, 0.4)", "method": "advantage"}  # 0.2 wide, then 0.1


def edges_at(decider, step):
    entropy_BT = torch.full((4, 2), 0.6)
    rollouts = Rollouts(
        stats=TokenStats(-entropy_BT, entropy_BT), advantages=torch.tensor([1.0, -1.0] * 2), mask_BT=torch.ones(4, 2)
    )
    update = decider.decide(rollouts, step=step, total_steps=10, groups=torch.tensor([0, 0, 1, 1]))
    return update.decision.metrics["lower"], update.decision.metrics["upper"]


@pytest.mark.parametrize("written_at", [2, 3])
def test_a_bare_curve_has_the_width_of_the_edges_before_and_after_a_resume(tmp_path, written_at):
    path = tmp_path / "steering.yaml"
    whole, last = decider_of(steering=str(path), **EDGES), 2
    for step in range(1, last + 1):
        if step == written_at:
            path.write_text("constant(0.5)")
        edges_at(whole, step)
    resumed = decider_of(steering=str(path), **EDGES)
    resumed.controller.load_state_dict(json.loads(json.dumps(whole.controller.state_dict())))
    path.write_text("constant(0.5)")
    half = (0.2 - 0.1 * (written_at - 1) / 10) / 2  # as wide as the edges were at the decision before it was written
    assert edges_at(whole, 3) == edges_at(resumed, 3) == pytest.approx((0.5 - half, 0.5 + half))
    assert edges_at(resumed, 4) == edges_at(resumed, 5) == pytest.approx((0.5 - half, 0.5 + half))
