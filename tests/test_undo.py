"""Resume, undo and plans in files, over real HTTP."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.api.transport.retry import Clock
from opp_pandas.apply import send_creates
from opp_pandas.apply.journal import OpenPlan, journal_path
from opp_pandas.changes import plan_file
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, JournalError, ReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])


@pytest.fixture(autouse=True)
def _own_journals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of journals of one's own; looking for lost records does not wait."""
    monkeypatch.setenv("OPP_PANDAS_JOURNAL", str(tmp_path / "journals"))
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0, 0.0))


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with opp.sandbox(opportunities=0, stages=STAGES, now="2026-10-20T15:00:00Z") as made:
        for number in range(1, 7):
            made.client().create({"name": f"Deal {number}", "amount": 1000 * number, "probability": 50})
        yield made


@pytest.fixture
def client(box: Sandbox) -> Client:
    return box.client(clock=Clock(sleep=lambda _: None, chance=lambda: 0.0))


@pytest.fixture
def df(client: Client) -> pd.DataFrame:
    return opp.read_opportunities(client, stages=STAGES)


def statuses(report: Any) -> list[str]:
    return report.rows["status"].tolist()


def at_service(client: Client) -> dict[int, tuple[Any, Any]]:
    again = opp.read_opportunities(client, stages=STAGES)
    return {int(row["id"]): (row["name"], row["probability"]) for row in again.to_dict("records")}


def edited(df: pd.DataFrame) -> pd.DataFrame:
    df = df.opp.add({"name": "New", "amount": 5})
    df.loc[0, "probability"] = 60
    df.loc[1, "name"] = "Renamed"
    return df


DELETE: dict[str, Any] = {"delete": [6], "allow_delete": True, "confirm": 4}


class Interrupted(BaseException):
    """Stands for Ctrl-C at an exact point."""


def interrupt(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Break off before the journal's write number `call`."""
    calls = iter(range(10**6))
    original: Callable[..., None] = OpenPlan._note

    def write(self: OpenPlan, *arguments: Any) -> None:
        if next(calls) == call:
            raise Interrupted
        original(self, *arguments)

    monkeypatch.setattr(OpenPlan, "_note", write)


# --- resume -----------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 3, 4, 6])
def test_resume__finishes_what_was_broken_off(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Wherever it stops, resume ends with every change made once; the frame finds nothing left to send."""
    df = edited(df)
    with monkeypatch.context() as patched:
        interrupt(patched, call)
        with pytest.raises(Interrupted) as stopped:
            df.opp.write_back(**DELETE, workers=1)
    assert "opp.resume(plan=1) finishes the rest" in stopped.value.__notes__[0]
    report = opp.resume(client)
    assert set(statuses(report)) == {"written"}
    assert at_service(client) == {
        1: ("Deal 1", 60), 2: ("Renamed", 50), 3: ("Deal 3", 50), 4: ("Deal 4", 50), 5: ("Deal 5", 50),
        7: ("New", None),
    }  # fmt: skip
    assert statuses(opp.resume(client)) == []
    # Saving the very frame again, as people do after Ctrl-C, makes nothing twice.
    if len(df.opp.changes()):
        assert set(statuses(df.opp.write_back())) <= {"unchanged", "written"}
    assert len(at_service(client)) == 6
    assert len(df.opp.changes()) == 0


@pytest.mark.parametrize("call", [0, 2, 5, 7])
def test_undo__takes_back_what_was_broken_off(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Undoing a half-sent plan restores what was sent, and resume then has nothing to do."""
    before = at_service(client)
    df = edited(df)
    with monkeypatch.context() as patched:
        interrupt(patched, call)
        with pytest.raises(Interrupted):
            df.opp.write_back(**DELETE, workers=1)
    dry = opp.undo(client, dry_run=True, allow_delete=True)
    report = opp.undo(client, allow_delete=True, confirm=dry.plan.fingerprint if len(dry.plan) else None)
    assert set(statuses(report)) <= {"written", "unchanged", "refused"}
    after = at_service(client)
    assert {key: after[key] for key in before if key in after} == {key: before[key] for key in after}
    gone = set(before) - set(after)
    # A deletion that went through stays: the report says so.
    assert ("refused" in statuses(report)) == bool(gone)
    # Resume has at most a deletion to settle that nobody saw end, and sends nothing.
    assert set(statuses(opp.resume(client))) <= {"unchanged", "written"}
    assert at_service(client) == after


def test_resume__says_which_plan_where_there_are_several(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, box: Sandbox
) -> None:
    """Two unfinished plans: one has to be named; a plan of another service is none of these."""
    for row in (0, 1):
        df.loc[row, "name"] = "x"
        with monkeypatch.context() as patched:
            interrupt(patched, 0)
            with pytest.raises(Interrupted):
                df.opp.write_back()
    with pytest.raises(ConfigurationError, match=r"2 plans are unfinished: name one with plan= \(1, 2\)"):
        opp.resume(client)
    listed = opp.list_journals()
    assert listed[["plan", "open"]].to_numpy().tolist() == [[1, 1], [2, 2]]
    path = Path(listed["journal"].iloc[0])
    assert statuses(opp.resume(client, path, plan=1)) == ["written"]
    with opp.sandbox(opportunities=0) as other, pytest.raises(ConfigurationError, match="is not the journal of"):
        opp.resume(other.client(), path)
    with pytest.raises(ReadOnlyError):
        opp.resume(box.client(read_only=True))


def test_write_back__after_resume_knows_what_resume_created(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal tells the frame: a deal that resume created, and somebody deleted since, is not created again."""
    df = df.opp.add([{"name": "A"}, {"name": "B"}])
    with monkeypatch.context() as patched:
        interrupt(patched, 0)
        with pytest.raises(Interrupted):
            df.opp.write_back()
    assert statuses(opp.resume(client)) == ["written", "written"]
    client.delete(7)
    report = df.opp.write_back()
    assert statuses(report) == ["gone", "unchanged"]
    assert "it is there already: plan 1 created it" in report.rows["detail"].iloc[1]
    assert list(at_service(client)) == [1, 2, 3, 4, 5, 6, 8]


def test_resume__without_a_plan_takes_up_the_last_one_where_rows_only_failed(
    client: Client, df: pd.DataFrame, box: Sandbox
) -> None:
    """What the service had no time for is sent again; an older plan, whose rows a later one has sent, is not."""
    box.fail(429, method="PATCH", times=20)
    df.loc[0, "probability"] = 11
    assert statuses(df.opp.write_back(workers=1)) == ["failed"]
    box.switches.faults.clear()
    assert statuses(opp.resume(client)) == ["written"]
    assert at_service(client)[1][1] == 11
    assert len(opp.resume(client).rows) == 0
    box.fail(429, method="PATCH", times=20)
    df.loc[1, "probability"] = 12
    df.opp.write_back(workers=1)
    box.switches.faults.clear()
    df.opp.write_back(workers=1)
    assert len(opp.resume(client).rows) == 0


def test_undo__of_a_lost_new_deal_leaves_one_that_bore_its_id_before(
    client: Client, df: pd.DataFrame, box: Sandbox
) -> None:
    """What had the custom id before the first attempt is somebody else's, and is not deleted for ours."""
    theirs = client.create({"name": "Theirs", "customId": "CRM 1"}).data["id"]
    df = df.opp.add({"name": "Ours", "custom_id": "CRM 1"})
    box.fail(0, method="POST", times=2)
    assert statuses(df.opp.write_back(on_conflict="mine")) == ["unknown"]
    assert len(opp.undo(client, allow_delete=True).rows) == 0
    assert client.get(theirs).data["attributes"]["name"] == "Theirs"


@pytest.fixture
def resumed(client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A frame whose new deal was created by a resume that it knows nothing of."""
    df = df.opp.add({"name": "A", "amount": 100, "probability": 10, "next_step": "Call"})
    with monkeypatch.context() as patched:
        interrupt(patched, 0)
        with pytest.raises(Interrupted):
            df.opp.write_back()
    assert statuses(opp.resume(client)) == ["written"]
    return df


def test_write_back__after_resume_sends_what_was_edited_since(client: Client, resumed: pd.DataFrame) -> None:
    """An edit made on the old frame is sent to the deal that is there, and what a colleague changed stays."""
    client.update(7, {"nextStep": "theirs"})
    resumed.loc[6, ["probability", "amount"]] = [68, 250]
    report = resumed.opp.write_back()
    assert statuses(report) == ["written"]
    assert report.rows["detail"].tolist() == ["it is there already: plan 1 created it"]
    has = client.get(7).data["attributes"]
    assert (has["probability"], has["amount"], has["nextStep"]) == (68, 250, "theirs")
    assert has["amountPrecise"] == "250"
    assert resumed.loc[6, ["id", "probability", "amount", "next_step"]].tolist() == [7, 68, 250, "theirs"]
    assert len(resumed.opp.changes()) == 0
    assert len(at_service(client)) == 7


@pytest.mark.parametrize(
    ("policy", "status", "probability"),
    [("skip", "conflict", 40), ("theirs", "unchanged", 40), ("mine", "written", 68)],
)
def test_write_back__after_resume_overwrites_no_one(
    client: Client, resumed: pd.DataFrame, policy: Any, status: str, probability: int
) -> None:
    """What both sides changed of a new deal since is a conflict as of any other deal."""
    client.update(7, {"probability": 40})
    resumed.loc[6, "probability"] = 68
    report = resumed.opp.write_back(on_conflict=policy)
    assert statuses(report) == [status]
    assert at_service(client)[7] == ("A", probability)
    if status == "conflict":
        assert report.conflicts.to_dict("records") == [
            {"id": 7, "field": "probability", "loaded": 10, "mine": 68, "theirs": 40}
        ]
        assert resumed.loc[6, "probability"] == 68
        assert statuses(resumed.opp.write_back(on_conflict="mine")) == ["written"]
        assert at_service(client)[7] == ("A", 68)


def test_resume__takes_conflicts_up_again_when_asked(client: Client, df: pd.DataFrame) -> None:
    """With a policy given, rows in conflict are tried again; without one they stay."""
    df.loc[0, "name"] = "mine"
    df.loc[1, "name"] = "mine too"
    client.update(1, {"name": "theirs"})
    report = df.opp.write_back()
    assert statuses(report) == ["conflict", "written"]
    assert statuses(opp.resume(client, report.journal, plan=report.plan_number)) == ["conflict", "written"]
    assert statuses(opp.resume(client, report.journal, plan=report.plan_number, on_conflict="mine")) == [
        "written",
        "written",
    ]
    assert at_service(client)[1][0] == "mine"


def test_resume__connects_by_itself(box: Sandbox, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a client the usual environment variables say where."""
    monkeypatch.setenv("OPP_PANDAS_URL", box.url)
    monkeypatch.setenv("OPP_PANDAS_TOKEN", box.token)
    assert statuses(opp.resume()) == []
    df.loc[0, "name"] = "x"
    df.opp.write_back()
    assert statuses(opp.undo()) == ["written"]


# --- undo -------------------------------------------------------------------------


def test_undo__puts_old_values_where_ours_still_stand(client: Client, df: pd.DataFrame) -> None:
    """What somebody changed since is a conflict; undoing twice does nothing more."""
    df.loc[:2, "probability"] = [60, 70, 80]
    df.opp.write_back()
    client.update(2, {"probability": 99})
    report = opp.undo(client)
    assert statuses(report) == ["written", "conflict", "written"]
    assert [value for _, value in at_service(client).values()][:3] == [50, 99, 50]
    assert statuses(opp.undo(client, on_conflict="mine")) == ["written"]
    with pytest.raises(ConfigurationError, match="is to be undone"):
        opp.undo(client)


def test_undo__deletes_created_deals_with_consent_only(client: Client, df: pd.DataFrame) -> None:
    """Created deals need allow_delete and a confirmation; one that was worked on since is a conflict."""
    df = df.opp.add([{"name": "A"}, {"name": "B"}])
    df.opp.write_back()
    refused = opp.undo(client)
    assert statuses(refused) == ["refused", "refused"]
    assert "undo(allow_delete=True) deletes it" in refused.rows["detail"].iloc[0]
    with pytest.raises(ConfirmationNeededError, match="deletes 2 deals"):
        opp.undo(client, allow_delete=True)
    client.update(8, {"nextStep": "somebody's work"})
    assert statuses(opp.undo(client, allow_delete=True, confirm=2)) == ["written", "conflict"]
    assert list(at_service(client)) == [1, 2, 3, 4, 5, 6, 8]


def test_undo__cannot_bring_a_deleted_deal_back(client: Client, df: pd.DataFrame) -> None:
    """It says so, with what to do."""
    df.opp.write_back(delete=[1], allow_delete=True, confirm=1)
    report = opp.undo(client)
    assert statuses(report) == ["refused"]
    assert "the service gives no id back" in report.rows["detail"].iloc[0]


def test_undo__of_a_value_that_may_not_be_written_is_refused(box: Sandbox, df: pd.DataFrame, client: Client) -> None:
    """A probability of 101, as the service once had it, cannot be put back."""
    box.switches.check_probability_range = False
    client.update(1, {"probability": 101})
    df = opp.read_opportunities(client, stages=STAGES, on_invalid="ignore")
    df.loc[0, "probability"] = 60
    df.opp.write_back()
    report = opp.undo(client)
    assert statuses(report) == ["refused"]
    assert "101 is not within 0 to 100" in report.rows["detail"].iloc[0]


def test_undo__can_be_undone_and_resumed(client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undoing has its own journal: broken off, resume finishes it and marks what it undid."""
    df.loc[:1, "probability"] = [60, 70]
    done = df.opp.write_back()
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(Interrupted):
            opp.undo(client, done.journal, plan=done.plan_number, workers=1)
    assert statuses(opp.resume(client)) == ["written", "written"]
    assert [value for _, value in at_service(client).values()][:2] == [50, 50]
    assert opp.list_journals()["undone"].tolist() == [2, 0]
    assert statuses(opp.undo(client, plan=2)) == ["written", "written"]
    assert [value for _, value in at_service(client).values()][:2] == [60, 70]


def test_undo__of_an_undoing_lets_the_plan_stand_again(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest plan that did something is then this one, and not the one before it."""
    df.loc[4, "probability"] = 90
    df.opp.write_back()
    df.loc[:1, "probability"] = [60, 70]
    done = df.opp.write_back()
    undoing = opp.undo(client).plan_number
    assert opp.list_journals().set_index("plan").loc[done.plan_number, "undone"] == 2
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(Interrupted):
            opp.undo(client, plan=undoing, workers=1)
    assert statuses(opp.resume(client)) == ["written", "written"]
    listed = opp.list_journals().set_index("plan")
    assert listed.loc[done.plan_number, ["done", "undone"]].tolist() == [2, 0]
    assert statuses(opp.undo(client)) == ["written", "written"]
    assert [value for _, value in at_service(client).values()][:5] == [50, 50, 50, 50, 90]


def test_undo__settles_creations_nobody_saw(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A lost creation is looked for by its custom id; without one undo cannot know, and says so."""
    df = df.opp.add([{"name": "A"}])
    box.fail(0, method="POST", applied=True)
    box.fail(500, method="GET", times=20)
    report = df.opp.write_back()
    box.switches.faults.clear()
    assert statuses(report) == ["unknown"]
    copy = df.opp.changes().creations[0]
    assert statuses(opp.undo(client, report.journal, plan=report.plan_number)) == ["refused"]
    twin = client.create({"name": "A", "customId": copy.custom_id})
    twice = opp.undo(client, report.journal, plan=report.plan_number, allow_delete=True)
    assert "several deals bear its custom id" in twice.rows["detail"].iloc[0]
    client.delete(twin.data["id"])
    assert statuses(opp.undo(client, report.journal, plan=report.plan_number, allow_delete=True, confirm=1)) == [
        "written"
    ]
    assert len(at_service(client)) == 6

    df = df.opp.add([{"name": "B"}])
    box.fail(0, method="POST", applied=True)
    box.fail(500, method="GET", times=20, after=1)
    blind = df.iloc[-1:].opp.write_back(custom_ids="never")
    box.switches.faults.clear()
    unsure = opp.undo(client, blind.journal, plan=blind.plan_number, allow_delete=True)
    assert "nobody knows whether it was created" in unsure.rows["detail"].iloc[0]


@pytest.mark.parametrize("way", ["lost creation", "lost deletion", "deleted by others", "same edit by others"])
def test_undo__leaves_alone_what_this_plan_never_did(box: Sandbox, client: Client, df: pd.DataFrame, way: str) -> None:
    """Sent in vain, or done by somebody else: nothing is to be taken back, and the journal is settled."""
    options: dict[str, Any] = {"delete": [6], "allow_delete": True, "confirm": 1} if "delet" in way else {}
    if way == "lost creation":
        df = df.opp.add({"name": "New"}).iloc[-1:]
    elif way == "deleted by others":
        client.delete(6)
    elif way == "same edit by others":
        df.loc[0, "probability"] = 60
        client.update(1, {"probability": 60})
    if "lost" in way:
        box.fail(0, method="DELETE" if options else "POST", applied=False, times=2)
        box.fail(500, method="GET", times=200, after=1 if options else 0)
    report = df.opp.write_back(**options)
    box.switches.faults.clear()
    assert statuses(report) == [{"lost": "unknown", "dele": "gone", "same": "unchanged"}[way[:4]]]
    before = at_service(client)
    assert statuses(opp.undo(client, report.journal, plan=report.plan_number, allow_delete=True)) == []
    assert opp.list_journals().set_index("plan").loc[report.plan_number, "undone"] == 1
    assert at_service(client) == before


def test_resume__counts_the_look_up_of_new_deals(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deal that was written down and never sent is looked up, created and looked up again, all announced."""
    df = df.opp.add({"name": "New"})
    with monkeypatch.context() as patched:
        interrupt(patched, 0)
        with pytest.raises(Interrupted):
            df.opp.write_back()
    report = opp.resume(client)
    assert statuses(report) == ["written"]
    assert (len(report.requests), report.reads, report.calls) == (1, 2, 3)


def undoing_broken_off(client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The number of a plan of two written rows; their undoing died before its first answer was noted."""
    df.loc[:1, "probability"] = [60, 70]
    done = df.opp.write_back()
    with monkeypatch.context() as patched:
        interrupt(patched, 0)
        with pytest.raises(Interrupted):
            opp.undo(client, done.journal, plan=done.plan_number, workers=1)
    return done.plan_number


def test_undo__that_was_resumed_in_vain_marks_nothing(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody changed the row before the undoing came, the change stays to be undone."""
    number = undoing_broken_off(client, df, monkeypatch)
    client.update(1, {"probability": 99})
    assert statuses(opp.resume(client)) == ["conflict", "written"]
    assert opp.list_journals().set_index("plan").loc[number, "undone"] == 1


def test_undo__is_finished_also_where_the_plan_was_purged(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished plan is kept for some weeks only; an undoing of it that was broken off, until it is finished."""
    number = undoing_broken_off(client, df, monkeypatch)
    assert opp.purge_journals(days=0)["plan"].tolist() == [number]
    assert statuses(opp.resume(client)) == ["written", "written"]


# --- plans in files -----------------------------------------------------------------


def test_plan__is_saved_reviewed_and_applied_by_somebody_else(
    box: Sandbox, client: Client, df: pd.DataFrame, tmp_path: Path
) -> None:
    """The file sends exactly what was saved, with the same confirmation, and only where it was made for."""
    df = edited(df)
    plan = df.opp.changes(delete=[6], allow_delete=True)
    file = plan.save(tmp_path / "plan.json")
    loaded = ChangeSet.load(file)
    assert loaded.fingerprint == plan.fingerprint
    assert repr(loaded).splitlines()[0] == repr(plan).splitlines()[0]
    with pytest.raises(ConfirmationNeededError):
        opp.apply_plan(client, file)
    dry = opp.apply_plan(client, file, dry_run=True)
    assert [item["method"] for item in dry.requests] == ["PATCH", "PATCH", "POST", "DELETE"]
    with opp.sandbox(opportunities=0) as other, pytest.raises(ConfigurationError, match="was made for"):
        opp.apply_plan(other.client(), file, confirm=4)
    report = opp.apply_plan(box.client(), loaded, confirm=plan.fingerprint)
    assert (statuses(report), report.frame) == (["written"] * 4, None)
    assert at_service(client)[7] == ("New", None)
    # Whoever applies it once more creates no second deal.
    again = opp.apply_plan(client, file, confirm=4)
    assert statuses(again) == ["unchanged", "unchanged", "unchanged", "gone"]
    assert len(at_service(client)) == 6
    assert statuses(opp.apply_plan(client, ChangeSet())) == []


def test_plan__that_two_people_send_creates_once(
    box: Sandbox, client: Client, df: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends the file second has none of the first one's journals; the service tells what it did."""
    file = df.opp.add([{"name": "New"}, {"name": "Newer"}]).opp.changes().save(tmp_path / "plan.json")
    other = df.opp.add([{"name": "Old"}, {"name": "Older"}]).opp.changes().save(tmp_path / "other.json")
    assert opp.apply_plan(client, file, dry_run=True).reads == 2
    first = opp.apply_plan(client, file, journal=tmp_path / "hers")
    assert statuses(first) == ["written", "written"]
    second = opp.apply_plan(client, file, journal=tmp_path / "his")
    assert statuses(second) == ["unchanged", "unchanged"]
    assert "it is there already; it was found by its custom id" in second.rows["detail"].iloc[0]
    assert (second.rows["id"].tolist(), len(at_service(client))) == ([7, 8], 8)
    # Nor does one who was broken off before.
    with monkeypatch.context() as patched:
        interrupt(patched, 1)
        with pytest.raises(Interrupted):
            opp.apply_plan(client, other, journal=tmp_path / "hers", workers=1)
    assert statuses(opp.apply_plan(client, other, journal=tmp_path / "his")) == ["unchanged", "written"]
    assert statuses(opp.resume(client, tmp_path / "hers")) == ["written", "unchanged"]
    assert len(at_service(client)) == 10
    # A deal that bears the id twice is for a person to sort out; a service that cannot be asked gets nothing.
    twin = client.create({"name": "Twin", "customId": first.rows["custom_id"].iloc[0]}).data["id"]
    third = opp.apply_plan(client, file, journal=tmp_path / "its")
    assert statuses(third) == ["unknown", "unchanged"]
    assert f"id 7, {twin}" in third.rows["detail"].iloc[0]
    box.fail(500, method="GET", times=20)
    assert statuses(opp.apply_plan(client, file, journal=tmp_path / "theirs")) == ["failed", "failed"]


def test_plan__keeps_names_zone_and_refusals_for_the_reader(df: pd.DataFrame, tmp_path: Path) -> None:
    """What a reviewer reads is in the file too."""
    df.loc[0, "stage_name"] = "Closed Won"
    df.loc[1, "created_at"] = pd.Timestamp("2026-01-01", tz="UTC")
    plan = df.opp.changes()
    loaded = ChangeSet.load(plan.save(tmp_path / "plan.json"))
    won = plan.updates[0].cells[0].after
    assert loaded.words("stage_id", won) == plan.words("stage_id", won) == f"Closed Won ({won})"
    assert loaded.refused["reason"].tolist() == plan.refused["reason"].tolist()


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda whole: whole.update(format="else"),
    "version": lambda whole: whole.update(version=2),
    "checksum": lambda whole: whole["plan"].update(loaded_rows=7),
    "missing member": lambda whole: whole["plan"].pop("changes"),
    "read-only column": lambda whole: whole["plan"]["changes"]["updates"][0]["cells"][0].__setitem__(0, "created_at"),
    "broken rule": lambda whole: whole["plan"]["changes"]["updates"][0]["cells"][0].__setitem__(2, 101),
    "wrong kind": lambda whole: whole["plan"]["changes"]["updates"][0]["cells"][0].__setitem__(2, "sixty"),
    "no cells": lambda whole: whole["plan"]["changes"]["updates"][0].update(cells=[]),
    "no id": lambda whole: whole["plan"]["changes"]["updates"][0].update(id="../1"),
    "row twice": lambda whole: whole["plan"]["changes"]["updates"].append(whole["plan"]["changes"]["updates"][0]),
    "follows nothing": lambda whole: whole["plan"]["changes"]["updates"][0]["cells"][0].__setitem__(3, "id"),
    "unknown name": lambda whole: whole["plan"]["changes"]["creations"][0].update(unresolved={"colour": "red"}),
    "other fingerprint": lambda whole: whole["plan"].update(fingerprint="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("resealed", [False, True])
def test_plan__that_was_changed_by_hand_is_refused(
    df: pd.DataFrame, tmp_path: Path, change: str, resealed: bool
) -> None:
    """The checksum tells; and with a new checksum every value still has to pass the rules."""
    file = edited(df).opp.changes().save(tmp_path / "plan.json")
    whole = json.loads(file.read_text(encoding="utf-8"))
    CHANGES[change](whole)
    if resealed:
        whole["sha256"] = plan_file.checksum_of(whole["plan"])
    file.write_text(json.dumps(whole), encoding="utf-8")
    if resealed and change == "checksum":
        assert ChangeSet.load(file).loaded_rows == 7
        return
    with pytest.raises(ConfigurationError, match=r"plan\.json cannot be read as a plan"):
        ChangeSet.load(file)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000])
def test_plan__that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Any bytes give the package's own error."""
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read as a plan"):
        ChangeSet.load(file)
    with pytest.raises(ConfigurationError, match="cannot be read as a plan"):
        ChangeSet.load(tmp_path / "missing.json")


def test_plan__is_written_whole_or_not_at_all(df: pd.DataFrame, tmp_path: Path) -> None:
    """A value that is no JSON leaves neither the plan nor a piece of it."""
    from dataclasses import replace

    plan = replace(df.opp.changes(), notes=(object(),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        plan.save(tmp_path / "plan.json")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_journal_of_nobody__is_an_error(client: Client, tmp_path: Path) -> None:
    """A path that leads nowhere is said."""
    with pytest.raises(JournalError, match="no such journal"):
        opp.resume(client, tmp_path / "x.journal")


def test_journal_that_cannot_be_read__stops_its_own_service_alone(client: Client, df: pd.DataFrame) -> None:
    """Nobody knows what it did there: nothing is sent. Elsewhere it stands in nobody's way."""
    folder = Path(os.environ["OPP_PANDAS_JOURNAL"])
    folder.mkdir(mode=0o700)
    (folder / "bad.journal").write_bytes(b"nonsense" * 100)
    df = df.opp.add({"name": "New"})
    assert statuses(df.iloc[-1:].opp.write_back()) == ["written"]
    path = journal_path(folder, client.url)
    path.write_bytes(b"nonsense" * 100)
    df.loc[0, "name"] = "x"
    with pytest.raises(JournalError, match="move it away"):
        df.opp.write_back()
    assert path.read_bytes() == b"nonsense" * 100
    assert opp.list_journals()["problem"].notna().tolist() == [True, True]


def test_undo__of_a_lost_new_deal_notices_what_a_colleague_set() -> None:
    """A number, an instant or a relationship that was not sent: the deal stays, and one that nobody touched goes."""
    ticks = itertools.count()
    begin = pd.Timestamp("2026-10-20T15:00:00Z")
    edits: list[tuple[dict[str, Any], ...]] = [({"probability": 70},), ({"closeDate": "2026-12-24"},)]
    edits += [({}, {"owner": 2}), ()]
    with opp.sandbox(opportunities=0, stages=STAGES, now=lambda: begin + pd.Timedelta(seconds=next(ticks))) as box:
        client = box.client(clock=Clock(sleep=lambda _: None))
        df = opp.read_opportunities(client, stages=STAGES)
        for row_id, (state, edit) in enumerate(itertools.product(["written", "unknown"], edits), start=1):
            box.fail(0, method="POST", applied=True)
            if state == "unknown":
                box.fail(500, method="GET", times=20)
            assert statuses(df.opp.add({"name": "New"}).opp.write_back()) == [state]
            box.switches.faults.clear()
            if edit:
                client.update(row_id, *edit)
            ends = statuses(opp.undo(client, allow_delete=True, confirm=1))
            assert ends == (["conflict"] if edit else ["written"]), (state, edit)
            if edit:
                assert statuses(opp.undo(client, allow_delete=True, confirm=1, on_conflict="mine")) == ["written"]
