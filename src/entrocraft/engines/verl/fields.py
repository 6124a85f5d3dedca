"""Fields of verl's batches: the tensors themselves live in its TransferQueue, rows are named by keys.

Shapes: B rollouts, T tokens of a response.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from verl.workers.utils.padding import response_from_nested, response_to_nested

if TYPE_CHECKING:  # importing verl's trainers registers ours, which import this module
    from verl.trainer.ppo.v1.trainer_base import KVBatchMeta


def read(batch: "KVBatchMeta", rows: Sequence[int], names: list[str]) -> TensorDict:
    """Return fields of some rows of a batch."""
    return tq.kv_batch_get(keys=[batch.keys[row] for row in rows], partition_id=batch.partition_id, select_fields=names)


def read_responses(batch: "KVBatchMeta", rows: Sequence[int], name: str, mask_BT: Tensor) -> Tensor:
    """Return what a field of whole sequences says of the tokens of the responses (B, T), 0 beyond them."""
    answer = read(batch, rows, [name, "response_mask"])
    nested = response_from_nested(answer[name], answer["response_mask"])
    return torch.nested.to_padded_tensor(nested.float(), 0.0, output_size=tuple(mask_BT.shape)).to(mask_BT.device)


def write(batch: "KVBatchMeta", rows: Sequence[int], own: TensorDict, new: dict[str, Tensor]) -> None:
    """Give rows of a batch other fields: padded ones, of the responses that `own` has the mask of."""
    nested = {name: response_to_nested(value, own["response_mask"]) for name, value in new.items()}
    tq.kv_batch_put(
        keys=[batch.keys[row] for row in rows],
        partition_id=batch.partition_id,
        fields=TensorDict(nested, batch_size=len(rows)),
    )


@contextmanager
def overwritten(batch: "KVBatchMeta", rows: Sequence[int], new: dict[str, Tensor]) -> Iterator[None]:
    """Give rows of a batch other fields, padded ones, for the duration."""
    own = read(batch, rows, list({*new, "response_mask"}))
    write(batch, rows, own, {name: value.to(own[name].dtype) for name, value in new.items()})
    try:
        yield
    finally:
        keys = [batch.keys[row] for row in rows]
        tq.kv_batch_put(keys=keys, partition_id=batch.partition_id, fields=own.select(*new))


@contextmanager
def without_a_mask(batch: "KVBatchMeta", rows: Sequence[int]) -> Iterator[None]:
    """Have rows of a batch count for nothing for the duration; verl counts by one mask and averages by the other."""
    masks = read(batch, rows, ["response_mask", "loss_mask"]).to_padded_tensor()
    with overwritten(batch, rows, {name: torch.zeros_like(mask) for name, mask in masks.items()}):
        yield


def real_rows(batch: "KVBatchMeta") -> list[int]:
    """Return the rows that are rollouts, not what verl has filled the batch up with."""
    return [row for row, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]


def groups_of(batch: "KVBatchMeta", rows: Sequence[int]) -> Tensor:
    """Return the index of the prompt that each row answers; verl's keys are `{prompt}_{session}_{index}`."""
    index: dict[str, int] = {}
    return torch.tensor([index.setdefault(batch.keys[row].rsplit("_", 2)[0], len(index)) for row in rows])
