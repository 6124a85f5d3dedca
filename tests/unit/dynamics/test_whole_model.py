"""The whole model's response against finite differences of the real thing, in float64 on a tiny transformer."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from entrocraft.dynamics import rollout_entropy_change
from entrocraft.dynamics.whole_model import (
    NUDGE,
    ascent_step,
    entropy_gradient,
    last_blocks,
    log_prob_change,
    log_prob_change_by_shift,
    shifted,
)
from entrocraft.entropy import token_entropy, token_log_probs
from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Countdown

B, PROMPT, T, V = 8, 3, 5, 11


@pytest.fixture
def bed():
    """Return a policy, how to read it, mask and advantages: rollouts of unequal length."""
    torch.manual_seed(0)
    # GPT-2: Llama's norm computes in float32 whatever the weights are.
    config = GPT2Config(vocab_size=V, n_embd=16, n_layer=3, n_head=2, n_positions=PROMPT + T, initializer_range=0.5)
    model = GPT2LMHeadModel(config).double().eval()
    ids = torch.randint(0, V, (B, PROMPT + T))
    mask = (torch.arange(T) < torch.tensor([5, 2, 4, 5, 1, 3, 5, 4])[:, None]).double()

    def read(forward, rows):
        return forward(input_ids=ids[rows]).logits[:, PROMPT - 1 : -1], ids[rows, PROMPT:]

    return model, read, mask, torch.randn(B, dtype=torch.float64)


ROWS = [torch.arange(0, 5), torch.arange(5, B)]


def measured(model, read, mask):
    with torch.no_grad():
        logits, tokens = read(model, torch.arange(B))
    log_probs = torch.log_softmax(logits, dim=-1)
    entropies = -(log_probs.exp() * log_probs).sum(-1)
    log_probs = log_probs.gather(-1, tokens[..., None])[..., 0]
    sums, counts = (entropies * mask).sum(-1), mask.sum(-1)
    return log_probs, sums, counts, (sums.sum() / counts.sum()).item()


def direction(bed, optimizer=None, num_blocks=None, length=1e-7):
    """Return the parameters, the gradients of the batch's summed entropy and the step along them."""
    model, read, mask, _ = bed
    _, sums, counts, entropy = measured(model, read, mask)
    parameters = last_blocks(model, num_blocks)
    gradients = entropy_gradient(read, ROWS, model, parameters, mask, sums, counts, entropy)
    return parameters, gradients, ascent_step(gradients, parameters, optimizer, length)


def predicted(bed, optimizer=None, num_blocks=None):
    model, read, mask, advantages = bed
    parameters, _, steps = direction(bed, optimizer, num_blocks)
    change = log_prob_change(read, ROWS, model, parameters, steps)
    return -rollout_entropy_change(change, advantages, mask), parameters


def real_change(bed, row, scale, size=1e-6):
    """Return what a policy-gradient step on one rollout does to the entropy of what the policy visits.

    Central differences of the batch's entropy, importance-weighted to the moved policy.
    """
    model, read, mask, advantages = bed
    parameters = [p for p in model.parameters() if p.requires_grad]
    old_log_probs, *_ = measured(model, read, mask)
    log_probs = token_log_probs(*read(model, torch.tensor([row])))
    objective = advantages[row] * (log_probs * mask[row]).sum() / mask[row].sum()
    steps = [scale(p, g) * size for p, g in zip(parameters, torch.autograd.grad(objective, parameters), strict=True)]
    entropies = []
    for sign in (1, -1):
        with shifted(model, parameters, [sign * step for step in steps]):
            log_probs, sums, counts, _ = measured(model, read, mask)
            weights = ((log_probs - old_log_probs) * mask).sum(-1).exp()
            entropies.append(((weights * sums).sum() / (weights * counts).sum()).item())
    return (entropies[0] - entropies[1]) / (2 * size)


def assert_proportional(prediction, truth):
    """The prediction leaves out the step size, which is the same for all rollouts."""
    factor = (prediction @ truth) / (truth @ truth)
    assert factor > 0
    torch.testing.assert_close(prediction, factor * truth, rtol=1e-3, atol=1e-3 * (factor * truth).abs().max().item())


def test_it_is_the_change_that_a_gradient_step_on_the_rollout_makes(bed):
    prediction, _ = predicted(bed)
    truth = torch.tensor([real_change(bed, row, lambda p, g: g) for row in range(B)], dtype=torch.float64)
    assert_proportional(prediction, truth)


def test_it_is_the_change_under_adam_with_adam_s_scaling(bed):
    model, read, mask, _ = bed
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    for rows in ROWS:
        optimizer.zero_grad()
        (token_log_probs(*read(model, rows)) * mask[rows]).sum().backward()
        optimizer.step()
    prediction, _ = predicted(bed, optimizer)

    def scaled(parameter, gradient):
        state = optimizer.state[parameter]
        return gradient / ((state["exp_avg_sq"] / (1 - 0.95**2)).sqrt() + 1e-8)

    truth = torch.tensor([real_change(bed, row, scaled) for row in range(B)], dtype=torch.float64)
    assert_proportional(prediction, truth)
    plain, _ = predicted(bed)
    assert torch.corrcoef(torch.stack([plain, truth]))[0, 1] < 0.999  # the scaling is not idle


def test_weights_and_gradients_are_left_bit_for_bit(bed):
    model, *_ = bed
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before = [(p.detach().clone(), p.grad.clone()) for p in model.parameters()]
    predicted(bed)
    for p, (weight, gradient) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, weight) and torch.equal(p.grad, gradient)


@pytest.mark.parametrize("length", [1e-9, 1e-2])
def test_a_derivative_is_what_a_small_shift_of_the_weights_gives(bed, length):
    """However long the step: a whole one may lead anywhere; the shift moves entropy by the share that it is to."""
    model, read, mask, _ = bed
    old_log_probs, sums, _, entropy = measured(model, read, mask)
    moved = []

    def log_probs():
        new_log_probs, new_sums, counts, _ = measured(model, read, mask)
        weights = ((new_log_probs - old_log_probs) * mask).sum(-1).exp()
        moved.append(((weights * new_sums).sum() / (weights * counts).sum()).item() / entropy - 1)
        return new_log_probs

    parameters, gradients, steps = direction(bed, length=length)
    derivative = log_prob_change(read, ROWS, model, parameters, steps)
    shift = log_prob_change_by_shift(log_probs, model, parameters, steps, gradients, sums.sum())
    assert moved == pytest.approx([NUDGE, -NUDGE], rel=0.1)
    torch.testing.assert_close(derivative, shift, rtol=1e-3, atol=1e-3 * derivative.abs().max().item())


def test_nowhere_to_go_is_no_change(bed):
    model, *_ = bed
    parameters = list(model.parameters())
    nothing = [torch.zeros_like(p) for p in parameters]
    assert not log_prob_change_by_shift(lambda: torch.ones(3), model, parameters, nothing, nothing, 1.0).any()


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_half_precision_loses_a_shift_but_not_a_derivative():
    """A shift of weights that lie on half precision's own grid, as those of a published model do."""
    model = load_model("countdown-base").to(torch.bfloat16).float().eval()
    ids = load_tokenizer("countdown-base")([p["prompt"] + "1+2" for p in Countdown().problems("train", 64, 0)])
    width = min(map(len, ids.input_ids))
    ids, rows = torch.tensor([row[-width:] for row in ids.input_ids]), [torch.arange(64)]

    def reader(dtype):
        def read(forward, rows):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return forward(input_ids=ids[rows]).logits[:, :-1], ids[rows, 1:]

        return read

    whole, half = reader(torch.float32), reader(torch.bfloat16)
    mask = torch.ones(64, width - 1)
    with torch.no_grad():
        sums = token_entropy(whole(model, rows[0])[0]).sum(-1)
    counts = mask.sum(-1)
    parameters = last_blocks(model, None)
    gradients = entropy_gradient(whole, rows, model, parameters, mask, sums, counts, float(sums.sum() / counts.sum()))
    steps = ascent_step(gradients, parameters, None, 1e-4)
    truth = log_prob_change(whole, rows, model, parameters, steps)

    def shift(read):
        def log_probs():
            return token_log_probs(*read(model, rows[0]))

        return log_prob_change_by_shift(log_probs, model, parameters, steps, gradients, float(counts.sum()))

    assert correlation(shift(whole), truth) > 0.999
    assert correlation(log_prob_change(half, rows, model, parameters, steps), truth) > 0.99
    assert correlation(shift(half), truth) < 0.9


def test_an_operation_without_a_derivative_is_named():
    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(V))

        def forward(self):
            return Fused.apply(self.weight).expand(B, T, V)

    model = Model()
    with pytest.raises(InvalidValueError, match="use another predictor than 'whole_model'"):
        log_prob_change(
            lambda forward, rows: (forward(), torch.zeros(B, T, dtype=torch.long)),
            [torch.arange(B)],
            model,
            [model.weight],
            [torch.ones(V)],
        )


def test_weights_come_back_after_an_error(bed):
    model, *_ = bed
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    with (
        pytest.raises(RuntimeError, match="boom"),
        shifted(model, parameters, [torch.ones_like(p) for p in parameters]),
    ):
        assert not torch.equal(parameters[0], before[0])
        raise RuntimeError("boom")
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


def test_the_last_blocks_are_the_last_and_only_what_is_trained(bed):
    model, *_ = bed
    _, parameters = predicted(bed, num_blocks=1)
    assert {id(p) for p in parameters} == {id(p) for p in model.transformer.h[-1].parameters()}
    for p in model.transformer.h[-1].parameters():
        p.requires_grad_(False)
    with pytest.raises(InvalidValueError, match="no trainable parameter; use whole_model_blocks=null"):
        last_blocks(model, 1)
    with pytest.raises(InvalidValueError, match="no list of blocks .* use whole_model_blocks=null"):
        last_blocks(nn.Linear(2, 2), 1)


def test_the_last_blocks_of_a_model_that_sees_are_those_that_speak():
    class Seeing(nn.Module):
        def __init__(self):
            super().__init__()
            self.eyes = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
            self.mouth = nn.Sequential(nn.ModuleList(nn.Linear(2, 2) for _ in range(3)))

        def get_decoder(self):
            return self.mouth

    model = Seeing()
    assert {id(p) for p in last_blocks(model, 1)} == {id(p) for p in model.mouth[0][-1].parameters()}


def test_a_step_is_as_long_as_it_was_asked_to_be(bed):
    *_, steps = direction(bed, length=0.01)
    entries = torch.cat([step.flatten() for step in steps])
    assert entries.square().mean().sqrt().item() == pytest.approx(0.01)
