"""A service that fails, is slow or says no, and saves that are broken off: what stays planned is finished later."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas import errors
from opp_pandas.api.auth.bearer import FixedToken
from opp_pandas.api.transport.retry import called_off_by
from opp_pandas.apply import executor, send_creates
from thirtydeals import NOW, STAGES, fast_client, sent, statuses

if TYPE_CHECKING:
    from opp_pandas.api.auth.secret import Secret
    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.thirty_deals


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a lost record does not wait."""
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0, 1e-6))


def test_five_failures_in_a_row__stop_the_batch(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """The rest stays planned; when the service is well again, resume finishes all of it."""
    df["probability"] = range(30)
    box.fail(500, times=10**6, method="PATCH")
    report = df.opp.write_back(confirm=30, workers=1)
    assert statuses(report) == ["failed"] * 5 + ["planned"] * 25
    assert len(sent(box, "PATCH")) == 10
    assert "opp.resume()" in report.rows["detail"].iloc[29]
    box.switches.faults.clear()
    finished = opp.resume(client, report.journal, plan=report.plan_number)
    assert statuses(finished) == ["written"] * 30
    again = opp.read_opportunities(client, stages=STAGES)
    assert again["probability"].tolist() == list(range(30))


@pytest.mark.parametrize(("status", "verdict"), [(401, "failed"), (403, "rejected")])
def test_denied_rows__stop_the_batch_after_five(box: Sandbox, df: pd.DataFrame, status: int, verdict: str) -> None:
    """A token that went bad is not tried thirty times."""
    df["probability"] = range(30)
    box.fail(status, times=10**6, method="PATCH", body=b"{}")
    report = df.opp.write_back(confirm=30, workers=1)
    assert statuses(report) == [verdict] * 5 + ["planned"] * 25


@pytest.mark.parametrize(
    "problem",
    [
        errors.NoResponseError("no whole answer in time"),
        errors.ResponseError("the token's service failed", status=500),
        errors.NotFoundError("no such page", status=404),
        errors.DocumentError("no document"),
    ],
)
def test_token_that_cannot_be_renewed__leaves_no_doubt(
    box: Sandbox, client: Client, df: pd.DataFrame, problem: errors.ServiceError
) -> None:
    """What the token's own service answers says nothing about a deal: no row is unknown, or called deleted."""

    class Held(FixedToken):
        def renew(self, used: Secret) -> Secret | None:  # noqa: ARG002
            raise problem

    df = df.opp.add({"name": "New"})
    df.loc[0, "next_step"] = "x"
    for method in ("PATCH", "POST", "DELETE"):
        box.fail(401, method=method)
    held = opp.connect(box.url, auth=Held(box.token))
    report = df.opp.write_back(held, delete=[30], allow_delete=True, confirm=3, custom_ids="never")
    assert statuses(report) == ["failed"] * 3
    assert "token" in report.rows["detail"].iloc[0]
    assert len(df) == 31
    assert statuses(opp.resume(client, report.journal, plan=report.plan_number)) == ["written"] * 3
    assert len(opp.read_opportunities(client, stages=STAGES)) == 30


def test_failures_between_successes__stop_nothing(box: Sandbox, df: pd.DataFrame) -> None:
    """Only failures in a row count."""
    df["probability"] = range(30)
    for number in range(0, 30, 3):
        box.fail(403, method="PATCH", path=f"/{number + 1}", body=b"{}")
    report = df.opp.write_back(confirm=30, workers=1)
    assert report.counts() == {"written": 20, "rejected": 10}


def test_service_that_is_gone__fails_and_says_so(box: Sandbox, df: pd.DataFrame) -> None:
    """Nobody answers at all: surely nothing was applied."""
    df.loc[0, "next_step"] = "x"
    box.close()
    report = df.opp.write_back()
    row = report.rows.iloc[0]
    assert (row["status"], row["http_status"], row["attempts"]) == ("failed", pd.NA, 1)


def test_rate_limit__longer_than_allowed_stops_at_once(box: Sandbox, df: pd.DataFrame) -> None:
    """A wait beyond max_wait_s: the first row failed, the rest stays planned, the time is named."""
    df["probability"] = range(30)
    box.fail(429, times=100, method="PATCH", headers={"Retry-After": "1800"}, body=b"{}")
    report = df.opp.write_back(confirm=30, workers=1)
    assert statuses(report) == ["failed"] + ["planned"] * 29
    assert "try again at" in report.rows["detail"].iloc[29]


def test_rate_limit__within_the_wait_is_waited_for(box: Sandbox, df: pd.DataFrame) -> None:
    """A short wait is made, and every row is written once."""
    df["probability"] = range(30)
    box.fail(429, times=3, method="PATCH", headers={"Retry-After": "1"}, body=b"{}")
    report = df.opp.write_back(confirm=30, workers=1)
    assert report.counts() == {"written": 30}
    assert report.rows["attempts"].sum() == 33


def test_called_off__nothing_is_repeated(box: Sandbox, client: Client) -> None:
    """A request under way comes home; whatever it brings, it is not sent again."""
    event = threading.Event()
    event.set()
    box.fail(503)
    before = len(box.requests)
    with called_off_by(event):
        with pytest.raises(KeyboardInterrupt):
            client.get(1)
        assert len(box.requests) == before + 1
        assert client.get(1).data["id"] == 1


def test_reading_again_fails__nothing_is_sent(box: Sandbox, df: pd.DataFrame) -> None:
    """A row that cannot be read again is not written blindly."""
    df.loc[0, "next_step"] = "x"
    box.fail(500, times=100, method="GET")
    report = df.opp.write_back()
    assert (statuses(report), sent(box, "PATCH")) == (["failed"], [])


def test_look_up_of_custom_ids_fails__nothing_is_created(box: Sandbox, client: Client) -> None:
    """Where nobody can say whether a deal exists, none is made."""
    deals = pd.DataFrame({"key": ["7"], "name": ["A"], "amount": 1, "probability": 10})
    adopted = opp.adopt(deals, {"key": "custom_id"}, stages=STAGES, probability_unit="percent", as_of=NOW)
    box.fail(500, times=100, method="GET")
    assert (statuses(adopted.opp.write_back(client)), sent(box, "POST")) == (["failed"], [])


def test_rows_left_out_of_lists__are_read_one_by_one(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A list may leave a row out; its own address tells whether it is gone."""
    df.loc[0, "next_step"] = "x"
    box.fail(200, method="GET", path="/opportunities", body=b'{"data": []}')
    assert statuses(df.opp.write_back()) == ["written"]


def test_list_of_ids_that_is_refused__has_rows_read_one_by_one(box: Sandbox, df: pd.DataFrame) -> None:
    """A service without filter[id] refuses the reading, not the edit: none is called rejected for it."""
    df.loc[:1, "next_step"] = "x"
    box.fail(400, times=10**6, method="GET", path="/opportunities", body=b"{}")
    assert statuses(df.opp.write_back()) == ["written", "written"]


def test_new_deal__that_meets_nothing_at_its_address_is_not_gone(box: Sandbox, df: pd.DataFrame) -> None:
    """It was never there: the service took no new deal, and says so."""
    df = df.opp.add({"name": "New"})
    box.fail(404, method="POST", body=b"{}")
    report = df.opp.write_back()
    assert statuses(report) == ["rejected"]
    assert "nothing at the address of new deals" in report.rows["detail"].iloc[0]
    box.fail(504, method="POST")
    box.fail(404, times=10, method="GET", path="/opportunities", body=b"{}")
    assert statuses(df.opp.write_back()) == ["unknown"]


def test_records_that_are_none__among_those_read_again_are_passed_over(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """Before an update, and before a new deal: the rest of the page stands."""
    df = df.opp.add({"name": "New", "custom_id": "CRM-9"})
    df.loc[0, "next_step"] = "x"
    there = json.dumps({"data": [None, {"type": "opportunity"}, client.get(1).data]}).encode()
    box.fail(200, times=2, method="GET", path="/opportunities", body=there)
    assert statuses(df.opp.write_back()) == ["written", "written"]


def test_success_without_a_document__is_read(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A 204 to a PATCH: the row is read; if even that fails it is still written."""
    df.loc[0, "next_step"] = "x"
    box.fail(204, method="PATCH", applied=True, body=b"")
    assert statuses(df.opp.write_back()) == ["written"]
    assert len(df.opp.changes()) == 0
    df.loc[0, "next_step"] = "y"
    box.fail(204, method="PATCH", applied=True, body=b"")
    box.fail(500, method="GET", times=50, after=1)
    report = df.opp.write_back()
    assert statuses(report) == ["written"]
    assert "reading it again failed" in report.rows["detail"].iloc[0]


def test_slow_rows__are_read_again_after_five_seconds(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A reading older than five seconds is not relied upon."""
    from opp_pandas.apply.journal import Journal, journal_folder

    df["probability"] = range(30)
    plan = df.opp.changes()
    seconds = iter(range(0, 10**6, 2))
    with Journal.open(journal_folder(), client.url) as journal, journal.begin(plan) as begun:
        tasks = executor.announce(plan)[0][:10]
        before = len(box.requests)
        executor.Executor(executor.ApplyOptions(client), begun, lambda: float(next(seconds))).carry_out(tasks)
    reads = box.requests[before:]
    assert {task.outcome.status for task in tasks} == {"written"}
    assert sum(item.method == "GET" for item in reads) > 2


def test_call_budget__leaves_the_rest_planned(box: Sandbox) -> None:
    """When the calls are used up the remaining rows stay planned, and resume finishes them."""
    df = opp.read_opportunities(fast_client(box), stages=STAGES)
    df["probability"] = range(30)
    # One call reads ten rows again: three are left to write.
    report = df.opp.write_back(fast_client(box, max_calls=4), confirm=30, workers=1)
    assert statuses(report) == ["written"] * 3 + ["planned"] * 27
    assert "max_calls" in report.rows["detail"].iloc[29]
    finished = opp.resume(fast_client(box), report.journal, plan=report.plan_number)
    assert (statuses(finished).count("written"), len(finished.rows)) == (30, 30)


def test_call_budget__used_up_while_reading_or_creating_sends_nothing(box: Sandbox, client: Client) -> None:
    """The eleventh row cannot be read again, a new deal not be sent: both stay planned."""
    df = opp.read_opportunities(client, stages=STAGES)
    df["probability"] = range(30)
    report = df.opp.write_back(fast_client(box, max_calls=11), confirm=30, workers=1)
    assert statuses(report) == ["written"] * 10 + ["planned"] * 20
    # What an earlier attempt may have done is not known any better.
    new = opp.read_opportunities(client, stages=STAGES).opp.add({"name": "New"})
    assert statuses(new.opp.write_back(fast_client(box, max_calls=0))) == ["planned"]
    box.fail(0, method="POST", applied=True)
    box.fail(500, method="GET", times=20)
    lost = new.opp.write_back()
    box.switches.faults.clear()
    assert statuses(opp.resume(fast_client(box, max_calls=0), lost.journal, plan=lost.plan_number)) == ["unknown"]
    box.fail(500, method="GET", times=20)
    assert statuses(opp.resume(client, lost.journal, plan=lost.plan_number)) == ["unknown"]
    box.switches.faults.clear()
    assert statuses(opp.resume(client, lost.journal, plan=lost.plan_number)) == ["written"]


def test_reading_fails_on_resume__leaves_the_row_unknown(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A lost PATCH that cannot be looked into is not called failed: it may have been applied."""
    df.loc[0, "next_step"] = "x"
    box.fail(0, method="PATCH", applied=True)
    box.fail(500, method="GET", times=50, after=1)
    report = df.opp.write_back()
    assert statuses(opp.resume(client, report.journal, plan=report.plan_number)) == ["unknown"]
    box.switches.faults.clear()
    assert statuses(opp.resume(client, report.journal, plan=report.plan_number)) == ["written"]


@pytest.mark.parametrize("workers", [1, 4])
def test_interrupt__while_an_answer_is_awaited(
    box: Sandbox, client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Ctrl-C in the middle: what was written is in the frame, the rest is looked for later, nothing is doubled."""
    df = df.opp.add([{"name": f"New {number}"} for number in range(25)])
    original = type(client).create
    made = iter(range(100))

    def create(self: Client, *arguments: Any, **options: Any) -> Any:
        answer = original(self, *arguments, **options)
        if next(made) == 12:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(type(client), "create", create)
        with pytest.raises(KeyboardInterrupt) as stopped:
            df.opp.write_back(workers=workers)
    assert "opp.resume(plan=1) finishes the rest" in stopped.value.__notes__[0]
    assert df["id"].notna().sum() >= 42
    assert set(statuses(df.opp.write_back())) == {"written"}
    again = opp.read_opportunities(client, stages=STAGES)
    assert again["name"].value_counts().max() == 1
    assert len(again) == 55
    assert set(statuses(opp.resume(client))) <= {"written"}
    assert len(opp.read_opportunities(client, stages=STAGES)) == 55
