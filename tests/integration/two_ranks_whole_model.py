"""Run by `torchrun` in test_two_ranks.py: what predictor `whole_model` says on two gloo ranks against one process.

Once in a trainer under DDP; and once on weights that FSDP2 shards, without a trainer: accelerate has none on CPU.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from support.trainers import COMMON, controller_of, digit_prompts, digits_reward, train_logs
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.dynamics.whole_model import (
    ascent_step,
    entropy_gradient,
    last_blocks,
    log_prob_change,
    log_prob_change_by_shift,
)
from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.entropy import token_entropy, token_log_probs
from entrocraft.models import resolve_model

LEARNING_RATE = 1e-3


class Asking(ec.Method):
    """Keeps everything, and remembers what it asked for."""

    needs = frozenset({"change"})

    def decide(self, batch, goal):
        self.predicted = batch.change
        return ec.Decision.everything(batch)


class Watching(EntropyControlledGRPOTrainer):
    """Remembers the batch, and whether the weights are as they were."""

    def _control(self, batch):
        before = [local(p).clone() for p in self.model.parameters()]
        self.seen = {name: value.clone() for name, value in batch.items() if isinstance(value, torch.Tensor)}
        result = super()._control(batch)
        after = [local(p) for p in self.model.parameters()]
        self.identical = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        return result


def local(parameter):
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).detach()


def reader(batch):
    """Return a function that reads rows of the batch with a model."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]

    def read(forward, rows):
        logits = forward(input_ids=ids[rows], attention_mask=mask[rows]).logits
        return logits[:, -width - 1 : -1], batch["completion_ids"][rows]

    return read


def predictions(model, batches, mean_entropy, entropy_per_rank=None):
    """Return each rollout's predicted change, from the direction that all the batches give together.

    By moving the weights, if told the entropy that gradients which are means over ranks are of; else by derivatives.
    """
    parameters = last_blocks(model, None)
    parts = []
    total = [torch.zeros_like(p) for p in parameters]
    for batch in batches:
        read, rows, mask = reader(batch), torch.arange(len(batch["prompt_ids"])), batch["completion_mask"]
        with torch.no_grad():
            logits, _ = read(model, rows)
        sums = (token_entropy(logits) * mask).sum(-1)
        part = entropy_gradient(read, [rows], model, parameters, mask, sums, mask.sum(-1), mean_entropy)
        total = [a + b for a, b in zip(total, part, strict=True)]
        parts.append((read, rows, mask, batch["advantages"]))
    steps = ascent_step(total, parameters, None, LEARNING_RATE)
    predicted = []
    for read, rows, mask, advantages in parts:
        if entropy_per_rank is None:
            rise = log_prob_change(read, [rows], model, parameters, steps)
        else:
            rise = log_prob_change_by_shift(
                lambda read=read, rows=rows: token_log_probs(*read(model, rows)),
                model,
                parameters,
                steps,
                total,
                entropy_per_rank,
            )
        predicted.append(advantages * (rise * mask).sum(-1))
    return torch.cat(predicted)


def sharded_predictions(model_folder, batches, mean_entropy):
    """Return the same from weights sharded over the ranks, each rank scoring its own rows."""
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    before = [local(p).clone() for p in model.parameters()]
    read = reader(batches[dist.get_rank()])
    with torch.no_grad():
        first, _ = read(model, torch.arange(2))  # leaves the root's weights whole, as a pass before the decision does
    num_tokens = float(sum(batch["completion_mask"].sum() for batch in batches))
    mine = predictions(model, [batches[dist.get_rank()]], mean_entropy, mean_entropy * num_tokens / len(batches))
    with torch.no_grad():
        same = torch.equal(first, read(model, torch.arange(2))[0])  # nothing of the moved weights is left
    last_blocks(model, None)  # lets go of whole weights
    same &= all(torch.equal(a, local(p)) for a, p in zip(before, model.parameters(), strict=True))
    parts = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (mine, same))
    return torch.cat([part for part, _ in parts]), all(same for _, same in parts)


def main():
    model_folder, output = sys.argv[1:]
    method = Asking()
    trainer = Watching(
        model=AutoModelForCausalLM.from_pretrained(model_folder),
        reward_funcs=digits_reward,
        args=GRPOConfig(
            output_dir=output,
            max_steps=1,
            per_device_train_batch_size=8,
            learning_rate=LEARNING_RATE,
            seed=3,
            **COMMON,
        ),
        train_dataset=digit_prompts(),
        processing_class=AutoTokenizer.from_pretrained(resolve_model("countdown-base")),
        entropy_control=EntropyControl(predictor="whole_model"),
        entropy_controller=controller_of(method),
    )
    trainer.train()
    batches = [None] * dist.get_world_size()
    dist.all_gather_object(batches, trainer.seen)
    identical = torch.tensor([float(trainer.identical)])
    dist.all_reduce(identical, dist.ReduceOp.MIN)
    mean_entropy = train_logs(trainer)[0]["entrocraft/entropy"]
    sharded, sharded_identical = sharded_predictions(model_folder, batches, mean_entropy)
    if dist.get_rank() == 0:
        results = {}
        for name, predicted, same in (
            ("ddp", method.predicted, bool(identical.item())),
            ("fsdp2", sharded, sharded_identical),
        ):
            whole = AutoModelForCausalLM.from_pretrained(model_folder).eval()
            reference = predictions(whole, batches, mean_entropy)
            error = float((predicted - reference).norm() / reference.norm())
            results[name] = {"relative_error": error, "identical": same}
        Path(output).mkdir(parents=True, exist_ok=True)
        (Path(output) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
