"""The learning rate that follows the curve: factors by hand, and a small world in which learning lowers entropy."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entrocraft.control.batch import Batch
from entrocraft.control.goal import Goal
from entrocraft.control.methods.learning_rate import LearningRate
from entrocraft.errors import InvalidValueError


def factor_of(method, entropy, target=0.5, step=1):
    batch = Batch(step=step, entropy=entropy, advantages=torch.ones(2))
    decision = method.decide(batch, Goal(lower=0.9 * target, target=target, upper=1.1 * target))
    assert decision.keep.all() and decision.metrics["learning_rate_factor"] == decision.knobs["learning_rate"]
    return decision.knobs["learning_rate"]


def test_the_first_factors_by_hand():
    """H = 0.505 and then, smoothed, 0.5025: errors of log 1.01 and log 1.005, and b is up by the first."""
    method = LearningRate(start=0.1)
    first = factor_of(method, 0.505)
    assert first == pytest.approx(0.1 * 1.01**20)
    assert factor_of(method, 0.5) == pytest.approx(0.1 * 1.01 * 1.005**20)
    assert factor_of(LearningRate(start=0.1, gain=0.5), 0.505) == pytest.approx(0.1 * 1.01**10)


def test_the_factor_stays_within_its_limits_and_leaves_them_as_soon_as_the_error_turns():
    method = LearningRate(start=0.3, least=0.05, most=1.0)
    assert [factor_of(method, 0.8) for _ in range(50)] == pytest.approx([1.0] * 50)
    for _ in range(6):  # until the smoothed entropy is at 0.5
        factor_of(method, 0.5)
    assert factor_of(method, 0.48) < 0.5
    assert [factor_of(method, 0.2) for _ in range(50)][-1] == pytest.approx(0.05)


@given(st.floats(0, 10), st.floats(0, 10))
def test_the_factor_is_always_within_its_limits(entropy, target):
    method = LearningRate()
    for step in range(3):
        assert 0.01 * (1 - 1e-9) <= factor_of(method, entropy, target, step + 1) <= 1.0


@pytest.mark.parametrize("speed", [0.003, 0.01, 0.02], ids=lambda speed: f"{speed:g} a step")
def test_entropy_follows_a_line_at_any_rate_that_is_too_high(speed):
    """Entropy falls by `speed` of itself at the full rate, read with 1 % of noise; the line asks for 0.001 a step."""
    noise, method, entropy, errors = torch.Generator().manual_seed(0), LearningRate(), 0.6, []
    for step in range(200):
        target = 0.6 * (1 - 0.2 * step / 200)
        errors.append(abs(entropy - target))
        reading = entropy * (1 + 0.01 * float(torch.randn(1, generator=noise)))
        entropy *= 1 - speed * factor_of(method, reading, target, step + 1)
    assert sum(errors[40:]) / 160 < 0.01
    assert entropy == pytest.approx(0.48, abs=0.02)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped():
    method, resumed = LearningRate(), LearningRate()
    readings = [0.52, 0.49, 0.505, 0.51]
    for entropy in readings:
        factor_of(method, entropy)
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert [factor_of(method, entropy) for entropy in readings] == [factor_of(resumed, entropy) for entropy in readings]
    with pytest.raises(InvalidValueError, match="controller state of the learning rate"):
        resumed.load_state_dict({"zeta": 1.0})


@pytest.mark.parametrize(
    "options",
    [{"least": 0.0}, {"least": 0.5}, {"most": 0.1}, {"gain": 0.0}, {"start": 2.0}, {"start": math.nan}],
    ids=str,
)
def test_options_out_of_order_are_refused(options):
    with pytest.raises(InvalidValueError):
        LearningRate(**options)
