"""Rows of Arrow tables: what parquet files, folders and the hub hold."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from entrocraft.errors import InvalidValueError


def rows_of_table(batches: Iterable[Any], schema: Any, place: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of an Arrow table, numbers of short precision as they were written.

    The float32 nearest to 0.1 is 0.10000000149011612 as a float64; the shortest decimals that name it are 0.1.

    Args:
        batches: Its parts, each a `pyarrow.RecordBatch`.
        schema: Its `pyarrow.Schema`.
        place: What it is, for messages.

    Raises:
        InvalidValueError: Two columns have one name.
    """
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise InvalidValueError(f"{place}: two columns are called {twice[0]!r:.80}")
    menders = {field.name: mend for field in schema if (mend := _mender(field.type)) is not None}
    for batch in batches:
        for row in batch.to_pylist():
            for name, mend in menders.items():
                row[name] = mend(row[name])
            yield row


def _mender(kind: Any) -> Callable[[Any], Any] | None:
    """Return what makes short numbers within values of an Arrow type what they look like; None if it has none."""
    import pyarrow.types

    if pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind):
        short = np.float32 if pyarrow.types.is_float32(kind) else np.float16
        return lambda value: None if value is None else float(str(short(value)))
    if pyarrow.types.is_dictionary(kind):
        return _mender(kind.value_type)
    if pyarrow.types.is_struct(kind):
        inner = {field.name: mend for field in kind if (mend := _mender(field.type)) is not None}
        if not inner:
            return None
        return lambda value: value and value | {name: mend(value[name]) for name, mend in inner.items()}
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind):
        mend_item = _mender(kind.value_type)
        return None if mend_item is None else lambda value: value and [mend_item(item) for item in value]
    return None
