"""The TRL engine against TRL itself: same numbers where nothing is rejected, masking by hand where something is."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from support.suites import fast_first, fast_some
from support.trainers import NUM_PROMPTS, NUM_ROLLOUTS, controller_of, train_logs
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOTrainer, RLOOConfig, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.checkpoints import STATE_FILE
from entrocraft.engines.trl import (
    EntropyControlledGRPOTrainer,
    EntropyControlledRLOOTrainer,
    with_entropy_control,
)
from entrocraft.engines.trl.scorer import PolicyScorer
from entrocraft.errors import InvalidValueError, MeasurementError

NUM_ROWS = NUM_PROMPTS * NUM_ROLLOUTS
WIDE = EntropyControl(lower=0.0, upper=100.0, method="predicted")  # in band it keeps everything
LOW = {"lower": 0.0, "upper": 1e-6}  # entropy is always above this band: m = +1
HIGH = {"lower": 50.0, "upper": 51.0}  # and always below this one: m = -1

ROW_LOSSES, TOKEN_LOSSES = ("grpo", "dr_grpo", "sapo", "luspo"), ("dapo", "cispo", "vespo", "bnpo")


class MaskedByHand(GRPOTrainer):
    """TRL's trainer with rejected rows masked out of the loss, written apart from the engine.

    `rule(advantages, entropy_sums...)` is not asked again: the test gives the rule as a function of the
    batch, and the factor by which the loss must be scaled as a function of rows and tokens kept.
    """

    keep_rule = staticmethod(lambda batch: None)
    normalize = "kept"

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        keep = type(self).keep_rule(batch)
        tokens = batch["completion_mask"].sum(-1)
        if self.normalize == "all":
            self.factor = 1.0
        elif self.loss_type in ROW_LOSSES:
            self.factor = len(keep) / keep.sum()
        else:
            self.factor = tokens.sum() / tokens[keep].sum()
        batch["tokens_before"] = tokens
        batch["completion_mask"] = batch["completion_mask"] * keep[:, None]
        return batch

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs) * self.factor
        if self.loss_type == "bnpo":  # divides by the tokens left in the micro-batch
            loss = loss * inputs["completion_mask"].sum() / inputs["tokens_before"].sum()
        return loss


class NothingIsNoUpdate(TrainerCallback):
    """Leaves weights and Adam's momentum alone at a mini-batch of which nothing was kept, as the engine does."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None):
            model.zero_grad(set_to_none=True)


def by_hand(make_trainer, keep_rule, normalize="kept", config=None, **kwargs):
    trainer_class = type("Reference", (MaskedByHand,), {"keep_rule": staticmethod(keep_rule), "normalize": normalize})
    trainer = make_trainer(trainer_class, config=config, **kwargs)
    trainer.add_callback(NothingIsNoUpdate())
    trainer.train()
    return trainer


def assert_same_gradients(ours, reference, atol=1e-6):
    assert len(ours.gradients.steps) == len(reference.gradients.steps) > 0
    # Of one mini-batch nothing may be left to learn from; of all of them something is.
    assert any(gradient.abs().max() > 1e-4 for theirs in reference.gradients.steps for gradient in theirs.values())
    for mine, theirs in zip(ours.gradients.steps, reference.gradients.steps, strict=True):
        assert mine.keys() == theirs.keys() and mine
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], atol=atol, rtol=1e-4, msg=name)


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


def test_measuring_entropy_does_not_disturb_dropout(make_trainer, tiny_model):
    losses = []
    for trainer_class, options in ((EntropyControlledGRPOTrainer, {"entropy_control": WIDE}), (GRPOTrainer, {})):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.3)
        trainer = make_trainer(trainer_class, model=model, config={"max_steps": 2}, **options)
        trainer.train()
        losses.append([line["loss"] for line in train_logs(trainer)])
    assert losses[0] == losses[1]


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


def test_entropy_is_the_policys_on_this_batch_before_the_update(make_trainer):
    seen = {}

    class Watching(EntropyControlledGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            width = batch["completion_ids"].shape[1]
            with torch.no_grad():
                logits = self.model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1] / 0.7
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
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            width = batch["completion_ids"].shape[1]
            with torch.no_grad():
                logits = self.model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1]
            change = ec.predicted_entropy_change(
                logits, batch["completion_ids"], batch["advantages"], batch["completion_mask"]
            )
            seen["expected"] = change >= 0
            batch, decision = super()._control(batch)
            seen["keep"] = decision.keep
            return batch, decision

    make_trainer(Watching, entropy_control=EntropyControl(**HIGH, method="predicted", predictor="exact")).train()
    assert torch.equal(seen["keep"], seen["expected"])


@pytest.mark.parametrize("rejected", ["drop", "mask"])
def test_a_step_that_keeps_nothing_leaves_the_weights_alone_even_with_momentum(make_trainer, rejected):
    class RejectAllFromTheSecondStep(ec.Method):
        def decide(self, batch, goal):
            keep = torch.full_like(batch.advantages, batch.step == 1, dtype=torch.bool)
            return ec.Decision(keep=keep, advantages=batch.advantages * keep)

    weights = []

    class Snapshot(EntropyControlledGRPOTrainer):
        def training_step(self, *args, **kwargs):
            weights.append([p.detach().clone() for p in self.model.parameters()])
            return super().training_step(*args, **kwargs)

    trainer = make_trainer(
        Snapshot,
        config={"max_steps": 3, "weight_decay": 0.1},
        entropy_control=EntropyControl(schedule=0.5, rejected=rejected),
        entropy_controller=controller_of(RejectAllFromTheSecondStep()),
    )
    with pytest.warns(UserWarning, match="every rollout with an advantage was rejected"):
        trainer.train()
    before, after_first, after_second = weights
    assert not all(torch.equal(a, b) for a, b in zip(before, after_first, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after_first, after_second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after_second, trainer.model.parameters(), strict=True))
    assert train_logs(trainer)[-1]["entrocraft/empty_batches"] == 2


def test_a_step_whose_share_of_the_batch_kept_nothing_leaves_the_weights_alone(make_trainer):
    class KeepOneRow(ec.Method):
        def decide(self, batch, goal):
            keep = torch.arange(len(batch.advantages)) == batch.advantages.abs().argmax()
            return ec.Decision(keep=keep, advantages=batch.advantages * keep)

    # Four optimizer steps on one batch of rollouts: the one kept row falls into one of them.
    trainer = make_trainer(
        EntropyControlledGRPOTrainer,
        config={"max_steps": 4, "per_device_train_batch_size": 4, "steps_per_generation": 4, "weight_decay": 0.1},
        entropy_controller=controller_of(KeepOneRow()),
    )
    moved = []

    class Compare(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            self.before = [p.detach().clone() for p in model.parameters()]

        def on_step_end(self, args, state, control, model=None, **kwargs):
            moved.append(not all(torch.equal(a, b) for a, b in zip(self.before, model.parameters(), strict=True)))

    trainer.add_callback(Compare())
    trainer.train()
    assert sum(moved) == 1
    assert [line["entrocraft/skipped"] for line in train_logs(trainer)] == [float(not m) for m in moved]


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


def test_evaluation_is_left_alone(make_trainer, tokenizer):
    trainer = make_trainer(EntropyControlledGRPOTrainer, entropy_control=EntropyControl(**HIGH, method="advantage"))
    trainer.evaluate(eval_dataset=trainer.train_dataset.select(range(2)))
    assert trainer.entropy_controller.counts["decisions"] == 0


def test_state_is_saved_with_checkpoints_and_restored(make_trainer):
    control = EntropyControl(schedule="linear(1.0, 0.5, unit='initial')")
    config = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    first = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=control)
    first.train()
    folder = f"{first.args.output_dir}/checkpoint-1"
    state = json.loads(Path(folder, STATE_FILE).read_text())
    assert state["course"]["initial_entropy"] == pytest.approx(train_logs(first)[0]["entrocraft/entropy"])
    assert state["counts"]["decisions"] == 1

    resumed = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=control)
    resumed.train(resume_from_checkpoint=folder)
    assert resumed.entropy_controller.state_dict() == first.entropy_controller.state_dict()
    for name in ("loss", "reward", "entrocraft/entropy", "entrocraft/target"):
        assert train_logs(resumed)[-1][name] == train_logs(first)[-1][name]


def test_a_checkpoint_of_another_trainer_is_refused(make_trainer):
    config = {"save_strategy": "steps", "save_steps": 1}
    plain = make_trainer(GRPOTrainer, config=config)
    plain.train()
    controlled = make_trainer(EntropyControlledGRPOTrainer, config=config | {"max_steps": 2}, entropy_control=WIDE)
    with pytest.raises(InvalidValueError, match=r"holds no entrocraft\.json"):
        controlled.train(resume_from_checkpoint=f"{plain.args.output_dir}/checkpoint-1")


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


def test_changing_the_import_is_enough(make_trainer):
    trainer = make_trainer(EntropyControlledGRPOTrainer)
    trainer.train()
    line = train_logs(trainer)[0]
    # The default anneals from the entropy of the first batch; step 1 of 1 is the end of the line.
    assert line["entrocraft/target"] == pytest.approx(line["entrocraft/entropy"] * 0.5)
