"""Tokens that are left out."""

import math
import warnings

import pytest
import torch
from support.decisions import ABOVE, BAND, decide, many, stats

import entrocraft as ec
from entrocraft.control.methods.token import Token
from entrocraft.control.planning.ranking import Ranking, binned
from entrocraft.errors import InvalidValueError, MeasurementError


def test_token_changes_must_be_bins():
    with pytest.raises(InvalidValueError, match="sums and counts .*got shape"):
        decide(ABOVE, "token", change=torch.ones(4), reading=torch.ones(4))
    with pytest.raises(InvalidValueError, match=r"needs Batch\.reading"):
        decide(ABOVE, "token")
    for value in (math.nan, math.inf):
        with pytest.raises(MeasurementError, match="step 3: predicted changes of tokens"):
            decide(0.5, "token", change=torch.ones(4), reading=binned(torch.tensor([0.1, value])))


@pytest.mark.parametrize("seed", range(20))
def test_the_effect_of_tokens_left_out_counts_the_bin_at_the_limit(seed):
    generator = torch.Generator().manual_seed(seed)
    bins = binned(torch.randn(60, generator=generator, dtype=torch.float64))
    controller = ec.RejectionController(BAND, rule="token")
    decision = controller.decide(stats(0.4, change=torch.zeros(4), reading=bins, entropy_stderr=0.01))
    low, high = decision.note
    ranking = Ranking.of_bins(bins)
    kept = (ranking.lows_K >= low * (1 - 1e-9 * math.copysign(1, low))) & (ranking.highs_K <= high)
    effect = ranking.sums_K[kept].sum() / ranking.counts_K[kept].sum().sqrt() / ranking.size()
    assert controller.state_dict()["state"]["plant"]["effect"][0] == pytest.approx(effect.item())
    assert decision.kept_share == pytest.approx((ranking.counts_K[kept].sum() / 60).item())


def test_the_guard_hears_of_small_batches_of_tokens():
    controller = ec.RejectionController(ec.Band(ec.constant(2.0), width=0.1), rule="token", min_kept=0.05)
    tokens = torch.tensor([-1.0] * 95 + [1.0] * 5)  # nearly all lower entropy, which is too low
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decisions = [controller.decide(many(0.5, step=step, tokens=tokens)) for step in range(1, 21)]
    assert decisions[0].kept_share == 0.05 and decisions[0].keep.all()
    assert any("on average 5.0% of the batch was kept" in str(warning.message) for warning in caught)


def test_with_visitation_the_sum_of_the_two_parts_is_what_counts():
    """Hand-computed: local parts -1, 2, 1, -2 and visitation 3, -3, 1, -1 make 2, -1, 2, -3."""
    local_BT, visitation_BT = torch.tensor([[-1.0, 2.0, 1.0, -2.0]]), torch.tensor([[3.0, -3.0, 1.0, -1.0]])
    ones_BT = torch.ones(1, 4)
    columns = {"log_probs_BT": -ones_BT, "entropy_BT": ones_BT, "advantages_BT": ones_BT, "mask_BT": ones_BT}
    tokens = ec.Tokens(**columns, change_BT=local_BT, visitation_BT=visitation_BT)
    goal = ec.Goal(lower=0.48, target=0.5, upper=0.52)
    for visitation, left in ((True, [1.0, 0.0, 1.0, 0.0]), (False, [0.0, 1.0, 1.0, 0.0])):
        method = Token(visitation=visitation)
        reading = method.read(tokens, lambda bins: bins)
        batch = ec.Batch(
            step=1,
            entropy=0.3,  # far below the band: what lowers entropy is left out
            advantages=torch.ones(1),
            change=local_BT.sum(-1),
            visitation=visitation_BT.sum(-1),
            reading=reading,
        )
        assert method.weigh(tokens, method.decide(batch, goal)).tolist() == [left]
        assert ("visitation" in method.needs) == visitation
