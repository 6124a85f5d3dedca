"""Leaving rows out of a TRL batch, and what a loss must be multiplied by to make that good."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from entrocraft.control import EntropyControl
from entrocraft.errors import InvalidValueError

Batch = dict[str, Any]

# What each of TRL's losses divides by, and so how leaving rows out must be made good:
# "rows" and "tokens" divide by what the micro-batch holds, "global_tokens" by the whole batch's count.
LOSS_DENOMINATOR = {
    "grpo": "rows",
    "sapo": "rows",
    "dr_grpo": "rows",
    "luspo": "rows",
    "rloo": "rows",
    "bnpo": "tokens",
    "dapo": "global_tokens",
    "cispo": "global_tokens",
    "vespo": "global_tokens",
}

# Losses that average over each rollout's tokens before they average over rollouts; in all others every token weighs alike.
ROLLOUT_MEAN_LOSSES = frozenset({"grpo", "sapo"})

# Optimizers that keep second moments as torch's Adam does, or scale nothing.
KNOWN_SCALING = ("adamw_torch", "adamw_torch_fused", "sgd")


def loss_type_of(trainer_or_args: Any) -> str:
    """Return the name of the loss; RLOO, which has but one, does not name it."""
    return getattr(trainer_or_args, "loss_type", "rloo")


def weighs_whole_rollouts(trainer_args: Any) -> bool:
    """Return True if the loss has one ratio and one advantage per rollout, so that its tokens share their fate."""
    return (
        loss_type_of(trainer_args) == "rloo"
        or getattr(trainer_args, "importance_sampling_level", "token") == "sequence"
    )


def settled(control: EntropyControl, trainer_args: Any) -> EntropyControl:
    """Return the settings with the rule that fits the loss, if the user has named none."""
    if control.rule is not None:
        return control
    by_rollout = weighs_whole_rollouts(trainer_args) or control.visitation
    return replace(control, rule="budget" if by_rollout else "token")


def check_trainer_args(control: EntropyControl, trainer_args: Any) -> None:
    """Raise `InvalidValueError` if `control` cannot be right under TRL's arguments."""
    loss_type = loss_type_of(trainer_args)
    if control.drops:
        if loss_type not in LOSS_DENOMINATOR:
            raise InvalidValueError(
                f"dropping rollouts is not known to be right for loss_type={loss_type!r}; known: "
                f"{', '.join(sorted(LOSS_DENOMINATOR))}. Use EntropyControl(rejected='mask')."
            )
        if getattr(trainer_args, "use_adaptive_entropy", False):
            raise InvalidValueError(
                "use_adaptive_entropy would adapt to the kept rollouts alone, and is a second controller of the same "
                "entropy; turn it off, or use EntropyControl(rejected='mask')"
            )
    by_token = control.method == "rejection" and control.rule == "token"
    if getattr(trainer_args, "top_entropy_quantile", 1.0) < 1.0 and (control.drops or by_token):
        raise InvalidValueError(
            "top_entropy_quantile would take its quantile over the kept rows alone, and leaves out tokens that rule "
            "'token' counts on; set it to 1.0, or use EntropyControl(rule='budget', rejected='mask')"
        )
    adapts = getattr(trainer_args, "use_adaptive_entropy", False)
    if control.entropy_bonus and (loss_type == "rloo" or adapts or getattr(trainer_args, "use_liger_kernel", False)):
        raise InvalidValueError(
            "entropy_bonus is carried out by GRPOTrainer's own entropy bonus, which RLOOTrainer and Liger's loss do not "
            "have and use_adaptive_entropy governs itself; set entropy_bonus=0.0, or use GRPOTrainer without them"
        )
    if by_token and weighs_whole_rollouts(trainer_args):
        raise InvalidValueError(
            "rule 'token' leaves out tokens, which RLOOTrainer and importance_sampling_level='sequence' cannot: their "
            "losses weigh a rollout as a whole; use rule 'budget', or name no rule"
        )
    if control.aligned and optimizer_name(trainer_args) not in KNOWN_SCALING:
        raise InvalidValueError(
            f"predictor 'aligned' must know how the optimizer scales gradients, and does not for optim="
            f"{optimizer_name(trainer_args)!r}; use one of {', '.join(KNOWN_SCALING)}, or another predictor"
        )
    raw_rewards = control.estimator is not None or (control.method == "rejection" and control.rule == "reward")
    if loss_type == "rloo" and raw_rewards and (trainer_args.beta != 0.0 or trainer_args.reward_clip_range):
        raise InvalidValueError(
            "RLOOTrainer puts its KL penalty and reward clipping into the advantages, which `estimator` and rule "
            "'reward' replace by the raw rewards; set beta=0.0 and reward_clip_range=None, or use GRPOTrainer"
        )


def optimizer_memory(trainer_args: Any) -> float:
    """Return the share of an update's effect that the optimizer carries to the next step: Adam's beta1.

    SGD's momentum is not in TRL's arguments, so other optimizers are taken to carry nothing.
    """
    return float(trainer_args.adam_beta1) if "adam" in optimizer_name(trainer_args) else 0.0


def steps_per_decision(trainer_args: Any) -> float:
    """Return how many optimizer steps follow one batch of rollouts; less than 1 if a step takes several batches."""
    passes = trainer_args.steps_per_generation * trainer_args.num_iterations
    return float(passes / trainer_args.gradient_accumulation_steps)


def optimizer_name(trainer_args: Any) -> str:
    """Return the name of the optimizer as TRL's arguments give it."""
    return str(getattr(trainer_args.optim, "value", trainer_args.optim))


def loss_mask(batch: Batch) -> Tensor:
    """Return (B, T) 1 for the tokens the loss counts: neither padding nor a tool's output."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def num_loss_tokens(batch: Batch) -> Tensor:
    """Return how many tokens the loss counts."""
    return loss_mask(batch).sum()


def keep_rows(batch: Batch, keep_B: Tensor, num_rows: int) -> Batch:
    """Return `batch` with the kept rows only, filled up to `num_rows` with rows that count for nothing.

    Columns that no kept completion reaches are cut off, except with images, whose tokens must all stay.
    If nothing is kept, what is left is one filler of one prompt and one completion token: enough to run
    the collectives of a pass, and all but free.
    """
    kept = keep_B.nonzero().flatten()
    fillers = torch.zeros(num_rows - len(kept), dtype=torch.long, device=kept.device)
    rows = torch.cat([kept, fillers])

    by_row = split_pixel_values_by_grid(batch)  # a list with one entry per row, where images are flat
    selected: Batch = {}
    for name, value in by_row.items():
        if isinstance(value, Tensor) and value.ndim > 0:
            selected[name] = value[rows]
        elif isinstance(value, list):
            selected[name] = [value[row] for row in rows.tolist()]
        else:
            selected[name] = value
    selected = unsplit_pixel_values_by_grid(selected)

    if len(fillers):
        for name in ("completion_mask", "advantages", "old_logps", "old_per_token_logps"):
            if name in selected:
                selected[name][len(kept) :] = 0
    if not any(name in selected for name in ("pixel_values", "token_type_ids", "mm_token_type_ids")):
        full_width = selected["completion_ids"].shape[1]
        width = int(selected["completion_mask"].sum(-1).max().clamp(min=1)) if len(kept) else 1
        for name, value in selected.items():
            if isinstance(value, Tensor) and value.ndim == 2 and not name.startswith("prompt_"):
                selected[name] = value[:, :width] if value.shape[1] == full_width else value
        if not len(kept):
            selected["prompt_ids"] = selected["prompt_ids"][:, -1:]
            selected["prompt_mask"] = selected["prompt_mask"][:, -1:]
    return selected
