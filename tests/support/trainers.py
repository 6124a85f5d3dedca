"""What trainers of a tiny policy share: their arguments, bands, prompts and rewards, their gradients and logs."""

import torch
from datasets import Dataset
from transformers import TrainerCallback

import entrocraft as ec
from entrocraft.control.course import Course

NUM_PROMPTS, NUM_ROLLOUTS, NUM_TOKENS = 4, 4, 6
# Arguments of every trainer in these tests.
COMMON = {
    "num_generations": NUM_ROLLOUTS,
    "max_completion_length": NUM_TOKENS,
    "beta": 0.0,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}
LOW = {"lower": 0.0, "upper": 1e-6}  # entropy is always above this band: m = +1
HIGH = {"lower": 50.0, "upper": 51.0}  # and always below this one: m = -1


def digits_reward(completions, **kwargs):
    """A reward with many values, so that groups rarely agree: the share of even digits, roughly."""
    return [sum(character in "02468(" for character in text) / 3 for text in completions]


def digit_prompts():
    """Return prompts that the tiny policy can read."""
    return Dataset.from_dict({"prompt": [f"{a},{b},1,2={a}{b}:" for a in "123456" for b in "4567"]})


def controller_of(method, band=None):
    """Return a controller in which a method made by the test decides."""
    return ec.Controller(Course(band or ec.Band(0.5, width=0.1)), method, type(method).__name__)


class GradientRecorder(TrainerCallback):
    """Keeps a copy of the gradients of each optimizer step, before they are clipped away."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


def assert_same_gradients(ours, reference, atol=1e-6):
    assert len(ours.gradients.steps) == len(reference.gradients.steps) > 0
    # Of one mini-batch nothing may be left to learn from; of all of them something is.
    assert any(gradient.abs().max() > 1e-4 for theirs in reference.gradients.steps for gradient in theirs.values())
    for mine, theirs in zip(ours.gradients.steps, reference.gradients.steps, strict=True):
        assert mine.keys() == theirs.keys() and mine
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], atol=atol, rtol=1e-4, msg=name)


def train_logs(trainer):
    """Return the log lines of optimizer steps."""
    return [line for line in trainer.state.log_history if "loss" in line]
