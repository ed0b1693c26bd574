"""Writes whose answer was lost: settled, or called unknown; never repeated blindly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.apply import send_creates
from thirtydeals import STAGES, fast_client, now_at_service, sent, statuses

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.thirty_deals


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a lost record does not wait."""
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0, 1e-6))


@pytest.mark.parametrize("status", [0, 500, 502, 504, 302, 303])
@pytest.mark.parametrize("applied", [True, False])
def test_lost_answer__to_a_patch_is_settled_by_reading(
    box: Sandbox, client: Client, df: pd.DataFrame, status: int, applied: bool
) -> None:
    """A cut connection or 5xx, before or after the work was done: written once."""
    df.loc[0, "next_step"] = "x"
    box.fail(status, method="PATCH", applied=applied)
    report = df.opp.write_back()
    assert (statuses(report), now_at_service(client, 1)["nextStep"]) == (["written"], "x")
    assert len(sent(box, "PATCH")) == (1 if applied else 2)
    assert len(df.opp.changes()) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"data": []}',
        b"",
        b'{"data": {"type": "opportunity", "id": 99}}',
        b'{"data": {"type": "opportunity", "id": 1, "attributes": [1]}}',
        b'{"data": {"type": "opportunity", "id": 1, "relationships": [1]}}',
    ],
)
def test_lost_answer__unreadable_success_is_settled_too(
    box: Sandbox, client: Client, df: pd.DataFrame, body: bytes
) -> None:
    """A 200 or 201 that cannot be read says nothing about what happened."""
    df = df.opp.add({"name": "New"})
    df.loc[0, "next_step"] = "x"
    box.fail(200, method="PATCH", applied=True, body=body)
    box.fail(201, method="POST", applied=True, body=b"<html>")
    report = df.opp.write_back()
    assert statuses(report) == ["written", "written"]
    assert len(opp.read_opportunities(client, stages=STAGES)) == 31


@pytest.mark.parametrize("status", [0, 500, 504, 303])
@pytest.mark.parametrize("applied", [True, False])
def test_lost_answer__to_a_post_never_makes_two(
    box: Sandbox, client: Client, df: pd.DataFrame, status: int, applied: bool
) -> None:
    """The custom id tells whether the deal exists: one deal, whatever was lost."""
    df = df.opp.add({"name": "New"})
    box.fail(status, method="POST", applied=applied)
    report = df.opp.write_back()
    assert statuses(report) == ["written"]
    assert len(opp.read_opportunities(client, stages=STAGES)) == 31
    assert df["id"].iloc[-1] == 31
    assert len(df.opp.changes()) == 0


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(("name", "created"), [("Another", "2999-01-01T00:00:00Z"), ("New", "2020-01-01T00:00:00Z")])
def test_answer_of_another_deal__to_a_post_costs_that_one_nothing(
    box: Sandbox, client: Client, df: pd.DataFrame, applied: bool, name: str, created: str
) -> None:
    """A service that answers with a deal that was there: neither giving way nor undoing deletes that one."""
    df = df.opp.add({"name": "New", "custom_id": "CRM-9"})
    there = client.get(1).data
    attributes = {**there["attributes"], "name": name, "createdAt": created}
    answer = json.dumps({"data": {**there, "attributes": attributes}}).encode()
    box.fail(201, method="POST", applied=applied, body=answer)
    report = df.opp.write_back()
    assert statuses(report) == ["written" if applied else "unknown"]
    assert (
        report.rows["detail"]
        .iloc[0]
        .startswith(f"the service answered with another deal (id 1); {'it was found' if applied else 'sent once, and'}")
    )
    opp.undo(client, allow_delete=True, confirm=1 if applied else None)
    assert client.get(1).data == there
    assert len(opp.read_opportunities(client, stages=STAGES)) == 30


@pytest.mark.parametrize("custom", ["crm-9 ", None])
def test_answer_with_what_the_service_made_of_a_new_deal__is_no_other_deal(
    box: Sandbox, client: Client, df: pd.DataFrame, custom: str | None
) -> None:
    """A service that changes a custom id, or keeps none: the deal is ours, and what differs is said."""
    df = df.opp.add({"name": "New", "custom_id": "CRM-9"})
    there = client.get(1).data
    made = {**there, "id": 31, "attributes": {**there["attributes"], "name": "NEW", "customId": custom}}
    box.fail(201, method="POST", body=json.dumps({"data": made}).encode())
    report = df.opp.write_back()
    assert statuses(report) == ["adjusted"]
    assert report.rows["id"].tolist() == [31]


@pytest.mark.parametrize("applied", [True, False])
def test_answer_without_the_values__is_no_proof(box: Sandbox, client: Client, df: pd.DataFrame, applied: bool) -> None:
    """A success with an id alone says nothing of what was stored: the record is read."""
    df = df.opp.add({"name": "New"})
    df.loc[0, "next_step"] = "x"
    box.fail(200, method="PATCH", applied=applied, body=b'{"data": {"type": "opportunity", "id": 1}}')
    box.fail(201, method="POST", applied=True, body=b'{"data": {"type": "opportunity", "id": 31}}')
    report = df.opp.write_back()
    assert statuses(report) == ["written" if applied else "adjusted", "written"]
    assert df["next_step"].iloc[:1].dropna().tolist() == (["x"] if applied else [])
    assert len(df.opp.changes()) == 0
    # Its time of change is known, so undo sees that nobody touched it.
    assert opp.undo(client, allow_delete=True, confirm=1 + applied).rows["status"].iloc[-1] == "written"


def test_value_that_no_answer_shows__is_said(box: Sandbox, df: pd.DataFrame) -> None:
    """A service without an attribute never shows it: its value is not called stored, and stays an edit."""
    df.loc[0, "next_step"] = "x"
    bare = b'{"data": {"type": "opportunity", "id": 1, "attributes": {"name": "Deal"}}}'
    for method in ("PATCH", "GET"):
        box.fail(200, method=method, path="/opportunities/1", body=bare)
    report = df.opp.write_back()
    assert report.rows["detail"].tolist() == ["next_step: sent, and the service does not show it"]
    assert df.opp.changes().cells["field"].tolist() == ["next_step"]


def test_lost_answer__to_a_post_without_custom_id_is_never_repeated(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """Only its name and values tell: what is not seen stays unknown, however often it is written back, until it is."""
    df = df.opp.add({"name": "New"})
    box.fail(0, method="POST", applied=False)
    for _ in range(2):
        report = df.opp.write_back(custom_ids="never")
        assert statuses(report) == ["unknown"]
        assert "look for it by its name" in report.rows["detail"].iloc[0]
    client.create({"name": "New", "probability": 5})
    assert statuses(df.opp.write_back(custom_ids="never")) == ["written"]
    assert len(sent(box, "POST")) == 2
    df = df.opp.add({"name": "Newer"})
    box.fail(0, method="POST", applied=True)
    assert statuses(df.opp.write_back(custom_ids="never")) == ["written"]
    assert len(opp.read_opportunities(client, stages=STAGES)) == 32


def test_lost_answer__to_a_post_that_no_call_is_left_to_repeat(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """It was sent and may come late: nobody may call it planned and create it without looking."""
    df = df.opp.add({"name": "New"})
    box.fail(504, method="POST")
    # The POST, and a look for every wait.
    calls = 1 + len(send_creates.LOOK_UP_WAITS_S)
    report = df.opp.write_back(fast_client(box, max_calls=calls))
    assert statuses(report) == ["unknown"]
    client.create({"name": "New", "customId": report.rows["custom_id"].iloc[0]})
    assert statuses(df.opp.write_back()) == ["written"]
    assert len(opp.read_opportunities(client, stages=STAGES)) == 31


def test_lost_answer__to_every_post_is_unknown_and_found_later(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """Sent twice and never seen, then seen: found instead of created."""
    df = df.opp.add({"name": "New"})
    box.fail(502, method="POST", times=2)
    assert statuses(df.opp.write_back()) == ["unknown"]
    custom = str(df.opp.changes().creations[0].custom_id)
    client.create({"name": "New", "customId": custom})
    report = df.opp.write_back()
    assert (statuses(report), df["id"].iloc[-1]) == (["written"], 31)
    assert len(sent(box, "POST")) == 3


def test_new_deal__is_open_in_the_newest_plan_that_has_it(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A later plan takes a deal over that was never found, so that resume() knows which plan is meant."""
    df = df.opp.add({"name": "New"})
    for _ in range(2):
        box.fail(502, method="POST", times=2)
        assert statuses(df.opp.write_back()) == ["unknown"]
    box.switches.faults.clear()
    listed = opp.list_journals(service=client.url)
    # A sandbox of another test may have had the same port: the last two are ours.
    assert listed["open"].tolist()[-2:] == listed["unknown"].tolist()[-2:] == [0, 1]
    client.create({"name": "New", "customId": str(df.opp.changes().creations[0].custom_id)})
    assert statuses(opp.resume(client)) == ["written"]
    assert opp.list_journals(service=client.url)["open"].tolist() == [0, 0]


def test_lost_answer__a_refusal_of_the_second_post_is_looked_into(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """Where the service keeps custom ids unique the second POST is refused because the first arrived late."""
    df = df.opp.add({"name": "New"})
    custom = str(df.opp.changes().creations[0].custom_id)
    posts = iter(range(9))

    def late(method: str, path: str) -> None:
        if method == "POST" and next(posts) == 1:
            box.switches.before_request = None
            client.create({"name": "New", "customId": custom})
            box.fail(422, method="POST", body=b"{}")

    box.fail(504, method="POST")
    box.switches.before_request = late
    assert statuses(df.opp.write_back()) == ["written"]
    assert len(opp.read_opportunities(client, stages=STAGES)) == 31


def test_found_twice__is_reported_and_nothing_is_sent(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """Two deals with our custom id: somebody has to look."""
    df = df.opp.add({"name": "New"})
    custom = str(df.opp.changes().creations[0].custom_id)
    client.create({"name": "one", "customId": custom})
    client.create({"name": "two", "customId": custom})
    box.fail(504, method="POST")
    report = df.opp.write_back()
    assert statuses(report) == ["unknown"]
    assert "2 deals bear the custom id" in report.rows["detail"].iloc[0]


@pytest.mark.parametrize(("status", "applied"), [(0, True), (0, False), (504, True), (500, False)])
def test_lost_answer__to_a_delete_is_settled_by_asking(
    box: Sandbox, client: Client, df: pd.DataFrame, status: int, applied: bool
) -> None:
    """Deleted once, and said so."""
    box.fail(status, method="DELETE", applied=applied)
    report = df.opp.write_back(delete=[1], allow_delete=True, confirm=1)
    assert (statuses(report), len(opp.read_opportunities(client, stages=STAGES))) == (["written"], 29)


def test_lost_answer__to_a_delete_that_shows_late(box: Sandbox, df: pd.DataFrame) -> None:
    """Still there when asked for, gone at the second DELETE: it is deleted, and by this plan."""
    box.fail(504, method="DELETE", applied=True)
    stale = b'{"data": {"type": "opportunity", "id": 1, "attributes": {}}}'
    box.fail(200, method="GET", path="/opportunities/1", body=stale)
    report = df.opp.write_back(delete=[1], allow_delete=True, confirm=1)
    assert statuses(report) == ["written"]
    assert len(sent(box, "DELETE")) == 2


def test_deletion__of_what_vanished_meanwhile_is_gone(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """Somebody deletes it between the reading and the DELETE."""

    def between(method: str, path: str) -> None:
        if method == "DELETE":
            box.switches.before_request = None
            client.delete(1)

    box.switches.before_request = between
    assert statuses(df.opp.write_back(delete=[1], allow_delete=True, confirm=1)) == ["gone"]


@pytest.mark.parametrize(("status", "verdict"), [(500, "failed"), (504, "unknown"), (0, "unknown")])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_lost_twice__says_how_sure_it_is(
    box: Sandbox, df: pd.DataFrame, status: int, verdict: str, method: str
) -> None:
    """Twice not applied: surely where the service answered, perhaps still under way where nobody did."""
    box.fail(status, method=method, times=2)
    if method == "PATCH":
        df.loc[0, "next_step"] = "x"
        report = df.opp.write_back()
    else:
        report = df.opp.write_back(delete=[1], allow_delete=True, confirm=1)
    assert statuses(report) == [verdict]
    assert len(sent(box, method)) == 2


@pytest.mark.parametrize("method", ["PATCH", "POST", "DELETE"])
def test_lost_and_blind__is_unknown_until_resumed(box: Sandbox, client: Client, df: pd.DataFrame, method: str) -> None:
    """The answer is lost and reading fails too: unknown, and resume settles it."""
    options: dict[str, Any] = {}
    if method == "PATCH":
        df.loc[0, "next_step"] = "x"
    elif method == "POST":
        df = df.opp.add({"name": "New"})
    else:
        options = {"delete": [1], "allow_delete": True, "confirm": 1}
    box.fail(0, method=method, applied=True)
    # The row is read again before it is written; what comes after that fails.
    box.fail(500, method="GET", times=50, after=0 if method == "POST" else 1)
    report = df.opp.write_back(**options)
    assert statuses(report) == ["unknown"]
    box.switches.faults.clear()
    resumed = opp.resume(client, report.journal, plan=report.plan_number)
    assert statuses(resumed) == ["written"]
    assert len(sent(box, method)) == 1
    # The frame does not know of it; its next write-back finds it done.
    if method != "DELETE":
        assert statuses(df.opp.write_back()) == ["unchanged"]
        assert len(sent(box, method)) == 1


def test_lost_answer__to_a_patch_that_others_followed_is_a_conflict(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """Neither mine nor the old value is there: nobody is overwritten."""
    df.loc[0, "next_step"] = "mine"
    patches = iter(range(9))

    def between(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/1"):
            box.switches.before_request = None
            next(patches)
            client.update(1, {"nextStep": "theirs"})

    box.fail(504, method="PATCH", applied=True)
    box.switches.before_request = between
    report = df.opp.write_back()
    assert (statuses(report), now_at_service(client, 1)["nextStep"]) == (["conflict"], "theirs")


def test_deleted_between_reading_and_writing__is_gone(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """The PATCH or DELETE meets a 404, or the reading after a lost answer does."""
    for fault in (None, 504):
        row = 0 if fault is None else 1
        df.loc[row, "next_step"] = "x"

        def between(method: str, path: str, row_id: int = row + 1) -> None:
            if method == "PATCH":
                box.switches.before_request = None
                client.delete(row_id)

        if fault:
            box.fail(fault, method="PATCH", applied=True)
        box.switches.before_request = between
        assert statuses(df.iloc[[row]].opp.write_back()) == ["gone"]
