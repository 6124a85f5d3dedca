"""What recording rollouts costs a step of the embedded model: steps with and without take turns in one training.

    python benchmarks/recording.py --output results/benchmarks/recording.json

Two ways: the ratio of medians of steps with and without recording, which noise of the machine moves by some percent,
and the time spent within the recorder as a share of a step, which it does not.
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
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from entrocraft.control import EntropyControl
from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import load_model, resolve_model
from entrocraft.tasks import Countdown

WARM_UP = 4


class Timed(GRPOTrainer):
    """Keeps the seconds of each step."""

    def training_step(self, *args, **kwargs):
        start = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self.seconds.append(time.perf_counter() - start)
        return loss


class TakesTurns:
    """A recorder that records every other batch, and keeps the seconds that it took."""

    def __init__(self, recorder):
        self._recorder, self.seconds, self.count = recorder, [], 0

    def record(self, *args, **kwargs):
        self.count += 1
        start = time.perf_counter()
        if self.count % 2:
            self._recorder.record(*args, **kwargs)
        self.seconds.append(time.perf_counter() - start)


def trained(steps, folder):
    """Train and return the seconds of each step, and of recording in it."""
    tokenizer, task = AutoTokenizer.from_pretrained(resolve_model("countdown-base")), Countdown()
    trainer = with_entropy_control(Timed)(
        model=load_model("countdown-base"),
        reward_funcs=task.reward,
        args=GRPOConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=512,
            num_generations=8,
            max_completion_length=14,
            learning_rate=1e-6,
            **QUIET,
            logging_steps=1000,
        ),
        train_dataset=Dataset.from_list(task.problems("train", 64 * steps)),
        processing_class=tokenizer,
        entropy_control=EntropyControl.of(
            {"schedule": 0.6, "width": 0.04, "rollouts": str(Path(folder) / "rollouts.jsonl")}
        ),
    )
    trainer.seconds = []
    turns = trainer._recorder = TakesTurns(trainer._recorder)
    trainer.train()
    return trainer.seconds[WARM_UP:], turns.seconds[WARM_UP:]


def main():
    """Train, and write what recording costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=104)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        steps, recordings = trained(args.steps, folder)
        size = (Path(folder) / "rollouts.jsonl").stat().st_size
    on, off = steps[::2], steps[1::2]  # after the warm-up, which is even
    result = {
        "command": f"python benchmarks/recording.py --steps {args.steps} --output {args.output}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "trl": trl.__version__, "transformers": transformers.__version__},
        "steps": len(steps),
        "seconds of a step, recording": round(statistics.median(on), 4),
        "seconds of a step, not recording": round(statistics.median(off), 4),
        "ratio": round(statistics.median(on) / statistics.median(off), 4),
        "seconds of recording": round(statistics.median(recordings[::2]), 4),
        "share of a step": round(statistics.median(recordings[::2]) / statistics.median(off), 4),
        "bytes a recorded step": round(size / len(on)),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
