import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.control import pace as pace_module
from entrocraft.control.pace import AdaptivePace, ClockPace, pace_of, reward_trend
from entrocraft.errors import InvalidValueError, MeasurementError

NOISE = 0.02  # standard deviation of the mean reward of 512 rollouts of reward 0 or 1
PATIENCE = 15  # the default

rewards_lists = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80)


def noisy(means, seed):
    generator = random.Random(seed)
    return [mean + generator.gauss(0.0, NOISE) for mean in means]


def walk(rewards, total_steps=None, pace=None, first_step=1):
    """Return the progress at each step."""
    pace = pace or AdaptivePace(ec.adaptive(0.5))
    total_steps = total_steps or len(rewards)
    return [pace.progress(step, total_steps, reward) for step, reward in enumerate(rewards, first_step)]


def moving(progress):
    return [b > a for a, b in zip([0.0, *progress], progress, strict=False)]


def test_an_adaptive_schedule_is_its_curve_and_keeps_its_unit():
    schedule = ec.schedule_from("adaptive(linear(1.0, 0.5, unit='initial'), patience=10)")
    assert schedule == ec.adaptive(ec.linear(1.0, 0.5, unit="initial"), patience=10, speed=2.0)
    assert schedule.unit == "initial"
    assert schedule.at(0.5) == 0.75
    assert schedule.to_dict() == {
        "type": "adaptive",
        "curve": {"type": "linear", "start": 1.0, "end": 0.5, "unit": "initial"},
        "patience": 10,
        "speed": 2.0,
    }
    assert ec.schedule_from(json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(
    "spec",
    [
        "adaptive(adaptive(0.5))",
        "adaptive(linear(0.6, 0.2), patience=1)",
        "adaptive(linear(0.6, 0.2), patience=2.5)",
        "adaptive(linear(0.6, 0.2), patience=True)",
        "adaptive(linear(0.6, 0.2), speed=0)",
        "adaptive(linear(0.6, 0.2), speed=-1)",
        "adaptive(linear(0.6, 0.2), unit='initial')",
        "adaptive()",
        "join([adaptive(linear(0.6, 0.2)), 0.2], at=[0.5])",
        "warmup(adaptive(linear(0.6, 0.2)), start=0.1)",
    ],
)
def test_what_is_no_adaptive_schedule_is_refused(spec):
    with pytest.raises(InvalidValueError):
        ec.schedule_from(spec)


def test_a_band_says_its_pace():
    assert isinstance(pace_of(ec.Band("linear(0.6, 0.2)", 0.1)), ClockPace)
    edges = ec.Band(lower="adaptive(linear(0.6, 0.2), patience=8)", upper="adaptive(linear(0.7, 0.3), patience=8)")
    pace = pace_of(edges, start=0.25)
    assert isinstance(pace, AdaptivePace) and pace.patience == 8
    assert pace.progress(1, 10, 0.5) == 0.25


@pytest.mark.parametrize(
    "upper", ["linear(0.7, 0.3)", "adaptive(0.7, patience=9)", "adaptive(0.7, patience=8, speed=3)"]
)
def test_edges_that_would_part_are_refused(upper):
    with pytest.raises(InvalidValueError, match="two edges of a band move at one pace"):
        pace_of(ec.Band(lower="adaptive(linear(0.6, 0.2), patience=8)", upper=upper))


@given(st.integers(0, 300), st.integers(1, 200))
def test_by_the_clock_a_band_is_read_as_it_always_was(step, total_steps):
    band = ec.Band("linear(0.6, 0.2)", 0.1)
    assert band(pace_of(band).progress(step, total_steps), 1) == band(step, total_steps)


def test_the_trend_in_hand_computed_cases():
    assert reward_trend([]) == reward_trend([1.0, 2.0]) == reward_trend([0.3] * 20) == 0.0
    # Times -1 0 1, sum(x r) = 2, noise (1 + 3)/2 * sqrt(pi)/2, sum(x^2) = 2.
    assert reward_trend([0.0, -1.0, 2.0]) == pytest.approx(2 / (2 * math.sqrt(math.pi) / 2 * math.sqrt(2)))


@given(rewards_lists, st.floats(0.01, 100.0), st.floats(-100.0, 100.0))
def test_the_trend_knows_no_scale_and_turns_with_the_series(rewards, scale, shift):
    trend = reward_trend([round(r, 3) for r in rewards])
    assert reward_trend([-round(r, 3) for r in rewards]) == -trend
    assert reward_trend([scale * round(r, 3) for r in rewards]) == pytest.approx(trend, rel=1e-6, abs=1e-6)


def test_the_trend_of_pure_noise_is_a_standard_normal_number():
    trends = [reward_trend(noisy([0.5] * 30, seed)) for seed in range(2000)]
    assert sum(trends) / 2000 == pytest.approx(0.0, abs=0.08)
    assert math.sqrt(sum(t * t for t in trends) / 2000) == pytest.approx(1.0, abs=0.1)


def test_a_dead_flat_reward_moves_at_twice_the_clock_after_the_first_patience():
    progress = walk([0.3] * 100, pace=AdaptivePace(ec.adaptive(0.5, patience=10)))
    assert progress[:9] == [0.0] * 9
    assert progress[9] == pytest.approx(0.02)  # step 10 is the first that moves
    assert progress[29] == pytest.approx(0.42)
    assert progress[-1] == 1.0


def test_speed_is_in_clocks_and_steps_count_whatever_the_number_of_decisions():
    pace = AdaptivePace(ec.adaptive(0.5, patience=2, speed=3.0))
    assert [pace.progress(step, 100, 0.3) for step in (1, 1, 6, 6, 7)] == pytest.approx([0.0, 0.0, 0.15, 0.15, 0.18])


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_while_the_reward_improves_and_anneals_soon_after_the_plateau(seed):
    means = [0.2 + 0.004 * step for step in range(100)] + [0.6] * 100
    progress = walk(noisy(means, seed))
    assert progress[98] == 0.0
    first = moving(progress).index(True) + 1
    assert 100 < first <= 100 + 3 * PATIENCE
    assert progress[-1] > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_a_reward_that_rises_again_stops_the_clock(seed):
    means = [0.3] * 60 + [0.3 + 0.004 * step for step in range(90)]
    progress = walk(noisy(means, seed))
    assert progress[59] > 0.2
    assert not any(moving(progress)[60 + 2 * PATIENCE :])


def test_it_does_not_chatter_on_pure_noise():
    shares, switches = [], []
    for seed in range(40):
        moves = moving(walk(noisy([0.5] * 300, seed), total_steps=10_000))
        switches.append(sum(a != b for a, b in pairwise(moves)))
        shares.append(sum(moves) / 300)
    assert max(switches) <= 10 and sum(switches) / 40 <= 5
    assert sum(shares) / 40 > 0.8


def test_between_the_two_thresholds_it_goes_on_as_it_was(monkeypatch):
    trends = iter([2.0, 2.0, 0.9, 2.0, 2.0, 2.0, 2.6, 2.0, 2.0])  # stalls below 1, improves above 2.5
    monkeypatch.setattr(pace_module, "reward_trend", lambda rewards: next(trends))
    moves = moving(walk([0.5] * 12, pace=AdaptivePace(ec.adaptive(0.5, patience=2))))
    assert moves == [False] * 3 + [True] * 5 + [False] * 4


@given(rewards_lists, st.integers(2, 6))
def test_each_change_of_mind_lasts_at_least_its_patience(rewards, patience):
    moves = moving(walk(rewards, total_steps=10_000, pace=AdaptivePace(ec.adaptive(0.5, patience=patience))))
    switches = [i for i in range(1, len(moves)) if moves[i] != moves[i - 1]]
    assert all(b - a >= patience for a, b in pairwise(switches))


@given(rewards_lists, st.integers(2, 10), st.floats(0.1, 50.0), st.integers(1, 100), st.floats(0.0, 1.0))
def test_progress_is_a_share_that_never_decreases(rewards, patience, speed, total_steps, start):
    pace = AdaptivePace(ec.adaptive(0.5, patience, speed), start=start)
    progress = [start, *walk(rewards, total_steps, pace)]
    assert all(0.0 <= a <= b <= 1.0 for a, b in pairwise(progress))
    assert all(math.isfinite(value) for value in pace.metrics().values())
    assert pace.metrics()["schedule_progress"] == progress[-1]


@given(rewards_lists, rewards_lists, st.integers(2, 10))
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(before, after, patience):
    schedule = ec.adaptive(0.5, patience)
    whole = AdaptivePace(schedule)
    walk(before, 100, whole)
    resumed = AdaptivePace(schedule)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
    assert resumed.state_dict() == whole.state_dict()
    later = len(before) + 1
    assert walk(after, 100, resumed, later) == walk(after, 100, whole, later)
    assert resumed.state_dict() == whole.state_dict()


def test_a_saved_state_does_not_change_afterwards():
    pace = AdaptivePace(ec.adaptive(0.5))
    pace.progress(1, 10, 0.5)
    state = pace.state_dict()
    pace.progress(2, 10, 0.6)
    assert state["rewards"] == [0.5] and state["last_step"] == 1


def test_a_pace_refuses_what_it_cannot_use():
    pace = AdaptivePace(ec.adaptive(0.5))
    with pytest.raises(InvalidValueError, match="adaptive schedule needs the rewards"):
        pace.progress(1, 10, None)
    with pytest.raises(MeasurementError, match="step 1: the mean reward is nan"):
        pace.progress(1, 10, float("nan"))
    assert pace.state_dict() == AdaptivePace(ec.adaptive(0.5)).state_dict()  # nothing was taken in
    pace.progress(5, 10, 0.3)
    with pytest.raises(InvalidValueError, match="cannot go back from step 5 to 4"):
        pace.progress(4, 10, 0.3)
    for state in ({}, {"progress": 0.5}, pace.state_dict() | {"ema": 1.0}):
        with pytest.raises(InvalidValueError, match="pace state"):
            pace.load_state_dict(state)
    with pytest.raises(InvalidValueError, match="pace state"):
        ClockPace().load_state_dict(pace.state_dict())
    for start in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidValueError, match="pace: start"):
            AdaptivePace(ec.adaptive(0.5), start=start)
    for anything in (ClockPace(), pace):
        with pytest.raises(InvalidValueError, match="step >= 0"):
            anything.progress(-1, 10, 0.3)


def test_the_clock_needs_no_reward_and_says_so():
    assert not ClockPace().rewards_needed and AdaptivePace(ec.adaptive(0.5)).rewards_needed
    assert [ClockPace().progress(step, 4) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert ClockPace().metrics() == ClockPace().state_dict() == {}
