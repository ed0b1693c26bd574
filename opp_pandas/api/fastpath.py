"""From the bytes of pages straight to Arrow columns.

The records of several pages are cut out of their bodies. Where all are written
by one template, `opp_pandas.api.uniform` reads them; else they are put one a
line and read by Arrow's JSON parser in one call. The result is the slow
decoder's, cell by cell, or it is left to the slow decoder:

- What stands around the records (``links``, ``meta``, ``included``) is read by
  `parse_document`, with the records cut out. A document is valid exactly when
  this frame and every record are.
- Arrow is told the columns whose values are read and infers everything else,
  so that nothing in a record goes unseen: unknown members appear in its schema,
  doubled keys, broken escapes and stray characters are its errors. Members that
  are never read are only looked at for what `parse_document` would refuse.
- A record with a value that its column cannot take as it stands is *odd*: it
  goes through the slow decoder, and the rest of the block stays fast.
- Where the cut does not fit, or too many records are odd, the whole block goes
  the slow way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from opp_pandas.api.batches import (
    TAGS,
    TEXT,
    Batch,
    Mask,
    Positions,
    batch_of_cells,
    fitting_batch,
    interleave,
    mask_of,
)
from opp_pandas.api.decode import decode_resources, unknown_column
from opp_pandas.api.documents import parse_document
from opp_pandas.api.instants import read_instants
from opp_pandas.api.uniform import Stretch, UniformDecoder
from opp_pandas.errors import DocumentError

if TYPE_CHECKING:
    from opp_pandas.resource import Resource


MAX_ODD = 0.25
MAX_TRIES = 24
MAX_TYPE_DEPTH = 40
FIRST_LINES = 100
SHORT_LINE = 3_000
MAX_BRACKETS = 512
_BOM = b"\xef\xbb\xbf"
_TAIL = re.compile(rb'\}\s*(?=(\]\s*(?:\}|,\s*"(?:included|links|meta|jsonapi)")))')
_MAX_TAILS = 20
_KINDS = {"integer": pa.int64(), "text": TEXT, "instant": TEXT, "tags": TAGS, "boolean": pa.bool_()}
_UNKNOWN_KINDS = {
    pa.string(): TEXT,
    TEXT: TEXT,
    pa.int64(): pa.int64(),
    pa.float64(): pa.float64(),
    pa.bool_(): pa.bool_(),
}


@dataclass(frozen=True)
class Cut:
    """A page with its records cut out.

    Parameters
    ----------
    body : bytes
        The page as it came.
    records : memoryview
        Its records, as they stand.
    opener : bytes
        How each record begins: a brace and its ``type``.
    between : bytes
        What stands between two records, the ``opener`` apart.
    document : dict
        What is left of the document.
    count : int
        The number of records.
    """

    body: bytes
    records: memoryview
    opener: bytes
    between: bytes
    document: dict[str, Any]
    count: int

    @cached_property
    def _pieces(self) -> list[bytes]:
        # The braces around are left to the join, so that all pieces are alike.
        return bytes(self.records[len(self.opener) : -1]).split(b"}" + self.between + self.opener)

    @cached_property
    def lines(self) -> bytes:
        """The records, one a line, without their ``type``."""
        return b"".join((b"{", b"}\n{".join(self._pieces), b"}"))

    @property
    def lengths(self) -> list[int]:
        """Bytes per line."""
        return [2 + len(piece) for piece in self._pieces]


def cut_page(body: bytes, resource: Resource) -> Cut | None:
    """Cut the records out of a page.

    Parameters
    ----------
    body : bytes
        The page.
    resource : Resource
        What its records are.

    Returns
    -------
    Cut or None
        None where the page is not built in the usual way, or is not valid;
        whoever parses it slowly finds out.

    Notes
    -----
    Inside a JSON text a quotation mark is escaped, so that the seam between two
    records, ``},{"type":"opportunity",``, can only stand where the document has
    it. Where it stands deeper, within a record, the pieces are no JSON.
    """
    text = body.removeprefix(_BOM)
    if b"\n" in text:
        # Both are white space between tokens and forbidden within texts.
        text = text.replace(b"\n", b"\t")
    head = _head(resource.type).match(text)
    if head is None or not _is_unicode(text):
        return None
    opener, start = head[1], head.end()
    tail = _tail(text, text.rfind(opener))
    if tail is None:
        return None
    end, document = tail
    between = b","
    second = text.find(opener, start, end)
    if second >= 0:
        found = re.search(rb"\}(\s*,\s*)\Z", text[max(start, second - 256) : second])
        if found is None:
            return None
        between = found[1]
    start -= len(opener)
    return Cut(body, memoryview(text)[start:end], opener, between, document, text.count(opener, start, end))


@cache
def _head(kind: str) -> re.Pattern[bytes]:
    return re.compile(rb'\s*\{\s*"data"\s*:\s*\[\s*(\{\s*"type"\s*:\s*"' + re.escape(kind.encode()) + rb'"\s*,)')


def _is_unicode(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _tail(text: bytes, start: int) -> tuple[int, dict[str, Any]] | None:
    """Find the end of the last record, and read the document without its records."""
    for number, match in enumerate(_TAIL.finditer(text, start)):
        if number == _MAX_TAILS:
            break
        try:
            return match.start() + 1, parse_document(b'{"data":[' + text[match.start(1) :])
        except DocumentError:
            continue  # the bracket closed something within the record
    return None


class FastDecoder:
    """Decodes blocks of pages; what one block teaches about types serves the next.

    Parameters
    ----------
    resource : Resource
        What the pages hold.
    """

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        # Attributes whose values are read; known ones that have been null so far; the service's order of both.
        self._attributes: dict[str, pa.DataType] = {}
        self._empty: set[str] = set()
        self._order: list[str] = []
        self._relationships: set[str] = set()
        self._metadata: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._wary = False
        self._uniform = UniformDecoder(resource)

    def decode(self, cuts: Sequence[Cut], first_page: int) -> Batch | None:
        """Decode some pages together.

        Parameters
        ----------
        cuts : sequence of Cut
            The pages.
        first_page : int
            The number of the first one, from 0.

        Returns
        -------
        Batch or None
            None: the slow decoder has to do it.
        """
        stretch = _stretch(cuts, first_page)
        batch = None if stretch is None else self._uniform.decode(stretch)
        return self._parsed(_Block(cuts, first_page)) if batch is None else batch

    def _parsed(self, block: _Block) -> Batch | None:
        """Decode with Arrow's parser."""
        odd = block.deep | (self._suspects(block) if self._wary else False)
        if not self._attributes:
            self._learn_from(block.first_lines(FIRST_LINES))
        for _ in range(MAX_TRIES):
            if odd.sum() > MAX_ODD * block.rows:
                return None
            try:
                table = self._parse(block.without(odd))
            except pa.ArrowInvalid as problem:
                self._wary = True
                found = self._diagnose(str(problem), block, odd)
                if found is None:
                    return None
                odd = odd | found
                continue
            if (
                table.num_rows != block.rows - odd.sum()
                or table["id"].num_chunks != 1
                or _depth(table.schema) > MAX_TYPE_DEPTH
            ):
                return None
            if self._learn(table.schema):
                continue
            reading = _Reading(table, self._attributes, self.resource)
            if not reading.sound:
                return None
            if reading.odd.any() and reading.names - self._seen:
                # A new name may stand in the odd records only: look again without them.
                odd = _spread(odd, reading.odd)
                continue
            if reading.empty - self._seen:
                # Expected from an earlier block, and here without a value: absent, or null?
                for _, name in reading.empty - self._seen:
                    del self._attributes[name]
                continue
            return self._finished(block, odd, reading)
        return None

    def _finished(self, block: _Block, odd: Mask, reading: _Reading) -> Batch | None:
        fast = reading.batch()
        self._empty |= reading.nulls
        self._seen |= reading.names
        odd = _spread(odd, reading.odd)
        self._order = self._order or block.attributes_of(int(np.argmin(odd)))
        self._wary = bool(odd.any())
        if not self._wary:
            return fast
        places = np.flatnonzero(odd)
        try:
            data = parse_document(block.document(places, self.resource.type))["data"]
        except DocumentError:
            return None  # the whole page is refused, by whoever reads it slowly
        if len(data) != len(places):
            return None  # what looked like the end of a record stood within one
        cells = decode_resources(data, self.resource)
        slow = batch_of_cells(cells, block.origins(places))
        aside = [number for number, _, _ in cells.quarantined]
        order = np.argsort(np.concatenate([np.flatnonzero(~odd), np.delete(places, aside)]), kind="stable")
        return interleave(fast, slow, order)

    # --- what Arrow is told -------------------------------------------------

    def _parse(self, lines: bytes) -> pa.Table:
        fields = [pa.field("id", pa.int64())]
        if self._attributes:
            # In the order of the service, with the type null where there is no value yet, Arrow is a quarter faster.
            kinds = dict.fromkeys(self._empty, pa.null()) | self._attributes
            names = dict.fromkeys([*(name for name in self._order if name in kinds), *self._attributes])
            fields.append(pa.field("attributes", pa.struct([(name, kinds[name]) for name in names])))
        if self._relationships:
            identifier = pa.struct([("data", pa.struct([("type", TEXT), ("id", pa.int64())]))])
            fields.append(pa.field("relationships", pa.struct([(name, identifier) for name in self._relationships])))
        if self._metadata:
            fields.append(pa.field("meta", pa.struct([(name, pa.bool_()) for name in self._metadata])))
        return pa.json.read_json(
            pa.BufferReader(lines),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=pa.schema(fields), newlines_in_values=False, unexpected_field_behavior="infer"
            ),
        )

    def _learn(self, schema: pa.Schema) -> bool:
        """Take the types of columns that will be read from what Arrow inferred; True: parse again with them."""
        attributes = {
            field.name: kind
            for field in _members(schema, "attributes")
            if field.name not in self._attributes and (kind := self._kind(field)) is not None
        }
        relationships = {
            field.name
            for field in _members(schema, "relationships")
            if field.name not in self._relationships and self._points(field)
        }
        known = {entry.name for entry in self.resource.metadata if entry.dtype == "boolean"}
        metadata = {
            field.name
            for field in _members(schema, "meta")
            if field.name in known and field.name not in self._metadata and field.type != pa.null()
        }
        self._attributes |= attributes
        self._empty -= attributes.keys()
        self._relationships |= relationships
        self._metadata |= metadata
        return bool(attributes or relationships or metadata)

    def _learn_from(self, lines: bytes) -> None:
        """Learn what a few records can teach, so that the first block need not be parsed twice."""
        with suppress(pa.ArrowInvalid):
            schema = self._parse(lines).schema
            if _depth(schema) <= MAX_TYPE_DEPTH:
                self._learn(schema)

    def _kind(self, field: pa.Field) -> pa.DataType | None:
        """Give the type to read an attribute as; None: leave it to Arrow."""
        if field.type == pa.null():
            return None
        attribute = self.resource.by_name.get(field.name)
        if attribute is not None:
            return _KINDS[attribute.kind]
        return TEXT if pa.types.is_temporal(field.type) else _UNKNOWN_KINDS.get(field.type)

    def _points(self, field: pa.Field) -> bool:
        relationship = self.resource.relationship_by_name.get(field.name)
        if relationship is None or relationship.column is None or not pa.types.is_struct(field.type):
            return False
        place = field.type.get_field_index("data")
        return bool(place >= 0 and field.type.field(place).type != pa.null())

    # --- what Arrow refused -------------------------------------------------

    def _diagnose(self, problem: str, block: _Block, odd: Mask) -> Mask | None:
        """Find records that Arrow may have meant, or None if that cannot be told."""
        if self._empty and ("changed from null" in problem or "to null from" in problem):
            self._empty.clear()
            return np.zeros(block.rows, dtype=bool)
        path = re.search(r"Column\((/[^)]*)\) changed from", problem)
        if path is not None and self._expect(path[1]):
            return np.zeros(block.rows, dtype=bool)
        found = self._suspects(block) & ~odd
        row = re.search(r"in row (\d+)", problem)
        if row is not None:
            found[np.flatnonzero(~odd)[int(row[1])]] = True
        literal = re.search(r"couldn't parse:(\S+)", problem)
        if literal is not None and not found.any():
            found = block.holding(b":" + literal[1].encode()) & ~odd
        return found if found.any() else None

    def _expect(self, path: str) -> bool:
        """Expect the right type of a known column whose type was left to Arrow; False if there is none."""
        parts = path.split("/")[1:]
        if parts[0] == "attributes" and len(parts) == 2 and parts[1] not in self._attributes:
            attribute = self.resource.by_name.get(parts[1])
            if attribute is not None:
                self._attributes[attribute.name] = _KINDS[attribute.kind]
                self._empty.discard(attribute.name)
                return True
        if parts[0] == "relationships" and len(parts) > 1 and parts[1] not in self._relationships:
            relationship = self.resource.relationship_by_name.get(parts[1])
            if relationship is not None and relationship.column is not None:
                self._relationships.add(parts[1])
                return True
        return False

    def _suspects(self, block: _Block) -> Mask:
        found = block.suspects(self._suspicious())
        # A pattern that fits a good part of all records says nothing about any of them.
        return found if found.sum() <= MAX_ODD * block.rows else np.zeros(block.rows, dtype=bool)

    def _suspicious(self) -> str:
        """Write the pattern of values that do not fit; a guess that is proved by parsing what is left."""
        names: dict[str, list[str]] = {}
        for attribute in self.resource.attributes:
            names.setdefault(attribute.kind, []).append(attribute.name)
        for name, kind in self._attributes.items():
            if name not in self.resource.by_name:
                names.setdefault("text" if kind == TEXT else "integer" if kind == pa.int64() else "", []).append(name)
        odd = {
            "text": r'[^"n\s]',
            "instant": r'[^"n\s]',
            "integer": r"(?:[^-0-9n\s]|-?[0-9]+[.eE])",
            "tags": r"[^\[n\s]",
            "boolean": r"[^tfn\s]",
        }
        parts = [
            f'(?:{"|".join(map(re.escape, sorted(found)))})"\\s*:\\s*{odd[kind]}'
            for kind, found in names.items()
            if kind in odd
        ]
        links = "|".join(re.escape(name) for name in self.resource.relationship_by_name)
        parts += [
            rf'(?:attributes|relationships|meta|{links})"\s*:\s*[^{{n\s]',
            r'id"\s*:\s*(?:[^0-9\s]|[0-9]+[.eE])',
        ]
        return f'"(?:{"|".join(parts)})'


def _stretch(cuts: Sequence[Cut], first_page: int) -> Stretch | None:
    """Put the records of some pages one behind the other."""
    opener = cuts[0].opener
    if any(cut.opener != opener for cut in cuts):
        return None
    between = next((cut.between for cut in cuts if cut.count > 1), b",")
    text = between.join([*(cut.records for cut in cuts), opener])
    return Stretch(text, opener, between + opener, np.cumsum([cut.count for cut in cuts]), first_page)


class _Block:
    """The records of some pages, one a line."""

    def __init__(self, cuts: Sequence[Cut], first_page: int) -> None:
        self.first_page = first_page
        self.lines = b"\n".join([cut.lines for cut in cuts])
        self.page_ends = np.cumsum([len(cut.lengths) for cut in cuts])
        self.rows = int(self.page_ends[-1])
        lengths = np.array([length for cut in cuts for length in cut.lengths], dtype=np.int64)
        self.ends: Positions = np.cumsum(lengths + 1) - 1
        self.starts: Positions = self.ends - lengths

    @cached_property
    def deep(self) -> Mask:
        """Lines that may nest too deeply for Arrow, which has no limit but the stack."""
        long = self.ends - self.starts > SHORT_LINE
        if not long.any():
            return long
        # Arrow follows brackets by recursion: some thousand levels overflow a small stack.
        # "[" and "{" differ from each other in one bit, and from all other characters in others.
        brackets = np.packbits((np.frombuffer(self.lines, dtype=np.uint8) | 0x20) == ord("{"))
        sums = np.concatenate([[0], np.cumsum(np.bitwise_count(brackets), dtype=np.int64)])
        counts: Positions = sums[-(-self.ends // 8)] - sums[self.starts // 8]
        return np.asarray(long & (counts > MAX_BRACKETS))

    def without(self, odd: Mask) -> bytes:
        """Give the lines that are not odd."""
        return b"\n".join(self._slices(np.flatnonzero(~odd))) if odd.any() else self.lines

    def _slices(self, places: Positions) -> Iterator[bytes]:
        for start, end in zip(self.starts[places].tolist(), self.ends[places].tolist(), strict=True):
            yield self.lines[start:end]

    def document(self, places: Positions, kind: str) -> bytes:
        """Make a document of some records."""
        opener = b'{"type":"' + kind.encode() + b'",'
        return b'{"data":[' + b",".join(opener + line[1:] for line in self._slices(places)) + b"]}"

    def first_lines(self, count: int) -> bytes:
        """Give some lines from the beginning that are not too deep."""
        return b"\n".join(self._slices(np.flatnonzero(~self.deep)[:count]))

    def attributes_of(self, place: int) -> list[str]:
        """Give the names of the attributes of one record, in order."""
        attributes = json.loads(self.lines[self.starts[place] : self.ends[place]]).get("attributes")
        return list(attributes) if isinstance(attributes, dict) else []

    def origins(self, places: Positions) -> list[tuple[int, int]]:
        """Give page and record on the page, both from 0."""
        pages = np.searchsorted(self.page_ends, places, side="right")
        begins = np.concatenate([[0], self.page_ends])[pages]
        return list(zip((pages + self.first_page).tolist(), (places - begins).tolist(), strict=True))

    def suspects(self, pattern: str) -> Mask:
        """Find the lines that a pattern fits."""
        return np.array(pc.match_substring_regex(self._array, pattern).to_numpy(zero_copy_only=False))

    def holding(self, literal: bytes) -> Mask:
        """Find the lines that hold some bytes."""
        return np.array(pc.match_substring(self._array, literal.decode()).to_numpy(zero_copy_only=False))

    @property
    def _array(self) -> pa.Array:
        offsets = np.append(self.starts, len(self.lines))
        return pa.Array.from_buffers(
            TEXT, self.rows, [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(self.lines)]
        )


class _Reading:
    """One parsed table: its columns, and which of its records are odd.

    ``names`` are the unknown attributes and relationships in it, ``empty`` the
    unknown attributes among them that were expected and have no value.
    """

    def __init__(self, table: pa.Table, attributes: dict[str, pa.DataType], resource: Resource) -> None:
        self.odd: Mask = np.zeros(table.num_rows, dtype=bool)
        self.sound = True
        self.columns: dict[str, pa.Array] = {}
        self.names: set[tuple[str, str]] = set()
        self.empty: set[tuple[str, str]] = set()
        self.nulls: set[str] = set()
        self._unknown: dict[str, str] = {}
        self._unknown_relationships: set[str] = set()
        for name in table.schema.names:
            column = table[name].chunk(0)
            if name == "id":
                self.columns["id"] = column
                self._mark(~mask_of(pc.fill_null(pc.greater(column, 0), False)))
            elif name == "type":
                self.sound = False  # a second type beside the one cut off
            elif name == "attributes":
                for member, values in self._members_of(column):
                    self._read_attribute(member, values, attributes, resource)
            elif name == "relationships":
                for member, values in self._members_of(column):
                    self._read_relationship(member, values, resource)
            elif name == "meta":
                for member, values in _flattened(column):
                    self._read_metadata(member, values, resource)
            else:
                self._look_at(column)

    def _mark(self, odd: Mask) -> None:
        self.odd |= odd

    def _members_of(self, values: pa.Array) -> list[tuple[str, pa.Array]]:
        """Give the members of what should be objects; anything else is odd."""
        if not pa.types.is_struct(values.type):
            self._mark(mask_of(values.is_valid()))
        return _flattened(values)

    def _look_at(self, values: pa.Array) -> None:
        """Make sure of a member that is not read: NaN and Infinity are no JSON, and Arrow takes them."""
        self.sound = self.sound and _all_finite(values)

    def _read_attribute(
        self, name: str, values: pa.Array, declared: dict[str, pa.DataType], resource: Resource
    ) -> None:
        attribute = resource.by_name.get(name)
        if attribute is None:
            self._read_unknown(name, values, name in declared, resource)
        elif name not in declared:
            self.nulls.add(name)
        elif attribute.kind == "instant":
            self.columns[attribute.column], odd = read_instants(values)
            self._mark(odd)
        else:
            self.columns[attribute.column] = values
            if attribute.kind == "tags" and values.flatten().null_count:
                self._mark(_with_null_item(values))

    def _read_unknown(self, name: str, values: pa.Array, declared: bool, resource: Resource) -> None:
        self._unknown[name] = unknown_column(name, resource)
        self.names.add(("attribute", name))
        if not declared:
            # All null, or a list or object: Arrow cannot tell an absent member of it from a null one.
            self._mark(mask_of(values.is_valid()) if values.type != pa.null() else np.zeros(len(values), dtype=bool))
            return
        if values.null_count == len(values):
            self.empty.add(("attribute", name))
        if values.type == pa.float64():
            # 22 and 22.0 are the same to Arrow; a fraction surely was a float.
            numbers = values.to_numpy(zero_copy_only=False)
            with np.errstate(invalid="ignore"):
                self._mark(mask_of(values.is_valid()) & ~(np.isfinite(numbers) & (numbers != np.floor(numbers))))
        self.columns[self._unknown[name]] = values

    def _read_relationship(self, name: str, values: pa.Array, resource: Resource) -> None:
        relationship = resource.relationship_by_name.get(name)
        if relationship is None:
            self.names.add(("relationship", name))
            self._unknown_relationships.add(name)
        if relationship is None or relationship.column is None:
            self._look_at(values)
            return
        for member, target in self._members_of(values):
            if member != "data":
                self._look_at(target)
                continue
            parts = dict(self._members_of(target))
            if "id" not in parts:
                continue  # null in every record
            usual = pc.and_(pc.greater(parts["id"], 0), pc.equal(parts["type"], relationship.type))
            self._mark(mask_of(target.is_valid()) & ~mask_of(pc.fill_null(usual, False)))
            self.columns[relationship.column] = parts["id"]
            for other in parts.keys() - {"id", "type"}:
                self._look_at(parts[other])

    def _read_metadata(self, name: str, values: pa.Array, resource: Resource) -> None:
        entry = next((entry for entry in resource.metadata if entry.name == name), None)
        if entry is None:
            self._look_at(values)
        elif values.type == pa.bool_() and entry.dtype == "boolean":
            self.columns[entry.column] = values
        elif values.type != pa.null():
            self._mark(mask_of(values.is_valid()))

    def batch(self) -> Batch:
        """Give the records that are not odd."""
        return fitting_batch(self.columns, self.odd, self._unknown, self._unknown_relationships)


def _with_null_item(lists: pa.Array) -> Mask:
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    odd = np.zeros(len(lists), dtype=bool)
    odd[parents[mask_of(lists.flatten().is_null())]] = True
    return odd


def _spread(odd: Mask, more: Mask) -> Mask:
    """Add odd records, counted among those that were not odd before."""
    spread = odd.copy()
    spread[np.flatnonzero(~odd)[more]] = True
    return spread


def _members(schema: pa.Schema, name: str) -> list[pa.Field]:
    place = schema.get_field_index(name)
    if place < 0 or not pa.types.is_struct(schema.field(place).type):
        return []
    return list(schema.field(place).type)


def _flattened(values: pa.Array) -> list[tuple[str, pa.Array]]:
    """Give the members of objects; a member of a missing object is missing."""
    if not pa.types.is_struct(values.type):
        return []
    return list(zip((field.name for field in values.type), values.flatten(), strict=True))


def _depth(kind: Any) -> int:
    children: list[pa.DataType] = []
    if isinstance(kind, pa.Schema):
        children = list(kind.types)
    elif pa.types.is_struct(kind):
        children = [field.type for field in kind]
    elif pa.types.is_list(kind):
        children = [kind.value_type]
    else:
        return 0
    return 1 + max(map(_depth, children), default=0)


def _all_finite(values: pa.Array) -> bool:
    if not _has_floats(values.type):
        return True
    try:
        # Arrow builds lists that begin with null and go on otherwise with offsets beyond their items.
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return _finite(values)


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_floats(field.type) for field in kind)
    return pa.types.is_floating(kind) or (pa.types.is_list(kind) and _has_floats(kind.value_type))


def _finite(values: pa.Array) -> bool:
    kind = values.type
    if pa.types.is_floating(kind):
        return pc.all(pc.is_finite(values)).as_py() is not False
    if pa.types.is_struct(kind):
        return all(_finite(member) for member in values.flatten())
    return not pa.types.is_list(kind) or _finite(values.flatten())
