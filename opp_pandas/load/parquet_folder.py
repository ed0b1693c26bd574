"""A folder of Parquet files that one load wrote, and what it says of all of them.

The rows stand in ``part-00000.parquet`` and its successors, each readable by
itself with pandas, DuckDB, Polars or Spark. Beside them ``_opp_pandas.json``
keeps once what figures need besides rows: the text that a load leaves in any
Parquet file (`opp_pandas.frame_state.Meaning`: source, moment, zone, stages,
names, definitions), and under ``load`` how the load went. Readers of Parquet
folders pass over names that begin with an underscore.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.kinds import KINDS
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opp_pandas.frame_state import Meaning

MEANING_FILE = "_opp_pandas.json"
PART = "part-{:05d}.parquet"
ARROW_TYPES = {kind.dtype: kind.arrow for kind in KINDS.values() if kind.dtype != "object"} | {"Float64": pa.float64()}
_DTYPES = {
    typed: pd.api.types.pandas_dtype(dtype) for dtype, typed in ARROW_TYPES.items() if not dtype.startswith("datetime")
}
_LISTS = {entry.column: KINDS[entry.kind].arrow for entry in OPPORTUNITY.attributes if entry.dtype == "object"}
_LISTS |= {"prospect_ids": pa.list_(pa.int64())}


_NO_KIND, _LONG = {b"values": b"none"}, {b"values": b"integers that no double holds"}
_EXACT = 2**53


def arrow_type(column: str) -> pa.DataType | None:
    """Return the Arrow type of a column of the schema; None for one that it does not have, or that has no fixed one."""
    return _LISTS.get(column) or ARROW_TYPES.get(COLUMN_DTYPES.get(column, ""))


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame of opportunities as an Arrow table, of the same types whatever the rows hold."""
    arrays = {str(name): _arrow_column(frame[name]) for name in frame.columns}
    fields = [pa.field(name, array.type, metadata=_remark(name, array)) for name, array in arrays.items()]
    return _with_dtypes(pa.table(list(arrays.values()), schema=pa.schema(fields)))


def _remark(name: str, array: pa.Array) -> dict[bytes, bytes] | None:
    """Return what joining has to know of an attribute that the schema does not have."""
    if arrow_type(name) is not None:
        return None
    if array.null_count == len(array):
        return _NO_KIND
    ends = pc.min_max(array).as_py() if pa.types.is_int64(array.type) else {}
    return _LONG if any(abs(end) > _EXACT for end in ends.values()) else None


def _with_dtypes(table: pa.Table) -> pa.Table:
    """Note pandas' dtypes, so that whole numbers with missing ones come back as such."""
    none = table.slice(0, 0).to_pandas(types_mapper=_DTYPES.get, ignore_metadata=True)
    return table.replace_schema_metadata(pa.Schema.from_pandas(none, preserve_index=False).metadata)


def _arrow_column(values: pd.Series) -> pa.Array:
    try:
        array = pa.Array.from_pandas(values, type=arrow_type(str(values.name)))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # Of an attribute that the schema does not have, each value may be of another kind, or beyond 64 bits.
        return _as_json(values.tolist())
    # Parquet has no objects without members.
    return _as_json(values.tolist()) if "struct<>" in str(array.type) else array


def _as_json(values: Iterable[Any]) -> pa.Array:
    texts = [None if value is None or value is pd.NA else json.dumps(value, default=str) for value in values]
    return pa.array(texts, pa.large_string())


def common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return the schema that holds the columns of all; one of kinds that do not go together is text, in JSON."""
    fields = [field for schema in schemas for field in schema]
    types: dict[str, pa.DataType | None] = dict.fromkeys(field.name for field in fields)
    exact = {field.name for field in fields if field.metadata == _LONG}
    # What was missing throughout says nothing of its kind, if another has values of it.
    for field in sorted(fields, key=lambda field: field.metadata == _NO_KIND):
        known = types[field.name]
        if known is None:
            types[field.name] = field.type
        elif field.metadata != _NO_KIND:
            both = [pa.schema([(field.name, known)]), pa.schema([field])]
            try:
                joined = pa.unify_schemas(both, promote_options="permissive").field(0).type
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                joined = pa.large_string()
            rounds = pa.types.is_floating(joined) and field.name in exact
            types[field.name] = pa.large_string() if rounds else joined
    return pa.schema(list(types.items()))


def of_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in a schema from `common_schema`."""
    columns = []
    for field in schema:
        if field.name not in table.column_names or table[field.name].null_count == len(table):
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table[field.name]
        is_text = pa.types.is_large_string(column.type) or not pa.types.is_large_string(field.type)
        columns.append(column.cast(field.type) if is_text else _as_json(column.to_pylist()))
    return _with_dtypes(pa.table(columns, schema=schema))


def write_meaning(folder: Path, meaning: Meaning, key: str, load: Mapping[str, Any]) -> None:
    """Write what the files of a folder stand on."""
    (folder / MEANING_FILE).write_text(meaning.to_text("read", key, load=load), encoding="utf-8")
