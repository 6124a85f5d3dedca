"""Rows of Arrow tables: what parquet files, folders and the hub hold."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrocraft.errors import InvalidValueError


def rows_of_table(table: Any, place: str) -> list[dict[str, Any]]:
    """Return the rows of an Arrow table, numbers of short precision as they were written.

    The float32 nearest to 0.1 is 0.10000000149011612 as a float64; the shortest decimals that name it are 0.1.

    Args:
        table: A `pyarrow.Table`.
        place: What it is, for messages.

    Raises:
        InvalidValueError: Two columns have one name.
    """
    names = table.schema.names
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidValueError(f"{place}: two columns are called {twice[0]!r:.80}")
    rows = table.to_pylist()
    for field in table.schema:
        mend = _mender(field.type)
        if mend is not None:
            for row in rows:
                row[field.name] = mend(row[field.name])
    return rows


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
