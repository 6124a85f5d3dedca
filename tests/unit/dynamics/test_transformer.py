"""The predictions on rollouts of the embedded transformer, whose rollouts share parameters.

`benchmarks/dynamics.py` measures the same with real steps and more rollouts.
"""

import pytest
import torch

import entrocraft as ec
from entrocraft import dynamics
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Countdown


class Rollouts:
    def __init__(self, num_prompts=16, num_rollouts=8):
        torch.manual_seed(0)
        task, tokenizer = Countdown(), load_tokenizer("countdown-base")
        self.model = load_model("countdown-base").double().eval()
        problems = [p for p in task.problems("train", num_prompts) for _ in range(num_rollouts)]
        # One length of prompt, so that nothing is padded on the left.
        longest = max(len(p["prompt"]) for p in problems)
        problems = [p for p in problems if len(p["prompt"]) == longest]
        prompts_BT = tokenizer([p["prompt"] for p in problems], return_tensors="pt")["input_ids"]
        self.sequences = self.model.generate(
            input_ids=prompts_BT, do_sample=True, top_k=0, max_new_tokens=task.max_completion_tokens, pad_token_id=0
        )
        self.start = prompts_BT.shape[1]
        self.tokens_BT = self.sequences[:, self.start :]
        ends_BT = (self.tokens_BT == tokenizer.eos_token_id).long()
        self.mask_BT = ends_BT.cumsum(-1) - ends_BT == 0

    def logits(self, rows=slice(None)):
        return self.model(self.sequences[rows], use_cache=False).logits[:, self.start - 1 : -1]

    def log_probs(self, logits_BTV, rows=slice(None)):
        log_probs_BT = logits_BTV.log_softmax(-1).gather(-1, self.tokens_BT[rows][..., None]).squeeze(-1)
        return log_probs_BT * self.mask_BT[rows]

    def batch_entropy(self, old_log_probs_B=None):
        """The entropy of the batch, importance-weighted to the model as it is now."""
        logits_BTV = self.logits()
        log_p = logits_BTV.log_softmax(-1)
        log_probs_B = self.log_probs(logits_BTV).sum(-1)
        old = log_probs_B.detach() if old_log_probs_B is None else old_log_probs_B
        weights_B1 = (log_probs_B - old).exp()[:, None] * self.mask_BT
        return (weights_B1 * -(log_p.exp() * log_p).sum(-1)).sum() / weights_B1.sum()

    def gradient(self, scalar):
        return torch.cat([g.flatten() for g in torch.autograd.grad(scalar, list(self.model.parameters()))])

    def rollout_gradient(self, row):
        """Of the mean log-probability of one rollout's tokens."""
        rows = slice(row, row + 1)
        return self.gradient(self.log_probs(self.logits(rows), rows).sum() / self.mask_BT[row].sum())


@pytest.fixture(scope="module")
def rollouts():
    return Rollouts()


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1].item()


def test_estimates_agree_with_the_exact_sensitivity_and_topk_does_so_more_closely(rollouts):
    with torch.no_grad():
        logits_BTV = rollouts.logits()
    mask_BT = rollouts.mask_BT
    given = (ec.token_log_probs(logits_BTV, rollouts.tokens_BT), ec.token_entropy(logits_BTV), mask_BT)
    top4 = logits_BTV.log_softmax(-1).topk(4, dim=-1).values
    exact = ec.entropy_sensitivity(logits_BTV, rollouts.tokens_BT)[mask_BT]
    plain = correlation(ec.estimated_entropy_sensitivity(*given)[mask_BT], exact)
    closer = correlation(dynamics.topk_entropy_sensitivity(top4, *given)[mask_BT], exact)
    assert plain > 0.85
    assert closer > 0.999
    kernel = dynamics.self_kernel(logits_BTV, rollouts.tokens_BT)[mask_BT]
    assert correlation(dynamics.estimated_self_kernel(*given)[mask_BT], kernel) > 0.98


def test_the_whole_prediction_tells_something_of_a_step_although_rollouts_share_parameters(rollouts):
    """Of reinforcing each rollout by 1: far from exact, as the logits are not free, but not noise either."""
    with torch.no_grad():
        logits_BTV = rollouts.logits()
    mask_BT, ones_B = rollouts.mask_BT, torch.ones(len(rollouts.mask_BT))
    kernel_BT, entropy_BT = dynamics.self_kernel(logits_BTV, rollouts.tokens_BT), ec.token_entropy(logits_BTV)
    predicted_B = ec.predicted_entropy_change(logits_BTV, rollouts.tokens_BT, ones_B, mask_BT)
    predicted_B += dynamics.visitation_entropy_change(kernel_BT, entropy_BT, ones_B, mask_BT)
    direction = rollouts.gradient(rollouts.batch_entropy())
    actual_B = torch.stack([direction @ rollouts.rollout_gradient(i) for i in range(len(ones_B))])
    assert correlation(predicted_B, actual_B) > 0.2  # 0.39 to 0.47 over three seeds


def test_a_real_step_changes_the_entropy_of_the_batch_by_what_its_gradient_says(rollouts):
    # What the test above calls actual: a step of the model itself, and back.
    parameters, size = list(rollouts.model.parameters()), 1e-6
    direction, step = rollouts.gradient(rollouts.batch_entropy()), rollouts.rollout_gradient(3)
    with torch.no_grad():
        old_log_probs_B = rollouts.log_probs(rollouts.logits()).sum(-1)
        before = rollouts.batch_entropy(old_log_probs_B)
        old_values = [p.clone() for p in parameters]
        torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(parameters) + size * step, parameters)
        after = rollouts.batch_entropy(old_log_probs_B)
        for parameter, value in zip(parameters, old_values, strict=True):
            parameter.copy_(value)
    assert ((after - before) / size).item() == pytest.approx((direction @ step).item(), rel=0.02)
