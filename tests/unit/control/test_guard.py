import json
import warnings
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrocraft.control.guard import SYMPTOMS, Guard
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

LOWER, UPPER = 0.5, 0.6
entropies = st.floats(0.0, 3.0)
shares = st.floats(0.0, 1.0)


def look(guard, entropies, **fields):
    """Show the guard one decision per entropy; return the symptoms of the last."""
    values = dict(lower=LOWER, upper=UPPER, kept_fraction=0.5, negative_fraction=0.5) | fields
    symptoms = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step, entropy in enumerate(entropies, 1):
            symptoms = guard.observe(step=step, entropy=entropy, **values)
    return symptoms


def direction(entropy, lower, upper):
    return int(entropy > upper) - int(entropy < lower)


@pytest.mark.parametrize("stuck", [0.3, 0.9])
def test_a_target_out_of_reach_is_noticed_after_patience_decisions(stuck):
    guard = Guard(patience=10)
    assert look(guard, [stuck] * 9) == []
    assert look(guard, [stuck]) == ["out_of_reach"]
    assert guard.metrics()["guard_out_of_reach"] == 1.0


@pytest.mark.parametrize(
    "entropies",
    [
        [0.55] * 10,  # inside
        [0.44, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5],  # back at the edge
        [0.3] * 5 + [0.7] * 5,  # on both sides
        [0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28],  # on the way: 0.36 to go, then 0.26
        [0.46] * 10,  # by less than half the band's width
    ],
)
def test_a_target_within_reach_is_no_symptom(entropies):
    assert look(Guard(patience=10), entropies) == []


def test_noise_around_a_constant_distance_does_not_hide_it():
    assert look(Guard(patience=10), [0.30, 0.32] * 5) == ["out_of_reach"]


def test_small_batches_are_noticed_on_average_only():
    assert look(Guard(patience=4), [0.55] * 4, kept_fraction=0.09) == ["small_batch"]
    guard = Guard(patience=4)
    look(guard, [0.55], kept_fraction=0.8)
    assert look(guard, [0.55] * 3, kept_fraction=0.0) == []  # 0.2 on average
    assert look(guard, [0.55], kept_fraction=0.0) == ["small_batch"]


def test_scarce_negatives_matter_below_the_band_only():
    assert look(Guard(patience=4), [0.49] * 4, negative_fraction=0.04) == ["scarce_negatives"]
    assert look(Guard(patience=4), [0.49] * 4, negative_fraction=0.06) == []
    assert look(Guard(patience=4), [0.55] * 4, negative_fraction=0.04) == []
    assert look(Guard(patience=4), [0.61] * 4, negative_fraction=0.04) == []


def test_a_gradient_norm_that_grows_is_noticed_and_one_spike_is_not():
    guard = Guard(patience=4)
    look(guard, [0.55] * 8, grad_norm=1.0)
    assert look(guard, [0.55], grad_norm=50.0) == []
    assert look(guard, [0.55] * 3, grad_norm=3.5) == ["gradient_norm"]
    steady = Guard(patience=4)
    look(steady, [0.55] * 8, grad_norm=1.0)
    assert look(steady, [0.55] * 4, grad_norm=2.9) == []


def test_gradient_norms_of_zero_and_no_norms_are_no_symptom():
    guard = Guard(patience=2)
    look(guard, [0.55] * 4, grad_norm=0.0)
    assert look(guard, [0.55] * 2, grad_norm=1.0) == []
    assert look(guard, [0.55] * 9) == []


def test_each_symptom_warns_once_in_one_line_that_says_what_to_do():
    guard = Guard(patience=2)
    seen = dict(lower=LOWER, upper=UPPER, kept_fraction=0.04, negative_fraction=0.02)
    for _ in range(4):
        look(guard, [], **seen)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 9):
            guard.observe(step=step, entropy=0.25, grad_norm=1.0 if step < 5 else 4.0, **seen)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 4 and not any("\n" in message for message in messages)
    assert "step 2: entropy has stayed below the band for 2 steps" in messages[0] and "0.25 nats" in messages[0]
    assert "4.0% of the batch was kept" in messages[1]
    assert "2.0% of the rollouts have a negative" in messages[2]
    assert "4.0 times its earlier median" in messages[3]
    assert guard.counts == {"out_of_reach": 7, "small_batch": 7, "scarce_negatives": 7, "gradient_norm": 3}
    assert guard.offset == 0.0 and guard.relaxed(LOWER, UPPER, 0.25) == (LOWER, UPPER)


def test_off_looks_at_nothing():
    guard = Guard("off", patience=2)
    assert look(guard, [0.1] * 50, kept_fraction=0.0) == []
    assert guard.metrics() == {} and guard.offset == 0.0
    assert guard.state_dict() == Guard("off", patience=2).state_dict()


def test_the_offset_goes_a_tenth_of_what_is_left_and_creeps_back_once_calm():
    guard = Guard("relax", patience=2)
    look(guard, [0.3, 0.3])
    assert guard.offset == pytest.approx(-0.02)
    look(guard, [0.3])
    assert guard.offset == pytest.approx(-0.038)
    assert look(guard, [0.4]) == []  # half as far as before: on its way
    assert guard.offset == pytest.approx(-0.038 * 0.98)
    look(guard, [0.49])
    assert guard.offset == pytest.approx(-0.01)  # never more than the distance
    look(guard, [0.55])
    assert guard.offset == 0.0
    assert guard.metrics()["guard_offset"] == 0.0


@given(entropies, st.floats(0.05, 2.0), st.floats(0.0, 0.5), st.integers(2, 8))
def test_under_an_entropy_that_is_stuck_the_edge_comes_to_it_and_not_past(entropy, lower, width, patience):
    upper = lower + width
    distance = entropy - upper if entropy > upper else min(entropy - lower, 0.0)
    guard = Guard("relax", patience)
    offsets = [0.0]
    for _ in range(300):
        look(guard, [entropy], lower=lower, upper=upper)
        offsets.append(guard.offset)
    assert all(min(distance, 0.0) <= offset <= max(distance, 0.0) for offset in offsets)
    assert all(abs(b) >= abs(a) for a, b in pairwise(offsets))
    reached = distance if abs(distance) > (upper - lower) / 2 * (1 + 1e-9) + 1e-12 else None
    if reached is not None:
        assert guard.offset == pytest.approx(reached, abs=1e-9)
    elif abs(distance) < (upper - lower) / 2 * (1 - 1e-9):
        assert guard.offset == 0.0
    look(guard, [lower + width / 2], lower=lower, upper=upper)
    assert guard.offset == 0.0


@given(st.lists(st.tuples(entropies, shares, shares), min_size=1, max_size=60), st.floats(0.0, 0.5))
def test_the_offset_never_leads_away_from_the_entropy(decisions, width):
    guard = Guard("relax", patience=2)
    for entropy, kept, negative in decisions:
        look(guard, [entropy], lower=0.5, upper=0.5 + width, kept_fraction=kept, negative_fraction=negative)
        assert guard.offset == 0.0 or guard.offset * direction(entropy, 0.5, 0.5 + width) > 0


@given(st.floats(-1.0, 1.0), entropies, st.floats(0.0, 0.5))
def test_the_eased_band_never_pushes_the_other_way(offset, entropy, width):
    guard = Guard("relax")
    guard.offset = offset
    lower, upper = guard.relaxed(0.5, 0.5 + width, entropy)
    assert lower <= 0.5 + offset <= 0.5 + width + offset <= upper
    assert direction(entropy, lower, upper) in (0, direction(entropy, 0.5, 0.5 + width))


def test_an_entropy_that_jumps_past_the_eased_band_is_left_alone():
    guard = Guard("relax")
    guard.offset = -0.2
    assert guard.relaxed(LOWER, UPPER, 0.45) == (0.3, 0.45)
    assert guard.relaxed(LOWER, UPPER, 0.9) == (0.3, UPPER)  # above the user's band: down, but no further
    guard.offset = 0.2
    assert guard.relaxed(LOWER, UPPER, 0.65) == (0.65, 0.8)
    assert guard.relaxed(LOWER, UPPER, 0.1) == (LOWER, 0.8)


@pytest.mark.parametrize("push", [0.002, 0.02])
def test_in_closed_loop_it_gives_way_only_to_a_plant_that_cannot_follow(push):
    # Entropy drifts down by 0.004 a step; out of the band the controller pushes it back by `push`.
    guard, entropy = Guard("relax", patience=10), 0.8
    for _ in range(600):
        lower, upper = guard.relaxed(LOWER, UPPER, entropy)
        assert lower >= min(entropy, LOWER) - 1e-12  # no lower than entropy itself went
        look(guard, [entropy])
        entropy = max(0.2, entropy - 0.004 - push * direction(entropy, lower, upper))
    if push > 0.004:
        assert guard.offset == 0.0 and entropy == pytest.approx(LOWER, abs=0.02)
        assert guard.counts["out_of_reach"] == 0
    else:
        assert guard.offset == pytest.approx(0.2 - LOWER, abs=1e-6)


@given(
    st.lists(st.tuples(entropies, shares, shares, st.none() | st.floats(0.0, 1e3)), max_size=30),
    st.lists(st.tuples(entropies, shares, shares, st.none() | st.floats(0.0, 1e3)), max_size=30),
)
def test_a_resumed_guard_goes_on_as_if_it_had_never_stopped(before, after):
    def show(guard, decisions):
        return [
            look(guard, [entropy], kept_fraction=kept, negative_fraction=negative, grad_norm=grad_norm)
            for entropy, kept, negative, grad_norm in decisions
        ]

    whole, resumed = Guard("relax", patience=3), Guard("relax", patience=3)
    show(whole, before)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
    assert resumed.state_dict() == whole.state_dict()
    assert show(resumed, after) == show(whole, after)
    assert resumed.metrics() == whole.metrics()


def test_the_state_stays_small():
    guard = Guard(patience=5)
    look(guard, [0.55] * 1000, grad_norm=1.0)
    assert len(json.dumps(guard.state_dict())) < 1500


def test_a_guard_refuses_what_it_cannot_use():
    with pytest.raises(UnknownNameError, match="did you mean 'relax'"):
        Guard("relaxed")
    for patience in (1, 0, 2.5, True, "20"):
        with pytest.raises(InvalidValueError, match="guard: patience"):
            Guard(patience=patience)
    for state in ({}, {"counts": {}, "offset": 0.0}, Guard().state_dict() | {"counts": {"a": 1}}):
        with pytest.raises(InvalidValueError, match="guard state"):
            Guard().load_state_dict(state)
    guard = Guard()
    for field in ("entropy", "kept_fraction", "negative_fraction", "grad_norm"):
        values = dict(entropy=0.5, lower=LOWER, upper=UPPER, kept_fraction=0.5, negative_fraction=0.5, grad_norm=1.0)
        with pytest.raises(MeasurementError, match="step 3: the"):
            guard.observe(step=3, **values | {field: float("nan")})
    assert guard.state_dict() == Guard().state_dict()
    assert set(guard.metrics()) == {f"guard_{symptom}" for symptom in SYMPTOMS} | {"guard_offset"}
