"""A step of which nothing is kept leaves the weights alone on TRL, whatever the optimizer remembers."""

import pytest
import torch
from support.trainers import controller_of, train_logs
from transformers import TrainerCallback

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer


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
