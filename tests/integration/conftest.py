"""A tiny random policy over the embedded tokenizer, and trainers on it that finish in a second."""

import pytest
import torch
from support.trainers import COMMON, NUM_PROMPTS, NUM_ROLLOUTS, GradientRecorder, digit_prompts, digits_reward
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from entrocraft.models import resolve_model


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
