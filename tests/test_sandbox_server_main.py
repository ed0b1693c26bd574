"""The sandbox over real HTTP, by a plain requests session: the operations of each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opp_pandas.resource import OPPORTUNITY, RESOURCES
from opp_pandas.sandbox_handle import sandbox
from sandbox_server_calls import MEDIA_TYPE, Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api() -> Iterator[Api]:
    """A sandbox of sixty deals at a fixed moment."""
    yield from opened(sandbox(opportunities=60, seed=4, now="2026-09-01T08:00:00Z"))


def test_get_one__carries_all_attributes_and_relationships(api: Api) -> None:
    """One record has the 176 attributes and seven relationships of the table."""
    data = api.get("/opportunities/1")["data"]
    assert (data["type"], data["id"]) == ("opportunity", 1)
    assert {entry.name for entry in OPPORTUNITY.attributes} <= data["attributes"].keys()
    assert data["relationships"].keys() == {entry.name for entry in OPPORTUNITY.relationships}
    assert data["relationships"]["stage"] == data["relationships"]["opportunityStage"]
    assert data["relationships"]["prospects"]["links"]["related"] == (
        f"{api.box.url}/prospects?filter%5Bopportunities%5D%5Bid%5D=1"
    )
    assert data["links"]["self"] == f"{api.box.url}/opportunities/1"


def test_every_resource__is_served_as_the_table_says(api: Api) -> None:
    """Each resource's collection and records have exactly the attributes of its table."""
    hook = {"url": "http://127.0.0.1:9/", "resource": "*", "action": "*", "active": False}
    assert api.call("POST", "/webhooks", edit("webhook", hook)).status_code == 201
    for kind, resource in RESOURCES.items():
        row = api.rows(path=f"/{resource.path}")[-1]
        one = api.get(f"/{resource.path}/{row['id']}")["data"]
        assert one == row
        assert one["type"] == kind
        assert set(resource.by_name) <= one["attributes"].keys()
        assert one["relationships"].keys() == resource.relationship_by_name.keys()


def test_life_of_a_record__is_201_200_204_404(api: Api) -> None:
    """A record is created, read, changed, removed and then gone."""
    made = api.call(
        "POST",
        "/opportunities",
        edit(
            "opportunity",
            {"name": "Acme renewal", "amountPrecise": "5000.50", "tags": ["q4"], "closeDate": "2026-12-11T12:00:00Z"},
            {"owner": ("user", 2)},
        ),
    )
    assert made.status_code == 201
    assert made.headers["Content-Type"] == MEDIA_TYPE
    data = made.json()["data"]
    path = f"/opportunities/{data['id']}"
    assert made.headers["Location"] == f"{api.box.url}{path}"
    assert api.get(path)["data"] == data
    assert data["attributes"]["closeDate"] == "2026-12-11T12:00:00.000Z"

    change = edit("opportunity", {"probability": 75, "nextStep": None}, {"owner": None}, data["id"])
    changed = api.call("PATCH", path, change)
    assert changed.status_code == 200
    after = changed.json()["data"]
    moved = {"probability": 75, "updatedAt": after["attributes"]["updatedAt"]}
    assert after["attributes"] == data["attributes"] | moved
    assert after["relationships"]["owner"] == {"data": None}

    removed = api.call("DELETE", path)
    assert (removed.status_code, removed.content) == (204, b"")
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", change)):
        gone = api.call(method, path, body)
        assert gone.status_code == 404
        assert gone.json() == {
            "errors": [
                {
                    "id": "resourceNotFound",
                    "title": "Resource Not Found",
                    "detail": f"Could not find 'opportunity' with ID '{data['id']}'.",
                }
            ]
        }


def test_ids__are_never_given_twice(api: Api) -> None:
    """The id of a deleted record does not come back."""
    first = api.create({"name": "A"})["id"]
    assert api.call("DELETE", f"/opportunities/{first}").status_code == 204
    assert api.create({"name": "B"})["id"] == first + 1


def test_patch__leaves_what_is_absent_and_replaces_tags(api: Api) -> None:
    """Absent members stay, tags are replaced as a list, an empty list stays a list."""
    made = api.create({"name": "A", "tags": ["a", "b"], "description": "x"}, account=("account", 1))
    for tags in (["b", "c"], [], None):
        after = api.call("PATCH", f"/opportunities/{made['id']}", edit("opportunity", {"tags": tags}, key=made["id"]))
        data = after.json()["data"]
        assert data["attributes"]["tags"] == tags
        assert data["attributes"]["description"] == "x"
        assert data["relationships"]["account"]["data"] == {"type": "account", "id": 1}


def test_updated_at__moves_with_a_change_and_only_then() -> None:
    """An edit that says nothing new leaves updatedAt and updater alone."""
    from datetime import UTC, datetime, timedelta

    moments = [datetime(2026, 9, 1, tzinfo=UTC)]
    for api in opened(sandbox(opportunities=1, now=lambda: moments[-1])):
        before = api.get("/opportunities/1")["data"]["attributes"]
        moments.append(moments[-1] + timedelta(minutes=5))
        same = api.call("PATCH", "/opportunities/1", edit("opportunity", {"name": before["name"]}, key=1)).json()
        assert same["data"]["attributes"] == before
        moved = api.call("PATCH", "/opportunities/1", edit("opportunity", {"name": "New"}, key=1)).json()
        assert moved["data"]["attributes"]["updatedAt"] == "2026-09-01T00:05:00.000Z"
        assert moved["data"]["relationships"]["updater"]["data"] == {"type": "user", "id": 1}


@pytest.mark.parametrize(
    ("sent", "amount", "exact"),
    [
        ({"amountPrecise": "12.50"}, 13, "12.50"),
        ({"amountPrecise": "12.49"}, 12, "12.49"),
        ({"amount": 70}, 70, "70.00"),
        ({"amount": 1, "amountPrecise": "9.99"}, 10, "9.99"),
        ({"amount": None}, None, None),
        ({"amountPrecise": None}, None, None),
        ({"amount": 10**14}, 10**14, None),
        ({}, 5, "5.00"),
    ],
)
def test_amounts__stay_one_figure(api: Api, sent: dict[str, object], amount: object, exact: object) -> None:
    """Whole and exact amount follow each other."""
    key = api.create({"name": "A", "amount": 5})["id"]
    answer = api.call("PATCH", f"/opportunities/{key}", edit("opportunity", sent, key=key))
    attributes = answer.json()["data"]["attributes"]
    assert (attributes["amount"], attributes["amountPrecise"]) == (amount, exact)


def test_stages__can_be_made_moved_and_removed_while_empty(api: Api) -> None:
    """A stage with deals in it cannot be removed: 409."""
    made = api.call("POST", "/opportunityStages", edit("opportunityStage", {"name": "Pilot"})).json()["data"]
    assert made["attributes"]["isClosed"] is False
    path = f"/opportunityStages/{made['id']}"
    renamed = api.call("PATCH", path, edit("opportunityStage", {"order": 3, "color": "#fff"}, key=made["id"]))
    assert renamed.json()["data"]["attributes"]["order"] == 3
    deal = api.create({"name": "A"}, opportunityStage=("opportunityStage", made["id"]))
    assert deal["relationships"]["stage"]["data"] == {"type": "opportunityStage", "id": made["id"]}
    refused = api.call("DELETE", path)
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["id"] == "resourceConflict"
    assert api.call("DELETE", f"/opportunities/{deal['id']}").status_code == 204
    assert api.call("DELETE", path).status_code == 204


def test_prospect_roles__link_people_to_deals(api: Api) -> None:
    """A role is seen from both sides, and goes with its deal."""
    deal = api.create({"name": "A"})["id"]
    document = edit(
        "opportunityProspectRole",
        {"role": "Champion", "primary": True},
        {"opportunity": ("opportunity", deal), "prospect": ("prospect", 3)},
    )
    role = api.call("POST", "/opportunityProspectRoles", document)
    assert role.status_code == 201
    key = role.json()["data"]["id"]
    assert api.ids(f"filter[opportunity][id]={deal}", "/opportunityProspectRoles") == [key]
    assert api.ids(f"filter[opportunities][id]={deal}", "/prospects") == [3]
    assert deal in api.ids("filter[prospects][id]=3")
    assert api.call("DELETE", f"/opportunities/{deal}").status_code == 204
    assert api.call("GET", f"/opportunityProspectRoles/{key}").status_code == 404


def test_types__names_the_custom_fields_that_are_set_up(api: Api) -> None:
    """``/types`` has every slot of an opportunity, with labels where one is set up."""
    opportunity = next(entry for entry in api.get("/types")["data"] if entry["type"] == "Opportunity")
    validations = opportunity["meta"]["validations"]
    assert len(validations) == 150
    assert validations["custom1"] == {
        "type": "inclusion",
        "required": False,
        "label": "Region",
        "definition": ["EMEA", "AMER", "APAC", "LATAM"],
    }
    assert validations["custom150"]["label"] is None


def test_small_addresses__are_there(api: Api) -> None:
    """Prospects' stages are an empty collection, and the root says who asks."""
    assert api.get("/stages") == {"data": []}
    assert api.get("")["meta"]["user"] == 1
    assert api.call("GET", "/nothing").status_code == 404
    assert api.call("GET", "/opportunities/abc").status_code == 404
    assert api.call("GET", f"/opportunities/{'9' * 400}").status_code == 404
    wrong = api.call("PUT", "/opportunities")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert api.call("POST", "/accounts", edit("account", {"name": "A"})).status_code == 405
    assert api.call("DELETE", "/users/1").status_code == 405
