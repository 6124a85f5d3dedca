"""Methods that look at each mini-batch, on TRL: its loss has the gradient of the loss that was published."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from support import published
from support.commands import run_command
from support.trainers import NUM_PROMPTS, NUM_ROLLOUTS, controller_of, train_logs
from trl import GRPOConfig, GRPOTrainer, RLOOConfig

import entrocraft as ec
from entrocraft.control.methods import METHODS
from entrocraft.control.surrogate import Surrogate
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, with_entropy_control
from entrocraft.engines.trl.checks import checked_control
from entrocraft.errors import InvalidValueError
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import column_of

FOUR_UPDATES = {
    "per_device_train_batch_size": NUM_PROMPTS * NUM_ROLLOUTS // 4,
    "steps_per_generation": 4,
    "max_steps": 4,
    "learning_rate": 3e-2,
}
IN_TWO_PARTS = FOUR_UPDATES | {
    "per_device_train_batch_size": NUM_PROMPTS * NUM_ROLLOUTS // 8,
    "steps_per_generation": 8,
    "gradient_accumulation_steps": 2,
}


def published_loss(name, log_probs, entropy, inputs, anchor):
    """A micro-batch's mean over rollouts of the mean over tokens, with what else the authors add."""
    old = inputs["old_per_token_logps"]
    advantages, mask = inputs["advantages"][:, None].expand_as(old), inputs["completion_mask"]
    tokens = published.tokens(name, log_probs, old, advantages, mask)
    term = 0.5 * (published.siren_peak(entropy, mask, 0.2) - anchor) ** 2 if name == "siren" else 0.0
    return ((tokens * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean() + term


class Compared(EntropyControlledGRPOTrainer):
    """Takes the gradient of each micro-batch thrice: ours, of what was published, and of plain GRPO."""

    def _compute_loss(self, model, inputs):
        parts = self.current_gradient_accumulation_steps
        weights = [p for p in model.parameters() if p.requires_grad]
        name = self.entropy_controller.name

        def gradient(loss):
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            return torch.cat([g.flatten() for g in grads if g is not None])

        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)

        def theirs(which):
            log_probs, entropy, _ = GRPOTrainer._get_per_token_logps_and_entropies(
                self, model, ids, attention, inputs["completion_ids"].shape[1], compute_entropy=True
            )
            return gradient(published_loss(which, log_probs, entropy, inputs, self._decision.note) / parts)

        ours = gradient(super()._compute_loss(model, inputs))
        torch.testing.assert_close(ours, theirs(name), rtol=1e-4, atol=1e-6)
        assert (self.epsilon_low, self.epsilon_high) == (0.2, 0.2)
        self.differences = [*getattr(self, "differences", []), (ours - theirs("grpo")).norm().item()]
        return super()._compute_loss(model, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("config", [FOUR_UPDATES, IN_TWO_PARTS], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("name", published.OPTIONS)
def test_trls_loss_has_the_gradient_of_the_loss_that_was_published(make_trainer, name, config):
    trainer = make_trainer(
        Compared,
        config=config | {"loss_type": "grpo"},
        entropy_control={
            "schedule": "linear(1.0, 0.5, unit='initial')",
            "method": {"name": name, **published.OPTIONS[name]},
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer.train()
    at_first, *later = trainer.differences
    assert len(later) == 4 * config.get("gradient_accumulation_steps", 1) - 1
    # Before the first update the ratio is 1; afterwards it is not, and the methods are not plain GRPO.
    assert max(later) > 1e-4 and (at_first < 1e-6 or name == "siren")


@pytest.mark.slow
def test_a_surrogate_that_asks_for_nothing_leaves_trls_own_loss_to_the_bit(make_trainer):
    class Watching(ec.Method):
        turns = frozenset({"surrogate"})
        seen = ()

        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

        def surrogate(self, seen, decision, total):
            self.seen = (*self.seen, seen.ratio_BT.mean().item())
            assert not any(part.requires_grad for part in vars(seen).values())

    method = Watching()
    config = FOUR_UPDATES | {"learning_rate": 1e-3}
    ours = make_trainer(
        EntropyControlledGRPOTrainer, config=config, entropy_controller=controller_of(method, ec.Band(0.0, 100.0))
    )
    ours.train()
    plain = make_trainer(GRPOTrainer, config=config)
    plain.train()
    assert all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), plain.model.parameters(), strict=True))
    assert len(method.seen) == 4 and method.seen[0] == 1.0 and method.seen[1] != 1.0


@pytest.mark.slow
def test_a_coefficient_for_all_tokens_is_the_knob_entropy_coef(make_trainer):
    class Everywhere(ec.Method):
        turns = frozenset({"surrogate"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

        def surrogate(self, seen, decision, total):
            return Surrogate(entropy_coef_BT=torch.full_like(seen.entropy_BT, 0.05))

    weights = []
    for control in (
        {"entropy_controller": controller_of(Everywhere(), ec.Band(0.0, 100.0))},
        {"entropy_control": {"method": {"name": "fixed_bonus", "coef": 0.05}}},
    ):
        trainer = make_trainer(EntropyControlledGRPOTrainer, config=IN_TWO_PARTS | {"learning_rate": 1e-3}, **control)
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "value"), [((1,), 1.0), (None, math.nan)])
def test_a_surrogate_that_cannot_be_used_ends_the_run_with_its_name(make_trainer, shape, value):
    class Broken(ec.Method):
        turns = frozenset({"surrogate"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

        def surrogate(self, seen, decision, total):
            return Surrogate(advantages_BT=torch.full(shape or seen.mask_BT.shape, value))

    trainer = make_trainer(
        EntropyControlledGRPOTrainer, entropy_controller=controller_of(Broken(), ec.Band(0.0, 100.0))
    )
    with pytest.raises(InvalidValueError, match=r"Broken.surrogate: advantages_BT"):
        trainer.train()
    assert trainer.epsilon_low == trainer.epsilon_high == 0.2


@pytest.mark.slow
def test_a_loss_that_asks_for_no_entropies_ends_the_run(make_trainer):
    class Elsewhere(GRPOTrainer):
        def _compute_loss(self, model, inputs):
            return model(input_ids=inputs["completion_ids"]).logits.sum()

    trainer = make_trainer(with_entropy_control(Elsewhere), entropy_control={"method": "siren"})
    with pytest.raises(InvalidValueError, match="asks for no entropies, and so not for the surrogate of Siren"):
        trainer.train()


SMALL = """
task: {num_problems: 40}
control: {schedule: 0.9, width: 0.02}
train: {steps: 4, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 4, trl: {steps_per_generation: 4}}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""
NEW = ["adaptive_clip", "aent", "bapo", "ce_gppo", "clip_higher", "fixed_bonus", "flexible_clip", "kl_cov", "siren"]


@pytest.mark.slow
@pytest.mark.parametrize("method", NEW)
def test_each_trains_and_reports_with_four_updates_per_batch(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(SMALL)
    result = run_command("train", "run.yaml", f"control.method={method}", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "plain GRPO" not in result.output
    run = RunDirectory(Path("out"))
    lines = run.step_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        numbers = {name: value for name, value in line.items() if isinstance(value, float)}
        assert all(math.isfinite(value) for value in numbers.values()), numbers
        assert all(column_of(name) is not None for name in line)
    assert json.loads(run.controller_file.read_text())["method"] == method


# ---- one update per batch, and what cannot be carried out ---------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name, method in METHODS.items() if method.acts_on_ratio))
def test_a_run_with_one_update_per_batch_is_told_once_that_the_method_does_nothing(make_trainer, name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(EntropyControlledGRPOTrainer, entropy_control={"method": name})
    assert len([w for w in caught if "this run is plain GRPO" in str(w.message)]) == 1
    trainer.train()
    plain = make_trainer(GRPOTrainer)
    plain.train()
    ours, theirs = (torch.cat([p.detach().flatten() for p in t.model.parameters()]) for t in (trainer, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert train_logs(trainer)[0]["loss"] == pytest.approx(train_logs(plain)[0]["loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("config_class", "args", "message"),
    [
        (RLOOConfig, {}, "it is made of single tokens' ratios"),
        (GRPOConfig, {"importance_sampling_level": "sequence"}, "it is made of single tokens' ratios"),
        (GRPOConfig, {"top_entropy_quantile": 0.2}, "it is made of single tokens' ratios"),
        (GRPOConfig, {"loss_type": "cispo"}, "loss_type='cispo' has no clip range"),
        (GRPOConfig, {"delta": 4.0}, "delta clips the loss in a way of its own"),
    ],
)
def test_surrogates_are_refused_where_the_loss_cannot_take_them(config_class, args, message):
    trainer_args = config_class(output_dir="out", use_cpu=True, bf16=False, report_to="none", **args)
    with pytest.raises(InvalidValueError, match=f"sets surrogate, which TRL's .*Trainer cannot: {message}"):
        checked_control(ec.EntropyControl(method="kl_cov"), trainer_args)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.use_liger_kernel=True. is deprecated")
@pytest.mark.parametrize("method", [{"name": "fixed_bonus", "coef": 0.1}, {"name": "kl_cov", "share": 0.5}])
def test_under_ligers_kernels_of_layers_the_loss_is_trls_own(make_trainer, monkeypatch, method):
    applied = []
    monkeypatch.setattr("transformers.trainer.apply_liger_kernel", lambda model, config: applied.append(config))
    logs = []
    for use_liger in (False, True):
        config = {"max_steps": 2, "num_iterations": 2, "use_liger_kernel": use_liger}
        trainer = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control={"method": method})
        trainer.train()
        logs.append([(line["loss"], line["entropy"]) for line in train_logs(trainer)])
    assert applied == [{"fused_linear_cross_entropy": False}]
    assert logs[0] == logs[1]
