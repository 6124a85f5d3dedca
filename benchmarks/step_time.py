"""What entropy control costs and saves per step: TRL alone, ours in band, ours keeping half; and what methods cost.

The variants take turns within one run, since timings on a shared machine drift; ratios are of medians.

    python benchmarks/step_time.py --output results/benchmarks/step_time.json
"""

import argparse
import json
import logging
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
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.control.course import Course
from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import load_model, resolve_model
from entrocraft.tasks import Countdown

REPEATS = 5
STEPS = {"embedded": 6, "large": 3}  # the first step of each run warms up and is not counted
# Where the log-probabilities and entropies of the batch come from.
SOURCES = {
    "noted while sampling": {},
    "TRL makes the pass": {"num_iterations": 2},
    "we add a pass": {"repetition_penalty": 1.01},  # the policy's logits are not those that are sampled from
}


class KeepHalf(ec.Method):
    """Keeps every other rollout, whatever it is."""

    def decide(self, batch, goal):
        """Keep the even ones."""
        return ec.Decision.keeping(batch, torch.arange(len(batch.advantages)) % 2 == 0)


class Predict(ec.Method):
    """Asks for every rollout's predicted change, and keeps everything."""

    needs = frozenset({"change"})

    def decide(self, batch, goal):
        """Keep everything."""
        return ec.Decision.everything(batch)


def deciding(method):
    """Return a controller in which `method` decides."""
    return ec.Controller(Course(ec.Band(lower=0.0, upper=100.0)), method, type(method).__name__)


# The predictions of `aligned` are timed apart from what a rejection saves; `token` saves nothing, and acts always.
VARIANTS = {
    "trl": None,
    "keep_all": lambda: (EntropyControl(lower=0.0, upper=100.0, method="predicted"), None),
    "half": lambda: (EntropyControl(lower=0.0, upper=100.0, method="predicted"), deciding(KeepHalf())),
    "token": lambda: (EntropyControl(lower=50.0, upper=51.0, method="token"), None),
    "aligned": lambda: (EntropyControl(method="aligned"), deciding(Predict())),
}


class Timed(GRPOTrainer):
    """Separates the time of generation and scoring from that of forward, backward and optimizer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before_update = self.step = 0.0
        self.steps: list[tuple[float, float]] = []

    def _prepare_inputs(self, batch):
        start = time.perf_counter()
        try:
            return super()._prepare_inputs(batch)
        finally:
            self.before_update += time.perf_counter() - start

    def training_step(self, *args, **kwargs):
        self.before_update, start = 0.0, time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        whole = time.perf_counter() - start
        self.steps.append((whole, whole - self.before_update))
        return loss


def large_model(tokenizer):
    """A random Llama of 27 million parameters, where arithmetic outweighs overheads."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=8,
            num_attention_heads=8,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def run(variant, model_name, source, scratch):
    """Train a few steps and return (step seconds, update seconds) of each counted one."""
    tokenizer, task = AutoTokenizer.from_pretrained(resolve_model("countdown-base")), Countdown()
    embedded = model_name == "embedded"
    trainer_class, options = Timed, {}
    if VARIANTS[variant] is not None:
        trainer_class = with_entropy_control(Timed)
        options["entropy_control"], options["entropy_controller"] = VARIANTS[variant]()
    rows, num_iterations = 256 if embedded else 16, source.get("num_iterations", 1)
    trainer = trainer_class(
        model=load_model("countdown-base") if embedded else large_model(tokenizer),
        reward_funcs=task.reward,
        args=GRPOConfig(
            output_dir=scratch,
            max_steps=STEPS[model_name] * num_iterations,
            per_device_train_batch_size=rows,
            num_generations=8,
            max_completion_length=12 if embedded else 24,
            learning_rate=1e-6,
            **QUIET,
            dataloader_pin_memory=False,
            logging_steps=1000,
            **source,
        ),
        train_dataset=Dataset.from_list(task.problems("train", 400)),
        processing_class=tokenizer,
        **options,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    # One entry per batch of rollouts: its generation and all updates on it.
    batches = [trainer.steps[i : i + num_iterations] for i in range(0, len(trainer.steps), num_iterations)]
    return [tuple(sum(column) for column in zip(*batch, strict=True)) for batch in batches[1:]]


def main():
    """Measure every case and print and save the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    cases = {}
    with tempfile.TemporaryDirectory() as scratch:
        for model_name in ("embedded", "large"):
            for source_name, source in SOURCES.items():
                seconds = {variant: [] for variant in VARIANTS}
                for _ in range(REPEATS):
                    for variant, samples in seconds.items():
                        samples.append(
                            [statistics.median(c) for c in zip(*run(variant, model_name, source, scratch), strict=True)]
                        )
                medians = {v: [statistics.median(c) for c in zip(*s, strict=True)] for v, s in seconds.items()}
                cases[f"{model_name}, {source_name}"] = case = {
                    "median_seconds": {v: {"step": m[0], "update": m[1]} for v, m in medians.items()},
                    "overhead_of_keeping_all": medians["keep_all"][0] / medians["trl"][0] - 1,
                    "cost_of_token": medians["token"][0] / medians["keep_all"][0] - 1,
                    "cost_of_aligned": medians["aligned"][0] / medians["keep_all"][0] - 1,
                    "update_time_at_half_kept": medians["half"][1] / medians["trl"][1],
                    "step_time_at_half_kept": medians["half"][0] / medians["trl"][0],
                    "samples": {v: [[round(x, 4) for x in pair] for pair in s] for v, s in seconds.items()},
                }
                print(
                    f"{model_name}, {source_name}: "
                    + ", ".join(f"{k} {v:.3f}" for k, v in case.items() if isinstance(v, float)),
                    flush=True,
                )
    record = {
        "command": "python benchmarks/step_time.py --output results/benchmarks/step_time.json",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        "cases": cases,
    }
    args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
