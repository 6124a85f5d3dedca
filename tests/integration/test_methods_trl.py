"""Methods on TRL, end to end: this library's and a user's own; what cannot be carried out is refused at once."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from support.commands import run_command
from support.masking import by_hand
from support.predictions import logits_of
from support.trainers import NUM_ROLLOUTS, assert_same_gradients, controller_of, train_logs

import entrocraft as ec
from entrocraft.control.signals import SIGNALS
from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.entropy import token_log_probs
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import column_of

WIDE = ec.Band(lower=0.0, upper=100.0)
SMALL = """
task: {num_problems: 40}
control: {schedule: 0.9, width: 0.02}
train: {steps: 3, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 1}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""
MINE = '''
import torch
import entrocraft as ec


class Half(ec.Method):
    """Keeps every other rollout, in turns: first from the one numbered `start` on, then the others."""

    def __init__(self, start: int = 0):
        self.next = start

    def decide(self, batch, goal):
        keep = torch.arange(len(batch.advantages)) % 2 == self.next % 2
        self.next += 1
        return ec.Decision.keeping(batch, keep, metrics={"decided_by_half": float(self.next)})

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


class Other:
    """No method."""


class Abstract(ec.Method):
    """Decides nothing."""


class Cooler(ec.Method):
    turns = frozenset({"temperature"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, knobs={"temperature": 0.5})


class Wider(ec.Method):
    turns = frozenset({"clip_high"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, knobs={"clip_high": 0.4})


class Asking(ec.Method):
    needs = frozenset({"rewardz"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch)


def half(batch, goal):
    return ec.Decision.everything(batch)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Work in a folder with run.yaml and a module of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is put there
    Path("run.yaml").write_text(SMALL)
    Path("mine.py").write_text(MINE)
    Path("raising.py").write_text("raise OSError('the disk is full')\n")
    Path("lacking.py").write_text("import no_such_package\n")
    yield
    for name in ("mine", "raising", "lacking"):
        sys.modules.pop(name, None)


def without_time(lines):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


# ---- methods that train -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_method_of_ones_own_is_named_in_yaml_trains_and_resumes_to_itself(mine):
    Path("run.yaml").write_text(SMALL.replace("width: 0.02", 'width: 0.02, method: {name: "mine:Half", start: 1}'))
    result = run_command("train", "run.yaml", "--output", "out")
    assert result.exit_code == 0, result.output
    run = RunDirectory(Path("out"))
    before = run.metrics()
    assert [line["kept_fraction"] for line in run.step_metrics()] == [0.5] * 3
    assert json.loads(run.config_file.read_text())["control"]["method"] == {"name": "mine:Half", "start": 1}
    state = json.loads(run.controller_file.read_text())
    assert (state["method"], state["state"], state["counts"]["decisions"]) == ("mine:Half", {"next": 4}, 3)

    shutil.rmtree(run.checkpoints / "checkpoint-3")  # as if killed before it was saved
    sys.modules.pop("mine")
    result = run_command("train", "run.yaml", "--output", "out", "--resume")
    assert result.exit_code == 0, result.output
    assert without_time(run.metrics()) == without_time(before)
    assert json.loads(run.controller_file.read_text()) == state


@pytest.mark.slow
@pytest.mark.parametrize("control", [{"method": "mine:Half"}, {"method": {"name": "mine:Half", "start": 1}}])
def test_a_method_of_ones_own_is_named_in_a_script(mine, make_trainer, control):
    trainer = make_trainer(EntropyControlledGRPOTrainer, config={"max_steps": 2}, entropy_control=control)
    trainer.train()
    logs = train_logs(trainer)
    assert [line["entrocraft/kept_fraction"] for line in logs] == [0.5, 0.5]
    start = trainer.entropy_control.options.get("start", 0)
    assert [line["entrocraft/decided_by_half"] for line in logs] == [start + 1, start + 2]
    assert all(line["grad_norm"] > 0 for line in logs)


@pytest.mark.slow
def test_a_method_of_ones_own_may_be_given_as_a_class(make_trainer):
    class KeepHalf(ec.Method):
        def decide(self, batch, goal):
            return ec.Decision.keeping(batch, torch.arange(len(batch.advantages)) % 2 == 0)

    ours = make_trainer(EntropyControlledGRPOTrainer, entropy_control={"method": KeepHalf})
    ours.train()
    reference = by_hand(make_trainer, lambda batch: torch.arange(len(batch["advantages"])) % 2 == 0)
    assert_same_gradients(ours, reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "reports"),
    [
        ({"name": "entropy_bonus", "step": 0.001}, "entropy_coef"),
        ({"name": "clip_cov", "share": 0.2, "low": 0.0, "high": 9.0}, "eligible_fraction"),
        ({"name": "entropic_released", "confidence": 0.5}, "confident_fraction"),
        ({"name": "entropic_port", "integral_gain": 0.1, "estimator": "grpo"}, "integral"),
        ({"name": "repo_r", "estimator": "maxrl"}, "strength"),
        ({"name": "stare", "two_sided": True, "adaptive": True, "estimator": "f_grpo"}, "strength"),
        ({"name": "clip_b", "threshold": 4.0, "follow": True, "gain": 0.1, "estimator": "rloo"}, "strength"),
        ({"name": "steer_weights", "follow": True, "estimator": "qae"}, "strength"),
        ({"name": "grpo_dropout", "threshold": 0.1, "follow": True, "estimator": "dr_grpo"}, "strength"),
        (
            {"name": "ds_grpo", "gamma": 0.01, "follow": True, "estimator": {"name": "pass_at_k_training", "k": 2}},
            "strength",
        ),
        ({"name": "ucpo", "follow": True, "estimator": "w_reinforce"}, "strength"),
        ({"name": "adaptive_temperature", "vocabulary": 20, "estimator": "psr"}, "temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_methods_of_others_train_and_report(mine, method, reports):
    """Each with another estimator; every pair is decided on in tests/unit/control/methods/test_every_method.py."""
    method, estimator = {**method}, method.get("estimator")
    method.pop("estimator", None)
    settings = [f"control.method={json.dumps(method)}", f"control.estimator={json.dumps(estimator)}"]
    result = run_command("train", "run.yaml", *settings, "--output", "out")
    assert result.exit_code == 0, result.output
    run = RunDirectory(Path("out"))
    lines = run.step_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        numbers = {name: value for name, value in line.items() if isinstance(value, float)}
        assert all(math.isfinite(value) for value in numbers.values()), numbers
        assert abs(line[reports]) > 0 and all(column_of(name) is not None for name in line)
        if method["name"] not in ("clip_b", "grpo_dropout", "steer_weights"):  # which may leave something out
            assert (line["kept_token_fraction"] < 1) == (method["name"] == "clip_cov")
    assert json.loads(run.controller_file.read_text())["method"] == method["name"]
    assert run.report_file.exists()


@pytest.mark.slow
def test_every_signal_that_a_method_needs_is_there(make_trainer):
    class Asking(ec.Method):
        needs = frozenset(SIGNALS)

        def read(self, tokens, total):
            self.tokens = tokens
            return total(tokens.mask_BT.sum().view(1)).item()

        def decide(self, batch, goal):
            self.batch = batch
            return ec.Decision.everything(batch)

    class Watching(EntropyControlledGRPOTrainer):
        def _control(self, batch):
            with torch.no_grad():
                logits = logits_of(self.model, batch)
            self.log_probs_BT = token_log_probs(logits, batch["completion_ids"])
            self.rewards_B, self.seen = self._rewards_per_func[:, 0].double(), batch
            return super()._control(batch)

    method = Asking()
    trainer = make_trainer(Watching, entropy_controller=controller_of(method, WIDE))
    trainer.train()
    batch, tokens, mask_BT = method.batch, method.tokens, trainer.seen["completion_mask"].bool()
    assert torch.equal(batch.rewards, trainer.rewards_B)
    assert batch.groups.tolist() == [row // NUM_ROLLOUTS for row in range(len(mask_BT))]
    assert batch.num_tokens.tolist() == mask_BT.sum(-1).tolist() and batch.reading == mask_BT.sum()
    torch.testing.assert_close(batch.sequence_log_probs.float(), (trainer.log_probs_BT * mask_BT).sum(-1))
    assert batch.change.abs().max() > 0 and batch.visitation.abs().max() > 0
    torch.testing.assert_close(batch.change.float(), tokens.change_BT.sum(-1), atol=1e-6, rtol=1e-5)
    log_probs_BT = trainer.log_probs_BT
    torch.testing.assert_close(tokens.surprisal_BT[mask_BT], -log_probs_BT[mask_BT], atol=1e-4, rtol=1e-4)
    advantages_BT = trainer.seen["advantages"][:, None].expand_as(log_probs_BT)
    centred = [column - column[mask_BT].mean() for column in (log_probs_BT, advantages_BT)]
    expected = centred[0] * centred[1] * mask_BT
    torch.testing.assert_close(tokens.covariance_BT, expected, atol=1e-4, rtol=1e-4)


# ---- what cannot be carried out ---------------------------------------------------------------------

RLOO = "train.algorithm=rloo"
SEQUENCE = "train.trl={importance_sampling_level: sequence, loss_type: grpo}"
COMPILED = "train.trl={torch_compile: true}"
CISPO = "train.trl={loss_type: cispo, epsilon_high: 5.0}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["control.method=tokne"], "unknown method 'tokne': did you mean 'token'?"),
        (["control.method=brand_new"], "unknown method 'brand_new': Known: adaptive_clip, adaptive_temperature"),
        (
            ["control.method=nowhere:Half"],
            "cannot import nowhere: there is no module 'nowhere' in the working directory",
        ),
        (["control.method=raising:Half"], "cannot import raising: OSError: the disk is full"),
        (
            ["control.method=lacking:Half"],
            "cannot import lacking: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        (["control.method=mine:Hlaf"], "module mine has no 'Hlaf': did you mean 'Half'?"),
        (["control.method=mine.Half"], "unknown method 'mine.Half'"),
        (["control.method='mine:'"], "expected package.module:name, got 'mine:'"),
        (["control.method=mine:Other"], "expected a class derived from entrocraft.Method"),
        (["control.method=mine:half"], "expected a class derived from entrocraft.Method"),
        (["control.method=mine:Abstract"], "is an abstract class: it lacks decide"),
        (["control.method={name: 'mine:Half', start: one}"], "start: input should be a valid integer, got 'one'"),
        (["control.method={name: token, min_kept: lots}"], "min_kept: input should be a valid number, got 'lots'"),
        (["control.method={name: token, min_kpet: 0.2}"], "'min_kpet': did you mean 'min_kept'?"),
        (["control.method={name: 'mine:Half', strat: 1}"], "'strat': did you mean 'start'?"),
        (["control.method={name: none, start: 1}"], "takes no options, got 'start'"),
        (["control.method={name: entropy_bonus, start: 1.0}"], "expected least <= start <= most"),
        (["control.method={name: clip_cov, low: 5.0}"], "low < high"),
        (["control.method={name: entropic_released, confidence: 1.0}"], "confidence must lie in [0, 1)"),
        (["control.method={name: clip_b, gain: 2.0}"], "gain is for follow=True"),
        (["control.method={name: ucpo, tau: 1.5}"], "tau must lie in [0, 1], got 1.5"),
        (["control.method={name: stare, weight: 2.0}"], "1 <= weight <= most"),
        (["control.method={name: repo_r, zeta: 0.1}"], "expected 0 < least <= most and |zeta| <= most"),
        (["control.method=repo_r", RLOO], "sets tokens, which TRL's RLOOTrainer cannot"),
        (["control.method=mine:Asking"], "needs 'rewardz': did you mean 'rewards'?"),
        (["control.method=mine:Cooler", COMPILED], "sets temperature, which TRL's GRPOTrainer cannot: torch_compile"),
        (["control.method=mine:Cooler", RLOO, COMPILED], "sets temperature, which TRL's RLOOTrainer cannot"),
        (["control.method=mine:Wider", CISPO], "sets clip_high, which TRL's GRPOTrainer cannot: loss_type='cispo'"),
        (["control.method=token", RLOO], "sets tokens, which TRL's RLOOTrainer cannot"),
        (["control.method=clip_cov", RLOO], "sets tokens, which TRL's RLOOTrainer cannot"),
        (
            ["control.method=clip_cov", SEQUENCE],
            "sets tokens, which TRL's GRPOTrainer cannot: their losses weigh a rollout",
        ),
        (["control.method=entropic_released", SEQUENCE], "importance_sampling_level='sequence'; use method 'budget'"),
        (["control.method=entropy_bonus", RLOO], "sets entropy_coef, which TRL's RLOOTrainer cannot"),
        (["control={method: entropy_bonus, rejected: mask}"], "for methods that leave something out"),
        (["control={method: clip_cov, predictor: exact}"], "for methods that predict"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_the_model_loads(mine, monkeypatch, arguments, message):
    def loaded(*args, **kwargs):
        raise AssertionError("the model was loaded first")

    for name in ("load_model", "load_tokenizer_of"):
        monkeypatch.setattr(f"entrocraft.training.run.{name}", loaded)
    before = sorted(Path().iterdir())
    result = run_command("train", "run.yaml", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    (line,) = result.stderr.strip().splitlines()
    assert message in line
    assert [path for path in sorted(Path().iterdir()) if path.name != "__pycache__"] == before
