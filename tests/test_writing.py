"""Writing back over real HTTP: what is sent, what came of it, and every way in which it can go wrong."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.carrier import require_loaded
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, PartialWriteError, ReadOnlyError
from opp_pandas.service.waiting import Clock
from opp_pandas.writeback import writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from opp_pandas.sandboxing import Sandbox
    from opp_pandas.service.client import Client

NOW = "2026-10-20T15:00:00Z"
STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
WRITES = ("PATCH", "POST", "DELETE")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a lost record does not wait."""
    monkeypatch.setattr(writer, "LOOK_UP_WAITS_S", (0.0, 1e-6))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox's file with 30 deals that this user may all edit and delete."""
    file = tmp_path_factory.mktemp("sandbox") / "deals.db"
    with opp.sandbox(opportunities=0, now=NOW, stages=STAGES, db=file) as made:
        for number in range(1, 31):
            made.client().create({"name": f"Deal {number}", "amount": 1000 * number, "probability": 50, "tags": ["a"]})
    return file


@pytest.fixture
def box(filled: Path, tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of one's own with these deals."""
    shutil.copy(filled, tmp_path / "deals.db")
    with opp.sandbox(db=tmp_path / "deals.db", now=NOW) as made:
        yield made


@pytest.fixture
def client(box: Sandbox) -> Client:
    return fast_client(box)


def fast_client(box: Sandbox, **options: Any) -> Client:
    """A client whose waits take no time."""
    return box.client(clock=Clock(sleep=lambda _: None, chance=lambda: 0.0), **options)


@pytest.fixture
def df(client: Client) -> pd.DataFrame:
    return opp.read_opportunities(client, stages=STAGES)


def sent(box: Sandbox, *methods: str) -> list[tuple[str, str]]:
    """The writes that reached the service."""
    chosen = methods or WRITES
    return [(item.method, item.path.rpartition("/")[2]) for item in box.requests if item.method in chosen]


def statuses(report: Any) -> list[str]:
    return report.rows["status"].tolist()


def now_at_service(client: Client, row_id: int) -> dict[str, Any]:
    return dict(client.get(row_id).data["attributes"])


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
        (lambda df: df, {"delete": [3], "allow_delete": True}, "deletes 1 deals", 1),
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
    adopted = opp.adopt(deals, stages=STAGES, probability="percent", currency="USD", as_of="2026-10-20")
    with pytest.raises(ConfigurationError, match="say where to"):
        adopted.opp.write_back()
    assert statuses(adopted.opp.write_back(client)) == ["written", "written"]
    assert adopted["id"].tolist() == [31, 32]
    adopted.loc[0, "name"] = "A2"
    assert statuses(adopted.opp.write_back()) == ["written"]


def test_call_budget__leaves_the_rest_planned(box: Sandbox) -> None:
    """When the calls are used up the remaining rows stay planned, and resume finishes them."""
    df = opp.read_opportunities(fast_client(box), stages=STAGES)
    df["probability"] = range(30)
    # One call reads ten rows again: three are left to write.
    report = df.opp.write_back(fast_client(box, max_calls=4), confirm=30, workers=1)
    assert statuses(report) == ["written"] * 3 + ["planned"] * 27
    assert "max_calls" in report.rows["detail"].iloc[29]
    finished = opp.resume(fast_client(box), report.journal)
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
    assert statuses(opp.resume(fast_client(box, max_calls=0), lost.journal)) == ["unknown"]
    box.fail(500, method="GET", times=20)
    assert statuses(opp.resume(client, lost.journal)) == ["unknown"]
    box.switches.faults.clear()
    assert statuses(opp.resume(client, lost.journal)) == ["written"]


def test_reading_fails_on_resume__leaves_the_row_unknown(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A lost PATCH that cannot be looked into is not called failed: it may have been applied."""
    df.loc[0, "next_step"] = "x"
    box.fail(0, method="PATCH", applied=True)
    box.fail(500, method="GET", times=50, after=1)
    report = df.opp.write_back()
    assert statuses(opp.resume(client, report.journal)) == ["unknown"]
    box.switches.faults.clear()
    assert statuses(opp.resume(client, report.journal)) == ["written"]


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
    assert "opp.resume() finishes the rest" in stopped.value.__notes__[0]
    assert df["id"].notna().sum() >= 42
    assert set(statuses(df.opp.write_back())) == {"written"}
    again = opp.read_opportunities(client, stages=STAGES)
    assert again["name"].value_counts().max() == 1
    assert len(again) == 55
    assert set(statuses(opp.resume(client))) <= {"written"}
    assert len(opp.read_opportunities(client, stages=STAGES)) == 55


@pytest.mark.parametrize(
    "options", [{"on_conflict": "win"}, {"workers": 5}, {"workers": 0}, {"custom_ids": "maybe"}, {"delete": "88"}]
)
def test_arguments__that_cannot_be_used_are_refused(df: pd.DataFrame, options: Any) -> None:
    """A wrong word is an error before anything else happens."""
    df.loc[0, "name"] = "x"
    with pytest.raises(ConfigurationError):
        df.opp.write_back(**options)


# --- conflicts --------------------------------------------------------------------


def test_conflict__is_left_and_reported(client: Client, df: pd.DataFrame) -> None:
    """Both changed one cell: nothing of the row is sent, the report has all three values."""
    df.loc[0, ["next_step", "probability"]] = ["mine", 70]
    client.update(1, {"nextStep": "theirs", "description": "also theirs"})
    report = df.opp.write_back()
    assert statuses(report) == ["conflict"]
    assert report.conflicts.to_dict("records") == [
        {"id": 1, "field": "next_step", "loaded": None, "mine": "mine", "theirs": "theirs"}
    ]
    assert now_at_service(client, 1)["probability"] == 50
    assert "theirs" in report._repr_html_()
    with pytest.raises(PartialWriteError, match="1 conflict"):
        report.raise_for_status()


@pytest.mark.parametrize(("policy", "step"), [("mine", "mine"), ("theirs", "theirs")])
def test_conflict__is_settled_by_the_policy(client: Client, df: pd.DataFrame, policy: Any, step: str) -> None:
    """The policy decides the cell; what only I changed is sent, what only they changed is kept."""
    df.loc[0, ["next_step", "probability"]] = ["mine", 70]
    client.update(1, {"nextStep": "theirs", "description": "also theirs"})
    assert statuses(df.opp.write_back(on_conflict=policy)) == ["written"]
    has = now_at_service(client, 1)
    assert (has["nextStep"], has["probability"], has["description"]) == (step, 70, "also theirs")
    assert df.loc[0, ["next_step", "probability", "description"]].tolist() == [step, 70, "also theirs"]
    assert len(df.opp.changes()) == 0


@pytest.mark.parametrize(
    ("answer", "status", "step"),
    [("mine", "written", "mine"), ("theirs", "unchanged", "theirs"), ("?", "conflict", "theirs")],
)
def test_conflict__is_asked_about(client: Client, df: pd.DataFrame, answer: str, status: str, step: str) -> None:
    """With "ask" a function is asked, with what was loaded, mine and theirs."""
    questions = []

    def ask(*question: Any) -> str:
        questions.append(question)
        return answer

    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    assert statuses(df.opp.write_back(on_conflict="ask", ask=ask)) == [status]
    assert questions == [(1, "next_step", None, "mine", "theirs")]
    assert now_at_service(client, 1)["nextStep"] == step


def test_conflict__that_moved_while_asked_stays_one(client: Client, df: pd.DataFrame) -> None:
    """An answer counts for the value that was asked about, not for one that came since."""

    def ask(*question: Any) -> str:
        client.update(1, {"nextStep": "newer"})
        return "mine"

    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    report = df.opp.write_back(on_conflict="ask", ask=ask)
    assert (statuses(report), now_at_service(client, 1)["nextStep"]) == (["conflict"], "newer")


def test_amounts__are_one_sum_in_a_conflict(client: Client, df: pd.DataFrame) -> None:
    """The exact amount was changed there, the whole one here: theirs keeps both, mine sends both."""
    df.loc[0, "amount"] = 6000
    client.update(1, {"amountPrecise": "1000.40"})
    copy = df.copy()
    assert statuses(df.opp.write_back()) == ["conflict"]
    assert statuses(copy.opp.write_back(on_conflict="theirs")) == ["unchanged"]
    assert copy.loc[0, "amount_precise"] == "1000.40"
    assert statuses(df.opp.write_back(on_conflict="mine")) == ["written"]
    assert now_at_service(client, 1)["amount"] == 6000


def test_amounts__are_asked_about_once(client: Client, df: pd.DataFrame) -> None:
    """The exact amount follows the answer for the amount."""
    df.loc[0, "amount"] = 6000
    client.update(1, {"amount": 7000})
    questions = []
    report = df.opp.write_back(on_conflict="ask", ask=lambda *question: questions.append(question) or "mine")
    assert ([question[1] for question in questions], statuses(report)) == (["amount"], ["written"])
    assert now_at_service(client, 1)["amount"] == 6000


@pytest.mark.parametrize(
    ("typed", "status"), [("m", "written"), ("T", "unchanged"), ("", "conflict"), (None, "conflict")]
)
def test_conflict__is_asked_about_where_the_program_runs(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, typed: str | None, status: str
) -> None:
    """Without a function of the user's a question is put; where nobody can answer it stays a conflict."""

    def answer(question: str) -> str:
        assert "loaded None, mine 'mine', theirs 'theirs'" in question
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answer)
    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    assert statuses(df.opp.write_back(on_conflict="ask")) == [status]


def test_same_change_on_both_sides__is_nothing_to_do(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """They made my change already: no PATCH."""
    client.update(1, {"nextStep": "Call"})
    before = len(sent(box))
    df.loc[0, "next_step"] = "Call"
    assert statuses(df.opp.write_back()) == ["unchanged"]
    assert len(sent(box)) == before
    assert len(df.opp.changes()) == 0


def test_gone__is_never_created_again(client: Client, df: pd.DataFrame) -> None:
    """Deleted there: updates and deletions say so, and nothing else happens."""
    client.delete(1)
    client.delete(2)
    df.loc[0, "name"] = "x"
    report = df.opp.write_back(delete=[2], allow_delete=True, confirm=2)
    assert statuses(report) == ["gone", "gone"]
    assert df["id"].tolist()[:2] == [1, 3]


@pytest.mark.parametrize(
    ("policy", "status", "left"),
    [("skip", "conflict", True), ("mine", "written", False), ("theirs", "unchanged", True)],
)
def test_deletion__of_a_deal_that_changed_since_is_a_conflict(
    client: Client, df: pd.DataFrame, policy: Any, status: str, left: bool
) -> None:
    """Somebody worked on it: it is deleted only if mine is to win."""
    client.update(1, {"nextStep": "theirs"})
    report = df.opp.write_back(delete=[1], allow_delete=True, confirm=1, on_conflict=policy)
    assert statuses(report) == [status]
    assert (1 in df["id"].tolist()) is left


def test_file_adopted_twice__makes_no_second_deal(client: Client) -> None:
    """A custom id of the outside CRM that the service has already is a conflict, unless mine is to win."""
    deals = pd.DataFrame({"key": ["7", "7", "8"], "name": ["A", "B", "C"], "amount": 1, "probability": 10})
    columns = {"key": "custom_id"}
    options = {"stages": STAGES, "probability": "percent", "currency": "USD", "as_of": NOW, "duplicates": "keep"}
    assert statuses(opp.adopt(deals, columns, **options).opp.write_back(client)) == ["written"] * 3
    again = opp.adopt(deals, columns, **options)
    report = again.opp.write_back(client)
    assert statuses(report) == ["conflict"] * 3
    assert "custom id '8' already (id 33)" in report.rows["detail"].iloc[2]
    assert statuses(again.opp.write_back(client, on_conflict="mine")) == ["written"] * 3


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


# --- faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 500, 502, 504])
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


@pytest.mark.parametrize("body", [b"<html>", b'{"data": []}', b"", b'{"data": {"type": "opportunity", "id": 99}}'])
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


@pytest.mark.parametrize("status", [0, 500, 504])
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


def test_lost_answer__to_a_post_without_custom_id_is_unknown_and_never_repeated(
    box: Sandbox, client: Client, df: pd.DataFrame
) -> None:
    """Nobody can tell; the next write-back refuses the row instead of making a second deal."""
    df = df.opp.add({"name": "New"})
    box.fail(0, method="POST", applied=True)
    report = df.opp.write_back(custom_ids="never")
    assert statuses(report) == ["unknown"]
    assert "look for it by its name" in report.rows["detail"].iloc[0]
    again = df.opp.write_back(custom_ids="never")
    assert statuses(again) == ["refused"]
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
    resumed = opp.resume(client, report.journal)
    assert statuses(resumed) == ["written"]
    assert len(sent(box, method)) == 1
    # The frame does not know of it; its next write-back finds it done.
    if method != "DELETE":
        assert statuses(df.opp.write_back()) == ["unchanged" if method == "PATCH" else "written"]
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


def test_five_failures_in_a_row__stop_the_batch(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """The rest stays planned; when the service is well again, resume finishes all of it."""
    df["probability"] = range(30)
    box.fail(500, times=10**6, method="PATCH")
    report = df.opp.write_back(confirm=30, workers=1)
    assert statuses(report) == ["failed"] * 5 + ["planned"] * 25
    assert len(sent(box, "PATCH")) == 10
    assert "opp.resume()" in report.rows["detail"].iloc[29]
    box.switches.faults.clear()
    finished = opp.resume(client, report.journal)
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


def test_failures_between_successes__stop_nothing(box: Sandbox, df: pd.DataFrame) -> None:
    """Only failures in a row count."""
    df["probability"] = range(30)
    for number in range(0, 30, 3):
        box.fail(403, method="PATCH", path=f"/{number + 1}", body=b"{}")
    report = df.opp.write_back(confirm=30, workers=1)
    assert report.counts() == {"written": 20, "rejected": 10}


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


def test_reading_again_fails__nothing_is_sent(box: Sandbox, df: pd.DataFrame) -> None:
    """A row that cannot be read again is not written blindly."""
    df.loc[0, "next_step"] = "x"
    box.fail(500, times=100, method="GET")
    report = df.opp.write_back()
    assert (statuses(report), sent(box, "PATCH")) == (["failed"], [])


def test_look_up_of_custom_ids_fails__nothing_is_created(box: Sandbox, client: Client) -> None:
    """Where nobody can say whether a deal exists, none is made."""
    deals = pd.DataFrame({"key": ["7"], "name": ["A"], "amount": 1, "probability": 10})
    adopted = opp.adopt(deals, {"key": "custom_id"}, stages=STAGES, probability="percent", currency="USD", as_of=NOW)
    box.fail(500, times=100, method="GET")
    assert (statuses(adopted.opp.write_back(client)), sent(box, "POST")) == (["failed"], [])


def test_rows_left_out_of_lists__are_read_one_by_one(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A list may leave a row out; its own address tells whether it is gone."""
    df.loc[0, "next_step"] = "x"
    box.fail(200, method="GET", path="/opportunities", body=b'{"data": []}')
    assert statuses(df.opp.write_back()) == ["written"]


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
    from opp_pandas.writeback.journal import Journal
    from opp_pandas.writeback.journals import journal_folder
    from opp_pandas.writeback.sending import tasks_of

    df["probability"] = range(30)
    plan = df.opp.changes()
    seconds = iter(range(0, 10**6, 2))
    with Journal.create(journal_folder(), plan, service=client.url, on_conflict="skip", undoes="") as journal:
        tasks = tasks_of(plan)[:10]
        before = len(box.requests)
        writer.Writer(client, journal, clock=lambda: float(next(seconds))).carry_out(tasks)
    reads = box.requests[before:]
    assert {task.outcome.status for task in tasks} == {"written"}
    assert sum(item.method == "GET" for item in reads) > 2
