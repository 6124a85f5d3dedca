import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.errors import InvalidValueError


def finite_difference(logits_V, token, advantage, step=1e-5):
    """Entropy after one real policy-gradient step on the logits, less entropy before, per unit step."""
    p = logits_V.softmax(-1)
    direction = -p
    direction[token] += 1.0
    moved = (logits_V + step * advantage * direction).softmax(-1)
    back = (logits_V - step * advantage * direction).softmax(-1)
    return (-(moved * moved.log()).sum() + (back * back.log()).sum()) / (2 * step)


@given(st.integers(0, 10_000), st.floats(-2.0, 2.0), st.floats(0.3, 4.0))
@settings(max_examples=40, deadline=None)
def test_predicted_change_is_the_derivative_of_entropy_along_a_policy_gradient_step(seed, advantage, scale):
    generator = torch.Generator().manual_seed(seed)
    logits_V = scale * torch.randn(6, generator=generator, dtype=torch.float64)
    token = int(torch.randint(6, (1,), generator=generator))
    predicted = ec.predicted_entropy_change(
        logits_V[None, None], torch.tensor([[token]]), torch.tensor([advantage], dtype=torch.float64), torch.ones(1, 1)
    )
    assert predicted.item() == pytest.approx(finite_difference(logits_V, token, advantage).item(), abs=1e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("token", "advantage", "raises_entropy"),
    [
        (0, 1.0, False),  # reinforce a confident token
        (0, -1.0, True),  # punish a confident token
        (1, 1.0, True),  # reinforce a rare token
        (1, -1.0, False),  # punish a rare token: what Algorithm 1 gets wrong
    ],
)
def test_the_signs_of_the_four_quadrants(token, advantage, raises_entropy):
    logits = torch.tensor([[[3.0, 0.0, 0.0, 0.0]]])
    change = ec.predicted_entropy_change(logits, torch.tensor([[token]]), torch.tensor([advantage]), torch.ones(1, 1))
    assert (change.item() > 0) == raises_entropy


def test_sensitivity_vanishes_for_uniform_and_for_certain_distributions():
    logits = torch.tensor([[[0.0, 0.0, 0.0], [50.0, -50.0, -50.0]]])
    assert ec.entropy_sensitivity(logits, torch.tensor([[1, 0]])).abs().max() < 1e-6


def test_forbidden_tokens_do_not_matter():
    logits = torch.tensor([[[2.0, 0.0, 0.0]]])
    padded = torch.tensor([[[2.0, 0.0, 0.0, -torch.inf]]])
    tokens = torch.tensor([[1]])
    torch.testing.assert_close(ec.entropy_sensitivity(padded, tokens), ec.entropy_sensitivity(logits, tokens))


def test_the_expected_sensitivity_under_the_policy_is_zero():
    # S is X minus its own expectation: sampling alone, without reward, has no preferred direction.
    logits = torch.randn(1, 1, 7)
    every_token = ec.entropy_sensitivity(logits.expand(7, 1, 7), torch.arange(7)[:, None])[:, 0]
    assert (logits.softmax(-1).flatten() * every_token).sum().abs() < 1e-6


def test_a_rollout_is_the_mean_over_its_counted_tokens_and_an_empty_one_changes_nothing():
    logits_BTV = torch.randn(3, 4, 5)
    tokens_BT = torch.randint(5, (3, 4))
    mask_BT = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    advantages_B = torch.tensor([1.5, -0.5, 2.0])
    sensitivity_BT = ec.entropy_sensitivity(logits_BTV, tokens_BT)
    change_B = ec.predicted_entropy_change(logits_BTV, tokens_BT, advantages_B, mask_BT)
    assert change_B[0].item() == pytest.approx(-1.5 * sensitivity_BT[0, :2].mean().item())
    assert change_B[1].item() == pytest.approx(0.5 * sensitivity_BT[1].mean().item())
    assert change_B[2].item() == 0.0


def test_the_chunk_size_does_not_change_the_result():
    logits_BTV, tokens_BT = torch.randn(2, 9, 13), torch.randint(13, (2, 9))
    torch.testing.assert_close(
        ec.entropy_sensitivity(logits_BTV, tokens_BT, chunk_size=1), ec.entropy_sensitivity(logits_BTV, tokens_BT)
    )


def test_the_estimate_agrees_with_the_exact_value_where_tokens_come_from_the_policy():
    torch.manual_seed(0)
    scale_B11 = torch.linspace(0.3, 4.0, 64)[:, None, None]
    logits_BTV = scale_B11 * torch.randn(64, 32, 40)
    probabilities = logits_BTV.softmax(-1)
    tokens_BT = torch.multinomial(probabilities.view(-1, 40), 1).view(64, 32)
    mask_BT = torch.ones(64, 32)
    exact_BT = ec.entropy_sensitivity(logits_BTV, tokens_BT)
    estimate_BT = ec.estimated_entropy_sensitivity(
        ec.token_log_probs(logits_BTV, tokens_BT), ec.token_entropy(logits_BTV), mask_BT
    )
    correlation = torch.corrcoef(torch.stack([exact_BT.flatten(), estimate_BT.flatten()]))[0, 1]
    assert correlation > 0.8
    assert ((exact_BT > 0) == (estimate_BT > 0)).float().mean() > 0.8


def test_the_estimate_ignores_what_the_mask_hides():
    log_probs, entropy = -torch.rand(4, 16), torch.rand(4, 16)
    mask = torch.rand(4, 16) > 0.3
    once = ec.estimated_entropy_sensitivity(log_probs, entropy, mask)
    again = ec.estimated_entropy_sensitivity(
        log_probs.masked_fill(~mask, float("nan")), entropy.masked_fill(~mask, float("nan")), mask
    )
    torch.testing.assert_close(once, again)
    assert (once[~mask] == 0).all()


def test_the_estimate_of_no_tokens_is_zero_and_no_bins_are_refused():
    empty = torch.zeros(2, 3)
    assert ec.estimated_entropy_sensitivity(empty, empty, empty).abs().sum() == 0
    with pytest.raises(InvalidValueError):
        ec.estimated_entropy_sensitivity(empty, empty, empty, num_bins=0)
