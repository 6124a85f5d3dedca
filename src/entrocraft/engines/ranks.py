"""What a decision needs of the other ranks: each sees its own rollouts, and all must decide alike."""

from typing import Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The ranks among which the rollouts of a batch are divided, equally many each."""

    count: int
    """How many there are."""
    index: int
    """Which of them this is, from 0."""
    is_main: bool
    """True on the one rank that reads files and speaks for all."""

    def gathered(self, *columns_B: Tensor) -> tuple[Tensor, ...]:
        """Return each column for the rollouts of all ranks, rank after rank, as float64 on the CPU."""
        ...

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over ranks of a tensor on the CPU, where float64 is always at hand."""
        ...

    def local(self, values_B: Tensor) -> Tensor:
        """Return this rank's part of a column for the rollouts of all ranks."""
        ...

    def from_main(self, text: str | None) -> str | None:
        """Return what the main rank passes here."""
        ...


class OneRank:
    """One process that holds the whole batch."""

    count, index, is_main = 1, 0, True

    def gathered(self, *columns_B: Tensor) -> tuple[Tensor, ...]:
        return torch.stack([column.float() for column in columns_B], dim=1).cpu().double().unbind(dim=1)

    def summed(self, values: Tensor) -> Tensor:
        return values

    def local(self, values_B: Tensor) -> Tensor:
        return values_B

    def from_main(self, text: str | None) -> str | None:
        return text
