import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entrocraft import dynamics, entropy_sensitivity, token_log_probs


def step(logits_V, token, size):
    """The distribution after a real step of `size` along e_y - p, in float64."""
    direction = -logits_V.softmax(-1)
    direction[token] += 1.0
    return (logits_V + size * direction).softmax(-1)


def derivatives(logits_V, token, size=1e-5):
    """dp, and the change of entropy, per unit step, by central differences."""
    up, down = step(logits_V, token, size), step(logits_V, token, -size)
    entropy_change = -(up * up.log()).sum() + (down * down.log()).sum()
    return (up - down) / (2 * size), (entropy_change / (2 * size)).item()


def baseline(logits_V, token):
    return dynamics.output_space_baseline(logits_V[None, None], torch.tensor([[token]])).item()


def random_case(seed, scale, vocabulary=6):
    generator = torch.Generator().manual_seed(seed)
    logits_V = scale * torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    return logits_V, int(torch.randint(vocabulary, (1,), generator=generator))


cases = given(st.integers(0, 10_000), st.floats(0.3, 3.0))


@cases
@settings(max_examples=40, deadline=None)
def test_the_baseline_is_its_definition_with_the_measured_change_of_probabilities(seed, scale):
    logits_V, token = random_case(seed, scale)
    dp_V, _ = derivatives(logits_V, token)
    others = torch.arange(len(logits_V)) != token
    expected = -(dp_V[others] / dp_V[token] * logits_V.log_softmax(-1)[others]).sum().item()
    assert baseline(logits_V, token) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@cases
@settings(max_examples=40, deadline=None)
def test_the_entropy_change_is_dp_times_the_margin_over_the_baseline(seed, scale):
    logits_V, token = random_case(seed, scale)
    dp_V, entropy_change = derivatives(logits_V, token)
    margin = logits_V.log_softmax(-1)[token].item() - baseline(logits_V, token)
    assert dp_V[token].item() * margin == pytest.approx(-entropy_change, rel=1e-3, abs=1e-5)
    sensitivity = entropy_sensitivity(logits_V[None, None], torch.tensor([[token]])).item()
    assert dp_V[token].item() * margin == pytest.approx(sensitivity, rel=1e-3, abs=1e-5)


@cases
@settings(max_examples=60, deadline=None)
def test_theorem_1_holds_exactly_where_reinforcing_lowers_entropy(seed, scale):
    logits_V, token = random_case(seed, scale)
    _, entropy_change = derivatives(logits_V, token)
    log_prob = token_log_probs(logits_V[None, None], torch.tensor([[token]]))
    holds = dynamics.token_condition(log_prob, torch.tensor([[baseline(logits_V, token)]])).item()
    if abs(entropy_change) > 1e-6:
        assert holds == (entropy_change < 0)


@pytest.mark.parametrize("margin", [-1e-3, 1e-3])
@pytest.mark.parametrize("vocabulary", [2, 5, 100])
def test_beside_equally_likely_others_the_condition_is_being_likelier_than_uniform(vocabulary, margin):
    p = 1 / vocabulary + margin
    probs = torch.full((vocabulary,), (1 - p) / (vocabulary - 1), dtype=torch.float64)
    probs[1] = p
    assert baseline(probs.log(), 1) == pytest.approx(math.log((1 - p) / (vocabulary - 1)), rel=1e-5)
    assert (math.log(p) > baseline(probs.log(), 1)) == (margin > 0)


def test_a_hand_computed_baseline():
    # q = .66; dp = .1 * (1 - .2 + .66), -.8 * (.8 + .1 - .66), -.1 * (.1 + .1 - .66) = .146, -.192, .046
    logits_V = torch.tensor([0.1, 0.8, 0.1]).log()
    expected = 0.192 / 0.146 * math.log(0.8) - 0.046 / 0.146 * math.log(0.1)
    assert baseline(logits_V, 0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("log_odds", [5.0, 20.0, 40.0])
def test_close_to_certainty_the_baseline_and_the_sign_of_the_sensitivity_stay_right(log_odds):
    # Of two tokens, b = log(1 - p) and S = 2 p (1 - p)^2 log_odds, from dH/dlog_odds = -log_odds p (1 - p).
    logits_V = torch.tensor([log_odds, 0.0])
    assert baseline(logits_V, 0) == pytest.approx(-math.log1p(math.exp(log_odds)), rel=1e-6)
    rest = 1 / (1 + math.exp(log_odds))
    expected = 2 * (1 - rest) * rest**2 * log_odds
    sensitivity = entropy_sensitivity(logits_V[None, None], torch.tensor([[0]])).item()
    assert 0 < expected == pytest.approx(sensitivity, rel=1e-4, abs=0)


def test_the_limits_are_finite_and_on_the_right_side():
    inf = torch.inf
    logits = torch.tensor([[[0.0, -inf, -inf], [60.0, 0.0, -inf], [-60.0, 0.0, 1.0], [-inf, 0.0, 1.0]]])
    tokens = torch.zeros(1, 4, dtype=torch.long)
    baseline_BT = dynamics.output_space_baseline(logits, tokens)
    assert torch.isfinite(baseline_BT).all()
    assert baseline_BT[0, 1].item() == pytest.approx(-60.0)
    log_probs = token_log_probs(logits, tokens)
    assert dynamics.token_condition(log_probs, baseline_BT).tolist() == [[True, True, False, False]]
    assert torch.isfinite(entropy_sensitivity(logits, tokens)).all()
    assert dynamics.sequence_condition(log_probs, baseline_BT, torch.tensor([[1, 1, 0, 0]])).item()


def test_both_sides_are_equal_for_a_uniform_distribution_and_forbidden_tokens_do_not_count():
    assert baseline(torch.zeros(4), 2) == pytest.approx(math.log(1 / 4), rel=1e-6)
    assert baseline(torch.tensor([0.0, -torch.inf, 0.0]), 2) == pytest.approx(math.log(1 / 2), rel=1e-6)


def test_a_row_without_a_distribution_gives_nan():
    logits = torch.tensor([[[-torch.inf, -torch.inf], [torch.nan, 0.0]]])
    tokens = torch.zeros(1, 2, dtype=torch.long)
    assert dynamics.output_space_baseline(logits, tokens).isnan().all()
    assert entropy_sensitivity(logits, tokens).isnan().all()


def test_theorem_2_sums_the_counted_tokens_only():
    log_probs, baselines = torch.tensor([[-1.0, -1.0, -9.0]] * 2), torch.tensor([[-0.5, -1.5, 9.0]] * 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert dynamics.sequence_condition(log_probs, baselines, mask).tolist() == [True, False]  # 0 >= 0; -0.5 < 0
    nan = log_probs.masked_fill(mask == 0, torch.nan)
    assert dynamics.sequence_condition(nan, baselines, mask).tolist() == [True, False]
    assert dynamics.sequence_condition(log_probs, baselines, torch.zeros(2, 3)).tolist() == [True, True]


def test_theorem_2_can_hold_for_a_sequence_whose_entropy_rises_when_it_is_reinforced():
    # A token of probability 1 - 1e-8 has a margin of 19 nats and moves nothing; the other, rare, moves it all.
    sure, rare = torch.tensor([18.5, 0.0, 0.0]).double(), torch.tensor([0.0, 2.0, 0.0]).double()
    logits, tokens = torch.stack([sure, rare])[None], torch.tensor([[0, 0]])
    log_probs, baselines = token_log_probs(logits, tokens), dynamics.output_space_baseline(logits, tokens)
    assert dynamics.sequence_condition(log_probs, baselines, torch.ones(1, 2)).item()
    assert derivatives(sure, 0)[1] + derivatives(rare, 0)[1] > 0.1
    assert entropy_sensitivity(logits, tokens).sum() < -0.1
