"""What the TRL engine cannot control is refused: policies that broke, unknown losses, arguments, other trainers."""

import functools

import pytest
from datasets import Dataset
from trl import GRPOTrainer, RLOOConfig, RLOOTrainer

from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.engines.trl.scorer import PolicyScorer
from entrocraft.errors import InvalidValueError, MeasurementError


def test_a_policy_that_has_broken_is_refused_with_the_step(make_trainer, monkeypatch):
    class Broken(PolicyScorer):
        def scores(self, batch):
            scores = super().scores(batch)
            scores.entropy_BT[0] = float("nan")
            return scores

    monkeypatch.setattr("entrocraft.engines.trl.trainer.PolicyScorer", Broken)
    with pytest.raises(MeasurementError, match="step 1"):
        make_trainer(EntropyControlledGRPOTrainer, entropy_control=0.5).train()


def test_a_loss_that_is_not_known_can_only_be_masked(make_trainer):
    class NewLoss(GRPOTrainer):
        pass

    control = EntropyControl(rejected="drop")
    with pytest.raises(InvalidValueError, match="loss_type='brand_new'"):
        make_trainer(with_entropy_control(NewLoss), config={"loss_type": "brand_new"}, entropy_control=control)


def test_no_update_for_a_batch_is_refused_before_trl_divides_by_it(make_trainer):
    with pytest.raises(InvalidValueError, match="num_iterations is 0: expected 1 or more"):
        make_trainer(EntropyControlledGRPOTrainer, config={"num_iterations": 0}, entropy_control=0.5)


def test_the_arguments_that_trl_fills_in_are_checked_too(tiny_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer_class = with_entropy_control(RLOOTrainer)
    # RLOOConfig's default beta is not 0, which an estimator of ours would lose.
    monkeypatch.setattr("trl.trainer.rloo_trainer.RLOOConfig", functools.partial(RLOOConfig, use_cpu=True, bf16=False))
    with pytest.raises(InvalidValueError, match=r"set beta=0\.0"):
        trainer_class(
            model=tiny_model,
            reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
            train_dataset=Dataset.from_dict({"prompt": ["1,2,3,4=5:"] * 8}),
            processing_class=tokenizer,
            entropy_control=EntropyControl(estimator="grpo"),
        )


def test_only_trainers_of_the_right_kind_can_be_controlled():
    from transformers import Trainer

    with pytest.raises(InvalidValueError, match="expected GRPOTrainer, RLOOTrainer or a subclass"):
        with_entropy_control(Trainer)
    assert with_entropy_control(EntropyControlledGRPOTrainer) is EntropyControlledGRPOTrainer
