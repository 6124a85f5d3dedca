"""Leaving rows out of a TRL batch, and what a loss must be multiplied by to make that good."""

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

# Tensors with one column per completion token; anything else is left at its width.
_COMPLETION_COLUMNS = (
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
    "advantages",
)


def check_loss_type(control: EntropyControl, trainer_args: Any) -> None:
    """Raise `InvalidValueError` if rows cannot be dropped under the loss that `trainer_args` ask for."""
    loss_type = getattr(trainer_args, "loss_type", "rloo")  # RLOOConfig has no loss_type
    if control.rejected == "drop" and loss_type not in LOSS_DENOMINATOR:
        raise InvalidValueError(
            f"dropping rollouts is not known to be right for loss_type={loss_type!r}; known: "
            f"{', '.join(sorted(LOSS_DENOMINATOR))}. Use EntropyControl(rejected='mask')."
        )


def per_rollout(advantages: Tensor, mask_BT: Tensor) -> Tensor:
    """Return one advantage per rollout; of token-level ones, the mean over counted tokens."""
    if advantages.ndim == 1:
        return advantages
    return (advantages * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1)


def num_loss_tokens(batch: Batch) -> Tensor:
    """Return how many tokens the loss counts: neither padding nor a tool's output."""
    mask = batch["completion_mask"]
    return (mask * batch["tool_mask"] if "tool_mask" in batch else mask).sum()


def keep_rows(batch: Batch, keep_B: Tensor, num_rows: int) -> Batch:
    """Return `batch` with the kept rows only, filled up to `num_rows` with rows that count for nothing.

    Columns that no kept completion reaches are cut off. If nothing is kept, what is left is one filler
    of one prompt and one completion token: enough to run the collectives of a pass, and all but free.
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
        for name in ("completion_mask", "advantages", "old_logps"):
            if name in selected:
                selected[name][len(kept) :] = 0
    width = int(selected["completion_mask"].sum(-1).max().clamp(min=1)) if len(kept) else 1
    full_width = selected["completion_ids"].shape[1]
    for name in _COMPLETION_COLUMNS:
        value = selected.get(name)
        if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == full_width:
            selected[name] = value[:, :width]
    if not len(kept) and "pixel_values" not in selected:
        selected["prompt_ids"] = selected["prompt_ids"][:, -1:]
        selected["prompt_mask"] = selected["prompt_mask"][:, -1:]
    return selected
