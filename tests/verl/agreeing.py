"""One step of verl, and the same step of TRL on the batch that verl had."""

from pathlib import Path

import torch
from datasets import Dataset
from launch import run_verl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from verl_on_cpu.watching import RECORDED

from entrocraft.engines.trl import with_entropy_control

ACTOR = "actor_rollout_ref.actor"
NUM_ROLLOUTS = 32


DOUBTFUL = 0.05
"""Share of the largest predicted change below which derivatives and differences may part on a change's sign."""


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


def agreement(assets, folder, method, ranks=1):
    """Return how far the two engines agree.

    Returns:
        Whether they keep the same rollouts; the correlation of what they predict of each, None where the method
        predicts nothing; the difference of entropy, of what is left of the advantages, and of the gradients: the
        largest of an entry over the norm of the whole. Method `aligned` takes derivatives on TRL and differences on
        verl, so a rollout that does next to nothing (`DOUBTFUL`) may be kept by one alone; then the last two are None.
    """
    settings = {"lower": 0.0, "upper": 0.1, "method": method}
    block = ", ".join(f"{name}: {value}" for name, value in settings.items())
    run = run_verl(
        assets,
        folder,
        "trainer.v1.trainer_mode=entrocraft_sync",
        f"+entrocraft={{{block}}}",
        # A step of plain gradient descent of length 1: the weights differ by the gradient.
        f"{ACTOR}.optim.optimizer=SGD",
        f"{ACTOR}.optim.lr=1.0",
        f"{ACTOR}.optim.weight_decay=0.0",
        f"{ACTOR}.optim.clip_grad=1e9",
        f"reward.custom_reward_function.path={Path(__file__).with_name('rewarding.py')}",
        "reward.custom_reward_function.name=by_parity",
        "trainer.save_freq=1",
        steps=1,
        ranks=ranks,
        **{RECORDED: str(folder / "batches")},
    )
    if run.status:
        raise RuntimeError(run.text[-3000:])
    recorded = load_file(folder / "batches/1.safetensors")
    batch = as_trl_has_it(recorded)
    seen = {}

    class OfThisBatch(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            return dict(batch)

    class Watching(with_entropy_control(OfThisBatch)):
        def _control(self, batch):
            decide = self._decider.decide

            def watched(*args, **kwargs):
                seen["update"] = decide(*args, **kwargs)
                return seen["update"]

            self._decider.decide = watched
            return super()._control(batch)

    gradients = Gradients()
    trainer = Watching(
        model=AutoModelForCausalLM.from_pretrained(assets / "model"),
        processing_class=AutoTokenizer.from_pretrained(assets / "model"),
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": ["1,2,3,4=10:"] * NUM_ROLLOUTS}),
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
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

    update = seen["update"]
    kept, kept_on_verl = update.decision.keep, recorded["keep"].bool()
    same, correlation, clear = torch.equal(kept, kept_on_verl), None, torch.ones_like(kept)
    if "predicted" in recorded:
        both = torch.stack([update.batch.change.double(), recorded["predicted"].double()])
        correlation = torch.corrcoef(both)[0, 1].item()
        if method == "aligned":
            clear = both[1].abs() > DOUBTFUL * both[1].abs().max()
    used = update.advantages if method == "token" else update.advantages[:, None] * batch["completion_mask"]
    before = AutoModelForCausalLM.from_pretrained(assets / "model").state_dict()
    saved = folder / "checkpoints/global_step_1/actor"  # in float32, as trained
    shards = [torch.load(saved / f"model_world_size_{ranks}_rank_{i}.pt", weights_only=False) for i in range(ranks)]
    after = {name: torch.cat([shard[name].to_local() for shard in shards]) for name in shards[0]}
    norm = torch.stack([gradient.norm() for gradient in gradients.by_name.values()]).norm()
    differences = [before[name] - after[name] - gradient for name, gradient in gradients.by_name.items()]
    return {
        "same_rollouts_kept": torch.equal(kept[clear], kept_on_verl[clear]),
        "prediction_correlation": correlation,
        "share_of_tokens_kept": update.decision.metrics["kept_token_fraction"],
        "entropy_difference": abs(update.batch.entropy - recorded["entropy_of_batch"].item()),
        "largest_advantage_difference": (used - recorded["used_advantages"]).abs().max().item() if same else None,
        "gradient_norm": norm.item(),
        "largest_gradient_difference": max(d.abs().max().item() for d in differences) / norm.item() if same else None,
    }
