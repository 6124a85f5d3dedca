"""Clip_B: which punished tokens are left out."""

import math

import pytest
import torch
from support.samples import counted, decided, drawn_tokens

from entrocraft.control.methods.clip_b import ClipB


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.5, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_it_leaves_out_what_a_loop_over_tokens_does(threshold, seed):
    tokens = drawn_tokens(seed)
    signal = {(row, column): math.exp(lp) * (h + lp) for row, column, lp, h, _ in counted(tokens)}
    mean = sum(signal.values()) / len(signal)
    std = math.sqrt(sum((s - mean) ** 2 for s in signal.values()) / len(signal))
    expected = {
        (row, column): 0.0 if a < 0 and signal[row, column] - mean < -threshold * std else 1.0
        for row, column, _, _, a in counted(tokens)
    }
    decision, weights = decided(ClipB(threshold=threshold), tokens)
    assert {place: float(weights[place]) for place in expected} == expected
    assert (0.0 in expected.values()) == (threshold < 1.0)
    assert decision.keep.all() and decision.normalize == "kept" and decision.metrics == {"strength": threshold}


def test_positive_advantages_are_all_kept_and_so_is_everything_where_tokens_are_alike():
    tokens = drawn_tokens(1)
    positive = type(tokens)(
        log_probs_BT=tokens.log_probs_BT,
        entropy_BT=tokens.entropy_BT,
        advantages_BT=tokens.advantages_BT.abs(),
        mask_BT=tokens.mask_BT,
    )
    assert decided(ClipB(threshold=0.0), positive)[1].all()
    ones = torch.ones(2, 3)
    alike = type(tokens)(log_probs_BT=-ones, entropy_BT=ones, advantages_BT=-ones, mask_BT=ones)
    assert decided(ClipB(threshold=0.0), alike)[1] is None
