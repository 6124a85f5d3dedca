"""Visitation on TRL is made of exact sums of squared probabilities, from passes that are made anyway."""

import pytest
import torch
from peft import LoraConfig
from support.suites import fast_first, fast_some
from support.trainers import train_logs
from trl import GRPOTrainer, RLOOTrainer

from entrocraft.control import EntropyControl
from entrocraft.dynamics import self_kernel
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.engines.trl.fused_head import CollisionRecord
from entrocraft.engines.trl.scorer import PolicyScorer, completion_logits
from entrocraft.errors import MeasurementError

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
# TRL scores the policy itself where a batch serves several updates that are not in step with it.
SCORED_BY_TRL = {"steps_per_generation": 2, "gradient_accumulation_steps": 3, "max_steps": 2}


@pytest.fixture
def held_against_logits(monkeypatch):
    """Hold all kernels that are used against brute force over the logits; return where they came from."""
    sources = []

    class Holding(PolicyScorer):
        def scores(self, batch):
            stats, trainer = super().scores(batch), self._trainer
            rows = torch.arange(len(batch["completion_ids"]))
            with torch.no_grad():
                read = completion_logits(trainer.model, trainer.model, batch, rows, trainer.temperature)
            counted = batch["completion_mask"].bool()
            torch.testing.assert_close(stats.self_kernel_BT[counted], self_kernel(*read)[counted], rtol=1e-3, atol=1e-4)
            sources.append("pass of TRL's" if stats is self._captured else "sampling or a pass")
            return stats

    monkeypatch.setattr("entrocraft.engines.trl.trainer.PolicyScorer", Holding)
    return sources


@pytest.mark.parametrize("method", fast_first("token", "budget"))
@pytest.mark.parametrize("peft_config", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("config", "source"),
    fast_some(
        2,
        [
            ({"max_steps": 2}, "sampling or a pass"),
            ({"max_steps": 2, "repetition_penalty": 1.5, "temperature": 0.7}, "sampling or a pass"),
            (SCORED_BY_TRL, "pass of TRL's"),
            (SCORED_BY_TRL | {"beta": 0.1, "temperature": 0.7}, "pass of TRL's"),
        ],
    ),
    ids=["sampling", "a pass of ours", "TRL's pass", "beside a reference"],
)
def test_kernels_are_those_of_the_logits(make_trainer, held_against_logits, config, source, peft_config, method):
    control = EntropyControl(schedule=0.5, method={"name": method, "visitation": True})
    trainer = make_trainer(
        EntropyControlledGRPOTrainer, config=config, peft_config=peft_config, entropy_control=control
    )
    base = trainer.model.get_base_model() if peft_config else trainer.model
    own = base.forward
    trainer.train()
    assert set(held_against_logits) == {source}
    assert base.forward == own  # TRL's fused layer is as TRL has made it


def test_rloo_gives_them_too(make_trainer, held_against_logits):
    control = EntropyControl(schedule=0.5, method="budget", visitation=True)
    make_trainer(with_entropy_control(RLOOTrainer), config={"max_steps": 2}, entropy_control=control).train()
    assert held_against_logits


def test_other_methods_ask_trl_for_nothing_more(make_trainer, monkeypatch):
    def unasked(*args, **kwargs):
        raise AssertionError("sums of squares were recorded that nobody needs")

    monkeypatch.setattr("entrocraft.engines.trl.scorer.recorded_collisions", unasked)
    make_trainer(EntropyControlledGRPOTrainer, config=SCORED_BY_TRL, entropy_control=0.5).train()


def test_a_trainer_that_scores_without_the_fused_layer_is_told(make_trainer):
    class Own(GRPOTrainer):
        def _get_per_token_logps_and_entropies(self, model, ids, mask, logits_to_keep, *args, **kwargs):
            return torch.zeros(len(ids), logits_to_keep), torch.ones(len(ids), logits_to_keep), None

    control = EntropyControl(schedule=0.5, method="budget", visitation=True)
    trainer = make_trainer(with_entropy_control(Own), config=SCORED_BY_TRL, entropy_control=control)
    with pytest.raises(MeasurementError, match="without TRL's fused output layer"):
        trainer.train()


def test_parts_of_a_batch_are_joined_at_the_end_of_their_rows():
    record = CollisionRecord()
    record.log_sums = [torch.tensor([[0.0, 0.5, 0.25]]).log(), torch.tensor([[0.125, 1.0]]).log()]
    torch.testing.assert_close(record.collision_probabilities(2), torch.tensor([[0.5, 0.25], [0.125, 1.0]]))


def test_token_learns_one_gain_for_both_parts(make_trainer):
    control = EntropyControl(schedule=50.0, method="token", visitation=True)
    trainer = make_trainer(EntropyControlledGRPOTrainer, config={"max_steps": 3}, entropy_control=control)
    trainer.train()
    assert train_logs(trainer)[-1]["entrocraft/gain_0"] > 0
