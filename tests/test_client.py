"""The client's operations over real sockets: against scripts, and against the sandbox."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests

import opp_pandas as opp
from opp_pandas import errors
from opp_pandas.api.client import Client, connect
from opp_pandas.resource import ACCOUNT, OPPORTUNITY, STAGE, USER, Resource
from rawserver import NOW, NOW_HTTP, FakeClock, RawServer, hang, opportunity, page, refusal, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "canary-0123456789"


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


def open_client(server: RawServer, **options: Any) -> Client:
    return connect(server.url, token=TOKEN, clock=FakeClock(), **options)


# --- reading -----------------------------------------------------------------


def test_get__gives_the_record_and_the_facts_of_the_answer(server: RawServer) -> None:
    """One record comes with status, attempts, request id and the service's clock."""
    server.script(reply(200, {"data": opportunity(88)}, X_Request_Id="req-1", Date=NOW_HTTP))
    answer = open_client(server).get(88)
    assert answer.data["attributes"]["name"] == "Acme renewal"
    assert (answer.status, answer.attempts, answer.request_id) == (200, 1, "req-1")
    assert answer.date == pd.Timestamp("2026-09-21 14:13:20", tz="UTC")


def test_requests__carry_token_and_media_type(server: RawServer) -> None:
    """Every request, GETs included, names the JSON:API media type twice and the token once."""
    server.script(reply(200, {"data": opportunity(1)}), reply(204), reply(200, page(1)))
    client = open_client(server)
    client.get(1)
    client.delete(1)
    list(client.iter_pages())
    for request in server.requests:
        assert request.headers["content-type"] == request.headers["accept"] == "application/vnd.api+json"
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert [request.method for request in server.requests] == ["GET", "DELETE", "GET"]
    assert client.calls == 3


@pytest.mark.parametrize("identity", [0, -1, True, 1.5, "x", "1/../2", "", None, 2**63, "\u0661"])
def test_get__refuses_what_is_no_id(server: RawServer, identity: Any) -> None:
    """Only whole numbers above 0 go into a path; nothing is sent otherwise."""
    with pytest.raises(errors.ConfigurationError, match="id is a whole number"):
        open_client(server).get(identity)
    assert server.requests == []


@pytest.mark.parametrize(
    "document",
    [
        {"data": None},
        {"data": []},
        {"data": [opportunity(88)]},
        {"data": {**opportunity(88), "type": "user"}},
        {"data": {**opportunity(88), "type": None}},
        {"data": opportunity(89)},
        {"data": opportunity("../88")},
        {"data": opportunity(None)},
        {"data": opportunity(88.5)},
        {"data": opportunity(True)},
        {"meta": {}},
    ],
)
def test_get__refuses_another_record(server: RawServer, document: Any) -> None:
    """An answer that is not the record asked for is an error that says where."""
    server.script(reply(200, document))
    with pytest.raises(errors.DocumentError) as caught:
        open_client(server).get(88)
    assert caught.value.pointer.startswith("/data")
    assert caught.value.method == "GET"


def test_get__takes_ids_as_text(server: RawServer) -> None:
    """JSON:API says text and the service sends numbers: both are the same id."""
    server.script(reply(200, {"data": opportunity("88")}))
    assert open_client(server).get("88").data["id"] == "88"


def test_get__of_nothing_under_204_is_an_error(server: RawServer) -> None:
    """A GET that is answered with no document has not read anything."""
    server.script(reply(204))
    with pytest.raises(errors.DocumentError, match="204 is empty"):
        open_client(server).get(88)


def test_iter_pages__follows_links_and_counts(server: RawServer) -> None:
    """Pages come in order with number, count and the next link; the body is what was sent."""
    server.script(
        reply(200, page(1, 2, link="/api/v2/opportunities?page%5Bafter%5D=x", count=3)),
        reply(200, page(3, count=3)),
    )
    pages = list(open_client(server).iter_pages(count=True))
    assert [found.number for found in pages] == [1, 2]
    assert [found.count for found in pages] == [3, 3]
    assert [record["id"] for found in pages for record in found.document["data"]] == [1, 2, 3]
    assert pages[0].next_url == pages[1].url == f"{server.url}/opportunities?page%5Bafter%5D=x"
    assert json.loads(pages[1].body) == page(3, count=3)


@pytest.mark.parametrize(
    ("meta", "count"),
    [
        ({"count": 7}, 7),
        ({"count": 0}, 0),
        ({"count": None}, None),
        ({"count": 0, "count_truncated": True}, None),
        ({"count": 2_000_000, "count_truncated": True}, None),
        ({"count": 7, "count_truncated": False}, 7),
        ({"count": -1}, None),
        ({"count": "7"}, None),
        ({"count": True}, None),
        ({"other": 1}, None),
    ],
)
def test_count__is_none_where_the_service_does_not_know(server: RawServer, meta: dict[str, Any], count: Any) -> None:
    """A truncated or unreadable count is unknown, not a number to compare with."""
    server.script(reply(200, {"data": [], "meta": meta}))
    assert [found.count for found in open_client(server).iter_pages(count=True)] == [count]


def test_iter_pages__checks_the_query_before_any_request(server: RawServer) -> None:
    """A filter that the service does not have raises at the call, not at the first page."""
    with pytest.raises(errors.ConfigurationError, match="close_date"):
        open_client(server).iter_pages(filter={"close_date": "2026-01-01"})
    assert server.requests == []


def test_iter_pages__goes_on_from_a_link(server: RawServer) -> None:
    """A walk that broke off goes on from the next link of its last page, verbatim."""
    server.script(reply(200, page(3)))
    start = f"{server.url}/opportunities?page%5Bafter%5D=x&sort=id"
    assert [found.url for found in open_client(server).iter_pages(start=start)] == [start]
    assert server.requests[0].target == "/api/v2/opportunities?page%5Bafter%5D=x&sort=id"


def test_iter_pages__refuses_a_foreign_start(server: RawServer) -> None:
    """A page address from a file is checked like any link."""
    with pytest.raises(errors.DocumentError, match=r"leads to http://127\.0\.0\.1:1,"):
        list(open_client(server).iter_pages(start="http://127.0.0.1:1/api/v2/opportunities"))


def test_iter_pages__splits_long_id_lists(server: RawServer) -> None:
    """More than 100 ids become several requests, whose pages follow each other."""
    server.script(reply(200, page(1)), reply(200, page(2)), reply(200, page(3)))
    pages = list(open_client(server).iter_pages(filter={"id": range(1, 251)}))
    assert [(found.number, found.part) for found in pages] == [(1, 1), (2, 2), (3, 3)]
    assert [request.target.count("filter%5Bid%5D%5B%5D=") for request in server.requests] == [100, 100, 50]


# --- writing -----------------------------------------------------------------


def test_create__sends_attributes_and_relationships(server: RawServer) -> None:
    """The document has the type, the attributes as given and resource identifiers."""
    server.script(reply(201, {"data": opportunity(89)}))
    answer = open_client(server).create({"name": "Acme", "tags": ["q4"]}, {"owner": 7, "opportunityStage": None})
    assert server.requests[0].document == {
        "data": {
            "type": "opportunity",
            "attributes": {"name": "Acme", "tags": ["q4"]},
            "relationships": {"owner": {"data": {"type": "user", "id": 7}}, "opportunityStage": {"data": None}},
        }
    }
    assert (answer.status, answer.data["id"]) == (201, 89)


def test_update__sends_only_what_is_given(server: RawServer) -> None:
    """A PATCH has type and id as a number, and nothing that was not given."""
    server.script(reply(200, {"data": opportunity(88)}), reply(200, {"data": opportunity(88)}))
    client = open_client(server)
    client.update("88", {"nextStep": None})
    client.update(88, relationships={"opportunityStage": 7})
    assert [request.document["data"] for request in server.requests] == [
        {"type": "opportunity", "id": 88, "attributes": {"nextStep": None}},
        {
            "type": "opportunity",
            "id": 88,
            "relationships": {"opportunityStage": {"data": {"type": "opportunityStage", "id": 7}}},
        },
    ]
    assert [request.target for request in server.requests] == ["/api/v2/opportunities/88"] * 2


def test_update__under_204_gives_no_document(server: RawServer) -> None:
    """JSON:API allows 204 for an edit that changed nothing else."""
    server.script(reply(204))
    answer = open_client(server).update(88, {"name": "x"})
    assert answer.document is None
    assert answer.data is None


@pytest.mark.parametrize(
    ("attributes", "relationships", "words"),
    [
        ({}, None, "nothing to change"),
        ({"close_date": "x"}, None, "did you mean 'closeDate'"),
        ({"ammount": 1}, None, "did you mean 'amount'"),
        ({"createdAt": "x"}, None, "read-only"),
        ({"trashedAt": None}, None, "read-only"),
        ({"amount": float("nan")}, None, "'amount' cannot be sent"),
        ({"amount": float("inf")}, None, "'amount' cannot be sent"),
        ({"closeDate": pd.Timestamp(0)}, None, "'closeDate' cannot be sent"),
        ({"name": "half \ud83d"}, None, "'name' cannot be sent"),
        (None, {"stage": 3}, "write opportunityStage"),
        (None, {"creator": 3}, "read-only"),
        (None, {"prospects": 3}, "read-only"),
        (None, {"owner_id": 3}, "did you mean 'owner'"),
        (None, {"owner": "x"}, "'owner': an id is a whole number"),
        (None, {"owner": 1.0}, "'owner': an id is a whole number"),
    ],
)
def test_update__refuses_before_sending(server: RawServer, attributes: Any, relationships: Any, words: str) -> None:
    """Unknown, read-only and impossible members are refused by name; nothing is sent."""
    with pytest.raises(errors.ConfigurationError, match=words):
        open_client(server).update(88, attributes, relationships)
    assert server.requests == []


def test_read_only__refuses_every_write_before_the_network(server: RawServer) -> None:
    """A client opened read-only reads, and sends no write."""
    server.script(reply(200, {"data": opportunity(88)}))
    client = open_client(server, read_only=True)
    for write in (
        lambda: client.create({"name": "x"}),
        lambda: client.update(88, {"name": "x"}),
        lambda: client.delete(88),
    ):
        with pytest.raises(errors.ReadOnlyError, match="nothing was sent"):
            write()
    client.get(88)
    assert [request.method for request in server.requests] == ["GET"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ResponseError),
        (401, errors.AuthenticationError),
        (403, errors.AccessDeniedError),
        (404, errors.NotFoundError),
        (409, errors.EditConflictError),
        (415, errors.ResponseError),
        (418, errors.ResponseError),
        (422, errors.EditRejectedError),
        (500, errors.ResponseError),
        (503, errors.UnavailableError),
    ],
)
def test_update__says_no_once(server: RawServer, status: int, kind: type[errors.ResponseError]) -> None:
    """An error status becomes its exception with the service's words, after one request."""
    server.script(reply(status, refusal("someId", "Some Title", "Some detail.", "/data/attributes/name")))
    with pytest.raises(errors.ResponseError, match=r"Some Title: Some detail \(/data/attributes/name\)") as caught:
        open_client(server).update(88, {"name": "x"})
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.errors[0]["source"] == {"pointer": "/data/attributes/name"}
    assert (caught.value.method, caught.value.url) == ("PATCH", f"{server.url}/opportunities/88")
    assert len(server.requests) == 1


def test_unknown_resource__is_refused() -> None:
    """Paths are made from the table only."""
    client = connect("http://127.0.0.1:1/api/v2", token=TOKEN)
    with pytest.raises(errors.ConfigurationError, match="resource= is one of"):
        client.get(1, resource=Resource("opportunity", "../admin", ()))


# --- connecting --------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://api.outreach.io/api/v2", "https"),
        ("http://127.0.0.1.example.com/api/v2", "https"),
        ("ftp://api.outreach.io", "is not a URL"),
        ("api.outreach.io/api/v2", "is not a URL"),
        ("https://", "is not a URL"),
        ("https://host:port/", "is not a URL"),
        ("https://api.outreach.io\\@evil.example/", "is not a URL"),
        ("https://a b.example/", "is not a URL"),
        ("https://user:hunter2@api.outreach.io/api/v2", "is not hold|must not hold"),
        ("https://api.outreach.io/api/v2?x=1", "without \\?"),
        ("https://api.outreach.io/api/v2#x", "without \\?"),
        ("https://api.outreach.io/api/../v2", r"\.\."),
        (5, "must be text"),
    ],
)
def test_connect__refuses_a_bad_url(url: Any, words: str) -> None:
    """The base URL must be https (or this machine), without user name, query and tricks; a password is not repeated."""
    with pytest.raises(errors.ConfigurationError, match=words) as caught:
        connect(url, token=TOKEN)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:80/api/v2/", "http://[::1]:5/api/v2", "https://EXAMPLE.com:443/x/"])
def test_connect__takes_loopback_and_https(url: str) -> None:
    """The own machine may be spoken to without TLS; the base loses its last slash and usual port."""
    assert connect(url, token=TOKEN).url in (
        "http://localhost/api/v2",
        "http://[::1]:5/api/v2",
        "https://example.com/x",
    )


@pytest.mark.parametrize(
    ("zone", "near"),
    [("Europe/Berln", "Europe/Berlin"), ("new york", "America/New_York"), ("america/new_york", "America/New_York")],
)
def test_connect__names_near_zones(zone: str, near: str) -> None:
    """A misspelt zone is refused with the one that was probably meant."""
    with pytest.raises(errors.ConfigurationError, match=near):
        connect(token=TOKEN, timezone=zone)


@pytest.mark.parametrize(
    "options",
    [
        {"deadline_s": 0},
        {"deadline_s": float("inf")},
        {"deadline_s": float("nan")},
        {"deadline_s": None},
        {"deadline_s": True},
        {"read_timeout_s": -1},
        {"connect_timeout_s": 0},
        {"max_wait_s": -1},
        {"max_wait_s": 1e9},
        {"max_calls": 1.5},
        {"max_calls": True},
        {"page_size": 0},
        {"page_size": 1001},
        {"page_size": "many"},
        {"timezone": ""},
        {"timezone": 5},
        {"token": ""},
        {"token": "a b"},
        {"token": 5},
        {"auth": object()},
    ],
)
def test_connect__refuses_bad_options(options: dict[str, Any]) -> None:
    """No limit can be switched off by accident; each error names its option."""
    with pytest.raises(errors.ConfigurationError):
        connect(**({"token": TOKEN} if "token" not in options and "auth" not in options else {}), **options)


def test_connect__takes_url_and_token_from_the_environment(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPP_PANDAS_URL and OPP_PANDAS_TOKEN serve where no argument is given, and arguments win."""
    monkeypatch.setenv("OPP_PANDAS_URL", server.url)
    monkeypatch.setenv("OPP_PANDAS_TOKEN", f"  {TOKEN}\n")
    server.script(reply(200, {"data": opportunity(1)}))
    connect().get(1)
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert connect("https://example.com/api").url == "https://example.com/api"
    monkeypatch.delenv("OPP_PANDAS_URL")
    assert connect().url == "https://api.outreach.io/api/v2"


def test_connect__refuses_token_and_auth_together() -> None:
    """Two sources of tokens would leave open which one is used."""
    from opp_pandas.api.auth.bearer import FixedToken

    with pytest.raises(errors.ConfigurationError, match="not both"):
        connect(token=TOKEN, auth=FixedToken(TOKEN))


def test_connect__refuses_an_unverified_session() -> None:
    """A session that does not verify certificates is refused, except for this machine."""
    session = requests.Session()
    session.verify = False
    with pytest.raises(errors.ConfigurationError, match="does not verify"):
        connect("https://example.com/api", token=TOKEN, session=session)
    assert connect("http://127.0.0.1:1/api", token=TOKEN, session=session)


def test_session_from_outside__is_used(server: RawServer) -> None:
    """A given session sends the requests, with its own headers, and the token all the same."""
    server.script(reply(200, {"data": opportunity(1)}))
    session = requests.Session()
    session.headers["X-Mine"] = "yes"
    open_client(server, session=session).get(1)
    assert server.requests[0].headers["x-mine"] == "yes"
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    session.close()


def test_repr__shows_url_and_options_only(server: RawServer) -> None:
    """A client shows where it leads and never who it is."""
    client = open_client(server, timezone="Europe/Berlin", read_only=True)
    assert repr(client) == f"Client({server.url!r}, timezone='Europe/Berlin', read_only=True)"


def test_client__is_not_pickled_and_copies_as_itself(server: RawServer) -> None:
    """A client travels with frames: copying gives the same one, pickling raises."""
    client = open_client(server)
    assert copy.copy(client) is client
    assert copy.deepcopy({"a": client})["a"] is client
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="connect again"):
            pickle.dumps(client, protocol)


def test_close__may_be_used_again(server: RawServer) -> None:
    """Closing frees the connection; the next request opens one."""
    server.script(reply(200, {"data": opportunity(1)}), reply(200, {"data": opportunity(2)}))
    with open_client(server) as client:
        client.get(1)
    assert client.get(2).data["id"] == 2


def test_connections__are_kept_alive(server: RawServer) -> None:
    """Several requests of one thread share one connection."""
    seen: set[Any] = set()

    def step(connection: Any, request: Any) -> bool:
        seen.add(connection.getpeername())
        return reply(200, {"data": opportunity(1)})(connection, request)

    server.script(*[step] * 5)
    client = open_client(server)
    for _ in range(5):
        client.get(1)
    assert len(seen) == 1


def test_threads__each_have_a_connection(server: RawServer) -> None:
    """Four threads read at the same time and every answer reaches its asker."""
    gate = threading.Barrier(4, timeout=60)

    def step(connection: Any, request: Any) -> bool:
        gate.wait()
        identity = int(request.target.rsplit("/", 1)[1])
        return reply(200, {"data": opportunity(identity)})(connection, request)

    server.script(*[step] * 8)
    client = open_client(server)
    found: list[tuple[int, int]] = []

    def work(start: int) -> None:
        found.extend((identity, client.get(identity).data["id"]) for identity in (start, start + 10))

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [(number, number) for number in (1, 2, 3, 4, 11, 12, 13, 14)]


def test_max_calls__stops_before_the_network(server: RawServer) -> None:
    """The budget counts every request, repetitions included, and then refuses."""
    server.script(reply(502), reply(200, {"data": opportunity(1)}))
    client = open_client(server, max_calls=2)
    assert client.calls_left == 2
    client.get(1)
    assert client.calls_left == 0
    with pytest.raises(errors.CallBudgetError, match=r"all that max_calls allows is used up \(2\)"):
        client.get(1)
    assert len(server.requests) == 2


def test_netrc__cannot_replace_the_token(server: RawServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of a netrc file for the host does not take the token's place."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(reply(200, {"data": opportunity(1)}), reply(200, {"data": opportunity(1)}))
    open_client(server).get(1)
    with requests.Session() as session:
        open_client(server, session=session).get(1)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {TOKEN}"}


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the test's interrupt is a POSIX signal")
def test_ctrl_c__ends_a_read_at_once(server: RawServer) -> None:
    """An interrupt during a silent answer comes through before the silence ends, and the client works on."""
    silence_s = 60.0

    def interrupted(connection: Any, request: Any) -> bool:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return hang(seconds=silence_s)(connection, request)

    server.script(interrupted, reply(200, {"data": opportunity(1)}))
    client = open_client(server)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.get(1)
    assert time.monotonic() - started < silence_s / 2
    assert client.get(1).data["id"] == 1


# --- against the sandbox -----------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Any]:
    with opp.sandbox(opportunities=120, seed=3) as started:
        yield started


def target(row: dict[str, Any], relationship: str) -> int | None:
    data = row["relationships"][relationship]["data"]
    return data["id"] if data else None


@pytest.mark.parametrize("resource", [OPPORTUNITY, STAGE, USER, ACCOUNT])
def test_sandbox__pages_of_every_resource(sandbox: Any, resource: Resource) -> None:
    """All rows of each resource come once, whatever the page size."""
    client = sandbox.client()
    whole = [row["id"] for found in client.iter_pages(resource=resource) for row in found.document["data"]]
    small = [row["id"] for found in client.iter_pages(resource=resource, page_size=7) for row in found.document["data"]]
    assert whole == small
    assert len(whole) == len(set(whole)) > 0


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"owner": 2}, lambda row: target(row, "owner") == 2),
        ({"owner_id": [2, 3]}, lambda row: target(row, "owner") in (2, 3)),
        ({"stage": 2}, lambda row: target(row, "opportunityStage") == 2),
        ({"stage_id": [1, 2]}, lambda row: target(row, "opportunityStage") in (1, 2)),
        ({"account": [1, 2, 3]}, lambda row: target(row, "account") in (1, 2, 3)),
        ({"probability": (50, 90)}, lambda row: 50 <= (row["attributes"]["probability"] or 0) <= 90),
        (
            {"probability": (None, 20)},
            lambda row: (row["attributes"]["probability"] or 0) <= 20 and row["attributes"]["probability"] is not None,
        ),
        ({"custom_id": None}, lambda row: row["attributes"]["customId"] is None),
        ({"name": opp.NOT_NULL}, lambda row: row["attributes"]["name"] is not None),
        ({"updatedAt": ("2026-06-01", None)}, lambda row: row["attributes"]["updatedAt"] >= "2026-06-01"),
        ({"id": [5, 6, 999_999]}, lambda row: row["id"] in (5, 6)),
    ],
)
def test_sandbox__filters(sandbox: Any, wanted: dict[str, Any], fits: Any) -> None:
    """What the service filters equals what Python filters."""
    client = sandbox.client()
    rows = [row for found in client.iter_pages() for row in found.document["data"]]
    found = [row["id"] for answer in client.iter_pages(filter=wanted) for row in answer.document["data"]]
    expected = [row["id"] for row in rows if fits(row)]
    assert found == expected


def test_sandbox__writes_are_read_back() -> None:
    """Create, update, read, delete, and read again: 404 at the end."""
    with opp.sandbox(opportunities=5, seed=1) as own:
        client = own.client()
        identity = client.create({"name": "New", "amount": 100}, {"owner": 1}).data["id"]
        client.update(identity, {"nextStep": "Call", "amount": None}, {"opportunityStage": 2})
        record = client.get(identity, include=["stage"]).data
        assert (record["attributes"]["nextStep"], record["attributes"]["amount"]) == ("Call", None)
        assert record["relationships"]["opportunityStage"]["data"]["id"] == 2
        assert client.delete(identity).document is None
        with pytest.raises(errors.NotFoundError):
            client.get(identity)


def test_sandbox__sparse_fields_keep_what_write_back_needs(sandbox: Any) -> None:
    """Asking for two attributes still brings updatedAt and the three relationships."""
    client = sandbox.client()
    row = next(iter(client.iter_pages(fields=["name", "amount"], page_size=1))).document["data"][0]
    assert set(row["attributes"]) == {"name", "amount", "updatedAt"}
    assert {"owner", "account", "opportunityStage"} <= set(row["relationships"])


def test_too_many_requests__with_budget_left_are_backed_off(server: RawServer) -> None:
    """A burst that the service does not like is no used up hour: the load goes on within seconds."""
    clock = FakeClock()
    end_of_hour = str(int(NOW) + 3_000)
    facts = {"X_RateLimit_Remaining": "9990", "X_RateLimit_Reset": end_of_hour}
    server.script(reply(429, Retry_After=end_of_hour, **facts), reply(429, **facts), reply(200, page(1)))
    (found,) = connect(server.url, token=TOKEN, clock=clock).iter_pages()
    assert found.attempts == 3
    assert sum(clock.waits) < 5
