"""Pages parsed into columns of members, without a dictionary per record.

A page goes through msgspec into structs whose fields are the members that the
records have had so far; a page with another member has its names added and is
parsed once more. The structs are strict about ids and types, so that nobody
looks at them again; a page that they refuse is tried with structs that take any
id and type. What these cannot hold either (a relationship that is a number, an
id that is none, broken JSON) is left to `opp_pandas.api.documents`, which reads
or refuses it.

Of two members with one name the parser keeps the last, where a document is not
valid. So members are counted in the bytes and in the structs, and a page whose
counts differ is left, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import astuple

from opp_pandas.api.documents import BOM, count_members
from opp_pandas.kinds import INT64_MAX

if TYPE_CHECKING:
    from opp_pandas.resource import Resource

Codes = np.ndarray[Any, np.dtype[np.uint8]]

_ABSENT = Raw(b"")
_Id = Annotated[int, Meta(ge=1, le=INT64_MAX)]
_MAX_NAMES = 2_000
_MAX_DEPTH = 40
_MAX_INCLUDED = 10_000
_NAME_END = int.from_bytes(b'":', sys.byteorder)


class Target(Struct, gc=False, eq=False, forbid_unknown_fields=True, omit_defaults=True):
    """A resource identifier."""

    type: Any
    id: Any
    meta: Raw = _ABSENT


class Related(Struct, gc=False, eq=False, forbid_unknown_fields=True, omit_defaults=True):
    """A relationship to one resource."""

    data: Target | UnsetType | None = UNSET
    links: Raw = _ABSENT
    meta: Raw = _ABSENT


class _NotPlainError(Exception):
    """A value nests too deep or has too many digits to be sure of it."""


@dataclass
class PageColumns:
    """The members of some records, a column each.

    Parameters
    ----------
    ids : sequence
        As they came.
    attributes : mapping of str to sequence
        JSON values; None where a record lacks the attribute, or UNSET.
    relationships : mapping of str to (sequence, sequence)
        What came, and where it points: ids of the right type, or a `Target` that is still to be looked at, or None.
    unread : iterable of str
        The other relationships, to many or of unknown names.
    meta : sequence
        Objects; None where a record has none, or UNSET.
    """

    ids: Sequence[Any]
    attributes: Mapping[str, Sequence[Any]]
    relationships: Mapping[str, tuple[Sequence[Any], Sequence[Any]]]
    unread: Iterable[str]
    meta: Sequence[Any]


@dataclass
class ParsedPage(PageColumns):
    """A page with what is needed to tell that nothing in it stands twice.

    Parameters
    ----------
    body : bytes
        The page.
    members : int
        How many it has, if every record has every attribute; what is in `raw` apart.
    raw : list of Raw
        What nobody reads.
    included : list of dict
        The resources beside the records.
    """

    body: bytes
    members: int
    raw: list[Raw]
    included: list[Any]

    def adds_up(self, absent: int, others: Iterable[Any]) -> bool:
        """Tell whether the bytes have as many members as the structs.

        Parameters
        ----------
        absent : int
            How many attributes records do not have.
        others : iterable
            Values of attributes and in targets that may be more than text or a number.
        """
        try:
            members = self.members - absent + sum(map(members_of, others)) + _members_within(self.raw)
            found = _name_ends(self.body)
            if members != found:
                more = list(self._raw_of_relationships())
                members += len(more) + _members_within(more)
        except (_NotPlainError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        # Text may hold what ends a name, and white space may stand before the colon.
        return members == found or members == count_members(self.body)

    def _raw_of_relationships(self) -> Iterable[Raw]:
        for values, _ in self.relationships.values():
            present = list(filter(None, values))
            targets = [value.data for value in present if value.data]
            for raw in chain.from_iterable((value.links, value.meta) for value in present):
                if raw is not _ABSENT:
                    yield raw
            yield from (target.meta for target in targets if target.meta is not _ABSENT)


def json_value(value: Any) -> Any:
    """Return what came as JSON values, where structs are in the place of objects."""
    return msgspec.json.decode(msgspec.json.encode(value)) if isinstance(value, Struct) else value


def members_of(value: Any, depth: int = 0) -> int:
    """Count the members within a JSON value."""
    if isinstance(value, dict | list):
        if depth > _MAX_DEPTH:
            raise _NotPlainError
        if isinstance(value, list):
            return sum(members_of(item, depth + 1) for item in value)
        return len(value) + sum(members_of(item, depth + 1) for item in value.values())
    if isinstance(value, int) and abs(value) > INT64_MAX:
        raise _NotPlainError
    return 0


def _members_within(raw: Sequence[Raw]) -> int:
    """Count the members within some JSON texts."""
    if not raw:
        return 0
    text = b"\n" + b"\n".join(raw) + b"\n"
    members = _members_of_chains(np.frombuffer(text, np.uint8), len(raw)) if b"\\" not in text else None
    return members_of(msgspec.json.decode(b"[" + b",".join(raw) + b"]")) if members is None else members


def _members_of_chains(codes: Codes, count: int) -> int | None:
    """Count the members of objects, a line each, where none has more than one, which is a text or such an object.

    Links are like that. None where it is not certain: then a member might stand twice.
    """
    before, here, after = codes[:-2], codes[1:-1], codes[2:]
    opening = here == ord("{")
    name_ends = (before == ord('"')) & (here == ord(":"))
    objects = int(np.count_nonzero(name_ends & (after == ord("{"))))
    texts = np.count_nonzero(name_ends & (after == ord('"')))
    lines = np.count_nonzero(opening & (before == ord("\n")))
    filled = not (opening & (after != ord('"'))).any()
    return (
        count + objects
        if filled and lines == texts == count and np.count_nonzero(name_ends) == texts + objects
        else None
    )


def _name_ends(text: bytes) -> int:
    """Count the quotes before a colon."""
    pairs = (np.frombuffer(text, np.uint16, (len(text) - start) // 2, start) for start in (0, 1) if len(text) > 2)
    return sum(int(np.count_nonzero(each == _NAME_END)) for each in pairs)


class PageParser:
    """Parses the pages of a collection, and learns the names of members as they come.

    Parameters
    ----------
    resource : Resource
        What the pages hold.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._types = {entry.name: entry.type for entry in resource.relationships if not entry.to_many}
        self._names: dict[str, dict[str, None]] = {"attributes": {}, "relationships": {}, "": {}}
        self._included: dict[bytes, tuple[int, Any]] = {}
        self._build()

    def parse(self, body: bytes) -> ParsedPage | None:
        """Parse a page; None where it is not certain to be what it seems."""
        body = body.removeprefix(BOM)
        if not _is_unicode(body):
            return None
        try:
            return self._parsed(body) or (self._parsed(body) if self._learn(body) else None)
        except (_NotPlainError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _parsed(self, body: bytes) -> ParsedPage | None:
        """Parse a page by the structs as they are; None where they do not fit."""
        for strict, decoder in self._decoders.items():
            try:
                return self._columns(decoder.decode(body), body, strict=strict)
            except msgspec.ValidationError:
                continue
        return None

    def _learn(self, body: bytes) -> bool:
        """Add the names of a page's members; tell whether there are new ones."""
        known = sum(map(len, self._names.values()))
        document = msgspec.json.decode(body)
        records = document.get("data") if isinstance(document, dict) else None
        for record in records if isinstance(records, list) else ():
            for name, value in record.items() if isinstance(record, dict) else ():
                if name in ("attributes", "relationships"):
                    self._names[name].update(
                        dict.fromkeys(filter(_can_be_field, value if isinstance(value, dict) else ()))
                    )
                elif name not in ("type", "id", "meta") and _can_be_field(name):
                    self._names[""][name] = None
        found = sum(map(len, self._names.values()))
        if known < found <= _MAX_NAMES:
            self._build()
        return known < found <= _MAX_NAMES

    def _build(self) -> None:
        self._to_one = [name for name in self._names["relationships"] if name in self._types]
        self._unread = [name for name in self._names["relationships"] if name not in self._types]
        self._attributes = _struct((name, Any, UNSET) for name in self._names["attributes"])
        self._empty = self._attributes(), self._relationships(strict=False)()
        self._decoders = {strict: msgspec.json.Decoder(self._document(strict=strict)) for strict in (True, False)}

    def _relationships(self, *, strict: bool) -> Any:
        related = ((name, _related(self._types[name]) if strict else Related) for name in self._to_one)
        to_one = ((name, kind | None | UnsetType, UNSET) for name, kind in related)
        return _struct([*to_one, *((name, Raw, _ABSENT) for name in self._unread)])

    def _document(self, *, strict: bool) -> Any:
        """Make the struct of a page."""
        relationships = self._relationships(strict=strict)
        members = [
            ("id", _Id if strict else Any),
            ("attributes", self._attributes | None | UnsetType, UNSET),
            ("relationships", relationships | None | UnsetType, UNSET),
            ("meta", dict[str, Any] | None | UnsetType, UNSET),
            *((name, Raw, _ABSENT) for name in self._names[""]),
        ]
        record = _struct(members, self._resource.type) if strict else _struct([*members, ("type", Any, None)])
        objects = dict[str, Any] | None | UnsetType
        return _struct(
            [
                ("data", list[record]),  # type: ignore[valid-type]  # made here
                ("included", list[Raw] | None | UnsetType, UNSET),
                *((name, objects, UNSET) for name in ("links", "meta", "jsonapi")),
            ]
        )

    def _columns(self, document: Any, body: bytes, *, strict: bool) -> ParsedPage | None:
        records, included, *rest = astuple(document)
        rows = len(records)
        columns = _columns_of(records, 4 + len(self._names[""]) + (not strict))
        if not strict and columns.pop().count(self._resource.type) != rows:
            return None
        ids, attributes, relationships, meta, *others = columns
        members = 1 + 2 * rows + sum(1 + members_of(part) for part in rest if part is not UNSET)
        members += sum(rows - column.count(UNSET) for column in (attributes, relationships))
        members += sum(1 + members_of(value) for value in meta if value is not UNSET)
        cells, related = (
            _columns_of([part or empty for part in column], len(empty.__struct_fields__))
            for column, empty in zip((attributes, relationships), self._empty, strict=True)
        )
        raw = [
            [value for value in column if value is not _ABSENT] for column in (*related[len(self._to_one) :], *others)
        ]
        unread = [name for name, found in zip(self._unread, raw, strict=False) if found]
        members += sum(map(len, raw)) + rows * len(self._names["attributes"])
        read = {}
        for name, values in zip(self._to_one, related, strict=False):
            targets = [value.data if value else None for value in values]
            members += _members_of_relationship(values, targets)
            read[name] = values, [target.id if target else None for target in targets] if strict else targets
        resources: list[Any] = []
        if included is not UNSET:
            resources, more = self._resources(included or [])
            members += 1 + more
        named = dict(zip(self._names["attributes"], cells, strict=True))
        return ParsedPage(ids, named, read, unread, meta, body, members, list(chain(*raw)), resources)

    def _resources(self, included: Iterable[Raw]) -> tuple[list[Any], int]:
        """Parse included resources, which stand on many pages, once; give them and the number of their members."""
        members = 0
        resources = []
        if len(self._included) > _MAX_INCLUDED:
            self._included.clear()
        for text in map(bytes, included):
            found = self._included.get(text)
            if found is None:
                value = msgspec.json.decode(text)
                found = self._included[text] = members_of(value), value
            members += found[0]
            resources.append(found[1])
        return resources, members


@cache
def _related(kind: str) -> Any:
    """Make the struct of a relationship that points to one type."""
    options: dict[str, Any] = {"gc": False, "eq": False, "forbid_unknown_fields": True}
    target = msgspec.defstruct("Target", [("id", _Id), ("meta", Raw, _ABSENT)], tag_field="type", tag=kind, **options)
    fields = [("data", target | None | UnsetType, UNSET), ("links", Raw, _ABSENT), ("meta", Raw, _ABSENT)]
    return msgspec.defstruct("Related", fields, **options)


def _struct(fields: Iterable[tuple[Any, ...]], kind: str | None = None) -> Any:
    """Make a struct with fields of any name; of one type where that is given."""
    named = [(f"member{number}", *each) for number, each in enumerate(fields)]
    return msgspec.defstruct(
        "Members",
        [(name, *rest) for name, _, *rest in named],
        rename={name: member for name, member, *_ in named},
        tag_field=None if kind is None else "type",
        tag=kind,
        gc=False,
        eq=False,
        forbid_unknown_fields=True,
    )


def _can_be_field(name: str) -> bool:
    """Tell whether msgspec takes the name: it has nothing that JSON would escape."""
    return name.isprintable() and '"' not in name and "\\" not in name


def _count_true(values: Iterable[Any]) -> int:
    return len(list(filter(None, values)))


def _members_of_relationship(values: Sequence[Any], targets: Sequence[Any]) -> int:
    """Count the members that a relationship takes in all records; its links and its meta apart."""
    there = _count_true(targets)
    if there == len(values):
        return 4 * there
    absent = list(filterfalse(None, values)).count(UNSET)
    without_data = list(filterfalse(None, targets)).count(UNSET)
    return 2 * there + len(values) - absent + _count_true(values) - without_data


def _columns_of(structs: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    return list(zip(*map(astuple, structs), strict=True)) if structs else [()] * count


def _is_unicode(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
