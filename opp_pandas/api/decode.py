"""The decoder: from the columns of a page to Arrow, and what a cell is.

A column whose cells are null or as the service writes them goes to Arrow at
once; of any other, the cells that are not are read one by one:

- A cell that cannot take its column's dtype becomes missing and is *locked*
  against writing; its original is kept.
- A cell that can, but was sent in another form than the canonical one (``10.0``,
  an instant without a zone, an id as text, a number where text belongs), keeps
  its original too.
- A record without a usable id, or of another type, is set aside with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET

from opp_pandas.api.batches import STAMP, TAGS, TEXT, Batch, joined_column, read_instants
from opp_pandas.api.documents import parse_document
from opp_pandas.api.page_parser import PageColumns, PageParser, Target, json_value
from opp_pandas.errors import DocumentError, printable
from opp_pandas.frame_state import CellMarks
from opp_pandas.kinds import BOOLEAN, INSTANTS, INT64_MAX, KINDS, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, Resource, snake_case

Bulk = tuple[pa.Array, Sequence[int]]
"""A column with nulls in some places, and these places: their cells are left to be read one by one."""
ReadColumn = Callable[[Sequence[Any]], Bulk]
ReadCell = Callable[[Any], tuple[Any, bool]]
"""Reads a JSON value; the second value says whether it was sent in canonical form."""


@dataclass
class Part:
    """The decoded columns of a page.

    Parameters
    ----------
    rows : int
        How many.
    columns : dict of str to Array or list
        Instants are text still: `join_parts` reads them, many at a time.
    original, locked : dict
        As in `CellMarks`.
    quarantined : list of (int, str, object)
        Records set aside: number on the page (from 0), reason and original.
    unknown_attributes : dict of str to str
        API names that the resource table does not have, with their columns.
    unknown_relationships : set of str
        The same of relationships.
    absent : int
        Attributes that records do not have.
    others : list
        What may be more than text or a number in the cells of attributes and targets.
    by_record : bool
        Whether the page was read record by record.
    """

    rows: int
    columns: dict[str, Any] = field(default_factory=dict)
    original: dict[tuple[int, str], Any] = field(default_factory=dict)
    locked: dict[tuple[int, str], str] = field(default_factory=dict)
    quarantined: list[tuple[int, str, Any]] = field(default_factory=list)
    unknown_attributes: dict[str, str] = field(default_factory=dict)
    unknown_relationships: set[str] = field(default_factory=set)
    absent: int = 0
    others: list[Any] = field(default_factory=list)
    by_record: bool = False

    def read(self, column: str, values: Sequence[Any], bulk: ReadColumn, read_cell: ReadCell) -> None:
        """Read the cells that are null or as the service writes them at once, any other by itself."""
        array, places = bulk(values)
        if len(places):
            self.others += [values[row] for row in places]
            cells = [self.read_cell((row, column), values[row], read_cell) for row in places]
            array = _patched(array, places, cells)
        self.columns[column] = array

    def read_related(self, column: str, kind: str, values: Sequence[Any], targets: Sequence[Any]) -> None:
        """Read the ids of a relationship."""
        array, others = _read_targets(kind, targets)
        self.others += [part for row in others if (target := targets[row]) for part in (target.type, target.id)]
        cells = [self.read_cell((row, column), json_value(values[row]), partial(_related, kind)) for row in others]
        self.columns[column] = _patched(array, others, cells) if cells else array

    def read_cell(self, place: tuple[int, str], value: Any, read_cell: ReadCell) -> Any:
        """Read a cell, and note what its column cannot hold as it came."""
        try:
            decoded, plain = read_cell(value)
        except UnfitError as problem:
            decoded, plain = None, False
            self.locked[place] = str(problem)
        if not plain:
            self.original[place] = value
        return decoded


def decode_page(body: bytes, parser: PageParser, resource: Resource, **where: Any) -> tuple[Part, Sequence[Any]]:
    """Decode a page, whatever its records are.

    Parameters
    ----------
    body : bytes
        The page.
    parser : PageParser
        Parses the pages of this collection.
    resource : Resource
        What they hold.
    **where
        The request, for errors: see `opp_pandas.api.documents.parse_document`.

    Returns
    -------
    part : Part
    included : sequence
        The resources beside the records.

    Raises
    ------
    DocumentError
        If it is not a collection.
    """
    page = parser.parse(body)
    if page is not None and _are_usable(page.ids):
        part = decode_columns(page, resource)
        if page.adds_up(part.absent, part.others):
            return part, page.included
    return decode_document(parse_document(body, **where), resource)


def decode_document(document: Mapping[str, Any], resource: Resource) -> tuple[Part, Sequence[Any]]:
    """Decode a page that is parsed already, as `decode_page` does."""
    data = document.get("data")
    if not isinstance(data, list):
        raise DocumentError("a collection was expected: data must be a list", pointer="/data")
    return _decode_records(data, resource), document.get("included") or ()


def decode_records(records: Sequence[Any], resource: Resource = OPPORTUNITY) -> Batch:
    """Decode resource objects, each a dictionary."""
    return join_parts([_decode_records(records, resource)], resource)


def _decode_records(records: Sequence[Any], resource: Resource) -> Part:
    kept, quarantined = [], []
    for number, record in enumerate(records):
        objection = _objection(record, resource)
        if objection:
            quarantined.append((number, objection, record))
        else:
            kept.append(record)
    related = dict(_members([record.get("relationships") or {} for record in kept]))
    to_one = {entry.name for entry in resource.relationships if not entry.to_many}
    page = PageColumns(
        ids=[record["id"] for record in kept],
        attributes=dict(_members([record.get("attributes") or {} for record in kept])),
        relationships={name: (related[name], list(map(_target, related[name]))) for name in related if name in to_one},
        unread=[name for name in related if name not in to_one],
        meta=[record.get("meta") for record in kept],
    )
    part = decode_columns(page, resource)
    part.quarantined, part.by_record = quarantined, True
    return part


def decode_columns(page: PageColumns, resource: Resource) -> Part:
    """Decode the columns of a page."""
    part = Part(len(page.ids))
    part.read("id", page.ids, _read_ids, _identity)
    for name, values in page.attributes.items():
        attribute = resource.by_name.get(name)
        absent = values.count(UNSET)
        if absent:
            part.absent += absent
            values = [None if value is UNSET else value for value in values]
        if not any(values) and values.count(None) == part.rows:
            if attribute is None and absent < part.rows:
                part.unknown_attributes[name] = unknown_column(name, resource)
        elif attribute is not None:
            part.read(attribute.column, values, *_READERS[attribute.kind])
        else:
            part.unknown_attributes[name] = unknown_column(name, resource)
            part.columns[part.unknown_attributes[name]] = _unknown_array(values, part)
    for name, (values, targets) in page.relationships.items():
        relationship = resource.relationship_by_name[name]
        if relationship.column is not None and any(targets):
            part.read_related(relationship.column, relationship.type, values, targets)
    part.unknown_relationships = {name for name in page.unread if name not in resource.relationship_by_name}
    if any(page.meta):
        for name, values in _members([meta if isinstance(meta, dict) else {} for meta in page.meta]):
            entry = next((entry for entry in resource.metadata if entry.name == name), None)
            if entry is not None and entry.dtype == "boolean":
                part.read(entry.column, values, *_READERS["boolean"])
            elif entry is not None:
                part.columns[entry.column] = list(values)
    return part


def join_parts(parts: Sequence[Part], resource: Resource, first_page: int = 0) -> Batch:
    """Join the decoded columns of pages, and read their instants.

    Parameters
    ----------
    parts : sequence of Part
        The pages; they lose their columns.
    resource : Resource
        What they hold.
    first_page : int
        The number of the first, from 0.

    Returns
    -------
    Batch
    """
    lengths = [part.rows for part in parts]
    marks = CellMarks.concat([CellMarks(part.original, part.locked) for part in parts], lengths)
    whole = Part(sum(lengths), original=dict(marks.original), locked=dict(marks.locked))
    for column in dict.fromkeys(chain.from_iterable(part.columns for part in parts)):
        values = joined_column([part.columns.pop(column, None) for part in parts], lengths)
        entry = resource.by_column.get(column)
        if entry is not None and entry.kind == "instant":
            stamps, nonconforming = read_instants(values)
            places = np.flatnonzero(nonconforming).tolist()
            cells = [whole.read_cell((row, column), values[row].as_py(), INSTANTS.decode) for row in places]
            values = _patched(stamps, places, cells) if cells else stamps
        whole.columns[column] = values
    odd = {row for row, _ in whole.original}
    by_record = sum(part.rows + len(part.quarantined) for part in parts if part.by_record)
    place = 0
    for part in parts:
        odd -= set(range(place, place + part.rows)) if part.by_record else set()
        place += part.rows
    return Batch(
        whole.rows,
        whole.columns,
        CellMarks(whole.original, whole.locked),
        [(page, *entry) for page, part in enumerate(parts, first_page) for entry in part.quarantined],
        {name: column for part in parts for name, column in part.unknown_attributes.items()},
        set().union(*(part.unknown_relationships for part in parts)),
        by_record + len(odd),
    )


def _objection(record: Any, resource: Resource) -> str:
    """Say why a record cannot become a row; empty where it can."""
    if not isinstance(record, dict):
        return "not a JSON object"
    if record.get("type") != resource.type:
        return f"its type is not {resource.type!r}"
    if objection := _id_objection(record.get("id")):
        return objection
    for member in ("attributes", "relationships"):
        if not isinstance(record.get(member), dict | None):
            return f"its {member} are not a JSON object"
    return ""


def _id_objection(value: Any) -> str:
    try:
        identifier(value)
    except UnfitError as problem:
        return str(problem)
    return ""


def _members(objects: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Turn objects into columns: every member's name, and its value in each of them, None where it is absent."""
    shapes = {tuple(entry) for entry in objects}
    empty = dict.fromkeys(chain.from_iterable(shapes))
    if len(shapes) > 1:
        objects = [empty | entry for entry in objects]
    return zip(empty, zip(*map(dict.values, objects), strict=True), strict=True)


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


def _read_text(values: Sequence[Any]) -> Bulk:
    try:
        return pa.array(values, type=TEXT), ()  # which takes nothing but text
    except (pa.ArrowException, TypeError, ValueError):
        return _read_plain(str, TEXT, values)


def _read_tags(values: Sequence[Any]) -> Bulk:
    array, others = _read_plain(list, TAGS, values)
    return (pa.nulls(len(values), TAGS), range(len(values))) if array.flatten().null_count else (array, others)


def _read_targets(kind: str, targets: Sequence[Any]) -> Bulk:
    """Read the ids of relationships; a target that is not simply one of the type is left."""
    if set(map(type, targets)) <= {int, type(None)}:
        return pa.array(targets, type=pa.int64()), ()
    ids = [target.id if target else None for target in targets]
    kinds = [target.type for target in targets if target]
    if kinds.count(kind) == len(kinds) and set(map(type, ids)) <= {int, type(None)}:
        present = list(filter(None, ids))
        if len(present) == len(kinds) and min(present) > 0 and max(present) <= INT64_MAX:
            return pa.array(ids, type=pa.int64()), ()
    others = [
        row
        for row, target in enumerate(targets)
        if target and (target.type != kind or type(target.id) is not int or not 0 < target.id <= INT64_MAX)
    ]
    for row in others:
        ids[row] = None
    return pa.array(ids, type=pa.int64()), others


def _are_usable(ids: Sequence[Any]) -> bool:
    if set(map(type, ids)) <= {int}:
        return not ids or (min(ids) > 0 and max(ids) <= INT64_MAX)
    return not any(_id_objection(value) for value in ids)


def _read_ids(values: Sequence[Any]) -> Bulk:
    if set(map(type, values)) <= {int}:
        return pa.array(values, type=pa.int64()), ()
    return pa.array(map(identifier, values), type=pa.int64()), [n for n, v in enumerate(values) if type(v) is not int]


def _target(value: Any) -> Target | None:
    """Return where a relationship points: nowhere, or to something without a type where it is not said plainly."""
    target = value.get("data") if isinstance(value, dict) else value
    if target is None:
        return None
    return Target(target.get("type"), target.get("id")) if isinstance(target, dict) else Target(None, None)


def _instant_text(value: Any) -> tuple[str | None, bool]:
    INSTANTS.decode(value)
    return value, True


_READERS: dict[str, tuple[ReadColumn, ReadCell]] = {
    "integer": (partial(_read_plain, int, pa.int64()), KINDS["integer"].decode),
    "text": (_read_text, KINDS["text"].decode),
    "instant": (_read_text, _instant_text),
    "tags": (_read_tags, KINDS["tags"].decode),
    "boolean": (partial(_read_plain, bool, pa.bool_()), BOOLEAN.decode),
}


def _unknown_array(values: Sequence[Any], part: Part) -> Any:
    """Make an Arrow array where all values are of one plain kind; else return them."""
    kinds = {type(value) for value in values if value is not None}
    typed = {str: TEXT, int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(kinds.pop())
    if typed is not None and not kinds:
        try:
            return pa.array(values, type=typed)
        except (UnicodeEncodeError, OverflowError):
            pass  # what is no character, or too large, stays a Python value
    part.others += values
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
