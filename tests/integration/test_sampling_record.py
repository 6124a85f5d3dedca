"""What is recorded while transformers samples is what a pass over the batch gives, and is used only where it is."""

import functools
import logging

import pytest
import torch
from peft import LoraConfig
from support.suites import fast_first
from transformers import AutoModelForCausalLM, TrainerCallback

from entrocraft.control import EntropyControl
from entrocraft.engines.tokens import TokenStats
from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.engines.trl.sampling_record import SamplingRecord
from entrocraft.engines.trl.scorer import PolicyScorer, completion_logits


class ComparingScorer(PolicyScorer):
    """Counts the passes, and holds the scores that are used against those of a pass."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pairs, self.passes = [], 0

    def passed(self, batch):
        self.passes += 1
        return super().passed(batch)

    def scores(self, batch):
        scores, mask = super().scores(batch), batch["completion_mask"].bool()
        self.pairs.append((dict(vars(scores)), vars(super().passed(batch)), mask))
        return scores

    def assert_equal(self):
        for used, passed, mask in self.pairs:
            assert used.keys() == passed.keys()
            for name in used:
                assert (used[name] is None) == (passed[name] is None)
                if used[name] is not None:
                    torch.testing.assert_close(used[name][mask], passed[name][mask], rtol=1e-4, atol=1e-5)


@pytest.fixture
def compared(make_trainer, monkeypatch):
    """Return a factory of trainers that have trained; each gives its scorer."""
    monkeypatch.setattr("entrocraft.engines.trl.trainer.PolicyScorer", ComparingScorer)

    def train(trainer_class=EntropyControlledGRPOTrainer, **kwargs):
        trainer = make_trainer(trainer_class, **{"entropy_control": 0.5} | kwargs)
        trainer.train()
        return trainer._scorer

    return train


@pytest.mark.parametrize("visitation", [False, True])
@pytest.mark.parametrize("predictor", ["estimate", "exact"])
@pytest.mark.parametrize(
    "config", fast_first({"temperature": 0.7, "top_k": 5, "top_p": 0.8}, {}, {"num_generations": 2})
)
def test_what_is_recorded_is_what_a_pass_gives_and_is_checked_at_powers_of_two(compared, config, predictor, visitation):
    control = EntropyControl(schedule=0.5, method="predicted", predictor=predictor, visitation=visitation)
    scorer = compared(config=config | {"max_steps": 3}, entropy_control=control)
    scorer.assert_equal()
    assert len(scorer.pairs) == 3
    assert scorer.passes == 2
    assert "generate" not in vars(scorer._trainer.model)
    used = scorer.pairs[0][0]
    assert (used["sensitivity_BT"] is None) == (predictor == "estimate")
    assert (used["self_kernel_BT"] is None) == (predictor == "estimate" and not visitation)


def test_rows_of_unequal_length_are_told_apart_from_their_padding(compared, tiny_model, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] += model.lm_head.weight.norm() / 20  # some rows end early
    scorer = compared(model=model, config={"max_steps": 3})
    lengths = torch.cat([mask.sum(-1) for *_, mask in scorer.pairs])
    assert lengths.min() < lengths.max()
    scorer.assert_equal()
    assert scorer.passes == 2


@pytest.mark.parametrize(
    "config", [{"repetition_penalty": 1.5}, {"generation_kwargs": {"suppress_tokens": [3, 4, 5, 6, 7, 8]}}]
)
def test_settings_that_change_logits_before_sampling_are_found_out(compared, caplog, config):
    with caplog.at_level(logging.WARNING):
        scorer = compared(config=config | {"max_steps": 2})
    scorer.assert_equal()
    assert scorer.passes == 3  # one to compare with, then one a step
    assert [record for record in caplog.records if "each batch gets a pass of its own" in record.message]


def test_a_batch_that_was_not_sampled_in_one_go_gets_a_pass(compared):
    class TwoTurns(EntropyControlledGRPOTrainer):
        def _generate_single_turn(self, *args, **kwargs):
            completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
            super()._generate_single_turn(*args, **kwargs)  # this is recorded, the first trained on
            return completion_ids, logprobs

    scorer = compared(TwoTurns, config={"max_steps": 2})
    scorer.assert_equal()
    assert scorer.passes == 2


def test_what_changes_logits_only_later_is_found_out_later(compared, caplog):
    class Penalising(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            if state.global_step == 2:
                model.generate = functools.partial(model.generate, repetition_penalty=1.5)

    with caplog.at_level(logging.WARNING):
        scorer = compared(config={"max_steps": 5}, callbacks=[Penalising()])
    assert scorer.passes == 2 + 2 + 1  # checked at 1, 2 and 4, then one for 4 itself and one for 5
    assert len([record for record in caplog.records if "each batch gets a pass of its own" in record.message]) == 1


def test_dropout_that_cannot_show_at_first_is_not_trusted(compared):
    # LoRA's second factor is 0 before the first update, whatever dropout does to the first.
    lora = LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear", task_type="CAUSAL_LM")
    scorer = compared(config={"max_steps": 3}, peft_config=lora)
    assert scorer.passes == 3


def test_lora_without_dropout_needs_no_pass_either(compared):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    scorer = compared(config={"max_steps": 3}, peft_config=lora)
    scorer.assert_equal()
    assert scorer.passes == 2


def test_completions_padded_wider_than_they_were_sampled(compared):
    scorer = compared(config={"max_steps": 3, "pad_to_multiple_of": 8})
    assert scorer.pairs[0][-1].shape[1] == 8
    scorer.assert_equal()
    assert scorer.passes == 2


def test_beams_are_no_record(compared):
    config = {"max_steps": 2, "generation_kwargs": {"num_beams": 2}}
    scorer = compared(config=config)
    scorer.assert_equal()
    assert scorer.passes == 2


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


@pytest.mark.parametrize(
    ("entropy", "difference", "agree"),
    [(0.4, 0.004, True), (0.4, 0.006, False), (2.0, 0.009, True), (2.0, 0.011, False)],
)
def test_entropies_agree_to_five_thousandths_of_a_nat_or_half_a_percent(entropy, difference, agree):
    log_probs_BT, entropy_BT, mask_BT = torch.full((2, 3), -1.0), torch.full((2, 3), entropy), torch.ones(2, 3)
    recorded, passed = TokenStats(log_probs_BT, entropy_BT - difference), TokenStats(log_probs_BT, entropy_BT)
    assert SamplingRecord(sensitivity=False, self_kernel=False).agrees(recorded, passed, mask_BT) is agree


def test_half_precision_agrees_well_enough_to_be_trusted(compared):
    scorer = compared(config={"max_steps": 3, "bf16": True})
    assert scorer.passes == 2
    for used, passed, mask in scorer.pairs:
        assert abs((used["entropy_BT"] - passed["entropy_BT"])[mask].mean()) < 0.005
