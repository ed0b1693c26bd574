"""Custom fields under the organisation's names, and the small reads beside the opportunities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from opp_pandas import errors
from opp_pandas.api.client import Client, CustomField, connect
from opp_pandas.api.custom_field_types import read_custom_fields
from opp_pandas.resource import ACCOUNT
from rawserver import FakeClock, RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


@pytest.fixture
def client(server: RawServer) -> Client:
    return connect(server.url, token="canary-0123456789", clock=FakeClock())


def types(**validations: Any) -> dict[str, Any]:
    return {"data": [{"type": "Opportunity", "meta": {"validations": validations}}]}


REGION = {"type": "inclusion", "required": False, "label": "Region", "definition": ["EMEA", "AMER"]}


def test_custom_fields__are_read_by_number(server: RawServer, client: Client) -> None:
    """Labels, kinds, options and currencies of the slots that are set up; `/types` needs no query."""
    empty = {"type": "string", "required": False, "label": None, "definition": None}
    cost = {"type": "currency", "required": True, "label": " Cost ", "definition": "USD"}
    server.script(reply(200, types(custom12=cost, custom2=empty, custom1=REGION)))
    assert client.custom_fields() == [
        CustomField("custom1", "Region", "inclusion", options=("EMEA", "AMER")),
        CustomField("custom12", "Cost", "currency", required=True, currency="USD"),
    ]
    assert server.requests[0].target == "/api/v2/types"


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"data": []}, []),
        ({"data": [None, 5, {"type": None}]}, []),
        ({"data": [{"type": "Account", "meta": {"validations": {"custom1": REGION}}}]}, []),
        ({"data": [{"type": "opportunity", "meta": {"validations": {"custom1": REGION}}}]}, ["custom1"]),
        ({"data": [{"type": "Opportunity"}]}, []),
        ({"data": [{"type": "Opportunity", "meta": None}]}, []),
        ({"data": [{"type": "Opportunity", "meta": {"validations": []}}]}, []),
        (types(custom1=None, custom2="x", custom3={}, custom4={"label": 5}, custom5={"label": " "}), []),
        (types(name=REGION, customX=REGION, custom0=REGION, custom01=REGION), []),
        (types(custom3={"label": "New kind", "type": 7, "definition": [1, "a"]}), ["custom3"]),
    ],
)
def test_read_custom_fields__takes_what_it_understands(document: dict[str, Any], names: list[str]) -> None:
    """Slots that are not set up, other types and odd entries are left out, without an error."""
    assert [found.name for found in read_custom_fields(document)] == names


def test_read_custom_fields__for_another_resource() -> None:
    """The same document lists the fields of accounts too."""
    document = {"data": [{"type": "Account", "meta": {"validations": {"custom1": REGION}}}]}
    assert [found.label for found in read_custom_fields(document, ACCOUNT)] == ["Region"]


@pytest.mark.parametrize("document", [{"data": None}, {"data": {}}, {"meta": {}}])
def test_custom_fields__refuse_another_document(server: RawServer, client: Client, document: Any) -> None:
    """What does not list types is an error, not an organisation without fields."""
    server.script(reply(200, document))
    with pytest.raises(errors.DocumentError, match="expected to list types"):
        client.custom_fields()


def user(identity: int, name: str = "Sam Lee") -> dict[str, Any]:
    return {"type": "user", "id": identity, "attributes": {"name": name}}


def test_users__are_collected_over_pages(server: RawServer, client: Client) -> None:
    """All pages, one object per id, the later copy of two."""
    server.script(
        reply(200, {"data": [user(1), user(2)], "links": {"next": "/api/v2/users?page%5Bafter%5D=x"}}),
        reply(200, {"data": [user(2, "Sam Li"), user(3)]}),
    )
    assert [(row["id"], row["attributes"]["name"]) for row in client.users()] == [
        (1, "Sam Lee"),
        (2, "Sam Li"),
        (3, "Sam Lee"),
    ]
    assert "page%5Bsize%5D=1000" in server.requests[0].target


@pytest.mark.parametrize("rows", [[None], ["x"], [{"type": "account", "id": 1}], [{"type": "user"}], [user(0)]])
def test_users__refuse_other_rows(server: RawServer, client: Client, rows: list[Any]) -> None:
    """A row that is no user is an error: look-ups must be right."""
    server.script(reply(200, {"data": rows}))
    with pytest.raises(errors.DocumentError):
        client.users()


def test_accounts__by_id_ask_for_these_only(server: RawServer, client: Client) -> None:
    """Ids go into the filter once each; no ids, no request."""
    server.script(reply(200, {"data": [{"type": "account", "id": 5}]}))
    assert client.accounts([]) == []
    assert client.users(iter(())) == []
    assert client.prospect_roles([]) == []
    assert server.requests == []
    client.accounts([5, 5, 6])
    assert server.requests[0].target.count("filter%5Bid%5D%5B%5D=") == 2


def test_sandbox__stages_come_in_order() -> None:
    """Stages are sorted as in the pipeline; roles can be read and made."""
    with opp.sandbox(opportunities=5, seed=2) as box:
        client = box.client()
        orders = [stage["attributes"]["order"] for stage in client.stages()]
        assert orders == sorted(orders)
        prospect = client.prospects()[0]["id"]
        made = client.link_prospect(3, prospect, role="Champion", primary=True).data
        roles = client.prospect_roles([3])
        assert made["id"] in [role["id"] for role in roles]
        assert {role["relationships"]["opportunity"]["data"]["id"] for role in roles} == {3}
        assert {found.name for found in client.custom_fields()} >= {"custom1", "custom2"}
