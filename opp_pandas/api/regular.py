"""Blocks of regular records, read by Arrow's JSON parser in one go.

A block is regular when its records have the members that a sample of them has,
or lack them, and every value is null or of its column's kind. The parser is told all members with their
types, so that it refuses anything else: another kind, a fraction, a number beyond
64 bits, a member twice, a name that is not in the sample, broken JSON. What it
cannot see is looked at afterwards: the types of resource identifiers, the form of
instants, nulls in lists. On any refusal the whole block is left to
`opp_pandas.api.decode`; what is read here is the same, cell by cell, and needs no
marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from opp_pandas.api.batches import TAGS, TEXT, Batch, read_instants, without_values
from opp_pandas.api.decode import unknown_column
from opp_pandas.api.documents import parse_document
from opp_pandas.errors import DocumentError

if TYPE_CHECKING:
    from opp_pandas.resource import Resource

HEAD_BYTES = 200_000
SAMPLES = 24
MAX_DEPTH = 8
_SAMPLE_BYTES = 32_768
_HEAD = rb'(?:\xef\xbb\xbf)?\s*\{\s*"data"\s*:\s*\[\s*(\{[^][{}]*?("type"\s*:\s*"%b"))'
_TAIL = re.compile(rb'\]\s*(?:\}\s*\Z|,\s*"(?:included|links|meta|jsonapi)"\s*:)')
_MAX_TAILS = 20
_KINDS = {"integer": pa.int64(), "text": TEXT, "instant": TEXT, "tags": TAGS, "boolean": pa.bool_()}
_SCALARS = {str: TEXT, bool: pa.bool_(), int: pa.int64(), float: pa.float64(), type(None): pa.null()}
_SCANNER = json.JSONDecoder()


class _IrregularError(Exception):
    """The block holds what only the other decoder can read."""


@dataclass(frozen=True)
class Cut:
    """A page with its records cut out.

    Parameters
    ----------
    body : bytes
        The page as it came.
    start, end : int
        Where its records stand: between the brackets of ``data``.
    opener : bytes
        How the first record begins, up to its type.
    document : dict
        What is left of the document; its ``data`` is empty.
    """

    body: bytes
    start: int
    end: int
    opener: bytes
    document: dict[str, Any]

    @property
    def records(self) -> memoryview:
        """The records, not copied."""
        return memoryview(self.body)[self.start : self.end]


def cut_page(body: bytes, kind: str) -> Cut | None:
    """Cut the records out of a page.

    Both parts are parsed in the end, and a document is valid exactly when both
    are: where the cut is wrong, one of them is no JSON.

    Parameters
    ----------
    body : bytes
        The page.
    kind : str
        The type of its records.

    Returns
    -------
    Cut or None
        None where the page is not built in the usual way, or not valid.
    """
    head = re.match(_HEAD % re.escape(kind.encode()), body)
    if head is None or not _is_unicode(body):
        return None
    last = body.rfind(head[2])
    for number, match in enumerate(_TAIL.finditer(body, last)):
        if number == _MAX_TAILS:
            break
        try:
            document = parse_document(b'{"data":[' + body[match.start() :])
        except DocumentError:
            continue  # the bracket closed something within the record
        return Cut(body, head.start(1), match.start(), head[1], document)
    return None


def _is_unicode(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decode_block(cuts: Sequence[Cut], resource: Resource) -> list[Batch] | None:
    """Decode some pages together.

    A first part is read with the types of all members: it shows at little cost
    whether the block is regular, and which members have no value, which the
    parser reads faster when it is told.

    Parameters
    ----------
    cuts : sequence of Cut
        The pages.
    resource : Resource
        What they hold.

    Returns
    -------
    list of Batch or None
        None: the block is not regular.
    """
    try:
        return _decode_by(list(_samples(cuts)), cuts, resource)
    except _IrregularError:
        return None


def _decode_by(samples: Iterable[Mapping[str, Any]], cuts: Sequence[Cut], resource: Resource) -> list[Batch]:
    members = _members(samples, resource)
    first, rest = _split(cuts)
    batches = [_decode([first], members, (), resource)]
    if rest:
        first_columns = batches[0].columns
        empty = {name for name in members.attributes if without_values(first_columns.get(members.columns[name]))}
        try:
            batches.append(_decode(rest, members, empty, resource))
        except _IrregularError:
            batches.append(_decode(rest, members, (), resource))
    return batches


def _split(cuts: Sequence[Cut]) -> tuple[memoryview, list[memoryview]]:
    """Split off some records from the beginning; wherever that is not between two records, neither part is JSON."""
    page, rest = cuts[0], [cut.records for cut in cuts[1:]]
    if page.end - page.start > 2 * HEAD_BYTES:
        place = page.body.find(page.opener, page.start + HEAD_BYTES, page.end)
        comma = page.body.rfind(b",", page.start, max(place, page.start))
        if comma >= 0 and not page.body[comma + 1 : place].strip():
            whole = memoryview(page.body)
            return whole[page.start : comma], [whole[comma + 1 : page.end], *rest]
    return page.records, rest


def _samples(cuts: Sequence[Cut]) -> Iterator[Mapping[str, Any]]:
    """Parse some records of the block, each found by how it begins."""
    each = max(1, SAMPLES // len(cuts))
    for cut in cuts[:: max(1, len(cuts) // SAMPLES)]:
        for number in range(each):
            start = cut.start + number * (cut.end - cut.start) // each
            start = cut.body.find(cut.opener, start, cut.end)
            if start < 0:
                break
            yield from _record_at(cut, start)


def _record_at(cut: Cut, start: int) -> Iterator[Mapping[str, Any]]:
    """Parse the record that begins at a place; none where it is longer than a sample, or no JSON."""
    try:
        text = cut.body[start : min(cut.end, start + _SAMPLE_BYTES)].decode("utf-8", "ignore")
        yield _SCANNER.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return


# --- what the parser is told ------------------------------------------------------


@dataclass(frozen=True)
class _Members:
    """The members of the sampled records; `columns` has those that are read, with their columns."""

    attributes: dict[str, pa.DataType]
    relationships: dict[str, pa.DataType]
    meta: dict[str, pa.DataType]
    others: dict[str, pa.DataType]
    columns: dict[str, str]
    unknown: dict[str, str]

    def schema(self, empty: Iterable[str]) -> pa.Schema:
        attributes = self.attributes | dict.fromkeys(empty, pa.null())
        parts = (("attributes", attributes), ("relationships", self.relationships), ("meta", self.meta))
        objects = {name: pa.struct(list(members.items())) for name, members in parts if members}
        record = {"type": TEXT, "id": pa.int64(), **objects, **self.others}
        return pa.schema([("data", pa.list_(pa.struct(list(record.items()))))])


def _members(samples: Iterable[Mapping[str, Any]], resource: Resource) -> _Members:
    seen: dict[str, dict[str, list[Any]]] = {"attributes": {}, "relationships": {}, "meta": {}}
    others: dict[str, list[Any]] = {}
    for record in samples:
        for name, value in record.items():
            if name not in seen:
                others.setdefault(name, []).append(value)
            elif value is not None:
                for member, inner in _object(value).items():
                    seen[name].setdefault(member, []).append(inner)
    columns = {name: entry.column for name, entry in resource.by_name.items()}
    unknown = {name: unknown_column(name, resource) for name in seen["attributes"] if name not in columns}
    return _Members(
        {name: _attribute_type(name, values, resource) for name, values in seen["attributes"].items()},
        {name: _relationship_type(name, values, resource) for name, values in seen["relationships"].items()},
        {name: _unread_type(values) for name, values in seen["meta"].items()},
        {name: _unread_type(values) for name, values in others.items() if name not in ("type", "id")},
        columns | unknown,
        unknown,
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _IrregularError
    return value


def _attribute_type(name: str, values: list[Any], resource: Resource) -> pa.DataType:
    attribute = resource.by_name.get(name)
    if attribute is not None:
        return _KINDS[attribute.kind]
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 or not kinds <= _SCALARS.keys():
        raise _IrregularError
    return _SCALARS[kinds.pop()] if kinds else TEXT


def _relationship_type(name: str, values: list[Any], resource: Resource) -> pa.DataType:
    relationship = resource.relationship_by_name.get(name)
    found = _unread_type(values)
    if relationship is None or relationship.column is None:
        return found
    others = [field for field in found if field.name != "data"] if pa.types.is_struct(found) else []
    return pa.struct([("data", pa.struct([("type", TEXT), ("id", pa.int64())])), *others])


def _unread_type(values: list[Any], depth: int = 0) -> pa.DataType:
    """Return a type that holds some JSON values, if they are of one kind, shallow, and no fractions."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 or float in kinds or depth > MAX_DEPTH:
        raise _IrregularError
    kind = kinds.pop() if kinds else type(None)
    if kind is list:
        return pa.list_(_unread_type([item for value in values if value for item in value], depth + 1))
    if kind is not dict:
        return _SCALARS[kind]
    members: dict[str, list[Any]] = {}
    for value in values:
        for name, inner in (value or {}).items():
            members.setdefault(name, []).append(inner)
    return pa.struct([(name, _unread_type(found, depth + 1)) for name, found in members.items()])


# --- what it read -----------------------------------------------------------------


def _decode(pages: Sequence[memoryview], members: _Members, empty: Iterable[str], resource: Resource) -> Batch:
    pieces = [piece for page in pages for piece in (b'{"data":[', page, b"]}\n")]
    text = b"".join(pieces)
    if text.count(b"\n", 0, len(text)) != len(pages):
        # White space between tokens, and forbidden within texts; tabs are both, too.
        text = b"\n".join([b'{"data":[' + bytes(page).replace(b"\n", b"\t") + b"]}" for page in pages])
    try:
        table = pa.json.read_json(
            pa.BufferReader(text),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=members.schema(empty), newlines_in_values=False, unexpected_field_behavior="error"
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise _IrregularError from None
    lists = table["data"].combine_chunks() if table["data"].num_chunks != 1 else table["data"].chunk(0)
    records = lists.flatten()
    if len(lists) != len(pages) or records.null_count:
        raise _IrregularError
    found = dict(_flattened(records))
    _require(_all_equal(found["type"], resource.type) and _are_ids(found["id"]) and not found["id"].null_count)
    columns = {"id": found["id"]}
    for name, values in _flattened(found.get("attributes")):
        if values.type != pa.null():
            columns[members.columns[name]] = _attribute(name, values, resource)
    for name, values in _flattened(found.get("relationships")):
        relationship = resource.relationship_by_name.get(name)
        if relationship is not None and relationship.column is not None:
            columns[relationship.column] = _related(dict(_flattened(values))["data"], relationship.type)
    for name, values in _flattened(found.get("meta")):
        entry = next((entry for entry in resource.metadata if entry.name == name), None)
        if entry is not None and values.type != pa.null():
            _require(entry.dtype == "boolean" and values.type == pa.bool_())
            columns[entry.column] = values
    unknown = {name for name in members.relationships if name not in resource.relationship_by_name}
    return Batch(len(records), columns, unknown_attributes=members.unknown, unknown_relationships=unknown)


def _flattened(values: pa.Array | None) -> list[tuple[str, pa.Array]]:
    """Return the members of objects; a member of a missing object is missing."""
    if values is None or values.type == pa.null():
        return []
    return list(zip((field.name for field in values.type), values.flatten(), strict=True))


def _require(regular: bool) -> None:
    if not regular:
        raise _IrregularError


def _all_equal(texts: pa.Array, text: str) -> bool:
    return pc.all(pc.equal(texts, text)).as_py() is not False and (not texts.null_count)


def _are_ids(values: pa.Array) -> bool:
    lowest = pc.min(values).as_py()
    return lowest is None or lowest > 0


def _attribute(name: str, values: pa.Array, resource: Resource) -> pa.Array:
    attribute = resource.by_name.get(name)
    if attribute is None and values.type == pa.float64():
        # 22 and 22.0 are the same to the parser; a fraction surely was a float.
        _require(pc.all(pc.not_equal(values, pc.floor(values))).as_py() is not False)
        _require(pc.all(pc.is_finite(values)).as_py() is not False)
    elif attribute is not None and attribute.kind == "instant":
        values, nonconforming = read_instants(values)
        _require(not nonconforming.any())
    elif attribute is not None and attribute.kind == "tags":
        _require(not values.flatten().null_count)
    return values


def _related(targets: pa.Array, kind: str) -> pa.Array:
    """Return the ids of resource identifiers; every one that is there is whole and of the type."""
    if targets.null_count == len(targets):
        return pa.nulls(len(targets), pa.int64())
    found = dict(_flattened(targets))
    there = len(targets) - targets.null_count
    fitting = pc.sum(pc.equal(found["type"], kind)).as_py()
    _require(fitting == there == len(targets) - found["id"].null_count and _are_ids(found["id"]))
    return found["id"]
