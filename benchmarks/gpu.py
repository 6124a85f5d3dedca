"""What a GPU needs for entropy control: memory and time at a large vocabulary, of a step, and of ten times the batch.

    python benchmarks/gpu.py --output results/gpu              # some 8 minutes on one H100
    python benchmarks/gpu.py --dry-run --output /tmp/gpu       # the same code, tiny, on a CPU

Three parts, each written as soon as it is measured, to vocabulary.json, step.json and batch.json:

1. entropy, log-probabilities and predicted change of 4,096 tokens at a vocabulary of 152,000, against a plain
   log-softmax over all of them;
2. a step of TRL alone, of ours in its band, and of ours with half of the rollouts left out, on a model of 0.5 billion
   random parameters: seconds, and the most memory that was taken;
3. the embedded model with ten times the demo's batch, GRPO and a curve in turn: entropy, distance, held-out scores.

Needs TRL. The variants of a part take turns in one process; each is warmed up first.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
import trl
from common import QUIET
from datasets import Dataset
from step_time import VARIANTS as CONTROLS
from step_time import Timed
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig
from vocabulary import VARIANTS as AT_A_VOCABULARY

from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import resolve_model
from entrocraft.runs import RunDirectory
from entrocraft.runs.tracking import summarise_tracking
from entrocraft.tasks import Countdown


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    tokens: int
    vocabulary: int
    repeats: int
    layers: int
    hidden: int
    rollouts: int
    completion_tokens: int
    steps: int
    prompts_per_step: int
    training_steps: int
    held_out: int


REAL = Size(4096, 151_936, 20, 24, 896, 128, 256, 4, 640, 90, 200)
TINY = Size(64, 1_000, 2, 2, 64, 16, 12, 2, 8, 3, 8)


def wait(device):
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def forget(device):
    """Free what the device's allocator holds, and count its peak from here."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device):
    """Return the most memory that was taken since `forget`, in GiB; None on a CPU, whose allocator does not tell."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None


def at_a_vocabulary(device, size):
    """Return seconds, and memory beyond the logits, of each way to look at logits of a large vocabulary."""
    torch.manual_seed(0)
    table = {}
    for dtype in (torch.bfloat16, torch.float32):
        logits = torch.randn(4, size.tokens // 4, size.vocabulary, device=device, dtype=dtype)
        tokens = torch.randint(size.vocabulary, logits.shape[:-1], device=device)
        rows = table[str(dtype).removeprefix("torch.")] = {}
        for name, variant in AT_A_VOCABULARY.items():
            with torch.no_grad():
                variant(logits, tokens)  # warm up
                forget(device)
                before, seconds = peak_gib(device), []
                for _ in range(size.repeats):
                    wait(device)
                    start = time.perf_counter()
                    variant(logits, tokens)
                    wait(device)
                    seconds.append(time.perf_counter() - start)
            extra = None if before is None else peak_gib(device) - before
            rows[name] = {"milliseconds": 1000 * statistics.median(seconds), "extra_gib": extra}
        del logits, tokens
        forget(device)
    return {"tokens": size.tokens, "vocabulary": size.vocabulary, "medians_of": size.repeats, "table": table}


def random_model(size):
    """Return a model of Qwen2.5-0.5B's shape with random weights."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 4864 // 896,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
        num_key_value_heads=max(1, size.hidden // 448),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def by_chance(completions, **columns):
    """Score answers by their length's parity, so that every group has better and worse ones."""
    return [float(len(text) % 2) for text in completions]


def one_training(name, device, size, scratch):
    """Return seconds of each counted step, of its update, and the most memory that was taken, in GiB."""
    tokenizer, options, trainer_class = AutoTokenizer.from_pretrained(resolve_model("countdown-base")), {}, Timed
    if CONTROLS[name] is not None:
        trainer_class = with_entropy_control(Timed)
        options["entropy_control"], options["entropy_controller"] = CONTROLS[name]()
    on_gpu = device == "cuda"
    trainer = trainer_class(
        model=random_model(size),
        reward_funcs=by_chance,
        args=GRPOConfig(
            output_dir=scratch,
            max_steps=size.steps + 1,  # the first warms up and is not counted
            per_device_train_batch_size=size.rollouts,
            num_generations=8,
            max_completion_length=size.completion_tokens,
            learning_rate=1e-6,
            logging_steps=1000,
            **QUIET | {"use_cpu": not on_gpu, "bf16": on_gpu},
        ),
        train_dataset=Dataset.from_list(Countdown().problems("train", 400)),
        processing_class=tokenizer,
        **options,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    forget(device)
    trainer.train()
    parameters = trainer.model.num_parameters()
    return trainer.steps[1:], peak_gib(device), parameters


def of_a_step(device, size):
    """Return seconds and memory of a step of TRL alone, in the band, and with half of the rollouts left out."""
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("trl", "keep_all", "half"):
            steps, gib, parameters = one_training(name, device, size, scratch)
            table[name] = {
                "step_seconds": statistics.median(whole for whole, _ in steps),
                "update_seconds": statistics.median(update for _, update in steps),
                "peak_gib": gib,
                "samples": [[round(each, 4) for each in pair] for pair in steps],
            }
            forget(device)
    shape = {"parameters": parameters, "rollouts": size.rollouts, "completion_tokens": size.completion_tokens}
    alone = table["trl"]
    ratios = {
        name: {what: row[what] / alone[what] for what in ("step_seconds", "update_seconds")}
        for name, row in table.items()
        if name != "trl"
    }
    return shape | {"steps": size.steps, "table": table, "over_trl_alone": ratios}


def at_ten_times_the_batch(device, size):
    """Return what GRPO and the demo's curve come to with 640 prompts a step instead of 64."""
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, setting in (("grpo", ["control=null"]), ("curve", [])):
            folder, start = Path(scratch) / name, time.perf_counter()
            command = [sys.executable, "-m", "entrocraft", "train", "recipes/countdown.yaml", "--output", str(folder)]
            settings = [
                f"train.steps={size.training_steps}",
                f"train.prompts_per_step={size.prompts_per_step}",
                f"eval.num_problems={size.held_out}",
                "task.num_problems=16000",
                "train.learning_rate=2e-4",
            ]
            subprocess.run([*command, *setting, *settings], check=True, stdout=subprocess.DEVNULL)
            run = RunDirectory(folder)
            lines, evaluations = run.step_metrics(), run.eval_metrics()
            tracking = summarise_tracking(lines)
            table[name] = {
                "seconds": time.perf_counter() - start,
                "entropy": [round(line["entropy"], 4) for line in lines],
                "mean_distance": None if tracking is None else tracking.mean_error,
                "scores": {k: v for k, v in evaluations[-1].items() if k.startswith("eval/")},
            }
    return {"prompts_per_step": size.prompts_per_step, "steps": size.training_steps, "table": table}


PARTS = {"vocabulary": at_a_vocabulary, "step": of_a_step, "batch": at_ten_times_the_batch}


def main():
    """Measure the parts and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; by default all")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true", help="tiny, on a CPU, to see that it runs")
    args = parser.parse_args()
    device, size = ("cpu", TINY) if args.dry_run else ("cuda", REAL)
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU is seen by torch; --dry-run runs the same code on a CPU")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    args.output.mkdir(parents=True, exist_ok=True)
    about = {
        "command": "python benchmarks/gpu.py --output results/gpu",
        "machine": torch.cuda.get_device_name()
        if device == "cuda"
        else f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
    }
    for name in args.parts or PARTS:
        start = time.perf_counter()
        record = about | PARTS[name](device, size)
        (args.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
