"""Entropy bonuses: Skywork's rule and AEnt's on a schedule, step by step, and one that stands still."""

import pytest
import torch

from entrocraft import Batch, Goal
from entrocraft.control.methods.aent import AEnt
from entrocraft.control.methods.entropy_bonus import EntropyBonus, FixedBonus
from entrocraft.errors import InvalidValueError

GOAL = Goal(lower=0.4, target=0.5, upper=0.6)


def coefficients(method, entropies):
    batches = [Batch(step=1, entropy=entropy, advantages=torch.ones(1)) for entropy in entropies]
    return [method.decide(batch, GOAL).knobs["entropy_coef"] for batch in batches]


def test_the_coefficient_climbs_while_entropy_is_low_and_is_not_used_while_it_is_not():
    method = EntropyBonus(step=0.01, most=0.03)
    # Low thrice, on the target, above it, low again: 0.01, 0.02, 0.03; back to 0.02 and 0.01, unused; 0.02.
    used = coefficients(method, [0.3, 0.3, 0.3, 0.5, 0.7, 0.3])
    assert used == pytest.approx([0.01, 0.02, 0.03, 0.0, 0.0, 0.02])


def test_it_stays_between_its_limits():
    method = EntropyBonus(step=1.0, least=0.1, most=0.3, start=0.2)
    assert coefficients(method, [0.1, 0.1, 0.9, 0.9, 0.1]) == pytest.approx([0.3, 0.3, 0.0, 0.0, 0.3])
    assert method.coef == 0.3


def test_it_goes_on_where_it_was():
    method, resumed = EntropyBonus(), EntropyBonus()
    coefficients(method, [0.3, 0.3])
    resumed.load_state_dict(method.state_dict())
    assert coefficients(resumed, [0.3]) == coefficients(method, [0.3])


@pytest.mark.parametrize("options", [{"step": -1.0}, {"least": 0.2, "most": 0.1}, {"start": 1.0}])
def test_numbers_out_of_order_are_refused(options):
    with pytest.raises(InvalidValueError):
        EntropyBonus(**options)


def test_aents_coefficient_moves_by_how_far_entropy_is_out_of_the_band_and_stands_still_inside():
    method = AEnt(rate=0.1, least=0.01, most=0.04, start=0.02)
    # 0.1 below, inside, 0.1 above twice, far below: + 0.01; 0; - 0.01, - 0.01; up to the limit.
    assert coefficients(method, [0.3, 0.5, 0.7, 0.7, 0.0]) == pytest.approx([0.03, 0.03, 0.02, 0.01, 0.04])
    assert coefficients(method, [9.0]) == pytest.approx([0.01])


def test_aent_goes_on_where_it_was():
    method, resumed = AEnt(), AEnt()
    coefficients(method, [0.1, 0.1])
    resumed.load_state_dict(method.state_dict())
    assert resumed.coef != AEnt().coef and coefficients(resumed, [0.1]) == coefficients(method, [0.1])


def test_a_fixed_bonus_stands_still():
    assert coefficients(FixedBonus(coef=0.02), [0.1, 0.5, 0.9]) == [0.02] * 3
    with pytest.raises(InvalidValueError):
        FixedBonus(coef=-0.1)


@pytest.mark.parametrize("options", [{"rate": -1.0}, {"least": 0.2}, {"start": 1.0}])
def test_numbers_of_aent_out_of_order_are_refused(options):
    with pytest.raises(InvalidValueError):
        AEnt(**options)
