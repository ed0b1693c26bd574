"""Writing back over real HTTP: what is sent, and what must be given before anything is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, ReadOnlyError
from opp_pandas.frame_state import require_loaded
from thirtydeals import STAGES, fast_client, load, sent, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.thirty_deals


# --- the ordinary way -----------------------------------------------------------


def test_write_back__sends_what_changed_and_nothing_else(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """One PATCH with one attribute; afterwards nothing is left to write."""
    df.loc[2, "next_step"] = "Call"
    report = df.opp.write_back()
    patches = [item for item in box.requests if item.method == "PATCH"]
    assert [json.loads(item.body) for item in patches] == [
        {"data": {"type": "opportunity", "id": 3, "attributes": {"nextStep": "Call"}}}
    ]
    assert (statuses(report), report.calls, report.announced) == (["written"], 2, 2)
    assert len(df.opp.changes()) == 0
    assert len(df.opp.write_back().rows) == 0
    assert report.raise_for_status() is report


def test_write_back__keeps_index_order_and_other_columns(df: pd.DataFrame) -> None:
    """The service's values go into the very frame, under its own index and order."""
    df["score"] = range(30)
    shuffled = df.sort_values("amount", ascending=False).set_index("name")
    before = shuffled.copy()
    shuffled.loc["Deal 7", "probability"] = 80
    shuffled.opp.write_back()
    assert shuffled.index.equals(before.index)
    assert shuffled["score"].tolist() == before["score"].tolist()
    assert shuffled.loc["Deal 7", "probability"] == 80
    assert len(shuffled.opp.changes()) == 0
    # Another copy of the same load keeps its own baseline.
    assert len(df.opp.changes()) == 0


def test_write_back__takes_new_deals_changes_and_deletions_at_once(box: Sandbox, df: pd.DataFrame) -> None:
    """Rows come back in the order of the plan, new ones with their ids, deleted ones are gone."""
    df = df.opp.add([{"name": "New", "amount": 7, "close_date": "2026-12-31"}, {"name": "Other"}])
    df.loc[0, "name"] = "Renamed"
    report = df.opp.write_back(delete=[5], allow_delete=True, confirm=4)
    assert report.rows["action"].tolist() == ["update", "create", "create", "delete"]
    assert statuses(report) == ["written", "written", "written", "written"]
    assert df["id"].tolist()[-2:] == [31, 32]
    assert 5 not in df["id"].tolist()
    assert len(df) == 31
    assert len(df.opp.changes()) == 0
    assert report.calls == report.announced
    custom = df["custom_id"].iloc[-2]
    assert custom.startswith("opp-pandas:")


def test_write_back__resolves_names_of_new_deals(df: pd.DataFrame) -> None:
    """A stage by name becomes its id; an unknown one is refused with what comes near."""
    df = df.opp.add([{"name": "A", "stage_name": "Closed Won"}, {"name": "B", "stage_name": "Closed Wonn"}])
    report = df.opp.write_back()
    assert statuses(report) == ["written", "refused"]
    assert "'Closed Won'" in report.rows["detail"].iloc[1]
    assert df["stage_name"].iloc[30] == "Closed Won"


def test_dry_run__sends_nothing_and_shows_everything(box: Sandbox, df: pd.DataFrame) -> None:
    """Requests, their number, the effect and the confirmation that will be asked for."""
    df["probability"] = 60
    loaded = require_loaded(df, "test")
    report = df.opp.write_back(dry_run=True)
    assert sent(box) == []
    assert require_loaded(df, "test") is loaded
    assert (set(statuses(report)), report.announced) == ({"planned"}, 33)
    assert report.requests[0] == {
        "method": "PATCH",
        "path": "/opportunities/1",
        "body": {"data": {"type": "opportunity", "id": 1, "attributes": {"probability": 60}}},
    }
    assert "confirm=30 sends it" in repr(report)
    assert "confirm=30 sends it" in report._repr_html_()
    assert report.raise_for_status() is report


def test_plan__of_a_load_without_names_shows_ids(client: Client) -> None:
    """Deals are named where the load knows how they are called."""
    df = opp.read_opportunities(client, fields=["amount"], stages=STAGES)
    df.loc[0, "amount"] = 5
    assert "  update  1  amount  1000 → 5" in repr(df.opp.changes())
    named = load(client)
    named.loc[0, "amount"] = 5
    assert "  update  1 Deal 1  amount" in repr(named.opp.changes())


def test_workers__write_many_rows_once_each_in_the_order_of_the_plan(box: Sandbox, df: pd.DataFrame) -> None:
    """Four workers, no row twice, requests as announced."""
    df["probability"] = range(30)
    report = df.opp.write_back(confirm=30, workers=4)
    assert statuses(report) == ["written"] * 30
    assert report.rows["id"].tolist() == list(range(1, 31))
    assert sorted(int(key) for _, key in sent(box)) == list(range(1, 31))
    assert report.calls == report.announced == 33


# --- guards -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "options", "reason", "number"),
    [
        (lambda df: df.assign(probability=range(30)), {}, "30 of 30 rows", 30),
        (lambda df: df.assign(next_step=["x"] * 10 + [None] * 20), {}, "into next_step of 10 rows", 10),
        (lambda df: df, {"delete": [3], "allow_delete": True}, "deletes 1 deal:", 1),
        (lambda df: df.opp.add([{"name": f"n{i}"} for i in range(51)]), {}, "more than 50", 51),
        (lambda df: df.assign(next_step=["x"] + [None] * 29), {"confirm": 2}, "confirm says 2", 1),
        (lambda df: df.assign(next_step=["x"] + [None] * 29), {"confirm": "abc"}, "fingerprint", 1),
    ],
)
def test_confirmation__is_asked_before_any_request(
    box: Sandbox, df: pd.DataFrame, edit: Callable[[pd.DataFrame], pd.DataFrame], options: Any, reason: str, number: int
) -> None:
    """Large plans, deletions and anything but what was confirmed stop before the network."""
    edited = edit(df)
    before = len(box.requests)
    with pytest.raises(ConfirmationNeededError, match=reason) as asked:
        edited.opp.write_back(**options)
    assert (asked.value.number, len(asked.value.plan), len(box.requests)) == (number, number, before)


def test_confirmation__of_an_undoing_knows_how_many_rows_were_loaded(client: Client, df: pd.DataFrame) -> None:
    """The share that asks is the one of the plan that is taken back."""
    df.loc[:10, "next_step"] = [f"Call {number}" for number in range(11)]
    df.opp.write_back(confirm=11)
    with pytest.raises(ConfirmationNeededError, match="writes 11 of 30 rows, more than 10%"):
        opp.undo(client)
    assert opp.undo(client, confirm=11).counts() == {"written": 11}


def test_confirmation__by_fingerprint_sends_exactly_that_plan(df: pd.DataFrame) -> None:
    """The fingerprint of the dry run confirms; after one more edit it does not."""
    df = df.opp.add({"name": "N", "stage_name": "Closed Won"})
    dry = df.opp.write_back(dry_run=True)
    edited = df.copy()
    edited.loc[0, "name"] = "more"
    with pytest.raises(ConfirmationNeededError, match="fingerprint"):
        edited.opp.write_back(confirm=dry.plan.fingerprint)
    assert statuses(df.opp.write_back(confirm=dry.plan.fingerprint)) == ["written"]


def test_read_only__refuses_before_the_network(box: Sandbox) -> None:
    """A read-only client sends nothing at all, and a dry run is fine."""
    df = opp.read_opportunities(fast_client(box, read_only=True), stages=STAGES)
    df.loc[0, "name"] = "x"
    before = len(box.requests)
    with pytest.raises(ReadOnlyError):
        df.opp.write_back()
    assert len(box.requests) == before
    assert statuses(df.opp.write_back(dry_run=True)) == ["planned"]


def test_other_service__is_refused(df: pd.DataFrame) -> None:
    """Ids of one service mean nothing at another."""
    df.loc[0, "name"] = "x"
    with opp.sandbox(opportunities=1) as other, pytest.raises(ConfigurationError, match="mean nothing at"):
        df.opp.write_back(other.client())


def test_adopted_rows__need_a_service_and_then_belong_to_it(box: Sandbox, client: Client) -> None:
    """Without a client nothing is sent; after the first write the rows belong to that service."""
    deals = pd.DataFrame({"name": ["A", "B"], "amount": [1, 2], "probability": [10, 20]})
    adopted = opp.adopt(deals, stages=STAGES, probability_unit="percent", currency="USD", as_of="2026-10-20")
    with pytest.raises(ConfigurationError, match="say where to"):
        adopted.opp.write_back()
    assert statuses(adopted.opp.write_back(client)) == ["written", "written"]
    assert adopted["id"].tolist() == [31, 32]
    adopted.loc[0, "name"] = "A2"
    assert statuses(adopted.opp.write_back()) == ["written"]


def test_adopted_rows__rehearsed_elsewhere_are_created_all_the_same(client: Client) -> None:
    """What a journal of another service says was created there is not taken for created here."""
    deals = pd.DataFrame({"name": ["A", "B"], "amount": [1, 2], "probability": [10, 20]})
    adopted = opp.adopt(deals, stages=STAGES, probability_unit="percent", currency="USD", as_of="2026-10-20")
    with opp.sandbox(opportunities=7) as other:
        assert statuses(adopted.copy().opp.write_back(other.client())) == ["written", "written"]
    assert statuses(adopted.opp.write_back(client)) == ["written", "written"]
    assert (adopted["id"].tolist(), adopted["name"].tolist()) == ([31, 32], ["A", "B"])


@pytest.mark.parametrize(
    "options", [{"on_conflict": "win"}, {"workers": 5}, {"workers": 0}, {"custom_ids": "maybe"}, {"delete": "88"}]
)
def test_arguments__that_cannot_be_used_are_refused(df: pd.DataFrame, options: Any) -> None:
    """A wrong word is an error before anything else happens."""
    df.loc[0, "name"] = "x"
    with pytest.raises(ConfigurationError):
        df.opp.write_back(**options)


# --- what the service makes of it ---------------------------------------------------


def test_rejected__one_bad_row_stops_nothing(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A 422 is reported with its pointer and words; the other rows are written."""
    box.switches.require_on_create = ("name", "leadSource")
    df = df.opp.add({"name": "New"})
    df.loc[0, "next_step"] = "x"
    report = df.opp.write_back()
    assert statuses(report) == ["written", "rejected"]
    row = report.rows.iloc[1]
    assert (row["http_status"], row["pointer"]) == (422, "/data/attributes/leadSource")
    assert "can't be blank" in row["detail"]
    assert df["id"].isna().sum() == 1


def test_report__says_how_rows_are_tried_again_that_the_service_failed_on(box: Sandbox, df: pd.DataFrame) -> None:
    """Rows left over for no fault of theirs name the next step; a dry run and a finished plan have none."""
    df.loc[:1, "next_step"] = "Call"
    box.fail(500, times=100, method="PATCH")
    report = df.opp.write_back()
    assert report.counts() == {"failed": 2}
    words = "2 rows left: opp.resume(plan=1) tries again"
    assert repr(report).splitlines()[-1].strip() == words
    assert f"<p>{words}</p>" in report._repr_html_()
    assert words not in repr(df.opp.write_back(dry_run=True))
    box.switches.faults.clear()
    finished = opp.resume(fast_client(box), report.journal, plan=report.plan_number)
    assert finished.counts() == {"written": 2}
    assert "left" not in repr(finished)


def test_reports__of_many_rows_are_cut_and_say_so(df: pd.DataFrame, client: Client) -> None:
    """A notebook shows fifty rows and counts the others; deals bear their names."""
    df = df.opp.add([{"name": f"New {number}"} for number in range(40)])
    df.loc[:29, "probability"] = range(30)
    client.update(1, {"probability": 99})
    shown = df.opp.write_back(confirm=70)._repr_html_()
    assert "<p>And 20 more: .rows lists them.</p>" in shown
    assert ">2 Deal 2</td>" in shown
    assert shown.count(">1 Deal 1</td>") == 2
    assert ">99</td>" in shown


def test_adjusted__the_frame_takes_the_services_value(client: Client) -> None:
    """What the service stores differently is reported, and the next diff is empty."""
    df = opp.read_opportunities(client, stages=STAGES)
    df["close_date"] = df["close_date"].astype("datetime64[us, UTC]")
    df.loc[0, "close_date"] = pd.Timestamp("2026-12-31T12:00:00.000001Z")
    report = df.opp.write_back()
    assert statuses(report) == ["adjusted"]
    assert "stored" in report.rows["detail"].iloc[0]
    assert df.loc[0, "close_date"] == pd.Timestamp("2026-12-31T12:00Z")
    assert len(df.opp.changes()) == 0


def test_progress__is_told_row_by_row_and_can_stop(client: Client) -> None:
    """A callable hears of every row; after False no further row is begun, and the rest stays planned."""
    df = opp.read_opportunities(client, stages=STAGES)
    df.loc[:4, "next_step"] = ["a", "b", "c", "d", "e"]
    told: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> bool:
        told.append((done, total))
        return done < 2

    report = df.opp.write_back(progress=watch, workers=1)
    assert told == [(1, 5), (2, 5)]
    assert report.counts() == {"planned": 3, "written": 2}
    assert set(report.rows["detail"][2:]) == {"not sent: stopped before it"}
    assert len(df.opp.changes()) == 3


def test_names__that_nobody_may_look_up_are_refused() -> None:
    """An app that may not read stages: the name settles nothing, and the row is held back."""
    with opp.sandbox(opportunities=3, scopes=frozenset({"opportunities.all"})) as narrow:
        df = opp.read_opportunities(narrow.client(), include=(), stages=STAGES)
        report = df.opp.add({"name": "A", "stage_name": "Discover"}).opp.write_back(dry_run=True)
    assert statuses(report) == ["refused"]
    assert "may not read whose id 'Discover' is; set stage_id" in report.rows["detail"].iloc[0]
