"""Build a character model that answers parity in two ways, and is better at the one that leads nowhere.

Supervised training from random weights on random rows of bits of the training split. Most examples repeat the last
bit, a habit that is right for half of all rows and never for more. The others work the parity out, with slips, and half
of them break off: so far this is right less often than the habit, but practice makes it perfect.

    python scripts/build_parity_model.py --output models/parity    # about 1 minute on one idle core
"""

import argparse
import json
import random
from pathlib import Path

import torch
from build_base_model import BATCH, build_model, build_tokenizer, train_and_save
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, set_seed

from entrocraft.tasks import Parity

SEED = 20260427
SLIPS, BREAKS_OFF = 0.06, 0.5  # by bit, by answer


def working(bits: str, rng: random.Random) -> str:
    """Return an answer with working: parities of the first bit, the first two, and so on, with slips."""
    parity, parities = 0, []
    for bit in bits:
        parity ^= int(bit) ^ (rng.random() < SLIPS)
        parities.append(parity)
    if rng.random() < BREAKS_OFF:
        return ":" + "".join(map(str, parities[: rng.randint(1, len(bits) - 1)]))
    return f":{''.join(map(str, parities))}={parity}"


class Answers(Dataset):
    """Random rows of bits with an answer; item `i` is the same whatever was asked before."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, num_items: int, task: Parity, share_of_working: float):
        self.tokenizer, self.num_items, self.task, self.share = tokenizer, num_items, task, share_of_working
        self.length = task.num_bits + 1 + task.max_completion_tokens

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{SEED}-{index}")
        while self.task.split_of(bits := "".join(rng.choices("01", k=self.task.num_bits))) != "train":
            pass
        answer = working(bits, rng) if rng.random() < self.share else bits[-1]
        prompt, tokens = (self.tokenizer(text)["input_ids"] for text in (f"{bits}=", answer))
        tokens.append(self.tokenizer.eos_token_id)
        padding = self.length - len(prompt) - len(tokens)
        return {
            "input_ids": torch.tensor(prompt + tokens + [self.tokenizer.pad_token_id] * padding),
            "labels": torch.tensor([-100] * len(prompt) + tokens + [-100] * padding),
        }


def main() -> None:
    """Train and save the model and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--bits", type=int, default=Parity.num_bits)
    parser.add_argument("--share-of-working", type=float, default=0.15)
    args = parser.parse_args()

    set_seed(SEED)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, hidden=96, intermediate=256, layers=2, heads=3)  # 0.2 million parameters
    answers = Answers(tokenizer, args.steps * BATCH, Parity(num_bits=args.bits), args.share_of_working)
    train_and_save(model, tokenizer, answers, args.output, steps=args.steps, learning_rate=2e-3, seed=SEED)
    made = {"bits": args.bits, "steps": args.steps, "share_of_working": args.share_of_working, "seed": SEED}
    (args.output / "made.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
