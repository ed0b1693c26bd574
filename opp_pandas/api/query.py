"""Queries in Python words, written in the service's newer filter syntax.

What the service cannot filter or sort is refused here, before any request, with
the way to do it in pandas. Names may be columns (``updated_at``) or the API's
(``updatedAt``).
"""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named, printable
from opp_pandas.instants import parse_moment
from opp_pandas.kinds import INSTANTS, KINDS, TEXT, is_missing
from opp_pandas.resource import LOOKUP_COLUMNS, OPPORTUNITY, RESOURCES, Attribute, Resource, snake_case

DEFAULT_SORT = "id"
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 250, 1_000
MAX_VALUES, MAX_LIST_CHARACTERS = 100, 4_000

# Without these a frame could not be edited and written back: the id of the
# three relationships, and what tells a newer copy of a row from an older one.
NEEDED = {"opportunity": ("updatedAt", "owner", "account", "opportunityStage")}

# Names are what an included resource is asked for; an account alone has some 200 attributes.
INCLUDED_FIELDS = {
    "opportunityStage": ("name", "order", "isClosed"),
    "user": ("name", "firstName", "lastName", "email"),
    "account": ("name",),
    "territory": ("name",),
    "role": ("name",),
    "prospect": ("name", "firstName", "lastName"),
}

_NULL, _NOT_NULL = "__null__", "__notnull__"


class _NotNull:
    """The test that a value is there; see `NOT_NULL`.

    Examples
    --------
    >>> known = opp.read_opportunities(client, filter={"custom_id": opp.NOT_NULL}, stages=stages)
    >>> int(known["custom_id"].isna().sum())
    0
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "opp.NOT_NULL"

    def __reduce__(self) -> str:
        return "NOT_NULL"


NOT_NULL: Final = _NotNull()
"""In a filter: the value must be there, as ``{"custom_id": opp.NOT_NULL}``."""

Parameters = list[tuple[str, str]]
LISTS = (list, set, frozenset, range, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)
"""What counts as a list of values in a condition; a tuple is a range."""


@dataclass(frozen=True)
class Query:
    """What is asked of a collection, in Python words.

    Parameters
    ----------
    filter : mapping
        Column or API name to a value, a list of values (any of them), a range
        ``(from, to)`` with both ends in it and None for an open one, None
        (missing) or `NOT_NULL`. A day without a time is the whole day.
        Relationships by id: ``owner``, ``stage``, ``account``, ``prospects``;
        also ``account.name``.
    sort : str or sequence of str, optional
        Names, with ``-`` before those that descend. Left out: by id, the order
        that rows changing meanwhile do not disturb.
    fields : iterable of str, or mapping of type to iterable, optional
        Only these attributes; relationships that are needed are always added.
    include : iterable of str
        Related resources to send along: stage, owner, account, creator, updater.
    page_size : int, optional
        Rows per page, 1 to 1,000; left out: the client's.
    count : bool, default False
        Whether to have the rows counted.
    authorization_meta, data_connections : bool, default False
        Whether to ask for what the user may edit, and for outside records.
    """

    filter: Mapping[str, Any] = field(default_factory=dict)
    sort: str | Sequence[str] | None = None
    fields: Iterable[str] | Mapping[str, Iterable[str]] | None = None
    include: Iterable[str] = ()
    page_size: int | None = None
    count: bool = False
    authorization_meta: bool = False
    data_connections: bool = False

    def texts(
        self, resource: Resource = OPPORTUNITY, *, page_size: int = DEFAULT_PAGE_SIZE, timezone: str | None = None
    ) -> tuple[str, ...]:
        """Build the query strings, without ``?``; more than one where a list is too long for one request.

        What cannot be asked for is a ConfigurationError that says what to do in pandas.

        Examples
        --------
        >>> Query({"owner": [7, 9]}, page_size=2).texts()
        ('newFilterSyntax=true&filter%5Bowner%5D%5Bid%5D%5B%5D=7&filter%5Bowner%5D%5Bid%5D%5B%5D=9&sort=id&page%5Bsize%5D=2&count=false',)
        """
        size = page_size if self.page_size is None else self.page_size
        if not 1 <= _whole(size, "page_size") <= MAX_PAGE_SIZE:
            raise ConfigurationError(f"page_size is 1 to {MAX_PAGE_SIZE:,}, not {size}")
        tail: Parameters = [("sort", ",".join(sort_names(self.sort, resource)))]
        tail += self._shape(resource)
        tail += [("page[size]", str(size)), ("count", "true" if self.count else "false")]
        variants = _filter_parameters(resource, self.filter or {}, timezone)
        return tuple(encode([("newFilterSyntax", "true"), *part, *tail] if part else tail) for part in variants)

    def text_of_one(self, resource: Resource = OPPORTUNITY) -> str:
        """Build the query string of a single record: what shapes a collection is left out."""
        return encode(self._shape(resource))

    def _shape(self, resource: Resource) -> Parameters:
        """Build the parameters that shape a resource in the answer, single or in a collection."""
        included = include_names(self.include, resource)
        parameters: Parameters = [
            (f"fields[{kind}]", ",".join(names)) for kind, names in field_names(self.fields, resource, included)
        ]
        if included:
            parameters.append(("include", ",".join(included)))
        if self.authorization_meta:
            parameters.append(("provideAuthorizationMeta", "true"))
        if self.data_connections:
            parameters.append(("provideDataConnections", "true"))
        return parameters


def encode(parameters: Parameters) -> str:
    """Write parameters as a query string, every character outside letters, digits and ``-._~`` encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe=',')}" for name, value in parameters)


# --- sort, include, fields ---------------------------------------------------


def sort_names(sort: str | Sequence[str] | None, resource: Resource = OPPORTUNITY) -> list[str]:
    """Return the API names to sort by, with ``-`` where it descends; refuse what cannot be sorted."""
    if sort is None:
        return [DEFAULT_SORT]
    wanted = sort.split(",") if isinstance(sort, str) else list(sort) if isinstance(sort, Iterable) else [sort]
    if not wanted:
        return [DEFAULT_SORT]
    names = []
    for item in wanted:
        name = str(item).strip()
        sign, bare = ("-", name[1:]) if name.startswith("-") else ("", name)
        if bare == "id":
            names.append(f"{sign}id")
            continue
        attribute = _attribute(bare, resource)
        if attribute is None or not attribute.sortable:
            known = [entry.column for entry in resource.attributes if entry.sortable]
            # What is none of the service's names may be a label, and then it is the column's name as it stands.
            column = bare if attribute is None else attribute.column
            raise ConfigurationError(
                f"the service cannot sort by {named([bare])}{_did_you_mean(bare, known)} "
                f"Sort in pandas instead: df.sort_values({printable(repr(column), 80)}). "
                f"It can sort by {named(['id', *known], 30)}"
            )
        names.append(f"{sign}{attribute.name}")
    return names


def include_names(include: Iterable[str] | None, resource: Resource = OPPORTUNITY) -> list[str]:
    """Return the API names of the relationships to include: ``stage`` is ``opportunityStage``."""
    if isinstance(include, str):
        include = include.split(",")
    names: list[str] = []
    for item in include or ():
        wanted = str(item).strip()
        first, dot, rest = wanted.partition(".")
        if dot:
            names += [f"{name}.{rest}" for name in include_names(first, resource)]
            include_names(rest, RESOURCES[_type_at(names[-1].split(".")[:1], resource)])
            continue
        name = _relationship_name(wanted, resource)
        if name == "stage" and resource is OPPORTUNITY:
            name = "opportunityStage"
        relationship = resource.relationship_by_name.get(name or "")
        if relationship is None or relationship.to_many:
            known = [
                _short(entry.name) for entry in resource.relationships if not entry.to_many and entry.name != "stage"
            ]
            hint = "; people on a deal come from client.prospect_roles()" if relationship else ""
            raise ConfigurationError(
                f"include= cannot name {named([wanted])}{_did_you_mean(wanted, known)} "
                f"It takes {named(known, 10)}{hint}"
            )
        names.append(relationship.name)
    return list(dict.fromkeys(names))


def _type_at(path: Sequence[str], resource: Resource) -> str:
    """Return the type at the end of a path of relationships, such as ``account.owner``."""
    *before, last = path
    for name in before:
        resource = RESOURCES[resource.relationship_by_name[name].type]
    return resource.relationship_by_name[last].type


def field_names(
    fields: Iterable[str] | Mapping[str, Iterable[str]] | None, resource: Resource, included: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Return the sparse fieldsets per type: what was asked for plus what is always needed.

    Included resources are asked for their names only, unless `fields` is a
    mapping that says otherwise.
    """
    if isinstance(fields, str):
        fields = fields.split(",")
    asked: dict[str, list[str]] = {}
    if isinstance(fields, Mapping):
        asked = {str(kind): [str(name).strip() for name in names] for kind, names in fields.items()}
        unknown = [kind for kind in asked if kind not in RESOURCES]
        if unknown:
            raise ConfigurationError(f"fields= names the type {named(unknown)}; there are {named(RESOURCES, 10)}")
    elif fields is not None:
        asked = {resource.type: [str(name).strip() for name in fields]}
    found: list[tuple[str, list[str]]] = []
    if resource.type in asked:
        names = [_field_name(name, resource) for name in asked.pop(resource.type) if name != "id"]
        first = (path.partition(".")[0] for path in included)
        found.append((resource.type, list(dict.fromkeys([*names, *first, *NEEDED.get(resource.type, ())]))))
    paths = [path.split(".") for path in included]
    steps = [path[:place] for path in paths for place in range(1, len(path) + 1)]
    types = dict.fromkeys(_type_at(step, resource) for step in steps)
    # On the way to what is included, the relationships that lead there must come.
    links = dict.fromkeys((_type_at(p[:n], resource), p[n]) for p in paths for n in range(1, len(p)))
    for kind in [*types, *(kind for kind in asked if kind not in types)]:
        other = RESOURCES.get(kind)
        if kind in asked and other is not None:
            found.append((kind, list(dict.fromkeys(_field_name(name, other) for name in asked[kind] if name != "id"))))
        elif kind in INCLUDED_FIELDS and kind != resource.type:
            found.append((kind, [*INCLUDED_FIELDS[kind], *(name for own, name in links if own == kind)]))
    return found


def _field_name(name: str, resource: Resource) -> str:
    attribute = _attribute(name, resource)
    if attribute is not None:
        return attribute.name
    relationship = _relationship_name(name.removesuffix("_name"), resource)
    if relationship is not None:
        return "opportunityStage" if relationship == "stage" else relationship
    if name.startswith("stage_") and resource is OPPORTUNITY:
        return "opportunityStage"
    known = [*resource.by_column, *resource.relationship_by_column]
    known += [_short(entry.name) for entry in resource.relationships]
    known += [entry for entry in resource.by_name if entry not in known]
    # The live service knows attributes that no page documents (healthScore): a foreign name may be right, though it
    # resembles a known one (healthCategory). Refused is only what differs by a slip of the finger.
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) is None or any(_is_slip(name, entry) for entry in known):
        raise ConfigurationError(f"{resource.type} has no field {named([name])}{_did_you_mean(name, known)}")
    return name


def _is_slip(name: str, known: str) -> bool:
    """Return whether one letter more, less, changed or swapped makes a name of another, capitals and ``_`` aside."""
    one, other = (text.replace("_", "").lower() for text in (name, known))
    one, other = sorted((one, other), key=len)
    place = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))
    if len(one) < len(other):
        return one[place:] == other[place + 1 :]
    swapped = one[place : place + 2] == other[place : place + 2][::-1] and one[place + 2 :] == other[place + 2 :]
    return len(one) == len(other) and (swapped or one[place + 1 :] == other[place + 1 :])


# --- filter ------------------------------------------------------------------


def _filter_parameters(resource: Resource, wanted: Mapping[str, Any], timezone: str | None) -> Iterator[Parameters]:
    """Build the filter's parameters, once per combination of pieces of long lists."""
    pieces: list[list[Parameters]] = []
    used: dict[str, str] = {}
    for name, value in wanted.items():
        key, attribute = filter_key(str(name), resource)
        if key in used:
            raise ConfigurationError(f"the filter names {used[key]!r} and {name!r}, which are the same; keep one")
        used[key] = str(name)
        pieces.append(list(_conditions(key, attribute, value, str(name), timezone)))
    for combination in itertools.product(*pieces):
        yield [parameter for piece in combination for parameter in piece]


def filter_key(name: str, resource: Resource = OPPORTUNITY) -> tuple[str, Attribute]:
    """Find the parameter for a column, an API name, a relationship or ``account.name``, and what its values are.

    A ConfigurationError where the service cannot filter by it.
    """
    if name == "id":
        return "filter[id]", _ID
    attribute = _attribute(name, resource)
    if attribute is not None and attribute.filterable:
        return f"filter[{attribute.name}]", attribute
    owner, _, member = name.replace("__", ".").partition(".")
    if not member and owner.endswith("_name"):
        owner, member = owner.removesuffix("_name"), "name"
    relationship = resource.relationship_by_name.get(_relationship_name(owner, resource) or "")
    if relationship is not None:
        # The documented filters name the read-only twin `stage`, never opportunityStage.
        if relationship.name == "opportunityStage" and "stage" in resource.relationship_by_name:
            relationship = resource.relationship_by_name["stage"]
        if (member or "id") in relationship.filter_keys:
            return f"filter[{relationship.name}][{member or 'id'}]", _ID if (member or "id") == "id" else _NAME
    raise ConfigurationError(_not_filterable(name, attribute, relationship is not None, member, resource))


_ID = Attribute("id", "integer", "id")
_NAME = Attribute("name", "text", "name")


def _not_filterable(name: str, attribute: Attribute | None, related: bool, member: str, resource: Resource) -> str:
    known = [entry.column for entry in resource.attributes if entry.filterable]
    known += [
        _short(entry.name) + ("" if key == "id" else f".{key}")
        for entry in resource.relationships
        for key in entry.filter_keys
    ]
    if attribute is None and not related:
        return f"{resource.type} has nothing called {named([name])} to filter by{_did_you_mean(name, known)}"
    text = f"the service cannot filter by {named([name])}"
    column = _column_of(name)
    if related and member:
        base = name.replace("_name", "").split(".")[0]
        if base in known:
            later = f", or in pandas: df[df[{column!r}] == ...]" if column in LOOKUP_COLUMNS else ""
            if base == "prospects":
                later = "; read_opportunities(prospects=True) gives the ids of each deal as the column prospect_ids"
            return f"{text}: it takes ids only. Filter by {base!r}{later}"
    kind = attribute.kind if attribute is not None else "integer"
    example = {
        "instant": f"df[df[{column!r}].between(...)]",
        "tags": f"df[df[{column!r}].map(lambda tags: 'x' in (tags or ()))]",
    }.get(kind, f"df[df[{column!r}] == ...]")
    return f"{text}. Load without it and filter in pandas: {example}. It can filter by {named(['id', *known], 40)}"


def _conditions(key: str, attribute: Attribute, value: Any, name: str, timezone: str | None) -> Iterator[Parameters]:
    """Build the parameters of one condition; several alternatives where a list is too long for one request."""
    if value is NOT_NULL:
        yield [(key, _NOT_NULL)]
    elif is_missing(value):
        yield [(key, _NULL)]
    elif isinstance(value, tuple):
        yield _range(key, attribute, value, name, timezone)
    elif isinstance(value, LISTS):
        yield from _any_of(key, attribute, value, name, timezone)
    elif isinstance(value, Mapping):
        raise ConfigurationError(f"filter {name!r}: a value, a list or a range (from, to) is expected, not a mapping")
    elif attribute.kind == "instant" and (moment := parse_moment(value, timezone, f"filter {name!r}")).is_day:
        yield [(f"{key}[gte]", _instant_text(moment.first)), (f"{key}[lte]", _instant_text(moment.last))]
    else:
        yield [(key, _value_text(value, attribute, name, timezone))]


def _range(key: str, attribute: Attribute, value: tuple[Any, ...], name: str, timezone: str | None) -> Parameters:
    if len(value) != 2:
        raise ConfigurationError(
            f"filter {name!r}: a tuple is a range (from, to), so it has two members, not {len(value)}; "
            "a list means any of its values"
        )
    if attribute.kind == "boolean" or attribute is _NAME:
        raise ConfigurationError(f"filter {name!r}: a range makes no sense here; give a value or a list")
    low, high = value
    if is_missing(low) and is_missing(high):
        raise ConfigurationError(
            f"filter {name!r}: one end of a range must be given; to test for a value use opp.NOT_NULL"
        )
    parameters: Parameters = []
    bounds: list[Any] = []
    for suffix, end in (("gte", low), ("lte", high)):
        if is_missing(end):
            continue
        text = _value_text(end, attribute, name, timezone, last=suffix == "lte")
        parameters.append((f"{key}[{suffix}]", text))
        bounds.append(KINDS.get(attribute.kind, TEXT).read(text, None))
    if len(bounds) == 2 and attribute.kind != "text" and bounds[0] > bounds[1]:
        raise ConfigurationError(f"filter {name!r}: the range begins after it ends, so nothing could fit; swap the two")
    return parameters


def _any_of(
    key: str, attribute: Attribute, values: Iterable[Any], name: str, timezone: str | None
) -> Iterator[Parameters]:
    items = list(values)
    if not items:
        raise ConfigurationError(f"filter {name!r}: an empty list fits no row; leave the filter out to load all")
    if any(item is NOT_NULL or is_missing(item) for item in items):
        raise ConfigurationError(
            f"filter {name!r}: the service cannot look for values and missing ones at once; "
            "make two loads and pd.concat them"
        )
    if attribute.kind == "instant" and any(parse_moment(item, timezone, f"filter {name!r}").is_day for item in items):
        raise ConfigurationError(f"filter {name!r}: a list of days is no range; give (first, last), both included")
    texts = list(dict.fromkeys(_value_text(item, attribute, name, timezone) for item in items))
    piece: Parameters = []
    characters = 0
    for text in texts:
        length = len(quote(text, safe=""))
        if piece and (len(piece) == MAX_VALUES or characters + length > MAX_LIST_CHARACTERS):
            yield piece
            piece, characters = [], 0
        piece.append((f"{key}[]", text))
        characters += length
    yield piece


def _value_text(value: Any, attribute: Attribute, name: str, timezone: str | None, *, last: bool = False) -> str:
    if attribute.kind == "integer":
        return str(_whole(value, f"filter {name!r}"))
    # Services describe kinds that this package does not have: what they filter by is text.
    kind = KINDS.get(attribute.kind, TEXT)
    if kind not in (TEXT, INSTANTS):
        if not kind.fits(value):
            raise ConfigurationError(f"filter {name!r}: {printable(repr(value), 60)} {kind.rule}")
        return kind.show(kind.read_cell(value), None)
    if kind is INSTANTS:
        moment = parse_moment(value, timezone, f"filter {name!r}")
        return _instant_text(moment.last if last else moment.first)
    if not isinstance(value, str):
        raise ConfigurationError(f"filter {name!r}: text is expected, not {printable(repr(value), 60)}")
    if value in (_NULL, _NOT_NULL):
        raise ConfigurationError(
            f"filter {name!r}: the service reads {value} as a test; use None or opp.NOT_NULL for it"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        problem = f"filter {name!r}: the text holds half a character (a lone surrogate), which cannot be sent"
    else:
        return value
    raise ConfigurationError(problem)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        problem = f"{what}: a whole number is expected, not {printable(repr(value), 60)}"
    raise ConfigurationError(problem)


# --- days and instants -------------------------------------------------------


def settle_filter(wanted: Mapping[str, Any] | None, zone: str | None) -> dict[str, Any]:
    """Turn days into instants of a zone and ids into numbers, so that a filter means the same wherever it is used.

    Examples
    --------
    >>> settle_filter({"updated_at": ("2026-01-01", None), "owner": "7"}, "America/New_York")
    {'updated_at': (datetime.datetime(2026, 1, 1, 5, 0, tzinfo=datetime.timezone.utc), None), 'owner': 7}
    """
    settled: dict[str, Any] = {}
    for name, value in (wanted or {}).items():
        kind = filter_key(str(name))[1].kind
        words = f"filter {str(name)!r}"
        if isinstance(value, tuple) and len(value) == 2:
            settled[name] = tuple(_settled(end, kind, words, zone, edge) for edge, end in enumerate(value))
        elif isinstance(value, LISTS):
            settled[name] = [_settled(item, kind, words, zone) for item in value]
        else:
            settled[name] = _settled(value, kind, words, zone)
    return settled


def _settled(value: Any, kind: str, words: str, zone: str | None, edge: int | None = None) -> Any:
    if value is NOT_NULL or is_missing(value):
        return value
    if kind == "integer" and not isinstance(value, tuple | Mapping):
        return _whole(value, words)
    if kind != "instant":
        return value
    moment = parse_moment(value, zone, words)
    if moment.is_day:
        return (moment.first, moment.last) if edge is None else (moment.first, moment.last)[edge]
    # The wire filters by milliseconds; what is finer could only leave out rows that the service found.
    return moment.first.replace(microsecond=moment.first.microsecond // 1000 * 1000)


def _instant_text(moment: dt.datetime) -> str:
    # Milliseconds, cut off: the last microsecond of a day must not become the next day.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


# --- names -------------------------------------------------------------------


def _attribute(name: str, resource: Resource) -> Attribute | None:
    return resource.by_column.get(name) or resource.by_name.get(name)


def _relationship_name(name: str, resource: Resource) -> str | None:
    """Find a relationship by any of its names: owner, owner_id, ownerId, stage, opportunity_stage, prospect_ids."""
    if name in resource.relationship_by_name:
        return name
    column = snake_case(name)
    if column in resource.relationship_by_column:
        return resource.relationship_by_column[column].name
    for relationship in resource.relationships:
        base = snake_case(relationship.name)
        if column in (base, f"{base}_id", f"{base.removesuffix('s')}_ids"):
            return relationship.name
    return None


def _short(name: str) -> str:
    return "stage" if name == "opportunityStage" else name


def _column_of(name: str) -> str:
    return snake_case(name.replace(".", "_"))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {named(near)}?" if near else "."
