"""The decoder that reads every record: from JSON:API resource objects to columns.

It settles what a cell is. A page's records become columns; a column whose cells
are all null or as the service writes them goes to Arrow at once, any other is
read cell by cell:

- A cell that cannot take its column's dtype becomes missing and is *locked*
  against writing; its original is kept.
- A cell that can, but was sent in another form than the canonical one (``10.0``,
  an instant without a zone, an id as text, a number where text belongs), keeps
  its original too.
- A record without a usable id, or of another type, is set aside with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.api.batches import STAMP, TAGS, TEXT, Batch, read_instants
from opp_pandas.errors import printable
from opp_pandas.frame_state import CellMarks
from opp_pandas.kinds import BOOLEAN, INT64_MAX, KINDS, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, Resource, snake_case

Bulk = tuple[pa.Array, Sequence[int]]
"""A column with nulls in some places, and these places: their cells are left to be read one by one."""
ReadColumn = Callable[[Sequence[Any]], Bulk]
ReadCell = Callable[[Any], tuple[Any, bool]]
"""Reads a JSON value; the second value says whether it was sent in canonical form."""


def decode_records(records: Sequence[Any], resource: Resource = OPPORTUNITY, page: int = 0) -> Batch:
    """Decode resource objects column by column.

    Parameters
    ----------
    records : sequence
        The ``data`` of a document: resource objects.
    resource : Resource
        What they should be.
    page : int
        The number of their page, from 0.

    Returns
    -------
    Batch
        The columns that the records say something about.
    """
    kept, quarantined = [], []
    for number, record in enumerate(records):
        objection = "" if _is_usual(record, resource.type) else _objection(record, resource)
        if objection:
            quarantined.append((number, objection, record))
        else:
            kept.append(record)
    columns = _Columns(len(kept))
    columns.read("id", [record["id"] for record in kept], _read_ids, _identity)
    unknown_attributes, unknown_relationships = {}, set()
    for name, values in _members([record.get("attributes") or {} for record in kept]):
        attribute = resource.by_name.get(name)
        if attribute is not None:
            columns.read(attribute.column, values, _BULK[attribute.kind], KINDS[attribute.kind].decode)
        else:
            unknown_attributes[name] = unknown_column(name, resource)
            columns.arrays[unknown_attributes[name]] = _unknown_array(values)
    for name, values in _members([record.get("relationships") or {} for record in kept]):
        relationship = resource.relationship_by_name.get(name)
        if relationship is None:
            unknown_relationships.add(name)
        elif relationship.column is not None:
            read_all = partial(_read_related, relationship.type)
            columns.read(relationship.column, values, read_all, partial(_related, relationship.type))
    for name, values in _members([meta if isinstance(meta := record.get("meta"), dict) else {} for record in kept]):
        entry = next((entry for entry in resource.metadata if entry.name == name), None)
        if entry is not None and entry.dtype == "boolean":
            columns.read(entry.column, values, _BULK["boolean"], BOOLEAN.decode)
        elif entry is not None:
            columns.arrays[entry.column] = list(values)
    marks = CellMarks(columns.original, columns.locked)
    return Batch(len(kept), columns.arrays, marks, quarantined, unknown_attributes, unknown_relationships, page)


def _is_usual(record: Any, kind: str) -> bool:
    if type(record) is not dict or record.get("type") != kind:
        return False
    number = record.get("id")
    parts = type(record.get("attributes")), type(record.get("relationships"))
    return type(number) is int and 0 < number <= INT64_MAX and parts == (dict, dict)


def _objection(record: Any, resource: Resource) -> str:
    """Say why a record cannot become a row; empty where it can."""
    if not isinstance(record, dict):
        return "not a JSON object"
    if record.get("type") != resource.type:
        return f"its type is not {resource.type!r}"
    try:
        identifier(record.get("id"))
    except UnfitError as problem:
        return str(problem)
    for member in ("attributes", "relationships"):
        if not isinstance(record.get(member), dict | None):
            return f"its {member} are not a JSON object"
    return ""


def _members(objects: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Turn objects into columns: every member's name, and its value in each of them, None where it is absent."""
    shapes = {tuple(entry) for entry in objects}
    empty = dict.fromkeys(chain.from_iterable(shapes))
    if len(shapes) > 1:
        objects = [empty | entry for entry in objects]
    return zip(empty, zip(*map(dict.values, objects), strict=True), strict=True)


class _Columns:
    """Columns on their way to Arrow, and the marks of their cells."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.arrays: dict[str, Any] = {}
        self.original: dict[tuple[int, str], Any] = {}
        self.locked: dict[tuple[int, str], str] = {}

    def read(self, column: str, values: Sequence[Any], bulk: ReadColumn, read_cell: ReadCell) -> None:
        """Read the cells that are null or as the service writes them at once, any other by itself."""
        array, others = bulk(values)
        if len(others):
            cells = [self._cell((row, column), values[row], read_cell) for row in others]
            array = _patched(array, others, cells)
        self.arrays[column] = array

    def _cell(self, place: tuple[int, str], value: Any, read_cell: ReadCell) -> Any:
        try:
            decoded, plain = read_cell(value)
        except UnfitError as problem:
            decoded, plain = None, False
            self.locked[place] = str(problem)
        if not plain:
            self.original[place] = value
        return decoded


def _patched(array: pa.Array, places: Sequence[int], cells: list[Any]) -> pa.Array:
    """Return an array with other cells in some places; those of instants are microseconds."""
    if array.type == TAGS:  # Arrow patches no lists
        values = array.to_pylist()
        for place, cell in zip(places, cells, strict=True):
            values[place] = cell
        return pa.array(values, type=TAGS)
    mask = np.zeros(len(array), dtype=bool)
    mask[places] = True
    fresh = pa.array(cells, type=pa.int64() if array.type == STAMP else array.type)
    return pc.replace_with_mask(array, mask, fresh.cast(array.type))


def _read_plain(expected: type, kind: pa.DataType, values: Sequence[Any]) -> Bulk:
    """Read values of one Python type; Arrow itself would take 10.0 for 10."""
    others: list[int] = []
    if not set(map(type, values)) <= {expected, type(None)}:
        others = [row for row, value in enumerate(values) if value is not None and type(value) is not expected]
        values = list(values)
        for row in others:
            values[row] = None
    try:
        return pa.array(values, type=kind), others
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.nulls(len(values), kind), range(len(values))


def _read_tags(values: Sequence[Any]) -> Bulk:
    array, others = _read_plain(list, TAGS, values)
    return (pa.nulls(len(values), TAGS), range(len(values))) if array.flatten().null_count else (array, others)


def _read_instants(values: Sequence[Any]) -> Bulk:
    texts, others = _read_plain(str, TEXT, values)
    stamps, nonconforming = read_instants(texts)
    return stamps, sorted([*others, *np.flatnonzero(nonconforming).tolist()])


def _read_related(kind: str, values: Sequence[Any]) -> Bulk:
    """Read the ids of relationships; a cell that is not simply one of the type, or null, is left."""
    ids: list[int | None] = []
    others = []
    for row, value in enumerate(values):
        target = value.get("data") if type(value) is dict else value
        number = target.get("id") if type(target) is dict and target.get("type") == kind else None
        if target is not None and (type(number) is not int or not 0 < number <= INT64_MAX):
            others.append(row)
            number = None
        ids.append(number)
    return pa.array(ids, type=pa.int64()), others


def _read_ids(values: Sequence[Any]) -> Bulk:
    return pa.array(map(identifier, values), type=pa.int64()), [n for n, v in enumerate(values) if type(v) is not int]


_BULK: dict[str, Callable[[Sequence[Any]], Bulk]] = {
    "integer": partial(_read_plain, int, pa.int64()),
    "text": partial(_read_plain, str, TEXT),
    "instant": _read_instants,
    "tags": _read_tags,
    "boolean": partial(_read_plain, bool, pa.bool_()),
}


def _unknown_array(values: Sequence[Any]) -> Any:
    """Make an Arrow array where all values are of one plain kind; else return them."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    typed = {str: TEXT, int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(kinds.pop())
    if kinds or typed is None:
        return list(values)
    try:
        return pa.array(values, type=typed)
    except (UnicodeEncodeError, OverflowError):
        return list(values)


def _identity(value: Any) -> tuple[int, bool]:
    return identifier(value), isinstance(value, int)


def _related(kind: str, value: Any) -> tuple[int | None, bool]:
    """Read the id of a relationship; links alone, or nothing at all, say nothing about where it points."""
    target = value.get("data") if isinstance(value, dict) else value
    if target is None:
        return None, True
    if not isinstance(target, dict):
        raise UnfitError("not a resource identifier")
    found = target.get("type")
    if found is not None and found != kind:
        raise UnfitError(f"points to {printable(repr(found), 40)}, not to {kind!r}")
    number = target.get("id")
    return identifier(number), found is not None and isinstance(number, int)


@cache
def unknown_column(name: str, resource: Resource = OPPORTUNITY) -> str:
    """Name the column of an attribute that the table does not have.

    No two attributes share a column, and none takes a column that is known:
    where snake_case would lose letters or is taken, the API's name stays whole.

    Examples
    --------
    >>> unknown_column("healthScore"), unknown_column("health_score"), unknown_column("owner_id")
    ('health_score', 'attribute_health_score', 'attribute_owner_id')
    """
    column = snake_case(name)
    taken = column in COLUMN_DTYPES or column in resource.by_column or column.startswith("attribute_")
    return f"attribute_{name}" if taken or _camel_case(column) != name else column


def unknown_attribute(column: str) -> str:
    """Return the API's name of an unknown attribute's column: the inverse of `unknown_column`.

    Examples
    --------
    >>> unknown_attribute("health_score"), unknown_attribute("attribute_health_score")
    ('healthScore', 'health_score')
    """
    return column.removeprefix("attribute_") if column.startswith("attribute_") else _camel_case(column)


def _camel_case(column: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), column)


def identifier(value: Any) -> int:
    """Read an id: a positive whole number, or the same as text.

    Raises
    ------
    UnfitError
        If it is anything else; the text does not repeat the value.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 and not value.startswith("0"):
        value = int(value)
    if value is None:
        raise UnfitError("it has no id")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitError("its id is not a whole number")
    if not 0 < value <= INT64_MAX:
        raise UnfitError("its id is out of range")
    return value
