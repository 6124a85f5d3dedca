"""Run by `torchrun` in test_two_ranks.py: a surrogate that adds up over two gloo ranks, written as JSON by rank 0."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from support.trainers import COMMON, controller_of, digit_prompts, digits_reward
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from entrocraft.control.methods.bapo import Bapo
from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.models import resolve_model


class Recording(Bapo):
    """Notes what each rank brings to an exchange, and what it gets."""

    def __init__(self):
        super().__init__()
        self.brought, self.got = [], []

    def surrogate(self, seen, decision, total):
        def noted(sums):
            self.brought.append(sums.clone())
            self.got.append(total(sums))
            return self.got[-1]

        return super().surrogate(seen, decision, noted)


def main():
    model_folder, output = sys.argv[1:]
    method = Recording()
    trainer = EntropyControlledGRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder),
        reward_funcs=digits_reward,
        args=GRPOConfig(
            output_dir=output,
            max_steps=4,
            per_device_train_batch_size=4,
            steps_per_generation=4,
            learning_rate=1e-2,
            seed=3,
            **COMMON,
        ),
        train_dataset=digit_prompts(),
        processing_class=AutoTokenizer.from_pretrained(resolve_model("countdown-base")),
        entropy_controller=controller_of(method),
    )
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    mine = {"brought": torch.stack(method.brought), "got": torch.stack(method.got), "weights": weights}
    both = [None, None]
    dist.all_gather_object(both, mine)
    if dist.get_rank() == 0:
        one, other = both
        results = {
            "exchanges": len(one["got"]),
            "alike": torch.equal(one["got"], other["got"]) and torch.equal(one["weights"], other["weights"]),
            "added_up": torch.allclose(one["brought"] + other["brought"], one["got"]),
            "differ": not torch.equal(one["brought"], other["brought"]),
        }
        (Path(output) / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
