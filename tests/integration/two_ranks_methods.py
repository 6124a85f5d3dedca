"""Run by `accelerate launch` in test_two_ranks_methods.py: every method under DDP and FSDP2 on two gloo ranks.

Its functions train the same in one process, too: the completions are fixed, in float64, and so is which of them go into
which update.
"""

import json
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from support.trainers import COMMON, NUM_PROMPTS, NUM_ROLLOUTS, NUM_TOKENS, digit_prompts, digits_reward, train_logs
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from entrocraft.control.methods import METHODS
from entrocraft.engines.trl import with_entropy_control
from entrocraft.models import resolve_model

ROWS, STEPS = NUM_PROMPTS * NUM_ROLLOUTS, 4
UPDATES = 2
"""Updates made of one batch of rollouts, so that methods which act on ratios have something to act on."""

RISING = {"schedule": "constant(1.2, unit='initial')"}
CASES = {name: {"method": name} for name in METHODS} | {
    # With what it takes for them to act on a batch this small, or that entropy is to rise.
    "clip_b": {"method": {"name": "clip_b", "threshold": 0.5}},
    "clip_cov": {"method": {"name": "clip_cov", "share": 0.2, "low": 0.01}},
    "clip_higher": {"method": {"name": "clip_higher", "clip_high": 0.01}},
    "entropic_released": {"method": {"name": "entropic_released", "confidence": 0.3}} | RISING,
    "entropy_bonus": {"method": "entropy_bonus"} | RISING,
    "learning_rate": {"method": "learning_rate", "schedule": "constant(1.0, unit='initial')"},  # lower: at full rate
    "stare": {"method": "stare"} | RISING,
    "stare, adaptive": {"method": {"name": "stare", "two_sided": True, "adaptive": True}} | RISING,
    "predicted, exact": {"method": "predicted", "predictor": "exact"},
    "predicted, whole_model": {"method": "predicted", "predictor": "whole_model"},
    "token, visitation": {"method": {"name": "token", "visitation": True}},
    "budget, masked": {"method": "budget", "rejected": "mask"},
    "rloo, budget": {"method": "budget"},
}
"""Settings of each training."""
BY_MICRO_BATCH = ("aent", "entropic", "entropy_bonus", "fixed_bonus", "kl_cov", "siren")
"""Methods that look, as they were published or as TRL's entropy bonus does, at each micro-batch of each rank: two ranks
are one that accumulates."""


def in_order(num_ranks):
    """Return TRL's shuffle of this rank's rows, replaced: the same rows go into the same update on one rank or two."""

    def ordered(batch):
        rows = torch.arange(len(batch["completion_ids"]))
        if num_ranks == 1:  # the first half of what each of two ranks would hold, then the second halves
            rows = rows.view(2, UPDATES, -1).transpose(0, 1).flatten()
        return {
            name: value[rows] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in batch.items()
        }

    return ordered


def fixed(trainer_class):
    """Return a class of trainer whose completions are drawn by their number, whatever the weights and the ranks."""

    class Fixed(trainer_class):
        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            generator = torch.Generator().manual_seed(self.state.global_step)
            ids = torch.randint(3, 16, (ROWS, NUM_TOKENS), generator=generator).tolist()
            # More tokens on the first of two ranks.
            ids = [row[: NUM_TOKENS - number % NUM_ROLLOUTS - 2 * number // ROWS] for number, row in enumerate(ids)]
            first = self.accelerator.process_index * len(prompt_ids)
            mine = ids[first : first + len(prompt_ids)]
            return mine if issubclass(trainer_class, RLOOTrainer) else (mine, None)

    return Fixed


def trained(case, model_folder, output, *, saves=False, resume=None):
    """Train one case; return the weights and the log.

    Args:
        case: One of `CASES`.
        model_folder: The policy to begin with.
        output: Folder for checkpoints.
        saves: Whether to save one amid the training.
        resume: The checkpoint to go on from.
    """
    num_ranks = PartialState(cpu=True).num_processes
    is_rloo = case.startswith("rloo")
    parts = 2 if num_ranks == 1 and case in BY_MICRO_BATCH else 1
    module = sys.modules[(RLOOTrainer if is_rloo else GRPOTrainer).__module__]
    module.shuffle_sequence_dict = in_order(num_ranks)
    trainer = with_entropy_control(fixed(RLOOTrainer if is_rloo else GRPOTrainer))(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64),
        reward_funcs=digits_reward,
        args=(RLOOConfig if is_rloo else GRPOConfig)(
            output_dir=str(output),
            max_steps=STEPS,
            per_device_train_batch_size=ROWS // UPDATES // num_ranks // parts,
            gradient_accumulation_steps=parts,
            steps_per_generation=UPDATES * parts,
            learning_rate=1e-2,
            adam_epsilon=1e-4,  # else an element whose gradient all but cancels makes whole steps of its rounding
            seed=3,
            shuffle_dataset=False,
            **COMMON | ({"save_strategy": "steps", "save_steps": STEPS // 2} if saves else {}),
        ),
        train_dataset=digit_prompts(),
        processing_class=AutoTokenizer.from_pretrained(resolve_model("countdown-base")),
        entropy_control={"schedule": "constant(0.9, unit='initial')"} | CASES[case],
    )
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.accelerator.is_fsdp2 == any(isinstance(p, DTensor) for p in trainer.model.parameters())
    assert trainer.accelerator.is_fsdp2 == ("ACCELERATE_USE_FSDP" in os.environ)
    weights = {name: whole(value) for name, value in trainer.model.state_dict().items()}
    log = [{k: v for k, v in line.items() if "time" not in k} for line in train_logs(trainer)]
    return weights, log


def whole(value):
    """Return a tensor that may be sharded."""
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()


@contextmanager
def fsdp2(*, on_cpu=True):
    """Ask accelerate to shard, as its launcher does, on the CPU too: it knows how to, and does not look there.

    Args:
        on_cpu: Whether to set the two attributes that it sets on GPUs alone.
    """
    settings = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    }
    os.environ.update(settings)
    own = AcceleratorState.__init__

    def init(self, *args, fsdp_plugin=None, **kwargs):
        own(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if on_cpu and fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = self.distributed_type

    AcceleratorState._reset_state()
    AcceleratorState.__init__ = init
    try:
        yield
    finally:
        AcceleratorState.__init__ = own
        for name in settings:
            del os.environ[name]
        AcceleratorState._reset_state()


def train_all(model_folder, output, cases=CASES):
    """Train all cases and write what came of them."""
    output.mkdir(parents=True, exist_ok=True)
    logs = {}
    for case in cases:
        weights, logs[case] = trained(case, model_folder, output / "out")
        if PartialState().is_main_process:
            save_file({k: v.contiguous() for k, v in weights.items()}, output / f"{case}.safetensors")
    if PartialState().is_main_process:
        (output / "logs.json").write_text(json.dumps(logs))


def resumed(model_folder, output):
    """Train one case with a checkpoint amid it, and again from there; write whether nothing differs."""
    case = "token"
    whole_weights, whole_log = trained(case, model_folder, output / "saved", saves=True)
    checkpoint = output / "saved" / f"checkpoint-{STEPS // 2}"
    weights, log = trained(case, model_folder, output / "resumed", resume=str(checkpoint))
    differing = [name for name, weight in whole_weights.items() if not torch.equal(weights[name], weight)]
    if PartialState().is_main_process:
        files = sorted(file.name for file in checkpoint.iterdir())
        found = {"weights": differing, "log": [whole_log, log], "files": files}
        (output / "resumed.json").write_text(json.dumps(found))


def main():
    model_folder, output, *cases = sys.argv[1:]
    cases = cases or CASES
    warnings.simplefilter("ignore")
    train_all(model_folder, Path(output) / "ddp", cases)
    with fsdp2():
        train_all(model_folder, Path(output) / "fsdp2", cases)
        resumed(model_folder, Path(output) / "fsdp2")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
