"""A temperature that moves on TRL: each batch is sampled and scored at the same one, and nothing else feels it."""

import math
import warnings

import pytest
import torch
from support.trainers import assert_same_gradients, controller_of, digit_prompts, train_logs
from transformers import GenerationMixin
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.engines.trl.temperature import at_temperature
from entrocraft.entropy import token_entropy, token_log_probs
from entrocraft.errors import InvalidValueError

WIDE = ec.Band(lower=0.0, upper=100.0)
OWN = 0.9
MOVING = {"schedule": 3.0, "method": {"name": "adaptive_temperature", "vocabulary": 24}}
"""Entropy is far below: each batch is sampled hotter than the last one."""


class Fixed(ec.Method):
    """Decides on the same temperature, always."""

    turns = frozenset({"temperature"})

    def __init__(self, temperature: float = 0.7):
        self.temperature = temperature

    def decide(self, batch, goal):
        self.seen = batch.temperature
        return ec.Decision.everything(batch, knobs={"temperature": self.temperature})


@pytest.fixture
def sampled_at(monkeypatch):
    """Return a list to which each call of `generate` adds the temperature it gets."""
    temperatures, generate = [], GenerationMixin.generate

    def recorded(self, *args, **kwargs):
        temperatures.append(kwargs["generation_config"].temperature)
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", recorded)
    return temperatures


def same_weights(mine, theirs):
    return all(torch.equal(a, b) for a, b in zip(mine.model.parameters(), theirs.model.parameters(), strict=True))


# ---- sampled and scored at the same temperature ------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer_class", "config"),
    [
        (GRPOTrainer, {"max_steps": 3}),
        (GRPOTrainer, {"max_steps": 4, "num_iterations": 2, "beta": 0.1}),
        (GRPOTrainer, {"max_steps": 4, "steps_per_generation": 2, "per_device_train_batch_size": 8}),
        (GRPOTrainer, {"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}),
        (GRPOTrainer, {"max_steps": 2, "entropy_coef": 0.05}),
        (RLOOTrainer, {"max_steps": 3, "beta": 0.05}),
    ],
    ids=["grpo", "iterations and KL", "mini-batches", "micro-batches", "bonus", "rloo"],
)
def test_a_run_at_a_temperature_that_was_decided_is_trls_own_at_that_temperature(make_trainer, trainer_class, config):
    method = Fixed(0.7)
    controller = controller_of(method, WIDE)
    controller.temperature = 0.7  # as if resumed: the first batch is sampled at it, too
    ours = make_trainer(with_entropy_control(trainer_class), config=config, entropy_controller=controller)
    ours.train()
    reference = make_trainer(trainer_class, config=config | {"temperature": 0.7})
    reference.train()
    assert_same_gradients(ours, reference, atol=0.0)
    assert same_weights(ours, reference) and method.seen == 0.7
    assert [line["loss"] for line in train_logs(ours)] == [line["loss"] for line in train_logs(reference)]

    plain = make_trainer(trainer_class, config=config)
    plain.train()
    assert not same_weights(ours, plain)


@pytest.mark.slow
def test_the_same_holds_of_an_adapter_whose_reference_is_the_model_without_it(make_trainer):
    from peft import LoraConfig

    adapter = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)}
    config = {"max_steps": 2, "beta": 0.1, "num_iterations": 2}
    controller = controller_of(Fixed(0.7), WIDE)
    controller.temperature = 0.7
    torch.manual_seed(3)
    ours = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_controller=controller, **adapter)
    ours.train()
    torch.manual_seed(3)
    reference = make_trainer(GRPOTrainer, config=config | {"temperature": 0.7}, **adapter)
    reference.train()
    assert_same_gradients(ours, reference, atol=0.0)


class Watching(GRPOTrainer):
    """Keeps, of every pass that scores, what it gave and the logits of the same model on the same tokens."""

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        log_probs, entropies, aux_loss = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        with torch.no_grad():
            logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, -logits_to_keep - 1 : -1]
        row = {"log_probs": log_probs.detach(), "entropies": entropies, "logits": logits}
        row |= {"tokens": input_ids[:, -logits_to_keep:], "mask": attention_mask[:, -logits_to_keep:].bool()}
        self.passes.append(row | {"batch": len(self.sampled_at), "is_loss": log_probs.requires_grad})
        return log_probs, entropies, aux_loss


@pytest.mark.slow
def test_every_pass_over_a_batch_is_at_the_temperature_that_it_was_sampled_at(make_trainer, sampled_at):
    ours = make_trainer(
        with_entropy_control(Watching),
        config={"temperature": OWN, "max_steps": 12, "num_iterations": 2, "steps_per_generation": 2, "beta": 0.1}
        | {"per_device_train_batch_size": 8},
        entropy_control=MOVING,
    )
    ours.passes, ours.sampled_at = [], sampled_at
    ours.train()
    assert sampled_at[0] == OWN and len(sampled_at) == 3 and sampled_at == sorted(set(sampled_at))

    for row in ours.passes:
        scaled, mask = row["logits"] / sampled_at[row["batch"] - 1], row["mask"]
        torch.testing.assert_close(row["log_probs"][mask], token_log_probs(scaled, row["tokens"])[mask])
        if row["entropies"] is not None:
            torch.testing.assert_close(row["entropies"].detach()[mask], token_entropy(scaled)[mask])
        elsewhere = token_log_probs(row["logits"] / sampled_at[row["batch"] % 3], row["tokens"])
        assert (row["log_probs"] - elsewhere)[mask].abs().max() > 0.05  # another batch's temperature would show
    # 2 x 2 updates on each batch, and before them the policy and its reference.
    for batch in (1, 2, 3):
        assert [row["is_loss"] for row in ours.passes if row["batch"] == batch] == [False] * 2 + [True] * 4

    # The temperature of each batch follows from the one before it and its entropy, and is logged beside that.
    lines = train_logs(ours)
    scale = math.log(24) + math.log(math.log(24))
    for number, expected in enumerate(sampled_at):
        steps = lines[4 * number : 4 * number + 4]
        assert [line["entrocraft/temperature"] for line in steps] == [expected] * 4
        entropy = steps[0]["entrocraft/entropy"]
        following = expected * (1 + expected * math.log(3.0 / entropy) / scale)
        assert ([*sampled_at, ours.entropy_controller.temperature])[number + 1] == pytest.approx(following, rel=1e-6)
    assert (ours.temperature, ours.generation_config.temperature, ours.generation_kwargs["temperature"]) == (OWN,) * 3


@pytest.mark.slow
def test_what_is_noted_while_sampling_is_what_passes_give_at_the_same_temperature(make_trainer, sampled_at):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = make_trainer(EntropyControlledGRPOTrainer, config={"max_steps": 5}, entropy_control=MOVING)
        ours.train()
    assert ours._scorer._record.trusted and len(set(sampled_at)) == 5  # compared with passes at steps 1, 2 and 4


# ---- nothing else feels it ---------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluation_samples_and_scores_at_the_trainers_own_temperature(make_trainer, sampled_at):
    ours = make_trainer(
        with_entropy_control(Watching),
        config={"temperature": OWN, "max_steps": 2, "per_device_eval_batch_size": 8},
        entropy_control=MOVING,
        eval_dataset=digit_prompts().select(range(2)),
    )
    ours.passes, ours.sampled_at = [], sampled_at
    ours.train()
    assert ours.entropy_controller.temperature > OWN
    ours.passes.clear()
    sampled_at.clear()
    ours.evaluate()
    assert set(sampled_at) == {OWN} and ours.passes
    for row in ours.passes:
        expected = token_log_probs(row["logits"] / OWN, row["tokens"])
        torch.testing.assert_close(row["log_probs"][row["mask"]], expected[row["mask"]])


@pytest.mark.slow
def test_a_temperature_that_stays_the_trainers_own_changes_nothing(make_trainer):
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config={"temperature": 0.7, "max_steps": 3},
        entropy_controller=controller_of(Fixed(0.7), WIDE),
    )
    ours.train()
    plain = make_trainer(GRPOTrainer, config={"temperature": 0.7, "max_steps": 3})
    plain.train()
    assert same_weights(ours, plain)


@pytest.mark.slow
def test_a_run_that_resumes_goes_on_at_the_temperature_it_had_reached(make_trainer, sampled_at):
    config = {"temperature": OWN, "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "num_iterations": 2}
    whole = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=MOVING)
    whole.train()
    first = sampled_at.copy()
    sampled_at.clear()
    resumed = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=MOVING)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    assert len(first) == 3 and sampled_at == first[1:] and first[1] != OWN
    assert same_weights(whole, resumed)
    assert resumed.entropy_controller.state_dict() == whole.entropy_controller.state_dict()
    ours, theirs = (
        [{name: v for name, v in line.items() if name.startswith("entrocraft/")} for line in train_logs(trainer)]
        for trainer in (resumed, whole)
    )
    assert ours == theirs


# ---- vLLM, and what cannot be carried out ------------------------------------------------------------


class Sampler:
    temperature = None


def test_vllm_is_told_for_the_duration_and_a_failure_leaves_no_trace(make_trainer):
    trainer = make_trainer(EntropyControlledGRPOTrainer, config={"temperature": OWN, "beta": 0.1})
    trainer.vllm_generation = Sampler()
    trainer.vllm_generation.temperature = OWN
    own = [model.forward for model in (trainer.model, trainer.ref_model)]

    def seen():
        settings = trainer.generation_kwargs["temperature"], trainer.generation_config.temperature
        return {trainer.temperature, trainer.vllm_generation.temperature, *settings}

    with pytest.raises(RuntimeError, match="out of memory"), at_temperature(trainer, 1.5):
        assert seen() == {1.5}
        raise RuntimeError("out of memory")
    assert seen() == {OWN}
    assert [model.forward for model in (trainer.model, trainer.ref_model)] == own


@pytest.mark.parametrize("trainer_class", [GRPOTrainer, RLOOTrainer])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"torch_compile": True}, "sets temperature, which TRL's .* cannot: torch_compile"),
        ({"generation_kwargs": {"temperature": 0.7}}, "sets temperature, which TRL's .* cannot: generation_kwargs"),
    ],
    ids=["compiled", "set elsewhere"],
)
def test_a_temperature_that_cannot_be_moved_is_refused_before_the_model_loads(
    make_trainer, trainer_class, config, message
):
    with pytest.raises(InvalidValueError, match=message):
        make_trainer(with_entropy_control(trainer_class), model="no such model", config=config, entropy_control=MOVING)


def test_a_function_that_samples_in_its_own_way_is_refused(make_trainer):
    with pytest.raises(InvalidValueError, match="sets temperature, and rollout_func samples"):
        make_trainer(EntropyControlledGRPOTrainer, model="no such model", entropy_control=MOVING, rollout_func=print)
