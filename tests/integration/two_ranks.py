"""Run by `torchrun` in test_two_ranks.py: dropping against masking on two gloo ranks, written as JSON by rank 0."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from support.trainers import COMMON, GradientRecorder, controller_of, digit_prompts, digits_reward, train_logs
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import with_entropy_control
from entrocraft.errors import RunDirectoryError
from entrocraft.models import resolve_model

ROWS_PER_RANK = 8


class KeepNothingOnRank1(ec.Method):
    """Rejects all rollouts of the second rank, and every other one of the first."""

    def decide(self, batch, goal):
        keep = torch.arange(len(batch.advantages)) % 2 == 0
        keep[len(keep) // 2 :] = False
        return ec.Decision.keeping(batch, keep, metrics={"ranks": float(batch.num_ranks)})


def gradients(model_folder, output, trainer_class, loss_type, rejected, controller, micro_batches):
    """Train two steps and return the gradients of both, and the log lines."""
    config = {"loss_type": loss_type} if loss_type else {}
    trainer = with_entropy_control(trainer_class)(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64),  # leave rounding aside
        reward_funcs=digits_reward,
        args=(GRPOConfig if trainer_class is GRPOTrainer else RLOOConfig)(
            output_dir=output,
            max_steps=2,
            per_device_train_batch_size=ROWS_PER_RANK // micro_batches,
            gradient_accumulation_steps=micro_batches,
            learning_rate=0.0,  # so that the second step compares gradients, not what Adam makes of rounding
            max_grad_norm=0.0,
            seed=3,
            **COMMON,
            **config,
        ),
        train_dataset=digit_prompts(),
        processing_class=AutoTokenizer.from_pretrained(resolve_model("countdown-base")),
        entropy_control=EntropyControl(lower=50.0, upper=51.0, method="advantage", rejected=rejected),
        entropy_controller=controller,
    )
    recorder = GradientRecorder()
    trainer.callback_handler.callbacks.insert(0, recorder)
    trainer.train()
    return recorder.steps, train_logs(trainer)


def lines_of_a_run(model_folder, output):
    """Train two steps with a run directory, be refused there on both ranks, and return what is in it."""
    trainer = with_entropy_control(GRPOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(model_folder),
        reward_funcs=digits_reward,
        args=GRPOConfig(output_dir=str(output), max_steps=2, per_device_train_batch_size=ROWS_PER_RANK, **COMMON),
        train_dataset=digit_prompts(),
        processing_class=AutoTokenizer.from_pretrained(resolve_model("countdown-base")),
        entropy_control={"schedule": 0.5, "run": str(output / "run")},
    )
    trainer.train()
    refused = 0
    try:
        trainer.train()
    except RunDirectoryError:
        refused = 1
    counts = [None] * dist.get_world_size()
    dist.all_gather_object(counts, refused)
    lines = [json.loads(line) for line in (output / "run" / "metrics.jsonl").read_text().splitlines()]
    rollouts = (output / "run" / "rollouts.jsonl").read_text().splitlines()
    return {
        "refused": counts,
        "steps": [line["step"] for line in lines],
        "rollouts": [len(json.loads(line)["reward"]) for line in rollouts],
    }


def relative_error(mine, theirs):
    """Norm of the difference of two gradients over the norm of the second."""
    difference = sum((mine[name] - theirs[name]).double().square().sum() for name in theirs)
    return (difference / sum(gradient.double().square().sum() for gradient in theirs.values())).sqrt().item()


def main():
    model_folder, output = sys.argv[1:]
    results = {}
    for trainer_class, loss_type in [
        (GRPOTrainer, "grpo"),
        (GRPOTrainer, "dapo"),
        (GRPOTrainer, "bnpo"),
        (RLOOTrainer, ""),
    ]:
        for one_sided in (False, True):
            for micro_batches in (1, 2):
                runs = []
                for rejected in ("drop", "mask"):
                    controller = controller_of(KeepNothingOnRank1()) if one_sided else None
                    runs.append(
                        gradients(model_folder, output, trainer_class, loss_type, rejected, controller, micro_batches)
                    )
                (drop, logs), (mask, mask_logs) = runs
                difference = max(relative_error(a, b) for a, b in zip(drop, mask, strict=True))
                size = max(gradient.abs().max().item() for gradient in mask[0].values())
                case = f"{trainer_class.__name__} {loss_type} one_sided={one_sided} micro_batches={micro_batches}"
                results[case] = {
                    "relative_error": difference,
                    "size": size,
                    "kept": logs[0]["entrocraft/kept_fraction"],
                    "entropy": logs[0]["entrocraft/entropy"],
                    "trl_entropy": mask_logs[0]["entropy"],
                }
    results["run"] = lines_of_a_run(model_folder, Path(output))
    if dist.get_rank() == 0:
        Path(output).mkdir(parents=True, exist_ok=True)
        (Path(output) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
