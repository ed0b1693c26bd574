"""What a collection request asks for: read from its query, turned into SQL and links."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from opp_pandas.resource import RESOURCES
from opp_pandas.sandbox_server.errors import bad_parameter, bad_request
from opp_pandas.sandbox_server.filters import Condition, build_condition, split_filter
from opp_pandas.sandbox_server.store import Record, Table, dump_json

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.settings import Switches

DEFAULT_PAGE, LARGEST_PAGE, LARGEST_OFFSET = 50, 1_000, 10_000
_KEY = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<keys>(?:\[[^\[\]]*\])*)", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_PAGE_KEYS = ("size", "after", "before", "limit", "offset")
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SortTerm:
    """One term of a sort: an attribute's API name, its column, and the direction."""

    name: str
    column: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two rows: the sort values and id of the row beside it."""

    values: tuple[Any, ...]
    id: int
    backwards: bool


@dataclass(frozen=True)
class View:
    """How records are shown: the parameters that one record and a collection share."""

    fields: dict[str, frozenset[str]]
    include: tuple[tuple[str, ...], ...]
    authorization: bool
    connections: bool


@dataclass(frozen=True)
class Selection:
    """One collection request.

    ``sort`` is the order before the id; ``offset`` is None unless the older paging is asked for; ``pairs`` are
    the parameters as they counted, for the links.
    """

    table: Table
    condition: Condition
    sort: tuple[SortTerm, ...]
    size: int
    offset: int | None
    cursor: Cursor | None
    count: bool
    view: View
    pairs: Pairs

    @property
    def order(self) -> str:
        """ORDER BY of the page, read backwards where the cursor points backwards."""
        turned = self.cursor is not None and self.cursor.backwards
        terms = []
        for term in self.sort:
            down = term.descending != turned
            # Missing values sort behind all others, so they come first when the order is turned.
            terms.append(f"{term.column} DESC NULLS FIRST" if down else f"{term.column} ASC NULLS LAST")
        last = f"{self.table.name}.id {'DESC' if turned else 'ASC'}"
        return ", ".join([*terms, last])

    @property
    def page_condition(self) -> Condition:
        """The filters together with what lies beyond the cursor."""
        if self.cursor is None:
            return self.condition
        turned = self.cursor.backwards
        sql, values = f"{self.table.name}.id {'<' if turned else '>'} ?", [self.cursor.id]
        for term, value in reversed(list(zip(self.sort, self.cursor.values, strict=True))):
            down = term.descending != turned
            if value is None:
                beyond, own = (f"{term.column} IS NOT NULL", []) if down else ("0", [])
            elif down:
                beyond, own = f"{term.column} < ?", [value]
            else:
                beyond, own = f"({term.column} > ? OR {term.column} IS NULL)", [value]
            sql = f"({beyond} OR ({term.column} IS ? AND {sql}))"
            values = [*own, value, *values]
        return Condition(f"{self.condition.sql} AND {sql}", (*self.condition.values, *values))

    def cursor_text(self, record: Record) -> str:
        """Write the place of `record` in this order as an opaque text."""
        attributes = record.attributes() if self.sort else {}
        values = [record.id if term.name == "id" else attributes[term.name] for term in self.sort]
        plain = {"sp": _sort_words(self.sort), "sv": values, "id": record.id, "v": 1}
        return base64.urlsafe_b64encode(dump_json(plain).encode()).decode()

    def link(self, address: str, **page: str | int) -> str:
        """Return the address of another page of the same request."""
        moved = {f"page[{name}]" for name in ("after", "before", "offset")}
        kept = [(key, value) for key, value in self.pairs if key not in moved]
        return f"{address}?{urlencode([*kept, *((f'page[{name}]', str(value)) for name, value in page.items())])}"


def read_view(table: Table, pairs: Pairs) -> View:
    """Read the parameters on how records are shown."""
    fields: dict[str, frozenset[str]] = {}
    include: tuple[tuple[str, ...], ...] = ()
    flags = {"provideAuthorizationMeta": False, "provideDataConnections": False}
    for key, value in pairs:
        name, keys = _split_key(key)
        if name == "fields":
            fields |= _read_fields(key, keys, value)
        elif name == "include" and not keys:
            include = _read_include(table, value)
        elif name in flags and not keys:
            flags[name] = _read_flag(key, value)
    return View(fields, include, flags["provideAuthorizationMeta"], flags["provideDataConnections"])


def read_selection(table: Table, pairs: Pairs, switches: Switches) -> Selection:
    """Read the decoded query of a collection request; 422 for what the service does not take."""
    flags = dict(pairs)
    newer = _read_flag("newFilterSyntax", flags.get("newFilterSyntax", "false"))
    count_given = flags.get("count")
    conditions: list[Condition] = []
    sort: tuple[SortTerm, ...] = ()
    page: dict[str, str] = {}
    done: set[str] = set()
    told = [(key, value) for key, value in pairs if _split_key(key)[0] not in switches.ignore_parameters]
    for key, value in told:
        name, keys = _split_key(key)
        if name == "filter":
            if key in done:
                continue
            done.add(key)
            values = [other for same, other in pairs if same == key]
            given = split_filter(key, keys, values, newer)
            conditions.append(build_condition(table, given, newer, switches.ignore_upper_bounds))
        elif name == "sort" and not keys:
            sort = _read_sort(table, value)
        elif name == "page":
            if len(keys) != 1 or keys[0] not in _PAGE_KEYS:
                raise bad_parameter(key, "Pages are asked for by size with after or before, or by limit and offset.")
            page[keys[0]] = value
    if not switches.list_trashed and table.resource.type == "opportunity":
        conditions.append(Condition("json_extract('{' || \"attributes\" || '}', '$.trashedAt') IS NULL"))
    offset = _read_number("offset", page, 0, 0, LARGEST_OFFSET) if {"limit", "offset"} & page.keys() else None
    size_key = "limit" if offset is not None and "limit" in page else "size"
    cursor = _read_cursor(page, sort) if offset is None else None
    return Selection(
        table,
        Condition(
            " AND ".join(condition.sql for condition in conditions) or "1",
            tuple(value for condition in conditions for value in condition.values),
        ),
        sort,
        _read_number(size_key, page, DEFAULT_PAGE, 1, LARGEST_PAGE),
        offset,
        cursor,
        switches.count_by_default if count_given is None else _read_flag("count", count_given),
        read_view(table, told),
        pairs,
    )


def merge_doubled(pairs: Sequence[tuple[str, str]], refuse: bool) -> Pairs:
    """Let the last of doubled parameters count, or `refuse` them; those that end in ``[]`` are lists and keep all."""
    last = {key: value for key, value in pairs if not key.endswith("[]")}
    lists = dict.fromkeys((key, value) for key, value in pairs if key.endswith("[]"))
    if refuse and len(last) + len(lists) < len(pairs):
        raise bad_request("A query parameter stands more than once.")
    return [*last.items(), *lists]


def _split_key(key: str) -> tuple[str, list[str]]:
    found = _KEY.fullmatch(key)
    if not found:
        # The service ignores parameters that it does not know; only a broken name of a known one is refused.
        if key.startswith(("filter", "page", "fields", "sort", "include")):
            raise bad_parameter(key[:80], "This parameter's name cannot be read.")
        return "", []
    return found["name"], re.findall(r"\[([^\[\]]*)\]", found["keys"])


def _read_flag(parameter: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise bad_parameter(parameter, f"'{text[:40]}' is not true or false.")
    return text == "true"


def _read_fields(parameter: str, keys: list[str], text: str) -> dict[str, frozenset[str]]:
    resource = RESOURCES.get(keys[0]) if len(keys) == 1 else None
    if resource is None:
        raise bad_parameter(parameter, f"Fields are asked for by type, such as fields[{next(iter(RESOURCES))}].")
    names = frozenset(filter(None, (name.strip() for name in text.split(","))))
    known = resource.by_name.keys() | resource.relationship_by_name.keys() | UNDOCUMENTED.get(resource.type, set())
    unknown = sorted(names - known)
    if unknown:
        raise bad_parameter(parameter, f"'{unknown[0][:60]}' is not a field of {resource.type}.")
    return {resource.type: names}


# What live records carry beside the documented attributes.
UNDOCUMENTED = {"opportunity": {"healthCategory", "healthScore", "mapNumberOfOverdueTasks"}}


def _read_include(table: Table, text: str) -> tuple[tuple[str, ...], ...]:
    """Read the paths of relationships, such as ``account.owner``."""
    paths = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    for path in paths:
        resource = table.resource
        for name in path.split("."):
            relationship = resource.relationship_by_name.get(name)
            if relationship is None:
                raise bad_parameter("include", f"'{name[:60]}' is not a relationship of {resource.type}.")
            if relationship.way_back is not None:
                raise bad_parameter("include", f"'{name}' has links only and cannot be included.")
            if relationship.type not in RESOURCES:
                raise bad_parameter("include", f"'{name}' cannot be included here.")
            resource = RESOURCES[relationship.type]
    return tuple(tuple(path.split(".")) for path in paths)


def _read_sort(table: Table, text: str) -> tuple[SortTerm, ...]:
    terms: dict[str, SortTerm] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name = word.removeprefix("-")
        if name == "id":
            terms.setdefault(name, SortTerm("id", f"{table.name}.id", word.startswith("-")))
            continue
        attribute = table.resource.by_name.get(name)
        if attribute is None or not attribute.sortable:
            raise bad_parameter("sort", f"'{name[:60]}' is not sortable.")
        terms.setdefault(name, SortTerm(name, f'{table.name}."{attribute.column}"', word.startswith("-")))
    return tuple(terms.values())


def _sort_words(sort: Sequence[SortTerm]) -> list[str]:
    return [f"-{term.name}" if term.descending else term.name for term in sort]


def _read_number(name: str, page: dict[str, str], default: int, low: int, high: int) -> int:
    text = page.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise bad_parameter(f"page[{name}]", f"page[{name}] is an integer from {low} to {high:,}.")
    return int(text)


def _read_cursor(page: dict[str, str], sort: tuple[SortTerm, ...]) -> Cursor | None:
    for name in ("after", "before"):
        text = page.get(name)
        if text is not None:
            return _decode_cursor(name, text, sort)
    return None


def _decode_cursor(name: str, text: str, sort: tuple[SortTerm, ...]) -> Cursor:
    try:
        plain = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
        values, key = tuple(plain["sv"]), plain["id"]
        fits = plain["sp"] == _sort_words(sort) and len(values) == len(sort) and plain["v"] == 1
        fits = fits and type(key) is int and all(_is_scalar(value) for value in (key, *values))
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise bad_parameter(f"page[{name}]", "This cursor does not belong to this request.")
    return Cursor(values, key, name == "before")


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable() or value.encode("utf-8", "ignore").decode() == value
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
