"""The rows of a history in memory: who had which value from when on.

A row says that from `observed_at` on a field of a record had a value, until a
later row says otherwise. Everything that a history knows is such a cell: the
fields of deals, whether a deal is there, names of stages and people, and what
else came with a load.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.frame_state import freeze_value
from opp_pandas.history.typed_values import (
    BOOLEAN,
    JSON,
    KINDS,
    LOCKED,
    MISSING,
    STORED_IN,
    Flags,
    Packed,
    Places,
    Types,
    as_python,
    decode,
    missing_column,
    unpack,
)

DEAL, LOAD, SNAPSHOT = "opportunity", "load", "snapshot"
PRESENCE = None
"""The field of rows that say whether a deal is there: none, so that no column of a user's can be taken for it."""
COLUMNS = (
    "sequence", "observed_at", "updated_at", "resource", "id", "key", "field", "kind", "text", "integer", "real",
    "instant", "types", "wire",
)  # fmt: skip
STATE_COLUMNS = tuple(name for name in COLUMNS if name != "updated_at")
"""What is needed to say how things stood; when the service says that they changed is for logs."""
NONE = np.int64(-1)
# Ids that fill at least a twentieth of their range are looked up in a table, not searched for.
_TABLE_SPAN = 20
# Above so many pieces, moving every row is faster than keeping an eye on each piece.
_MOST_PIECES = 5_000


def arrow_schema() -> Any:
    """Return the columns of a history's table."""
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    types = {
        "sequence": pa.int64(),
        "observed_at": moment,
        "updated_at": moment,
        "id": pa.int64(),
        "integer": pa.int64(),
        "real": pa.float64(),
        "instant": moment,
    }
    required = {"sequence", "observed_at", "resource", "kind"}
    return pa.schema([pa.field(name, types.get(name, pa.string()), name not in required) for name in COLUMNS])


@dataclass(frozen=True, eq=False)
class Owners:
    """Whose cells rows are: ids, and texts where there is no id; None where all have one."""

    ids: Places
    has_id: Flags
    texts: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Places) -> Owners:
        """Keep some."""
        return Owners(self.ids[places], self.has_id[places], None if self.texts is None else self.texts[places])

    @property
    def id_column(self) -> Any:
        """The ids as a column of a frame."""
        return pd.arrays.IntegerArray(np.where(self.has_id, self.ids, 0), ~self.has_id)


@dataclass(frozen=True, eq=False)
class Keys:
    """What tells records apart: their ids, sorted, or for adopted deals their texts, whose codes follow."""

    ids: Places
    texts: pd.Index

    def __len__(self) -> int:
        return len(self.ids) + len(self.texts)

    @classmethod
    def coded(cls, owners: Owners) -> tuple[Keys, Places]:
        """Collect the distinct keys of rows, and give the key of every row."""
        ids, has_id = owners.ids, owners.has_id
        if has_id.all() and len(ids):
            low, high = int(ids.min()), int(ids.max())
            if high - low < max(len(ids), 1_000):
                # Ids that lie close together are counted off in a table, not sorted.
                occurs = np.zeros(high - low + 1, dtype=bool)
                places = ids - low
                occurs[places] = True
                return cls(np.flatnonzero(occurs) + low, pd.Index([], dtype=object)), (np.cumsum(occurs) - 1)[places]
        distinct = np.unique(ids if has_id.all() else ids[has_id])
        rest = [] if has_id.all() else pd.unique(owners.texts[~has_id])
        keys = cls(distinct, pd.Index(rest, dtype=object))
        return keys, keys.codes(owners)

    def codes(self, owners: Owners) -> Places:
        """Return the position of every row's key; -1 for one that is not here."""
        ids, has_id = owners.ids, owners.has_id
        found = np.full(len(ids), NONE)
        if len(self.ids):
            place = self._places(ids)
            found = np.where(has_id & (self.ids[place] == ids), place, NONE)
        if not has_id.all() and len(self.texts):
            rows = np.flatnonzero(~has_id)
            place = self.texts.get_indexer(pd.Index(owners.texts[rows], dtype=object))
            found[rows] = np.where(place >= 0, place + len(self.ids), NONE)
        return found

    def _places(self, ids: Places) -> Places:
        """Where each id would stand; by a table where the ids lie close together."""
        low, high = int(self.ids[0]), int(self.ids[-1])
        if high - low < _TABLE_SPAN * max(len(self.ids), 1_000):
            table = np.zeros(high - low + 1, dtype=np.int64)
            table[self.ids - low] = np.arange(len(self.ids))
            return table[np.clip(ids, low, high) - low]
        return np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)

    def owners(self, codes: Places | None = None) -> Owners:
        """Return the ids or texts of codes, of all in order where none are given."""
        codes = np.arange(len(self)) if codes is None else codes
        has_id = codes < len(self.ids)
        if has_id.all():
            return Owners(self.ids[codes], has_id)
        ids = np.zeros(len(codes), dtype=np.int64)
        ids[has_id] = self.ids[codes[has_id]]
        texts = np.full(len(codes), None, dtype=object)
        texts[~has_id] = self.texts.to_numpy(dtype=object)[codes[~has_id] - len(self.ids)]
        return Owners(ids, has_id, texts)


class Cells:
    """The rows of a history, in order of observation.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with `COLUMNS`, or with `STATE_COLUMNS`, in any order.
    """

    def __init__(self, table: Any) -> None:
        self._empty: dict[tuple[int, str], Any] = {}
        self._values: dict[str, Any] = {}
        self.table = table
        self.observed, self.sequence = _numbers(table, "observed_at"), _numbers(table, "sequence")
        order = _pieces_in_order(self.observed, self.sequence)
        if order is not None:
            self.table = _joined(table, order)
            self.observed = np.concatenate([self.observed[piece] for piece in order])
            self.sequence = np.concatenate([self.sequence[piece] for piece in order])
        self.resource, self.resources = _coded(self.table, "resource")
        self.field, self.fields = _coded(self.table, "field")
        kind, kinds = _coded(self.table, "kind")
        self.kind = np.array([KINDS.index(name) for name in kinds] or [0], dtype=np.int8)[kind]

    def __len__(self) -> int:
        return len(self.observed)

    @cached_property
    def updated(self) -> Places:
        """When the service says that the record last changed; the smallest number where it does not."""
        updated: Places = _numbers(self.table, "updated_at", null=np.iinfo(np.int64).min)
        return updated

    def _store(self, name: str) -> Any:
        """Return the values of one of the four columns of values, read when it is first needed."""
        if name not in self._values:
            self._values[name] = (
                _texts(self.table)
                if name == "text"
                else _numbers(self.table, name, np.float64 if name == "real" else np.int64)
            )
        return self._values[name]

    @cached_property
    def wire(self) -> dict[int, tuple[str, Types]]:
        """Originals of cells whose canonical form differs from what was sent, by row, as `encode` wrote them."""
        return {row: (text, self._types.get(row, {}).get("wire", [])) for row, text in self._sparse("wire").items()}

    @cached_property
    def _types(self) -> dict[int, dict[str, Types]]:
        return {row: json.loads(text) for row, text in self._sparse("types").items()}

    def types(self, row: int) -> Types:
        """What the JSON text of a row does not tell."""
        return self._types.get(row, {}).get("value", [])

    def _sparse(self, name: str) -> dict[int, str]:
        """Return the texts of a column that is mostly empty, by row."""
        column = self.table.column(name)
        if column.null_count == len(column):
            return {}
        rows = np.flatnonzero(np.asarray(column.is_valid()))
        return dict(zip(rows.tolist(), column.take(rows).to_pylist(), strict=True))

    def upto(self, moment: int, number: int | None = None) -> int:
        """Count the rows observed until a moment [us since 1970], at that very moment those until a recording."""
        end = int(np.searchsorted(self.observed, moment, side="right"))
        if number is None:
            return end
        start = int(np.searchsorted(self.observed, moment))
        return start + int(np.searchsorted(self.sequence[start:end], number, side="right"))

    def rows_of(self, resource: str) -> Places:
        """Return the rows of one resource, in order."""
        if resource not in self.resources:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.resource == self.resources.index(resource))

    def records(self, resource: str) -> Records:
        """Return the rows of one resource with their keys coded."""
        rows = self.rows_of(resource)
        has_id = self._has_id[rows]
        texts = None if has_id.all() else np.array(self.table.column("key").take(rows).to_pylist(), dtype=object)
        return Records(self, rows, *Keys.coded(Owners(self._ids[rows], has_id, texts)))

    @cached_property
    def _ids(self) -> Places:
        ids: Places = _numbers(self.table, "id")
        return ids

    @cached_property
    def _has_id(self) -> Flags:
        column = self.table.column("id")
        if not column.null_count:
            return np.ones(len(column), dtype=bool)
        return np.asarray(column.is_valid()).astype(bool)

    def value(self, row: int) -> Any:
        """Return the Python value of one row."""
        kind = int(self.kind[row])
        return None if kind in (MISSING, LOCKED) else self._objects(kind, np.array([row]), frozen=False)[0]

    def _objects(self, kind: int, rows: Places, *, frozen: bool) -> Any:
        """Return the Python values of rows of one kind; frozen: lists are tuples."""
        stored = self.stored(kind, rows)
        array = np.empty(len(rows), dtype=object)
        if kind != JSON:
            array[:] = as_python(kind, stored)
            return array
        if not self._types:
            return _parsed(stored, frozen)
        known = np.isin(rows, np.fromiter(self._types, dtype=np.int64))
        array[~known] = _parsed(self.stored(kind, rows[~known]), frozen)
        for place in np.flatnonzero(known).tolist():
            value = decode(stored[place].as_py(), self.types(int(rows[place])))
            array[place] = freeze_value(value) if frozen else value
        return array

    def stored(self, kind: int, rows: Places) -> Any:
        """Return the stored values of rows of one kind; whatever where a row is -1."""
        import pyarrow as pa

        values = self._store(STORED_IN[kind])
        if STORED_IN[kind] == "text":
            some_missing = bool((rows < 0).any())
            return values.take(pa.array(rows, mask=rows < 0) if some_missing else pa.array(rows))
        return values[rows] if len(values) else np.zeros(len(rows), dtype=np.int64)

    def _missing(self, n: int, dtype: str) -> Any:
        """Most columns of most loads are empty: those of one dtype are made once."""
        if (n, dtype) not in self._empty:
            self._empty[n, dtype] = missing_column(n, dtype)
        return self._empty[n, dtype].copy()

    def equal(self, rows: Places, packed: Packed) -> Flags:
        """Compare what stands in rows (-1: nothing) with new values of one column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = np.where(rows >= 0, self.kind[rows], MISSING) if len(self) else np.full(len(rows), MISSING)
        # A locked cell is missing, too; its original is compared apart.
        kinds = np.where(kinds == LOCKED, MISSING, kinds)
        alike = kinds == packed.kinds
        same: Flags = alike & (kinds == MISSING)
        for kind in np.unique(kinds[alike & ~same]).tolist():
            places = np.flatnonzero(alike & (kinds == kind))
            old = self.stored(kind, rows[places])
            if STORED_IN[kind] == "text":
                new = packed.stores["text"].take(pa.array(places))
                same[places] = np.asarray(pc.equal(old, new), dtype=bool)
            else:
                new = packed.stores[STORED_IN[kind]][places]
                same[places] = (old == new) | ((old != old) & (new != new))
            if kind == JSON and (packed.types or self._types):
                for place in places[same[places]].tolist():
                    same[place] = self.types(int(rows[place])) == packed.types.get(place, [])
        return same

    def column(self, rows: Places, dtype: Any, *, frozen: bool = False) -> Any:
        """Make the pandas array of a column from the row of each cell; -1 is missing; frozen: lists are tuples."""
        present = rows >= 0
        kinds = np.where(present, self.kind[rows], MISSING) if len(self) else np.full(len(rows), MISSING)
        counts = np.bincount(kinds, minlength=len(KINDS))
        if counts[LOCKED] or counts[MISSING]:
            present = (kinds != MISSING) & (kinds != LOCKED)
        distinct = [kind for kind in range(len(KINDS)) if counts[kind] and kind not in (MISSING, LOCKED)]
        if not distinct:
            return self._missing(len(rows), dtype)
        if len(distinct) == 1:
            chosen = rows if present.all() else np.where(present, rows, NONE)
            made = unpack(distinct[0], dtype, self.stored(distinct[0], chosen), present)
            if made is not None:
                return made
        array = np.empty(len(rows), dtype=object)
        for kind in distinct:
            places = np.flatnonzero(kinds == kind)
            array[places] = self._objects(kind, rows[places], frozen=frozen)
        return array if dtype == "object" else _as_dtype(array, dtype)


@dataclass(frozen=True, eq=False)
class Records:
    """The rows of one resource: their places among all cells, in order, and the key of each as its code."""

    cells: Cells
    rows: Places
    keys: Keys
    codes: Places

    @cached_property
    def _by_field(self) -> dict[str | None, tuple[Places, Places]]:
        fields = self.cells.field[self.rows]
        order = np.argsort(fields, kind="stable")
        ends = np.cumsum(np.bincount(fields, minlength=len(self.cells.fields)))
        found = {}
        start = 0
        for name, end in zip(self.cells.fields, ends.tolist(), strict=True):
            if end > start:
                places = order[start:end]
                found[name] = (self.rows[places], self.codes[places])
            start = end
        return found

    @property
    def fields(self) -> list[str | None]:
        """The fields that occur, `PRESENCE` among them."""
        return list(self._by_field)

    def rows_and_codes(self, field: str | None) -> tuple[Places, Places]:
        """Return the rows of one field, in order, and their keys."""
        nothing = np.empty(0, dtype=np.int64)
        return self._by_field.get(field, (nothing, nothing))

    def last(self, field: str | None, upto: int) -> Places:
        """Return for every key the last row of a field among the first `upto` rows; -1 where there is none."""
        last = np.full(len(self.keys), NONE)
        rows, codes = self.rows_and_codes(field)
        seen = int(np.searchsorted(rows, upto))
        # Of repeated places the last assignment stays, and rows stand in order.
        last[codes[:seen]] = rows[:seen]
        return last

    def standing(self, field: str | None, upto: int, codes: Places) -> Places:
        """Return the last row of a field for each of some keys, as `last`; -1 for a key that is none."""
        return np.append(self.last(field, upto), NONE)[codes]

    def key_columns(self, codes: Places, upto: int) -> dict[str, Any]:
        """Return the columns ``id`` and ``custom_id`` of deals."""
        owners = self.keys.owners(codes)
        custom = self.cells.column(self.standing("custom_id", upto, codes), "str").astype(object)
        if owners.texts is not None:
            custom[~owners.has_id] = owners.texts[~owners.has_id]
        return {"id": owners.id_column, "custom_id": pd.array(custom, dtype="str")}

    def present(self, upto: int) -> Flags:
        """Return which keys were there after the first `upto` rows."""
        last = self.last(PRESENCE, upto)
        if not len(self.cells):
            return last >= 0
        there: Flags = (last >= 0) & (self.cells.stored(BOOLEAN, last) == 1)
        return there

    def facts(self, upto: int, key: int = 0) -> dict[str, Any]:
        """Return the newest value of every field of one record."""
        code = np.flatnonzero(self.keys.ids == key)
        rows = {field: self.standing(field, upto, code) for field in filter(None, self.fields)}
        return {field: self.cells.value(int(row[0])) for field, row in rows.items() if len(row) and row[0] >= 0}


def _parsed(texts: Any, frozen: bool) -> npt.NDArray[np.object_]:
    """Read JSON texts, each distinct one once; frozen cells may share a value, others get one of their own."""
    coded = texts.dictionary_encode()
    values = np.empty(len(coded.dictionary) + 1, dtype=object)
    values[:-1] = [json.loads(text) for text in coded.dictionary.to_pylist()]
    codes = np.asarray(coded.indices)
    if frozen:
        values[:] = [freeze_value(value) for value in values]
        shared: npt.NDArray[np.object_] = values[codes]
        return shared
    flat = [isinstance(value, list) and not any(isinstance(item, list | dict) for item in value) for value in values]
    array = np.empty(len(codes), dtype=object)
    array[:] = [values[code][:] if flat[code] else copy.deepcopy(values[code]) for code in codes.tolist()]
    return array


def _pieces_in_order(observed: Places, sequence: Places) -> list[slice] | None:
    """Describe in which order pieces have to be read, so that rows are in order of observation; None where they are.

    Files and their parts come in any order, but the rows of one recording lie
    together in a few pieces: putting those in order moves no row.
    """
    if not len(observed):
        return None
    same = (observed[1:] == observed[:-1]) & (sequence[1:] == sequence[:-1])
    starts = np.append(0, np.flatnonzero(~same) + 1)
    order = np.lexsort((sequence[starts], observed[starts]))
    if (order[1:] > order[:-1]).all():
        return None
    ends = np.append(starts[1:], len(observed))
    # Pieces that follow each other in both orders are one.
    first = np.append(True, order[1:] != order[:-1] + 1)
    heads, tails = order[first], order[np.append(first[1:], True)]
    return [slice(int(starts[head]), int(ends[tail])) for head, tail in zip(heads, tails, strict=True)]


def _joined(table: Any, pieces: list[slice]) -> Any:
    import pyarrow as pa

    if len(pieces) > _MOST_PIECES:
        return table.take(np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces]))
    return pa.concat_tables([table.slice(piece.start, piece.stop - piece.start) for piece in pieces])


def _numbers(table: Any, name: str, dtype: Any = np.int64, *, null: Any = None) -> Any:
    """Return a column of eight-byte values as they lie in memory; missing ones are `null`, else whatever lies there."""
    parts = []
    for chunk in table.column(name).chunks:
        buffer = chunk.buffers()[1]
        if buffer is None or chunk.null_count == len(chunk):
            parts.append(np.full(len(chunk), 0 if null is None else null, dtype=dtype))
            continue
        values = np.frombuffer(buffer, dtype=dtype)[chunk.offset : chunk.offset + len(chunk)]
        if null is not None and chunk.null_count:
            values = np.where(np.asarray(chunk.is_valid()), values, null)
        parts.append(values)
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=dtype), *parts])


def _texts(table: Any) -> Any:
    import pyarrow as pa

    return table.column("text").cast(pa.large_string()).combine_chunks()


def _coded(table: Any, name: str) -> tuple[npt.NDArray[np.int32], list[Any]]:
    import pyarrow as pa

    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
    names = column.dictionary.to_pylist()
    if column.null_count:
        names.append(None)
        column = column.indices.fill_null(len(names) - 1)
    else:
        column = column.indices
    codes = np.asarray(column).astype(np.int32, copy=False)
    if len(set(names)) < len(names):
        distinct = list(dict.fromkeys(names))
        codes = np.array([distinct.index(other) for other in names], dtype=np.int32)[codes]
        names = distinct
    # Few names: sixteen bits let numpy sort by counting instead of comparing.
    return (codes.astype(np.int16) if len(names) < 2**15 else codes), names


def _as_dtype(array: npt.NDArray[np.object_], dtype: Any) -> Any:
    try:
        return pd.array(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        # The column changed its kind over time: each value stays as it was.
        return array
