"""The reference for loading: record by record and cell by cell, in plain Python, with nothing shared but the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.api.decode import column_array, decode_resources
from opp_pandas.api.documents import parse_document
from opp_pandas.api.frame_builder import BLOCK_BYTES, LEADING, Collected, Collector
from opp_pandas.errors import DocumentError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def load_slowly(bodies: Iterable[bytes], columns: Iterable[str] | None = None) -> dict[str, Any]:
    """Load pages the obvious way; give frame, marks, what was set aside, doubled ids and unknown names."""
    wanted = ("id", *OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column) if columns is None else columns
    wanted = list(dict.fromkeys(["id", *wanted]))
    rows: list[dict[str, Any]] = []
    aside: list[tuple[str, str, Any]] = []
    unknown_columns: set[str] = set()
    attributes: set[str] = set()
    relationships: set[str] = set()
    for number, body in enumerate(bodies, 1):
        data = parse_document(body).get("data")
        if not isinstance(data, list):
            raise DocumentError("a collection was expected: data must be a list")
        cells = decode_resources(data)
        rows += [
            {
                "values": {name: values[place] for name, values in cells.columns.items()},
                "wire": {name: value for (row, name), value in cells.wire.items() if row == place},
                "locked": {name: value for (row, name), value in cells.locked.items() if row == place},
            }
            for place in range(len(cells))
        ]
        aside += [(f"page {number}, record {record}", reason, raw) for record, reason, raw in cells.quarantined]
        unknown_columns |= {name for name in cells.columns if name not in COLUMN_DTYPES}
        attributes |= cells.unknown_attributes
        relationships |= cells.unknown_relationships
    kept, doubled = _newest(rows)
    names = [*wanted, *sorted(unknown_columns)]
    order = [name for name in LEADING if name in names] + [name for name in names if name not in LEADING]
    frame = pd.DataFrame(
        {
            name: column_array([row["values"].get(name) for row in kept], COLUMN_DTYPES.get(name, "infer"))
            for name in order
        },
        index=pd.RangeIndex(len(kept)),
    )
    return {
        "frame": frame,
        "wire": {
            (place, name): value
            for place, row in enumerate(kept)
            for name, value in row["wire"].items()
            if name in order
        },
        "locked": {
            (place, name): value
            for place, row in enumerate(kept)
            for name, value in row["locked"].items()
            if name in order
        },
        "quarantined": aside,
        "duplicates": doubled,
        "unknown_attributes": tuple(sorted(attributes)),
        "unknown_relationships": tuple(sorted(relationships)),
    }


def _newest(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """Keep per id the copy with the latest updated_at (missing is oldest; of equals the last), at its first place."""
    best: dict[int, dict[str, Any]] = {}
    counts: dict[int, int] = {}
    for row in rows:
        key = row["values"]["id"]
        counts[key] = counts.get(key, 0) + 1
        if key not in best or _stamp(row) >= _stamp(best[key]):
            best[key] = row
    return list(best.values()), [(key, count) for key, count in counts.items() if count > 1]


def _stamp(row: dict[str, Any]) -> int:
    value = row["values"].get("updated_at")
    return -(2**63) if value is None else int(value)


def collect(bodies: Iterable[bytes], columns: Iterable[str] | None = None, block_bytes: int = BLOCK_BYTES) -> Collected:
    """Load pages the way the package does."""
    with Collector(columns=columns) as collector:
        collector.block_bytes = block_bytes
        for body in bodies:
            collector.add_body(body)
        return collector.finish()


def assert_same(collected: Collected, expected: dict[str, Any]) -> None:
    """Compare everything, down to the types of single values."""
    pd.testing.assert_frame_equal(collected.rows.frame, expected["frame"])
    for name in expected["frame"].columns:
        if expected["frame"][name].dtype == object:
            assert [_typed(value) for value in collected.rows.frame[name]] == [
                _typed(value) for value in expected["frame"][name]
            ]
    assert {key: _typed(value) for key, value in collected.rows.marks.original.items()} == {
        key: _typed(value) for key, value in expected["wire"].items()
    }
    assert collected.rows.marks.locked == expected["locked"]
    assert [_typed(row) for row in collected.quarantined.itertuples(index=False, name=None)] == [
        _typed(row) for row in expected["quarantined"]
    ]
    found = [
        (int(key), int(count))
        for key, count in zip(collected.duplicates["key"], collected.duplicates["rows"], strict=True)
    ]
    assert found == expected["duplicates"]
    assert collected.unknown_attributes == expected["unknown_attributes"]
    assert collected.unknown_relationships == expected["unknown_relationships"]


def _typed(value: Any) -> Any:
    """Tell 1, 1.0 and True apart, at every depth."""
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return type(value).__name__, repr(value)
