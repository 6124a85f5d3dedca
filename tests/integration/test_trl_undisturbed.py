"""The TRL engine against TRL itself: same numbers where nothing is rejected, and measuring disturbs nothing."""

from dataclasses import replace

import pytest
import torch
from support.predictions import logits_of
from support.trainers import HIGH, NUM_PROMPTS, NUM_ROLLOUTS, train_logs
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer, with_entropy_control

WIDE = EntropyControl(lower=0.0, upper=100.0, method="predicted")  # in band it keeps everything


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(EntropyControlledGRPOTrainer, GRPOTrainer), (EntropyControlledRLOOTrainer, RLOOTrainer)],
)
def test_a_band_that_holds_everything_gives_trls_own_trajectory_to_the_bit(make_trainer, ours, theirs):
    config = {"max_steps": 3}
    controlled = make_trainer(ours, config=config, entropy_control=WIDE)
    controlled.train()
    plain = make_trainer(theirs, config=config)  # building a trainer seeds the random state anew
    plain.train()
    for mine, reference in zip(train_logs(controlled), train_logs(plain), strict=True):
        # Where nothing is clipped, as here, transformers 5.0 logs no norm of the gradient.
        for name in ("loss", "reward", "entropy", *reference.keys() & {"grad_norm"}):
            assert mine[name] == reference[name], name
    for mine, reference in zip(controlled.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, reference)


def test_a_kl_penalty_in_the_advantages_stays_where_all_rewards_are_equal(make_trainer):
    class EquallyRewarded(RLOOTrainer):
        def _calculate_rewards(self, *args, **kwargs):
            rewards = super()._calculate_rewards(*args, **kwargs)
            return rewards if self.state.global_step == 0 else torch.ones_like(rewards)

    # From the second step on, advantages are nothing but the penalty.
    config = {"beta": 0.01, "max_steps": 3, "learning_rate": 1e-3}
    weights = []
    controlled = with_entropy_control(EquallyRewarded)
    for trainer_class, options in ((controlled, {"entropy_control": WIDE}), (EquallyRewarded, {})):
        trainer = make_trainer(trainer_class, config=config, **options)
        trainer.train()
        weights.append([parameter.detach().clone() for parameter in trainer.model.parameters()])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*weights, strict=True))


def test_measuring_entropy_does_not_disturb_dropout(make_trainer, tiny_model):
    losses = []
    for trainer_class, options in ((EntropyControlledGRPOTrainer, {"entropy_control": WIDE}), (GRPOTrainer, {})):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.3)
        trainer = make_trainer(trainer_class, model=model, config={"max_steps": 2}, **options)
        trainer.train()
        losses.append([line["loss"] for line in train_logs(trainer)])
    assert losses[0] == losses[1]


def test_entropy_is_the_policys_on_this_batch_before_the_update(make_trainer):
    seen = {}

    class Watching(EntropyControlledGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            with torch.no_grad():
                logits = logits_of(self.model, batch, 0.7)
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            seen["entropy"] = (entropy * batch["completion_mask"]).sum() / batch["completion_mask"].sum()
            return batch

    trainer = make_trainer(Watching, config={"temperature": 0.7}, entropy_control=WIDE)
    trainer.train()
    assert train_logs(trainer)[0]["entrocraft/entropy"] == pytest.approx(seen["entropy"].item(), abs=1e-5)


@pytest.mark.parametrize(
    ("trainer_class", "config", "added"),
    [
        (GRPOTrainer, {"max_steps": 3}, 2),  # one update per batch: TRL scores nothing before it; 1 and 2 are checked
        (GRPOTrainer, {"num_iterations": 2, "max_steps": 2}, 0),
        (GRPOTrainer, {"beta": 0.1, "max_steps": 3}, 2),
        (RLOOTrainer, {}, 0),
    ],
)
def test_a_pass_is_added_only_where_trl_makes_none(make_trainer, trainer_class, config, added):
    def count(trainer_class, **kwargs):
        calls = []
        original = trainer_class._get_per_token_logps_and_entropies

        class Counting(trainer_class):
            pass

        trainer = make_trainer(Counting, config=config, **kwargs)
        forward = trainer.model.forward

        def counted(*args, **kwargs):
            if kwargs.get("fused_lm_head"):
                calls.append(1)
            return forward(*args, **kwargs)

        trainer.model.forward = counted
        trainer.train()
        assert original is trainer_class._get_per_token_logps_and_entropies
        return len(calls)

    assert count(with_entropy_control(trainer_class), entropy_control=WIDE) == count(trainer_class) + added


def test_the_exact_predictor_is_the_formula_on_the_batchs_logits(make_trainer):
    seen = {}

    class Watching(EntropyControlledGRPOTrainer):
        def _control(self, batch):
            with torch.no_grad():
                logits = logits_of(self.model, batch)
            change = ec.predicted_entropy_change(
                logits, batch["completion_ids"], batch["advantages"], batch["completion_mask"]
            )
            seen["expected"] = change >= 0
            batch, decision = super()._control(batch)
            seen["keep"] = decision.keep
            return batch, decision

    make_trainer(Watching, entropy_control=EntropyControl(**HIGH, method="predicted", predictor="exact")).train()
    assert torch.equal(seen["keep"], seen["expected"])


@pytest.mark.parametrize(
    ("name", "trainer_class", "config"),
    [
        ("grpo", GRPOTrainer, {}),
        ("dr_grpo", GRPOTrainer, {"scale_rewards": "none"}),
        ("rloo", RLOOTrainer, {"normalize_advantages": False}),
    ],
)
def test_our_estimators_agree_with_trls_own(make_trainer, name, trainer_class, config):
    class Watching(trainer_class):
        def _calculate_rewards(self, *args, **kwargs):
            self.raw = super()._calculate_rewards(*args, **kwargs)[:, 0]
            return self.raw[:, None]

        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            ours = ec.advantages.estimate(name, self.raw.view(-1, NUM_ROLLOUTS)).flatten()
            torch.testing.assert_close(batch["advantages"], ours, atol=1e-6, rtol=1e-5)
            self.compared = True
            return batch

    trainer = make_trainer(Watching, config=config)
    trainer.train()
    assert trainer.compared


def test_an_advantage_estimator_of_ours_replaces_the_trainers(make_trainer):
    seen = {}

    class Watching(EntropyControlledGRPOTrainer):
        def _control(self, batch):
            seen["rewards"] = self._rewards_per_func[:, 0].clone()
            batch, decision = super()._control(batch)
            seen["advantages"] = batch["advantages"]
            return batch, decision

    make_trainer(Watching, entropy_control=replace(WIDE, estimator="rloo")).train()
    expected = ec.advantages.estimate("rloo", seen["rewards"].view(NUM_PROMPTS, NUM_ROLLOUTS)).flatten()
    torch.testing.assert_close(seen["advantages"], expected)


def test_evaluation_is_left_alone(make_trainer, tokenizer):
    trainer = make_trainer(EntropyControlledGRPOTrainer, entropy_control=EntropyControl(**HIGH, method="advantage"))
    trainer.evaluate(eval_dataset=trainer.train_dataset.select(range(2)))
    assert trainer.entropy_controller.counts["decisions"] == 0


def test_changing_the_import_is_enough(make_trainer):
    trainer = make_trainer(EntropyControlledGRPOTrainer)
    trainer.train()
    line = train_logs(trainer)[0]
    # The default anneals from the entropy of the first batch; step 1 of 1 is the end of the line.
    assert line["entrocraft/target"] == pytest.approx(line["entrocraft/entropy"] * 0.5)
