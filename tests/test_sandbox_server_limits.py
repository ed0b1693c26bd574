"""Rate limits, faults on purpose, and the other switches."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from opp_pandas.errors import ConfigurationError
from opp_pandas.sandbox_handle import sandbox
from sandbox_server_calls import Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Return the moment."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sandbox's clock."""
    return Clock()


@pytest.fixture
def api(clock: Clock) -> Iterator[Api]:
    """A small sandbox on that clock."""
    yield from opened(sandbox(opportunities=30, seed=4, now=clock))


def test_rate_limit__stands_on_every_answer(api: Api) -> None:
    """Limit, remaining and reset come with successes and errors alike."""
    for number, path in enumerate(("/opportunities/1", "/nothing", "/opportunities?sort=x"), 1):
        headers = api.call("GET", path).headers
        assert headers["X-RateLimit-Limit"] == "10000"
        assert headers["X-RateLimit-Remaining"] == str(10_000 - number)
        assert headers["X-RateLimit-Reset"] == str(int((NOW + timedelta(hours=1)).timestamp()))


def test_rate_limit__used_up_is_429_until_the_period_ends(api: Api, clock: Clock) -> None:
    """The body is the documented one; a refused request does nothing; afterwards all is well."""
    api.box.switches.rate_limit = 2
    api.get("/opportunities/1")
    api.get("/opportunities/1")
    refused = api.call("POST", "/opportunities", edit("opportunity", {"name": "A"}))
    assert refused.status_code == 429
    assert refused.json()["errors"][0] == {
        "id": "rateLimitExceeded",
        "title": "Rate Limit Exceeded",
        "detail": "You have exceeded your permitted rate limit of 2; please try again at 2026-09-01T09:00:00.",
    }
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["Retry-After"] == refused.headers["X-RateLimit-Reset"]
    clock.now += timedelta(hours=1)
    assert len(api.rows()) == 30


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("epoch", "1788253200"),
        ("seconds", "3600"),
        ("iso", "2026-09-01T09:00:00Z"),
        ("http", "Tue, 01 Sep 2026 09:00:00 GMT"),
    ],
)
def test_reset__is_worded_as_the_switch_says(api: Api, form: Any, text: str) -> None:
    """The documents do not say how; each way seen is there."""
    api.box.switches.reset_format = form
    assert api.call("GET", "/opportunities/1").headers["X-RateLimit-Reset"] == text


def test_remaining__may_be_two_numbers(api: Api) -> None:
    """As once seen in the wild."""
    api.box.switches.two_number_rate_header = True
    assert api.call("GET", "/opportunities/1").headers["X-RateLimit-Remaining"] == "9999, 19999"


def test_period__is_as_long_as_the_switch_says(api: Api, clock: Clock) -> None:
    """A used-up limit is full again when it is over."""
    api.box.switches.rate_limit, api.box.switches.rate_period_s = 1, 60
    assert [api.call("GET", "/opportunities/1").status_code for _ in range(2)] == [200, 429]
    clock.now += timedelta(seconds=60)
    assert api.call("GET", "/opportunities/1").status_code == 200


def test_index__lags_behind_the_data(api: Api, clock: Clock) -> None:
    """A new record is at its own address at once, and in collections after the switch's time."""
    api.box.switches.index_lag_s = 5
    made = api.call("POST", "/opportunities", edit("opportunity", {"name": "New"})).json()["data"]["id"]
    assert api.get(f"/opportunities/{made}")["data"]["id"] == made
    assert made not in api.ids()
    clock.now += timedelta(seconds=5)
    assert made in api.ids()


def test_date__is_the_sandboxs_own(api: Api, clock: Clock) -> None:
    """The Date header goes by the sandbox's clock, for clients that take their watermark from it."""
    assert parsedate_to_datetime(api.call("GET", "/opportunities/1").headers["Date"]) == clock.now


def test_maintenance__is_503_with_an_iso_retry_after(api: Api, clock: Clock) -> None:
    """Everything waits until it is over."""
    api.box.switches.maintenance_until = NOW + timedelta(minutes=10)
    answer = api.call("GET", "/opportunities/1")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2026-09-01T08:10:00Z"
    assert answer.json()["errors"][0]["id"] == "scheduledServerMaintenance"
    clock.now += timedelta(minutes=10)
    assert api.get("/opportunities/1")


def test_fault__hits_the_requests_it_names_and_no_others(api: Api) -> None:
    """By method, by end of path, after some, so many times."""
    api.box.fail(502, times=2, method="GET", path="/opportunities/1", after=1)
    asked = [
        "/opportunities/2",
        "/opportunities/1",
        "/opportunities/1",
        "/users/1",
        "/opportunities/1",
        "/opportunities/1",
    ]
    assert [api.call("GET", path).status_code for path in asked] == [200, 200, 502, 200, 502, 200]
    assert api.box.requests[-2].status == 502


def test_fault__may_have_a_body_and_headers_of_its_own(api: Api) -> None:
    """Whatever a gateway may send."""
    api.box.fail(503, body=b"<html>", headers={"Retry-After": "7", "Content-Type": "text/x"})
    answer = api.call("GET", "/opportunities/1")
    assert (answer.status_code, answer.content) == (503, b"<html>")
    assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("7", "text/x")


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("status", [500, 0])
def test_fault__may_come_after_the_work_was_done(api: Api, status: int, applied: bool) -> None:
    """An ambiguous write: the answer is lost, and the deal is there or not."""
    api.box.fail(status, method="POST", applied=applied)
    document = edit("opportunity", {"name": "Lost answer"})
    if status == 0:
        with pytest.raises(requests.ConnectionError):
            api.call("POST", "/opportunities", document)
    else:
        assert api.call("POST", "/opportunities", document).status_code == 500
    assert len(api.ids("filter[name]=Lost answer")) == applied


def test_pages_that_are_too_heavy__are_502(api: Api) -> None:
    """Above the switch's size, until the page is made smaller."""
    api.box.switches.bad_gateway_above = 10
    assert api.call("GET", "/opportunities?page[size]=11").status_code == 502
    assert len(api.get("/opportunities?page[size]=10")["data"]) == 10


def test_count__may_be_truncated(api: Api) -> None:
    """Under load the service counts 0 and says so."""
    api.box.switches.count_truncated = True
    assert api.get("/opportunities?count=true")["meta"] == {"count": 0, "count_truncated": True}


def test_older_apps__are_counted_for_without_asking(api: Api) -> None:
    """count_by_default is what older apps had."""
    api.box.switches.count_by_default = True
    assert api.get("/opportunities")["meta"]["count"] == 30
    assert "meta" not in api.get("/opportunities?count=false")


def test_generation_of_the_reference_page__has_its_169_attributes(api: Api) -> None:
    """Without the seven later ones, nor the undocumented; those cannot be written either."""
    api.box.switches.generation = "reference"
    attributes = api.get("/opportunities/1")["data"]["attributes"]
    assert len(attributes) == 169
    assert "amountPrecise" not in attributes
    answer = api.call("PATCH", "/opportunities/1", edit("opportunity", {"leadSource": "x"}, key=1))
    assert answer.status_code == 422


def test_ids__may_be_text(api: Api) -> None:
    """As JSON:API says; sent ids are taken as text, too."""
    api.box.switches.ids_as_text = True
    row = api.get("/opportunities/1?include=opportunityStage")
    assert row["data"]["id"] == "1"
    link = row["data"]["relationships"]["opportunityStage"]["data"]
    assert isinstance(link["id"], str)
    assert row["included"][0]["id"] == link["id"]
    changed = api.call("PATCH", "/opportunities/1", edit("opportunity", {"name": "B"}, {"owner": ("user", "2")}, "1"))  # type: ignore[dict-item]
    assert changed.json()["data"]["relationships"]["owner"]["data"] == {"type": "user", "id": "2"}


def test_newer_relationships__have_links_nothing_or_null(api: Api) -> None:
    """What live records carry beside those of the reference page, which the older generation leaves out."""
    relationships = api.get("/opportunities/1")["data"]["relationships"]
    assert relationships["opportunityHealthFactors"] == {}
    assert relationships["defaultPluginMapping"] == {"data": None}
    assert relationships["favorites"]["links"]["related"].startswith(api.box.url)
    api.box.switches.generation = "reference"
    assert len(api.get("/opportunities/1")["data"]["relationships"]) == 7


def test_trashed_rows__can_be_left_out() -> None:
    """Whether the service lists them is not documented."""
    for api in opened(sandbox(opportunities=100, seed=1)):
        trashed = [row["id"] for row in api.rows() if row["attributes"]["trashedAt"]]
        assert trashed
        api.box.switches.list_trashed = False
        assert set(api.ids()) == set(range(1, 101)) - set(trashed)
        assert api.get("/opportunities?count=true")["meta"]["count"] == 100 - len(trashed)


def test_upper_bounds__may_be_ignored(api: Api) -> None:
    """As published readers report of the service."""
    moment = sorted(row["attributes"]["updatedAt"] for row in api.rows())[15]
    narrow = api.ids(f"filter[updatedAt]=neginf..{moment}")
    api.box.switches.ignore_upper_bounds = True
    assert len(narrow) == 16
    assert len(api.ids(f"filter[updatedAt]=neginf..{moment}")) == 30
    assert len(api.ids(f"newFilterSyntax=true&filter[updatedAt][lte]={moment}")) == 30


def test_doubled_parameters__can_be_refused(api: Api) -> None:
    """Lenient by default, for published readers send them."""
    assert len(api.get("/opportunities?page[size]=2&page[size]=3")["data"]) == 3
    api.box.switches.refuse_doubled_parameters = True
    assert api.call("GET", "/opportunities?page[size]=2&page[size]=3").status_code == 400
    listed = "newFilterSyntax=true&filter[id][]=1&filter[id][]=2"
    assert api.ids(listed) == [1, 2]


def test_before_request__lets_a_test_act_in_between(api: Api) -> None:
    """Called with method and path before each request is looked at."""
    seen: list[tuple[str, str]] = []
    api.box.switches.before_request = lambda method, path: seen.append((method, path))
    api.get("/opportunities/1")
    assert seen == [("GET", "/api/v2/opportunities/1")]


def test_latency__is_waited_before_the_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is as long as the switch says."""
    from opp_pandas.sandbox_server import application

    waited: list[float] = []
    monkeypatch.setattr(application.time, "sleep", waited.append)
    api.box.switches.latency_s = 1.5
    api.get("/opportunities/1")
    assert waited == [1.5]


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"latency": 1}, "no switch 'latency'; did you mean 'latency_s'"),
        ({"rate_limits": 1}, "did you mean 'rate_limit'"),
        ({"xyz": 1}, "no switch 'xyz'; there are 'bad_gateway_above'"),
        ({"reset_format": "minutes"}, "reset_format= is one of 'epoch'"),
        ({"ignore_parameters": ("page",)}, "ignore_parameters= is one of 'filter'"),
        ({"require_on_create": "name"}, r"require_on_create= takes tuple\[str, ...\], not"),
        ({"rate_limit": "5"}, "rate_limit= takes int, not '5'"),
        ({"rate_limit": True}, "rate_limit= takes int"),
        ({"latency_s": -1}, "latency_s= takes float, from 0 on, not -1"),
        ({"ids_as_text": 1}, "ids_as_text= takes bool"),
        ({"index_lag_s": "1"}, "index_lag_s= takes float"),
        ({"maintenance_until": datetime(2026, 9, 1)}, "a moment with its zone"),  # it is refused
        ({"before_request": 5}, "before_request= takes Callable"),
        ({"faults": [503]}, r"faults= takes list\[Fault\]"),
    ],
)
def test_switches__are_refused_where_they_cannot_be_used(api: Api, switch: dict[str, Any], said: str) -> None:
    """Misspelt, or of another kind: said with the name that is near, at the start and of a running sandbox alike."""
    with pytest.raises(ConfigurationError, match=said):
        sandbox(opportunities=0, **switch)
    with pytest.raises(ConfigurationError, match=said):
        setattr(api.box.switches, *next(iter(switch.items())))
    with pytest.raises(ConfigurationError, match="status= takes int"):
        api.box.fail("503")  # type: ignore[arg-type]


def test_silent_connections__are_cut_and_give_their_threads_back() -> None:
    """Half a request, or none, holds a thread for as long as the switch says."""
    with sandbox(opportunities=0, idle_timeout_s=0.3) as box:
        before = threading.active_count()
        address = ("127.0.0.1", urlsplit(box.url).port)
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(40)]
            for peer in peers[::2]:
                peer.sendall(b"GET /api/v2/opportunities HTTP/1.1\r\nHost:")
            # An empty read: the server has hung up.
            assert [peer.recv(1) for peer in peers] == [b""] * 40
        deadline = time.monotonic() + 10
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert threading.active_count() <= before
