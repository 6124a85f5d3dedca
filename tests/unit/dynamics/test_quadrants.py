import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entrocraft.dynamics import Quadrant, quadrants

SENSITIVITY_BT = torch.tensor([[0.4, -0.2, 0.0], [0.5, -0.3, 9.0], [0.7, 0.1, -0.1], [0.2, 0.2, 0.2]])
ADVANTAGES_B = torch.tensor([2.0, -1.0, 0.0, 1.0])
MASK_BT = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]])


def test_hand_computed_quadrants():
    four = quadrants(SENSITIVITY_BT, ADVANTAGES_B, MASK_BT)
    assert four.num_tokens == 8
    expected = {
        "positive_confident_share": 2 / 8,  # 0.4 and 0.0
        "positive_rare_share": 1 / 8,
        "negative_confident_share": 1 / 8,
        "negative_rare_share": 1 / 8,
        "zero_share": 3 / 8,
        "positive_confident_contribution": -0.8 / 8,
        "positive_rare_contribution": 0.4 / 8,
        "negative_confident_contribution": 0.5 / 8,
        "negative_rare_contribution": -0.3 / 8,
        "total": -0.2 / 8,
        "num_tokens": 8.0,
    }
    assert four.to_dict() == pytest.approx(expected, rel=1e-6)


def test_rollouts_that_are_not_kept_do_not_count_at_all():
    keep_B = torch.tensor([False, True, True, False])
    four = quadrants(SENSITIVITY_BT, ADVANTAGES_B, MASK_BT, keep_B)
    alone = quadrants(SENSITIVITY_BT[1:3], ADVANTAGES_B[1:3], MASK_BT[1:3])
    assert four == alone
    assert four.num_tokens == 5
    assert four.negative_rare.contribution == pytest.approx(-0.3 / 5)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_shares_add_up_to_one_contributions_to_the_mean_and_each_has_its_sign(seed):
    generator = torch.Generator().manual_seed(seed)
    sensitivity_BT = torch.randn(5, 7, generator=generator)
    advantages_B = torch.randint(-1, 2, (5,), generator=generator) * torch.rand(5, generator=generator)
    mask_BT = torch.rand(5, 7, generator=generator) > 0.4
    four = quadrants(sensitivity_BT, advantages_B, mask_BT)
    flat = four.to_dict()
    assert sum(v for k, v in flat.items() if k.endswith("_share")) == pytest.approx(1.0)
    mean = (-advantages_B[:, None] * sensitivity_BT)[mask_BT].mean().item()
    assert four.total == pytest.approx(mean, abs=1e-6)
    assert four.positive_confident.contribution <= 0 <= four.positive_rare.contribution
    assert four.negative_rare.contribution <= 0 <= four.negative_confident.contribution


def test_without_tokens_everything_is_zero_and_what_the_mask_hides_may_be_nan():
    nothing = quadrants(torch.full((2, 3), torch.nan), torch.ones(2), torch.zeros(2, 3))
    assert set(nothing.to_dict().values()) == {0.0}
    hidden = SENSITIVITY_BT.masked_fill(MASK_BT == 0, torch.nan)
    assert quadrants(hidden, ADVANTAGES_B, MASK_BT) == quadrants(SENSITIVITY_BT, ADVANTAGES_B, MASK_BT)


def test_a_token_that_moves_nothing_is_confident():
    four = quadrants(torch.zeros(1, 2), torch.tensor([-1.0]), torch.ones(1, 2))
    assert four.negative_confident == Quadrant(share=1.0, contribution=0.0)
    assert four.negative_rare.share == 0.0


def test_each_token_may_have_an_advantage_of_its_own():
    own_BT = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 3.0, 5.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    four = quadrants(SENSITIVITY_BT, own_BT, MASK_BT)
    assert four.positive_confident == Quadrant(1 / 8, pytest.approx(-2.0 * 0.4 / 8))
    assert four.positive_rare == Quadrant(1 / 8, pytest.approx(3.0 * 0.3 / 8))
    assert four.negative_confident == Quadrant(1 / 8, pytest.approx(0.5 / 8))
    assert four.negative_rare == Quadrant(1 / 8, pytest.approx(-0.2 / 8))
    assert four.zero_share == 4 / 8
