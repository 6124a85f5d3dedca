"""Build the embedded base model: a Llama-architecture character model that half knows Countdown.

Supervised training on random solved problems of the training split, from random weights. The result
must leave room for reinforcement learning (pass@1 of 10 to 30 %) and have diversity to lose
(pass@32 of 80 % or more): `entrocraft eval` measures both, and the model card records them.

    python scripts/build_base_model.py                 # about 9 minutes on two cores
    python scripts/build_base_model.py --steps 20 --output /tmp/base    # a smoke test

Studies of several tasks in a row start from one that has seen problems of 3 to 5 numbers:

    python scripts/build_base_model.py --numbers 3 4 5 --steps 1200 --output models/countdown-3to5

Studies of model size compare it with larger ones, made in the same way:

    python scripts/build_base_model.py --size 4.0M --output models/countdown-4.0M
"""

import argparse
import random
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from entrocraft.evaluation import correctness, with_intervals
from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.measures import correct_by_problem
from entrocraft.evaluation.samplers import TransformersSampler
from entrocraft.models import load_model, load_tokenizer
from entrocraft.models.sampling import SamplingConfig
from entrocraft.tasks import Countdown

ASSET = Path(__file__).parents[1] / "src/entrocraft/assets/countdown-base"
SEED = 20260426
BATCH = 256
SIZES = {  # by millions of parameters
    "1.2M": {"hidden": 160, "intermediate": 432, "heads": 5},
    "2.5M": {"hidden": 228, "intermediate": 616, "heads": 6},
    "4.0M": {"hidden": 288, "intermediate": 776, "heads": 6},
}
SEQUENCE_TOKENS = {3: 24, 4: 24, 5: 32}  # by how many numbers: these, target and punctuation, longest answer, end

CARD = """---
license: apache-2.0
tags: [entrocraft, countdown]
---

# {name}

A Llama-architecture character model of {parameters:,} parameters that half knows Countdown: given `4,6,1,9=24:` it
writes an expression such as `6*(9-4-1)` that uses each number once. It is a starting point of entrocraft's demo and
studies: weak enough to be improved by reinforcement learning, diverse enough to have entropy to lose.

**Training.** {steps} supervised steps of 256 random solved problems of the training split (AdamW, 1e-3 to 0 along a
cosine), seed {seed}, by `scripts/build_base_model.py`. No data but what the script generates.

**Vocabulary.** One token a character, `<pad>` and `<eos>`; problems of {numbers} numbers from 1 to 9, targets 1 to 99,
operators `+ - *`.

**Held-out scores**, 200 problems of the test split, 32 samples each, with 95 % bootstrap intervals over problems:

| numbers | temperature | top-p | pass@1 | pass@8 | pass@32 |
|---|---|---|---|---|---|
{rows}

**Limits.** It knows nothing else. Use it to study training methods, not to do arithmetic.
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, so that an answer's entropy is spread over its decisions."""
    vocabulary = ["<pad>", "<eos>", *"0123456789+-*(),=:"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, *, hidden: int, intermediate: int, heads: int, layers: int = 4
) -> LlamaForCausalLM:
    """A small Llama with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


class SolvedProblems(Dataset):
    """Random solved training problems; item `i` is the same whatever was asked before."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, num_items: int, numbers: Sequence[int]):
        self.tokenizer, self.num_items = tokenizer, num_items
        self.tasks = [Countdown(num_numbers=number) for number in numbers]
        self.length = max(SEQUENCE_TOKENS[number] for number in numbers)

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{SEED}-{index}")
        task = self.tasks[index % len(self.tasks)]
        while task.split_of(problem := task.solved_problem(rng)) != "train":
            pass
        prompt, solution = (self.tokenizer(problem[key])["input_ids"] for key in ("prompt", "solution"))
        answer = [*solution, self.tokenizer.eos_token_id]
        padding = self.length - len(prompt) - len(answer)
        return {
            "input_ids": torch.tensor(prompt + answer + [self.tokenizer.pad_token_id] * padding),
            "labels": torch.tensor([-100] * len(prompt) + answer + [-100] * padding),
        }


def train_and_save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Dataset,
    output: Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train on `BATCH` examples a step, the rate falling along a cosine, and save the model and its tokenizer."""
    scratch = output.with_name(f"{output.name}-scratch")
    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(scratch),
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            weight_decay=0.01,
            adam_beta2=0.95,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            seed=seed,
            disable_tqdm=True,
        ),
        train_dataset=examples,
    ).train()
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    shutil.rmtree(scratch, ignore_errors=True)


def write_card(folder: Path, steps: int, numbers: Sequence[int]) -> None:
    """Evaluate the saved model and write its model card."""
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    rows = []
    for number, (temperature, top_p) in product(numbers, ((1.0, 1.0), (0.6, 0.95))):
        task = Countdown(num_numbers=number)
        sampling = SamplingConfig(temperature=temperature, top_p=top_p)
        problems = task.problems_asked_for("test", None, 200)
        samples = evaluate(partial(TransformersSampler, model, tokenizer), task, problems, sampling)
        scores = with_intervals(correctness(correct_by_problem(samples), [1, 8, 32]))
        cells = (
            f"{scores[k]:.3f} [{scores[f'{k}/low']:.3f}, {scores[f'{k}/high']:.3f}]"
            for k in ("pass@1", "pass@8", "pass@32")
        )
        rows.append(f"| {number} | {temperature} | {top_p} | {' | '.join(cells)} |")
    (folder / "README.md").write_text(
        CARD.format(
            name=folder.name,
            parameters=model.num_parameters(),
            steps=steps,
            seed=SEED,
            numbers=", ".join(map(str, numbers)),
            rows="\n".join(rows),
        )
    )


def main() -> None:
    """Train and save the model and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--output", type=Path, default=ASSET)
    parser.add_argument("--size", choices=SIZES, default="1.2M")
    parser.add_argument("--numbers", type=int, nargs="+", choices=SEQUENCE_TOKENS, default=[4])
    args = parser.parse_args()

    set_seed(SEED)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, **SIZES[args.size])
    print(f"{model.num_parameters():,} parameters")
    problems = SolvedProblems(tokenizer, args.steps * BATCH, args.numbers)
    train_and_save(model, tokenizer, problems, args.output, steps=args.steps, learning_rate=1e-3, seed=SEED)
    write_card(args.output, args.steps, args.numbers)


if __name__ == "__main__":
    main()
