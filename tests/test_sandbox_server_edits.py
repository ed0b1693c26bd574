"""What creates and updates are refused for, and with which words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.resource import OPPORTUNITY
from opp_pandas.sandbox_handle import sandbox
from opp_pandas.sandbox_server.server import LARGEST_BODY
from sandbox_server_calls import MEDIA_TYPE, Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A sandbox with six deals."""
    yield from opened(sandbox(opportunities=6, seed=4, rate_limit=10**6))


def _errors(api: Api, document: Any, path: str = "/opportunities/1", method: str = "PATCH") -> list[dict[str, Any]]:
    answer = api.call(method, path, document)
    assert answer.status_code == 422, answer.text
    return answer.json()["errors"]


BAD_ATTRIBUTES = [
    ("name", "", "Name can't be blank."),
    ("name", "   ", "Name can't be blank."),
    ("name", None, "Name can't be blank."),
    ("name", "x" * 256, "Name is too long (maximum is 255 characters)."),
    ("name", 5, "Name must be text."),
    ("name", ["x"], "Name must be text."),
    ("name", "\ud800", "Name must be Unicode text without lone surrogates."),
    ("description", "x" * 65_536, "Description is too long (maximum is 65535 characters)."),
    ("custom12", "x" * 32_001, "Custom12 is too long (maximum is 32000 characters)."),
    ("custom12", 12, "Custom12 must be text."),
    ("probability", 101, "Probability must be from 0 to 100."),
    ("probability", -1, "Probability must be from 0 to 100."),
    ("probability", 50.5, "Probability must be an integer."),
    ("probability", 50.0, "Probability must be an integer."),
    ("probability", "50", "Probability must be an integer."),
    ("probability", True, "Probability must be an integer."),
    ("amount", "5000", "Amount must be an integer."),
    ("amount", 2**63, "Amount must have at most 63 bits."),
    ("amountPrecise", "5,000.50", "Amount precise must be a decimal number."),
    ("amountPrecise", 5000.5, "Amount precise must be text."),
    ("closeDate", "soon", "Close date must be an ISO 8601 instant, such as 2026-12-11T12:00:00Z."),
    ("closeDate", "2026-02-30T00:00:00Z", "Close date must be an ISO 8601 instant, such as 2026-12-11T12:00:00Z."),
    ("closeDate", 20261211, "Close date must be an ISO 8601 instant, such as 2026-12-11T12:00:00Z."),
    ("closeDate", "0001-01-01T00:00:00+10:00", "Close date must be an ISO 8601 instant, such as 2026-12-11T12:00:00Z."),
    ("tags", "q4", "Tags must be a list of texts."),
    ("tags", ["q4", 5], "Tags must be text."),
    ("nothing", 1, "'nothing' is not an attribute of opportunity."),
    ("healthScore", 1, "'healthScore' is not an attribute of opportunity."),
]


@pytest.mark.parametrize(("name", "value", "detail"), BAD_ATTRIBUTES)
def test_attribute__that_does_not_fit_is_refused(api: Api, name: str, value: Any, detail: str) -> None:
    """Each broken rule has its words and a pointer, in an update and in a create; nothing changes."""
    before = api.get("/opportunities/1")
    expected = {
        "id": "validationError",
        "title": "Validation Error",
        "detail": detail,
        "source": {"pointer": f"/data/attributes/{name}"},
    }
    assert _errors(api, edit("opportunity", {name: value}, key=1)) == [expected]
    assert expected in _errors(api, edit("opportunity", {"name": "A", name: value}), "/opportunities", "POST")
    assert api.get("/opportunities/1") == before


def test_errors__come_all_at_once(api: Api) -> None:
    """A document with several faults gets one error object for each."""
    document = edit("opportunity", {"probability": 101, "name": "", "x": 1}, {"owner": ("user", 99_999)}, 1)
    pointers = {error["source"]["pointer"] for error in _errors(api, document)}
    assert pointers == {
        "/data/attributes/probability",
        "/data/attributes/name",
        "/data/attributes/x",
        "/data/relationships/owner/data",
    }


@pytest.mark.parametrize(
    ("name", "value", "pointer"),
    [
        ("owner", {"data": {"type": "user", "id": 99_999}}, "/data/relationships/owner/data"),
        ("owner", {"data": {"type": "account", "id": 1}}, "/data/relationships/owner/data"),
        ("owner", {"data": {"type": "user"}}, "/data/relationships/owner/data"),
        ("owner", {"data": {"type": "user", "id": True}}, "/data/relationships/owner/data"),
        ("owner", {"data": {"type": "user", "id": 2**70}}, "/data/relationships/owner/data"),
        ("owner", {"data": [{"type": "user", "id": 1}]}, "/data/relationships/owner/data"),
        ("owner", {}, "/data/relationships/owner"),
        ("owner", None, "/data/relationships/owner"),
        ("manager", {"data": None}, "/data/relationships/manager"),
        ("a/b~c", {"data": None}, "/data/relationships/a~1b~0c"),
        ("opportunityStage", {"data": {"type": "stage", "id": 1}}, "/data/relationships/opportunityStage/data"),
    ],
)
def test_relationship__that_does_not_fit_is_refused(api: Api, name: str, value: Any, pointer: str) -> None:
    """Unknown ids, wrong types and unknown relationships are named by their pointer."""
    document = {"data": {"type": "opportunity", "id": 1, "relationships": {name: value}}}
    assert [error["source"]["pointer"] for error in _errors(api, document)] == [pointer]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "/data"),
        ([], "/data"),
        ({"data": None}, "/data"),
        ({"data": []}, "/data"),
        ({"data": {"type": "opportunity", "id": 2}}, "/data/id"),
        ({"data": {"type": "opportunity"}}, "/data/id"),
        ({"data": {"type": "account", "id": 1}}, "/data/type"),
        ({"data": {"id": 1}}, "/data/type"),
        ({"data": {"type": "opportunity", "id": 1, "attributes": []}}, "/data/attributes"),
        ({"data": {"type": "opportunity", "id": 1, "relationships": "x"}}, "/data/relationships"),
    ],
)
def test_document__that_is_not_one_is_refused(api: Api, document: Any, pointer: str) -> None:
    """The document must be a resource object of this type and id."""
    assert pointer in [error["source"]["pointer"] for error in _errors(api, document)]


def test_create__refuses_an_id_of_the_clients_own_and_a_missing_name(api: Api) -> None:
    """Ids are the service's; a name is needed."""
    assert _errors(api, edit("opportunity", {"name": "A"}, key=7), "/opportunities", "POST")[0]["source"] == {
        "pointer": "/data/id"
    }
    assert _errors(api, edit("opportunity", {"amount": 1}), "/opportunities", "POST")[0]["detail"] == (
        "Name can't be blank."
    )
    assert len(_errors(api, edit("opportunityProspectRole", {"role": "x"}), "/opportunityProspectRoles", "POST")) == 2


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,", b"\xff\xfe", b'{"data": NaN}', b"[" * 100_000, b'{"data": ' + b"9" * 5_000 + b"}"]
)
def test_body__that_is_not_json_is_400(api: Api, body: bytes) -> None:
    """What cannot be read at all is a bad request, however deep or long."""
    answer = api.call("PATCH", "/opportunities/1", body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["id"] == "badRequest"


def test_body__beyond_the_limit_is_413_and_the_connection_ends_cleanly(api: Api) -> None:
    """A body that is too long is answered, and the next request works."""
    answer = api.call("PATCH", "/opportunities/1", b" " * (LARGEST_BODY + 1))
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["id"] == "requestEntityTooLarge"
    assert api.call("PATCH", "/opportunities/1", b" " * LARGEST_BODY).status_code == 400
    assert api.get("/opportunities/1")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Accept": MEDIA_TYPE}, 200),
        ({"Accept": f"{MEDIA_TYPE}; charset=utf-8"}, 406),
        ({"Accept": f"{MEDIA_TYPE}; ext=x, {MEDIA_TYPE}"}, 200),
        ({"Accept": f"text/html, {MEDIA_TYPE};q=0.9, */*;q=0.1"}, 200),
        ({"Accept": "*/*"}, 200),
        ({"Content-Type": f"{MEDIA_TYPE}; charset=utf-8"}, 415),
    ],
)
def test_negotiation__is_that_of_json_api(api: Api, headers: dict[str, str], status: int) -> None:
    """The media type carries no parameters, neither in what is sent nor in all that would be taken."""
    assert api.call("GET", "/opportunities/1", headers=headers).status_code == status


def test_whole_record_sent_back__keeps_the_amount_that_was_edited(api: Api) -> None:
    """The exact amount that is repeated as it was read does not overrule an edited amount; an edited one does."""
    made = api.create({"name": "A", "amount": 5_000, "amountPrecise": "5000.50"})
    assert made["attributes"]["amount"] == 5_001
    path = f"/opportunities/{made['id']}"
    stale = made["attributes"] | {"amount": 7_000}
    answer = api.call("PATCH", path, edit("opportunity", stale, key=made["id"])).json()["data"]["attributes"]
    assert (answer["amount"], answer["amountPrecise"]) == (7_000, "7000.00")
    both = {"amount": 1, "amountPrecise": "6000.25"}
    answer = api.call("PATCH", path, edit("opportunity", both, key=made["id"])).json()["data"]["attributes"]
    assert (answer["amount"], answer["amountPrecise"]) == (6_000, "6000.25")


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", None])
def test_write__needs_the_media_type(api: Api, media_type: str | None) -> None:
    """415, with the service's own spelling of details."""
    answer = api.call(
        "POST", "/opportunities", edit("opportunity", {"name": "A"}), headers={"Content-Type": media_type}
    )
    assert answer.status_code == 415
    assert answer.json() == {
        "errors": [
            {
                "id": "unsupportedMediaType",
                "title": "Unsupported Media Type",
                "details": "Expected Content-Type header to be 'application/vnd.api+json'.",
            }
        ]
    }


def test_read__needs_the_media_type_only_when_switched_on(api: Api) -> None:
    """The documents ask for it on GET too, published readers send none."""
    assert api.call("GET", "/opportunities/1", headers={"Content-Type": None}).status_code == 200
    api.box.switches.require_content_type_on_get = True
    try:
        assert api.call("GET", "/opportunities/1", headers={"Content-Type": None}).status_code == 415
        assert api.call("GET", "/opportunities/1").status_code == 200
    finally:
        api.box.switches.require_content_type_on_get = False


READ_ONLY = [
    *({"attributes": {entry.name: "2026-01-01T00:00:00Z"}} for entry in OPPORTUNITY.attributes if entry.read_only),
    *({"relationships": {e.name: {"data": None}}} for e in OPPORTUNITY.relationships if e.read_only),
]


@pytest.mark.parametrize("members", READ_ONLY)
def test_read_only_members__are_ignored_or_refused_by_a_switch(api: Api, members: dict[str, Any]) -> None:
    """Timestamps, creator, updater, prospects and `stage`, the twin of opportunityStage, cannot be written."""
    before = api.get("/opportunities/2")
    document = {"data": {"type": "opportunity", "id": 2, **members}}
    assert api.call("PATCH", "/opportunities/2", document).json()["data"] == before["data"]
    api.box.switches.read_only_members = "refuse"
    try:
        assert "read-only" in _errors(api, document, "/opportunities/2")[0]["detail"]
    finally:
        api.box.switches.read_only_members = "ignore"


def test_include__is_refused_on_a_write(api: Api) -> None:
    """Writes took no include since 2023."""
    assert _errors(api, edit("opportunity", {"name": "B"}, key=1), "/opportunities/1?include=owner")


def test_custom_fields__are_held_to_their_kinds_only_when_switched_on(api: Api) -> None:
    """The organisation's rules from /types, as an option."""
    cases = {"custom1": "Mars", "custom3": "Platform, Toaster", "custom5": "yes", "custom10": "1.1.2026"}
    for name, value in cases.items():
        document = edit("opportunity", {name: value}, key=3)
        assert api.call("PATCH", "/opportunities/3", document).status_code == 200
        api.box.switches.check_custom_fields = True
        try:
            assert len(_errors(api, document, "/opportunities/3")) == 1
            good = {"custom1": "EMEA", "custom3": "Platform, Connect", "custom5": "true", "custom10": "2026-01-01"}
            for ok in (good[name], "", None):
                fits = edit("opportunity", {name: ok}, key=3)
                assert api.call("PATCH", "/opportunities/3", fits).status_code == 200
        finally:
            api.box.switches.check_custom_fields = False


def test_probability__may_leave_its_range_when_switched_on(api: Api) -> None:
    """The service's schema states no bounds, so a load may meet 101."""
    api.box.switches.check_probability_range = False
    try:
        assert api.create({"name": "A", "probability": 101})["attributes"]["probability"] == 101
    finally:
        api.box.switches.check_probability_range = True


VALUES = {
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    "integer": st.integers(-(2**63) + 1, 2**63 - 1),
    "tags": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=4),
}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_value__comes_back_as_it_was_sent(api: Api, data: st.DataObject) -> None:
    """Whatever Unicode, with NUL and controls, is stored and served unchanged, alone and in a collection."""
    chosen = data.draw(
        st.lists(st.sampled_from(OPPORTUNITY.attributes), max_size=8, unique_by=lambda entry: entry.name)
    )
    sent = {
        entry.name: data.draw(st.none() | VALUES[entry.kind])
        for entry in chosen
        if entry.kind in VALUES and not entry.read_only and entry.name not in ("amountPrecise", "probability", "name")
    }
    made = api.create({"name": "A", **sent})
    assert {name: made["attributes"][name] for name in sent} == sent
    assert api.get(f"/opportunities?filter[id]={made['id']}")["data"] == [made]
    assert api.call("DELETE", f"/opportunities/{made['id']}").status_code == 204


@pytest.mark.parametrize(
    ("sent", "served"),
    [
        ("2026-12-11T12:00:00Z", "2026-12-11T12:00:00.000Z"),
        ("2026-12-11T00:00:00+02:00", "2026-12-10T22:00:00.000Z"),
        ("2026-12-11", "2026-12-11T00:00:00.000Z"),
        ("2026-12-11T12:00", "2026-12-11T12:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("2026-12-11T12:00:00.123456Z", "2026-12-11T12:00:00.123Z"),
    ],
)
def test_instants__are_served_in_one_form(api: Api, sent: str, served: str) -> None:
    """Any ISO 8601 instant is served as UTC with milliseconds."""
    assert api.create({"name": "A", "closeDate": sent})["attributes"]["closeDate"] == served


def test_requests__are_logged_for_tests_without_headers(api: Api) -> None:
    """Method, path, query, body and status of what came in; the token is not among it."""
    document = edit("opportunity", {"name": "logged"}, key=1)
    api.call("PATCH", "/opportunities/1?x=1", document)
    last = api.box.requests[-1]
    assert (last.method, last.path, last.query, last.status) == ("PATCH", "/api/v2/opportunities/1", "x=1", 200)
    assert json.loads(last.body) == document
    assert api.box.token not in repr(api.box.requests)
