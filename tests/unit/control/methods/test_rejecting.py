"""What holds for every method that rejects."""

import json
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import (
    BAND,
    RULES,
    batches,
    build,
    drawn_stats,
)

import entrocraft as ec
from entrocraft.errors import InvalidValueError, UnknownNameError


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), batches), min_size=1, max_size=5),
    st.sampled_from(RULES),
    st.sampled_from(["kept", "all"]),
    st.sampled_from(["skip", "escalate"]),
    st.booleans(),
)
def test_no_decision_is_ever_inconsistent(history, rule, normalize, fallback, visitation):
    controller = build(rule, normalize, fallback, visitation)
    for step, (entropy, rows) in enumerate(history, start=1):
        stats = drawn_stats(rows, entropy, step)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            decision = controller.decide(stats)
        assert decision.keep.shape == stats.advantages.shape and decision.keep.dtype == torch.bool
        assert (decision.advantages[~decision.keep] == 0).all()
        assert torch.isfinite(decision.advantages).all()
        assert all(math.isfinite(value) for value in decision.metrics.values())
        assert all(math.isfinite(value) for value in decision.knobs.values())
        if decision.note is not None:
            low, high = decision.note
            assert low <= high
        # An empty decision is never silent: counted, and warned of at its first time.
        assert decision.empty == (decision.metrics["kept_fraction"] == 0.0)
        assert decision.empty <= (decision.metrics["empty_batches"] >= 1)
        if decision.empty and decision.metrics["empty_batches"] == 1:
            assert any("every rollout with an advantage was rejected" in str(warning.message) for warning in caught)
        if decision.metrics["direction"] == 0 and rule not in ("budget", "token"):
            assert decision.keep.all()


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), batches), min_size=1, max_size=5),
    st.sampled_from(RULES),
    st.sampled_from(["skip", "escalate"]),
    st.booleans(),
)
def test_state_round_trips_and_goes_on_the_same_for_every_rule(history, rule, fallback, visitation):
    controller = build(rule, "kept", fallback, visitation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step, (entropy, rows) in enumerate(history, start=1):
            controller.decide(drawn_stats(rows, entropy, step))
        resumed = build(rule, "kept", fallback, visitation)
        resumed.load_state_dict(json.loads(json.dumps(controller.state_dict())))
        assert resumed.state_dict() == controller.state_dict()
        entropy, rows = history[0]
        mine, other = (c.decide(drawn_stats(rows, entropy, 9)) for c in (controller, resumed))
    assert mine.metrics == other.metrics and torch.equal(mine.keep, other.keep)
    assert mine.note == other.note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "advantage", "visitation": True}, "unknown option of method 'advantage' 'visitation'"),
        ({"rule": "aligned", "visitation": True}, "hold it already"),
        ({"rule": "budget", "min_kept": 0.0}, "min_kept"),
        ({"rule": "budget", "min_kept": 1.5}, "min_kept"),
        ({"rule": "predicted", "entropy_bonus": 0.1}, "last rung"),
        ({"rule": "reward", "fallback": "escalate"}, "unknown option of method 'reward' 'fallback'"),
        ({"rule": "budget", "steps_per_decision": 0}, "steps_per_decision"),
        ({"rule": "predicted", "fallback": "escalte"}, "did you mean 'escalate'"),
    ],
)
def test_options_of_the_rules_are_checked(options, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        ec.RejectionController(BAND, **options)
