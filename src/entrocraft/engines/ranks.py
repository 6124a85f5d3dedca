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


class RanksTokens:
    """The tokens of a batch on several ranks; see `dynamics.estimates.Elsewhere`.

    Args:
        ranks: Among which the batch is divided.
    """

    def __init__(self, ranks: Ranks):
        self._ranks = ranks

    def place(self, num_tokens: int) -> tuple[int, int]:
        counts = self._counts(num_tokens)
        return sum(counts[: self._ranks.index]), sum(counts)

    def joined(self, values_N: Tensor) -> Tensor:
        counts = self._counts(len(values_N))
        # Rows are gathered equally many from each rank.
        padded = values_N.new_zeros(max(counts))
        padded[: len(values_N)] = values_N
        parts = self._ranks.gathered(padded)[0].view(len(counts), -1)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(values_N)

    def summed(self, values: Tensor) -> Tensor:
        return self._ranks.summed(values)

    def _counts(self, num_tokens: int) -> list[int]:
        mine = torch.zeros(self._ranks.count, dtype=torch.float64)
        mine[self._ranks.index] = num_tokens
        return [int(count) for count in self._ranks.summed(mine)]


def tokens_elsewhere(ranks: Ranks) -> RanksTokens | None:
    """Return the tokens of all ranks, for estimates over the whole batch; None if this is the only rank."""
    return RanksTokens(ranks) if ranks.count > 1 else None
