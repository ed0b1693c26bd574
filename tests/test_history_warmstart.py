"""A second load goes on from the history and fetches only what changed."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from histories import history_in_memory, load_of
from opp_pandas.frame_state import Rows, attach_loaded, loaded_of
from opp_pandas.history import History
from opp_pandas.history.query_identity import UNKNOWN, asked_for, pack_query, unpack_query

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

QUERY = {
    "filter": {"owner": [1, 2], "updated_at": (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None), "name": opp.NOT_NULL},
    "include": ("stage", "owner"),
    "where": {},
    "stages": opp.StageMap(order=["Lead", 3], won=["Won"], probability={3: 50.0, "Lead": 10.0}),
}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def test_query__comes_back_as_it_was() -> None:
    """Pairs stay pairs, lists stay lists, stages and moments stay what they are."""
    assert unpack_query(pack_query(QUERY)) == QUERY
    assert unpack_query(pack_query({"filter": {"x": object()}})) == {UNKNOWN: True}


def test_asked_for__is_equal_for_equal_deals() -> None:
    """The order of lists and the zone of an instant do not matter; service, filter, limit and where do."""
    asked = asked_for(QUERY, "a")
    berlin = dt.timezone(dt.timedelta(hours=1))
    same = {"owner": {2, 1}, "name": opp.NOT_NULL, "updated_at": (dt.datetime(2026, 1, 1, 1, tzinfo=berlin), None)}
    assert asked is not None
    assert asked_for({**QUERY, "filter": same, "include": (), "stages": None}, "a") == asked
    others = [
        asked_for(QUERY, "b"),
        asked_for({**QUERY, "filter": None}, "a"),
        asked_for({"filter": {"owner": 1}}, "a"),
    ]
    assert asked not in others
    for part in ({"limit": 5}, {"where": {"amount": 1}}, {UNKNOWN: True}, {"filter": {"x": object()}}):
        assert asked_for({**QUERY, **part}, "a") is None


def check_same(warm: pd.DataFrame, whole: pd.DataFrame) -> None:
    """Rows, order, columns, dtypes, marks, stages and completeness are those of a whole load."""
    pd.testing.assert_frame_equal(warm, whole, check_flags=False)
    one, other = loaded_of(warm), loaded_of(whole)
    assert one is not None
    assert other is not None
    assert dict(one.baseline.marks.original) == dict(other.baseline.marks.original)
    assert one.baseline.marks.locked.keys() == other.baseline.marks.locked.keys()
    pd.testing.assert_frame_equal(one.stages.frame, other.stages.frame)
    assert (one.query, one.timezone, one.report.complete) == (other.query, other.timezone, other.report.complete)
    assert len(one.report.failures) == len(other.report.failures)
    assert one.report.unknown_attributes == other.report.unknown_attributes
    assert len(warm.opp.changes()) == 0


def notes_of(df: pd.DataFrame) -> str:
    return " | ".join(df.opp.load_report.notes)


def edit_at_random(client: Client, ids: list[int], chance: random.Random) -> int:
    """Change, add and delete a few deals at the service; gives how many were deleted."""
    chosen = chance.sample(ids, 9)
    for key in chosen[:4]:
        client.update(key, {"amount": chance.randrange(1000), "name": f"deal {chance.random()}"})
    client.update(chosen[4], relationships={"owner": chance.choice([1, 2, 3]), "opportunityStage": 2})
    client.update(chosen[5], {"tags": [chance.choice("abc"), "x"], "closeDate": None})
    for turn in range(chance.randrange(3)):
        client.create(
            {"name": f"new {turn}", "closeDate": "2027-01-01T00:00:00Z"}, relationships={"opportunityStage": 1}
        )
    gone = chosen[6 : 6 + chance.randrange(4)]
    for key in gone:
        client.delete(key)
    return len(gone)


def test_second_load__makes_five_requests(history: History, box: Sandbox, client: Client) -> None:
    """Stages, people, accounts, what changed, and the count: however many deals there are."""
    whole = opp.read_opportunities(client, stages=STAGES, page_size=10)
    assert whole.opp.load_report.requests >= 6
    history.record(whole)
    box.advance(days=1)
    client.update(int(whole["id"][3]), {"amount": 77})
    warm = opp.read_opportunities(client, stages=STAGES, page_size=10, history=history)
    changed = int((warm["updated_at"] > whole["updated_at"].max()).sum())
    assert warm.opp.load_report.requests <= 5 + changed // 10
    assert "60 deals as they were at 2026-10-20" in notes_of(warm)
    check_same(warm, opp.read_opportunities(client, stages=STAGES))
    assert len(history.snapshots()) == 1


@pytest.mark.parametrize("asked", [{}, {"filter": {"owner": [1, 2, 3]}}])
def test_rounds_of_edits__give_what_a_whole_load_gives(history: History, box: Sandbox, asked: dict[str, Any]) -> None:
    """Edits, moves, new and deleted deals, round after round, recorded or not: never another frame."""
    chance = random.Random(4)
    with box.client(timezone="America/New_York") as client:
        history.record(opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", **asked))
        for turn in range(3):
            box.advance(days=chance.choice([0.001, 1, 5]))
            there = opp.read_opportunities(client, fields=["name"], authorization_meta=True, on_invalid="ignore")
            ids = [int(key) for key in there.loc[there["can_write"] & there["can_delete"], "id"]]
            deleted = edit_at_random(client, ids, chance)
            warm = opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", history=history, **asked)
            assert "changed since and were read again" in notes_of(warm)
            check_same(warm, opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", **asked))
            if turn != 1 and not asked:
                assert history.record(warm).gone >= deleted
                pd.testing.assert_frame_equal(history.as_of(), warm, check_flags=False)
            elif turn != 1:
                history.record(warm)


def test_deleted_deals__are_found_by_the_count(history: History, client: Client) -> None:
    """Nothing but the number tells of a deletion: then the ids are listed, and the report says how many are gone."""
    whole = opp.read_opportunities(client)
    history.record(whole)
    for key in whole["id"][:2]:
        client.delete(int(key))
    warm = opp.read_opportunities(client, history=history)
    assert "2 deals are gone at the service" in notes_of(warm)
    assert warm.opp.load_report.requests == 7
    assert warm.opp.load_report.complete is True
    assert history.record(warm).gone == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"where": {"amount": (50_000, None), "stage": [2, 3, 4]}},
        {"limit": 7},
        {"where": {"name": opp.NOT_NULL}, "include": ["owner"], "limit": 9},
        {"timezone": "Europe/Berlin", "include": []},
    ],
)
def test_other_questions__are_answered_from_a_whole_load(
    history: History, client: Client, asked: dict[str, Any]
) -> None:
    """Conditions, limits, fewer names, another zone: they are applied to what the history holds."""
    history.record(opp.read_opportunities(client, stages=STAGES))
    client.update(3, {"amount": 60_000})
    warm = opp.read_opportunities(client, history=history, **asked)
    assert "changed since" in notes_of(warm)
    whole = opp.read_opportunities(client, **asked)
    # The history also knows attributes that none of these few deals has.
    assert warm.drop(columns=whole.columns).isna().all(axis=None)
    pd.testing.assert_frame_equal(warm[whole.columns], whole, check_flags=False)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({}, {"filter": {"owner": 1}}, "holds no load from this service with this filter"),
        ({"fields": ["amount"]}, {}, "with this filter, these fields"),
        ({"include": ["stage"]}, {}, "these fields and names"),
        ({"limit": 5}, {}, "holds no load"),
        ({"where": {"amount": (1, None)}}, {}, "holds no load"),
        ({}, {"sort": "name"}, "order of sort="),
        ({}, {"authorization_meta": True}, "without a trace in updated_at"),
        (None, {}, "holds no load"),
    ],
)
def test_another_question__is_read_whole_and_said(
    history: History, client: Client, first: dict[str, Any] | None, second: dict[str, Any], reason: str
) -> None:
    """Where the history cannot help, every row is read, and the report says why."""
    if first is not None:
        history.record(opp.read_opportunities(client, **first))
    df = opp.read_opportunities(client, history=history, **second)
    assert reason in notes_of(df)
    pd.testing.assert_frame_equal(df, opp.read_opportunities(client, **second), check_flags=False)


def test_load_of_some_fields__leaves_the_others_as_they_are_known(client: Client) -> None:
    """What a load did not ask for, people too, is not recorded as missing."""
    history = history_in_memory()
    whole = opp.read_opportunities(client, stages=STAGES)
    history.record(whole)
    added = history.record(opp.read_opportunities(client, fields=["name", "amount"], stages=STAGES))
    assert (added.changed, added.cells) == (0, 0)
    pd.testing.assert_frame_equal(history.as_of(), whole, check_flags=False)
    client.update(3, {"amount": 60_000})
    warm = opp.read_opportunities(client, fields=["name", "amount"], stages=STAGES, history=history)
    assert "changed since" in notes_of(warm)
    check_same(warm, opp.read_opportunities(client, fields=["name", "amount"], stages=STAGES))


def test_partial_load__is_not_begun_from(client: Client) -> None:
    """After a whole load, one of a part does not hide what changed elsewhere."""
    history = history_in_memory()
    whole = opp.read_opportunities(client)
    history.record(whole)
    mine = whole["owner_id"].eq(1)
    other = int(whole.loc[~mine, "id"].iloc[0])
    client.update(other, {"amount": 123})
    history.record(opp.read_opportunities(client, filter={"owner": 1}))
    warm = opp.read_opportunities(client, history=history)
    assert int(warm.set_index("id").loc[other, "amount"]) == 123
    assert int(history.as_of().opp.refresh(client).set_index("id").loc[other, "amount"]) == 123


def test_incomplete_load__is_not_begun_from() -> None:
    """A load that lacks rows is never taken for all there is."""
    history = history_in_memory()
    query = {"filter": None, "where": None, "limit": None}
    at = pd.Timestamp(NOW)
    history.record(load_of([{"id": 1, "name": "a"}], NOW, complete=False, query=query, watermark=at))
    assert history.newest_load(str(asked_for(query, "test")), ["id"]) is None
    history.record(load_of([{"id": 1, "name": "a"}], "2026-10-21", complete=True, query=query, watermark=at))
    found = history.newest_load(str(asked_for(query, "test")), ["id"])
    assert found is not None
    assert list(found["id"]) == [1]


def test_attribute_of_a_later_time__has_everything_read(history: History, client: Client) -> None:
    """What only the changed rows would have is read for all of them."""
    whole = opp.read_opportunities(client)
    loaded = loaded_of(whole)
    assert loaded is not None
    assert "health_score" in whole.columns
    ignorant = loaded.renewed(baseline=Rows(loaded.baseline.frame.drop(columns="health_score")))
    history.record(attach_loaded(whole.drop(columns="health_score"), ignorant))
    client.update(int(whole.loc[whole["health_score"].notna(), "id"].iloc[0]), {"amount": 5})
    df = opp.read_opportunities(client, history=history)
    assert "the service sends 'health_score', which the history has never seen" in notes_of(df)
    assert df["health_score"].notna().sum() == whole["health_score"].notna().sum()


def test_checkpoint__that_a_load_from_a_history_never_opened_is_left_alone(
    client: Client, history: History, tmp_path: Path
) -> None:
    """Such a load keeps no pages, so a file of that name is somebody's own and is not removed."""
    history.record(opp.read_opportunities(client, stages=STAGES))
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes")
    df = opp.read_opportunities(client, stages=STAGES, history=history, checkpoint=notes)
    assert "changed since" in df.opp.load_report.notes[0]
    assert notes.read_text() == "my notes"
