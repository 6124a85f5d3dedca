"""Estimates of tokens that do not belong together, and of a token that has no probability."""

import math

import pytest
import torch

from entrocraft.dynamics import estimated_entropy_sensitivity, estimated_self_kernel, token_rarity
from entrocraft.errors import InvalidValueError

ESTIMATES = [estimated_entropy_sensitivity, estimated_self_kernel, token_rarity]


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize(
    "changed, said",
    [
        ({"entropy": torch.ones(1, 3)}, r"entropies must have shape \(2, 3\), got \(1, 3\)"),
        ({"mask": torch.ones(2, 2)}, r"mask must have shape \(2, 3\), got \(2, 2\)"),
        ({"mask": "x"}, "mask must be a tensor, an array or a list of numbers, got 'x'"),
    ],
)
def test_other_shapes_are_refused(estimate, changed, said):
    given = {"log_probs": -torch.ones(2, 3), "entropy": torch.ones(2, 3), "mask": torch.ones(2, 3)} | changed
    with pytest.raises(InvalidValueError, match=said):
        estimate(*given.values())


def test_a_token_of_probability_0_leaves_the_others_of_its_bin_their_numbers():
    log_probs, entropy = torch.tensor([[math.log(0.5), -math.inf]]), torch.tensor([[0.7, 0.7]])
    x = 0.5 * (math.log(0.5) + 0.7)  # of the other token it is 0, and their mean x / 2
    found = estimated_entropy_sensitivity(log_probs, entropy, torch.ones(1, 2))
    assert found.tolist() == [pytest.approx([x / 2, -x / 2], abs=1e-7)]
    assert token_rarity(log_probs, entropy, torch.ones(1, 2))[0, 1] == 2.0
    # K = 1 - 2 p + mean of p, which is 0.25, as p^2 of the likelier token is.
    assert estimated_self_kernel(log_probs, entropy, torch.ones(1, 2)).tolist() == [pytest.approx([0.25, 1.25])]


def test_a_log_probability_of_nan_is_not_hidden():
    log_probs = torch.tensor([[math.nan, -1.0]])
    assert estimated_entropy_sensitivity(log_probs, torch.ones(1, 2), torch.ones(1, 2)).isnan().all()
