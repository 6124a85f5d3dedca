"""What each prediction selects where entropy must rise, and what that does to the reward: the embedded model.

After five plain updates entropy is to rise, so that of each batch the rollouts stay that are predicted to raise it,
twelve updates in a row. Before the first, and before the seventh, single updates of what each prediction leaves, all of
the optimizer's length, are held against rollouts of other prompts: by how much they would move entropy and reward, to
first order. `whole model, other prompts` takes the direction of most entropy from a second batch, so that no rollout is
asked about itself; `whole model, local` leaves visitation out of that direction; `entropy bonus` updates on the
gradient of the batch's entropy and no reward.

    python benchmarks/selection.py --output results/alignment
"""

import argparse
import copy
import json
import shlex
import statistics
import sys
from pathlib import Path

import torch

import entrocraft as ec
from entrocraft import dynamics
from entrocraft.dynamics.whole_model import ascent_step, entropy_gradient, log_prob_change
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Countdown

P, G, LEARNING_RATE, BETAS, WARM_UP = 64, 8, 1.2e-4, (0.9, 0.95), 5
SELECTIONS = ["local", "whole model", "whole model, other prompts", "whole model, local"]


class Rollouts:
    """Rollouts of the embedded model: tokens, mask, rewards and advantages, and what the model says of them."""

    def __init__(self, model, tokenizer, problems):
        task, problems = Countdown(), [problem for problem in problems for _ in range(G)]
        prompts = tokenizer([p["prompt"] for p in problems], return_tensors="pt", padding=True, padding_side="left")
        self.prompt_length = prompts["input_ids"].shape[1]
        options = {"do_sample": True, "top_k": 0, "pad_token_id": tokenizer.pad_token_id}
        self.sequences = model.generate(**prompts, **options, max_new_tokens=task.max_completion_tokens)
        self.tokens_BT = self.sequences[:, self.prompt_length :]
        is_end_BT = self.tokens_BT == tokenizer.eos_token_id
        self.mask_BT = (is_end_BT.cumsum(-1) - is_end_BT.long()) == 0
        self.attention = torch.cat([prompts["attention_mask"], self.mask_BT.long()], dim=-1)
        answers = tokenizer.batch_decode(self.tokens_BT, skip_special_tokens=True)
        self.rewards_B = torch.tensor([task.score(a, p) for a, p in zip(answers, problems, strict=True)])
        self.advantages_B = ec.advantages.grpo(self.rewards_B.view(-1, G)).flatten().float()
        with torch.no_grad():
            self.logits_BTV, _ = self.read(model, slice(None))
        self.entropy_BT = ec.token_entropy(self.logits_BTV) * self.mask_BT
        self.entropy = (self.entropy_BT.sum() / self.mask_BT.sum()).item()
        self.rows = torch.arange(len(self.mask_BT)).split(512)

    def read(self, forward, rows):
        """Return logits and tokens of rows; see `dynamics.whole_model.ReadRows`."""
        attention = self.attention[rows]
        positions = (attention.cumsum(-1) - 1).clamp(min=0)
        inputs = {"attention_mask": attention, "position_ids": positions, "use_cache": False}
        logits = forward(input_ids=self.sequences[rows], **inputs).logits
        return logits[:, self.prompt_length - 1 : -1], self.tokens_BT[rows]


class Policy:
    """The embedded model, its optimizer, and the prompts it has not yet seen."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.tokenizer, self.model = load_tokenizer("countdown-base"), load_model("countdown-base").eval()
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0)
        self.problems = iter(Countdown().problems("train", 10_000, seed))
        self.num_updates = 0

    def sample(self, num_prompts=P):
        """Return rollouts of the next prompts."""
        return Rollouts(self.model, self.tokenizer, [next(self.problems) for _ in range(num_prompts)])

    def entropy_gradient(self, batch, visitation=True):
        """Return the gradient of the batch's summed entropy; without visitation, of that at fixed contexts."""
        counts_B = batch.mask_BT.sum(-1)
        sums_B = batch.entropy_BT.sum(-1) if visitation else batch.entropy * counts_B  # no rollout exceeds the mean
        of = (self.model, self.parameters, batch.mask_BT.long(), sums_B, counts_B, batch.entropy)
        return entropy_gradient(batch.read, batch.rows, *of)

    def policy_gradient(self, batch, weight_B, scale):
        """Return the gradient of the weighted log-probabilities, summed over tokens, over `scale`."""
        self.optimizer.zero_grad()
        for rows in batch.rows:
            log_probs_BT = ec.token_log_probs(*batch.read(self.model, rows)) * batch.mask_BT[rows]
            (weight_B[rows, None] * log_probs_BT).sum().div(scale).backward()
        return [p.grad.clone() for p in self.parameters]

    def update_gradient(self, batch, keep_B):
        """Return the gradient of an update on what is kept, averaged over its tokens."""
        kept_tokens = (keep_B[:, None] * batch.mask_BT).sum().clamp(min=1)
        return self.policy_gradient(batch, batch.advantages_B * keep_B, kept_tokens)

    def update(self, gradient):
        """Make the optimizer's step along a gradient."""
        for p, g in zip(self.parameters, gradient, strict=True):
            p.grad = -g
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.num_updates += 1

    def changes(self, selection, batch):
        """Return each rollout's predicted change of entropy (B,), in any unit."""
        advantages_B = batch.advantages_B
        if selection == "local":
            sensitivity_BT = dynamics.entropy_sensitivity(batch.logits_BTV, batch.tokens_BT)
            local_B = dynamics.rollout_entropy_change(sensitivity_BT, advantages_B, batch.mask_BT)
            return local_B * batch.mask_BT.sum(-1)
        asked = self.sample() if selection.endswith("other prompts") else batch
        gradient = self.entropy_gradient(asked, visitation=not selection.endswith("local"))
        step = ascent_step(gradient, self.parameters, self.optimizer, LEARNING_RATE)
        rise_BT = log_prob_change(batch.read, batch.rows, self.model, self.parameters, step)
        return advantages_B * (rise_BT * batch.mask_BT).sum(-1)


def one_update(policy, num_batches):
    """Return one row per batch and selection: what an update on what stays would do, to first order."""
    far = policy.sample(num_prompts=256)
    rewards = far.rewards_B.view(-1, G)
    centred_B = (rewards - rewards.mean(1, keepdim=True)).flatten() * G / (G - 1)  # unbiased: E[(R - mean) grad log p]
    to_entropy = flat(policy.entropy_gradient(far)) / far.mask_BT.sum()
    to_reward = flat(policy.policy_gradient(far, centred_B, len(centred_B)))
    moments = [policy.optimizer.state[p]["exp_avg_sq"] for p in policy.parameters]
    scale = flat(moments).div(1 - BETAS[1] ** policy.num_updates).sqrt() + 1e-8  # what Adam divides by
    rows = []
    for index in range(num_batches):
        batch = policy.sample()
        moving_B, success_B = batch.advantages_B != 0, batch.advantages_B > 0
        for selection in ["everything", *SELECTIONS, "entropy bonus"]:
            keep_B = torch.ones(len(moving_B))
            if selection in SELECTIONS:
                keep_B = (policy.changes(selection, batch) >= 0).float()
            bonus = selection == "entropy bonus"
            gradient = flat(policy.entropy_gradient(batch) if bonus else policy.update_gradient(batch, keep_B))
            step = gradient / scale
            step *= LEARNING_RATE * len(step) ** 0.5 / step.norm()  # all of one length
            row = {
                "batch": index,
                "selection": selection,
                "entropy change": (to_entropy * step).sum().item(),
                "reward change": (to_reward * step).sum().item(),
                "cosine with rising entropy": cosine(gradient, to_entropy, scale),
                "cosine with rising reward": cosine(gradient, to_reward, scale),
                "kept": keep_B[moving_B].mean().item(),
                "kept of successes": keep_B[success_B].mean().item(),
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def in_a_row(policy, selection, num_updates):
    """Return entropy, reward and what stays, update after update."""
    columns = {"entropy": [], "reward": [], "kept of successes": []}
    for _ in range(num_updates):
        batch = policy.sample()
        keep_B = (policy.changes(selection, batch) >= 0).float()
        columns["entropy"].append(round(batch.entropy, 4))
        columns["reward"].append(round(batch.rewards_B.mean().item(), 4))
        columns["kept of successes"].append(round(keep_B[batch.advantages_B > 0].mean().item(), 3))
        policy.update(policy.update_gradient(batch, keep_B))
    return columns


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def cosine(a, b, scale):
    """Return the cosine of two gradients, in the metric that Adam steps by."""
    return ((a * b / scale).sum() / ((a * a / scale).sum() * (b * b / scale).sum()).sqrt()).item()


def main():
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batches", type=int, default=2, help="Batches for single updates.")
    parser.add_argument("--updates", type=int, default=12, help="Updates in a row.")
    parser.add_argument("--rows-of", nargs="*", default=["local", "whole model"], help="Selections of the latter.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    single, runs = [], []

    def look(policy, seed, after):
        single.extend({"seed": seed, "after": after} | row for row in one_update(policy, args.batches))

    for seed in args.seeds:
        warm = Policy(seed)
        for _ in range(WARM_UP):
            batch = warm.sample()
            warm.update(warm.update_gradient(batch, torch.ones(len(batch.mask_BT))))
        look(copy.deepcopy(warm), seed, "the warm-up")
        for selection in args.rows_of:
            policy, half = copy.deepcopy(warm), args.updates // 2
            first = in_a_row(policy, selection, half)
            look(copy.deepcopy(policy), seed, f"{half} updates of {selection}")
            then = in_a_row(policy, selection, args.updates - half)
            runs.append({"seed": seed, "selection": selection} | {name: first[name] + then[name] for name in first})
            print(runs[-1], flush=True)
    names = [name for name in single[0] if name not in ("seed", "after", "batch", "selection")]
    means = {}
    for after, selection in dict.fromkeys((row["after"], row["selection"]) for row in single):
        mine = [row for row in single if (row["after"], row["selection"]) == (after, selection)]
        columns = {name: round(statistics.fmean(row[name] for row in mine), 4) for name in names}
        means.setdefault(after, {})[selection] = columns
    record = {"command": shlex.join(["python", "benchmarks/selection.py", *sys.argv[1:]])}
    record |= {"one update, means": means, "updates in a row": runs, "one update": single}
    (args.output / "selection.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
