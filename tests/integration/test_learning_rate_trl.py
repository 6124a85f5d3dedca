"""The learning rate that a method turns on TRL is the optimizer's own, for the updates of one decision."""

import itertools

import pytest
import torch
from support.trainers import HIGH, controller_of, train_logs
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.errors import InvalidValueError

WIDE = ec.Band(lower=0.0, upper=100.0)
STEPS = {"max_steps": 4, "learning_rate": 1e-3}


class Scaling(ec.Method):
    """Scales the learning rate by one factor after the other."""

    turns = frozenset({"learning_rate"})

    def __init__(self, *factors: float):
        self.factors = factors

    def decide(self, batch, goal):
        factor = self.factors[min(batch.step - 1, len(self.factors) - 1)]
        return ec.Decision.everything(batch, knobs={"learning_rate": factor})


def trained(make_trainer, trainer_class, config, *factors, **scheduler):
    """Return a trainer after its run, controlled if there are factors."""
    given = {"entropy_controller": controller_of(Scaling(*factors), WIDE)} if factors else {}
    trainer = make_trainer(trainer_class, config=config | scheduler, **given)
    trainer.train()
    return trainer


def same_weights(mine, theirs):
    return all(torch.equal(a, b) for a, b in zip(mine.model.parameters(), theirs.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", [GRPOTrainer, RLOOTrainer])
@pytest.mark.parametrize(
    "config",
    [
        {"lr_scheduler_type": "linear"},
        {"lr_scheduler_type": "cosine", "num_iterations": 2},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    ],
    ids=["falling", "several updates", "micro-batches"],
)
def test_a_factor_throughout_is_another_learning_rate_whatever_its_schedule(make_trainer, trainer_class, config):
    """A half is exact in floating point, so the weights are the same to the bit."""
    ours = trained(make_trainer, with_entropy_control(trainer_class), STEPS | config, 0.5)
    halved = trained(make_trainer, trainer_class, STEPS | config | {"learning_rate": 5e-4})
    plain = trained(make_trainer, trainer_class, STEPS | config)
    assert same_weights(ours, halved) and not same_weights(ours, plain)
    # The scheduler is not told: what it logs, and goes on from, is the rate that was asked for.
    assert [line["learning_rate"] for line in train_logs(ours)] == [line["learning_rate"] for line in train_logs(plain)]
    assert [group["lr"] for group in ours.optimizer.param_groups] == [g["lr"] for g in plain.optimizer.param_groups]


@pytest.mark.slow
def test_each_update_has_the_factor_of_its_own_decision(make_trainer):
    """With a factor of 0 the weights stay where they are, and the next update moves them again."""
    weights = []

    class Watched(EntropyControlledGRPOTrainer):
        def training_step(self, *args, **kwargs):
            weights.append(torch.cat([p.detach().flatten().clone() for p in self.model.parameters()]))
            return super().training_step(*args, **kwargs)

    trained(make_trainer, Watched, STEPS, 1.0, 0.0, 1.0)
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(weights)]
    assert moved == [True, False, True]


@pytest.mark.slow
def test_the_method_learns_less_where_entropy_is_below_its_curve(make_trainer):
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config=STEPS,
        entropy_control=EntropyControl(**HIGH, method={"name": "learning_rate", "least": 0.125}),
    )
    ours.train()
    least = trained(make_trainer, GRPOTrainer, STEPS | {"learning_rate": 1e-3 * 0.125})
    assert same_weights(ours, least)
    assert [line["entrocraft/learning_rate_factor"] for line in train_logs(ours)] == pytest.approx([0.125] * 4)


def test_deepspeed_which_steps_by_itself_is_refused():
    from types import SimpleNamespace

    from entrocraft.engines.trl.settings import capabilities

    arguments = SimpleNamespace(loss_type="dapo", deepspeed={"zero_optimization": {"stage": 2}})
    with pytest.raises(InvalidValueError, match="sets learning_rate, which .* cannot: DeepSpeed steps by itself"):
        capabilities(arguments).check(
            EntropyControl(schedule=0.5, method="learning_rate").new_method(), "learning_rate"
        )
