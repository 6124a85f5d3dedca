"""Rollouts of one prompt, for methods that compare them."""

from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.errors import InvalidValueError


def rows_by_prompt(batch: Batch, among: Tensor | None = None) -> list[Tensor]:
    """Return, for each prompt, the rows of its rollouts that the loss counts a token of, in order.

    Args:
        batch: With `groups` and `num_tokens`.
        among: (B,) bool: take no others than these.

    Example:
        >>> import torch
        >>> fields = {"groups": torch.tensor([7, 3, 7]), "num_tokens": torch.tensor([2, 2, 1])}
        >>> rows_by_prompt(Batch(step=1, entropy=0.5, advantages=torch.zeros(3), **fields))
        [tensor([1]), tensor([0, 2])]
    """
    if batch.groups is None or batch.num_tokens is None:
        raise InvalidValueError(
            "expected Batch.groups and Batch.num_tokens: the method compares rollouts of one prompt"
        )
    is_in = batch.num_tokens > 0 if among is None else (batch.num_tokens > 0) & among
    rows = is_in.nonzero().flatten()
    # Rollouts of one prompt beside each other, and in their order.
    groups, order = batch.groups[rows].sort(stable=True)
    sizes = groups.unique_consecutive(return_counts=True)[1]
    return list(rows[order].split(sizes.tolist())) if len(rows) else []
