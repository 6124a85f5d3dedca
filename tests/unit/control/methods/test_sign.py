"""Methods that wait for the band to be left: Algorithm 1, and the same on predictions."""

import pytest
import torch
from support.decisions import ABOVE, ADVANTAGES, BAND, BELOW, INSIDE, decide, stats

import entrocraft as ec
from entrocraft.control.methods.sign import Predicted


def test_algorithm_1_keeps_what_moves_entropy_back():
    assert decide(ABOVE).keep.tolist() == [True, True, False, True]
    assert decide(BELOW).keep.tolist() == [False, True, True, False]
    assert decide(INSIDE).keep.tolist() == [True] * 4


def test_rejected_rollouts_have_no_advantage_and_kept_ones_keep_theirs():
    assert decide(BELOW).advantages.tolist() == [0.0, 0.0, -1.0, 0.0]
    assert decide(INSIDE).advantages.tolist() == ADVANTAGES


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


def test_normalising_over_kept_undoes_the_mean_over_all():
    kept = ec.RejectionController(BAND, normalize="kept").decide(stats(BELOW))
    everything = ec.RejectionController(BAND, normalize="all").decide(stats(BELOW))
    assert kept.loss_scale() == 4 / 2
    assert everything.loss_scale() == 1.0
    assert kept.loss_scale(torch.tensor([5, 1, 2, 4])) == 12 / 3


def test_visitation_can_turn_a_decision_around():
    # In units of their own size, with equal gains: local 0.71 and 0.71, visitation -0.89 and 0.45.
    fields = {"predicted_change": torch.tensor([0.1, 0.1]), "visitation": torch.tensor([-10.0, 5.0])}
    local = ec.RejectionController(BAND, rule="predicted", fallback="escalate")
    whole = ec.RejectionController(BAND, rule="predicted", visitation=True)
    with pytest.warns(UserWarning, match="no rollout of the batch moves entropy down"):
        local.decide(stats(ABOVE, [1.0, 1.0], **fields))
    assert whole.decide(stats(ABOVE, [1.0, 1.0], **fields)).keep.tolist() == [True, False]


def test_predictions_are_made_only_if_the_decision_needs_them():
    goal = ec.Goal(lower=0.45, target=0.5, upper=0.55)
    inside, outside = (ec.Batch(step=1, entropy=entropy, advantages=torch.ones(2)) for entropy in (INSIDE, BELOW))
    assert Predicted().wants(inside, goal) == frozenset() and Predicted().wants(outside, goal) == {"change"}
    assert Predicted().decide(inside, goal).keep.all()
    # Gains are learnt from every batch, those inside the band, too.
    assert Predicted(visitation=True).wants(inside, goal) == {"change", "visitation", "fresh_entropy"}
