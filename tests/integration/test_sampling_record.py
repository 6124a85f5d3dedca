"""What is noted down while transformers samples is what a pass over the batch gives, and is used only where it is."""

import logging

import pytest
import torch
from conftest import train_logs
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback

from entrocraft.control import EntropyControl
from entrocraft.engines.measuring import completion_logits
from entrocraft.engines.trl import EntropyControlledGRPOTrainer


class Comparing(EntropyControlledGRPOTrainer):
    """Holds the scores that are used against those of a pass."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pairs, self.passes = [], 0

    def _pass(self, batch):
        self.passes += 1
        return super()._pass(batch)

    def _policy_scores(self, batch):
        scores, mask = super()._policy_scores(batch), batch["completion_mask"].bool()
        used = self.passes
        self.pairs.append((dict(vars(scores)), vars(self._pass(batch)), mask))
        self.passes = used
        return scores

    def assert_equal(self):
        for used, passed, mask in self.pairs:
            assert used.keys() == passed.keys()
            for name in used:
                assert (used[name] is None) == (passed[name] is None)
                if used[name] is not None:
                    torch.testing.assert_close(used[name][mask], passed[name][mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("predictor", ["estimate", "exact"])
@pytest.mark.parametrize("config", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.8}, {"num_generations": 2}])
def test_what_is_noted_is_what_a_pass_gives_and_is_checked_at_powers_of_two(make_trainer, config, predictor):
    control = EntropyControl(schedule=0.5, rule="predicted", predictor=predictor)
    trainer = make_trainer(Comparing, config=config | {"max_steps": 3}, entropy_control=control)
    trainer.train()
    trainer.assert_equal()
    assert len(trainer.pairs) == 3
    assert trainer.passes == 2
    assert "generate" not in vars(trainer.model)
    assert (trainer.pairs[0][0]["sensitivity_BT"] is None) == (predictor == "estimate")


def test_rows_of_unequal_length_are_told_apart_from_their_padding(make_trainer, tiny_model, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] += model.lm_head.weight.norm() / 20  # some rows end early
    trainer = make_trainer(Comparing, model=model, config={"max_steps": 3}, entropy_control=0.5)
    trainer.train()
    lengths = torch.cat([mask.sum(-1) for *_, mask in trainer.pairs])
    assert lengths.min() < lengths.max()
    trainer.assert_equal()
    assert trainer.passes == 2


@pytest.mark.parametrize(
    "config", [{"repetition_penalty": 1.5}, {"generation_kwargs": {"suppress_tokens": [3, 4, 5, 6, 7, 8]}}]
)
def test_settings_that_change_logits_before_sampling_are_found_out(make_trainer, caplog, config):
    trainer = make_trainer(Comparing, config=config | {"max_steps": 2}, entropy_control=0.5)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    trainer.assert_equal()
    assert trainer.passes == 3  # one to compare with, then one a step
    assert [record for record in caplog.records if "each batch gets a pass of its own" in record.message]


def test_a_batch_that_was_not_sampled_in_one_go_gets_a_pass(make_trainer):
    class TwoTurns(Comparing):
        def _generate_single_turn(self, *args, **kwargs):
            completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
            super()._generate_single_turn(*args, **kwargs)  # the second is what is noted, the first what is trained on
            return completion_ids, logprobs

    trainer = make_trainer(TwoTurns, config={"max_steps": 2}, entropy_control=0.5)
    trainer.train()
    trainer.assert_equal()
    assert trainer.passes == 2


def test_what_changes_logits_only_later_is_found_out_later(make_trainer, caplog):
    class Penalising(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                trainer.generation_config.repetition_penalty = 1.5

    trainer = make_trainer(Comparing, config={"max_steps": 5}, callbacks=[Penalising()], entropy_control=0.5)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.passes == 2 + 2 + 1  # checked at 1, 2 and 4, then one for 4 itself and one for 5
    assert len([record for record in caplog.records if "each batch gets a pass of its own" in record.message]) == 1


def test_dropout_that_cannot_show_at_first_is_not_trusted(make_trainer):
    # LoRA's second factor is 0 before the first update, whatever dropout does to the first.
    lora = LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_trainer(Comparing, config={"max_steps": 3}, peft_config=lora, entropy_control=0.5)
    trainer.train()
    assert trainer.passes == 3


def test_lora_without_dropout_needs_no_pass_either(make_trainer):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_trainer(Comparing, config={"max_steps": 3}, peft_config=lora, entropy_control=0.5)
    trainer.train()
    trainer.assert_equal()
    assert trainer.passes == 2


def test_completions_padded_wider_than_they_were_sampled(make_trainer):
    trainer = make_trainer(Comparing, config={"max_steps": 3, "pad_to_multiple_of": 8}, entropy_control=0.5)
    trainer.train()
    assert trainer.pairs[0][-1].shape[1] == 8
    trainer.assert_equal()
    assert trainer.passes == 2


def test_beams_are_no_record(make_trainer):
    config = {"max_steps": 2, "generation_kwargs": {"num_beams": 2}}
    trainer = make_trainer(Comparing, config=config, entropy_control=0.5)
    trainer.train()
    trainer.assert_equal()
    assert trainer.passes == 2


@pytest.mark.parametrize("can_leave_out", [True, False])
def test_logits_of_the_prompt_are_left_out_where_the_model_can(tiny_model, can_leave_out):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    seen = []

    class Other(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return model(input_ids=input_ids, attention_mask=attention_mask)

    asked = model if can_leave_out else Other()
    ids = torch.randint(3, 10, (4, 9))
    batch = {
        "prompt_ids": ids[:, :5],
        "prompt_mask": torch.ones(4, 5),
        "completion_ids": ids[:, 5:],
        "completion_mask": torch.ones(4, 4),
    }

    def forward(**inputs):
        output = asked(**inputs)
        seen.append(output.logits.shape[1])
        return output

    logits, tokens = completion_logits(forward, asked, batch, torch.tensor([1, 3]), temperature=2.0)
    assert seen == [5 if can_leave_out else 9]
    assert torch.equal(tokens, ids[[1, 3], 5:])
    torch.testing.assert_close(logits, model(ids[[1, 3]]).logits[:, 4:8] / 2.0, rtol=1e-4, atol=1e-5)


def test_half_precision_agrees_well_enough_to_be_trusted(make_trainer):
    trainer = make_trainer(Comparing, config={"max_steps": 3, "bf16": True}, entropy_control=0.5)
    trainer.train()
    assert trainer.passes == 2
    for used, passed, mask in trainer.pairs:
        assert abs((used["entropy_BT"] - passed["entropy_BT"])[mask].mean()) < 0.005
    assert train_logs(trainer)[-1]["entrocraft/entropy"] > 0
