"""The OpenAPI description of what the sandbox serves, made from `opp_pandas.resource`."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from opp_pandas.resource import RESOURCES, Attribute, Relationship, Resource
from opp_pandas.sandbox_server.json_forms import INTEGER, TEXT, describe_filter, describe_member
from opp_pandas.sandbox_server.operations import MEDIA_TYPE
from opp_pandas.sandbox_server.selection import LARGEST_OFFSET, LARGEST_PAGE, UNDOCUMENTED
from opp_pandas.sandbox_server.store import TABLES

Schema = dict[str, Any]

KEPT = ("user",)
"""The resources that can be written but not deleted, as the service has it."""
_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_FLAG: Schema = {"type": "string", "enum": ["true", "false"]}
_SECURITY: Schema = {
    "bearerAuth": {"type": "http", "scheme": "bearer", "description": "A user's token, by OAuth 2.0."},
    "s2sAuthToken": {"type": "http", "scheme": "bearer", "description": "An app's token in one organisation."},
}
_FAILURES = (400, 403, 404, 406, 413, 415, 422, 429, 503)


def describe(url: str, writable: Iterable[str]) -> Schema:
    """Return the OpenAPI 3.1 document; the types `writable` can be created, changed and deleted."""
    paths: Schema = {}
    schemas: Schema = {"Errors": _ERRORS, "GatewayError": _GATEWAY_ERROR}
    for resource in RESOURCES.values():
        schemas |= _resource_schemas(resource)
        paths |= _resource_paths(resource, resource.type in set(writable))
    for path, name, summary in (
        ("/types", "listTypes", "The custom fields that are set up"),
        ("/stages", "listProspectStages", "Prospects' stages: none here"),
    ):
        paths[path] = {"get": _operation(name, summary, 200, {"type": "object"})}
    words = "The Opportunity API as the sandbox of opp_pandas serves it."
    return {
        "openapi": "3.1.0",
        "info": {"title": "opp_pandas sandbox", "version": "2", "description": words},
        "servers": [{"url": url}],
        # Either alone will do: both travel in the same header.
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {"securitySchemes": _SECURITY, "schemas": schemas},
    }


def _resource_paths(resource: Resource, writable: bool) -> Schema:
    kind, name = resource.type, resource.type[:1].upper() + resource.type[1:]
    one, many, given = (_reference(f"{name}{suffix}") for suffix in ("Document", "Collection", "Create"))
    collection: Schema = {
        "get": _operation(f"list{name}", f"A page of {resource.path}", 200, many, _collection_parameters(resource))
    }
    record: Schema = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": _ID}],
        "get": _operation(f"get{name}", f"One {kind}", 200, one, _view_parameters(resource)),
    }
    if writable:
        collection["post"] = _operation(f"create{name}", f"Create one {kind}", 201, one, body=given)
        record["patch"] = _operation(f"update{name}", f"Change one {kind}", 200, one, body=_reference(f"{name}Update"))
        if kind not in KEPT:
            record["delete"] = _operation(f"delete{name}", f"Remove one {kind}", 204, None, more=[409])
    return {f"/{resource.path}": collection, f"/{resource.path}/{{id}}": record}


def _operation(
    name: str,
    summary: str,
    status: int,
    schema: Schema | None,
    parameters: Iterable[Schema] = (),
    *,
    body: Schema | None = None,
    more: Iterable[int] = (),
) -> Schema:
    responses: Schema = {str(status): {"description": summary}}
    if schema is not None:
        responses[str(status)]["content"] = {MEDIA_TYPE: {"schema": schema}}
    errors = {MEDIA_TYPE: {"schema": _reference("Errors")}}
    responses |= {
        str(code): {"description": HTTPStatus(code).phrase, "content": errors} for code in (*_FAILURES, *more)
    }
    gateway = {"application/json": {"schema": _reference("GatewayError")}}
    responses["401"] = {"description": "Unauthorized, in the gateway's words", "content": gateway}
    made: Schema = {"operationId": name, "summary": summary, "parameters": list(parameters), "responses": responses}
    if body is not None:
        made["requestBody"] = {"required": True, "content": {MEDIA_TYPE: {"schema": body}}}
    return made


def _collection_parameters(resource: Resource) -> list[Schema]:
    forms = {"id": INTEGER} | {entry.name: entry.form for entry in resource.attributes if entry.filterable}
    filters = {f"filter[{name}]": form for name, form in forms.items()}
    for entry in resource.relationships:
        for key in entry.filter_keys:
            filters[f"filter[{entry.name}][{key}]"] = INTEGER if key == "id" else TEXT
    sortable = ["id", *(entry.name for entry in resource.attributes if entry.sortable)]
    words = [sign + name for name in sortable for sign in ("", "-")]
    sort: Schema = {"type": "array", "items": {"type": "string", "enum": words}, "minItems": 1, "uniqueItems": True}
    return [
        *(_query(name, describe_filter(form)) for name, form in filters.items()),
        _query("page", _PAGE, style="deepObject", explode=True),
        _query("sort", sort, style="form", explode=False),
        _query("count", _FLAG),
        _query("newFilterSyntax", _FLAG),
        *_view_parameters(resource),
    ]


def _view_parameters(resource: Resource) -> list[Schema]:
    names = [*resource.by_name, *resource.relationship_by_name]
    include = [entry.name for entry in resource.relationships if entry.way_back is None and entry.type in RESOURCES]
    lists = {f"fields[{resource.type}]": names, **({"include": include} if include else {})}
    made = [
        _query(key, {"type": "array", "items": {"type": "string", "enum": words}}, style="form", explode=False)
        for key, words in lists.items()
    ]
    made += [_query(name, _FLAG) for name in dict.fromkeys(entry.parameter for entry in resource.metadata)]
    return made


def _query(name: str, schema: Schema, **more: Any) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, **more}


def _between(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _resource_schemas(resource: Resource) -> Schema:
    name = resource.type[:1].upper() + resource.type[1:]
    identity: Schema = {"type": {"type": "string", "const": resource.type}}
    written = {
        "attributes": _closed({entry.name: _written(entry) for entry in resource.attributes if not entry.read_only}),
        "relationships": _closed(
            {
                entry.name: _related(entry)
                for entry in resource.relationships
                if not entry.read_only and (not entry.to_many or entry.name in TABLES[resource.type].list_columns)
            }
        ),
    }
    needed = _REQUIRED.get(resource.type, {})
    _refuse_blanks(written, needed)
    update = _closed({**identity, "id": _ID, **written}, required=["type", "id"])
    asked = {name: schema | ({"required": needed[name]} if name in needed else {}) for name, schema in written.items()}
    create = _closed({**identity, **asked}, required=["type", *needed])
    return {
        name: _object(
            {
                **identity,
                "id": _ID,
                "attributes": _served_attributes(resource),
                "relationships": _object({entry.name: _served_relationship(entry) for entry in resource.relationships}),
                "links": _object({"self": {"type": "string"}}, required=["self"]),
                "meta": _object({entry.name: _META[entry.dtype] for entry in resource.metadata}),
            },
            required=["type", "id", "attributes", "relationships", "links"],
        ),
        f"{name}Document": _object(
            {"data": _reference(name), "included": {"type": "array", "items": {"type": "object"}}}, required=["data"]
        ),
        f"{name}Collection": _object(
            {
                "data": {"type": "array", "items": _reference(name), "maxItems": LARGEST_PAGE},
                "included": {"type": "array", "items": {"type": "object"}},
                "links": _object({key: {"type": "string"} for key in ("first", "prev", "next", "last")}),
                "meta": _object({"count": {"type": "integer"}, "count_truncated": {"type": "boolean"}}),
            },
            required=["data"],
        ),
        f"{name}Create": _object({"data": create}, required=["data"]),
        f"{name}Update": _object({"data": update}, required=["data"]),
    }


def _refuse_blanks(written: Schema, needed: dict[str, list[str]]) -> None:
    """Let what a record cannot be without be neither null nor blank, in updates too."""
    for member, names in needed.items():
        for name in names:
            schema = written[member]["properties"][name]
            if member == "attributes":
                # A pattern or a choice of its own says more.
                schema |= {"type": "string", "pattern": schema.get("pattern", r"[^\s]")}
                if "enum" in schema:
                    schema["enum"] = [word for word in schema["enum"] if word is not None]
            else:
                schema["properties"]["data"] = schema["properties"]["data"]["anyOf"][0]


def _served_attributes(resource: Resource) -> Schema:
    properties = {entry.name: _attribute(entry) for entry in resource.attributes}
    extra = UNDOCUMENTED.get(resource.type, set())
    properties |= {name: {"type": ["string", "integer", "null"]} for name in sorted(extra)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _written(entry: Attribute) -> Schema:
    """Describe an attribute as it is sent: an address that the sandbox calls is one of this machine."""
    local = {"pattern": r"^http://(127\.0\.0\.1|localhost)(:[1-9][0-9]{0,3})?/[a-z]{0,20}$"}
    return _attribute(entry) | (local if entry.name == "url" else {})


def _attribute(entry: Attribute) -> Schema:
    base: Schema = describe_member(entry.form)
    if entry.choices:
        base["enum"] = [*entry.choices, None]
    if entry.name == "amountPrecise":
        base["pattern"] = r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$"
    limits = {"maxLength": entry.max_length, "minimum": entry.minimum, "maximum": entry.maximum}
    base |= {name: value for name, value in limits.items() if value is not None}
    base["description"] = entry.meaning
    if entry.read_only:
        base["readOnly"] = True
    return base


def _related(entry: Relationship) -> Schema:
    identifier = _object({"type": {"type": "string", "const": entry.type}, "id": _ID}, required=["type", "id"])
    one: Schema = {"anyOf": [identifier, {"type": "null"}]}
    return _object({"data": {"type": "array", "items": identifier} if entry.to_many else one}, required=["data"])


def _served_relationship(entry: Relationship) -> Schema:
    if entry.way_back is None:
        # Live records were seen with nothing in a relationship to many.
        return _related(entry) | ({"required": []} if entry.to_many else {})
    return _object({"links": _object({"related": {"type": "string"}}, required=["related"])}, required=["links"])


def _closed(properties: Schema, required: Iterable[str] = ()) -> Schema:
    return _object(properties, required) | {"additionalProperties": False}


def _object(properties: Schema, required: Iterable[str] = ()) -> Schema:
    made: Schema = {"type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    return made


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PAGE: Schema = {
    "description": "By cursor: the next page stands in links.next. By offset: the older way.",
    "anyOf": [
        _closed({"size": _between(1, LARGEST_PAGE)}, ["size"]),
        _closed({"limit": _between(1, LARGEST_PAGE), "offset": _between(0, LARGEST_OFFSET)}, ["limit"]),
    ],
}
_META: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "object": {"type": "array", "items": {"type": "object"}},
}
_REQUIRED: dict[str, dict[str, list[str]]] = {
    "opportunity": {"attributes": ["name"]},
    "opportunityStage": {"attributes": ["name"]},
    "webhook": {"attributes": ["url", "resource", "action"]},
    "opportunityProspectRole": {"relationships": ["opportunity", "prospect"]},
}
_ERRORS = _object(
    {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                {
                    "id": {"type": "string"},
                    "title": {"type": "string"},
                    "detail": {"type": "string"},
                    "details": {"type": "string", "description": "the service's spelling with 415"},
                    "source": _object({"pointer": {"type": "string"}, "parameter": {"type": "string"}}),
                },
                required=["id", "title"],
            ),
        }
    },
    required=["errors"],
)
_GATEWAY_ERROR = _object(
    {"error": {"type": "string"}, "description": {"type": "string"}}, required=["error", "description"]
)
