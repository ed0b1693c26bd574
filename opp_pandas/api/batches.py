"""Decoded rows as Arrow columns, and the way from there to pandas.

Both decoders end here: the slow one through `batch_of_cells`, the fast one
directly. A `Batch` holds no Python object per record, so that a load of a
million rows neither feeds the garbage collector nor doubles in memory when the
batches become one frame.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.api.decode import Cells, column_array
from opp_pandas.kinds import INSTANT
from opp_pandas.resource import COLUMN_DTYPES

Positions = np.ndarray[Any, np.dtype[np.int64]]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

TEXT = pa.large_string()
STAMP = pa.timestamp("us", tz="UTC")
ARROW_TYPES = {
    "Int64": pa.int64(),
    "str": TEXT,
    INSTANT: STAMP,
    "boolean": pa.bool_(),
}
"""Arrow type by dtype; columns of dtype object have none, apart from ``tags``."""
TAGS = pa.list_(TEXT)


def arrow_type(column: str) -> pa.DataType | None:
    """Give the Arrow type of a known column; None where its values stay Python objects."""
    return TAGS if column == "tags" else ARROW_TYPES.get(COLUMN_DTYPES.get(column, ""))


@dataclass
class Batch:
    """Some decoded rows.

    Parameters
    ----------
    rows : int
        How many.
    columns : dict of str to Array or list
        Arrow arrays of `arrow_type`; a list of Python values where Arrow has no
        type for them. An absent column is missing in every row.
    wire, locked : dict of (int, str) to object
        As in `opp_pandas.api.decode.Cells`.
    quarantined : list of (int, int, str, object)
        Page, record on the page (both from 0), reason and original.
    unknown_attributes, unknown_relationships : set of str
        API names that the resource table does not have.
    unknown_columns : set of str
        The columns of the unknown attributes.
    """

    rows: int
    columns: dict[str, Any]
    wire: dict[tuple[int, str], Any] = field(default_factory=dict)
    locked: dict[tuple[int, str], str] = field(default_factory=dict)
    quarantined: list[tuple[int, int, str, Any]] = field(default_factory=list)
    unknown_attributes: set[str] = field(default_factory=set)
    unknown_relationships: set[str] = field(default_factory=set)
    unknown_columns: set[str] = field(default_factory=set)


def mask_of(values: pa.Array) -> Mask:
    """Give an Arrow array of booleans, none of them missing, as numpy has them."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


def fitting_batch(
    columns: Mapping[str, pa.Array], odd: Any, unknown: Mapping[str, str], unknown_relationships: Collection[str]
) -> Batch:
    """Give the rows that are not odd.

    Parameters
    ----------
    columns : mapping of str to Array, shape (n,)
        Arrow arrays of `arrow_type`.
    odd : ndarray of bool, shape (n,)
        Rows that somebody else has to read.
    unknown : mapping of str to str
        Attributes that the resource table does not have, and their columns.
    unknown_relationships : collection of str
        Relationships that it does not have.

    Returns
    -------
    Batch
    """
    if odd.any():
        keep = pa.array(~odd)
        columns = {name: values.filter(keep) for name, values in columns.items()}
    return Batch(
        rows=int(len(odd) - odd.sum()),
        columns=dict(columns),
        unknown_attributes=set(unknown),
        unknown_relationships=set(unknown_relationships),
        unknown_columns=set(unknown.values()),
    )


def batch_of_cells(cells: Cells, places: Sequence[tuple[int, int]]) -> Batch:
    """Turn what the slow decoder gave into a batch.

    Parameters
    ----------
    cells : Cells
        Decoded records.
    places : sequence of (int, int)
        Page and record on the page of every record that was decoded.

    Returns
    -------
    Batch
    """
    columns: dict[str, Any] = {}
    for name, values in cells.columns.items():
        if name in COLUMN_DTYPES:
            typed = arrow_type(name)
            columns[name] = list(values) if typed is None else _known_array(values, typed)
        else:
            columns[name] = _unknown_array(values)
    return Batch(
        rows=len(cells),
        columns=columns,
        wire=dict(cells.wire),
        locked=dict(cells.locked),
        quarantined=[(*places[number], reason, raw) for number, reason, raw in cells.quarantined],
        unknown_attributes=set(cells.unknown_attributes),
        unknown_relationships=set(cells.unknown_relationships),
        unknown_columns={name for name in columns if name not in COLUMN_DTYPES},
    )


def _known_array(values: Sequence[Any], typed: pa.DataType) -> pa.Array:
    if typed == STAMP:
        return pa.array(values, type=pa.int64()).cast(STAMP)
    return pa.array(values, type=typed)


def _unknown_array(values: list[Any]) -> Any:
    """Give an Arrow array where all values are of one plain kind, else the values."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    typed = (
        {str: TEXT, int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(kinds.pop())
        if len(kinds) == 1
        else None
    )
    if typed is None:
        return list(values)
    try:
        return pa.array(values, type=typed)
    except (UnicodeEncodeError, OverflowError):
        return list(values)


def interleave(first: Batch, second: Batch, order: Positions) -> Batch:
    """Join two batches row by row.

    Parameters
    ----------
    first, second : Batch
        The rows, `first` before `second`; `first` has no ``wire``, ``locked`` or quarantined rows.
    order : ndarray of int
        For every row of the result its position in the joined rows.

    Returns
    -------
    Batch
    """
    columns: dict[str, Any] = {}
    taken = pa.array(order)
    for name in dict.fromkeys([*first.columns, *second.columns]):
        both = [first.columns.get(name), second.columns.get(name)]
        if name != "id" and all(
            part is None or (isinstance(part, pa.Array) and part.null_count == len(part)) for part in both
        ):
            continue  # an absent column is missing in every row
        parts = _aligned(both, [first.rows, second.rows])
        if isinstance(parts[0], list):
            joined = [*parts[0], *parts[1]]
            columns[name] = [joined[place] for place in order]
        else:
            columns[name] = pa.concat_arrays(parts).take(taken)
    new_place = np.empty(len(order), dtype=np.int64)
    new_place[order] = np.arange(len(order))

    def moved(marks: Mapping[tuple[int, str], Any]) -> dict[tuple[int, str], Any]:
        return {(int(new_place[first.rows + row]), column): value for (row, column), value in marks.items()}

    return Batch(
        rows=first.rows + second.rows,
        columns=columns,
        wire=moved(second.wire),
        locked=moved(second.locked),
        quarantined=second.quarantined,
        unknown_attributes=first.unknown_attributes | second.unknown_attributes,
        unknown_relationships=first.unknown_relationships | second.unknown_relationships,
        unknown_columns=first.unknown_columns | second.unknown_columns,
    )


def _aligned(parts: Sequence[Any], lengths: Sequence[int]) -> list[Any]:
    """Bring the parts of one column to one Arrow type, or all to lists of Python values."""
    types = {part.type for part in parts if isinstance(part, pa.Array) and part.null_count < len(part)}
    plain = any(isinstance(part, list) for part in parts)
    if plain or len(types) > 1:
        return [
            [None] * length if part is None else part if isinstance(part, list) else part.to_pylist()
            for part, length in zip(parts, lengths, strict=True)
        ]
    typed = types.pop() if types else next((part.type for part in parts if part is not None), pa.null())
    return [
        part if part is not None and part.type == typed else pa.nulls(length, typed)
        for part, length in zip(parts, lengths, strict=True)
    ]


class MissingColumns:
    """All-missing columns of one length that share their memory.

    Parameters
    ----------
    rows : int
        Their length.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._text: Any = None

    def array(self, dtype: str) -> Any:
        """Give a pandas array of its own; text shares one Arrow array, which nobody can change."""
        if dtype == "object":
            return np.full(self.rows, None, dtype=object)
        if dtype != "str":
            return column_array([], dtype).take(np.full(self.rows, -1), allow_fill=True)
        if self._text is None:
            self._text = pd.array(pa.chunked_array([pa.nulls(self.rows, TEXT)]), dtype="str")
        return self._text.copy()


def pandas_array(parts: Sequence[Any], lengths: Sequence[int], dtype: str, missing: MissingColumns, kept: Any) -> Any:
    """Join the parts of one column into a pandas array.

    Parameters
    ----------
    parts : sequence of Array, list or None
        One per batch; None where the batch does not have the column.
    lengths : sequence of int
        Rows per batch.
    dtype : str
        The column's dtype; ``"infer"`` for attributes that the table does not have.
    missing : MissingColumns
        Gives the columns without any value.
    kept : ndarray of int or None
        Positions of the rows that stay; None: all.

    Returns
    -------
    ExtensionArray or ndarray of object
    """
    if all(part is None or (isinstance(part, pa.Array) and part.null_count == len(part)) for part in parts):
        return missing.array("str" if dtype == "infer" else dtype)
    aligned = _aligned(parts, lengths)
    if isinstance(aligned[0], list):
        values = [value for part in aligned for value in part]
        return column_array(values if kept is None else [values[place] for place in kept], dtype)
    column = pa.concat_arrays(aligned) if len(aligned) > 1 else aligned[0]
    if kept is not None:
        column = column.take(pa.array(kept))
        if column.null_count == len(column):
            return missing.array("str" if dtype == "infer" else dtype)
    return _FROM_ARROW[column.type](column)


def _from_text(column: pa.Array) -> Any:
    return pd.array(pa.chunked_array([column]), dtype="str")


def _from_masked(column: pa.Array) -> Any:
    dtype: Any = pd.api.types.pandas_dtype(_MASKED[column.type])
    return dtype.__from_arrow__(column)


def _from_stamps(column: pa.Array) -> Any:
    return pd.array(column.to_pandas(), dtype=INSTANT)


def _from_lists(column: pa.Array) -> Any:
    """Make a list per row that has one; equal texts are one object."""
    values = column.flatten()
    distinct = pc.dictionary_encode(values)
    words = np.array([None, *distinct.dictionary.to_pylist()], dtype=object)[1:]
    texts = words[distinct.indices.to_numpy(zero_copy_only=False)].tolist() if len(words) else []
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    bounds = zip(present.tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True)
    with _without_collection():
        lists = (texts[start:end] if there else None for there, start, end in bounds)
        return np.fromiter(lists, dtype=object, count=len(column))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Hold the garbage collector while many lists are made: it would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_MASKED = {pa.int64(): "Int64", pa.float64(): "Float64", pa.bool_(): "boolean"}
_FROM_ARROW = {
    TEXT: _from_text,
    pa.int64(): _from_masked,
    pa.float64(): _from_masked,
    pa.bool_(): _from_masked,
    STAMP: _from_stamps,
    TAGS: _from_lists,
}
