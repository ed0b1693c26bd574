"""Any resource as the service itself describes it: its hyper-schema, ``/schema.json``."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, DocumentError, named
from opp_pandas.resource import Attribute, Relationship, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KINDS = {"date-time": "instant", "integer": "integer", "float": "number"}


def parse_schema(body: bytes) -> dict[str, Any]:
    """Parse the service's description of itself; return what it defines, by type."""
    try:
        definitions = json.loads(body)["definitions"]
    except (ValueError, TypeError, KeyError):
        definitions = None
    if not isinstance(definitions, dict):
        raise DocumentError("/schema.json was expected to define types", pointer="/definitions")
    return definitions


def describe(definitions: Mapping[str, Any], name: str) -> Resource:
    """Build a resource from the service's description, by type or by the last part of its address.

    Attributes have their kinds and flags. Which filters on related records there are is not
    described: those by id are taken as possible. What is not described, or cannot be listed,
    is a ConfigurationError.
    """
    paths = {kind: _path(entry) for kind, entry in definitions.items()}
    listed = {path: kind for kind, path in paths.items() if path is not None}
    kind = name if name in paths else listed.get(name)
    if kind is None:
        close = difflib.get_close_matches(str(name), [*paths, *listed], 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {named(sorted(paths), 60)}"
        raise ConfigurationError(f"the service describes no resource {name!r}{hint}")
    path = paths[kind]
    if path is None:
        raise ConfigurationError(f"the service describes {kind}, but no address that lists it")
    members = definitions[kind].get("definitions") or {}
    return Resource(
        kind,
        path,
        tuple(_attribute(name, entry) for name, entry in members.items() if not _is_relationship(entry)),
        tuple(_relationship(name, entry) for name, entry in members.items() if _is_relationship(entry)),
    )


def _path(entry: Any) -> str | None:
    links = entry.get("links") if isinstance(entry, dict) else None
    hrefs = (str(link.get("href")) for link in links or () if link.get("rel") == "instances")
    return next((href.rstrip("/").rsplit("/", 1)[-1] for href in hrefs), None)


def _is_relationship(entry: Mapping[str, Any]) -> bool:
    return "data" in entry and "links" in entry


def _attribute(name: str, entry: Mapping[str, Any]) -> Attribute:
    items = entry.get("items")
    kind = _KINDS.get(str(entry.get("format"))) or {"string": "text", "number": "number"}.get(str(entry.get("type")))
    if kind is None and isinstance(items, dict) and items.get("type") == "string":
        kind = "tags"
    if entry.get("type") == "boolean":
        kind = "boolean"
    filterable, sortable, read_only = (entry.get(key) is True for key in ("filterable", "sortable", "readOnly"))
    return Attribute(name, kind or "object", "", filterable=filterable, sortable=sortable, read_only=read_only)


def _relationship(name: str, entry: Mapping[str, Any]) -> Relationship:
    target = next(_references(entry), "")
    return Relationship(
        name, target, "", None, ("id",), entry.get("readOnly") is True, to_many=entry.get("type") == "array"
    )


def _references(entry: Mapping[str, Any]) -> Iterator[str]:
    """Find the type that a relationship points to."""
    for one in (entry, entry.get("items"), *(entry.get("anyOf") or ())):
        if isinstance(one, dict) and "$ref" in one:
            yield str(one["$ref"]).rsplit("/", 1)[-1]
