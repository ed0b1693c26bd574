"""The sandbox over real HTTP, by a plain requests session: the five operations and what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from opp_pandas.resource import OPPORTUNITY
from opp_pandas.sandboxing import Sandbox, sandbox

MEDIA_TYPE = "application/vnd.api+json"


class Api:
    """A requests session on a sandbox."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {box.token}"

    def call(self, method: str, path: str, document: object = None, **options: object) -> requests.Response:
        """Send one request with the right media type."""
        body = None if document is None else json.dumps(document)
        url = path if path.startswith("http") else f"{self.box.url}{path}"
        headers = {"Content-Type": MEDIA_TYPE} | dict(options.pop("headers", {}))  # type: ignore[call-overload]
        return self.session.request(method, url, data=body, headers=headers, timeout=10, **options)  # type: ignore[arg-type]

    def get(self, path: str) -> dict[str, object]:
        """Read a document that must come with 200."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def api() -> Iterator[Api]:
    """A sandbox of sixty deals at a fixed moment."""
    with sandbox(opportunities=60, seed=4, now="2026-09-01T08:00:00Z") as box:
        api = Api(box)
        yield api
        api.session.close()


def test_get_one__carries_all_attributes_and_relationships(api: Api) -> None:
    """One record has the 176 attributes and seven relationships of the table."""
    data = api.get("/opportunities/1")["data"]
    assert (data["type"], data["id"]) == ("opportunity", 1)
    assert {entry.name for entry in OPPORTUNITY.attributes} <= data["attributes"].keys()
    assert data["relationships"].keys() == {entry.name for entry in OPPORTUNITY.relationships}
    assert data["links"]["self"] == f"{api.box.url}/opportunities/1"


def test_life_of_a_record__is_201_200_204_404(api: Api) -> None:
    """A record is created, read, changed, removed and then gone."""
    attributes = {
        "name": "Acme renewal",
        "amountPrecise": "5000.50",
        "tags": ["q4"],
        "closeDate": "2026-12-11T12:00:00Z",
    }
    links = {"owner": {"data": {"type": "user", "id": 2}}}
    document = {"data": {"type": "opportunity", "attributes": attributes, "relationships": links}}
    made = api.call("POST", "/opportunities", document)
    assert made.status_code == 201
    data = made.json()["data"]
    path = f"/opportunities/{data['id']}"
    assert made.headers["Location"] == f"{api.box.url}{path}"
    assert data["attributes"]["amount"] == 5001
    assert data["attributes"]["closeDate"] == "2026-12-11T12:00:00.000Z"
    change = {
        "data": {
            "type": "opportunity",
            "id": data["id"],
            "attributes": {"probability": 75},
            "relationships": {"owner": {"data": None}},
        }
    }
    changed = api.call("PATCH", path, change)
    assert changed.status_code == 200
    assert changed.json()["data"]["attributes"] == data["attributes"] | {
        "probability": 75,
        "updatedAt": changed.json()["data"]["attributes"]["updatedAt"],
    }
    assert changed.json()["data"]["relationships"]["owner"] == {"data": None}
    removed = api.call("DELETE", path)
    assert (removed.status_code, removed.content) == (204, b"")
    gone = api.call("GET", path)
    assert gone.status_code == 404
    error = gone.json()["errors"][0]
    assert error == {
        "id": "resourceNotFound",
        "title": "Resource Not Found",
        "detail": f"Could not find 'opportunity' with ID '{data['id']}'.",
    }


def test_collection__pages_through_every_row_once(api: Api) -> None:
    """Following links.next gives each row once, in every order, also one with missing values."""
    everything = {row["id"] for row in api.get("/opportunities?page[size]=1000")["data"]}
    for sort in ("id", "closeDate", "-closeDate", "-probability,name", "amountPrecise"):
        url, seen = f"/opportunities?page[size]=7&sort={sort}", []
        while url:
            page = api.get(url)
            seen += [row["id"] for row in page["data"]]
            url = page["links"].get("next")
        assert len(seen) == 60
        assert set(seen) == everything


def test_token__is_needed() -> None:
    """Without the right token the gateway's own 401 comes."""
    with sandbox(opportunities=0) as box:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": box.token}):
            answer = requests.get(f"{box.url}/opportunities", headers=headers, timeout=10)
            assert answer.status_code == 401
            assert answer.json().keys() == {"error", "description"}
        assert box.token not in repr(box)
