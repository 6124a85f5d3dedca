"""Steps from which nothing can be learnt leave the weights to the bit as they were, on TRL."""

import pytest
import torch
from support.trainers import NUM_ROLLOUTS, train_logs

from entrocraft.engines.trl import EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer

BAND = {"lower": 0.0, "upper": 100.0}


def weights_of(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def rewards_of_steps(*steps):
    """A reward function that gives the completions of each batch those rewards."""
    waiting = list(steps)

    def reward(completions, **kwargs):
        values = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [values[row % len(values)] for row in range(len(completions))]

    return reward


@pytest.mark.slow
@pytest.mark.parametrize("method", ["token", "advantage", "none", "entropic"])
@pytest.mark.parametrize("trainer_class", [EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer])
def test_equal_rewards_move_no_weight_not_even_by_momentum(make_trainer, trainer_class, method):
    if method == "token" and trainer_class is EntropyControlledRLOOTrainer:
        method = "budget"
    unequal, equal = [0.0, 1.0], [0.1] * NUM_ROLLOUTS
    trainer = make_trainer(
        trainer_class,
        config={"max_steps": 3},
        entropy_control={**BAND, "method": method},
    )
    trainer.reward_funcs[0] = rewards_of_steps(unequal, equal)
    seen = []
    on_step_end = trainer.callback_handler.on_step_end

    def watched(*args, **kwargs):
        seen.append(weights_of(trainer))
        return on_step_end(*args, **kwargs)

    before = weights_of(trainer)
    trainer.callback_handler.on_step_end = watched
    trainer.train()
    first, second, third = seen
    assert any(not torch.equal(first[name], before[name]) for name in before)  # a step that teaches is made
    assert all(torch.equal(first[name], second[name]) and torch.equal(second[name], third[name]) for name in first)
    assert [line["entrocraft/skipped"] for line in train_logs(trainer)] == [0.0, 1.0, 1.0]


@pytest.mark.slow
def test_large_rewards_that_are_equal_are_no_signal_whatever_rounding_leaves_of_them(make_trainer):
    seen = []

    class Watching(EntropyControlledGRPOTrainer):
        def _control(self, batch):
            own = batch["advantages"].clone()
            batch, decision = super()._control(batch)
            seen.append((own, batch["advantages"]))
            return batch, decision

    config = {"num_generations": 7, "per_device_train_batch_size": 14}  # seven times 333.3 is rounded
    trainer = make_trainer(Watching, config=config, entropy_control={**BAND, "method": "none"})
    trainer.reward_funcs[0] = rewards_of_steps([333.3] * 7 + [0.0, 1.0] * 3 + [0.0])
    trainer.train()
    (own, used) = seen[0]
    assert (own[:7].abs() > 0.1).all()  # by TRL, of nothing but rounding
    assert not used[:7].any() and torch.equal(used[7:], own[7:])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["token", "advantage", "none"])
def test_a_batch_of_truncated_completions_alone_is_skipped_and_the_run_goes_on(make_trainer, tokenizer, method):
    never_ending = {"suppress_tokens": [tokenizer.eos_token_id, tokenizer.pad_token_id]}
    trainer = make_trainer(
        EntropyControlledGRPOTrainer,
        config={"max_steps": 2, "mask_truncated_completions": True, "generation_kwargs": never_ending},
        entropy_control={**BAND, "method": method},
    )
    before = weights_of(trainer)
    with pytest.warns(UserWarning, match="the loss counts no token of any rollout"):
        trainer.train()
    logs = train_logs(trainer)
    assert [line["entrocraft/skipped"] for line in logs] == [1.0, 1.0]
    assert [line["entrocraft/uncounted_batches"] for line in logs] == [1.0, 2.0]
    assert all(line["entrocraft/entropy"] is None for line in logs)  # as transformers writes NaN
    after = weights_of(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer_class", "control", "cut_off"),
    [
        (EntropyControlledGRPOTrainer, {"method": "none"}, True),  # masks, and has a KL term, of no token here
        (EntropyControlledGRPOTrainer, {"method": "token"}, True),
        (EntropyControlledRLOOTrainer, {"method": "advantage", "rejected": "mask"}, False),  # its KL is no term
    ],
)
def test_a_kl_penalty_alone_makes_no_step_where_nothing_feels_it(make_trainer, trainer_class, control, cut_off):
    """The first step teaches; of the second no token counts, or nothing is kept."""

    class Cut(trainer_class):
        def _generate_and_score_completions(self, inputs):
            self.is_second = self.state.global_step == 1
            return super()._generate_and_score_completions(inputs)

        def _control(self, batch):
            if self.is_second and cut_off:
                batch["completion_mask"] = torch.zeros_like(batch["completion_mask"])
            if self.is_second and not cut_off:
                batch["advantages"] = batch["advantages"].abs() + 1.0  # all of them lower entropy, which is low
            return super()._control(batch)

    low = {"schedule": "piecewise([[0, 0.0], [0.9, 0.0], [1.0, 90.0]], kind='step')", "width": 60.0}
    trainer = make_trainer(Cut, config={"max_steps": 2, "beta": 0.1}, entropy_control=low | control)
    weights = []
    on_step_end = trainer.callback_handler.on_step_end

    def watched(*args, **kwargs):
        weights.append(weights_of(trainer))
        return on_step_end(*args, **kwargs)

    trainer.callback_handler.on_step_end = watched
    with pytest.warns(UserWarning, match="the loss counts no token" if cut_off else "every rollout with an advantage"):
        trainer.train()
    assert [line["entrocraft/skipped"] for line in train_logs(trainer)] == [0.0, 1.0]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
