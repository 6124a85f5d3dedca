import json
import math
import warnings
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.control.planning.ranking import Ranking, binned
from entrocraft.controllers import Rule
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
    with pytest.warns(UserWarning, match="every rollout with an advantage was rejected"):
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


RULES = get_args(Rule)
finite = st.floats(-10, 10)
batches = st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=20)


def drawn_stats(rows, entropy, step=1):
    advantages, rewards, change, visitation = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)
    )
    return ec.BatchStats(
        step=step,
        total_steps=10,
        entropy=entropy,
        advantages=advantages,
        rewards=rewards,
        predicted_change=lambda: change,
        visitation_change=lambda: visitation,
        token_change=lambda: binned(change),
        entropy_stderr=0.01,
    )


def build(rule, normalize, fallback, visitation):
    visitation = visitation and rule in ("predicted", "probabilistic", "budget")
    fallback = "skip" if rule == "reward" else fallback
    bonus = 0.01 if fallback == "escalate" else 0.0
    return ec.RejectionController(
        BAND, rule=rule, normalize=normalize, fallback=fallback, entropy_bonus=bonus, visitation=visitation
    )


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
        assert math.isfinite(decision.entropy_coef)
        if decision.token_limits is not None:
            low, high = decision.token_limits
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
    assert mine.token_limits == other.token_limits


@given(batches, st.floats(0.0, 2.0), st.floats(0.05, 1.0), st.booleans())
def test_a_budget_never_keeps_fewer_than_its_floor(rows, entropy, min_kept, visitation):
    controller = ec.RejectionController(BAND, rule="budget", min_kept=min_kept, visitation=visitation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in (1, 2, 3):
            stats = drawn_stats(rows, entropy, step)
            decision = controller.decide(stats)
            change = stats.prediction("predicted_change")
            moving = change != 0
            if visitation:
                moving |= stats.prediction("visitation_change") != 0
            assert decision.keep[~moving].all()
            assert decision.keep[moving].sum() >= math.floor(min_kept * moving.sum())
            assert moving.sum() == 0 or decision.keep[moving].any()


def many(entropy, step=1, tokens=None, **fields):
    """Statistics of 100 rollouts whose changes are -50 to 49."""
    change = torch.arange(-50.0, 50.0, dtype=torch.float64)
    return ec.BatchStats(
        step=step,
        total_steps=100,
        entropy=entropy,
        advantages=torch.ones(100),
        predicted_change=change,
        token_change=binned(change if tokens is None else tokens),
        entropy_stderr=0.01,
        **fields,
    )


@pytest.mark.parametrize("rule", ["budget", "token"])
def test_a_budget_grows_with_the_distance_and_rejects_the_most_contrary(rule):
    def rejected(entropy):
        controller = ec.RejectionController(BAND, rule=rule)
        decision = controller.decide(many(entropy))
        if rule == "budget":
            change = torch.arange(-50.0, 50.0)
            kept = change[decision.keep]
            assert kept.max() == 49 or kept.min() == -50  # rejected from one end
            return 100 - len(kept), kept.mean().item()
        low, high = decision.token_limits or (-math.inf, math.inf)
        kept = torch.arange(-50.0, 50.0)
        kept = kept[(kept >= low) & (kept <= high)]
        return 100 - len(kept), kept.mean().item()

    far, near = rejected(0.3), rejected(0.49)
    assert far[0] > near[0] and far[1] > 0  # below the curve: what lowers entropy goes first
    assert rejected(0.7)[1] < 0


def test_a_budget_acts_before_the_band_is_left_and_the_sign_rules_do_not():
    inside = 0.46  # of a band from 0.45 to 0.55
    assert not ec.RejectionController(BAND, rule="budget").decide(many(inside)).keep.all()
    assert ec.RejectionController(BAND, rule="predicted").decide(many(inside)).keep.all()


def test_chance_accepts_all_at_the_edge_none_a_band_away_and_half_between():
    def share_kept(entropy):
        controller = ec.RejectionController(BAND, rule="probabilistic")
        kept = [controller.decide(many(entropy, step)).keep[51:].double().mean().item() for step in range(1, 41)]
        return sum(kept) / len(kept)

    assert share_kept(0.5501) > 0.98  # changes above 0 raise entropy, which is too high
    assert share_kept(0.60) == pytest.approx(0.5, abs=0.05)
    assert share_kept(0.651) == 0.0


def test_chance_is_the_same_on_every_rank_and_after_resuming():
    first = ec.RejectionController(BAND, rule="probabilistic").decide(many(0.6, step=7)).keep
    again = ec.RejectionController(BAND, rule="probabilistic").decide(many(0.6, step=7)).keep
    other = ec.RejectionController(BAND, rule="probabilistic", seed=1).decide(many(0.6, step=7)).keep
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_when_nothing_moves_entropy_back_the_fallback_climbs_its_ladder():
    def decide_stuck(controller, step):
        change = torch.tensor([0.1, 0.2, 0.3, 0.4])
        stats = ec.BatchStats(
            step=step, total_steps=10, entropy=ABOVE, advantages=torch.ones(4), predicted_change=change
        )
        return controller.decide(stats)

    controller = ec.RejectionController(BAND, rule="predicted", fallback="escalate", entropy_bonus=0.02)
    with pytest.warns(UserWarning, match="no rollout of the batch moves entropy down"):
        first = decide_stuck(controller, 1)
    assert first.advantages.tolist() == pytest.approx([0.1] * 4)  # a smaller step
    second = decide_stuck(controller, 2)
    assert second.keep.tolist() == [True, False, False, False]  # and of the least harmful quarter only
    third = decide_stuck(controller, 3)
    assert third.entropy_coef == -0.02  # and a penalty on entropy, which is too high
    assert third.metrics["fallback_entropy_bonus"] == 1.0

    without = ec.RejectionController(BAND, rule="predicted", fallback="escalate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stages = [decide_stuck(without, step) for step in (1, 2, 3)]
        freed = without.decide(many(ABOVE))
        assert decide_stuck(without, 5).advantages.tolist() == pytest.approx([0.1] * 4)
    assert stages[2].empty and stages[2].metrics["fallback_skip"] == 1.0
    assert not freed.empty  # the first batch that is not stuck goes back to the bottom


def test_visitation_can_turn_a_decision_around():
    # In units of their own size, with equal gains: local 0.71 and 0.71, visitation -0.89 and 0.45.
    fields = {"predicted_change": torch.tensor([0.1, 0.1]), "visitation_change": torch.tensor([-10.0, 5.0])}
    local = ec.RejectionController(BAND, rule="predicted", fallback="escalate")
    whole = ec.RejectionController(BAND, rule="predicted", visitation=True)
    with pytest.warns(UserWarning, match="no rollout of the batch moves entropy down"):
        local.decide(stats(ABOVE, [1.0, 1.0], **fields))
    assert whole.decide(stats(ABOVE, [1.0, 1.0], **fields)).keep.tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "advantage", "visitation": True}, "does not use"),
        ({"rule": "aligned", "visitation": True}, "hold it already"),
        ({"rule": "token", "visitation": True}, "whole rollouts"),
        ({"rule": "budget", "min_kept": 0.0}, "min_kept"),
        ({"rule": "budget", "min_kept": 1.5}, "min_kept"),
        ({"rule": "predicted", "entropy_bonus": 0.1}, "last rung"),
        ({"rule": "reward", "fallback": "escalate"}, "predicts nothing"),
        ({"rule": "budget", "steps_per_decision": 0}, "steps_per_decision"),
        ({"rule": "predicted", "fallback": "escalte"}, "did you mean 'escalate'"),
    ],
)
def test_options_of_the_rules_are_checked(options, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        ec.RejectionController(BAND, **options)


def test_predictions_are_made_only_if_the_decision_needs_them():
    def unasked():
        raise AssertionError("asked for")

    stats = ec.BatchStats(step=1, total_steps=10, entropy=INSIDE, advantages=torch.ones(2), predicted_change=unasked)
    assert ec.RejectionController(BAND, rule="aligned").decide(stats).keep.all()


def test_token_changes_must_be_bins():
    with pytest.raises(InvalidValueError, match="must come from `binned`"):
        stats(0.5, token_change=torch.ones(4))
    with pytest.raises(InvalidValueError, match=r"needs BatchStats\.token_change"):
        decide(ABOVE, "token")
    for value in (math.nan, math.inf):
        with pytest.raises(MeasurementError, match="step 3: predicted changes of tokens"):
            stats(0.5, token_change=binned(torch.tensor([0.1, value]))).prediction("token_change")


def test_what_a_weakened_update_does_is_a_tenth_of_what_the_batch_would():
    def effect(rule, fallback):
        controller = ec.RejectionController(ec.Band(ec.constant(0.1), width=0.1), rule=rule, fallback=fallback)
        change = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        fields = {"predicted_change": change, "token_change": binned(change.repeat(50))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            controller.decide(stats(ABOVE, [1.0, -1.0, 1.0, -1.0], **fields))  # stuck: all raise entropy
        return controller.state_dict()["plant"]["effect"][0]

    # The plant measures effects in units of the batch's own size: 1 for changes that all push alike.
    together = 1.0 / math.sqrt(0.1**2 + 0.2**2 + 0.3**2 + 0.4**2) / math.sqrt(4)
    assert effect("budget", "escalate") == pytest.approx(0.1 * together)
    assert effect("token", "escalate") == pytest.approx(0.1 * together, rel=0.02)
    assert effect("budget", "skip") > 0.1 * together


@pytest.mark.parametrize("seed", range(20))
def test_the_effect_of_tokens_left_out_counts_the_bin_at_the_limit(seed):
    generator = torch.Generator().manual_seed(seed)
    bins = binned(torch.randn(60, generator=generator, dtype=torch.float64))
    controller = ec.RejectionController(BAND, rule="token")
    decision = controller.decide(stats(0.4, token_change=bins, entropy_stderr=0.01))
    low, high = decision.token_limits
    ranking = Ranking.of_bins(bins)
    kept = (ranking.lows_K >= low * (1 - 1e-9 * math.copysign(1, low))) & (ranking.highs_K <= high)
    effect = ranking.sums_K[kept].sum() / ranking.counts_K[kept].sum().sqrt() / ranking.size()
    assert controller.state_dict()["plant"]["effect"][0] == pytest.approx(effect.item())
    assert decision.kept_token_share == pytest.approx((ranking.counts_K[kept].sum() / 60).item())


def test_the_guard_hears_of_small_batches_of_tokens():
    controller = ec.RejectionController(ec.Band(ec.constant(2.0), width=0.1), rule="token", min_kept=0.05)
    tokens = torch.tensor([-1.0] * 95 + [1.0] * 5)  # nearly all lower entropy, which is too low
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decisions = [controller.decide(many(0.5, step=step, tokens=tokens)) for step in range(1, 21)]
    assert decisions[0].kept_token_share == 0.05 and decisions[0].keep.all()
    assert any("on average 5.0% of the batch was kept" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("rule", ["budget", "token"])
def test_the_curve_is_read_ahead_in_decisions_not_in_steps(rule):
    band = ec.Band(ec.linear(1.0, 0.0), width=0.1)
    rare = ec.RejectionController(band, rule=rule, momentum=0.9, steps_per_decision=4)
    often = ec.RejectionController(band, rule=rule, momentum=0.9**4)

    def wanted(controller, step, total_steps):
        fields = {name: getattr(many(0.9), name) for name in ("predicted_change", "token_change", "advantages")}
        stats = ec.BatchStats(step=step, total_steps=total_steps, entropy=0.9, entropy_stderr=0.01, **fields)
        return controller.decide(stats).metrics["wanted_effect"]

    assert wanted(rare, 8, 100) == pytest.approx(wanted(often, 2, 25))
    unaware = ec.RejectionController(band, rule=rule, momentum=0.9**4)
    assert wanted(unaware, 8, 100) > wanted(often, 3, 25)  # sees a flatter curve ahead


def test_rollouts_without_a_score_do_not_end_an_adaptive_run():
    band = ec.Band(ec.adaptive(ec.linear(0.6, 0.4)), width=0.1)
    controller = ec.RejectionController(band)
    rewards = torch.tensor([1.0, math.nan, 0.0, math.nan])
    assert not controller.decide(stats(INSIDE, rewards=rewards)).empty
    with pytest.raises(MeasurementError, match="mean reward"):
        controller.decide(stats(INSIDE, rewards=rewards * math.nan))


@pytest.mark.parametrize(
    "fields",
    [
        {"entropy_stderr": math.nan},
        {"entropy_stderr": -0.1},
        {"rewards": torch.tensor([0.0, math.inf, 1.0, 1.0])},
        {"num_tokens": torch.tensor([1.0, math.nan, 1.0, 1.0])},
    ],
)
def test_measurements_that_are_no_numbers_are_refused(fields):
    with pytest.raises(MeasurementError):
        stats(ABOVE, **fields)


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


def test_the_state_of_another_rule_is_refused():
    with pytest.raises(InvalidValueError, match="rule 'predicted', got 'advantage'"):
        ec.RejectionController(BAND, rule="predicted").load_state_dict(ec.RejectionController(BAND).state_dict())
