"""The reference for loading: record by record and cell by cell, in plain Python, with nothing shared but the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from opp_pandas.api.batches import column_array
from opp_pandas.api.decode import unknown_column
from opp_pandas.api.documents import identifier, parse_document
from opp_pandas.api.frame_builder import BLOCK_BYTES, LEADING, Collected, Collector
from opp_pandas.errors import DocumentError, printable
from opp_pandas.kinds import KINDS, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, Attribute, Resource


@dataclass
class Cells:
    """Decoded resource objects as columns.

    Parameters
    ----------
    columns : dict of str to list
        One list per column, all of one length; instants as microseconds since
        1970 (UTC), tags as lists, everything else as Python values or None.
    wire : dict of (int, str) to object
        Originals of cells whose canonical form differs from what was sent.
    locked : dict of (int, str) to str
        Cells that could not take their dtype, with the reason.
    quarantined : list of (int, str, object)
        Position on the page, reason and original of records set aside.
    unknown_attributes, unknown_relationships : set of str
        API names that the resource table does not have, of the rows that stayed.
    """

    columns: dict[str, list[Any]]
    wire: dict[tuple[int, str], Any] = field(default_factory=dict)
    locked: dict[tuple[int, str], str] = field(default_factory=dict)
    quarantined: list[tuple[int, str, Any]] = field(default_factory=list)
    unknown_attributes: set[str] = field(default_factory=set)
    unknown_relationships: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.columns["id"])


def decode_resources(data: Iterable[Any], resource: Resource = OPPORTUNITY) -> Cells:
    """Decode resource objects one by one.

    Parameters
    ----------
    data : iterable
        The ``data`` of a document: resource objects.
    resource : Resource
        What they should be.

    Returns
    -------
    Cells
        Columns of the resource table first, then one per unknown attribute.
    """
    known = [
        "id",
        *resource.by_column,
        *resource.relationship_by_column,
        *(entry.column for entry in resource.metadata),
    ]
    cells = Cells({column: [] for column in known})
    for number, record in enumerate(data):
        try:
            row = _Row(record, resource)
        except UnfitError as problem:
            cells.quarantined.append((number, str(problem), record))
            continue
        row.append_to(cells)
    return cells


class _Row:
    """One resource object on its way into the columns."""

    def __init__(self, record: Any, resource: Resource) -> None:
        if not isinstance(record, Mapping):
            raise UnfitError("not a JSON object")
        if record.get("type") != resource.type:
            raise UnfitError(f"its type is not {resource.type!r}")
        self.values: dict[str, Any] = {}
        self.wire: dict[str, Any] = {}
        self.locked: dict[str, str] = {}
        self.unknown_attributes: set[str] = set()
        self.unknown_relationships: set[str] = set()
        self._decode_id(record.get("id"))
        self._decode_attributes(_mapping(record, "attributes"), resource)
        self._decode_relationships(_mapping(record, "relationships"), resource)
        self._decode_metadata(record.get("meta"), resource)

    def _decode_id(self, value: Any) -> None:
        self.values["id"] = identifier(value)
        if not isinstance(value, int):
            self.wire["id"] = value

    def _decode_attributes(self, attributes: Mapping[str, Any], resource: Resource) -> None:
        for name, value in attributes.items():
            attribute = resource.by_name.get(name)
            if attribute is not None:
                self._put(attribute.column, value, attribute)
            else:
                self.unknown_attributes.add(name)
                self.values[unknown_column(name, resource)] = value

    def _put(self, column: str, value: Any, attribute: Attribute) -> None:
        try:
            decoded, plain = KINDS[attribute.kind].decode(value)
        except UnfitError as problem:
            decoded, plain = None, False
            self.locked[column] = str(problem)
        self.values[column] = decoded
        if not plain:
            self.wire[column] = value

    def _decode_relationships(self, relationships: Mapping[str, Any], resource: Resource) -> None:
        for name, value in relationships.items():
            relationship = resource.relationship_by_name.get(name)
            if relationship is None:
                self.unknown_relationships.add(name)
            elif relationship.column is not None:
                self._put_relationship(relationship.column, relationship.type, value)

    def _put_relationship(self, column: str, expected: str, value: Any) -> None:
        # Links alone, or nothing at all, say nothing about where it points.
        target = value.get("data") if isinstance(value, Mapping) else value
        if target is None:
            self.values[column] = None
            return
        try:
            if not isinstance(target, Mapping):
                raise UnfitError("not a resource identifier")
            if target.get("type") not in (expected, None):
                raise UnfitError(f"points to {printable(repr(target['type']), 40)}, not to {expected!r}")
            self.values[column] = identifier(target.get("id"))
        except UnfitError as problem:
            self.values[column] = None
            self.locked[column] = str(problem)
            self.wire[column] = value
            return
        if target.get("type") != expected or not isinstance(target.get("id"), int):
            self.wire[column] = value

    def _decode_metadata(self, meta: Any, resource: Resource) -> None:
        if not isinstance(meta, Mapping):
            return
        for entry in resource.metadata:
            value = meta.get(entry.name)
            if entry.dtype == "boolean" and not isinstance(value, bool | None):
                self.wire[entry.column] = value
                self.locked[entry.column] = "must be true or false"
                value = None
            self.values[entry.column] = value

    def append_to(self, cells: Cells) -> None:
        position = len(cells)
        for column in self.values:
            if column not in cells.columns:
                cells.columns[column] = [None] * position
        for column, values in cells.columns.items():
            values.append(self.values.get(column))
        cells.wire.update(((position, column), value) for column, value in self.wire.items())
        cells.locked.update(((position, column), reason) for column, reason in self.locked.items())
        cells.unknown_attributes |= self.unknown_attributes
        cells.unknown_relationships |= self.unknown_relationships


def _mapping(record: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    value = record.get(member)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UnfitError(f"its {member} are not a JSON object")
    return value


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
