"""Rare turns of a write-back: what others changed in between, and what a service or a disk seldom does."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from filelock import FileLock

import opp_pandas as opp
from loads import load as load_frame
from loads import resource
from opp_pandas.api.transport.retry import Clock
from opp_pandas.apply import send_creates
from opp_pandas.apply.journal import Journal, journal_path
from opp_pandas.apply.results import take_outcomes
from opp_pandas.apply.status import Outcome, Status
from opp_pandas.changes import plan_file, rules
from opp_pandas.changes.changeset import RowCreation, RowUpdate
from opp_pandas.changes.name_lookup import NameBook, resolve_names
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.changes.rules import read_only_reason
from opp_pandas.errors import ConfigurationError, JournalError
from opp_pandas.frame_state import require_loaded
from opp_pandas.resource import TOUCH_COLUMNS
from thirtydeals import NOW, STAGES, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.thirty_deals

OLD = Path(__file__).parent / "data" / "written_by_0"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0, 1.0))


# --- two machines ---------------------------------------------------------------


class Rival:
    """A service with a clock, a client whose waits move it, and another machine that makes our deal too."""

    def __init__(self, box: Sandbox) -> None:
        self.box, self.other = box, box.client()
        self.client = box.client(clock=Clock(sleep=self.wait, chance=lambda: 0.0))
        self.now, self.df = pd.Timestamp(NOW), pd.DataFrame()

    def wait(self, seconds: float) -> None:
        """Let time pass [s]."""
        self.now += pd.Timedelta(seconds=seconds)

    def comes(self, method: str, after: int = 0, then: Callable[[], Any] = lambda: None) -> None:
        """Make it before one of our requests, and do something more."""

        def make() -> None:
            self.other.create({"name": "Theirs", "customId": "CRM 1"})
            then()

        self.before(method, make, after)

    def before(self, method: str, act: Callable[[], Any], after: int = 0) -> None:
        """Do something before one of our requests: after so many of its method."""
        left = iter(range(after, -1, -1))

        def hook(asked: str, _: str) -> None:
            if asked == method and next(left) == 0:
                self.box.switches.before_request = None
                act()

        self.box.switches.before_request = hook

    def write(self) -> dict[str, Any]:
        """Make our deal; give its row of the report."""
        if "Ours" not in self.df["name"].tolist():
            self.df = self.df.opp.add({"name": "Ours", "custom_id": "CRM 1"})
        report = self.df.opp.write_back()
        (row,) = report.rows.to_dict("records")
        return row

    def names(self) -> list[str]:
        """What the service has."""
        pages = self.other.iter_pages()
        return [item["attributes"]["name"] for page in pages for item in page.document["data"]]


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rival]:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0, 5.0))
    made: list[Rival] = []
    with opp.sandbox(opportunities=0, now=lambda: made[0].now if made else pd.Timestamp(NOW)) as box:
        made.append(Rival(box))
        made[0].df = opp.read_opportunities(made[0].client, stages=STAGES)
        yield made[0]


def test_two_machines__an_older_deal_stays_and_ours_gives_way(rival: Rival) -> None:
    """Ours, which nobody touched, is deleted; the report says so and bears the other one's id."""
    rival.comes("POST")
    row = rival.write()
    assert (row["status"], row["id"]) == ("unchanged", 1)
    assert "ours, id 2, gave way and was deleted" in row["detail"]
    assert rival.names() == ["Theirs"]


@pytest.mark.parametrize("stays", [True, False])
def test_two_machines__a_younger_deal_that_stays_is_given_way_to(rival: Rival, stays: bool) -> None:
    """Its machine has not seen ours; where it goes in the meantime ours stays."""
    # Before the look that follows on ours.
    rival.comes("GET", 1, (lambda: None) if stays else lambda: rival.before("GET", lambda: rival.other.delete(2)))
    row = rival.write()
    assert (row["status"], row["id"]) == (("unchanged", 2) if stays else ("written", 1))
    assert rival.names() == (["Theirs"] if stays else ["Ours"])


@pytest.mark.parametrize(
    ("way", "status", "words", "left"),
    [
        ("ours touched", "unknown", "delete that one or id 2", ["Theirs", "Ours"]),
        ("ours stays", "unknown", "deleting it failed", ["Theirs", "Ours"]),
        ("both go", "gone", "both gave way", []),
        ("theirs goes", "written", "", ["Ours"]),
        ("theirs unseen", "unchanged", "gave way", ["Theirs"]),
    ],
)
def test_two_machines__what_cannot_be_settled_is_said(
    rival: Rival, way: str, status: str, words: str, left: list[str]
) -> None:
    """A deal that was edited stays, and one that cannot be deleted; nothing goes for one that is gone."""

    def touch() -> None:
        rival.wait(1)
        rival.other.update(2, {"nextStep": "theirs"})

    # Ours is made; then come the look for both, theirs, ours, and when ours is deleted theirs again.
    acts: dict[str, Callable[[], Any]] = {
        "ours touched": lambda: rival.before("GET", touch, 1),
        "ours stays": lambda: rival.box.fail(403, method="DELETE"),
        "both go": lambda: rival.before("DELETE", lambda: rival.other.delete(1)),
        "theirs goes": lambda: rival.before("GET", lambda: rival.other.delete(1), 1),
        "theirs unseen": lambda: rival.box.fail(403, method="GET", path="/1", times=9),
    }
    rival.comes("POST", then=acts[way])
    row = rival.write()
    rival.box.switches.faults.clear()
    assert (row["status"], words in row["detail"]) == (status, True), row
    assert rival.names() == left
    if way == "both go":
        assert rival.write()["status"] == "written"
        assert rival.names() == ["Ours"]


def test_two_machines__of_two_deals_after_a_lost_answer_nobody_knows_which_is_ours(rival: Rival) -> None:
    """The index shows theirs first, which is taken for ours; when it shows both the row says to compare them."""
    lags = iter([3.0, 0.0])
    rival.box.switches.index_lag_s = lambda: next(lags)
    rival.box.fail(0, method="POST", applied=True)
    rival.comes("GET", 1)
    row = rival.write()
    assert row["status"] == "unknown"
    assert "2 deals bear the custom id CRM 1 (id 1, 2): delete the doubled one" in row["detail"]
    assert len(rival.names()) == 2


# --- refusals -------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "ends"), [("update", "rejected"), ("create", "unknown")])
def test_lost_answer__then_a_refusal_and_nothing_found(
    box: Sandbox, client: Client, df: pd.DataFrame, kind: str, ends: str
) -> None:
    """An update that is not there was refused; a new deal that no look finds may be hidden by the index."""
    method = "PATCH" if kind == "update" else "POST"
    box.fail(504, method=method)
    box.fail(422, method=method, body=b"{}")
    if kind == "update":
        df.loc[0, "next_step"] = "Call"
    else:
        df = df.opp.add({"name": "New"})
    report = df.opp.write_back()
    assert statuses(report) == [ends]
    assert kind == "update" or "refused the second time" in report.rows["detail"].iloc[0]


def test_resume__refuses_what_may_no_longer_be_written(
    box: Sandbox, client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of an older version may hold a column that is read-only today; so may a saved one."""
    df.loc[0, "next_step"] = "Call"
    df = df.opp.add({"name": "New", "next_step": "Call"})
    saved = df.opp.changes().save(Path(os.environ["OPP_PANDAS_JOURNAL"]).with_name("plan.json"))
    box.fail(503, times=99, method="PATCH")
    df.opp.write_back(workers=1)
    box.switches.faults.clear()
    monkeypatch.delitem(rules.WRITABLE, "next_step")
    monkeypatch.setitem(rules.WRITABLE, "health_category", rules.WRITABLE["name"])
    report = opp.resume(client)
    assert "refused" in statuses(report)
    assert report.rows["detail"].str.contains("cannot be written").any()
    plan = ChangeSet.load(saved)
    assert [entry.column for entry in plan.refusals] == ["next_step", "next_step"]


def test_entry__of_a_damaged_or_foreign_plan_is_objected_to() -> None:
    """A name of no known column, a value that is none of its kind, and a column that is for reading."""
    creation = RowCreation(0, 0, {"name": "New"}, {"nobody": "x"}, "key")
    assert rules.entry_objection(creation) == ("nobody", "a name of no known column")
    odd = RowCreation(0, 0, {"name": "New", "probability": "high"}, {}, "key")
    assert str(rules.entry_objection(odd)).startswith("('probability', ")
    assert rules.entry_objection(RowUpdate(1, 0, 0, ())) is None


# --- journals -------------------------------------------------------------------


def test_journal__of_another_service_under_this_ones_name_is_refused(box: Sandbox, client: Client) -> None:
    """A file that was renamed is not taken for ours."""
    folder = Path(os.environ["OPP_PANDAS_JOURNAL"])
    Journal.open(folder, "https://elsewhere.example").close()
    journal_path(folder, "https://elsewhere.example").rename(journal_path(folder, client.url))
    with pytest.raises(JournalError, match="the journal is of https://elsewhere"):
        opp.resume(client)


def test_journal__has_a_name_for_a_user_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a container the user's number may stand for no name."""
    pwd = pytest.importorskip("pwd")

    def nobody(_: int) -> Any:
        raise KeyError

    mine = journal_path(tmp_path, "https://x.example")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert journal_path(tmp_path, "https://x.example") != mine


@pytest.mark.parametrize("what", ["in use", "damaged"])
def test_old_journal__that_cannot_be_taken_over_is_said(tmp_path: Path, what: str) -> None:
    """While an older program writes by it nothing of it is read; one whose checksum does not fit is damaged."""
    old = Path(shutil.copy(next(OLD.glob("*.journal")), tmp_path))
    old.chmod(0o600)
    if what == "damaged":
        with sqlite3.connect(old) as connection:
            connection.execute("UPDATE meta SET value = value || 'x' WHERE name = 'service'")
        connection.close()
        assert "damaged" in opp.list_journals(tmp_path)["problem"].iloc[0]
        return
    with FileLock(f"{old}.lock"):
        problem = opp.list_journals(tmp_path)["problem"].iloc[0]
    assert problem.startswith("an older opp_pandas is writing by this journal")


def test_resume__with_a_policy_takes_the_last_plan_with_conflicts(client: Client, df: pd.DataFrame) -> None:
    """Rows in conflict are tried again where somebody decides."""
    df.loc[0, "next_step"] = "Mine"
    client.update(1, {"nextStep": "Theirs"})
    assert statuses(df.opp.write_back()) == ["conflict"]
    assert statuses(opp.resume(client)) == []
    assert statuses(opp.resume(client, on_conflict="mine")) == ["written"]
    assert client.get(1).data["attributes"]["nextStep"] == "Mine"


def test_undo__of_a_deal_that_was_there_takes_back_what_was_edited(client: Client, df: pd.DataFrame) -> None:
    """A plan that joined somebody's deal and edited it gives its values back, and the deal stays."""
    df = df.opp.add({"name": "New", "probability": 10})
    df.copy().opp.write_back()
    df.loc[30, "probability"] = 20
    again = df.opp.write_back()
    assert statuses(again) == ["written"]
    assert statuses(opp.undo(client, plan=again.plan_number)) == ["written"]
    assert client.get(31).data["attributes"]["probability"] == 10


# --- words ----------------------------------------------------------------------


def test_plan__of_many_reasons_and_a_large_report_say_so(df: pd.DataFrame) -> None:
    """What is not shown is counted, and more requests than an hour allows are told with the hours."""
    df["probability"] = [1000 + number for number in range(30)]
    plan = df.opp.changes()
    assert re.search(r"and \d+ more reasons", str(plan))
    assert "refused" in plan._repr_html_()


def test_report__of_more_requests_than_an_hour_allows_says_how_many_hours(client: Client, df: pd.DataFrame) -> None:
    """And one of nothing says that there is nothing."""
    assert df.opp.write_back().summary() == "nothing to write"
    df.loc[0, "next_step"] = "Call"
    large = replace(df.opp.write_back(dry_run=True), reads=24_999)
    assert "25,000 requests are 2.5 times what the service allows in an hour" in str(large)


def test_undo__without_the_cents_says_that_they_are_not_given_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal of a version that did not write them down."""
    df = opp.read_opportunities(client, stages=STAGES, fields=["name", "amount"], include=())
    df.loc[0, "amount"] = 7
    df.opp.write_back()
    steps = Journal.steps

    def without_cents(self: Journal, number: int) -> list[Any]:
        return [
            replace(step, facts={k: v for k, v in step.facts.items() if k != "also"}) for step in steps(self, number)
        ]

    monkeypatch.setattr(Journal, "steps", without_cents)
    report = opp.undo(client, dry_run=True)
    assert report.plan.notes[0].endswith("goes back to a whole number: its cents were not written down")


def test_plan_file__that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a plan of hundreds of megabytes."""
    monkeypatch.setattr(plan_file, "_LARGEST", 10)
    (tmp_path / "plan.json").write_text("{}" * 20)
    with pytest.raises(ConfigurationError, match="too large"):
        ChangeSet.load(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("column", "words"), [("prospect_ids", "link_prospect"), (next(iter(TOUCH_COLUMNS)), "read_activity")]
)
def test_read_only_column__says_what_to_do_instead(column: str, words: str) -> None:
    """Prospects are linked by a call, and touches counted."""
    assert words in read_only_reason(column)


def test_answer__brings_its_permissions_along() -> None:
    """What the service says about a record beside its attributes goes into the frame too."""
    df = load_frame([resource(1)]).assign(can_write=True)
    answer = resource(1) | {"meta": {"canWrite": False}}
    take_outcomes(
        df, require_loaded(df, "test"), [Outcome("update", Status.WRITTEN, 1, position=0, resource=answer)], {}
    )
    assert not df["can_write"].iloc[0]


def test_name__that_fits_several_accounts_asks_for_the_id() -> None:
    """Leaving the account out would be no answer to that."""
    creation = RowCreation(0, 0, {"name": "New"}, {"account_name": "Twin"}, "key")
    plan = ChangeSet(creations=(creation,), unknown_names="leave_out")
    (refusal,) = resolve_names(plan, NameBook({"account_id": {1: "Twin", 2: "Twin"}})).refusals
    assert "fits 2 ids" in refusal.reason


def test_new_deal__without_id_where_the_look_before_is_refused(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """No right to look means that nothing is sent; a service without that filter cannot be asked, and is not."""
    df = df.opp.add({"name": "New"})
    box.fail(403, method="GET", times=1)
    assert statuses(df.opp.write_back(custom_ids="never")) == ["rejected"]
    box.fail(400, method="GET", times=1, body=b"{}")
    assert statuses(df.opp.write_back(custom_ids="never")) == ["written"]


def test_lost_answer__to_one_of_two_new_deals_with_one_custom_id_is_unknown(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """The id does not tell them apart."""
    df = df.opp.add([{"name": name, "custom_id": "CRM 9"} for name in ("A", "B")])
    box.fail(0, method="POST", applied=True)
    report = df.opp.write_back(workers=1)
    assert statuses(report) == ["unknown", "written"]
    assert "several new deals bear its custom id" in report.rows["detail"].iloc[0]


def test_resume__of_a_deal_of_which_nobody_knows_what_was_there_before(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """A journal of version 1 does not say: what bears the outside id now may be somebody else's."""
    df = df.opp.add({"name": "New", "custom_id": "CRM 9"})
    box.fail(0, method="POST", applied=True)
    box.fail(500, method="GET", times=40, after=1)
    report = df.opp.write_back()
    assert statuses(report) == ["unknown"]
    box.switches.faults.clear()
    with Journal.open(Path(str(report.journal)).parent, client.url) as opened, opened.writing():
        for key, facts in opened.keys().items():
            opened.put_key(key, facts | {"before": None})
    report = opp.resume(client)
    assert statuses(report) == ["unknown"]
    assert "nobody knows whether it was there before: compare them" in report.rows["detail"].iloc[0]
