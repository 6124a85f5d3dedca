"""A loop's own arrays as tensors, and back: torch, numpy or lists, padded or row by row.

Shapes: B rollouts, T tokens of the longest.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from entrocraft.errors import InvalidValueError

_KINDS = "a torch tensor, a numpy array or a list"


@dataclass(frozen=True, eq=False)
class Layout:
    """How a loop lays out one number per token: as one padded array, or as rows that are as long as their rollouts.

    Args:
        like: The array that all others follow.
        shape: B and T.
        lengths: Tokens of each row; None for a padded array.
        device: Device of its tensors.
    """

    like: Any
    shape: tuple[int, int]
    lengths: tuple[int, ...] | None
    device: torch.device

    @classmethod
    def of(cls, name: str, value: Any) -> "Layout":
        """Return the layout of an array with one number per token.

        Raises:
            InvalidValueError: It is no such array.
        """
        if isinstance(value, list | tuple):
            if not has_rows(value):
                raise InvalidValueError(
                    f"{name}: expected a list with one row of numbers per rollout, got {value!r:.60}"
                )
            rows = [_tensor(f"{name}[{i}]", row) for i, row in enumerate(value)]
            for i, row in enumerate(rows):
                if row.ndim != 1:
                    raise InvalidValueError(f"{name}[{i}] must be a row of numbers, got shape {tuple(row.shape)}")
            lengths = tuple(len(row) for row in rows)
            return cls(value, (len(rows), max(1, *lengths)), lengths, rows[0].device)
        array = _tensor(name, value)
        if array.ndim != 2 or not len(array):
            raise InvalidValueError(
                f"{name} must be an array (rollouts, tokens), or a list with one row per rollout; got shape "
                f"{tuple(array.shape)}"
            )
        return cls(value, (array.shape[0], array.shape[1]), None, array.device)

    def packed(self, name: str, value: Any) -> Tensor:
        """Return an array of this layout as (B, T), with 0 beyond the end of a row.

        Raises:
            InvalidValueError: Its shape, or the length of a row, is another.
        """
        if self.lengths is None:
            array = _tensor(name, value)
            if tuple(array.shape) != self.shape:
                raise InvalidValueError(f"{name} must have the shape of log_probs, {self.shape}: got {shape_of(value)}")
            return array.to(self.device)
        if not isinstance(value, list | tuple) or len(value) != len(self.lengths):
            raise InvalidValueError(
                f"{name} must be a list of {len(self.lengths)} rows, as log_probs is: got {shape_of(value)}"
            )
        rows = [_tensor(f"{name}[{i}]", row).to(self.device) for i, row in enumerate(value)]
        for i, (row, length) in enumerate(zip(rows, self.lengths, strict=True)):
            if tuple(row.shape) != (length,):
                raise InvalidValueError(
                    f"{name}[{i}] must have {length} numbers, as log_probs[{i}] has: got shape {tuple(row.shape)}"
                )
        packed = pad_sequence(rows, batch_first=True)
        return packed if packed.shape[1] else packed.new_zeros(self.shape)

    def counted(self, mask: Any) -> Tensor:
        """Return the mask (B, T): the one that is given, or all tokens of rows that are no longer than they should be.

        Raises:
            InvalidValueError: An array without a mask cannot tell tokens from padding; or it is none.
        """
        if mask is None:
            if self.lengths is None:
                raise InvalidValueError(
                    "padded arrays need a `mask`, 1 where your loss counts a token: torch.arange(T) < lengths[:, None]"
                )
            mask_BT = torch.arange(self.shape[1]) < torch.tensor(self.lengths)[:, None]
            return mask_BT.long().to(self.device)
        mask_BT = self.packed("mask", mask)
        if ((mask_BT != 0) & (mask_BT != 1)).any():
            raise InvalidValueError("mask must hold 1 where your loss counts a token and 0 elsewhere, and nothing else")
        return mask_BT.long()

    def unpacked(self, values_BT: Tensor) -> Any:
        """Return (B, T) as the loop has its arrays."""
        if self.lengths is None:
            return as_kind(values_BT, self.like)
        rows = [values_BT[i, :length] for i, length in enumerate(self.lengths)]
        return [as_kind(row, like) for row, like in zip(rows, self.like, strict=True)]


def column(name: str, value: Any, length: int) -> Tensor:
    """Return one number per rollout as (B,).

    Raises:
        InvalidValueError: It is none, or there are more or fewer.
    """
    return _as_computed_with(_column(name, value, length))


def _column(name: str, value: Any, length: int) -> Tensor:
    """Return one number per rollout as (B,), of the type that it was given in."""
    array = _numbers(name, value)
    if tuple(array.shape) != (length,):
        raise InvalidValueError(f"{name} must have one number per rollout, {length}: got shape {shape_of(value)}")
    return array


def group_index(groups: Any, length: int) -> Tensor:
    """Return the prompt of each rollout as a number, on the CPU; names count in the order in which they appear.

    Raises:
        InvalidValueError: There is not one for each rollout.

    Example:
        >>> group_index(["a", "a", "b"], 3)
        tensor([0, 0, 1])
    """
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "OSU":
        groups = groups.tolist()
    if not isinstance(groups, list | tuple) or not groups or isinstance(groups[0], int | float | Tensor | np.generic):
        index_B = _column("groups", groups, length)  # as it is: float32 takes prompts beyond 2^24 for one another
        if (index_B != index_B.long()).any():
            raise InvalidValueError("groups must be whole numbers or names, the same for rollouts of one prompt")
        return index_B.long().cpu()
    if len(groups) != length or not all(isinstance(name, Hashable) for name in groups):
        raise InvalidValueError(f"groups must name the prompt of each of the {length} rollouts, got {groups!r:.80}")
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return torch.tensor([order[name] for name in groups])


def as_kind(values: Tensor, like: Any) -> Any:
    """Return a tensor as what `like` is: a tensor, a numpy array or a list."""
    if isinstance(like, Tensor):
        return values
    return values.cpu().numpy() if isinstance(like, np.ndarray) else values.tolist()


def has_rows(value: Any) -> bool:
    """Return whether an array has one number per token, and not one per rollout."""
    if isinstance(value, list | tuple):
        return bool(value) and (isinstance(value[0], Sequence) or getattr(value[0], "ndim", 0) > 0)
    return getattr(value, "ndim", 1) > 1


def shape_of(value: Any) -> str:
    """Return the shape of whatever was given, in words."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" + (" rows" if has_rows(value) else "")
    return str(tuple(value.shape)) if hasattr(value, "shape") else f"{value!r:.40}"


def _tensor(name: str, value: Any) -> Tensor:
    """Return numbers as a tensor without a gradient, of a type that is computed with."""
    return _as_computed_with(_numbers(name, value))


def _as_computed_with(tensor: Tensor) -> Tensor:
    """Return whole numbers and half precision as float32, masks as they are."""
    if tensor.is_complex() or tensor.dtype == torch.bool:
        return tensor
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _numbers(name: str, value: Any) -> Tensor:
    """Return numbers as a tensor without a gradient, of the type that they were given in."""
    try:
        if not isinstance(value, Tensor | np.ndarray | list | tuple):
            raise TypeError
        if isinstance(value, np.ndarray):
            value = np.array(value, order="C")  # torch takes no reversed arrays, and warns of those that are read-only
        return torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{name}: expected numbers in {_KINDS}, got {value!r:.60}") from error
