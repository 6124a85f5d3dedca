"""What the TRL engine leaves out is as if TRL's own trainer were masked by hand, whatever the loss and the batches."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.masking import ROW_LOSSES, TOKEN_LOSSES, MaskedByHand, by_hand
from support.suites import fast_first, fast_some
from support.trainers import HIGH, LOW, assert_same_gradients, controller_of, train_logs
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer, with_entropy_control


@pytest.mark.parametrize("normalize", fast_first("kept", "all"))
@pytest.mark.parametrize("loss_type", fast_some(3, [*ROW_LOSSES, *TOKEN_LOSSES]))
def test_dropping_is_masking_by_hand_for_every_loss(make_trainer, loss_type, normalize):
    # On the second iteration ratios leave 1 and the KL term has a gradient.
    config = {"loss_type": loss_type, "beta": 0.1, "num_iterations": 2, "max_steps": 2}
    config["epsilon_high"] = 5.0 if loss_type == "cispo" else None
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config=config,
        entropy_control=EntropyControl(**HIGH, method="advantage", normalize=normalize),
    )
    ours.train()
    reference = by_hand(make_trainer, lambda batch: batch["advantages"] <= 0, normalize, config)
    assert 0 < train_logs(ours)[0]["entrocraft/kept_fraction"] < 1
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize("normalize", fast_first("kept", "all"))
@pytest.mark.parametrize("direction", [1, -1])
def test_method_reward_is_the_estimator_switch_by_hand(make_trainer, direction, normalize):
    edges = LOW if direction == 1 else HIGH
    baseline = 0.7
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        entropy_control=EntropyControl(**edges, method="reward", normalize=normalize, reward_baseline=baseline),
        config={"loss_type": "grpo"},
    )
    ours.train()

    class Switched(MaskedByHand):
        def _calculate_rewards(self, *args, **kwargs):
            self.raw = super()._calculate_rewards(*args, **kwargs)
            return self.raw

        def _generate_and_score_completions(self, inputs):
            type(self).keep_rule = staticmethod(lambda batch: (self.raw[:, 0] - baseline) * direction > 0)
            batch = super()._generate_and_score_completions(inputs)
            raw = self.raw[:, 0] - baseline
            batch["advantages"] = raw.clamp(min=0) if direction == 1 else raw.clamp(max=0)
            return batch

    Switched.normalize = normalize
    reference = make_trainer(Switched, config={"loss_type": "grpo"})
    reference.train()
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize(
    "config",
    fast_some(
        3,
        [
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16},
            {"per_device_train_batch_size": 4, "steps_per_generation": 4, "max_steps": 4},
            {"num_iterations": 2, "max_steps": 2},
            {"importance_sampling_level": "sequence", "loss_type": "grpo", "num_iterations": 2, "max_steps": 2},
            {"mask_truncated_completions": True},
            {"scale_rewards": "batch", "temperature": 0.7},
        ],
    ),
    ids=lambda config: ",".join(map(str, config.values())),
)
@pytest.mark.parametrize("loss_type", fast_first("dapo", "grpo", "bnpo"))
def test_dropping_is_masking_by_hand_for_every_geometry(make_trainer, config, loss_type):
    config = {"loss_type": loss_type} | config
    ours = make_trainer(
        EntropyControlledGRPOTrainer, config=config, entropy_control=EntropyControl(**LOW, method="advantage")
    )
    ours.train()
    reference = by_hand(make_trainer, lambda batch: batch["advantages"] >= 0, "kept", config)
    assert 0 < train_logs(ours)[0]["entrocraft/kept_fraction"] < 1
    assert_same_gradients(ours, reference, atol=2e-6)


@pytest.mark.parametrize("loss_type", fast_first("grpo", "dapo", "bnpo"))
def test_what_tools_wrote_counts_neither_for_entropy_nor_for_the_loss(make_trainer, loss_type):
    def add_tool_mask(batch):
        batch["tool_mask"] = torch.ones_like(batch["completion_mask"])
        batch["tool_mask"][:, 1:3] = 0
        return batch

    class WithTools(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            return add_tool_mask(super()._generate_and_score_completions(inputs))

    class Reference(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = add_tool_mask(super()._generate_and_score_completions(inputs))
            keep, counted = batch["advantages"] >= 0, (batch["completion_mask"] * batch["tool_mask"]).sum(-1)
            factor = len(keep) / keep.sum() if loss_type == "grpo" else counted.sum() / counted[keep].sum()
            batch["advantages"] = batch["advantages"] * keep * factor
            return batch

    ours = make_trainer(
        with_entropy_control(WithTools),
        config={"loss_type": loss_type},
        entropy_control=EntropyControl(**LOW, method="advantage"),
    )
    ours.train()
    reference = make_trainer(Reference, config={"loss_type": loss_type})
    reference.train()
    assert_same_gradients(ours, reference)
    # TRL's metric is over the counted tokens of all rows in the reference.
    assert train_logs(ours)[0]["entrocraft/entropy"] == pytest.approx(train_logs(reference)[0]["entropy"], abs=1e-5)


def test_masking_and_dropping_agree_where_there_is_no_kl(make_trainer):
    settings = {**HIGH, "method": "advantage"}
    trainers = []
    for rejected in ("drop", "mask"):
        trainer = make_trainer(
            EntropyControlledGRPOTrainer, entropy_control=EntropyControl(**settings, rejected=rejected)
        )
        trainer.train()
        trainers.append(trainer)
    assert_same_gradients(*trainers)


def test_masked_rollouts_still_feel_the_kl_term_and_dropped_ones_do_not(make_trainer):
    gradients = []
    for rejected in ("drop", "mask"):
        config = {"beta": 0.5, "num_iterations": 2, "max_steps": 2}  # the KL gradient is 0 at the reference itself
        trainer = make_trainer(
            EntropyControlledGRPOTrainer,
            config=config,
            entropy_control=EntropyControl(**HIGH, method="advantage", rejected=rejected),
        )
        trainer.train()
        gradients.append(trainer.gradients.steps[1]["lm_head.weight"])
    assert not torch.allclose(*gradients, atol=1e-5)


def test_rloo_drops_as_masking_by_hand(make_trainer):
    ours = make_trainer(
        EntropyControlledRLOOTrainer, entropy_control=EntropyControl(**HIGH, method="advantage", normalize="kept")
    )
    ours.train()

    class Reference(RLOOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            keep = batch["advantages"] <= 0
            batch["advantages"] = batch["advantages"] * keep * (len(keep) / keep.sum())
            return batch

    reference = make_trainer(Reference)
    reference.train()
    assert_same_gradients(ours, reference)


def test_lora_adapters_train_as_masked_by_hand(make_trainer, tiny_model):
    def lora():
        torch.manual_seed(1)
        return get_peft_model(
            AutoModelForCausalLM.from_pretrained(tiny_model),
            LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False),
        )

    config = {"beta": 0.1, "loss_type": "dapo"}
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        model=lora(),
        config=config,
        entropy_control=EntropyControl(**LOW, method="advantage"),
    )
    ours.train()
    reference = by_hand(make_trainer, lambda batch: batch["advantages"] >= 0, "kept", config, model=lora())
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize("loss_type", fast_first("dapo", "grpo", "bnpo"))
def test_trls_entropy_bonus_is_not_scaled_by_what_was_rejected(make_trainer, loss_type):
    class KeepTheFirstTwo(ec.Method):
        def decide(self, batch, goal):
            keep = torch.arange(len(batch.advantages)) < 2
            return ec.Decision(keep=keep, advantages=torch.zeros_like(batch.advantages))

    config = {"loss_type": loss_type, "entropy_coef": 0.1}
    ours = make_trainer(
        EntropyControlledGRPOTrainer, config=config, entropy_controller=controller_of(KeepTheFirstTwo())
    )
    ours.train()

    class Reference(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            batch["advantages"] = torch.zeros_like(batch["advantages"])
            batch["completion_mask"][2:] = 0  # the bonus is a mean over the kept rows' tokens
            return batch

    reference = make_trainer(Reference, config=config)
    reference.train()
    assert_same_gradients(ours, reference)


def test_token_level_advantages_of_a_subclass_survive(make_trainer):
    class TokenLevel(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            position = torch.arange(batch["completion_ids"].shape[1])
            batch["advantages"] = batch["advantages"][:, None] / (1 + position)
            return batch

    ours = make_trainer(with_entropy_control(TokenLevel), entropy_control=EntropyControl(**HIGH, method="advantage"))
    ours.train()

    class Reference(TokenLevel):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            keep, tokens = batch["advantages"][:, 0] <= 0, batch["completion_mask"].sum(-1)
            batch["advantages"] = batch["advantages"] * keep[:, None] * tokens.sum() / tokens[keep].sum()
            return batch

    reference = make_trainer(Reference)
    reference.train()
    assert_same_gradients(ours, reference)
