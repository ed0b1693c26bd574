"""From JSON:API documents to columns.

`decode_resources` is the slow, obvious decoder: one resource object at a time,
every rule in plain sight. It settles what a cell is, and every faster way in
must give the same result.

A cell that cannot take its column's dtype becomes missing, its original is
kept in ``wire`` and it is ``locked`` against writing. A cell that can, but whose
canonical form differs from what was sent (``10.0``, an instant without a zone,
an id as text), keeps its original in ``wire`` too. A record without a usable
id, or of another type, is set aside with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from opp_pandas.frame_state import CellMarks
from opp_pandas.kinds import INT64_MAX, KINDS, TAGS, UnfitError, kind_of_dtype
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, Attribute, Resource, snake_case


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

    @property
    def marks(self) -> CellMarks:
        """The cells that need care."""
        return CellMarks(self.wire, self.locked)


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
                self.locked[entry.column] = "not true or false"
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


def column_array(values: Sequence[Any], dtype: str) -> Any:
    """Make the pandas array of a decoded column.

    Parameters
    ----------
    values : sequence
        Decoded values; instants as microseconds since 1970.
    dtype : str
        The column's dtype; ``"infer"`` for attributes that the table does not have.

    Returns
    -------
    ExtensionArray or ndarray of object
    """
    if dtype == "infer":
        return _inferred(values)
    kind = kind_of_dtype(dtype)
    if kind is not None:
        return kind.array(values)
    if dtype == "object":
        return TAGS.array(values)
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
