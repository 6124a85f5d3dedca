"""What the TRL engine predicts for the methods that ask: against formulas on the same batch, and never unasked."""

import pytest
import torch
from support.predictions import WIDE, Asking, Watching, exact_token_changes
from support.suites import fast_first, fast_some
from support.trainers import HIGH, LOW, assert_same_gradients, controller_of, train_logs
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.control.planning.ranking import binned
from entrocraft.dynamics import token_rarity
from entrocraft.engines.signals import SignalMaker
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.errors import InvalidValueError

INSIDE = {"lower": 0.0, "upper": 100.0}
TOKEN_LOSSES = ["grpo", "sapo", "dr_grpo", "luspo", "dapo", "bnpo", "cispo", "vespo"]


@pytest.mark.parametrize("loss_type", fast_some(3, TOKEN_LOSSES))
def test_rollouts_and_tokens_are_predicted_by_the_same_formula(make_trainer, loss_type):
    method = Asking()
    trainer = make_trainer(
        Watching,
        config={
            "loss_type": loss_type,
            "learning_rate": 0.0,
            "epsilon_high": 5.0 if loss_type == "cispo" else None,
        },
        entropy_control=EntropyControl(predictor="exact"),
        entropy_controller=controller_of(method, WIDE),
    )
    trainer.train()
    change = exact_token_changes(trainer.model, trainer.seen)
    mask = trainer.seen["completion_mask"]
    if loss_type in ("grpo", "sapo"):  # each rollout weighs the same, whatever its length
        change = change / mask.sum(-1, keepdim=True)
    torch.testing.assert_close(method.predicted, change.sum(-1), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(method.tokens.sum(0), binned(change[mask.bool()]).sum(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss_type", fast_some(3, TOKEN_LOSSES))
@pytest.mark.parametrize("normalize", fast_first("kept", "all"))
def test_leaving_out_tokens_is_masking_their_advantages_by_hand(make_trainer, loss_type, normalize):
    class KeepWhatRaises(ec.Method):
        needs = frozenset({"change"})
        turns = frozenset({"tokens"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch, note=(1e-9, float("inf")), normalize=normalize)

        def weigh(self, tokens, decision):
            change_BT, (low, high) = tokens.change_BT, decision.note
            return ((change_BT == 0) | ((change_BT >= low) & (change_BT <= high))).float()

    config = {"loss_type": loss_type, "epsilon_high": 5.0 if loss_type == "cispo" else None}
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config=config,
        entropy_control=EntropyControl(predictor="exact"),
        entropy_controller=controller_of(KeepWhatRaises(), WIDE),
    )
    ours.train()

    class Reference(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            change, mask = exact_token_changes(self.model, batch), batch["completion_mask"]
            keep = mask * ((change > 1e-9) | (change == 0))
            shares = mask.sum(-1, keepdim=True) if loss_type in ("grpo", "sapo") else 1.0
            factor = (mask / shares).sum() / (keep / shares).sum() if normalize == "kept" else 1.0
            batch["advantages"] = factor * batch["advantages"][:, None] * keep
            return batch

    reference = make_trainer(Reference, config=config)
    reference.train()
    line = train_logs(ours)[0]
    assert 0 < line["entrocraft/kept_token_fraction"] < 1
    assert_same_gradients(ours, reference, atol=2e-6)


def test_method_token_masks_tokens_and_says_what_it_kept(make_trainer):
    trainer = make_trainer(
        Watching, config={"max_steps": 3}, entropy_control=EntropyControl(**HIGH, method="token", predictor="exact")
    )
    trainer.train()
    for line in train_logs(trainer):
        assert 0.1 <= line["entrocraft/kept_token_fraction"] < 1
        assert line["entrocraft/saturated"] == 1.0  # nothing within reach is near enough to 50 nats
        # What is left raises entropy more than the whole batch did.
        kept = sum(value for name, value in line.items() if name.startswith("entrocraft/kept_quadrants/"))
        whole = sum(value for name, value in line.items() if name.startswith("entrocraft/quadrants/"))
        assert kept > whole


@pytest.mark.parametrize(
    ("trainer_class", "config", "control", "method"),
    [
        (GRPOTrainer, {}, {}, "token"),
        (GRPOTrainer, {"importance_sampling_level": "sequence", "loss_type": "grpo"}, {}, "budget"),
        (GRPOTrainer, {}, {"visitation": True}, "budget"),
        (RLOOTrainer, {}, {}, "budget"),
        (GRPOTrainer, {}, {"method": "advantage"}, "advantage"),
    ],
)
def test_without_a_method_the_one_that_fits_the_loss_is_taken(make_trainer, trainer_class, config, control, method):
    trainer = make_trainer(
        with_entropy_control(trainer_class), config=config, entropy_control=EntropyControl(**control)
    )
    assert trainer.entropy_controller.name == method


@pytest.mark.parametrize(
    ("trainer_class", "config"),
    [(RLOOTrainer, {}), (GRPOTrainer, {"importance_sampling_level": "sequence", "loss_type": "grpo"})],
)
def test_tokens_of_a_loss_that_weighs_whole_rollouts_cannot_be_left_out(make_trainer, trainer_class, config):
    with pytest.raises(InvalidValueError, match="use method 'budget', or name no method"):
        make_trainer(with_entropy_control(trainer_class), config=config, entropy_control=EntropyControl(method="token"))


@pytest.mark.parametrize("method", ["aligned", "predicted"])
def test_in_band_nothing_is_predicted(make_trainer, monkeypatch, method):
    def unasked(*args, **kwargs):
        raise AssertionError("a prediction was made that no decision needed")

    monkeypatch.setattr(SignalMaker, "_token_changes", unasked)
    control = EntropyControl(**INSIDE, method=method)
    make_trainer(EntropyControlledGRPOTrainer, config={"max_steps": 2}, entropy_control=control).train()
    with pytest.raises(AssertionError, match="no decision needed"):
        make_trainer(EntropyControlledGRPOTrainer, entropy_control=EntropyControl(**LOW, method=method)).train()


@pytest.mark.parametrize(
    "options", [{"method": "predicted"}, {"method": "budget"}, {"method": "budget", "predictor": "exact"}]
)
def test_visitation_is_a_term_with_a_gain_of_its_own(make_trainer, options):
    trainer = make_trainer(
        EntropyControlledGRPOTrainer,
        config={"max_steps": 3},
        entropy_control=EntropyControl(**HIGH, visitation=True, **options),
    )
    trainer.train()
    line = train_logs(trainer)[-1]
    assert line["entrocraft/gain_0"] > 0 and line["entrocraft/gain_1"] > 0
    assert line["entrocraft/gain_0"] != line["entrocraft/gain_1"]


@pytest.mark.parametrize("method", ["budget", "token"])
def test_rarity_is_predicted_without_a_pass_of_its_own(make_trainer, monkeypatch, method):
    kinds = []
    own = SignalMaker._in_loss

    def seen(self, rise_BT, rollouts):
        stats = rollouts.stats
        torch.testing.assert_close(rise_BT, token_rarity(stats.log_probs_BT, stats.entropy_BT, rollouts.mask_BT))
        kinds.append(method)
        return own(self, rise_BT, rollouts)

    monkeypatch.setattr(SignalMaker, "_in_loss", seen)
    control = EntropyControl(**HIGH, method=method, predictor="rarity")
    trainer = make_trainer(EntropyControlledGRPOTrainer, config={"max_steps": 2}, entropy_control=control)
    trainer.train()
    assert len(kinds) == 2
    assert train_logs(trainer)[-1]["entrocraft/gain_0"] > 0


@pytest.mark.parametrize("rejected", ["drop", "mask"])
def test_an_entropy_bonus_is_trls_own_with_our_coefficient(make_trainer, rejected):
    class WithBonus(ec.Method):
        turns = frozenset({"rollouts", "entropy_coef"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch, knobs={"entropy_coef": 0.05})

    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        entropy_control=EntropyControl(rejected=rejected),
        entropy_controller=controller_of(WithBonus(), WIDE),
    )
    ours.train()
    reference = make_trainer(GRPOTrainer, config={"entropy_coef": 0.05})
    reference.train()
    assert_same_gradients(ours, reference)
    assert ours.entropy_coef == 0.0 and not ours._entropy_bonus_enabled  # for that one decision only


def test_a_bonus_that_the_trainer_cannot_carry_out_is_refused(make_trainer):
    options = {"method": "predicted", "fallback": "escalate", "entropy_bonus": 0.01}
    control = EntropyControl(**options)
    with pytest.raises(InvalidValueError, match=r"entropy_bonus=0\.0"):
        make_trainer(
            EntropyControlledGRPOTrainer,
            config={"use_adaptive_entropy": True, "entropy_coef": 0.1},
            entropy_control=EntropyControl(**options, rejected="mask"),
        )
    assert control.options["entropy_bonus"] == 0.01
