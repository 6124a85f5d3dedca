"""How far the predictions of entropy change agree with each other, and with real steps on the embedded model.

Token by token and rollout by rollout, the estimates of the sensitivity S are compared with the exact one. Then the
model takes SGD steps, in float64, on one rollout or on a random half of them, and the change of the batch's entropy
is compared with what `local`, `visitation` and their sum predicted. The entropy of the batch is that of the
stepped policy: sampled rollouts are importance-weighted, so no fresh sampling noise covers a small change.

    python benchmarks/dynamics.py --output results/dynamics
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch

import entrocraft as ec
from entrocraft import dynamics
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Countdown

MODEL, LEARNING_RATE = "countdown-base", 1e-6  # small enough for a step to be its first order


class Batch:
    """Rollouts of the embedded model: tokens, mask and advantages."""

    def __init__(self, model, tokenizer, num_prompts, num_rollouts):
        task = Countdown()
        problems = [p for p in task.problems("train", num_prompts) for _ in range(num_rollouts)]
        prompts = tokenizer([p["prompt"] for p in problems], return_tensors="pt", padding=True, padding_side="left")
        self.prompt_length = prompts["input_ids"].shape[1]
        self.sequences = model.generate(
            input_ids=prompts["input_ids"],
            attention_mask=prompts["attention_mask"],
            do_sample=True,
            top_k=0,
            max_new_tokens=task.max_completion_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        self.tokens_BT = self.sequences[:, self.prompt_length :]
        ended_BT = (self.tokens_BT == tokenizer.eos_token_id).cumsum(-1)
        self.mask_BT = (ended_BT - (self.tokens_BT == tokenizer.eos_token_id).long()) == 0
        self.attention = torch.cat([prompts["attention_mask"], self.mask_BT.long()], dim=-1)
        answers = tokenizer.batch_decode(self.tokens_BT, skip_special_tokens=True)
        rewards = torch.tensor([task.score(a, p) for a, p in zip(answers, problems, strict=True)])
        self.advantages_B = ec.advantages.grpo(rewards.view(num_prompts, num_rollouts)).flatten().double()
        self.pass_rate = rewards.mean().item()

    def logits(self, model, rows=slice(None)):
        """Return the completion logits (B, T, V) of `rows`."""
        attention = self.attention[rows]
        positions = (attention.cumsum(-1) - 1).clamp(min=0)
        logits = model(self.sequences[rows], attention_mask=attention, position_ids=positions, use_cache=False).logits
        return logits[:, self.prompt_length - 1 : -1]

    def measure(self, model):
        """Return token entropies and the log-probabilities of the rollouts, in float64."""
        with torch.no_grad():
            log_probs_BTV = self.logits(model).log_softmax(-1)
        entropy_BT = -(log_probs_BTV.exp() * log_probs_BTV).sum(-1) * self.mask_BT
        token_log_probs = log_probs_BTV.gather(-1, self.tokens_BT[..., None]).squeeze(-1)
        return entropy_BT, (token_log_probs * self.mask_BT).sum(-1)

    def step_effect(self, model, before, rows):
        """Return what one SGD step on `rows` changes, per unit step: the entropy of the batch, the part of that
        at fixed contexts, and the mean entropy of the rows' own tokens."""
        log_probs_BTV = self.logits(model, rows).log_softmax(-1)
        token_log_probs = log_probs_BTV.gather(-1, self.tokens_BT[rows][..., None]).squeeze(-1)
        mask_BT = self.mask_BT[rows]
        objective = (self.advantages_B[rows] * (token_log_probs * mask_BT).sum(-1) / mask_BT.sum(-1)).mean()
        parameters = list(model.parameters())
        direction = torch.autograd.grad(objective, parameters)
        old_values = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=LEARNING_RATE)
            entropy_BT, log_probs_B = self.measure(model)
            torch._foreach_copy_(parameters, old_values)
        old_entropy_BT, old_log_probs_B = before
        length_B = self.mask_BT.sum(-1)
        weight_B = (log_probs_B - old_log_probs_B).exp()
        new = (weight_B * entropy_BT.sum(-1)).sum() / (weight_B * length_B).sum()
        total = new - old_entropy_BT.sum() / length_B.sum()
        at_fixed_contexts = (entropy_BT - old_entropy_BT).sum() / length_B.sum()
        own = ((entropy_BT - old_entropy_BT).sum(-1) / length_B)[rows].mean()
        return [change.item() / LEARNING_RATE for change in (total, at_fixed_contexts, own)]


def correlation(a, b):
    return round(torch.corrcoef(torch.stack([a, b]))[0, 1].item(), 4)


def agreement(predicted, actual):
    """Return correlations, plain and of ranks, and how often signs agree, plainly and weighted by actual size.

    Real steps have heavy tails: one rollout out of sixty can make the plain correlation, the ranks are steadier.
    """
    predicted, actual = predicted.double(), actual.double()
    same = ((predicted > 0) == (actual > 0)).double()
    ranks = (predicted.argsort().argsort().double(), actual.argsort().argsort().double())
    return {
        "correlation": correlation(predicted, actual),
        "rank_correlation": correlation(*ranks),
        "sign_agreement": round(same.mean().item(), 4),
        "sign_agreement_by_size": round(((same * actual.abs()).sum() / actual.abs().sum()).item(), 4),
    }


def compare_estimates(batch, logits_BTV):
    """Return how the estimates of S agree with the exact one, and the exact predictions for the steps."""
    log_probs_BTV = logits_BTV.float().log_softmax(-1)
    entropy_BT = ec.token_entropy(logits_BTV)
    log_probs_BT = ec.token_log_probs(logits_BTV, batch.tokens_BT)
    exact_BT = ec.entropy_sensitivity(logits_BTV, batch.tokens_BT)
    kernel_BT = dynamics.self_kernel(logits_BTV, batch.tokens_BT)
    mask_BT, advantages_B = batch.mask_BT, batch.advantages_B
    estimates = {
        "log-prob and entropy": (
            dynamics.estimated_entropy_sensitivity(log_probs_BT, entropy_BT, mask_BT),
            dynamics.estimated_self_kernel(log_probs_BT, entropy_BT, mask_BT),
        )
    }
    for k in (4, 16):
        known = (log_probs_BTV.topk(k, dim=-1).values, log_probs_BT, entropy_BT, mask_BT)
        estimates[f"top-{k}"] = (dynamics.topk_entropy_sensitivity(*known), dynamics.topk_self_kernel(*known))
    local_B = dynamics.rollout_entropy_change(exact_BT, advantages_B, mask_BT)
    visitation_B = dynamics.visitation_entropy_change(kernel_BT, entropy_BT, advantages_B, mask_BT)
    moved_B = advantages_B != 0
    table = {}
    for name, (sensitivity_BT, estimated_kernel_BT) in estimates.items():
        change_B = dynamics.rollout_entropy_change(sensitivity_BT, advantages_B, mask_BT)
        table[name] = {
            "S, tokens": agreement(sensitivity_BT[mask_BT], exact_BT[mask_BT]),
            "local change, rollouts": agreement(change_B[moved_B], local_B[moved_B]),
            "K, tokens": {"correlation": correlation(estimated_kernel_BT[mask_BT], kernel_BT[mask_BT])},
        }
    baseline_BT = dynamics.output_space_baseline(logits_BTV, batch.tokens_BT)
    theorem_2_B = dynamics.sequence_condition(log_probs_BT, baseline_BT, mask_BT)
    mean_B = -dynamics.rollout_entropy_change(exact_BT, torch.ones_like(advantages_B), mask_BT)
    theorems = {
        "tokens where Theorem 1 holds": dynamics.token_condition(log_probs_BT, baseline_BT)[mask_BT],
        "rollouts where Theorem 2 holds": theorem_2_B,
        "rollouts with a positive mean S": mean_B > 0,
        "rollouts where Theorem 2 and the sign of mean S agree": theorem_2_B == (mean_B > 0),
    }
    theorems = {name: round(values.double().mean().item(), 4) for name, values in theorems.items()}
    four = dynamics.quadrants(exact_BT, advantages_B, mask_BT).to_dict()
    return table, theorems, {k: round(v, 5) for k, v in four.items()}, {"local": local_B, "visitation": visitation_B}


def compare_steps(batch, model, predicted, groups):
    """Return how predictions, summed over each group of rollouts, agree with real steps on the groups."""
    before = batch.measure(model)
    measured = torch.tensor([batch.step_effect(model, before, rows) for rows in groups])
    actual = {
        "whole change": measured[:, 0],
        "at fixed contexts": measured[:, 1],
        "by visiting others": measured[:, 0] - measured[:, 1],
        "of the rollouts stepped on, at fixed contexts": measured[:, 2],
    }
    predicted = predicted | {
        "local + visitation": predicted["local"] + predicted["visitation"],
        "minus the advantage": -batch.advantages_B,  # what Algorithm 1 goes by
    }
    table = {
        name: {to: agreement(torch.stack([values[rows].sum() for rows in groups]), a) for to, a in actual.items()}
        for name, values in predicted.items()
    }
    sizes = {to: a.std().item() for to, a in actual.items()}
    return {"steps": len(groups), "standard deviation of the change per unit step": sizes, "agreement": table}


def measure(model, tokenizer, seed, args):
    """Return all that one batch of rollouts tells."""
    torch.manual_seed(seed)
    batch = Batch(model, tokenizer, args.prompts, args.rollouts)
    with torch.no_grad():
        logits_BTV = batch.logits(model)
    estimates, theorems, four, predicted = compare_estimates(batch, logits_BTV)
    moved = batch.advantages_B.nonzero().flatten()
    moved = moved[torch.randperm(len(moved))]
    singles = [moved[i : i + 1] for i in range(min(args.steps, len(moved)))]
    halves = [moved[torch.randperm(len(moved))[: len(moved) // 2]] for _ in range(args.subsets)]
    return {
        "rollouts with an advantage": len(moved),
        "tokens": int(batch.mask_BT.sum()),
        "entropy": round(ec.batch_entropy(ec.token_entropy(logits_BTV), batch.mask_BT), 4),
        "pass_rate": round(batch.pass_rate, 4),
        "estimates against exact values": estimates,
        "theorems": theorems,
        "quadrants": four,
        "steps on one rollout": compare_steps(batch, model, predicted, singles),
        "steps on a random half": compare_steps(batch, model, predicted, halves),
    }


def mean_of(records):
    """Return one record of the same shape, each number the mean over the records."""
    if isinstance(records[0], dict):
        return {name: mean_of([record[name] for record in records]) for name in records[0]}
    return round(statistics.fmean(records), 4)


def main():
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--steps", type=int, default=64, help="Steps on a single rollout, at most.")
    parser.add_argument("--subsets", type=int, default=16, help="Steps on a random half of the rollouts.")
    args = parser.parse_args()
    start = time.perf_counter()
    model, tokenizer = load_model(MODEL).double().eval(), load_tokenizer(MODEL)
    seeds = [measure(model, tokenizer, seed, args) for seed in range(args.seeds)]
    record = {
        "command": shlex.join(["python", "benchmarks/dynamics.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used, no GPU, "
        f"torch {torch.__version__}",
        "model": MODEL,
        "vocabulary": model.config.vocab_size,
        "learning_rate": LEARNING_RATE,
        "seconds": round(time.perf_counter() - start, 1),
        "mean over seeds": mean_of(seeds),
        "seeds": seeds,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "agreement.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["mean over seeds"], indent=1))


if __name__ == "__main__":
    main()
