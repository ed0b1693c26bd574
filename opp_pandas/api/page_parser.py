"""Pages parsed into columns of members, without a dictionary per record.

A page goes through msgspec into structs whose fields are the members that the
records have had so far; a page with another member has its names added and is
parsed once more. The structs are strict about ids and types, so that nobody
looks at them again; a page that they refuse is tried with structs that take any
id and type. What these cannot hold either (a relationship that is a number, an
id that is none, broken JSON) is left to `opp_pandas.api.documents`, which reads
or refuses it. Pages parsed alike become columns together, since every column
costs a little by itself, however short it is.

Of two members with one name the parser keeps the last, where a document is not
valid. So members are counted in the bytes and in the structs, and pages whose
counts differ are left, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct
from msgspec.structs import astuple

from opp_pandas.api.documents import BOM, are_usable, structure
from opp_pandas.kinds import INT64_MAX

if TYPE_CHECKING:
    from opp_pandas.resource import Resource

Codes = np.ndarray[Any, np.dtype[np.uint8]]
Ids = np.ndarray[Any, np.dtype[np.int64]]

_ABSENT = Raw(b"")
_Id = Annotated[int, Meta(ge=1, le=INT64_MAX)]
_MAX_NAMES = 2_000
_MAX_DEPTH = 40
_MAX_INCLUDED = 10_000
_NUMBERS = bytes(ord("0") if chr(code).isdigit() else code | 0x20 for code in range(256))
_NAME_END = int.from_bytes(b'":', sys.byteorder)


class Target(Struct, gc=False, eq=False, forbid_unknown_fields=True, omit_defaults=True):
    """A resource identifier."""

    type: Any
    id: Any
    meta: Raw = _ABSENT


class _NotPlainError(Exception):
    """A value nests too deep or has too many digits to be sure of it."""


@dataclass
class PageColumns:
    """The members of some records, a column each, as they came.

    A member that a record lacks is None. Of a relationship there is what came, and where it
    points: ids of the right type in an array, 0 for none; or in a list a `Target` that is still
    to be looked at, or None. Unread are those to many or of unknown names. `absent` names the
    attributes that records lack, each as often, where others than theirs may be among the names.
    """

    ids: Sequence[Any] | Ids
    attributes: Mapping[str, tuple[Any, ...]]
    relationships: Mapping[str, tuple[Sequence[Any], Sequence[Any] | Ids]]
    unread: Iterable[str]
    meta: Sequence[Any]
    absent: Sequence[str | None] = ()


@dataclass
class _Form:
    """The structs of pages whose records have certain members, by name.

    `others` are members beside attributes, relationships and meta; `empty` stands for a record's
    attributes and relationships where it has none. Of a strict form ids and types are sure to be
    what they should; the records of others end with their type.
    """

    decoder: Any
    attributes: list[str]
    to_one: list[str]
    unread: list[str]
    others: list[str]
    empty: tuple[Any, Any]
    is_strict: bool

    def has_names_of(self, other: _Form) -> bool:
        """Return whether both are for the same members, strict or not."""
        return (self.attributes, self.to_one, self.unread, self.others) == (
            other.attributes,
            other.to_one,
            other.unread,
            other.others,
        )


@dataclass
class ParsedPage:
    """A page in structs; pages whose forms have the same names can become columns together.

    It is best dropped after its columns: memory that is given back in the order in which it was
    taken is taken again in that order, which is twice as fast. `members` counts those beside the
    records; `absent` has an entry for each member of the structs that did not come.
    """

    body: bytes
    form: _Form
    records: list[Any]
    included: list[Any]
    members: int
    absent: list[str | None]


class ParsedColumns(PageColumns):
    """The columns of pages of the same names, with what is needed to tell that nothing in them stands twice."""

    def __init__(self, pages: Sequence[ParsedPage]) -> None:
        form = pages[0].form
        is_strict = all(page.form.is_strict for page in pages)
        records = list(chain.from_iterable(page.records for page in pages))
        rows = len(records)
        self._bodies = [page.body for page in pages]
        self.absent = list(chain.from_iterable(page.absent for page in pages))
        self._members = sum(page.members for page in pages) + rows * 5 - len(self.absent)
        ids, attributes, relationships, meta, *others = _columns_of(records, 4 + len(form.others))
        self.ids = np.fromiter(ids, np.int64, rows) if is_strict else ids
        self.meta = meta
        columns = self._members_in(attributes, form.empty[0], len(form.attributes))
        self.attributes = dict(zip(form.attributes, columns, strict=True))
        self.absent += form.attributes * attributes.count(None)
        related = self._members_in(relationships, form.empty[1], len(form.to_one))
        found = [list(filter(None, column)) for column in (*related[len(form.to_one) :], *others)]
        self.unread = [name for name, raw in zip(form.unread, found, strict=False) if raw]
        self._raw = list(chain.from_iterable(found))
        self._members += len(self._raw)
        self.relationships = {
            name: (values, self._targets(values, are_sure=is_strict))
            for name, values in zip(form.to_one, related, strict=False)
        }

    def _members_in(self, objects: Sequence[Any], empty: Any, certain: int) -> list[tuple[Any, ...]]:
        """Turn a member of the records that is an object into columns of its own members, of which some are certain."""
        lacking = objects.count(None)
        self._members += certain * (len(objects) - lacking)
        if lacking:
            objects = [entry or empty for entry in objects]
        return _columns_of(objects, len(empty.__struct_fields__))

    def _targets(self, values: Sequence[Any], *, are_sure: bool) -> Sequence[Any] | Ids:
        """Return where the values of a relationship point, and count their members, links and meta apart."""
        self._members += len(values) - values.count(None)
        if are_sure:
            ids = np.fromiter([value.data.id if value and value.data else 0 for value in values], np.int64, len(values))
            self._members += 2 * int(np.count_nonzero(ids))
            return ids
        targets = [value.data if value else None for value in values]
        self._members += 2 * (len(targets) - targets.count(None))
        return targets

    def adds_up(self, others: Iterable[Any]) -> bool:
        """Return whether the bytes have as many members as the structs; `others` may be more than text or a number."""
        try:
            members = self._members + _members_within(self._raw)
            members += sum(map(members_of, filter(None, chain(others, self.meta))))
            found = sum(map(_name_ends, self._bodies))
            if members != found:
                more = list(self._raw_of_relationships())
                members += len(more) + _members_within(more)
        except (_NotPlainError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        # Text may hold what ends a name, and white space may stand before the colon.
        return members == found or members == sum(structure(body)[1] for body in self._bodies)

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
    if members is not None:
        return members
    value = msgspec.json.decode(b"[" + b",".join(raw) + b"]")
    numbers = text.translate(_NUMBERS)
    if b"0" * 19 in numbers or b"0e" in numbers:  # perhaps beyond what is certain
        return members_of(value)
    # Written anew, each member stands once.
    depth, members = structure(msgspec.json.encode(value))
    if depth > _MAX_DEPTH:
        raise _NotPlainError
    return members


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

    Most resources beside the records stand on many pages: `read_included` reads each once.
    """

    def __init__(self, resource: Resource, read_included: Callable[[Any], Any]) -> None:
        self._resource = resource
        self._read_included = read_included
        self._types = {entry.name: entry.type for entry in resource.relationships if not entry.to_many}
        self._names: dict[str, dict[str, None]] = {"attributes": {}, "relationships": {}, "": {}}
        self._included: dict[bytes, tuple[int, Any]] = {}
        self._absent: list[str | None] = []
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
        for form in self._forms:
            self._absent.clear()
            try:
                return self._page(form.decoder.decode(body), body, form)
            except msgspec.ValidationError:
                continue
        return None

    def _page(self, document: Any, body: bytes, form: _Form) -> ParsedPage | None:
        records, included, *rest = astuple(document)
        if not form.is_strict and records:
            ids, *_, types = _columns_of(records, 5 + len(form.others))
            if types.count(self._resource.type) != len(records) or not are_usable(ids):
                return None
        resources, members = self._resources(included or [])
        members += 5 + sum(map(members_of, rest))
        return ParsedPage(body, form, records, resources, members, self._absent.copy())

    def _learn(self, body: bytes) -> bool:
        """Add the names of a page's members; tell whether there are new ones."""
        known = sum(map(len, self._names.values()))
        document = msgspec.json.decode(body)
        records = document.get("data") if isinstance(document, dict) else None
        for record in records if isinstance(records, list) else ():
            for name, value in record.items() if isinstance(record, dict) else ():
                if name in ("attributes", "relationships"):
                    self._names[name].update(dict.fromkeys(value if isinstance(value, dict) else ()))
                elif name not in ("type", "id", "meta"):
                    self._names[""][name] = None
        for names in self._names.values():
            for name in list(filterfalse(_can_be_field, names)):
                del names[name]
        found = sum(map(len, self._names.values()))
        if known < found <= _MAX_NAMES:
            self._build()
        return known < found <= _MAX_NAMES

    def _build(self) -> None:
        to_one = [name for name in self._names["relationships"] if name in self._types]
        unread = [name for name in self._names["relationships"] if name not in self._types]
        attributes = _struct((name, Any, self._noted(name)) for name in self._names["attributes"])
        self._forms = []
        for is_strict in (True, False):
            kinds = {kind: self._related(kind if is_strict else None) for kind in dict.fromkeys(self._types.values())}
            fields = [(name, kinds[self._types[name]] | None, self._noted()) for name in to_one]
            relationships = _struct([*fields, *((name, Raw, None) for name in unread)])
            decoder = msgspec.json.Decoder(self._document(attributes, relationships, is_strict=is_strict))
            empty = attributes(), relationships()
            others = list(self._names[""])
            self._forms.append(
                _Form(decoder, list(self._names["attributes"]), to_one, unread, others, empty, is_strict)
            )

    def _document(self, attributes: Any, relationships: Any, *, is_strict: bool) -> Any:
        """Make the struct of a page."""
        members = [
            ("id", _Id if is_strict else Any),
            ("attributes", attributes | None, self._noted()),
            ("relationships", relationships | None, self._noted()),
            ("meta", dict[str, Any] | None, self._noted()),
            *((name, Raw, None) for name in self._names[""]),
        ]
        record = _struct(members, self._resource.type) if is_strict else _struct([*members, ("type", Any, None)])
        return _struct(
            [
                ("data", list[record]),  # type: ignore[valid-type]  # made here
                ("included", list[Raw] | None, self._noted()),
                *((name, dict[str, Any] | None, self._noted()) for name in ("links", "meta", "jsonapi")),
            ]
        )

    def _related(self, kind: str | None) -> Any:
        """Make the struct of a relationship that points to one type; None: to any."""
        options: dict[str, Any] = {"gc": False, "eq": False, "forbid_unknown_fields": True, "omit_defaults": True}
        members: list[Any] = [("id", _Id), ("meta", Raw, _ABSENT)]
        of_kind = options | {"tag_field": "type", "tag": kind, "namespace": {"type": kind}}
        sure = Target if kind is None else msgspec.defstruct("Sure", members, **of_kind)
        fields = [("data", sure | None, self._noted()), ("links", Raw, _ABSENT), ("meta", Raw, _ABSENT)]
        return msgspec.defstruct("Related", fields, **options)

    def _noted(self, name: str | None = None) -> Any:
        """Return the default of a member: missing, and its absence is noted."""
        return msgspec.field(default_factory=partial(self._absent.append, name))

    def _resources(self, included: Iterable[Raw]) -> tuple[list[Any], int]:
        """Read included resources; give what was read and the number of their members."""
        members = 0
        resources = []
        if len(self._included) > _MAX_INCLUDED:
            self._included.clear()
        for text in map(bytes, included):
            found = self._included.get(text)
            if found is None:
                value = msgspec.json.decode(text)
                found = self._included[text] = members_of(value), self._read_included(value)
            members += found[0]
            resources.append(found[1])
        return resources, members


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
    """Return whether msgspec takes the name: it has nothing that JSON would escape."""
    return name.isprintable() and '"' not in name and "\\" not in name


def _columns_of(structs: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    """Turn structs into columns of their first fields."""
    return list(zip(*map(astuple, structs), strict=False))[:count] if structs else [()] * count


def _is_unicode(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
