"""What differs between a column and what it was, in whole arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class ColumnDiff:
    """What differs in one column.

    ``changed`` says it by row, unreadable cells included, ``values`` is the
    column in its own dtype, missing where a cell cannot be read, and ``reasons``
    says why, by position.
    """

    changed: Mask
    values: Any
    reasons: dict[int, str] = field(default_factory=dict)


def masked_differs(values: Any, base: Any) -> Mask:
    """Compare two columns that keep what is missing in a mask: to Arrow it would have to be turned into bits."""
    different = (values != base).to_numpy(dtype=bool, na_value=False)
    return np.asarray(different | (values.isna() != base.isna()))


def as_arrow(values: Any, dtype: pa.DataType) -> Any:
    """Return values as one Arrow array."""
    array = pa.array(values, type=dtype)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def same_memory(left: Any, right: Any) -> bool:
    """Whether both arrays are the same memory: then nobody has touched the column."""
    if len(left) != len(right) or left.offset != right.offset:
        return False
    return [getattr(part, "address", None) for part in left.buffers()] == [
        getattr(part, "address", None) for part in right.buffers()
    ]
