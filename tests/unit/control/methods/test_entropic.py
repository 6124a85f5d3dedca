"""Controllers that reweigh: the numbers of their formulas, computed by hand."""

import json

import pytest
import torch

import entrocraft as ec
from entrocraft import controllers
from entrocraft.control import EntropyControl
from entrocraft.control.methods.entropic import Entropic
from entrocraft.errors import InvalidValueError

FALLING = ec.Band(ec.linear(0.6, 0.4), width=0.02)


def stats(step, entropy):
    return ec.BatchStats(step=step, total_steps=10, entropy=entropy, advantages=torch.tensor([2.0, -1.0, 0.0]))


def test_entropic_follows_a_curve_with_its_authors_gains():
    controller = controllers.build("entropic", FALLING)
    # Targets are 0.58 and 0.56; errors -0.1 and 0.04.
    first, second = controller.decide(stats(1, 0.48)), controller.decide(stats(2, 0.60))
    alpha_1, alpha_2 = -0.1 - 0.01 * 0.1, 0.04 + 0.01 * (0.04 - 0.1)
    assert first.metrics["alpha"] == pytest.approx(alpha_1)
    assert first.advantages.tolist() == pytest.approx([2 * (1 + alpha_1), -(1 - alpha_1), 0.0])
    assert second.metrics["alpha"] == pytest.approx(alpha_2)
    assert second.advantages.tolist() == pytest.approx([2 * (1 + alpha_2), -(1 - alpha_2), 0.0])
    assert first.keep.all() and first.loss_scale() == 1.0


@pytest.mark.parametrize(("entropy", "advantages"), [(9.0, [4.0, 0.0, 0.0]), (0.0, [0.0, -2.0, 0.0])])
def test_entropic_leaves_out_one_side_at_most(entropy, advantages):
    controller = controllers.build("entropic", FALLING, proportional_gain=50.0)
    assert controller.decide(stats(1, entropy)).advantages.tolist() == advantages


def test_entropic_goes_on_where_it_was():
    controller = controllers.build("entropic", FALLING)
    for step in (1, 2, 3):
        controller.decide(stats(step, 0.5))
    resumed = controllers.build("entropic", FALLING)
    resumed.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert resumed.decide(stats(4, 0.5)).metrics == controller.decide(stats(4, 0.5)).metrics


def test_entropic_is_a_method_of_every_engine():
    control = EntropyControl(method="entropic", schedule="linear(0.6, 0.4)")
    assert isinstance(control.build().method, Entropic)
    with pytest.raises(InvalidValueError, match="proportional_gain"):
        controllers.build("entropic", FALLING, proportional_gain=float("nan"))
