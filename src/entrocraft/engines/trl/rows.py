"""Leaving rows out of a TRL batch."""

from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

Batch = dict[str, Any]


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
    If nothing is kept, what is left is one filler of one prompt token and two completion tokens: enough to run
    the collectives of a pass, and all but free.
    """
    kept = keep_B.nonzero().flatten()
    fillers = torch.zeros(num_rows - len(kept), dtype=torch.long, device=kept.device)
    # Fillers are copies of row 0, which is there on every rank.
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
        # No mask, no advantage, and the log-probability of no tokens, which is 0: they add nothing to the loss.
        for name in ("completion_mask", "advantages", "old_logps", "old_per_token_logps"):
            if name in selected:
                selected[name][len(kept) :] = 0
    if not any(name in selected for name in ("pixel_values", "token_type_ids", "mm_token_type_ids")):
        # Columns on the right are padding for all that is left; `prompt_` ones are padded on the left.
        full_width = selected["completion_ids"].shape[1]
        width = int(selected["completion_mask"].sum(-1).max()) if len(kept) else 0
        width = max(width, 2)  # what is one column wide TRL's metrics take for values of whole sequences, unmasked
        for name, value in selected.items():
            if isinstance(value, Tensor) and value.ndim == 2 and not name.startswith("prompt_"):
                selected[name] = value[:, :width] if value.shape[1] == full_width else value
        if not len(kept):
            selected["prompt_ids"] = selected["prompt_ids"][:, -1:]
            selected["prompt_mask"] = selected["prompt_mask"][:, -1:]
    return selected
