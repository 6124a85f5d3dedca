import json
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

BAND = ec.Band(ec.constant(0.5), width=0.1)
ABOVE, INSIDE, BELOW = 0.7, 0.5, 0.3
ADVANTAGES = [1.0, 0.0, -1.0, 2.0]


def stats(entropy, advantages=ADVANTAGES, **fields):
    return ec.BatchStats(step=3, total_steps=10, entropy=entropy, advantages=torch.tensor(advantages), **fields)


def decide(entropy, rule="advantage", **fields):
    return ec.RejectionController(BAND, rule=rule).decide(stats(entropy, **fields))


def test_algorithm_1_keeps_what_moves_entropy_back():
    assert decide(ABOVE).keep.tolist() == [True, True, False, True]
    assert decide(BELOW).keep.tolist() == [False, True, True, False]
    assert decide(INSIDE).keep.tolist() == [True] * 4


def test_rejected_rollouts_have_no_advantage_and_kept_ones_keep_theirs():
    assert decide(BELOW).advantages.tolist() == [0.0, 0.0, -1.0, 0.0]
    assert decide(INSIDE).advantages.tolist() == ADVANTAGES


def test_the_authors_variant_switches_to_raw_rewards_out_of_band():
    rewards = torch.tensor([1.0, -1.0, 1.0, -1.0])
    above, below = decide(ABOVE, "reward", rewards=rewards), decide(BELOW, "reward", rewards=rewards)
    assert above.advantages.tolist() == [1.0, 0.0, 1.0, 0.0]  # RAFT++: max(R, 0)
    assert below.advantages.tolist() == [0.0, -1.0, 0.0, -1.0]  # NSR: min(R, 0)
    assert above.keep.tolist() == [True, False, True, False]
    assert decide(INSIDE, "reward", rewards=rewards).advantages.tolist() == ADVANTAGES


def test_the_authors_variant_warns_where_rewards_of_0_and_1_leave_it_nothing():
    with pytest.warns(UserWarning, match=r"reward_baseline=0\.5"):
        decision = decide(BELOW, "reward", rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert decision.empty
    controller = ec.RejectionController(BAND, rule="reward", reward_baseline=0.5)
    shifted = controller.decide(stats(BELOW, rewards=torch.tensor([1.0, 0.0, 1.0, 0.0])))
    assert shifted.advantages.tolist() == [0.0, -0.5, 0.0, -0.5]


def test_the_predicted_rule_looks_at_the_change_and_not_at_the_advantage():
    change = torch.tensor([0.2, 0.0, -0.1, -0.3])
    assert decide(ABOVE, "predicted", predicted_change=change).keep.tolist() == [False, True, True, True]
    for rule in ("predicted", "aligned"):
        assert decide(BELOW, rule, predicted_change=change).keep.tolist() == [True, True, False, False]


def test_on_the_edge_of_the_band_nothing_is_rejected():
    band = ec.Band(lower=0.5, upper=0.5)
    controller = ec.RejectionController(band)
    assert controller.decide(stats(0.5)).keep.all()
    assert not controller.decide(stats(0.5 + 1e-9)).keep.all()


def test_all_advantages_zero_keeps_everything():
    assert decide(ABOVE, advantages=[0.0, 0.0]).keep.all()
    assert decide(BELOW, advantages=[0.0, 0.0]).keep.all()


def test_one_rollout_is_enough():
    assert decide(ABOVE, advantages=[1.0]).keep.tolist() == [True]


def test_an_empty_decision_says_so_once_and_is_counted():
    controller = ec.RejectionController(BAND)
    with pytest.warns(UserWarning, match="every rollout was rejected"):
        decision = controller.decide(stats(BELOW, [1.0, 2.0]))
    assert decision.empty and decision.metrics["empty_batches"] == 1
    assert decision.loss_scale() == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert controller.decide(stats(BELOW, [1.0, 2.0])).metrics["empty_batches"] == 2


def test_normalising_over_kept_undoes_the_mean_over_all():
    kept = ec.RejectionController(BAND, normalize="kept").decide(stats(BELOW))
    everything = ec.RejectionController(BAND, normalize="all").decide(stats(BELOW))
    assert kept.loss_scale() == 4 / 2
    assert everything.loss_scale() == 1.0
    assert kept.loss_scale(torch.tensor([5, 1, 2, 4])) == 12 / 3


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_measurements_that_are_not_finite_are_refused_with_step_and_rank(value):
    with pytest.raises(MeasurementError, match="step 3: the entropy"):
        stats(value)
    with pytest.raises(MeasurementError, match=r"step 3, rank 1: 1 of 4 advantages.*rollout 0 of that rank"):
        stats(0.5, [1.0, 1.0, value, 1.0], num_ranks=2)
    with pytest.raises(MeasurementError, match="step 3, rank 0: 1 of 4 predicted_change"):
        stats(0.5, predicted_change=torch.tensor([0.0, value, 0.0, 0.0]))


def test_statistics_that_do_not_fit_are_refused():
    with pytest.raises(InvalidValueError, match="one entry per advantage"):
        stats(0.5, rewards=torch.ones(3))
    with pytest.raises(InvalidValueError, match="equally many each"):
        stats(0.5, num_ranks=3)
    with pytest.raises(InvalidValueError, match="needs BatchStats.predicted_change"):
        decide(ABOVE, "predicted")
    with pytest.raises(InvalidValueError, match=r"needs BatchStats\.rewards"):
        decide(ABOVE, "reward")


def test_names_and_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'advantage'"):
        ec.RejectionController(BAND, rule="advantages")
    with pytest.raises(UnknownNameError):
        ec.RejectionController(BAND, normalize="some")
    with pytest.raises(UnknownNameError, match="did you mean 'rejection'"):
        ec.controllers.build("rejektion", BAND)
    with pytest.raises(InvalidValueError, match="unexpected keyword"):
        ec.controllers.build("none", BAND, rule="advantage")
    with pytest.raises(InvalidValueError, match="expected a Band"):
        ec.RejectionController(0.5)


def test_no_control_keeps_everything_and_still_reports():
    decision = ec.controllers.build("none", BAND).decide(stats(BELOW))
    assert decision.keep.all() and decision.metrics["direction"] == -1.0
    assert decision.loss_scale() == 1.0


finite = st.floats(-10, 10)


@given(
    st.floats(0.0, 2.0),
    st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20),
    st.sampled_from(["advantage", "reward", "predicted", "aligned"]),
    st.sampled_from(["kept", "all"]),
)
def test_no_decision_is_ever_inconsistent(entropy, rows, rule, normalize):
    advantages, rewards, change = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    controller = ec.RejectionController(BAND, rule=rule, normalize=normalize)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decision = controller.decide(
            ec.BatchStats(
                step=1, total_steps=2, entropy=entropy, advantages=advantages, rewards=rewards, predicted_change=change
            )
        )
    assert decision.keep.shape == advantages.shape and decision.keep.dtype == torch.bool
    assert (decision.advantages[~decision.keep] == 0).all()
    assert torch.isfinite(decision.advantages).all()
    assert decision.empty == (decision.metrics["kept_fraction"] == 0.0) == (controller.counts["empty"] == 1)
    assert all(value == value for value in decision.metrics.values())
    if decision.metrics["direction"] == 0:
        assert decision.keep.all()
