"""Pages parsed into columns of members, without a dictionary per record.

A page goes through msgspec into structs whose fields are the members that the
records have had so far; a page with another member has its names added and is
parsed once more. What the structs cannot hold (a relationship that is a number,
an id that is none, broken JSON) is left to `opp_pandas.api.documents`, which
reads or refuses it.

Of two members with one name the parser keeps the last, where a document is not
valid. So members are counted in the bytes and in the structs, and a page whose
counts differ is left, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from opp_pandas.api.documents import BOM, count_members
from opp_pandas.kinds import INT64_MAX

if TYPE_CHECKING:
    from opp_pandas.resource import Resource

Codes = np.ndarray[Any, np.dtype[np.uint8]]

_ABSENT = Raw(b"")
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
        What came, and the `Target` or nothing that it points to.
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
        for values, targets in self.relationships.values():
            yield from (raw for value in values if value for raw in (value.links, value.meta) if raw is not _ABSENT)
            yield from (target.meta for target in targets if target and target.meta is not _ABSENT)


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
        self._names: dict[str, dict[str, None]] = {"attributes": {}, "relationships": {}, "": {}}
        self._included: dict[bytes, tuple[int, Any]] = {}
        self._build()

    def parse(self, body: bytes) -> ParsedPage | None:
        """Parse a page; None where it is not certain to be what it seems."""
        body = body.removeprefix(BOM)
        if not _is_unicode(body):
            return None
        try:
            document = self._decoder.decode(body)
        except msgspec.ValidationError:
            try:
                document = self._decoder.decode(body) if self._learn(body) else None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        try:
            return None if document is None else self._columns(document, body)
        except (_NotPlainError, msgspec.DecodeError, RecursionError):
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
        to_one = {entry.name for entry in self._resource.relationships if not entry.to_many}
        self._to_one = [name for name in self._names["relationships"] if name in to_one]
        self._unread = [name for name in self._names["relationships"] if name not in to_one]
        attributes = _struct((name, Any, UNSET) for name in self._names["attributes"])
        relationships = _struct(
            [
                *((name, Related | None | UnsetType, UNSET) for name in self._to_one),
                *((name, Raw, _ABSENT) for name in self._unread),
            ]
        )
        record = _struct(
            [
                ("type", Any),
                ("id", Any),
                ("attributes", attributes | None | UnsetType, UNSET),
                ("relationships", relationships | None | UnsetType, UNSET),
                ("meta", dict[str, Any] | None | UnsetType, UNSET),
                *((name, Raw, _ABSENT) for name in self._names[""]),
            ]
        )
        objects = dict[str, Any] | None | UnsetType
        document = _struct(
            [
                ("data", list[record]),  # type: ignore[valid-type]  # made here
                ("included", list[Raw] | None | UnsetType, UNSET),
                *((name, objects, UNSET) for name in ("links", "meta", "jsonapi")),
            ]
        )
        self._empty = attributes(), relationships()
        self._decoder = msgspec.json.Decoder(document)

    def _columns(self, document: Any, body: bytes) -> ParsedPage | None:
        records, included, *rest = astuple(document)
        rows = len(records)
        types, ids, attributes, relationships, meta, *others = _columns_of(records, 5 + len(self._names[""]))
        if types.count(self._resource.type) != rows:
            return None
        members = 1 + 2 * rows + sum(1 + members_of(part) for part in rest if part is not UNSET)
        parts = []
        for column, empty in zip((attributes, relationships), self._empty, strict=True):
            members += rows - column.count(UNSET)
            parts.append([part or empty for part in column])
        members += sum(1 + members_of(value) for value in meta if value is not UNSET)
        related = _columns_of(parts[1], len(self._names["relationships"]))
        raw = [
            [value for value in column if value is not _ABSENT] for column in (*related[len(self._to_one) :], *others)
        ]
        unread = [name for name, found in zip(self._unread, raw, strict=False) if found]
        members += sum(map(len, raw)) + rows * len(self._names["attributes"])
        read = {}
        for name, values in zip(self._to_one, related, strict=False):
            targets = [value.data if value else None for value in values]
            there = _count_true(targets)
            members += 4 * there
            if there < rows:
                absent = list(filterfalse(None, values)).count(UNSET)
                without_data = list(filterfalse(None, targets)).count(UNSET)
                members += rows - absent + _count_true(values) - without_data - 2 * there
            read[name] = values, targets
        resources: list[Any] = []
        if included is not UNSET:
            resources, more = self._resources(included or [])
            members += 1 + more
        columns = _columns_of(parts[0], len(self._names["attributes"]))
        named = dict(zip(self._names["attributes"], columns, strict=True))
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


def _struct(fields: Iterable[tuple[Any, ...]]) -> Any:
    """Make a struct with fields of any name."""
    named = [(f"member{number}", *each) for number, each in enumerate(fields)]
    return msgspec.defstruct(
        "Members",
        [(name, *rest) for name, _, *rest in named],
        rename={name: member for name, member, *_ in named},
        gc=False,
        eq=False,
        forbid_unknown_fields=True,
    )


def _can_be_field(name: str) -> bool:
    """Tell whether msgspec takes the name: it has nothing that JSON would escape."""
    return name.isprintable() and '"' not in name and "\\" not in name


def _count_true(values: Iterable[Any]) -> int:
    return len(list(filter(None, values)))


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
