"""What is left of a batch, assigned to mini-batches and ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

from entrocraft.errors import InvalidValueError


@dataclass(frozen=True)
class Assignment:
    """Rows of a batch in the order in which verl divides them, and into what."""

    order: list[int]
    """Rank after rank; on each rank, mini-batch after mini-batch."""
    mini_batches: list[list[int]]
    """The kept rows of each mini-batch."""
    size: int
    """Rows of a mini-batch, over all ranks, with those that only fill up."""
    fillers: list[int]
    """Rows that only fill up: what they hold must count for nothing."""


def assign(
    lengths: Sequence[int], kept: Sequence[int], *, mini_batch_size: int, num_ranks: int, rows_per_pass: int = 1
) -> Assignment:
    """Assign the kept rows of a batch to as many mini-batches as the whole batch has.

    Every mini-batch gets at least one kept row and all are of one size, a multiple of `num_ranks * rows_per_pass`; the
    shortest of the other rows fill them up. Within each, ranks get about the same work. With fewer kept rows than
    mini-batches there are as many mini-batches as rows.

    Args:
        lengths: Tokens of each row of the batch, prompt and response.
        kept: Rows that are kept, at least one.
        mini_batch_size: Rows of a mini-batch of the whole batch, over all ranks.
        num_ranks: Data-parallel ranks.
        rows_per_pass: Rows that a rank passes through the model at once, where that is fixed.

    Raises:
        InvalidValueError: The mini-batch size is no multiple of `num_ranks * rows_per_pass`, or does not divide the
            batch.

    Example:
        >>> assign([5, 9, 4, 7, 3, 8], [1, 3, 5], mini_batch_size=3, num_ranks=1).mini_batches
        [[1, 5], [3]]
        >>> assign([5, 9, 4, 7, 3, 8], [1, 3, 5], mini_batch_size=3, num_ranks=1).fillers
        [4]
    """
    unit = num_ranks * rows_per_pass
    if mini_batch_size % unit or len(lengths) % mini_batch_size:
        raise InvalidValueError(
            f"{len(lengths)} rollouts in mini-batches of {mini_batch_size} cannot be assigned to {num_ranks} ranks, "
            f"{rows_per_pass} at once; make actor.ppo_mini_batch_size * rollout.n a multiple of {unit}"
        )
    # As many optimizer steps as without control, but none without a kept row.
    number = min(len(lengths) // mini_batch_size, len(kept))
    # verl cuts a batch into mini-batches of one size, and each into equal parts for ranks and passes.
    size = math.ceil(math.ceil(len(kept) / number) / unit) * unit
    others = sorted(set(range(len(lengths))) - set(kept), key=lambda row: (lengths[row], row))
    fillers = others[: number * size - len(kept)]
    # Dealt out in turns, so that rollouts of one prompt come into different mini-batches.
    mini_batches = [list(kept[first::number]) for first in range(number)]

    waiting = list(fillers)
    of_rank: list[list[int]] = [[] for _ in range(num_ranks)]
    for rows in mini_batches:
        missing = size - len(rows)
        full, waiting = rows + waiting[:missing], waiting[missing:]
        # As verl balances whole batches: attention makes work grow faster than length.
        work = calculate_workload(torch.tensor([lengths[row] for row in full]))
        parts = get_seqlen_balanced_partitions(work, k_partitions=num_ranks, equal_size=True)
        for rank, part in zip(of_rank, parts, strict=True):
            rank.extend(full[index] for index in part)
    return Assignment([row for rank in of_rank for row in rank], mini_batches, size, fillers)


def token_shares(assignment: Assignment, tokens_of: Mapping[int, int], num_mini_batches: int) -> dict[int, float]:
    """Return by row the kept tokens of its mini-batch over those that a mini-batch of the whole batch has on average.

    A mean over the tokens of each mini-batch, times this, is a mean over all tokens, the rejected ones included.

    Args:
        assignment: Which rows are where.
        tokens_of: By row of the batch, tokens that the loss counts.
        num_mini_batches: Mini-batches of the whole batch.

    Example:
        >>> assignment = Assignment([0, 2], [[0, 2]], 2, [])
        >>> token_shares(assignment, {0: 6, 1: 10, 2: 4, 3: 0}, num_mini_batches=1)
        {0: 0.5, 2: 0.5}
    """
    usual = sum(tokens_of.values()) / num_mini_batches
    return {row: sum(tokens_of[other] for other in rows) / usual for rows in assignment.mini_batches for row in rows}
