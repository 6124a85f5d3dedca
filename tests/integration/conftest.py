"""A tiny random policy over the embedded tokenizer, and trainers on it that finish in a second."""

import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

import entrocraft as ec
from entrocraft.cli import main
from entrocraft.control.course import Course
from entrocraft.models import resolve_model

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


def digits_reward(completions, **kwargs):
    """A reward with many values, so that groups rarely agree: the share of even digits, roughly."""
    return [sum(character in "02468(" for character in text) / 3 for text in completions]


def digit_prompts():
    """Return prompts that the tiny policy can read."""
    return Dataset.from_dict({"prompt": [f"{a},{b},1,2={a}{b}:" for a in "123456" for b in "4567"]})


def run_command(*arguments):
    """Run a command line in process; raise what is neither success nor an exit status."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def controller_of(method, band=None):
    """Return a controller in which a method made by the test decides."""
    return ec.Controller(Course(band or ec.Band(0.5, width=0.1)), method, type(method).__name__)


class GradientRecorder(TrainerCallback):
    """Keeps a copy of the gradients of each optimizer step, before they are clipped away."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve_model("countdown-base"))


@pytest.fixture(scope="session")
def tiny_model(tokenizer, tmp_path_factory):
    """Return the folder of the tiny policy, from which TRL can also load a reference."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.4,  # peaked enough for entropy to have somewhere to go
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make_trainer(tiny_model, tokenizer, tmp_path):
    """Return a factory: same arguments, same weights, same data, same random numbers."""

    def make(trainer_class=GRPOTrainer, *, model=None, record=True, callbacks=(), config=None, **kwargs):
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 1,
            "per_device_train_batch_size": NUM_PROMPTS * NUM_ROLLOUTS,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "seed": 7,
        }
        config_class = RLOOConfig if issubclass(trainer_class, RLOOTrainer) else GRPOConfig
        trainer = trainer_class(
            model=AutoModelForCausalLM.from_pretrained(tiny_model) if model is None else model,
            reward_funcs=digits_reward,
            args=config_class(**COMMON | defaults | (config or {})),
            train_dataset=digit_prompts(),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            **kwargs,
        )
        if record:
            trainer.gradients = GradientRecorder()
            # First in line: before the engine's own callback may drop gradients.
            trainer.callback_handler.callbacks.insert(0, trainer.gradients)
        return trainer

    return make


def train_logs(trainer):
    """Return the log lines of optimizer steps."""
    return [line for line in trainer.state.log_history if "loss" in line]
