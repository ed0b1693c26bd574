"""The sandbox's description of itself as a JSON hyper-schema, in the form of the service's own ``/schema.json``."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from opp_pandas.resource import RESOURCES, Attribute, Relationship, Resource
from opp_pandas.sandbox_server.json_forms import describe_in_hyper_schema
from opp_pandas.sandbox_server.openapi import KEPT

_DIALECT = "http://json-schema.org/draft-07/hyper-schema#"


def hyper_schema(writable: Container[str]) -> dict[str, Any]:
    """Describe every resource: attributes with flags, relationships, addresses."""
    definitions = {kind: _definition(resource, kind in writable) for kind, resource in RESOURCES.items()}
    properties = {kind: {"$ref": f"#/definitions/{kind}"} for kind in definitions}
    return {"$schema": _DIALECT, "definitions": definitions, "properties": properties, "type": "object"}


def _definition(resource: Resource, writable: bool) -> dict[str, Any]:
    members = {entry.name: _attribute(entry) for entry in resource.attributes}
    members |= {entry.name: _relationship(entry) for entry in resource.relationships}
    many, one = f"/api/v2/{resource.path}", f"/api/v2/{resource.path}/{{:id}}"
    links = [("self", "GET", one), ("instances", "GET", many)]
    if writable:
        links += [("create", "POST", many), ("update", "PATCH", one)]
        links += [] if resource.type in KEPT else [("destroy", "DELETE", one)]
    return {
        "$schema": _DIALECT,
        "definitions": members,
        "links": [{"href": href, "method": method, "rel": rel} for rel, method, href in links],
        "meta": {entry.name: {"param": entry.parameter} for entry in resource.metadata},
        "properties": {name: {"$ref": f"#/definitions/{resource.type}/definitions/{name}"} for name in members},
        "type": "object",
    }


def _attribute(entry: Attribute) -> dict[str, Any]:
    form = describe_in_hyper_schema(entry.form)
    if "items" in form:
        return {**form, "items": {"filterable": False, "sortable": False, **form["items"]}}
    read_only = {"readOnly": True} if entry.read_only else {}
    return {"filterable": entry.filterable, "sortable": entry.sortable, **read_only, **form}


def _relationship(entry: Relationship) -> dict[str, Any]:
    target = {"$ref": f"#/definitions/{entry.type}"}
    read_only = {"readOnly": True} if entry.read_only else {}
    shape: dict[str, Any] = {"type": "array", "items": target} if entry.to_many else dict(target)
    return {"data": entry.way_back is None, "links": True, **read_only, **shape}
