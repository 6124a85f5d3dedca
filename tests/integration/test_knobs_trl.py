"""Knobs that a method turns on TRL act as TRL's own arguments do, for the duration of one decision alone."""

import math

import pytest
import torch
from support.masking import by_hand
from support.trainers import HIGH, LOW, assert_same_gradients, controller_of, train_logs
from trl import GRPOTrainer, RLOOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.engines.trl.knobs import turned

WIDE = ec.Band(lower=0.0, upper=100.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [{}, {"loss_type": "grpo", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}],
    ids=["whole", "micro-batches"],
)
def test_the_knob_entropy_coef_is_trls_own_coefficient_and_comes_on_top_of_it(make_trainer, config):
    # A coefficient that neither rises nor falls, in a run whose entropy is always below the target.
    method = {"name": "entropy_bonus", "start": 0.03, "least": 0.03, "most": 0.03}
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config=config | {"entropy_coef": 0.02},
        entropy_control=EntropyControl(**HIGH, method=method),
    )
    ours.train()
    reference = make_trainer(GRPOTrainer, config=config | {"entropy_coef": 0.05})
    reference.train()
    assert_same_gradients(ours, reference, atol=1e-6)
    (line,), (expected,) = train_logs(ours), train_logs(reference)
    assert line["loss"] == expected["loss"] and line["entropy_coef"] == pytest.approx(0.05)
    assert (ours.entropy_coef, ours._entropy_bonus_enabled) == (0.02, True)

    plain = make_trainer(GRPOTrainer, config=config | {"entropy_coef": 0.02})
    plain.train()
    with pytest.raises(AssertionError):
        assert_same_gradients(ours, plain)


class Clipping(ec.Method):
    """Keeps the rollouts whose advantage is at least `least`, with an upper clip range of its own."""

    turns = frozenset({"rollouts", "clip_high"})

    def __init__(self, clip_high: float, least: float = -math.inf):
        self.clip_high, self.least = clip_high, least

    def decide(self, batch, goal):
        return ec.Decision.keeping(batch, batch.advantages >= self.least, knobs={"clip_high": self.clip_high})


CLIPPED_AT = 0.01
# At the second update on a batch, ratios have left 1, most of them by less than 0.2.
TWO_UPDATES = {"num_iterations": 2, "max_steps": 4, "learning_rate": 1e-3}


def same_weights(mine, theirs):
    return all(torch.equal(a, b) for a, b in zip(mine.model.parameters(), theirs.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", [GRPOTrainer, RLOOTrainer])
def test_the_knob_clip_high_takes_the_place_of_epsilon_high(make_trainer, trainer_class):
    ours = make_trainer(
        with_entropy_control(trainer_class),
        config=TWO_UPDATES,
        entropy_controller=controller_of(Clipping(CLIPPED_AT), WIDE),
    )
    own = ours.epsilon_high
    ours.train()
    assert ours.epsilon_high == own == 0.2
    narrow = make_trainer(trainer_class, config=TWO_UPDATES | {"epsilon_high": CLIPPED_AT})
    narrow.train()
    assert same_weights(ours, narrow)
    clipped = [line["clip_ratio/high_mean"] for line in train_logs(ours)]
    assert clipped == [line["clip_ratio/high_mean"] for line in train_logs(narrow)] and clipped[1] > 0
    plain = make_trainer(trainer_class, config=TWO_UPDATES)
    plain.train()
    assert not same_weights(ours, plain)


@pytest.mark.slow
def test_the_knob_clip_low_takes_the_place_of_epsilon_low(make_trainer):
    method = {"name": "clip_higher", "clip_low": CLIPPED_AT, "clip_high": 0.3}
    ours = make_trainer(EntropyControlledGRPOTrainer, config=TWO_UPDATES, entropy_control={"method": method})
    ours.train()
    assert (ours.epsilon_low, ours.epsilon_high) == (0.2, 0.2)
    config = TWO_UPDATES | {"epsilon": CLIPPED_AT, "epsilon_high": 0.3}
    narrow = make_trainer(GRPOTrainer, config=config)
    narrow.train()
    assert same_weights(ours, narrow) and train_logs(ours)[1]["clip_ratio/low_mean"] > 0


@pytest.mark.slow
def test_a_knob_turns_where_rollouts_are_dropped_too(make_trainer):
    ours = make_trainer(
        EntropyControlledGRPOTrainer,
        config=TWO_UPDATES | {"max_steps": 2},
        entropy_controller=controller_of(Clipping(CLIPPED_AT, least=0.0), WIDE),
    )
    ours.train()
    config = TWO_UPDATES | {"max_steps": 2, "epsilon_high": CLIPPED_AT}
    reference = by_hand(make_trainer, lambda batch: batch["advantages"] >= 0, "kept", config)
    assert_same_gradients(ours, reference)


@pytest.mark.slow
def test_a_loss_that_fails_leaves_no_knob_turned(make_trainer):
    class Failing(GRPOTrainer):
        def _compute_loss(self, model, inputs):
            self.seen = {name: getattr(self, name) for name in ("epsilon_high", "entropy_coef")}
            raise RuntimeError("out of memory")

    class Both(ec.Method):
        turns = frozenset({"entropy_coef", "clip_high"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch, knobs={"entropy_coef": 0.05, "clip_high": 0.3})

    trainer = make_trainer(with_entropy_control(Failing), entropy_controller=controller_of(Both(), WIDE))
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    assert trainer.seen == pytest.approx({"epsilon_high": 0.3, "entropy_coef": 0.05})
    assert (trainer.epsilon_high, trainer.entropy_coef, trainer._entropy_bonus_enabled) == (0.2, 0.0, False)


@pytest.mark.slow
def test_a_bonus_of_nothing_leaves_trls_own_step_untouched(make_trainer):
    controlled = make_trainer(
        EntropyControlledGRPOTrainer,
        config={"max_steps": 2},
        entropy_control=EntropyControl(**LOW, method="entropy_bonus"),  # entropy is above the target: no bonus
    )
    controlled.train()
    plain = make_trainer(GRPOTrainer, config={"max_steps": 2})
    plain.train()
    assert same_weights(controlled, plain)
    assert "entropy_coef" not in train_logs(controlled)[0] and train_logs(controlled)[0]["entrocraft/entropy_coef"] == 0


def test_knobs_are_turned_for_the_duration_alone():
    class Trainer:
        entropy_coef, _entropy_bonus_enabled, epsilon_low, epsilon_high = 0.01, True, 0.2, 0.2

    trainer = Trainer()
    with turned(trainer, {"entropy_coef": -0.03}):
        assert (trainer.entropy_coef, trainer.epsilon_high) == (pytest.approx(-0.02), 0.2)
        with turned(trainer, {"clip_low": 0.4, "clip_high": 0.5}):
            assert (trainer.epsilon_low, trainer.epsilon_high) == (0.4, 0.5)
    assert trainer.epsilon_low == 0.2
    assert (trainer.entropy_coef, trainer._entropy_bonus_enabled, trainer.epsilon_high) == (0.01, True, 0.2)
