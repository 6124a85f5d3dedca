"""A controller of one's own on TRL: refused as a method by name is, and its token weights are carried out."""

import pytest
import torch
from support.trainers import assert_same_gradients, controller_of
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.errors import InvalidValueError

WIDE = ec.Band(lower=0.0, upper=100.0)


class Weighing(ec.Method):
    """Halves the advantage of every other token."""

    turns = frozenset({"tokens"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch)

    def weigh(self, tokens, decision):
        return 1.0 - 0.5 * (torch.arange(tokens.mask_BT.shape[1]) % 2).expand_as(tokens.mask_BT)


class Adding(ec.Method):
    """Adds an entropy bonus."""

    turns = frozenset({"entropy_coef"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, knobs={"entropy_coef": 0.01})


@pytest.mark.parametrize(
    ("trainer_class", "config", "method", "message"),
    [
        (RLOOTrainer, {}, Weighing, "'Weighing' sets tokens, which TRL's RLOOTrainer cannot"),
        (GRPOTrainer, {"importance_sampling_level": "sequence"}, Weighing, "'Weighing' sets tokens"),
        (RLOOTrainer, {}, Adding, "'Adding' sets entropy_coef, which TRL's RLOOTrainer cannot"),
        (GRPOTrainer, {"use_adaptive_entropy": True, "entropy_coef": 0.1}, Adding, "'Adding' sets entropy_coef"),
    ],
)
def test_a_controller_of_ones_own_is_refused_as_a_method_by_name_is(
    make_trainer, trainer_class, config, method, message
):
    with pytest.raises(InvalidValueError, match=message):
        make_trainer(
            with_entropy_control(trainer_class),
            model="no such model",  # which is not looked for
            config=config,
            entropy_controller=controller_of(method()),
        )


@pytest.mark.slow
def test_token_weights_of_a_controller_of_ones_own_are_carried_out(make_trainer):
    ours = make_trainer(EntropyControlledGRPOTrainer, entropy_controller=controller_of(Weighing(), WIDE))
    ours.train()

    class Reference(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            weights_T = 1.0 - 0.5 * (torch.arange(batch["completion_ids"].shape[1]) % 2)
            batch["advantages"] = batch["advantages"][:, None] * weights_T
            return batch

    reference = make_trainer(Reference)
    reference.train()
    assert_same_gradients(ours, reference)


@pytest.mark.slow
def test_token_weights_that_a_method_does_not_declare_end_the_run(make_trainer):
    class Undeclared(Weighing):
        turns = frozenset()

    trainer = make_trainer(EntropyControlledGRPOTrainer, entropy_controller=controller_of(Undeclared(), WIDE))
    with pytest.raises(InvalidValueError, match="add 'tokens' to `turns`"):
        trainer.train()
