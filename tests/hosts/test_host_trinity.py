"""Trinity-RFT's own trainer step with entropy control for its advantage function; what its workers do is stood in for.

Needs Trinity-RFT 0.6. docs/hosts.md says how to run it.
"""

import asyncio
import json
import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("trinity.trainer.verl.trainer", reason="needs Trinity-RFT", exc_type=ImportError)

import torch
from trinity.algorithm import ADVANTAGE_FN, ALGORITHM_TYPE, KL_FN
from trinity.common.config import Config
from trinity.common.config_validator import AlgorithmConfigValidator
from trinity.common.experience import EID, Experience
from trinity.trainer.verl.trainer import VERLTrainer

import entrocraft as ec
from entrocraft.errors import InvalidValueError

NAME = "entrocraft.engines.trinity.ControlledAdvantageFn"
P, G = 4, 4
CONTROL = {"schedule": "linear(0.6, 0.4)", "width": 0.05, "method": "token"}


def experiences(step):
    """Return what Trinity's explorer sends: answers of several lengths, in one of which a tool speaks."""
    generator = torch.Generator().manual_seed(step)
    made = []
    for number in range(P * G):
        length = int(torch.randint(2, 7, (1,), generator=generator))
        mask = torch.ones(length, dtype=torch.bool)
        mask[0] = number != 0
        made.append(
            Experience(
                eid=EID(batch=step, task=number // G, run=number % G),
                tokens=torch.arange(3 + length),
                prompt_length=3,
                logprobs=-torch.rand(length, generator=generator),
                reward=float(torch.rand(1, generator=generator) < 0.5),
                action_mask=mask,
            )
        )
    return made


class Trainer(VERLTrainer):
    """Trinity's trainer without a cluster: a pass gives random numbers, and an update keeps what it is given."""

    def __init__(self, name, **args):
        config = Config()
        config.algorithm.algorithm_type, config.algorithm.advantage_fn = "grpo_verl", name
        config.algorithm.advantage_fn_args, config.algorithm.bypass_old_logprobs = args or None, False
        AlgorithmConfigValidator().validate(config)
        self.global_config, self.algorithm_config, self.logger = config, config.algorithm, logging.getLogger()
        self.algorithm = ALGORITHM_TYPE.get("grpo_verl")
        self.use_reference_policy = self.use_critic = False
        self.advantage_fn = ADVANTAGE_FN.get(name)(**config.algorithm.advantage_fn_args)
        self.kl_fn = KL_FN.get("none")()
        self.tokenizer, self.empty_model = SimpleNamespace(pad_token_id=0), None
        self.resource_pool_manager = SimpleNamespace(get_n_gpus=lambda: 1)
        self.global_steps, self.updates = 0, []

    def _balance_batch(self, batch, metrics):
        pass

    def _compute_old_log_prob(self, batch, metrics):
        generator = torch.Generator().manual_seed(1000 + self.global_steps)
        shape = batch.batch["response_mask"].shape
        batch.batch["old_log_probs"] = -torch.rand(shape, generator=generator) * 2
        batch.batch["entropys"] = torch.rand(shape, generator=generator) * 2
        return batch

    def _update_actor(self, batch, metrics):
        self.updates.append(batch)
        return batch

    def step(self):
        return asyncio.run(self.train_step(experiences(self.global_steps + 1)))


def controlled(**args):
    return Trainer(NAME, **{"control": CONTROL, "total_steps": 10, "other_terms": False} | args)


def test_an_update_gets_what_was_decided_on_trinitys_own_advantages():
    plain, trainer = Trainer("grpo_verl"), controlled()
    plain.step()
    metrics, (own,), (batch,) = trainer.step(), plain.updates, trainer.updates
    use = ec.decide(
        CONTROL,
        step=1,
        total_steps=10,
        log_probs=own.batch["old_log_probs"],
        entropies=own.batch["entropys"],
        mask=own.batch["response_mask"].long(),
        advantages=own.batch["advantages"],
        groups=[number // G for number in range(P * G)],
        rewards=own.batch["token_level_scores"].sum(-1),
    )
    assert torch.equal(batch.batch["advantages"], use.advantages)
    assert 0 < use.kept.sum() < own.batch["response_mask"].sum()
    assert torch.equal(batch.batch["response_mask"], own.batch["response_mask"])
    for name in ("entropy", "target", "kept_token_fraction"):
        assert metrics[f"advantage/entrocraft/{name}"] == use.metrics[name]


def test_another_function_of_trinitys_can_make_the_advantages():
    plain, trainer = (
        Trainer("rloo"),
        controlled(advantage_fn="rloo", control={"lower": 0.0, "upper": 9.0, "method": "none"}),
    )
    plain.step(), trainer.step()
    assert torch.equal(trainer.updates[0].batch["advantages"], plain.updates[0].batch["advantages"])


def test_without_a_forward_pass_entropy_is_that_of_what_was_sampled():
    trainer = controlled(entropies=False, control=CONTROL | {"method": "advantage"})
    trainer.algorithm_config.bypass_old_logprobs = True
    with pytest.warns(UserWarning, match="gives no entropies"):
        metrics = trainer.step()
    batch = trainer.updates[0].batch
    entropy = -(batch["rollout_log_probs"] * batch["response_mask"]).sum() / batch["response_mask"].sum()
    assert metrics["advantage/entrocraft/entropy"] == pytest.approx(entropy.item())


def test_a_run_goes_on_from_the_state_of_its_checkpoint(tmp_path):
    whole = controlled()
    for _ in range(6):
        whole.step()
    cut = controlled(checkpoint_dir=str(tmp_path))
    for _ in range(5):  # two steps beyond the checkpoint, which are lost
        cut.step()
    (tmp_path / "global_step_3").mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("3")
    resumed = controlled(checkpoint_dir=str(tmp_path))
    resumed.global_steps = 3  # as Trinity's `_load_checkpoint` sets it
    for _ in range(3):
        resumed.step()
    pairs = zip(resumed.updates, whole.updates[3:], strict=True)
    assert all(torch.equal(one.batch["advantages"], other.batch["advantages"]) for one, other in pairs)
    assert json.dumps(resumed.advantage_fn._state) == json.dumps(whole.advantage_fn._state)


def test_an_update_that_has_nothing_to_learn_from_is_told_of():
    trainer = controlled(control=CONTROL | {"method": "advantage"})
    trainer._compute_old_log_prob = lambda batch, metrics: batch
    with pytest.raises(InvalidValueError, match="has no entropies; set algorithm.bypass_old_logprobs=false"):
        trainer.step()
    trainer = controlled()
    same = [setattr(each, "reward", 1.0) or each for each in experiences(1)]
    with pytest.warns(UserWarning, match="nothing to learn from.*momentum"):
        asyncio.run(trainer.train_step(same))
    assert not trainer.updates[0].batch["advantages"].any()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"advantage_fn": "grpo"}, "'grpo' works before the trainer has the batch"),
        ({"loss_agg_mode": "mean"}, "loss_agg_mode must be one of token-mean"),
        ({"total_steps": None}, "expected advantage_fn_args.total_steps"),
        ({"entropies": False}, "'token' needs change, which Trinity's trainer cannot"),
        ({"control": {"method": "kl_cov"}}, "sets surrogate, which Trinity's trainer cannot"),
        ({"control": {"method": "entropy_bonus"}}, "sets entropy_coef, which Trinity's trainer cannot"),
    ],
)
def test_what_does_not_fit_is_refused_as_the_trainer_is_made(args, message):
    with pytest.raises(InvalidValueError, match=message):
        ADVANTAGE_FN.get(NAME)(**{"control": CONTROL, "total_steps": 10} | args)
