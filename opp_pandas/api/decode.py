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
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas import kinds
from opp_pandas.api.batches import STAMP, TAGS, TEXT, Batch, mask_of, read_instants
from opp_pandas.api.documents import id_objection, identifier
from opp_pandas.api.page_parser import PageColumns, ParsedColumns, ParsedPage, Target, json_value
from opp_pandas.errors import DocumentError, printable
from opp_pandas.frame_state import CellMarks
from opp_pandas.kinds import BOOLEAN, INSTANTS, INT64_MAX, KINDS, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, Resource, snake_case

Bulk = tuple[pa.Array | None, Sequence[int]]
"""A column with nulls in some places, and these places: their cells are left to be read one by one."""
ReadColumn = Callable[[Sequence[Any]], Bulk]
ReadCell = Callable[[Any], tuple[Any, bool]]
"""Reads a JSON value; the second value says whether it was sent in canonical form."""


@dataclass
class Part:
    """Columns while they are decoded; most as in `Batch` and `CellMarks`.

    `others` holds what may be more than text or a number in the cells of attributes and targets.
    """

    rows: int
    columns: dict[str, Any] = field(default_factory=dict)
    original: dict[tuple[int, str], Any] = field(default_factory=dict)
    locked: dict[tuple[int, str], str] = field(default_factory=dict)
    unknown_attributes: dict[str, str] = field(default_factory=dict)
    unknown_relationships: set[str] = field(default_factory=set)
    others: list[Any] = field(default_factory=list)

    def batch(self) -> Batch:
        """Return what was decoded."""
        return Batch(
            self.rows,
            self.columns,
            CellMarks(self.original, self.locked),
            unknown_attributes=self.unknown_attributes,
            unknown_relationships=self.unknown_relationships,
            irregular=len({row for row, _ in self.original}),
        )

    def read(self, column: str, values: Any, bulk: ReadColumn, read_cell: ReadCell) -> None:
        """Read the cells that are null or as the service writes them at once, any other by itself."""
        array, places = bulk(values)
        if len(places):
            self.others += [values[row] for row in places]
            cells = [self.read_cell((row, column), values[row], read_cell) for row in places]
            array = _patched(array, places, cells)
        self.columns[column] = array

    def read_unknown(self, name: str, column: str, values: tuple[Any, ...]) -> None:
        """Read an attribute that the resource table does not have: to Arrow where all is of one plain kind."""
        array = _plain_array(values)
        if array is None:
            self.others += values
        if array is None or array.null_count < self.rows:
            self.columns[column] = list(values) if array is None else array
        self.unknown_attributes[name] = column

    def read_instants(self, columns: Sequence[str]) -> None:
        """Turn columns of text into instants: together, since each call costs as much as some hundred texts."""
        texts = [self.columns[column] for column in columns]
        stamps, nonconforming = read_instants(pa.concat_arrays(texts))
        for start, column, own in zip(range(0, len(stamps), self.rows), columns, texts, strict=True):
            array = stamps.slice(start, self.rows)
            places = np.flatnonzero(nonconforming[start : start + self.rows]).tolist()
            cells = [self.read_cell((row, column), own[row].as_py(), INSTANTS.decode) for row in places]
            self.columns[column] = _patched(array, places, cells) if places else array

    def read_related(self, column: str, kind: str, values: Sequence[Any], targets: Any) -> None:
        """Read the ids of a relationship."""
        if isinstance(targets, np.ndarray):
            self.columns[column] = pa.array(targets, mask=targets == 0)
            return
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


def decode_pages(pages: Sequence[ParsedPage], resource: Resource) -> Batch | None:
    """Decode pages of the same names together; None where they hold more than was read of them."""
    columns = ParsedColumns(pages)
    part = decode_columns(columns, resource)
    return part.batch() if columns.adds_up(part.others) else None


def decode_document(document: Mapping[str, Any], resource: Resource, page: int = 0) -> Batch:
    """Decode a page (its number from 0) record by record, whatever its records are."""
    data = document.get("data")
    if not isinstance(data, list):
        raise DocumentError("a collection was expected: data must be a list", pointer="/data")
    return decode_records(data, resource, page)


def decode_records(records: Sequence[Any], resource: Resource = OPPORTUNITY, page: int = 0) -> Batch:
    """Decode resource objects, each a dictionary, of one page."""
    kept, quarantined = [], []
    for number, record in enumerate(records):
        objection = _objection(record, resource)
        if objection:
            quarantined.append((page, number, objection, record))
        else:
            kept.append(record)
    related = dict(_members([record.get("relationships") or {} for record in kept]))
    to_one = {entry.name for entry in resource.relationships if not entry.to_many}
    columns = PageColumns(
        ids=[record["id"] for record in kept],
        attributes=dict(_members([record.get("attributes") or {} for record in kept])),
        relationships={name: (related[name], list(map(_target, related[name]))) for name in related if name in to_one},
        unread=[name for name in related if name not in to_one],
        meta=[record.get("meta") for record in kept],
    )
    batch = decode_columns(columns, resource).batch()
    return replace(batch, quarantined=quarantined, irregular=len(records))


def decode_columns(page: PageColumns, resource: Resource) -> Part:
    """Decode the columns of some records."""
    part = Part(len(page.ids))
    part.read("id", page.ids, _read_ids, _identity)
    nulls = (None,) * part.rows
    for name, values in page.attributes.items():
        attribute = resource.by_name.get(name)
        if values != nulls or (attribute is None and page.absent.count(name) < part.rows):
            if attribute is None:
                part.read_unknown(name, unknown_column(name, resource), values)
            else:
                part.read(attribute.column, values, *_READERS[attribute.kind])
    instants = [
        name for name in part.columns if name in resource.by_column and resource.by_column[name].kind == INSTANTS.name
    ]
    if instants:
        part.read_instants(instants)
    for name, (related, targets) in page.relationships.items():
        relationship = resource.relationship_by_name[name]
        if relationship.column is not None and (targets.any() if isinstance(targets, np.ndarray) else any(targets)):
            part.read_related(relationship.column, relationship.type, related, targets)
    part.unknown_relationships = {name for name in page.unread if name not in resource.relationship_by_name}
    if any(page.meta):
        for name, values in _members([meta if isinstance(meta, dict) else {} for meta in page.meta]):
            entry = next((entry for entry in resource.metadata if entry.name == name), None)
            if entry is not None and entry.dtype == "boolean":
                part.read(entry.column, values, *_READERS[BOOLEAN.name])
            elif entry is not None:
                part.columns[entry.column] = list(values)
    return part


def _objection(record: Any, resource: Resource) -> str:
    """Explain why a record cannot become a row; empty where it can."""
    if not isinstance(record, dict):
        return "not a JSON object"
    if record.get("type") != resource.type:
        return f"its type is not {resource.type!r}"
    if objection := id_objection(record.get("id")):
        return objection
    for member in ("attributes", "relationships"):
        if not isinstance(record.get(member), dict | None):
            return f"its {member} are not a JSON object"
    return ""


def _members(objects: Sequence[dict[str, Any]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
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
    others: Sequence[int] = ()
    types = set(map(type, values))
    if not types <= {expected, type(None)}:
        others = [row for row, value in enumerate(values) if value is not None and type(value) is not expected]
        values = list(values)
        for row in others:
            values[row] = None
    try:
        return pa.array(values, type=kind), others
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.nulls(len(values), kind), range(len(values))


def _text(values: Sequence[Any]) -> pa.Array | None:
    """Make an array of texts, which takes nothing else."""
    try:
        return pa.array(values, type=TEXT)
    except (pa.ArrowException, TypeError, ValueError):
        return None


def _read_text(values: Sequence[Any]) -> Bulk:
    array = _text(values)
    return _read_plain(str, TEXT, values) if array is None else (array, ())


def _read_tags(values: Sequence[Any]) -> Bulk:
    array, others = _read_plain(list, TAGS, values)
    if array is not None and array.flatten().null_count:
        nulls = mask_of(array.flatten().is_null())
        others = sorted({*others, *pc.list_parent_indices(array).to_numpy()[nulls].tolist()})
    return array, others


def _read_targets(kind: str, targets: Sequence[Any]) -> Bulk:
    """Read the ids of relationships; a target that is not simply one of the type is left."""
    there = list(filter(None, targets))
    types, numbers = [target.type for target in there], [target.id for target in there]
    others: list[int] = []
    # Columns first: to compare each target by itself takes several times as long.
    if types.count(kind) < len(types) or not _are_ids(numbers):
        others = [
            row
            for row, target in enumerate(targets)
            if target and (target.type != kind or type(target.id) is not int or not 0 < target.id <= INT64_MAX)
        ]
    ids = [target.id if target else None for target in targets]
    for row in others:
        ids[row] = None
    return pa.array(ids, type=pa.int64()), others


def _are_ids(numbers: Sequence[Any]) -> bool:
    return set(map(type, numbers)) <= {int} and (not numbers or (min(numbers) > 0 and max(numbers) <= INT64_MAX))


def _read_ids(values: Any) -> Bulk:
    if isinstance(values, np.ndarray):
        return pa.array(values), ()
    others = [row for row, value in enumerate(values) if type(value) is not int]
    ids = [value if type(value) is int else identifier(value) for value in values]
    return pa.array(ids, type=pa.int64()), others


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
    name: (partial(_read_plain, kind.wire, kind.arrow), kind.decode) for name, kind in KINDS.items()
}
# Columns that can be read faster. Instants are texts until all of them are read together.
_READERS |= {
    kinds.TEXT.name: (_read_text, kinds.TEXT.decode),
    INSTANTS.name: (_read_text, _instant_text),
    kinds.TAGS.name: (_read_tags, kinds.TAGS.decode),
}


def _plain_array(values: Sequence[Any]) -> pa.Array | None:
    """Make an array where all values are of one plain kind."""
    kinds = {type(value) for value in values if value is not None}
    typed = {str: TEXT, int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(kinds.pop() if kinds else str)
    if typed is None or kinds:
        return None
    try:
        return pa.array(values, type=typed)
    except (UnicodeEncodeError, OverflowError):
        return None  # what is no character, or too large, stays a Python value


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
