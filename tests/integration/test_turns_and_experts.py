"""Beyond one turn and dense models: several turns with a tool, and a mixture of experts, each along a curve."""

import importlib.util
from pathlib import Path

import pytest
import torch
from support.trainers import train_logs
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.entropy import token_entropy


@pytest.fixture
def multi_turn(monkeypatch):
    pytest.importorskip("jmespath", reason="TRL parses tool calls with it")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    path = Path(__file__).parents[2] / "benchmarks" / "multi_turn.py"
    spec = importlib.util.spec_from_file_location("multi_turn", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("method", ["token", "budget"])
def test_entropy_is_that_of_the_policys_own_tokens(multi_turn, tmp_path, monkeypatch, method):
    control = {"schedule": multi_turn.CURVE, "method": method}
    trainer = multi_turn.make_trainer(3, control, folder=str(tmp_path), per_device_train_batch_size=64)
    expected = []
    measure = EntropyControlledGRPOTrainer._control

    def by_hand(self, batch):
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        said = (batch["completion_mask"] * batch["tool_mask"]).bool()
        heard = batch["completion_mask"].bool() & ~said
        assert heard.any() and set(self.processing_class.decode(batch["completion_ids"][heard])) <= set("=-0123456789:")
        with torch.no_grad():
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, -said.shape[1] - 1 : -1]
        expected.append((token_entropy(logits)[said].mean().item(), int(said.sum())))
        return measure(self, batch)

    monkeypatch.setattr(EntropyControlledGRPOTrainer, "_control", by_hand)
    trainer.train()
    logs = train_logs(trainer)
    assert len(logs) == len(expected) == 3
    for line, (entropy, num_tokens) in zip(logs, expected, strict=True):
        assert line["entrocraft/entropy"] == pytest.approx(entropy, abs=1e-4)
        assert line["entrocraft/num_tokens"] == num_tokens
        assert line["tools/call_frequency"] == 1.0


@pytest.mark.slow
def test_a_mixture_of_experts_follows_a_curve(make_trainer, tokenizer):
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            moe_intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            initializer_range=0.4,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    settings = {"max_steps": 60, "learning_rate": 3e-3, "per_device_train_batch_size": 96, "adam_beta2": 0.95}
    control = {"schedule": "linear(1.0, 0.8, unit='initial')"}
    trainer = make_trainer(
        EntropyControlledGRPOTrainer, model=model, record=False, config=settings, entropy_control=control
    )
    trainer.train()
    logs = train_logs(trainer)
    assert "aux_loss" in logs[0]
    late = [line["entrocraft/entropy"] / line["entrocraft/target"] for line in logs[20:]]
    assert sum(abs(ratio - 1) for ratio in late) / len(late) < 0.03
    assert any(line["entrocraft/kept_token_fraction"] < 1 for line in logs)
    assert logs[-1]["reward"] > logs[0]["reward"]
