"""Methods through verl's stock command, on the CPU: the library's and a user's own, knobs that turn, exact signals."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from agreeing import as_trl_has_it
from launch import run_verl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from verl_on_cpu.watching import RECORDED

from entrocraft.dynamics import self_kernel
from entrocraft.engines.verl.checks import check_config
from entrocraft.engines.verl.settings import VerlSettings
from entrocraft.errors import EntrocraftError

SYNC = "trainer.v1.trainer_mode=entrocraft_sync"
ACTOR = "actor_rollout_ref.actor"
LOW, HIGH = "lower: 4.0, upper: 5.0", "lower: 0.0, upper: 0.1"
COEF, CLIP = 0.05, 0.01
PARITY = [  # by which the answers to nearly every problem differ
    f"reward.custom_reward_function.path={Path(__file__).with_name('rewarding.py')}",
    "reward.custom_reward_function.name=by_parity",
]
# In the second pass over each batch ratios have left 1, some by more than the clip range.
TWO_PASSES = [*PARITY, f"{ACTOR}.ppo_epochs=2", f"{ACTOR}.optim.lr=1e-3"]
MINE = """
import json
import os
from pathlib import Path

import torch

import entrocraft as ec
from entrocraft.control.surrogate import Surrogate


class Turning(ec.Method):
    turns = frozenset({"entropy_coef", "clip_high"})

    def __init__(self, coef: float, clip: float):
        self.knobs = {"entropy_coef": coef, "clip_high": clip}

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, knobs=self.knobs, metrics={"said_by_mine": self.knobs["clip_high"]})


class Cooler(ec.Method):
    turns = frozenset({"temperature"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, knobs={"temperature": 0.5})


class AsVerl(ec.Method):
    turns = frozenset({"surrogate"})

    def __init__(self, coef: float, clip: float, notes: str):
        self.coef, self.clip, self.notes = coef, clip, notes

    def decide(self, batch, goal):
        return ec.Decision.everything(batch, note=self.clip)

    def surrogate(self, seen, decision, total):
        ratio, own = seen.ratio_BT, seen.advantages_BT
        counts = torch.stack([seen.mask_BT.sum(), ((ratio - 1.0).abs() > 1e-3).sum()]).double()
        line = {"counts": counts.tolist(), "total": total(counts).tolist(), "entropy": seen.entropy_BT.max().item()}
        with Path(self.notes, str(os.getpid())).open("a") as file:
            file.write(json.dumps(line) + "\\n")
        beyond = torch.where(own > 0, ratio > 1.0 + decision.note, (ratio < 0.8) | (ratio > 3.0))
        return Surrogate(
            advantages_BT=own.masked_fill(beyond, 0.0), entropy_coef_BT=torch.full_like(ratio, self.coef)
        )
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A module of one's own, where Python finds it in every process."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my_methods.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.syspath_prepend(folder)
        yield "my_methods"


def assert_fine(run, steps):
    assert run.status == 0, run.text[-3000:]
    assert run.column("step") == list(range(1, steps + 1))
    for step in run.steps:
        ours = {name: value for name, value in step.items() if name.startswith(("entrocraft/", "actor/"))}
        assert all(math.isfinite(value) for value in ours.values()), ours


@pytest.fixture(scope="module")
def constant(assets, tmp_path_factory):
    """verl itself, without control, with an entropy bonus and a clip range that never change."""
    run = run_verl(
        assets,
        tmp_path_factory.mktemp("constant"),
        *TWO_PASSES,
        f"{ACTOR}.entropy_coeff={COEF}",
        f"{ACTOR}.clip_ratio_high={CLIP}",
        steps=2,
    )
    assert run.status == 0, run.text[-3000:]
    assert min(run.column("actor/pg_clipfrac")) > 0
    return run


def assert_same_updates(run, constant):
    """The samplers draw alike where weights are alike, so that runs can be held against each other step by step."""
    assert_fine(run, steps=2)
    for name in ("actor/entropy", "actor/grad_norm", "actor/pg_loss", "actor/pg_clipfrac", "actor/entropy_loss"):
        assert run.column(name) == pytest.approx(constant.column(name), rel=1e-4, abs=1e-6), name


@pytest.mark.slow
def test_a_users_own_method_turns_the_knobs_of_verls_loss(assets, tmp_path, mine, constant):
    method = f"method: {{name: '{mine}:Turning', coef: {COEF}, clip: {CLIP}}}"
    run = run_verl(assets, tmp_path, SYNC, *TWO_PASSES, f"+entrocraft={{{LOW}, {method}}}", steps=2)
    assert_same_updates(run, constant)
    assert run.column("entrocraft/said_by_mine") == [CLIP, CLIP]
    assert run.column("entrocraft/kept_fraction") == [1.0, 1.0]


@pytest.mark.slow
def test_an_entropy_bonus_that_stands_still_is_verls_own_and_comes_on_top_of_it(assets, tmp_path, constant):
    method = f"method: {{name: entropy_bonus, least: {COEF - 0.02}, start: {COEF - 0.02}, most: {COEF - 0.02}}}"
    own = [f"{ACTOR}.entropy_coeff=0.02", f"{ACTOR}.clip_ratio_high={CLIP}"]
    run = run_verl(assets, tmp_path, SYNC, *TWO_PASSES, *own, f"+entrocraft={{{LOW}, {method}}}", steps=2)
    assert_same_updates(run, constant)
    assert run.column("entrocraft/entropy_coef") == pytest.approx([COEF - 0.02] * 2)


def seen_by(folder):
    """What the surrogate of `AsVerl` has noted, by rank."""
    files = sorted(folder.iterdir())
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


@pytest.mark.slow
def test_a_surrogate_that_is_verls_own_loss_makes_verls_own_updates(assets, tmp_path, mine, constant):
    notes = tmp_path / "notes"
    notes.mkdir()
    method = f"method: {{name: '{mine}:AsVerl', coef: {COEF}, clip: {CLIP}, notes: '{notes}'}}"
    run = run_verl(assets, tmp_path, SYNC, *TWO_PASSES, f"+entrocraft={{{LOW}, {method}}}", steps=2)
    assert_fine(run, steps=2)
    for name in ("actor/entropy", "actor/grad_norm"):
        assert run.column(name) == pytest.approx(constant.column(name), rel=1e-4, abs=1e-6), name
    ((first, *later),) = seen_by(notes)
    assert first["counts"][1] == 0 < max(line["counts"][1] for line in later)  # the ratio leaves 1


@pytest.mark.slow
def test_a_surrogate_adds_up_over_verls_ranks(assets, tmp_path, mine):
    notes = tmp_path / "notes"
    notes.mkdir()
    method = f"method: {{name: '{mine}:AsVerl', coef: 0.0, clip: 0.2, notes: '{notes}'}}"
    run = run_verl(assets, tmp_path, SYNC, *TWO_PASSES, f"+entrocraft={{{LOW}, {method}}}", steps=1, ranks=2)
    assert_fine(run, steps=1)
    for ours, theirs in zip(*seen_by(notes), strict=True):
        summed = [a + b for a, b in zip(ours["counts"], theirs["counts"], strict=True)]
        assert ours["total"] == theirs["total"] == summed


def recorded_run(assets, folder, method, steps=2):
    """Return a run and the batch of each of its steps."""
    batches = folder / "batches"
    control = f"+entrocraft={{{HIGH}, {method}}}"
    run = run_verl(assets, folder, SYNC, *PARITY, control, steps=steps, **{RECORDED: str(batches)})
    assert_fine(run, steps)
    return run, [load_file(batches / f"{step}.safetensors") for step in range(1, steps + 1)]


@pytest.mark.slow
def test_clip_cov_leaves_out_a_few_tokens_of_high_covariance(assets, tmp_path):
    low, high, share = 0.1, 2.0, 0.05
    method = f"method: {{name: clip_cov, low: {low}, high: {high}, share: {share}}}"
    run, batches = recorded_run(assets, tmp_path, method)
    for step, batch in zip(run.steps, batches, strict=True):
        counted = batch["response_mask"].bool()
        centred = [batch[name] - batch[name][counted].mean() for name in ("old_log_probs", "advantages")]
        covariance = centred[0] * centred[1]
        eligible = (covariance > low) & (covariance < high) & counted
        assert step["entrocraft/eligible_fraction"] == pytest.approx(float(eligible.sum() / counted.sum()), abs=2e-3)
        left_out = (batch["used_advantages"] == 0) & (batch["advantages"] != 0) & counted
        assert 0 < left_out.sum() < 4 * share * counted.sum() and not (left_out & ~eligible).any()
        torch.testing.assert_close(batch["used_advantages"], batch["advantages"] * counted * ~left_out)
        kept_share = 1 - float(left_out.sum() / counted.sum())
        assert step["entrocraft/kept_token_fraction"] == pytest.approx(kept_share, abs=1e-6)


@pytest.mark.slow
def test_entropic_as_released_weighs_confident_tokens(assets, tmp_path):
    method = "method: {name: entropic_released, confidence: 0.9}"
    run, batches = recorded_run(assets, tmp_path, method, steps=3)
    integral = 0.0
    for step, batch in zip(run.steps, batches, strict=True):
        counted, advantages = batch["response_mask"].bool(), batch["advantages"]
        error = step["entrocraft/entropy"] - 0.05
        alpha, integral = min(1.0, error + 0.01 * integral), integral + error
        assert step["entrocraft/alpha"] == pytest.approx(alpha, abs=1e-5)
        confident = (batch["old_log_probs"].exp() > 0.9) & counted
        weight = alpha * counted.sum() / confident.sum()
        expected = (advantages + weight * advantages.abs() * confident) * counted
        torch.testing.assert_close(batch["used_advantages"], expected, rtol=1e-4, atol=1e-5)
        assert confident.any() and step["entrocraft/kept_token_fraction"] == 1.0


@pytest.mark.slow
def test_log_probabilities_of_rollouts_reach_methods_that_need_them(assets, tmp_path):
    gamma = 0.01
    _, batches = recorded_run(assets, tmp_path, f"method: {{name: ds_grpo, gamma: {gamma}, negative_gamma: 0.0}}")
    for batch in batches:
        counted = batch["response_mask"].bool()
        log_probs_B = batch["old_log_probs"].masked_fill(~counted, 0.0).sum(-1, keepdim=True)
        # Of prompts whose answers differ, those above the mean are the successes.
        added = torch.where(batch["advantages"] > 0, -gamma * log_probs_B, 0.0) * counted
        compared = (batch["advantages"] != 0) & counted
        assert compared.any() and added.any()
        torch.testing.assert_close(batch["used_advantages"][compared], (batch["advantages"] + added)[compared])


@pytest.mark.slow
def test_visitation_is_made_of_exact_sums_of_squared_probabilities(assets, tmp_path):
    run, (batch, _) = recorded_run(assets, tmp_path, "method: budget, visitation: true")
    assert run.steps[1]["entrocraft/gain_1"] > 0
    rows = as_trl_has_it(batch)
    ids = torch.cat([rows["prompt_ids"], rows["completion_ids"]], dim=1)
    mask = torch.cat([rows["prompt_mask"], rows["completion_mask"]], dim=1)
    width = rows["completion_ids"].shape[1]
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(assets / "model")
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1]
    counted, exact = rows["completion_mask"].bool(), self_kernel(logits, rows["completion_ids"])
    assert "self_kernel" in batch
    torch.testing.assert_close(batch["self_kernel"][counted], exact[counted], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+entrocraft.method=my_methods:Turnign"], "has no 'Turnign': did you mean 'Turning'"),
        (["+entrocraft.method=no_methods:Mine"], "there is no module 'no_methods'"),
        (["+entrocraft.method=json:JSONDecoder"], "expected a class derived from entrocraft.Method"),
        (["+entrocraft.method={name: 'my_methods:Turning', coef: 0.1}"], "needs clip"),
        (["+entrocraft.method={name: token, min_kpet: 0.2}"], "did you mean 'min_kept'"),
        (["+entrocraft.method=my_methods:Cooler"], "sets temperature, which verl's sync trainer cannot"),
        (
            ["+entrocraft.method=clip_cov", f"{ACTOR}.policy_loss.loss_mode=gspo"],
            "sets tokens, which verl's sync trainer cannot: loss_mode=gspo weighs a rollout as a whole",
        ),
        (
            [
                "+entrocraft.method={name: 'my_methods:Turning', coef: 0.1, clip: 0.2}",
                f"{ACTOR}.policy_loss.loss_mode=gpg",
            ],
            "sets clip_high, which verl's sync trainer cannot: loss_mode=gpg has no clip range",
        ),
        (
            ["+entrocraft.method=kl_cov", f"{ACTOR}.policy_loss.loss_mode=gspo"],
            "sets surrogate, which verl's sync trainer cannot: loss_mode=gspo is none that a surrogate",
        ),
        (
            ["+entrocraft.method=clip_higher", f"{ACTOR}.policy_loss.loss_mode=gpg"],
            "which verl's sync trainer cannot: loss_mode=gpg has no clip range",
        ),
        (
            ["+entrocraft.method=entropic", "algorithm.adv_estimator=gae"],
            "sets advantages, which verl's sync trainer cannot",
        ),
    ],
)
def test_what_verl_cannot_carry_out_is_refused_with_its_name(compose, mine, overrides, message):
    with pytest.raises(EntrocraftError) as refused:
        check_config(compose(*overrides))
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("method", ["entropy_bonus", "{name: 'my_methods:Turning', coef: 0.1, clip: 0.2}"])
def test_knobs_are_refused_where_verl_puts_workers_of_its_own(compose, mine, method):
    with pytest.raises(EntrocraftError, match="which verl's separate_async trainer cannot: separate_async replaces"):
        check_config(compose(f"+entrocraft.method={method}", trainer_mode="entrocraft_separate_async"))
    check_config(compose(f"+entrocraft.method={method}", trainer_mode="entrocraft_colocate_async"))


def test_a_stand_in_for_entropy_serves_methods_that_need_no_more(compose):
    for method in ("entropy_bonus", "clip_cov", "entropic_released"):
        check_config(compose(f"+entrocraft={{entropy_source: rollout, method: {method}}}"))
    for method, signal in (("budget", "change"), ("clip_b", "token_entropy"), ("steer_weights", "token_entropy")):
        with pytest.raises(EntrocraftError, match=f"needs {signal}, which verl's sync trainer cannot"):
            check_config(compose(f"+entrocraft={{entropy_source: rollout, method: {method}}}"))


def test_options_reach_a_method_of_ones_own(compose, mine):
    written = f"{{name: '{mine}:Turning', coef: 0.1, clip: 0.2}}"
    assert VerlSettings.of(compose(f"+entrocraft.method={written}")).method.knobs == {
        "entropy_coef": 0.1,
        "clip_high": 0.2,
    }


@pytest.mark.parametrize("method", ["clip_higher", "adaptive_clip"])
def test_a_run_with_one_update_per_batch_is_told_that_the_method_does_nothing(compose, method):
    one, four = (
        compose(f"+entrocraft.method={method}", "data.train_batch_size=64", f"{ACTOR}.ppo_mini_batch_size={size}")
        for size in (64, 16)
    )
    with pytest.warns(UserWarning, match=f"method '{method}' acts on the ratio .* this run is plain GRPO"):
        VerlSettings.of(one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VerlSettings.of(four)


@pytest.mark.slow
def test_a_factor_on_the_learning_rate_is_another_learning_rate(assets, tmp_path, constant):
    """A half of twice the rate is exact in floating point; all passes have it, and the scheduler knows nothing."""
    method = "method: {name: learning_rate, least: 0.5, start: 0.5, most: 0.5}"
    own = [f"{ACTOR}.optim.lr=2e-3", f"{ACTOR}.entropy_coeff={COEF}", f"{ACTOR}.clip_ratio_high={CLIP}"]
    run = run_verl(assets, tmp_path, SYNC, *TWO_PASSES, *own, f"+entrocraft={{{LOW}, {method}}}", steps=2)
    assert_same_updates(run, constant)
    assert run.column("entrocraft/learning_rate_factor") == [0.5, 0.5]
    assert (run.column("actor/lr"), constant.column("actor/lr")) == ([2e-3, 2e-3], [1e-3, 1e-3])
