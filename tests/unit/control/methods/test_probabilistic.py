"""Rejection by chance."""

import pytest
import torch
from support.decisions import BAND, many

import entrocraft as ec


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
