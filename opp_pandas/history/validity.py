"""One row per deal and period in which nothing of it changed, for people who come with SQL or a data frame library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas._files import write_whole
from opp_pandas.errors import MissingColumnError
from opp_pandas.history.cells import DEAL, PRESENCE, Cells, Records
from opp_pandas.history.losses import caveats
from opp_pandas.history.replay import lookups_at
from opp_pandas.history.snapshot_metadata import load_facts
from opp_pandas.history.typed_values import BOOLEAN, Places, encode
from opp_pandas.resource import LOOKUP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ENDS = ("valid_from", "valid_to")


def write_validity(cells: Cells, path: Path, columns: Iterable[str] | None) -> Path:
    """Write the file of `History.write_validity`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = path.expanduser()
    if target.suffix.lower() != ".parquet":
        target.mkdir(parents=True, exist_ok=True)
        target = target / "validity.parquet"
    table = validity_table(cells, columns)
    if found := caveats(cells):
        # Beside the description that pandas and others put there.
        table = table.replace_schema_metadata({"opp_pandas.caveats": json.dumps(found)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return write_whole(target, sink.getvalue().to_pybytes())


def validity_table(cells: Cells, columns: Iterable[str] | None = None) -> Any:
    """Return the table of `History.write_validity`, in order of deals and time."""
    import pyarrow as pa

    records = cells.records(DEAL)
    entries = {entry[0]: entry for entry in load_facts(cells, len(cells)).get("columns", [])}
    wanted = list(entries) if columns is None else list(dict.fromkeys(["id", *columns]))
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise MissingColumnError(missing, list(entries), "The history has never seen it.")
    joined = {name: LOOKUP_COLUMNS[name] for name in wanted if entries[name][2]}
    fields = [name for name in wanted if name != "id" and name not in joined]
    keys = [entry.id_column for entry in joined.values()]
    codes, moments = _periods(cells, records, list(dict.fromkeys([*fields, *keys])))
    there = cells.stored(BOOLEAN, _standing(cells, records, PRESENCE, codes, moments)) == 1
    ends = np.where(np.append(codes[1:], -1) == codes, np.append(moments[1:], 0), np.iinfo(np.int64).min)
    codes, moments, ends = codes[there], moments[there], ends[there]
    made: dict[str, Any] = {
        "id": pa.array(records.keys.owners(codes).id_column),
        ENDS[0]: pa.array(moments).cast(pa.timestamp("us", tz="UTC")),
        ENDS[1]: pa.array(ends, mask=ends == np.iinfo(np.int64).min).cast(pa.timestamp("us", tz="UTC")),
    }
    lookups = lookups_at(cells, len(cells))
    for name in wanted:
        if name in joined:
            entry = joined[name]
            own = cells.column(_standing(cells, records, entry.id_column, codes, moments), "Int64")
            lookup = lookups.get(entry.type)
            names = None if lookup is None else lookup.drop_duplicates("id").set_index("id")[entry.field]
            found = pd.Series(own).map(names) if names is not None else pd.Series([None] * len(codes))
            made[name] = _arrow(found.astype(entries[name][1]).array)
        elif name != "id":
            made[name] = _arrow(cells.column(_standing(cells, records, name, codes, moments), entries[name][1]))
    return pa.table(made)


def _periods(cells: Cells, records: Records, fields: list[str]) -> tuple[Places, Places]:
    """Return the deal and the beginning of every period: each moment at which a field, or presence, changed."""
    rows, codes = zip(*(records.rows_and_codes(name) for name in (PRESENCE, *fields)), strict=True)
    pairs = np.stack([np.concatenate(codes), cells.observed[np.concatenate(rows)]], axis=1)
    pairs = np.unique(pairs, axis=0)
    return pairs[:, 0], pairs[:, 1]


def _standing(cells: Cells, records: Records, field: str | None, codes: Places, moments: Places) -> Places:
    """Return the row that says how a field stood in each period; -1 where none does."""
    rows, own = records.rows_and_codes(field)
    order = np.lexsort((rows, own))
    rows, own = rows[order], own[order]
    # Of the rows of a deal until a moment the last one: those of all deals, in order of deals and time, are counted.
    n = np.int64(len(cells) + 1)
    last = np.searchsorted(own * n + rows, codes * n + np.searchsorted(cells.observed, moments, side="right")) - 1
    found = (last >= 0) & (own[np.maximum(last, 0)] == codes) if len(rows) else np.zeros(len(codes), dtype=bool)
    return np.where(found, rows[np.maximum(last, 0)], -1) if len(rows) else np.full(len(codes), -1)


def _arrow(values: Any) -> Any:
    """Return a column as Arrow types it; JSON text where its values are of several types."""
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        missing = pd.isna(pd.Series(values, dtype=object))
        return pa.array([None if gone else encode(value)[0] for value, gone in zip(values, missing, strict=True)])
