"""Methods that set the clip range: the numbers, step by step."""

import pytest
import torch

from entrocraft import Batch, Goal
from entrocraft.control.methods.adaptive_clip import AdaptiveClip
from entrocraft.control.methods.clip_higher import ClipHigher
from entrocraft.errors import InvalidValueError

GOAL = Goal(lower=0.4, target=0.5, upper=0.6)


def knobs(method, entropies):
    batches = [Batch(step=1, entropy=entropy, advantages=torch.ones(1)) for entropy in entropies]
    return [dict(method.decide(batch, GOAL).knobs) for batch in batches]


def test_clip_higher_never_moves():
    assert knobs(ClipHigher(clip_high=0.4), [0.1, 0.9]) == [{"clip_low": 0.2, "clip_high": 0.4}] * 2


def test_the_upper_edge_rises_below_the_target_and_falls_above_it():
    # 1 / (1 - 0.6) = 2.5, and k = 0.25, 0.5, 0.5 on the target, 0.25, 0, and not below.
    ranges = knobs(AdaptiveClip(), [0.3, 0.3, 0.5, 0.7, 0.7, 0.7])
    assert [1.0 - r["clip_low"] for r in ranges] == pytest.approx([0.4] * 6)
    assert [1.0 + r["clip_high"] for r in ranges] == pytest.approx([2.75, 3.0, 3.0, 2.75, 2.5, 2.5])


def test_it_stays_below_its_limit_and_goes_on_where_it_was():
    method, resumed = AdaptiveClip(step=2.0, most=2.5), AdaptiveClip(step=2.0, most=2.5)
    assert [r["clip_high"] for r in knobs(method, [0.1, 0.1])] == pytest.approx([3.5, 4.0])
    resumed.load_state_dict(method.state_dict())
    assert knobs(resumed, [0.9]) == knobs(method, [0.9])


@pytest.mark.parametrize(
    ("method", "options"),
    [(ClipHigher, {"clip_low": 1.1}), (ClipHigher, {"clip_high": -0.1}), (AdaptiveClip, {"eps": 1.0})],
)
def test_numbers_out_of_range_are_refused(method, options):
    with pytest.raises(InvalidValueError):
        method(**options)
