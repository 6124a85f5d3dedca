"""Run by `accelerate launch` in test_train_launched.py: commands of several processes, one after the other.

Each rank writes down how each command ended for it, and what it said.
"""

import io
import json
import os
import shutil
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import torch
from transformers import TrainerCallback
from trl import GRPOTrainer
from two_ranks_methods import fsdp2

from entrocraft.cli import main
from entrocraft.training import plan
from entrocraft.training import run as training_run

RANK = int(os.environ.get("RANK", "0"))
CONFIG = """
model: model
seed: 5
task:
  name: dataset
  options:
    train: problems.jsonl
    test: problems.jsonl
    prompt: "{numbers}="
    reward: rewards:digits
    max_completion_tokens: 8
control: {schedule: "constant(0.8, unit='initial')", method: token}
train:
  steps: 4
  prompts_per_step: 4
  rollouts_per_prompt: 4
  micro_batch_size: 8
  learning_rate: 0.003
  save_every: 1
  trl: {save_total_limit: 4}
eval: {num_problems: 6, num_samples: 4, k: [1, 4], batch_size: 8, every: 2}
"""


def fix_completions():
    """Have rollouts drawn by their number, whatever the weights and the number of processes."""

    def fixed(self, prompt_ids, *args, **kwargs):
        rows = len(prompt_ids) * self.accelerator.num_processes
        generator = torch.Generator().manual_seed(self.state.global_step)
        ids = torch.randint(3, 16, (rows, 8), generator=generator).tolist()
        first = self.accelerator.process_index * len(prompt_ids)
        return [row[: 8 - number % 3] for number, row in enumerate(ids)][first : first + len(prompt_ids)], None

    GRPOTrainer._generate_single_turn, own = fixed, GRPOTrainer._generate_single_turn
    return own


def signal_at(step):
    """Have the next training of this process get SIGTERM amid a step."""

    class Signalling(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    build = training_run._build_trainer

    def built(*args):
        training_run._build_trainer = build
        trainer = build(*args)
        trainer.add_callback(Signalling())
        return trainer

    training_run._build_trainer = built


class Commands:
    """Runs commands and writes down how they ended."""

    def __init__(self, folder):
        self._file, self._ended = folder / f"ended-{RANK}.json", {}

    def run(self, name, *arguments):
        output, errors = io.StringIO(), io.StringIO()
        status = 0
        with redirect_stdout(output), redirect_stderr(errors):
            try:
                main(["train", *arguments], standalone_mode=False)
            except SystemExit as ended:
                status = ended.code
        self._ended[name] = {"status": status, "said": output.getvalue(), "erred": errors.getvalue()}
        self._file.write_text(json.dumps(self._ended))


def together(folder):
    """All that is tried on two ranks."""
    os.chdir(folder)
    commands = Commands(folder)
    commands.run("dry", "run.yaml", "--dry-run")
    own = fix_completions()
    commands.run("fixed", "run.yaml", "--output", "fixed")
    with fsdp2(), mock.patch.object(plan, "_NEVER_SHARDED", ()):
        commands.run("sharded", "run.yaml", "--output", "sharded")
        commands.run("sharded again", "run.yaml", "--output", "sharded", "--resume-from", "2")
    GRPOTrainer._generate_single_turn = own
    commands.run("whole", "run.yaml", "--output", "whole")
    if RANK == 1:  # alone: its launcher may be another's
        signal_at(2)
    commands.run("stopped", "run.yaml", "--output", "resumed")
    if RANK == 0:
        shutil.copytree("resumed", "stopped")
    commands.run("resumed", "run.yaml", "--output", "resumed", "--resume")
    commands.run("again", "run.yaml", "--output", "resumed", "--resume")
    commands.run("clash", "run.yaml", "--output", "resumed")
    commands.run("unknown", "run.yaml", "train.stepz=3", "--output", "new")
    commands.run("odd", "run.yaml", "train.prompts_per_step=5", "train.micro_batch_size=5", "--output", "new")
    commands.run("lacking", "run.yaml" if RANK == 0 else "lacking.yaml", "--output", "new")
    commands.run("unlike", "run.yaml", f"seed={RANK}", "--output", "new")
    with fsdp2(on_cpu=False):
        commands.run("unsharded", "run.yaml", "--output", "new")
    commands.run("raising", "run.yaml", "task.options.reward=rewards:raising", "--output", "raising")


if __name__ == "__main__":
    together(Path(sys.argv[1]))
