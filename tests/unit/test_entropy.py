import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

import entrocraft as ec
from entrocraft.entropy import entropy_standard_error
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError


@given(st.integers(0, 10_000), st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_entropy_and_log_probs_agree_with_torch_distributions_whatever_the_chunk(seed, chunk_size):
    generator = torch.Generator().manual_seed(seed)
    logits_BTV = 4 * torch.randn(3, 5, 11, generator=generator)
    tokens_BT = torch.randint(11, (3, 5), generator=generator)
    reference = Categorical(logits=logits_BTV.double())
    torch.testing.assert_close(
        ec.token_entropy(logits_BTV, chunk_size).double(), reference.entropy(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        ec.token_log_probs(logits_BTV, tokens_BT, chunk_size).double(), reference.log_prob(tokens_BT), atol=1e-5, rtol=0
    )


def test_forbidden_tokens_count_as_probability_zero():
    logits = torch.tensor([[[0.0, 0.0, -torch.inf], [0.0, -torch.inf, -torch.inf]]])
    torch.testing.assert_close(ec.token_entropy(logits), torch.tensor([[math.log(2), 0.0]]))


def test_entropy_is_accumulated_in_float32_for_half_precision_logits():
    logits = torch.randn(1, 4, 50_000)
    assert ec.token_entropy(logits.bfloat16()).dtype == torch.float32
    expected = Categorical(logits=logits.bfloat16().double()).entropy()
    torch.testing.assert_close(ec.token_entropy(logits.bfloat16()).double(), expected, atol=1e-4, rtol=0)


def test_entropy_is_differentiable_with_the_closed_form_gradient():
    logits = torch.tensor([[[2.0, 0.0, -1.0]]], requires_grad=True)
    entropy = ec.token_entropy(logits)
    entropy.sum().backward()
    p = logits.detach().softmax(-1)
    torch.testing.assert_close(logits.grad, -p * (p.log() + entropy.detach()[..., None]))


def test_no_rows_give_no_entropies():
    assert ec.token_entropy(torch.zeros(0, 4, 3)).shape == (0, 4)


def test_a_chunk_must_hold_something():
    with pytest.raises(InvalidValueError):
        ec.token_entropy(torch.zeros(1, 1, 2), chunk_size=0)


def test_both_aggregations_by_hand():
    entropy_BT = torch.tensor([[1.0, 3.0, 9.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask_BT = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])  # the last completion is empty
    assert ec.batch_entropy(entropy_BT, mask_BT) == pytest.approx((1 + 3 + 4) / 3)
    assert ec.batch_entropy(entropy_BT, mask_BT, "sequence_mean") == pytest.approx((2 + 4) / 2)


def test_the_standard_error_is_that_of_the_mean_that_is_taken():
    """One rollout for each prompt: of means over rollouts it is their deviation over the root of their number."""
    sums, counts = torch.tensor([2.0, 8.0, 12.0, 0.0]), torch.tensor([1, 2, 4, 0])
    groups = torch.arange(4)  # of the last prompt nothing counts, and it is no reading
    by_rollout = statistics.stdev([2.0, 4.0, 3.0]) / math.sqrt(3)
    assert entropy_standard_error(sums, counts, groups, "sequence_mean") == pytest.approx(by_rollout)
    # By tokens H = 22 / 7, and prompts have 2 - H, 8 - 2 H and 12 - 4 H nats too many.
    residuals = [2 - 22 / 7, 8 - 44 / 7, 12 - 88 / 7]
    by_token = math.sqrt(3 / 2 * sum(r * r for r in residuals)) / 7
    assert entropy_standard_error(sums, counts, groups) == pytest.approx(by_token)
    assert entropy_standard_error(sums[2:], counts[2:], groups[2:]) is None  # one prompt shows no spread


def test_what_the_mask_hides_may_be_anything():
    entropy_BT = torch.tensor([[1.0, float("nan")]])
    assert ec.batch_entropy(entropy_BT, torch.tensor([[1, 0]])) == 1.0


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_counted_entropy_that_is_not_finite_is_refused_and_located(broken):
    entropy_BT = torch.tensor([[1.0, 1.0], [1.0, broken]])
    with pytest.raises(MeasurementError, match=r"rollouts \[1\]"):
        ec.batch_entropy(entropy_BT, torch.ones(2, 2))


def test_entropies_in_float64_are_added_up_in_it():
    entropy_BT = torch.full((1, 3), 0.1, dtype=torch.float64)
    assert ec.batch_entropy(entropy_BT, torch.ones(1, 3)) == pytest.approx(0.1, rel=1e-15)


def test_arrays_and_lists_are_measured_like_tensors():
    logits, tokens, mask = torch.randn(2, 3, 5), torch.randint(0, 5, (2, 3)), torch.ones(2, 3)
    for as_other in (lambda tensor: tensor.numpy(), lambda tensor: tensor.tolist()):
        assert torch.equal(ec.token_entropy(as_other(logits)), ec.token_entropy(logits))
        assert torch.equal(ec.token_log_probs(as_other(logits), as_other(tokens)), ec.token_log_probs(logits, tokens))
        entropy = ec.token_entropy(logits)
        assert ec.batch_entropy(as_other(entropy), as_other(mask)) == ec.batch_entropy(entropy, mask)
        change = ec.predicted_entropy_change(*map(as_other, (logits, tokens, torch.ones(2), mask)))
        assert torch.equal(change, ec.predicted_entropy_change(logits, tokens, torch.ones(2), mask))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0, -100]], r"tokens must lie in \[0, 4\), the vocabulary of the logits, got -100; put any token"),
        ([[0, 4]], "got 4; put any token"),
        ([[0.0, 1.0]], "tokens must be whole numbers, got torch.float32"),
        ([[True, False]], "tokens must be whole numbers, got torch.bool"),
        ("ab", "tokens must be a tensor, an array or a list of numbers, got 'ab'"),
    ],
)
def test_what_is_no_token_of_the_vocabulary_is_refused(tokens, message):
    logits = torch.zeros(1, 2, 4)
    for measure in (ec.token_log_probs, ec.entropy_sensitivity):
        with pytest.raises(InvalidValueError, match=message):
            measure(logits, tokens)


@pytest.mark.parametrize(
    ("logits", "chunk_size", "message"),
    [
        (None, None, "logits must be a tensor, an array or a list of numbers, got None"),
        (torch.zeros(2, 2, 0), None, r"logits must have shape \(..., vocabulary\), got \(2, 2, 0\)"),
        (torch.tensor(1.0), None, r"logits must have shape \(..., vocabulary\), got \(\)"),
        (torch.zeros(1, 2, dtype=torch.complex64), None, "logits must be real numbers, got torch.complex64"),
        (torch.zeros(1, 2), 2.5, "chunk_size must be a whole number, got 2.5"),
        (torch.zeros(1, 2), "4", "chunk_size must be a whole number, got '4'"),
    ],
)
def test_what_has_no_entropy_is_refused(logits, chunk_size, message):
    with pytest.raises(InvalidValueError, match=message):
        ec.token_entropy(logits, chunk_size)


def test_a_chunk_may_be_of_any_whole_number():
    assert ec.token_entropy(torch.zeros(3, 2), np.int64(2)).shape == ec.token_entropy(torch.zeros(3, 2), 10**30).shape


def test_a_batch_without_tokens_is_refused():
    with pytest.raises(MeasurementError, match="no token"):
        ec.batch_entropy(torch.ones(2, 2), torch.zeros(2, 2))


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(UnknownNameError):
        ec.batch_entropy(torch.ones(1, 1), torch.ones(1, 1), "mean")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ec.batch_entropy(torch.ones(2, 3), torch.ones(2, 1)), "mask"),
        (lambda: ec.token_log_probs(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long)), "tokens"),
        (
            lambda: ec.predicted_entropy_change(
                torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 1), torch.ones(2, 3)
            ),
            "advantages",
        ),
        (
            lambda: ec.predicted_entropy_change(
                torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), torch.ones(2), torch.ones(2, 1)
            ),
            "mask",
        ),
    ],
)
def test_shapes_that_would_broadcast_to_wrong_numbers_are_refused(call, name):
    with pytest.raises(InvalidValueError, match=f"{name} must have shape"):
        call()


@pytest.mark.parametrize("nothing", [-torch.inf, torch.nan])
def test_what_is_masked_may_be_anything(nothing):
    logits = torch.tensor([[[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
    tokens, advantages = torch.tensor([[0, 0]]), torch.ones(1)
    whole = ec.predicted_entropy_change(logits, tokens, advantages, torch.tensor([[1, 0]]))
    logits[0, 1] = nothing
    assert torch.equal(ec.predicted_entropy_change(logits, tokens, advantages, torch.tensor([[1, 0]])), whole)
