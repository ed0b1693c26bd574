"""The client against a server that is not the sandbox: it sends the shapes of the service's documents, byte for byte.

The bodies are written by hand after the documents: ids are numbers, relationships
have data, links or neither, live records hold attributes that no page names,
and the errors have the published ids and titles.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.resource import PROSPECT_ROLE
from rawserver import FakeClock, RawServer, Request, bad_gateway, refusal, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = "Thu, 01 Oct 2026 10:00:00 GMT"

DEAL: dict[str, Any] = {
    "type": "opportunity",
    "id": 4711,
    "attributes": {
        "amount": 12000,
        "amountPrecise": "12000.75",
        "closeDate": "2026-11-29T23:00:00.000Z",
        "createdAt": "2026-07-01T08:30:00.000Z",
        "currencyType": "EUR",
        "custom1": "DACH",
        "custom2": "",
        "custom150": None,
        "customId": "006-4711",
        "description": None,
        "externalCreatedAt": None,
        "mapLink": None,
        "mapNextSteps": None,
        "mapStatus": None,
        "name": "Rollout phase 2",
        "nextStep": "Call the lawyer",
        "opportunityType": "Expansion",
        "probability": 40,
        "prospectingRepId": None,
        "sharingTeamId": None,
        "tags": ["fy27", "lighthouse"],
        "touchedAt": "2026-09-28T07:00:00.000Z",
        "trashedAt": None,
        "updatedAt": "2026-09-28T07:00:03.000Z",
        "healthCategory": "GREEN",
        "healthScore": 81,
    },
    "relationships": {
        "account": {"data": {"type": "account", "id": 31}},
        "creator": {"data": {"type": "user", "id": 5}},
        "opportunityStage": {"data": {"type": "opportunityStage", "id": 3}},
        "owner": {"data": {"type": "user", "id": 8}},
        "prospects": {
            "links": {"related": "https://api.outreach.io/api/v2/prospects?filter%5Bopportunities%5D%5Bid%5D=4711"}
        },
        "stage": {"data": {"type": "opportunityStage", "id": 3}},
        "updater": {"data": None},
        "primaryProspect": {},
        "favorites": {"meta": {"count": 0}},
        "dealRoom": {},
    },
    "links": {"self": "https://api.outreach.io/api/v2/opportunities/4711"},
    "meta": {"canWrite": True, "canDelete": False},
}
STAGE = {
    "type": "opportunityStage",
    "id": 3,
    "attributes": {
        "color": "#336699",
        "createdAt": "2022-02-02T10:00:00.000Z",
        "isClosed": False,
        "name": "Proof of value",
        "order": 2,
        "updatedAt": "2022-02-02T10:00:00.000Z",
    },
    "relationships": {
        "creator": {"data": {"type": "user", "id": 5}},
        "opportunities": {
            "links": {"related": "https://api.outreach.io/api/v2/opportunities?filter%5Bstage%5D%5Bid%5D=3"}
        },
    },
}
CLOSED = {"type": "opportunityStage", "id": 4, "attributes": {"isClosed": True, "name": "Closed Won", "order": 3}}
LOST = {"type": "opportunityStage", "id": 6, "attributes": {"isClosed": True, "name": "Closed Lost", "order": 4}}
OWNER = {"type": "user", "id": 8, "attributes": {"firstName": "Ada", "lastName": "Byron", "name": "Ada Byron"}}
ACCOUNT = {"type": "account", "id": 31, "attributes": {"name": "Gearworks"}}


def second_deal() -> dict[str, Any]:
    """A record of the older generation: fewer attributes, relationships with links only."""
    return {
        "type": "opportunity",
        "id": 4712,
        "attributes": {"name": "Pilot", "updatedAt": "2026-09-29T07:00:00.000Z", "tags": []},
        "relationships": {
            "owner": {"links": {"related": "https://api.outreach.io/api/v2/users/8"}},
            "account": {"data": None},
        },
    }


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as made:
        yield made


def collection(server: RawServer, *records: Any, following: str | None = None, **meta: Any) -> dict[str, Any]:
    """A page as the service forms it."""
    links = {"first": f"{server.url}/opportunities?page%5Bsize%5D=2"}
    if following:
        links["next"] = f"{server.url}/opportunities?page%5Bsize%5D=2&page%5Bafter%5D={following}"
    return {"data": list(records), "included": [STAGE, OWNER, ACCOUNT], "links": links, "meta": meta}


def connect(server: RawServer) -> opp.Client:
    return opp.connect(server.url, token="t", clock=FakeClock())


def target(request: Request) -> str:
    return f"{request.method} {request.target.partition('?')[0].removeprefix('/api/v2')}"


def test_load__reads_two_pages_and_the_stages(server: RawServer) -> None:
    """Documented, undocumented and missing members of two generations become one typed frame."""
    server.script(
        reply(200, collection(server, DEAL, following="eyJ2IjoxfQ", count=2, count_truncated=False), Date=DATE),
        reply(200, collection(server, second_deal(), count=2, count_truncated=False), Date=DATE),
        reply(200, {"data": []}, Date=DATE),
        reply(200, {"data": [STAGE, CLOSED, LOST]}, Date=DATE),
    )
    df = opp.read_opportunities(connect(server), stages=STAGES, timezone="Europe/Berlin", authorization_meta=True)
    report = df.opp.load_report
    assert report.complete
    assert df["id"].tolist() == [4711, 4712]
    first = df.loc[0]
    assert first["close_date"] == pd.Timestamp("2026-11-29T23:00:00Z")
    assert (first["amount"], first["amount_precise"], first["probability"]) == (12000, "12000.75", 40)
    assert (first["stage_name"], first["owner_name"], first["account_name"]) == (
        "Proof of value",
        "Ada Byron",
        "Gearworks",
    )
    assert (first["custom2"], first["tags"]) == ("", ["fy27", "lighthouse"])
    assert (first["health_category"], first["health_score"]) == ("GREEN", 81)
    assert bool(first["can_write"])
    assert not bool(first["can_delete"])
    assert df.loc[1, ["owner_id", "account_id", "stage_id", "amount", "updater_id"]].isna().all()
    assert set(report.unknown_attributes) == {"healthCategory", "healthScore"}
    assert set(report.unknown_relationships) == {"dealRoom"}
    assert len(df.opp.changes()) == 0
    assert df.opp.forecast(freq="M", as_of="2026-10-01").index[0] == pd.Period("2026-11"), "30 November in Berlin"
    query = server.requests[0].target
    assert "provideAuthorizationMeta=true" in query
    assert server.requests[1].target.endswith("page%5Bafter%5D=eyJ2IjoxfQ")


def test_empty_collection__has_no_links(server: RawServer) -> None:
    """``{"data": []}`` is an empty frame with every column."""
    server.script(reply(200, {"data": []}), reply(200, {"data": [STAGE]}))
    df = opp.read_opportunities(connect(server))
    assert len(df) == 0
    assert str(df["close_date"].dtype) == "datetime64[us, UTC]"


def test_write_back__sends_the_documented_body(server: RawServer) -> None:
    """PATCH names type and id, holds changed members only, moves the stage by opportunityStage, and clears by null."""
    server.script(
        reply(200, collection(server, DEAL, count=1), Date=DATE),
        reply(200, {"data": []}, Date=DATE),
        reply(200, {"data": [STAGE, CLOSED, LOST]}, Date=DATE),
    )
    df = opp.read_opportunities(connect(server), stages=STAGES)
    df.loc[0, "probability"] = 75
    df.loc[0, "next_step"] = None
    df.loc[0, "stage_name"] = "Closed Won"
    df.loc[0, "owner_id"] = pd.NA
    sent = {"probability": 75, "nextStep": None}
    after = json.loads(json.dumps(DEAL))
    after["attributes"] |= {**sent, "updatedAt": "2026-10-01T10:00:05.000Z"}
    after["relationships"] |= {
        "opportunityStage": {"data": {"type": "opportunityStage", "id": 4}},
        "owner": {"data": None},
    }
    server.script(reply(200, collection(server, DEAL)), reply(200, {"data": after}))
    report = df.opp.write_back()
    assert report.rows["status"].tolist() == ["written"]
    request = server.requests[-1]
    assert target(request) == "PATCH /opportunities/4711"
    assert request.document == {
        "data": {
            "type": "opportunity",
            "id": 4711,
            "attributes": sent,
            "relationships": {
                "opportunityStage": {"data": {"type": "opportunityStage", "id": 4}},
                "owner": {"data": None},
            },
        }
    }


def test_create_and_delete__send_and_take_the_documented_bodies(server: RawServer) -> None:
    """POST answers 201 with the record, DELETE 204 with nothing."""
    server.script(reply(201, {"data": DEAL}), reply(204))
    client = connect(server)
    answer = client.create(
        {"name": "Rollout phase 2", "closeDate": "2026-11-30T12:00:00Z", "tags": ["fy27"]},
        {"account": 31, "owner": 8, "opportunityStage": 3},
    )
    assert (answer.status, answer.data["id"]) == (201, 4711)
    assert client.delete(4711).status == 204
    body = server.requests[0].document["data"]
    assert body["type"] == "opportunity"
    assert "id" not in body
    assert body["relationships"]["opportunityStage"] == {"data": {"type": "opportunityStage", "id": 3}}
    assert [target(request) for request in server.requests] == ["POST /opportunities", "DELETE /opportunities/4711"]


def test_prospect_role__is_linked_with_the_documented_body(server: RawServer) -> None:
    """A person is put on a deal by a role of its own."""
    role = {
        "type": "opportunityProspectRole",
        "id": 1,
        "attributes": {"role": "Champion", "primary": True},
        "relationships": {
            "opportunity": {"data": {"type": "opportunity", "id": 4711}},
            "prospect": {"data": {"type": "prospect", "id": 77}},
        },
    }
    server.script(reply(201, {"data": role}))
    connect(server).link_prospect(4711, 77, role="Champion", primary=True)
    sent = server.requests[0].document["data"]
    assert sent == {key: value for key, value in role.items() if key != "id"}
    assert target(server.requests[0]) == f"POST /{PROSPECT_ROLE.path}"


def test_types__name_kind_label_and_options(server: RawServer) -> None:
    """The type is spelled with a capital letter; a slot without a label is not set up."""
    validations = {
        "custom1": {"type": "inclusion", "required": False, "label": "Market", "definition": ["DACH", "Nordics"]},
        "custom2": {"type": "string", "required": False, "label": None},
    }
    server.script(reply(200, {"data": [{"type": "Opportunity", "meta": {"validations": validations}}]}))
    (entry,) = connect(server).custom_fields()
    assert (entry.name, entry.label, entry.kind, entry.options) == (
        "custom1",
        "Market",
        "inclusion",
        ("DACH", "Nordics"),
    )


ERRORS = [
    (400, refusal("badRequest", "Bad Request", "Unacceptable parameters."), errors.ResponseError),
    (
        403,
        refusal("unauthorizedOauthScope", "Unauthorized OAuth Scope", "… required scope 'opportunities.read'."),
        errors.AccessDeniedError,
    ),
    (403, refusal("unauthorizedRequest", "Unauthorized Request", "You are not authorized …"), errors.AccessDeniedError),
    (
        404,
        refusal("resourceNotFound", "Resource Not Found", "Could not find 'opportunity' with ID '1'."),
        errors.NotFoundError,
    ),
    (409, refusal("conflict", "Conflict", "The record is locked."), errors.EditConflictError),
    (
        415,
        {"errors": [{"id": "unsupportedMediaType", "title": "Unsupported Media Type", "details": "Expected …"}]},
        errors.ResponseError,
    ),
    (
        422,
        refusal("validationError", "Validation Error", "Name can't be blank.", "/data/attributes/name"),
        errors.EditRejectedError,
    ),
    (
        401,
        {"error": "Invalid JWT token.", "description": "The JWT token could not be decoded."},
        errors.AuthenticationError,
    ),
]


@pytest.mark.parametrize(("status", "body", "kind"), ERRORS)
def test_errors__become_their_exceptions(
    server: RawServer, status: int, body: dict[str, Any], kind: type[errors.ResponseError]
) -> None:
    """Each documented error has its own exception, with the service's own objects and no repetition."""
    server.script(reply(status, body))
    with pytest.raises(kind) as caught:
        connect(server).get(1)
    assert caught.value.status == status
    assert len(server.requests) == 1
    if "errors" in body:
        assert caught.value.errors[0]["id"] == body["errors"][0]["id"]
        assert str(body["errors"][0]["title"]) in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "header"),
    [
        (429, refusal("rateLimitExceeded", "Rate Limit Exceeded", "… try again at 2026-10-01T10:00:00."), "2"),
        (503, refusal("scheduledServerMaintenance", "Scheduled Server Maintenance", "…"), "2026-09-21T14:13:25Z"),
    ],
)
def test_waits__are_obeyed_in_each_documented_form(
    server: RawServer, status: int, body: dict[str, Any], header: str
) -> None:
    """429 names seconds, maintenance an instant; both are waited for and then asked again."""
    server.script(reply(status, body, Retry_After=header), reply(200, {"data": DEAL}))
    clock = FakeClock()
    answer = opp.connect(server.url, token="t", clock=clock).get(4711)
    assert answer.attempts == 2
    assert 1.5 <= sum(clock.waits) <= 8


def test_heavy_pages__are_asked_for_smaller(server: RawServer) -> None:
    """502 and 504 halve the page."""
    server.script(bad_gateway(), reply(200, {"data": [DEAL]}), reply(200, {"data": [STAGE, CLOSED, LOST]}))
    df = opp.read_opportunities(connect(server), page_size=1000)
    assert len(df) == 1
    sizes = [request.target.partition("page%5Bsize%5D=")[2].partition("&")[0] for request in server.requests[:2]]
    assert sizes == ["1000", "500"]


def test_every_page__is_asked_for_with_the_media_type(server: RawServer) -> None:
    """The documents ask for it on GETs too."""
    server.script(reply(200, {"data": []}), reply(200, {"data": []}))
    opp.read_opportunities(connect(server))
    assert {request.headers["content-type"] for request in server.requests} == {"application/vnd.api+json"}
