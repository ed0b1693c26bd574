"""Histories of format 1, which had no version, no digests, and marks inside its values.

Whole numbers stood in a column ``number``; a field ``(deal)`` said whether a deal was there; values that JSON has no
type for were tagged (``{"$decimal": "1.50"}``), single values of columns of objects were JSON too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.query import NOT_NULL
from opp_pandas.history.cells import DEAL, LOAD, SNAPSHOT, arrow_schema
from opp_pandas.history.query_identity import UNKNOWN, asked_for, pack_query, read_stages, unpack_query
from opp_pandas.history.typed_values import KINDS, encode, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COLUMNS = frozenset(
    {
        *("sequence", "observed_at", "updated_at", "resource", "id", "key", "field", "kind"),
        *("text", "number", "real", "instant", "wire"),
    }
)
_TAGS: Mapping[str, Callable[[Any], Any]] = {
    "$decimal": Decimal,
    "$instant": dt.datetime.fromisoformat,
    "$day": dt.date.fromisoformat,
}
_QUERY_TAGS: Mapping[str, Callable[[Any], Any]] = {
    **_TAGS,
    "$not_null": lambda _: NOT_NULL,
    "$tuple": tuple,
    "$stages": read_stages,
}


def to_format_2(old: Any) -> Any:
    """Return all rows of a table of format 1 in the columns of format 2.

    What format 1 could not tell apart is read in the likelier way: a tag whose contents fit is a tag, and a field
    ``(deal)`` of true and false says whether the deal was there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: old.column(name).combine_chunks() for name in old.column_names}
    for name in ("resource", "field", "kind"):
        columns[name] = columns[name].cast(pa.string())
    is_presence = pc.and_(pc.equal(columns["resource"], DEAL), pc.equal(columns["field"], "(deal)"))
    is_presence = pc.and_(is_presence, pc.equal(columns["kind"], "boolean"))
    is_currency = pc.and_(pc.equal(columns["resource"], LOAD), pc.equal(columns["field"], "currency"))
    new = {
        **columns,
        "field": pc.if_else(is_presence, None, pc.if_else(is_currency, "definitions", columns["field"])),
        "integer": columns["number"],
        "types": pa.nulls(len(old), pa.string()),
    }
    _retype(new, columns)
    _retype_originals(new, columns["wire"])
    schema = arrow_schema()
    return pa.table([new[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


def _retype(new: dict[str, Any], columns: Mapping[str, Any]) -> None:
    """Restore values that were written as JSON to their present kind: single ones, tagged ones, and queries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.fill_null(columns["text"], "")
    is_plain = pc.and_(pc.match_substring_regex(text, r"^[\[{]"), pc.invert(pc.match_substring(text, '"$')))
    is_fact = pc.is_in(columns["resource"], value_set=pa.array([LOAD, SNAPSHOT]))
    chosen = pc.and_(pc.equal(columns["kind"], "json"), pc.or_(pc.invert(is_plain), is_fact))
    rows = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
    if not len(rows):
        return
    found = {name: columns[name].take(pa.array(rows)).to_pylist() for name in ("resource", "field", "text")}
    values = np.empty(len(rows), dtype=object)
    for place, (resource, name, written) in enumerate(zip(*found.values(), strict=True)):
        is_query = (resource, name) == (LOAD, "query")
        value = _load(written, _QUERY_TAGS if is_query else _TAGS)
        value = {"currency": value} if (resource, name) == (LOAD, "currency") else value
        # A query that could not be kept was told by a key.
        values[place] = (None if UNKNOWN in value else pack_query(value)) if is_query else value
    moments = columns["observed_at"].cast(pa.int64()).to_numpy()[rows]
    _ask_anew(values, found, moments)
    packed = pack(pd.Series(values, dtype=object))
    mask = pa.array(chosen)
    new["kind"] = pc.replace_with_mask(columns["kind"], mask, pa.array([KINDS[kind] for kind in packed.kinds]))
    nothing = pa.nulls(len(rows), pa.string())
    texts = packed.stores["text"].cast(pa.string()) if "text" in packed.stores else nothing
    new["text"] = pc.replace_with_mask(columns["text"], mask, texts)
    for store in ("integer", "real", "instant"):
        if store in packed.stores:
            elsewhere = ~packed.kept_in(store)
            fresh = pa.array(packed.stores[store], mask=elsewhere).cast(new[store].type)
            new[store] = pc.replace_with_mask(new[store], mask, fresh)
    told = [json.dumps({"value": packed.types[place]}) if place in packed.types else None for place in range(len(rows))]
    new["types"] = pc.replace_with_mask(new["types"], mask, pa.array(told, pa.string()))


def _ask_anew(values: Any, found: Mapping[str, list[Any]], moments: Any) -> None:
    """Describe in today's words what each load asked for, so that another one can go on from it."""
    named = list(zip(found["resource"], found["field"], strict=True))
    queries = sorted((moments[place], place) for place, name in enumerate(named) if name == (LOAD, "query"))
    for place, (resource, _) in enumerate(named):
        facts = values[place]
        if resource == SNAPSHOT and facts.get("asked"):
            known = [packed for at, number in queries if at <= moments[place] and (packed := values[number])]
            values[place] = {**facts, "asked": asked_for(unpack_query(known[-1]), facts["source"]) if known else None}


def _retype_originals(new: dict[str, Any], wire: Any) -> None:
    import pyarrow as pa

    rows = np.flatnonzero(np.asarray(wire.is_valid()))
    if not len(rows):
        return
    texts, types = wire.to_pylist(), new["types"].to_pylist()
    for row in rows.tolist():
        texts[row], told = encode(_load(texts[row], _TAGS))
        if told:
            types[row] = json.dumps({**json.loads(types[row] or "{}"), "wire": told})
    new["wire"], new["types"] = pa.array(texts, pa.string()), pa.array(types, pa.string())


def _load(text: str, tags: Mapping[str, Callable[[Any], Any]]) -> Any:
    def untagged(found: dict[str, Any]) -> Any:
        if len(found) == 1:
            ((key, value),) = found.items()
            # Somebody's own data may look like a tag.
            with contextlib.suppress(KeyError, TypeError, ValueError, InvalidOperation):
                return tags[key](value)
        return found

    return json.loads(text, object_hook=untagged)
