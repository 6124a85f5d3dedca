"""Flexible Entropy Control: thresholds by probability, the three strategies of its authors, and ours on a curve."""

import json

import pytest
import torch
from support import published

from entrocraft import Band, Batch, Goal
from entrocraft.control.controller import Controller, course_and_method
from entrocraft.control.methods.flexible_clip import FlexibleClip
from entrocraft.control.surrogate import MiniBatch
from entrocraft.errors import InvalidValueError, UnknownNameError

PLAIN, UPPER, LOWER = (0.0, 0.2), (-0.25, 0.5), (-0.13, 0.3)
BAND = {"lower": 0.4, "target": 0.5, "upper": 0.6}


def decide(method, entropy=0.5, elapsed=None, step=1):
    """The thresholds of one update, upper and lower."""
    batch = Batch(step=step, entropy=entropy, advantages=torch.ones(1))
    return method.decide(batch, Goal(**BAND, elapsed=elapsed))


def near(*thresholds):
    return tuple(pytest.approx(threshold) for threshold in thresholds)


def kept(decision, probs, ratios, advantages):
    probs, ratios, advantages = (torch.tensor([values]) for values in (probs, ratios, advantages))
    seen = MiniBatch(
        log_probs_BT=probs.log(),
        old_log_probs_BT=(probs / ratios).log(),
        entropy_BT=torch.ones_like(probs),
        advantages_BT=advantages,
        mask_BT=torch.ones_like(probs),
    )
    return FlexibleClip().surrogate(seen, decision, lambda sums: sums).advantages_BT[0].tolist()


# ---- the ranges ------------------------------------------------------------------------------------------


def test_the_upper_edge_by_hand():
    # 1 + 0.5 - 0.25 p: 1.475 at p = 0.1, 1.3 at 0.8. Below, 1 - 0.2 for all.
    decision = decide(FlexibleClip(), entropy=0.3)
    assert kept(decision, [0.1, 0.1, 0.8, 0.8], [1.47, 1.48, 1.29, 1.31], [2.0] * 4) == [2.0, 0.0, 2.0, 0.0]
    assert kept(decision, [0.1, 0.8, 0.1, 0.8], [0.79, 0.79, 0.81, 0.81], [-1.0] * 4) == [0.0, 0.0, -1.0, -1.0]


def test_the_lower_edge_by_hand():
    # 1 - 0.3 + 0.13 p: 0.713 at p = 0.1, 0.804 at 0.8. Above, 1 + 0.2 for all.
    decision = decide(FlexibleClip(), entropy=0.7)
    assert kept(decision, [0.1, 0.1, 0.8, 0.8], [0.72, 0.71, 0.81, 0.80], [-1.0] * 4) == [-1.0, 0.0, -1.0, 0.0]
    assert kept(decision, [0.1, 0.8, 0.1, 0.8], [1.21, 1.21, 1.19, 1.19], [1.0] * 4) == [0.0, 0.0, 1.0, 1.0]


def test_what_moves_against_its_advantage_keeps_its_gradient():
    for entropy in (0.3, 0.5, 0.7):
        decision = decide(FlexibleClip(), entropy=entropy)
        assert kept(decision, [0.1, 0.8], [0.1, 5.0], [1.0, -1.0]) == [1.0, -1.0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("strategy", "elapsed"), [("id", 0.1), ("id", 0.8), ("did", 0.2), ("did", 0.9)])
def test_the_gradient_is_that_of_bounds_on_the_probability(seed, strategy, elapsed):
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(8, 50, generator=generator, dtype=torch.float64) * 3
    # No probability is above 1, where the bounds would be others.
    log_probs = (old + 0.5 * torch.randn(8, 50, generator=generator, dtype=torch.float64)).clamp(max=0.0)
    advantages = torch.randn(8, 1, generator=generator, dtype=torch.float64).expand(8, 50)
    mask, method = torch.ones(8, 50), FlexibleClip(strategy)
    decision = decide(method, elapsed=elapsed)
    seen = MiniBatch(
        log_probs_BT=log_probs, old_log_probs_BT=old, entropy_BT=mask, advantages_BT=advantages, mask_BT=mask
    )
    asked = method.surrogate(seen, decision, lambda sums: sums).advantages_BT
    variable = log_probs.clone().requires_grad_()
    (ours,) = torch.autograd.grad((-(variable - old).exp() * asked).sum(), variable)
    # By hand: the account's equations, with lambda = 1 - 2k/T.
    m = 1 - 2 * elapsed
    upper, lower = {
        ("id", 0.1): ((-0.25 * m, 0.5 * m + 0.2 * (1 - m)), PLAIN),
        ("id", 0.8): (PLAIN, (-0.13 * (1 + m), 0.3 * (1 + m) - 0.2 * m)),
        ("did", 0.2): ((-0.25 * (1 - m), 0.2 * m + 0.5 * (1 - m)), PLAIN),
        ("did", 0.9): (UPPER, (-0.13 * (1 + m), 0.3 * (1 + m) - 0.2 * m)),
    }[strategy, elapsed]
    (theirs,) = torch.autograd.grad(published.flexible(variable, old, advantages, upper, lower).sum(), variable)
    torch.testing.assert_close(ours, theirs)
    (plain,) = torch.autograd.grad(published.clipped(variable, old, advantages).sum(), variable)
    assert not torch.equal(ours, plain)


# ---- the strategies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elapsed", "upper", "lower"),
    [
        (0.0, UPPER, PLAIN),
        (0.25, (-0.125, 0.35), PLAIN),  # half of each
        (0.5, PLAIN, PLAIN),
        (0.75, PLAIN, (-0.065, 0.25)),
        (1.0, PLAIN, PLAIN),
    ],
)
def test_id_opens_upwards_first_and_downwards_after_half_of_the_run(elapsed, upper, lower):
    assert decide(FlexibleClip("id"), elapsed=elapsed).note == near(upper, lower)


def test_id_goes_over_to_the_whole_lower_threshold_at_half_of_the_run():
    decision = decide(FlexibleClip("id"), elapsed=0.5 + 1e-9)
    assert decision.note == near(PLAIN, LOWER)
    assert decision.metrics["strength"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("elapsed", "upper", "lower"),
    [
        (0.0, PLAIN, PLAIN),
        (0.25, (-0.125, 0.35), PLAIN),
        (0.5, UPPER, PLAIN),
        (0.75, UPPER, (-0.065, 0.25)),
        (1.0, UPPER, PLAIN),
    ],
)
def test_did_opens_upwards_by_and_by_and_stays_open(elapsed, upper, lower):
    assert decide(FlexibleClip("did"), elapsed=elapsed).note == near(upper, lower)


def test_od_switches_at_a_fifth_of_the_first_entropy_and_at_a_falling_line():
    # From 2 nats: low 0.4, high 0.4 + 1.6 (1 - k/T).
    method = FlexibleClip("od")
    course = [
        (0.1, 2.0, LOWER),  # above 1.84
        (0.2, 1.0, LOWER),
        (0.3, 0.41, LOWER),
        (0.4, 0.4, UPPER),  # at the low edge
        (0.5, 1.2, UPPER),  # at the high edge: 0.4 + 0.8
        (0.5, 1.21, LOWER),
        (0.9, 0.39, UPPER),
        (0.9, 0.56, UPPER),  # 0.4 + 0.16
        (0.9, 0.57, LOWER),
    ]
    for elapsed, entropy, dynamic in course:
        expected = (UPPER, PLAIN) if dynamic == UPPER else (PLAIN, LOWER)
        assert decide(method, entropy, elapsed).note == near(*expected), (elapsed, entropy)


def test_od_does_nothing_until_entropy_has_been_at_an_edge():
    method = FlexibleClip("od")
    assert decide(method, 2.0, 0.0).note == near(PLAIN, PLAIN)  # at the line, and not above it
    assert decide(method, 1.5, 0.1).note == near(PLAIN, PLAIN)


def test_on_a_curve_the_switch_is_at_the_edges_of_the_band():
    method = FlexibleClip()
    strengths = [decide(method, entropy).metrics["strength"] for entropy in (0.5, 0.6, 0.61, 0.41, 0.4, 0.6, 0.61)]
    assert strengths == [0.0, 0.0, -1.0, -1.0, 1.0, 1.0, -1.0]


def test_the_strategies_go_by_the_clock_where_the_curve_does_not():
    course, method = course_and_method(
        Band("adaptive(linear(0.9, 0.5))", width=0.1), "flexible_clip", {"strategy": "id"}
    )
    controller, strengths = Controller(course, method, "flexible_clip"), []
    for step in (1, 5, 9, 13, 16):
        batch = Batch(step=step, entropy=0.5, advantages=torch.ones(2), rewards=torch.full((2,), float(step)))
        goal = controller.goal(batch, 16)
        assert goal.target == 0.9  # the reward improves, and the curve stands still
        strengths.append(method.decide(batch, goal).metrics["strength"])
    assert strengths == pytest.approx([0.875, 0.375, -0.875, -0.375, 0.0])


def test_a_goal_that_does_not_tell_is_refused_but_by_the_curve():
    for strategy in ("id", "did", "od"):
        with pytest.raises(InvalidValueError, match=f"'{strategy}' goes by how much .* or choose strategy 'curve'"):
            decide(FlexibleClip(strategy))
    assert decide(FlexibleClip()).note == near(PLAIN, PLAIN)


@pytest.mark.parametrize("strategy", ["curve", "od"])
def test_a_resumed_switch_stands_where_it_was(strategy):
    method, resumed = FlexibleClip(strategy), FlexibleClip(strategy)
    decide(method, 2.0, 0.1), decide(method, 0.3, 0.2)
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert decide(resumed, 0.5, 0.3).note == decide(method, 0.5, 0.3).note == near(UPPER, PLAIN)


# ---- the options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"upper_slope": 0.1},
        {"upper_slope": -0.6},  # the threshold of a sure token would be negative
        {"lower_slope": -0.31},
        {"lower_intercept": 1.1},
        {"clip": 1.1},
        {"clip": -0.1},
        {"floor": 1.5},
    ],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        FlexibleClip(**options)


def test_a_strategy_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UnknownNameError, match="strategy 'odd'.*curve, did, id, od"):
        FlexibleClip("odd")
