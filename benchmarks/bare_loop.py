"""A step of entrocraft on TRL against a bare PyTorch loop that does the same work on the embedded model.

    python benchmarks/bare_loop.py --output results/benchmarks/bare_loop.json

Both sample 64 x 8 answers to the same problems, grade them, measure entropy, and make one update of AdamW. They take
turns, five times each; figures are medians of steps, the first of each turn left out, and the ratio of these.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers
import trl
from common import QUIET
from datasets import Dataset
from transformers import AutoTokenizer, DynamicCache, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from entrocraft.advantages import estimate
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import load_model, resolve_model
from entrocraft.tasks import Countdown

PROMPTS, ROLLOUTS, MAX_TOKENS = 64, 8, 14
LEARNING_RATE = 4e-5


def bare_steps(num_steps):
    """Return the seconds of each step of a loop that does what GRPO needs, and nothing else."""
    task, tokenizer = Countdown(), AutoTokenizer.from_pretrained(resolve_model("countdown-base"))
    model = load_model("countdown-base")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    problems, seconds = task.problems("train", PROMPTS * num_steps), []
    for step in range(num_steps):
        start = time.perf_counter()
        batch = problems[step * PROMPTS : (step + 1) * PROMPTS]
        prompts = tokenizer(
            [problem["prompt"] for problem in batch], return_tensors="pt", padding=True, padding_side="left"
        )
        ids, mask, completions, completion_mask = sampled(model, tokenizer, prompts)
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        rewards = task.scores(texts, [problem for problem in batch for _ in range(ROLLOUTS)])
        advantages = estimate("grpo", torch.tensor(rewards).view(PROMPTS, ROLLOUTS)).flatten()
        loss, entropy = loss_of(model, ids, mask, completions, completion_mask, advantages)
        assert entropy > 0.0
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def sampled(model, tokenizer, prompts):
    """Return prompts and completions with their masks; a prompt is read once for all its rollouts."""
    model.eval()
    positions = (prompts["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    output = model(**prompts, position_ids=positions, past_key_values=DynamicCache(), logits_to_keep=1)
    cache = output.past_key_values
    cache.batch_repeat_interleave(ROLLOUTS)
    logits = output.logits[:, -1].repeat_interleave(ROLLOUTS, dim=0)
    mask = prompts["attention_mask"].repeat_interleave(ROLLOUTS, dim=0)
    position = positions[:, -1:].repeat_interleave(ROLLOUTS, dim=0)
    is_done, columns, masks = torch.zeros(len(logits), dtype=torch.bool), [], []
    for _ in range(MAX_TOKENS):
        token = torch.multinomial(logits.softmax(-1), 1)
        token[is_done] = tokenizer.pad_token_id
        columns.append(token)
        masks.append((~is_done).long()[:, None])
        is_done |= token[:, 0] == tokenizer.eos_token_id
        if is_done.all():
            break
        mask, position = torch.cat([mask, masks[-1]], dim=1), position + 1
        logits = model(token, attention_mask=mask, position_ids=position, past_key_values=cache).logits[:, -1]
    model.train()
    ids = prompts["input_ids"].repeat_interleave(ROLLOUTS, dim=0)
    prompt_mask = prompts["attention_mask"].repeat_interleave(ROLLOUTS, dim=0)
    return ids, prompt_mask, torch.cat(columns, dim=1), torch.cat(masks, dim=1)


def loss_of(model, ids, mask, completions, completion_mask, advantages):
    """Return the policy-gradient loss, averaged over tokens, and the entropy of the policy in nats per token."""
    full_mask = torch.cat([mask, completion_mask], dim=1)
    positions = (full_mask.cumsum(-1) - 1).clamp(min=0)
    keep = completions.shape[1] + 1
    logits = model(
        torch.cat([ids, completions], dim=1), attention_mask=full_mask, position_ids=positions, logits_to_keep=keep
    ).logits[:, :-1]
    log_probs = logits.log_softmax(-1)
    chosen = log_probs.gather(-1, completions[..., None])[..., 0]
    with torch.no_grad():
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        entropy = (entropies * completion_mask).sum() / completion_mask.sum()
    ratio = (chosen - chosen.detach()).exp()
    return -(ratio * advantages[:, None] * completion_mask).sum() / completion_mask.sum(), float(entropy)


class Clock(TrainerCallback):
    """Keeps the seconds from the beginning of each step to that of the next."""

    def __init__(self):
        self.seconds, self._last = [], None

    def on_step_begin(self, args, state, control, **kwargs):
        self._tick()

    def on_train_end(self, args, state, control, **kwargs):
        self._tick()

    def _tick(self):
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


def trainer_steps(num_steps, control):
    """Return the seconds of each step of TRL's trainer, with entropy control if it is given."""
    task, tokenizer = Countdown(), AutoTokenizer.from_pretrained(resolve_model("countdown-base"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        own = {}
        if control is not None:
            own["entropy_control"] = EntropyControl.of(control | {"rollouts": str(Path(folder) / "rollouts.jsonl")})
        trainer_class = GRPOTrainer if control is None else with_entropy_control(GRPOTrainer)
        trainer = trainer_class(
            model=load_model("countdown-base"),
            reward_funcs=task.reward,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=PROMPTS * ROLLOUTS,
                num_generations=ROLLOUTS,
                max_completion_length=MAX_TOKENS,
                learning_rate=LEARNING_RATE,
                adam_beta2=0.95,
                lr_scheduler_type="constant",
                **QUIET,
                logging_steps=1,
            ),
            train_dataset=Dataset.from_list(task.problems("train", PROMPTS * num_steps)),
            processing_class=tokenizer,
            callbacks=[clock],
            **own,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return clock.seconds


def main():
    """Take turns, and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    variants = {
        "bare loop": lambda: bare_steps(args.steps),
        "TRL": lambda: trainer_steps(args.steps, None),
        "entrocraft": lambda: trainer_steps(args.steps, {"schedule": 0.6, "width": 0.04, "method": "token"}),
    }
    turns = {name: [] for name in variants}
    for _ in range(args.turns):
        for name, steps in variants.items():
            turns[name].append(statistics.median(steps()[1:]))
    medians = {name: statistics.median(seconds) for name, seconds in turns.items()}
    result = {
        "command": f"python benchmarks/bare_loop.py --steps {args.steps} --turns {args.turns} --output {args.output}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "trl": trl.__version__, "transformers": transformers.__version__},
        "seconds a step": {name: round(seconds, 4) for name, seconds in medians.items()},
        "of the bare loop": {name: round(seconds / medians["bare loop"], 3) for name, seconds in medians.items()},
        "turns": {name: [round(seconds, 4) for seconds in each] for name, each in turns.items()},
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
