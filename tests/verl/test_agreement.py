"""verl and TRL on the same batch: the same decision, the same gradient."""

import pytest
import torch
from datasets import Dataset
from launch import run_verl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from verl_on_cpu.watching import RECORDED

from entrocraft.engines.trl import with_entropy_control

pytestmark = pytest.mark.slow

ACTOR = "actor_rollout_ref.actor"
NUM_ROLLOUTS = 32


class Gradients(TrainerCallback):
    """Keeps the gradients of the step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.by_name = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def left_padded(ids, lengths):
    """Return ids and mask with the padding moved to the left, as TRL has prompts."""
    shifted = torch.stack([row.roll(ids.shape[1] - int(length)) for row, length in zip(ids, lengths, strict=True)])
    return shifted, (torch.arange(ids.shape[1]) >= ids.shape[1] - lengths[:, None]).long()


def as_trl_has_it(recorded):
    prompt_ids, prompt_mask = left_padded(recorded["prompts"], recorded["prompts_lengths"])
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": recorded["responses"],
        "completion_mask": recorded["response_mask"].long(),
        "advantages": recorded["advantages"][:, 0].float(),
        "num_items_in_batch": recorded["response_mask"].sum(),
    }


@pytest.mark.parametrize("rule", ["advantage", "budget", "token"])
def test_both_engines_make_the_same_step_of_the_same_batch(assets, tmp_path, rule):
    settings = {"lower": 0.0, "upper": 0.1, "rule": rule}
    block = ", ".join(f"{name}: {value}" for name, value in settings.items())
    run = run_verl(
        assets,
        tmp_path,
        "trainer.v1.trainer_mode=entrocraft_sync",
        f"+entrocraft={{{block}}}",
        # A step of plain gradient descent of length 1: the weights differ by the gradient.
        f"{ACTOR}.optim.optimizer=SGD",
        f"{ACTOR}.optim.lr=1.0",
        f"{ACTOR}.optim.weight_decay=0.0",
        f"{ACTOR}.grad_clip=1e9",
        "trainer.save_freq=1",
        steps=1,
        **{RECORDED: str(tmp_path / "batches")},
    )
    assert run.status == 0, run.text[-3000:]
    recorded = load_file(tmp_path / "batches/1.safetensors")
    batch = as_trl_has_it(recorded)
    seen = {}

    class OfThisBatch(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            return dict(batch)

    class Watching(with_entropy_control(OfThisBatch)):
        def _control(self, batch):
            ruled, seen["decision"] = super()._control(batch)
            seen["advantages"] = ruled["advantages"]
            return ruled, seen["decision"]

    gradients = Gradients()
    trainer = Watching(
        model=AutoModelForCausalLM.from_pretrained(assets / "model"),
        processing_class=AutoTokenizer.from_pretrained(assets / "model"),
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": ["1,2,3,4=10:"] * NUM_ROLLOUTS}),
        args=GRPOConfig(
            output_dir=str(tmp_path / "trl"),
            max_steps=1,
            per_device_train_batch_size=NUM_ROLLOUTS,
            num_generations=4,
            loss_type="bnpo",  # verl's token-mean
            beta=0.0,
            max_grad_norm=0.0,
            optim="sgd",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_dropout=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        callbacks=[gradients],
        entropy_control=settings,
    )
    trainer.train()

    decision = seen["decision"]
    assert decision.keep.tolist() == recorded["keep"].tolist()
    assert decision.metrics["entropy"] == pytest.approx(recorded["entropy_of_batch"].item(), abs=1e-6)
    ruled = seen["advantages"] if rule == "token" else seen["advantages"][:, None] * batch["completion_mask"]
    torch.testing.assert_close(ruled, recorded["ruled"], rtol=1e-5, atol=1e-6)

    before = AutoModelForCausalLM.from_pretrained(assets / "model").state_dict()
    saved = tmp_path / "checkpoints/global_step_1/actor/model_world_size_1_rank_0.pt"  # in float32, as trained
    after = {name: value.to_local() for name, value in torch.load(saved, weights_only=False).items()}
    size = torch.stack([gradient.norm() for gradient in gradients.by_name.values()]).norm()
    assert size > 0.01
    for name, gradient in gradients.by_name.items():
        assert (before[name] - after[name] - gradient).abs().max() < 1e-5 * size, name
