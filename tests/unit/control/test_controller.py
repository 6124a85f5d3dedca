"""A course and a method together: what is counted, logged, saved and refused."""

import json
import math
import warnings

import pytest
import torch
from support.decisions import ABOVE, BAND, BELOW, INSIDE, decide, stats

import entrocraft as ec
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError


def test_an_empty_decision_says_so_once_and_is_counted():
    controller = ec.RejectionController(BAND)
    with pytest.warns(UserWarning, match="every rollout with an advantage was rejected"):
        decision = controller.decide(stats(BELOW, [1.0, 2.0]))
    assert decision.empty and decision.metrics["empty_batches"] == 1
    assert decision.loss_scale() == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert controller.decide(stats(BELOW, [1.0, 2.0])).metrics["empty_batches"] == 2


def test_metrics_say_what_happened():
    metrics = decide(BELOW, num_tokens=torch.tensor([4, 1, 2, 3])).metrics
    assert metrics["entropy"] == BELOW
    assert metrics["target"] == 0.5
    assert (metrics["lower"], metrics["upper"]) == pytest.approx((0.45, 0.55))
    assert metrics["direction"] == -1.0
    assert metrics["kept_fraction"] == 0.5
    assert metrics["kept_token_fraction"] == 0.3
    assert metrics["tracking_error"] == pytest.approx(-0.2)
    assert metrics["out_of_band_batches"] == 1.0


@pytest.mark.parametrize("smallest", [5e-324, 1.5e-323])
def test_one_factor_on_advantages_too_small_to_carry_it_is_no_change_of_them(smallest):
    # No rollout raises entropy, so that `escalate` takes a smaller step: one factor on all. A subnormal number has
    # too few digits for it, and its quotient is not that of the others.
    advantages = torch.tensor([smallest, 1.0], dtype=torch.float64)
    batch = ec.BatchStats(step=3, total_steps=10, entropy=0.0, advantages=advantages)
    decision = ec.RejectionController(BAND, fallback="escalate", entropy_bonus=0.01).decide(batch)
    assert decision.keep.all() and 0 < decision.advantages[1] < 1


def test_a_relative_band_is_scaled_by_the_first_entropy():
    controller = ec.RejectionController(ec.Band(ec.linear(1.0, 0.5, unit="initial"), width=0.1))
    first = controller.decide(ec.BatchStats(step=0, total_steps=10, entropy=0.8, advantages=torch.ones(2)))
    assert (first.metrics["lower"], first.metrics["upper"]) == pytest.approx((0.76, 0.84))
    last = controller.decide(ec.BatchStats(step=10, total_steps=10, entropy=0.4, advantages=torch.ones(2)))
    assert last.metrics["target"] == pytest.approx(0.4)


def test_state_survives_json_and_goes_on_where_it_was():
    band = ec.Band(ec.constant(1.0, unit="initial"), width=0.1)
    controller = ec.RejectionController(band)
    controller.decide(stats(0.8))
    controller.decide(stats(0.3))
    resumed = ec.RejectionController(band)
    resumed.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert resumed.state_dict() == controller.state_dict()
    assert resumed.decide(stats(0.5)).metrics == controller.decide(stats(0.5)).metrics


def test_a_foreign_state_is_refused():
    with pytest.raises(InvalidValueError, match="controller state"):
        ec.RejectionController(BAND).load_state_dict({"counts": {}, "ema": 1.0})


def test_the_state_of_another_rule_is_refused():
    with pytest.raises(InvalidValueError, match="method 'predicted', got that of 'advantage'"):
        ec.RejectionController(BAND, rule="predicted").load_state_dict(ec.RejectionController(BAND).state_dict())


def test_names_and_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'advantage'"):
        ec.RejectionController(BAND, rule="advantages")
    with pytest.raises(UnknownNameError):
        ec.RejectionController(BAND, normalize="some")
    with pytest.raises(UnknownNameError, match="did you mean 'rejection'"):
        ec.controllers.build("rejektion", BAND)
    with pytest.raises(UnknownNameError, match="method 'none' takes no options, got 'rule'"):
        ec.controllers.build("none", BAND, rule="advantage")
    with pytest.raises(InvalidValueError, match="expected a Band"):
        ec.RejectionController(0.5)


def test_no_control_keeps_everything_and_still_reports():
    decision = ec.controllers.build("none", BAND).decide(stats(BELOW))
    assert decision.keep.all() and decision.metrics["direction"] == -1.0
    assert decision.loss_scale() == 1.0


def test_rollouts_without_a_score_do_not_end_an_adaptive_run():
    band = ec.Band(ec.adaptive(ec.linear(0.6, 0.4)), width=0.1)
    controller = ec.RejectionController(band)
    rewards = torch.tensor([1.0, math.nan, 0.0, math.nan])
    assert not controller.decide(stats(INSIDE, rewards=rewards)).empty
    with pytest.raises(MeasurementError, match="mean reward"):
        controller.decide(stats(INSIDE, rewards=rewards * math.nan))


def test_an_entropy_given_as_a_tensor_leaves_plain_state():
    controller = ec.RejectionController(BAND)
    controller.decide(stats(torch.tensor(ABOVE)))
    assert json.loads(json.dumps(controller.state_dict())) == controller.state_dict()


def test_state_saved_before_steering_takes_the_steering_back():
    controller = ec.RejectionController(BAND)
    saved = controller.state_dict()
    controller.steer(ec.Band(0.9, width=0.1))
    controller.load_state_dict(saved)
    assert controller.state_dict() == saved and controller.band == BAND


def test_a_curve_that_a_person_writes_is_not_eased_by_what_stood_between_entropy_and_the_last_one():
    controller = ec.RejectionController(ec.Band(0.9, width=0.1), rule="advantage", guard="relax")
    fields = {"total_steps": 100, "entropy": 0.5, "advantages": torch.tensor([1.0, -1.0])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # out of reach
        for step in range(1, 31):
            eased = controller.decide(ec.BatchStats(step=step, **fields)).metrics
    assert eased["guard_offset"] < -0.2 and eased["target"] < 0.7
    controller.steer(ec.Band(0.56, width=0.1))  # of which entropy is just below
    followed = controller.decide(ec.BatchStats(step=31, **fields)).metrics
    assert followed["target"] == 0.56 and followed["lower"] == pytest.approx(0.51)
    # Nor is it called out of reach before it has had its time.
    assert followed["guard_out_of_reach"] == eased["guard_out_of_reach"] and followed["guard_offset"] == 0.0
