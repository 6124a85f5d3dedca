"""SkyRL's own trainer under entropy control: its batches, its advantages, its normalisation, its checkpoints.

Needs SkyRL 0.4 (Python 3.12), without its GPU parts: what workers do is stood in for. docs/hosts.md says how to run it.
"""

import json
import re
from inspect import signature
from pathlib import Path

import pytest

pytest.importorskip("skyrl.train.trainer", reason="needs SkyRL", exc_type=ImportError)

import torch
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.trainer import RayPPOTrainer

import entrocraft as ec
from entrocraft.engines.skyrl import REDUCTIONS, loop_of, with_entropy_control
from entrocraft.errors import InvalidValueError

P, G = 4, 4
CONTROL = {"schedule": "linear(0.6, 0.4)", "width": 0.05, "method": "advantage"}
Trainer = with_entropy_control(RayPPOTrainer)


class Workers:
    """Stands in for SkyRL's dispatch to its GPU workers, and keeps what they would be sent."""

    def __init__(self):
        self.staged, self.steps = [], 0

    def get_lcm_dp_size(self):
        return 3  # 16 rollouts are filled up to 18

    def stage_data(self, model, data, boundaries):
        self.staged.append({name: data[name].clone() for name in ("advantages", "loss_mask")})
        return [[] for _ in boundaries]

    def forward_backward_from_staged(self, model, chunks):
        return type("Status", (), {"metrics": {"policy_loss": 0.0}})()

    def optim_step(self, model):
        self.steps += 1
        return 0.5

    def save_checkpoint(self, *args, **kwargs):
        pass

    load_checkpoint = save_checkpoint

    def empty_cache(self, *args):
        pass


class Loader:
    def state_dict(self):
        return {}

    load_state_dict = state_dict


def config(**algorithm):
    cfg = SkyRLTrainConfig()
    cfg.trainer.train_batch_size, cfg.trainer.policy_mini_batch_size, cfg.generator.n_samples_per_prompt = P, 2, G
    cfg.trainer.algorithm.use_kl_loss = cfg.generator.inference_engine.enable_ray_prometheus_stats = False
    for name, value in algorithm.items():
        setattr(cfg.trainer.algorithm, name, value)
    return cfg


@pytest.fixture
def make_trainer(tmp_path, monkeypatch):
    """Return a factory of real trainers whose data, tokenizer and workers stand in for those of a cluster."""
    monkeypatch.setattr(RayPPOTrainer, "_build_train_dataloader_and_compute_training_steps", lambda self: None)
    monkeypatch.setattr(RayPPOTrainer, "_cleanup_old_checkpoints", lambda self: None)
    monkeypatch.setattr("skyrl.train.trainer.configure_ray_worker_logging", lambda: None)

    def make(trainer_class=Trainer, cfg=None, **kwargs):
        cfg = cfg or config()
        cfg.trainer.ckpt_path = str(tmp_path / "checkpoints")
        tokenizer = type("Tokenizer", (), {"pad_token_id": 0})()
        kwargs = {"entropy_control": CONTROL} | kwargs if trainer_class is Trainer else kwargs
        trainer = trainer_class(
            cfg=cfg,
            tracker=None,
            tokenizer=tokenizer,
            train_dataset=None,
            inference_engine_client=None,
            generator=None,
            **kwargs,
        )
        trainer.total_training_steps, trainer.dispatch, trainer.train_dataloader = 10, Workers(), Loader()
        return trainer

    return make


def batch_of(trainer, step, seed=0):
    """Return a batch as SkyRL makes it of what its generator returns, with the log-probabilities of the policy."""
    generator = torch.Generator().manual_seed(100 * seed + step)
    lengths = torch.randint(2, 7, (P * G,), generator=generator).tolist()
    rewards = (torch.rand(P * G, generator=generator) < 0.5).float().tolist()
    output = {
        "prompt_token_ids": [[1, 2, 3]] * (P * G),
        "response_ids": [[4] * length for length in lengths],
        "rewards": [[0.0] * (n - 1) + [reward] for n, reward in zip(lengths, rewards, strict=True)],
        "loss_masks": [[0] + [1] * (n - 1) for n in lengths],  # a tool said the first token
    }
    uids = [f"prompt-{number // G}" for number in range(P * G)]
    data = trainer.convert_to_training_input(output, uids)
    shape = data["loss_mask"].shape
    data["action_log_probs"] = -torch.rand(shape, generator=generator) * (2.0 if step % 2 else 0.2)
    data["values"] = data["base_action_log_probs"] = None
    trainer.global_step = step
    return data


def stepped(trainer, step):
    """Let SkyRL make a step as its loop does; return what was left of the batch."""
    data = trainer.compute_advantages_and_returns(batch_of(trainer, step))
    trainer.train_critic_and_policy(data)
    return data


def test_skyrls_advantages_go_in_and_what_was_decided_comes_out(make_trainer):
    plain, trainer = make_trainer(RayPPOTrainer), make_trainer()
    own = plain.compute_advantages_and_returns(batch_of(plain, 1))
    data = trainer.compute_advantages_and_returns(batch_of(trainer, 1))
    use = ec.decide(
        CONTROL,
        step=1,
        total_steps=20,
        log_probs=own["action_log_probs"][:16],
        mask=own["loss_mask"][:16].long(),
        advantages=own["advantages"][:16],
        groups=[number // G for number in range(16)],
        rewards=own["rewards"][:16].sum(-1),
        loop=loop_of(trainer.cfg),
    )
    assert torch.equal(data["advantages"][:16], use.advantages) and use.metrics["direction"] == 1.0
    assert 0 < use.keep.sum() < 16 and not data["advantages"][:16][~use.keep].any()
    assert torch.equal(data["returns"], own["returns"])
    assert torch.equal(data["loss_mask"], own["loss_mask"]) and len(data["loss_mask"]) == 18
    mask = own["loss_mask"][:16]
    entropy = -(own["action_log_probs"][:16] * mask).sum() / mask.sum()
    assert trainer.all_metrics["entrocraft/entropy"] == pytest.approx(entropy.item())


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_workers_are_sent_the_mean_over_what_is_kept(make_trainer, reduction):
    """SkyRL lays its own average into the advantages; what is sent is that over the kept rollouts alone."""
    cfg = config(loss_reduction=reduction, max_seq_len=8)
    cfg.trainer.policy_mini_batch_size, cfg.trainer.micro_train_batch_size_per_gpu = P, 16
    trainer, plain = make_trainer(cfg=cfg), make_trainer(RayPPOTrainer, cfg=cfg)
    stepped(trainer, 1), stepped(plain, 1)
    sent, own = (each.dispatch.staged[0]["advantages"][:16] for each in (trainer, plain))
    mask = plain.dispatch.staged[0]["loss_mask"][:16]
    keep = sent.any(-1)
    assert 0 < keep.sum() < 16 and (keep == (own.sum(-1) > 0)).all()
    sizes = mask.sum(-1) if reduction.startswith("token_mean") else torch.ones(16)
    factor = sizes.sum() / sizes[trainer._decided.keep].sum()
    assert torch.allclose(sent, (own * factor * keep[:, None] * mask), atol=1e-7)


def test_several_updates_of_a_batch_are_counted(make_trainer):
    trainer = make_trainer()
    assert trainer._loop.steps_per_decision == 2.0 and trainer._loop.momentum == 0.9
    stepped(trainer, 1)
    assert trainer.dispatch.steps == 2 and trainer.all_metrics["entrocraft/target"] == pytest.approx(0.6 - 0.2 / 20)
    stepped(trainer, 2)
    assert trainer.all_metrics["entrocraft/target"] == pytest.approx(0.6 - 0.2 * 3 / 20)


def test_a_batch_with_nothing_to_learn_from_leaves_the_weights_alone(make_trainer):
    trainer = make_trainer()
    data = batch_of(trainer, 1)
    data["rewards"] = torch.zeros_like(data["rewards"])
    trainer.train_critic_and_policy(trainer.compute_advantages_and_returns(data))
    assert trainer.dispatch.steps == 0 and trainer.all_metrics["policy/skipped"] == 1.0
    stepped(trainer, 2)
    assert trainer.dispatch.steps == 2


def test_a_resumed_run_goes_on_as_one_that_was_never_stopped(make_trainer):
    whole = make_trainer()
    expected = [stepped(whole, step)["advantages"] for step in range(1, 7)]
    cut = make_trainer()
    for step in range(1, 4):
        stepped(cut, step)
    folder = cut.save_checkpoints()
    stepped(cut, 4)
    resumed = make_trainer()
    resumed.resume_mode = type(resumed.resume_mode)("latest")
    assert resumed.load_checkpoints() == (3, folder)
    assert resumed._state != cut._state
    assert all(torch.equal(stepped(resumed, step)["advantages"], expected[step - 1]) for step in range(4, 7))
    assert json.dumps(resumed._state) == json.dumps(whole._state)


def test_a_checkpoint_without_a_state_is_refused(make_trainer, tmp_path):
    trainer = make_trainer()
    stepped(trainer, 1)
    folder = trainer.save_checkpoints()
    (tmp_path / "checkpoints/global_step_1/entrocraft.json").unlink()
    with pytest.raises(InvalidValueError, match=r"holds no entrocraft\.json.*not saved under entropy control"):
        trainer.resume_mode = type(trainer.resume_mode)("latest")
        trainer.load_checkpoints()
    assert folder.endswith("global_step_1")


@pytest.mark.parametrize(
    ("settings", "control", "message"),
    [
        ({"loss_reduction": "prompt_mean"}, CONTROL, "loss_reduction='prompt_mean'.*use one of token_mean"),
        ({"policy_loss_type": "clip_cov"}, CONTROL, "policy_loss_type='clip_cov' is not known to scale"),
        ({"advantage_batch_normalize": True}, CONTROL, "would be learnt from again; set .*advantage_batch_normalize=f"),
        ({}, {"schedule": 0.5}, "'token' needs change, which SkyRL's trainer cannot.*method 'advantage'"),
        ({"policy_loss_type": "gspo"}, {"schedule": 0.5, "method": "stare"}, "loss weighs a rollout as a whole"),
        ({"use_kl_in_reward": True}, {"schedule": 0.5, "method": "reward"}, "needs rewards, which SkyRL's trainer"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(settings, control, message):
    with pytest.raises(InvalidValueError, match=message):
        Trainer(cfg=config(**settings), entropy_control=control)


def test_single_steps_are_refused():
    cfg = config()
    cfg.generator.step_wise_trajectories = True
    with pytest.raises(InvalidValueError, match="step_wise_trajectories"):
        Trainer(cfg=cfg, entropy_control=CONTROL)


def test_the_entry_point_of_the_page_makes_a_trainer_with_control(make_trainer, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text()
    (code,) = re.findall(r"^```python\n(# main\.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    names = {}
    exec(code, names)
    expected = list(signature(BasePPOExp.get_trainer).parameters)
    assert len(signature(names["Controlled"].get_trainer).parameters) == len(expected) == 9
    arguments = dict.fromkeys(expected[1:]) | {"cfg": config()}
    trainer = names["Controlled"].get_trainer(None, *arguments.values())
    assert isinstance(trainer, RayPPOTrainer) and trainer.entropy_control.method_name == "advantage"
