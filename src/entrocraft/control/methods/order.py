"""Greatest and smallest of all ranks' tokens, by counting: ranks exchange counts alone."""

import torch
from torch import Tensor

from entrocraft.control.methods.base import Total

_DIGITS, _BITS = 4, 8
"""A float32 of at least 0, read as an integer, keeps its order; it has four digits of eight bits."""


def kth_largest(values_N: Tensor, k: int, total: Total) -> float:
    """Return the k-th largest of the values of all ranks, exactly; every rank gets the same.

    Digit by digit, the most significant first: ranks add up how many of their values have each digit, and go on with
    those that have the digit of the one sought. So 4 * 256 counts are exchanged, however many values there are.

    Args:
        values_N: This rank's, at least 0; as many as it has, which may be none.
        k: From 1 to the number of all ranks' values.
        total: Adds up over ranks.

    Example:
        >>> kth_largest(torch.tensor([0.5, 3.0, 1.0, 3.0]), 3, lambda counts: counts)
        1.0
    """
    keys_N = values_N.detach().cpu().float().clamp(min=0.0).add(0.0).view(torch.int32).long()
    found = 0
    for digit in reversed(range(_DIGITS)):
        digits_N = (keys_N >> (_BITS * digit)) & (2**_BITS - 1)
        counts = total(torch.bincount(digits_N, minlength=2**_BITS).double())
        # How many values have a digit at least as great; the digit sought is the greatest of which there are k.
        at_least = counts.flip(0).cumsum(0).flip(0)
        chosen = int((at_least >= k).nonzero().max())
        k -= int(at_least[chosen] - counts[chosen])
        found = found << _BITS | chosen
        keys_N = keys_N[digits_N == chosen]
    return torch.tensor(found, dtype=torch.int32).view(torch.float32).item()
