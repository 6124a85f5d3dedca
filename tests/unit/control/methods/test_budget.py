"""Rejection as planned, of rollouts and of tokens."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import ABOVE, BAND, batches, drawn_stats, many, stats

import entrocraft as ec
from entrocraft.control.planning.ranking import binned


@given(batches, st.floats(0.0, 2.0), st.floats(0.05, 1.0), st.booleans())
def test_a_budget_never_keeps_fewer_than_its_floor(rows, entropy, min_kept, visitation):
    controller = ec.RejectionController(BAND, rule="budget", min_kept=min_kept, visitation=visitation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in (1, 2, 3):
            stats = drawn_stats(rows, entropy, step)
            decision = controller.decide(stats)
            change = stats.change
            moving = change != 0
            if visitation:
                moving |= stats.visitation != 0
            assert decision.keep[~moving].all()
            assert decision.keep[moving].sum() >= math.floor(min_kept * moving.sum())
            assert moving.sum() == 0 or decision.keep[moving].any()


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
        low, high = decision.note or (-math.inf, math.inf)
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


def test_what_a_weakened_update_does_is_a_tenth_of_what_the_batch_would():
    def effect(rule, fallback):
        controller = ec.RejectionController(ec.Band(ec.constant(0.1), width=0.1), rule=rule, fallback=fallback)
        change = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        fields = {"predicted_change": change, "reading": binned(change.repeat(50))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            controller.decide(stats(ABOVE, [1.0, -1.0, 1.0, -1.0], **fields))  # stuck: all raise entropy
        return controller.state_dict()["state"]["plant"]["effect"][0]

    # The plant measures effects in units of the batch's own size: 1 for changes that all push alike.
    together = 1.0 / math.sqrt(0.1**2 + 0.2**2 + 0.3**2 + 0.4**2) / math.sqrt(4)
    assert effect("budget", "escalate") == pytest.approx(0.1 * together)
    assert effect("token", "escalate") == pytest.approx(0.1 * together, rel=0.02)
    assert effect("budget", "skip") > 0.1 * together


@pytest.mark.parametrize("rule", ["budget", "token"])
def test_the_curve_is_read_ahead_in_decisions_not_in_steps(rule):
    band = ec.Band(ec.linear(1.0, 0.0), width=0.1)
    rare = ec.RejectionController(band, rule=rule, momentum=0.9, steps_per_decision=4)
    often = ec.RejectionController(band, rule=rule, momentum=0.9**4)

    def wanted(controller, step, total_steps):
        fields = {name: getattr(many(0.9), name) for name in ("change", "reading", "advantages")}
        stats = ec.BatchStats(step=step, total_steps=total_steps, entropy=0.9, entropy_stderr=0.01, **fields)
        return controller.decide(stats).metrics["wanted_effect"]

    assert wanted(rare, 8, 100) == pytest.approx(wanted(often, 2, 25))
    unaware = ec.RejectionController(band, rule=rule, momentum=0.9**4)
    assert wanted(unaware, 8, 100) > wanted(often, 3, 25)  # sees a flatter curve ahead


@pytest.mark.parametrize("rule", ["budget", "token"])
def test_a_batch_without_an_advantage_is_no_update_to_the_plant_either(rule):
    controller = ec.RejectionController(BAND, rule=rule)
    nothing = torch.zeros(100, dtype=torch.float64)
    flat = {"advantages": nothing, "predicted_change": nothing, "reading": binned(nothing)}

    def after(step, **fields):
        plain = {"predicted_change": many(0.5).change, "reading": many(0.5).reading, "advantages": torch.ones(100)}
        given = {"step": step, "total_steps": 100, "entropy": 0.5, "entropy_stderr": 0.01}
        return controller.decide(ec.BatchStats(**given, **plain | fields)).metrics

    before, then = after(1), after(2, **flat)
    assert before["effect_0"] != 0.0
    # Momentum waits: nothing of it has faded, and no second update is counted.
    assert then["effect_0"] == before["effect_0"]
    assert controller.state_dict()["state"]["plant"]["num_updates"] == 1
