"""Predictions along the whole model's gradient on TRL: those of the whole batch at once, and no trace is left."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.predictions import WIDE, Asking, Watching, logits_of
from support.suites import fast_some
from support.trainers import HIGH, controller_of, train_logs
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer

from entrocraft.control import EntropyControl
from entrocraft.dynamics.whole_model import ascent_step
from entrocraft.engines.trl.whole_model import WholeModelPredictor
from entrocraft.entropy import token_entropy, token_log_probs


def log_probs_with_gradient(model, batch):
    with torch.enable_grad():
        return token_log_probs(logits_of(model, batch, 0.7), batch["completion_ids"])


def gradients_of(scalar, parameters):
    return torch.autograd.grad(scalar, parameters, retain_graph=True)


def lora(tiny_model):
    torch.manual_seed(1)
    return get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )


RECOMPUTED = {
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}


@pytest.mark.parametrize(
    ("peft", "micro_batch_size", "more"),
    fast_some(
        2,
        [
            (False, 4, {}),
            (False, 16, {}),
            (True, 16, {}),
            (False, 4, RECOMPUTED),
            (False, 4, RECOMPUTED | {"gradient_checkpointing_kwargs": {"use_reentrant": True}}),
            (True, 4, RECOMPUTED),
        ],
    ),
    ids=["micro", "whole", "peft", "recomputed", "reentrant", "peft-recomputed"],
)
def test_aligned_predictions_are_those_of_the_whole_batch_at_once(
    make_trainer, tiny_model, peft, micro_batch_size, more
):
    method = Asking()
    trainer = make_trainer(
        Watching,
        model=lora(tiny_model) if peft else AutoModelForCausalLM.from_pretrained(tiny_model),
        config={
            "learning_rate": 1e-3,
            "max_steps": 2,  # at the second step Adam has a state
            "temperature": 0.7,
            "per_device_train_batch_size": micro_batch_size,
            "gradient_accumulation_steps": 16 // micro_batch_size,
            **more,
        },
        entropy_control=EntropyControl(method="aligned"),
        entropy_controller=controller_of(method, WIDE),
    )
    expected = {}

    class Independent(Watching):
        """Not the engine's way: the entropy gradient from one scalar, and each rollout's own gradient along it."""

        def _control(self, batch):
            parameters = [p for p in self.model.parameters() if p.requires_grad]
            mask = batch["completion_mask"]
            self.model.eval()
            with torch.enable_grad():
                logits = logits_of(self.model, batch, 0.7)
                entropy, log_probs = token_entropy(logits), token_log_probs(logits, batch["completion_ids"])
                sums = (entropy * mask).sum(-1)
                excess = (sums - sums.sum() / mask.sum() * mask.sum(-1)).detach()
                total = sums.sum() + (excess * (log_probs * mask).sum(-1)).sum()
                gradients = torch.autograd.grad(total, parameters)
            steps = ascent_step(gradients, parameters, getattr(self.optimizer, "optimizer", self.optimizer), 1e-3)
            rollouts = (log_probs_with_gradient(self.model, batch) * mask).sum(-1)
            rise = [
                sum((g * step).sum() for g, step in zip(gradients_of(rollout, parameters), steps, strict=True))
                for rollout in rollouts
            ]
            self.model.train()
            expected[self.state.global_step] = batch["advantages"] * torch.stack(rise)
            for p in parameters:
                p.grad = None
            return super()._control(batch)

    trainer.__class__ = Independent
    trainer.train()
    assert expected[1].abs().max() > 0
    torch.testing.assert_close(method.predicted.float(), expected[1], rtol=5e-3, atol=1e-5)  # differences of float32


def test_weights_gradients_and_mode_are_as_before_after_scoring(make_trainer, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.3)
    trainer = make_trainer(
        Watching, model=model, config={"max_steps": 2}, entropy_control=EntropyControl(**HIGH, method="aligned")
    )
    trainer.train()
    assert trainer.model.training
    assert all(torch.equal(a, b) for a, b in zip(trainer.before, trainer.after, strict=True))
    assert 0 < train_logs(trainer)[-1]["entrocraft/kept_fraction"] < 1


def test_gradients_are_synchronised_after_every_pass_where_fsdp2_would_put_it_off(make_trainer, monkeypatch):
    """Or those of a direction, taken while gradients accumulate, would be among them. There is no FSDP on CPU."""
    trainer = make_trainer(GRPOTrainer, config={"gradient_accumulation_steps": 2})
    accumulation = trainer.accelerator.gradient_state.plugin_kwargs
    WholeModelPredictor(trainer, None, 1.0)
    assert not accumulation.get("sync_each_batch", False)
    monkeypatch.setattr(trainer, "is_fsdp_enabled", True)
    monkeypatch.setattr(type(trainer.accelerator), "is_fsdp2", True)
    WholeModelPredictor(trainer, None, 1.0)
    assert accumulation["sync_each_batch"]
