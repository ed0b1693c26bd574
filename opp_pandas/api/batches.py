"""Decoded rows as Arrow columns, and the way from there to pandas.

A `Batch` holds no Python object per record, so that a load of a million rows
neither feeds the garbage collector nor doubles in memory when the batches become
one frame.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.frame_state import CellMarks
from opp_pandas.instants import FIRST_INSTANT
from opp_pandas.kinds import INSTANT, INSTANTS, INT64_MAX, UnfitError, kind_of_dtype
from opp_pandas.kinds import TAGS as TAG_LISTS
from opp_pandas.resource import COLUMN_DTYPES

Positions = np.ndarray[Any, np.dtype[np.int64]]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

TEXT = pa.large_string()
STAMP = pa.timestamp("us", tz="UTC")
_CELLS_TO_RELEASE = 300_000
_LISTS_TOGETHER = 50_000
TAGS = pa.list_(TEXT)


@dataclass
class Batch:
    """Some decoded rows.

    Columns are Arrow arrays, or lists of Python values where Arrow has no type for them; an absent
    one is missing in every row. Of quarantined records: page and number on it (from 0), reason and
    original. Irregular are records with a cell that was read by itself, and those of pages that
    were read record by record.
    """

    rows: int
    columns: dict[str, Any]
    marks: CellMarks = field(default_factory=CellMarks)
    quarantined: list[tuple[int, int, str, Any]] = field(default_factory=list)
    unknown_attributes: dict[str, str] = field(default_factory=dict)
    unknown_relationships: set[str] = field(default_factory=set)
    irregular: int = 0


def make_frame(batches: Sequence[Batch], columns: Iterable[str], kept: Positions | None = None) -> pd.DataFrame:
    """Join batches to one frame; they lose their columns on the way, so that nothing is in memory twice.

    `columns` says which and in what order, `kept` which rows stay, by position; None: all.
    """
    lengths = [batch.rows for batch in batches]
    rows = sum(lengths) if kept is None else len(kept)
    missing = MissingColumns(rows)
    arrays = {}
    cells = 0
    for name in columns:
        parts = [batch.columns.pop(name, None) for batch in batches]
        cells += sum(len(part) for part in parts if part is not None)
        arrays[name] = _pandas_array(parts, lengths, COLUMN_DTYPES.get(name, "infer"), missing, kept)
        if cells >= _CELLS_TO_RELEASE:
            # What the parts held would stay with the pool, beside the columns that come.
            pa.default_memory_pool().release_unused()
            cells = 0
    return pd.DataFrame(arrays, index=pd.RangeIndex(rows), copy=False)


def _joined_column(parts: list[Any], lengths: Sequence[int]) -> Any:
    """Join the parts of one column, None where it is missing throughout; they are dropped on the way.

    A list of Python values where the parts have no Arrow type in common.
    """
    filled = [part for part in parts if isinstance(part, list) or (part is not None and part.null_count < len(part))]
    typed = next((part.type for part in [*filled, *parts] if isinstance(part, pa.Array)), pa.null())
    if any(
        isinstance(part, list) or part.type != typed for part in filled
    ):  # a set would hash each type, which is slow
        values: list[Any] = []
        for part, length in zip(parts, lengths, strict=True):
            values += [None] * length if part is None else part if isinstance(part, list) else part.to_pylist()
        return values
    aligned = [
        part if part is not None and part.type == typed else pa.nulls(length, typed)
        for part, length in zip(parts, lengths, strict=True)
    ]
    parts.clear()
    return pa.concat_arrays(aligned) if len(aligned) > 1 else aligned[0]


class MissingColumns:
    """All-missing columns of one length that share their memory."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._text = _from_text(pa.nulls(rows, TEXT))

    def array(self, dtype: str) -> Any:
        """Return a pandas array of its own; text shares one Arrow array, which nobody can change."""
        if dtype == "object":
            return np.full(self.rows, None, dtype=object)
        if dtype == "str":
            return self._text.copy()
        kind = _ARROW_TYPES[dtype]
        return _FROM_ARROW[kind](pa.nulls(self.rows, kind))


def _pandas_array(parts: list[Any], lengths: Sequence[int], dtype: str, missing: MissingColumns, kept: Any) -> Any:
    """Join the parts of one column, one per batch, into a pandas array; ``"infer"``: of whatever dtype holds it."""
    if all(part is None or (isinstance(part, pa.Array) and part.null_count == len(part)) for part in parts):
        return missing.array("str" if dtype == "infer" else dtype)
    column = _joined_column(parts, lengths)
    if isinstance(column, list):
        return column_array(column if kept is None else [column[place] for place in kept], dtype)
    if kept is not None:
        column = column.take(pa.array(kept))
        if column.null_count == len(column):
            return missing.array("str" if dtype == "infer" else dtype)
    return _FROM_ARROW[column.type](column)


def _from_text(column: pa.Array) -> Any:
    return _STR.__from_arrow__(column)


def _from_masked(column: pa.Array) -> Any:
    dtype: Any = pd.api.types.pandas_dtype(_MASKED[column.type])
    return dtype.__from_arrow__(column)


def _from_stamps(column: pa.Array) -> Any:
    values = column.view(pa.int64()).fill_null(np.datetime64("NaT", "us").astype(np.int64)).to_numpy()
    return pd.array(values.view("M8[us]"), dtype=INSTANT)


def _from_lists(column: pa.Array) -> Any:
    """Make a list per row that has one; equal texts are one object."""
    found = np.empty(len(column), dtype=object)
    known: dict[str, str] = {}
    with without_collection():
        for start in range(0, len(column), _LISTS_TOGETHER):
            lists = _lists(column.slice(start, _LISTS_TOGETHER), known)
            found[start : start + _LISTS_TOGETHER] = np.fromiter(lists, dtype=object)
    return found


def _lists(column: pa.Array, known: dict[str, str]) -> Iterator[list[str] | None]:
    distinct = pc.dictionary_encode(column.flatten())
    words = [known.setdefault(word, word) for word in distinct.dictionary.to_pylist()]
    texts = [words[place] for place in distinct.indices.to_pylist()]
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    for there, start, end in zip(present.tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True):
        yield texts[start:end] if there else None


@contextmanager
def without_collection() -> Iterator[None]:
    """Hold the garbage collector while many lists are made: it would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_STR: Any = pd.api.types.pandas_dtype("str")
_MASKED = {pa.int64(): "Int64", pa.float64(): "Float64", pa.bool_(): "boolean"}
_FROM_ARROW = {
    TEXT: _from_text,
    pa.int64(): _from_masked,
    pa.float64(): _from_masked,
    pa.bool_(): _from_masked,
    STAMP: _from_stamps,
    TAGS: _from_lists,
}
_ARROW_TYPES = {name: kind for kind, name in _MASKED.items()} | {INSTANT: STAMP}


def column_array(values: Sequence[Any], dtype: str) -> Any:
    """Make the pandas array of decoded values; instants are microseconds since 1970.

    The dtype ``"infer"`` is for attributes that the table does not have.
    """
    if dtype == "infer":
        return _inferred(values)
    kind = kind_of_dtype(dtype)
    if kind is not None:
        return kind.array(values)
    if dtype == "object":
        return TAG_LISTS.array(values)
    masked: Any = pd.api.types.pandas_dtype(dtype)
    return pd.array(list(values), dtype=masked)


def _inferred(values: Sequence[Any]) -> Any:
    """Choose the narrowest dtype that holds every value as it is."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        try:
            return column_array(values, "str")
        except UnicodeEncodeError:
            return column_array(values, "object")
    if kinds == {bool}:
        return column_array(values, "boolean")
    if kinds == {int} and all(value is None or -INT64_MAX - 1 <= value <= INT64_MAX for value in values):
        return column_array(values, "Int64")
    if kinds == {float}:
        return column_array(values, "Float64")
    return column_array(values, "object")


# --- instants ---------------------------------------------------------------------

_FORM = np.frombuffer(b"yyyy-mm-ddThh:mm:ss.fffZ", dtype=np.uint8)
_SIGNS = [4, 7, 10, 13, 16, 19, 23]
_PLAIN_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"


def read_instants(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Read texts as instants, a column at a time.

    The second value says where a text is not in canonical form, or is no instant at all: there the first is missing.
    """
    nonconforming = np.zeros(len(texts), dtype=bool)
    if not _of_usual_form(texts):
        nonconforming |= mask_of(pc.fill_null(pc.invert(pc.match_substring_regex(texts, _PLAIN_INSTANT)), False))
    try:
        stamps = _without(texts, nonconforming).cast(STAMP)
    except pa.ArrowInvalid:
        nonconforming |= np.array([not _is_instant(text) for text in texts.to_pylist()], dtype=bool)
        stamps = _without(texts, nonconforming).cast(STAMP)
    lowest = pc.min(stamps.view(pa.int64())).as_py()
    if lowest is not None and lowest < FIRST_INSTANT:  # Arrow knows a year 0
        nonconforming |= mask_of(pc.fill_null(pc.less(stamps.cast(pa.int64()), FIRST_INSTANT), False))
        stamps = _without(texts, nonconforming).cast(STAMP)
    return stamps, nonconforming


def mask_of(values: pa.Array) -> Mask:
    """Return an Arrow array of booleans, none of them missing, as numpy has them."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _without(texts: pa.Array, places: Mask) -> pa.Array:
    return pc.if_else(pa.array(places), pa.scalar(None, TEXT), texts) if places.any() else texts


def _of_usual_form(texts: pa.Array) -> bool:
    """Return whether all texts have the service's own length and signs, which takes no time per text."""
    size = len(texts) - texts.null_count
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not size or offsets[-1] - offsets[0] != size * len(_FORM) or (np.diff(offsets) > len(_FORM)).any():
        return not size
    table = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(size, len(_FORM))
    return bool((table[:, _SIGNS] == _FORM[_SIGNS]).all())


def _is_instant(text: str | None) -> bool:
    try:
        return INSTANTS.decode(text)[1]
    except UnfitError:
        return False
