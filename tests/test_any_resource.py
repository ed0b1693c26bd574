"""Any resource as the service describes itself: pages and frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW
from opp_pandas import errors
from opp_pandas.api.description import describe, parse_schema
from opp_pandas.resource import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

FLAGS = {"filterable": True, "sortable": False}
WIDGET: dict[str, Any] = {
    "definitions": {
        "score": {**FLAGS, "type": "number", "format": "float"},
        "count": {**FLAGS, "type": "number", "format": "integer", "readOnly": True},
        "labels": {"type": "array", "items": {"type": "string"}},
        "duties": {**FLAGS, "type": "object"},
        "email": {**FLAGS, "type": "string", "format": "email"},
        "maker": {"data": True, "links": True, "readOnly": True, "anyOf": [{"$ref": "#/definitions/user"}]},
        "parts": {"data": True, "links": True, "type": "array", "items": {"$ref": "#/definitions/part"}},
        "makerId": {**FLAGS, "type": "number", "format": "integer"},
    },
    "links": [{"rel": "self", "href": "/api/v2/widgets/{:id}"}, {"rel": "instances", "href": "/api/v2/widgets"}],
}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with opp.sandbox(opportunities=40, seed=5, now=NOW) as made:
        yield made


@pytest.fixture
def client(box: Sandbox) -> Iterator[Client]:
    with box.client() as made:
        yield made


def test_description__says_what_the_resource_table_says(client: Client) -> None:
    """Kinds, flags, relationships and addresses of every resource, through the service's own form."""
    for resource in RESOURCES.values():
        told = client.describe(resource.path)
        assert (told.type, told.path) == (resource.type, resource.path)
        for entry in resource.attributes:
            own = told.by_name[entry.name]
            listed = entry.kind == "tags"
            assert (own.kind, own.filterable, own.sortable, own.read_only) == (
                entry.kind, *((False, False, False) if listed else (entry.filterable, entry.sortable, entry.read_only))
            )  # fmt: skip
        for link in resource.relationships:
            shown = told.relationship_by_name[link.name]
            assert (shown.type, shown.to_many, shown.read_only) == (link.type, link.to_many, link.read_only)


def test_frame__holds_what_every_record_holds(client: Client) -> None:
    """Cell by cell as the pages have it, with the dtypes that the description and /types state."""
    for name in ("users", "opportunities", "roles"):
        frame = client.read_frame(name)
        records = [record for page in client.pages(name) for record in page.document["data"]]
        assert frame["id"].tolist() == [record["id"] for record in records]
        for record, row in zip(records, frame.to_dict("records"), strict=True):
            for link, target in record["relationships"].items():
                data = target.get("data")
                if isinstance(data, list):
                    assert list(row[f"{opp_name(link)[:-1]}_ids"]) == [one["id"] for one in data]
                elif data is not None:
                    assert row[f"{opp_name(link)}_id"] == data["id"]
            assert row["created_at"] == pd.Timestamp(record["attributes"]["createdAt"])
    deals = client.read_frame("opportunity")
    assert deals.dtypes[["custom7", "custom5", "custom8", "amount", "close_date"]].astype(str).tolist() == [
        "Int64", "boolean", "Int64", "Int64", "datetime64[us, UTC]"
    ]  # fmt: skip
    assert deals.attrs["labels"]["custom7"] == "Seats"
    assert "custom99" not in deals.columns


def opp_name(name: str) -> str:
    """A name in snake_case, written once more."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_frame__filters_sorts_and_stops_at_the_service(client: Client, box: Sandbox) -> None:
    """As iter_pages does; names that the service does not know are refused with the way out."""
    frame = client.read_frame("roles", filter={"parent_role": [2, 3]}, sort="-name", fields=["name"], limit=3)
    assert frame.columns.tolist() == ["id", "name"] or "parent_role_id" in frame.columns
    assert frame["name"].tolist() == sorted(frame["name"], reverse=True)
    assert len(frame) == 3
    start = len(box.requests)
    client.read_frame("teams")
    assert [request.path for request in box.requests[start:]] == ["/api/v2/teams"], "the description is read once"
    for name, words in (("rols", "did you mean 'roles'"), ("nonsense", "there are")):
        with pytest.raises(errors.ConfigurationError, match=words):
            client.pages(name)
    with pytest.raises(errors.ConfigurationError, match="nothing called 'color'"):
        client.read_frame("roles", filter={"color": "red"})


def test_frame__of_what_nobody_foresaw(box: Sandbox, client: Client) -> None:
    """Fractions, objects, unknown attributes, wrong kinds, colliding names: typed, kept, or missing and said."""
    records = [
        {
            "type": "widget",
            "id": 4,
            "attributes": {"score": 1.5, "count": "x", "duties": {"a": 1}, "email": "a@b", "makerId": 3, "new": [1]},
            "relationships": {"maker": {"data": {"type": "plugin", "id": 8}}, "parts": {"data": [{"id": 2}]}},
        },
        {"type": "widget", "id": "5", "attributes": {"score": 2, "labels": ["x"]}, "relationships": {"maker": {}}},
    ]
    box.fail(200, path="/schema.json", body=json.dumps({"definitions": {"widget": WIDGET}}).encode())
    box.fail(200, path="/widgets", body=json.dumps({"data": records}).encode())
    frame = client.read_frame("widgets")
    assert frame["score"].tolist() == [1.5, 2.0]
    assert frame["count"].isna().all()
    assert frame["maker_id"].tolist()[0] == 3
    assert frame["maker.id"].tolist()[0] == 8
    assert frame["part_ids"].tolist() == [(2,), ()]
    assert frame["new"].tolist()[0] == [1]
    assert frame["duties"].tolist()[0] == {"a": 1}
    assert frame["id"].tolist() == [4, 5]
    said = " ".join(frame.attrs["notes"])
    assert "count: 1 values are no integer" in said
    assert "maker: some point to 'plugin'" in said


def test_frame__of_records_without_ids_or_with_an_attribute_of_that_name(box: Sandbox, client: Client) -> None:
    """The record's own id stands; what has none that can be used is counted, and none at all is an error."""
    fine = {"type": "role", "id": 4, "attributes": {"id": 7, "name": "x"}}
    fine["relationships"] = {"parentRole": {"data": {"type": "role", "id": "a-1"}}, "users": [1]}
    strange = [{"type": "role", "id": "a-1"}, {"type": "role"}, None, {"type": "role", "id": 5, "attributes": [1]}]
    box.fail(200, path="/roles", body=json.dumps({"data": [fine, *strange]}).encode())
    frame = client.read_frame("roles")
    assert frame[["id", "attribute_id", "name"]].values.tolist() == [[4, 7, "x"]]
    assert frame["parent_role_id"].isna().all()
    assert frame.attrs["notes"] == ["4 records that cannot be read, or have no usable id, were left out"]
    box.fail(200, path="/roles", body=json.dumps({"data": strange[:2]}).encode())
    with pytest.raises(errors.DocumentError, match="none of 2 records is a role with a whole number above 0 as its id"):
        client.read_frame("roles")


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"definitions": 3}'])
def test_description__that_is_none_is_refused(body: bytes) -> None:
    """A DocumentError, whatever came."""
    with pytest.raises(errors.DocumentError):
        parse_schema(body)


def test_description__without_an_address_is_refused() -> None:
    """Nothing lists it, so nothing is guessed."""
    with pytest.raises(errors.ConfigurationError, match="no address"):
        describe({"part": {"definitions": {}}}, "part")
    for wrong in (None, 7):
        with pytest.raises(errors.ConfigurationError, match="no resource"):
            describe({"part": {"definitions": {}}}, wrong)  # type: ignore[arg-type]
