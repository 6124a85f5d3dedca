import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft import dynamics
from entrocraft.dynamics import estimates
from entrocraft.errors import InvalidValueError


def batch(seed=0, scale=None, vocabulary=40, shape=(64, 32)):
    """Logits of mixed sharpness and tokens drawn from them, with what an engine would know."""
    torch.manual_seed(seed)
    scale = torch.linspace(0.3, 4.0, shape[0])[:, None, None] if scale is None else scale
    logits_BTV = scale * torch.randn(*shape, vocabulary)
    tokens_BT = torch.multinomial(logits_BTV.softmax(-1).view(-1, vocabulary), 1).view(shape)
    return logits_BTV, tokens_BT, *known(logits_BTV, tokens_BT)


def known(logits_BTV, tokens_BT):
    return ec.token_log_probs(logits_BTV, tokens_BT), ec.token_entropy(logits_BTV), torch.ones(tokens_BT.shape)


def topk(logits_BTV, k):
    return logits_BTV.log_softmax(-1).topk(k, dim=-1).values


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_the_estimated_kernel_agrees_with_the_exact_one_where_tokens_come_from_the_policy():
    logits, tokens, *given_ = batch()
    estimate, exact = dynamics.estimated_self_kernel(*given_), dynamics.self_kernel(logits, tokens)
    assert correlation(estimate, exact) > 0.95
    assert estimate.mean().item() == pytest.approx(exact.mean().item(), rel=0.02)


def test_an_estimated_kernel_by_hand_and_its_lower_bound():
    # One bin: E[p_y] = (0.9 + 0.1) / 2, below 0.9^2, which the first token's sum of squares contains.
    log_probs, ones = torch.tensor([[0.9, 0.1, 0.5]]).log(), torch.ones(1, 3)
    mask = torch.tensor([[1, 1, 0]])
    kernel = dynamics.estimated_self_kernel(log_probs, ones, mask)
    torch.testing.assert_close(kernel, torch.tensor([[1 - 1.8 + 0.81, 1 - 0.2 + 0.5, 0.0]]))


def test_tokens_are_compared_with_those_of_similar_entropy():
    # 16 tokens of p = 0.5 at low entropy, 16 of p = 0.25 at high entropy: two bins, each with its own mean.
    log_probs = torch.tensor([0.5] * 16 + [0.25] * 16).log()[None]
    entropy = torch.tensor([1.0] * 16 + [2.0] * 16)[None]
    kernel = dynamics.estimated_self_kernel(log_probs, entropy, torch.ones(1, 32))
    torch.testing.assert_close(kernel, torch.tensor([[0.5] * 16 + [0.75] * 16]))
    one_bin = dynamics.estimated_self_kernel(log_probs, entropy, torch.ones(1, 32), num_bins=1)
    torch.testing.assert_close(one_bin, torch.tensor([[0.375] * 16 + [0.875] * 16]))


def test_the_kernel_estimate_of_no_tokens_is_zero_and_no_bins_are_refused():
    empty = torch.zeros(2, 3)
    assert dynamics.estimated_self_kernel(empty, empty, empty).abs().sum() == 0
    with pytest.raises(InvalidValueError, match="num_bins"):
        dynamics.estimated_self_kernel(empty, empty, empty, num_bins=0)


@given(st.integers(0, 10_000), st.floats(0.1, 6.0), st.sampled_from([1, 2, 5, 8]))
@settings(max_examples=40, deadline=None)
def test_the_error_of_topk_has_a_bound_and_a_sign(seed, scale, k):
    """An even tail is the one of least collision; what is missed is less than tail mass x its likeliest token."""
    logits, tokens, *given_ = batch(seed, scale, vocabulary=8, shape=(2, 4))
    missing = dynamics.self_kernel(logits, tokens) - dynamics.topk_self_kernel(topk(logits, k), *given_)
    p = logits.softmax(-1).sort(-1, descending=True).values
    bound = p[..., k:].sum(-1) * p[..., k - 1]
    assert (missing > -2e-6).all()
    assert (missing < bound + 2e-6).all()


def test_topk_with_the_whole_vocabulary_or_with_an_even_tail_is_exact():
    logits, tokens, *given_ = batch(vocabulary=12, shape=(8, 8))
    even = torch.cat([logits[..., :3] + 3.0, torch.full((8, 8, 9), -1.0)], dim=-1)
    for z, k in ((logits, 12), (even, 3)):
        given_ = known(z, tokens)
        estimate = dynamics.topk_entropy_sensitivity(topk(z, k), *given_)
        torch.testing.assert_close(estimate, ec.entropy_sensitivity(z, tokens), atol=2e-6, rtol=1e-4)
        kernel = dynamics.topk_self_kernel(topk(z, k), *given_)
        torch.testing.assert_close(kernel, dynamics.self_kernel(z, tokens), atol=2e-6, rtol=1e-4)


def test_topk_beats_the_estimate_without_it_and_more_is_better():
    logits, tokens, *given_ = batch(vocabulary=200)
    exact = ec.entropy_sensitivity(logits, tokens)

    def error(estimate):
        return (estimate - exact).square().mean().sqrt().item()

    errors = [error(dynamics.topk_entropy_sensitivity(topk(logits, k), *given_)) for k in (1, 4, 16)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[1] < error(ec.estimated_entropy_sensitivity(*given_)) / 4


def test_a_sampled_token_below_the_k_largest_is_known_too():
    # Of 0.5, 0.2, 0.15, 0.1, 0.05 with k = 1 and the second sampled, 0.15 + 0.1 + 0.05 is left to be evened out.
    p = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    entropy = -(p * p.log()).sum()
    tail = -(p[2:] * p[2:].log()).sum() / 0.3
    expected = 1 - 0.4 + 0.25 + 0.04 + 0.3 * torch.exp(-tail)
    one = torch.ones(1, 1)
    kernel = dynamics.topk_self_kernel(p[:1].log()[None, None], p[1].log() * one, entropy * one, one)
    assert kernel.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_sampled_token_among_the_k_largest_counts_once_whatever_the_rounding():
    p, one = torch.tensor([0.5, 0.3, 0.1, 0.1]), torch.ones(1, 1)
    entropy = -(p * p.log()).sum() * one
    kernels = [
        dynamics.topk_self_kernel(p[:2].log()[None, None], (p[1].log() + error) * one, entropy, one).item()
        for error in (-1e-6, 0.0, 1e-6)
    ]
    assert kernels == pytest.approx([1 - 0.6 + 0.36] * 3, rel=1e-5)  # sum p^2 = .25 + .09 + .01 + .01


def test_topk_of_certain_uniform_and_cut_off_distributions_is_finite_and_right():
    inf = torch.inf
    logits = torch.tensor([[[0.0, -inf, -inf, -inf], [0.0] * 4, [2.0, 0.0, -inf, -inf]]])
    tokens = torch.tensor([[0, 3, 1]])
    for k in (1, 2, 3, 4):
        estimate = dynamics.topk_entropy_sensitivity(topk(logits, k), *known(logits, tokens))
        torch.testing.assert_close(estimate, ec.entropy_sensitivity(logits, tokens), atol=1e-6, rtol=1e-5)


def test_topk_ignores_what_the_mask_hides_and_refuses_to_know_nothing():
    logits, _, log_probs, entropy, mask = batch(shape=(2, 4))
    mask[0, 2:] = 0
    hidden = mask == 0
    for function in (dynamics.topk_entropy_sensitivity, dynamics.topk_self_kernel):
        expected = function(topk(logits, 4), log_probs, entropy, torch.ones(2, 4)) * mask
        nan = [x.masked_fill(hidden, torch.nan) for x in (log_probs, entropy)]
        torch.testing.assert_close(function(topk(logits, 4), *nan, mask), expected)
        with pytest.raises(InvalidValueError, match="K = 0"):
            function(topk(logits, 0), log_probs, entropy, mask)


def test_many_tokens_are_binned_by_a_sample_of_them_and_nearly_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(50, 400, 6, generator=generator)
    tokens = torch.distributions.Categorical(logits=logits).sample()
    log_probs, entropy, mask = ec.token_log_probs(logits, tokens), ec.token_entropy(logits), torch.ones(50, 400)
    exactly = dynamics.estimated_entropy_sensitivity(log_probs, entropy, mask)
    monkeypatch.setattr(estimates, "_MOST_SORTED", 1000)
    nearly = dynamics.estimated_entropy_sensitivity(log_probs, entropy, mask)
    assert not torch.equal(nearly, exactly)
    assert (nearly - exactly).abs().mean() < 0.005  # but for tokens near an edge
    assert torch.corrcoef(torch.stack([nearly.flatten(), exactly.flatten()]))[0, 1] > 0.998


def test_rarity_by_hand_is_limited_and_does_not_read_what_is_masked():
    log_probs_BT = torch.tensor([[-0.1, -3.0, -9.0, torch.nan]])
    entropy_BT = torch.tensor([[0.4, 1.5, 0.5, torch.nan]])
    rarity_BT = dynamics.token_rarity(log_probs_BT, entropy_BT, torch.tensor([[1, 1, 1, 0]]))
    torch.testing.assert_close(rarity_BT, torch.tensor([[-0.3, 1.5, 2.0, 0.0]]))


def test_rarity_is_the_change_where_all_contexts_share_their_logits():
    """Steps on tokens drawn in contexts that are one table: their mean change, by brute force, is what rarity says."""
    logits = torch.tensor([1.0, 0.3, -0.5], dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum()
    (slope,) = torch.autograd.grad(entropy, logits)
    # The gradient of entropy is the mean over draws of rarity times the gradient of the log-probability.
    p = log_p.detach().exp()
    ones_BT = torch.ones(1, 3)
    rarity_BT = dynamics.token_rarity(log_p.detach()[None], entropy.detach() * ones_BT, ones_BT)
    scores = torch.eye(3, dtype=torch.float64) - p  # of token y: e_y - p
    torch.testing.assert_close(((p * rarity_BT[0])[:, None] * scores).sum(0), slope)
