"""Bringing a frame up to date: what changed, what is kept, what is gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.api.paging import Page
from opp_pandas.frame_state import require_loaded
from opp_pandas.resource import ACCOUNT, STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.api.query import Query
    from opp_pandas.sandbox_handle import Sandbox


class Clock:
    """The sandbox's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 10, 20, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The present moment."""
        return self.now

    def move(self, **by: float) -> None:
        """Let time pass."""
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def box(clock: Clock) -> Iterator[Sandbox]:
    """A sandbox whose clock the test moves; nothing was changed in the last hour."""
    with opp.sandbox(opportunities=60, now=clock) as made:
        clock.move(hours=1)
        yield made


def asked(box: Sandbox, start: int = 0) -> list[dict[str, list[str]]]:
    """The queries for opportunities since."""
    return [parse_qs(request.query) for request in box.requests[start:] if request.path.endswith("/opportunities")]


def same_as_a_new_load(df: pd.DataFrame, client: Client, **options: Any) -> None:
    """Compare with what a load now gives, order and index apart."""
    fresh = opp.read_opportunities(client, stages=STAGES, **options)
    left = df.sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(left, fresh.sort_values("id").reset_index(drop=True), check_flags=False)
    base = require_loaded(df, "test").baseline.frame.sort_values("id").reset_index(drop=True)
    fresh_base = require_loaded(fresh, "test").baseline.frame.sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(base, fresh_base)


# --- what changed --------------------------------------------------------------


def test_refresh__reads_only_what_changed(box: Sandbox, client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Two changed and one new deal cost one page of three rows; the rest is not read again."""
    clock.move(hours=2)
    ids = df["id"].tolist()
    client.update(ids[3], {"name": "Renamed", "tags": ["x"]})
    client.update(ids[20], {"amount": None}, {"owner": None})
    made = client.create({"name": "Brand new", "probability": 5}).data["id"]
    start = len(box.requests)
    fresh = df.opp.refresh()
    (query,) = asked(box, start)
    assert query["filter[updatedAt][gte]"] == ["2026-10-20T15:58:00.000Z"]
    assert query["filter[updatedAt][lte]"] == ["2026-10-20T18:00:01.000Z"]
    assert query["sort"] == ["updatedAt,id"]
    assert fresh["id"].tolist() == [*ids, made]
    assert (fresh.loc[3, "name"], fresh.loc[3, "tags"]) == ("Renamed", ["x"])
    assert fresh.loc[20, ["amount", "owner_id", "owner_name"]].isna().all()
    assert df.loc[3, "name"] != "Renamed", "the frame itself is untouched"
    news = fresh.opp.load_report.refreshed
    assert dict(zip(news["id"], news["change"], strict=True)) == {ids[3]: "changed", ids[20]: "changed", made: "new"}
    assert len(fresh.opp.changes()) == 0
    same_as_a_new_load(fresh, client)


def test_refresh__of_an_unchanged_service_is_cheap(
    box: Sandbox, client: Client, df: pd.DataFrame, clock: Clock
) -> None:
    """Nothing changed: stages, owners, accounts and one empty page, four requests whatever the size."""
    clock.move(hours=1)
    before = client.calls
    fresh = df.opp.refresh()
    assert client.calls - before == 4
    pd.testing.assert_frame_equal(fresh, df, check_flags=False)
    assert fresh.opp.load_report.refreshed.empty


def test_refresh__again_starts_where_the_last_ended(box: Sandbox, df: pd.DataFrame, clock: Clock) -> None:
    """The watermark moves with every refresh, and a failed one leaves it where it was."""
    clock.move(hours=2)
    once = df.opp.refresh()
    clock.move(hours=1)
    start = len(box.requests)
    box.fail(400, path="/opportunities")
    with pytest.raises(errors.ResponseError):
        once.opp.refresh()
    once.opp.refresh()
    marks = [query["filter[updatedAt][gte]"][0] for query in asked(box, start)]
    assert marks == ["2026-10-20T17:58:00.000Z"] * 2
    assert require_loaded(once, "test").watermark == pd.Timestamp("2026-10-20T18:00:00Z")


@pytest.mark.parametrize("options", [{"overlap": "1h"}, {"overlap": 3600}, {"overlap": pd.Timedelta(hours=1)}])
def test_refresh__goes_back_by_the_overlap(box: Sandbox, df: pd.DataFrame, options: dict[str, Any]) -> None:
    """The overlap is a span in any of its forms."""
    start = len(box.requests)
    df.opp.refresh(**options)
    assert asked(box, start)[0]["filter[updatedAt][gte]"] == ["2026-10-20T15:00:00.000Z"]


def test_ties_at_the_seam__are_not_lost(box: Sandbox, client: Client, clock: Clock) -> None:
    """A change in the very second of the load is found, even without an overlap."""
    df = opp.read_opportunities(client, stages=STAGES)
    key = int(df["id"].iloc[0])
    client.update(key, {"name": "Same second"})
    fresh = df.opp.refresh(overlap=0)
    assert fresh.loc[0, "name"] == "Same second"
    client.update(key, {"name": "Same second, again"})
    assert fresh.opp.refresh(overlap=0).loc[0, "name"] == "Same second, again"


def test_ignored_upper_bounds__do_no_harm(box: Sandbox, client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Where the service ignores the upper end, later rows are taken and the watermark stays at the service's clock."""
    box.switches.ignore_upper_bounds = True
    clock.move(hours=1)
    keys = [int(key) for key in df["id"].iloc[:2]]

    def later(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/opportunities"):
            box.switches.before_request = None
            clock.move(minutes=10)
            with box.client() as other:
                other.update(keys[0], {"name": "Changed meanwhile"})

    box.switches.before_request = later
    fresh = df.opp.refresh()
    assert fresh.loc[0, "name"] == "Changed meanwhile"
    assert require_loaded(fresh, "test").watermark == pd.Timestamp("2026-10-20T17:00:00Z")
    same_as_a_new_load(fresh, client)


def test_unsorted_and_older_rows__are_sorted_out(
    box: Sandbox, client: Client, df: pd.DataFrame, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows may come in any order, twice, and from a replica that lags: the newest copy stays."""
    clock.move(hours=1)
    for key in df["id"].iloc[:3]:
        client.update(int(key), {"name": f"Now {key}"})
    walk = client.walk

    def untidy(asked: Query, **options: Any) -> Iterator[Page]:
        for page in walk(asked, **options):
            document = json.loads(page.body)
            if (
                document["data"]
                and document["data"][0]["type"] == "opportunity"
                and "name" in document["data"][0]["attributes"]
            ):
                stale = json.loads(page.body)["data"]
                for record in stale:
                    record["attributes"] |= {"name": "Stale", "updatedAt": "2020-01-01T00:00:00.000Z"}
                document["data"] = [*reversed(document["data"]), *stale]
            yield Page(
                json.dumps(document).encode(),
                page.number,
                page.part,
                page.url,
                page.next_url,
                page.count,
                1,
                0.0,
                None,
                page.date,
            )

    monkeypatch.setattr(client, "walk", untidy)
    fresh = df.opp.refresh()
    assert fresh["name"].iloc[:3].tolist() == [f"Now {key}" for key in df["id"].iloc[:3]]


def test_names__are_read_again(client: Client, df: pd.DataFrame, box: Sandbox, clock: Clock) -> None:
    """Renaming a stage or an account bumps no deal, and is seen all the same."""
    clock.move(hours=1)
    stage = int(df["stage_id"][~df["stage_is_closed"]].iloc[0])
    client.update(stage, {"name": "Renamed stage"}, resource=STAGE)
    fresh = df.opp.refresh()
    here = df["stage_id"] == stage
    assert set(fresh.loc[here, "stage_name"]) == {"Renamed stage"}
    assert fresh.opp.load_report.refreshed.empty
    assert "Renamed stage" in fresh.opp.stage_distribution().index
    assert len(fresh.opp.changes()) == 0
    same_as_a_new_load(fresh, client)
    assert ACCOUNT.path in {request.path.rsplit("/", 1)[-1] for request in box.requests}


def test_trashed_deals__stay_and_are_named(client: Client, df: pd.DataFrame, box: Sandbox, clock: Clock) -> None:
    """A deal that was thrown away keeps its row, with the moment."""
    clock.move(hours=1)
    trash(box, int(df["id"].iloc[5]), "2026-10-20T16:30:00.000Z")
    fresh = df.opp.refresh()
    assert fresh.loc[5, "trashed_at"] == pd.Timestamp("2026-10-20T16:30:00Z")
    assert fresh.opp.load_report.refreshed["change"].tolist() == ["trashed"]


def trash(box: Sandbox, key: int, moment: str) -> None:
    """Throw a deal away, as a person does in the service's own pages."""
    from opp_pandas.sandbox_server.store import TABLES

    store, table = box._store, TABLES["opportunity"]
    with store.transaction():
        record = store.get(table, key)
        assert record is not None
        store.update(table, record, {"trashedAt": moment, "updatedAt": moment}, {})


# --- frames as people have them ---------------------------------------------------


def test_index_and_order__are_kept(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Sorted, cut, with own columns and ids in the index: rows stay where they are, new deals come last."""
    clock.move(hours=1)
    mine = df.sort_values("amount", ascending=False).assign(mine=1).drop(columns=["description"])
    changed = int(mine["id"].iloc[7])
    client.update(changed, {"name": "Renamed"})
    made = client.create({"name": "Brand new"}).data["id"]
    fresh = mine.opp.refresh()
    assert fresh.index.tolist() == [*mine.index, max(mine.index) + 1]
    assert fresh["name"].iloc[7] == "Renamed"
    assert fresh["mine"].isna().tolist() == [False] * 60 + [True]
    assert "description" not in fresh.columns
    by_id = mine.set_index("id").opp.refresh()
    assert by_id.index.tolist() == [*mine["id"], made]
    assert by_id.index.name == "id"
    named = mine.set_index(mine["name"].fillna("").to_numpy() + "#").opp.refresh()
    assert named.index[-1] == f"id {made}"
    part = mine.iloc[:10].opp.refresh(new=False)
    assert part.index.tolist() == mine.index[:10].tolist()
    assert len(part.opp.changes()) == 0
    with pytest.raises(errors.FrameError, match="several levels"):
        mine.set_index(["id", "name"]).opp.refresh()


def test_relabelled_and_converted_frames__are_refreshed_too(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Values of the service arrive converted under their labels."""
    clock.move(hours=1)
    shown = df.opp.relabel(convert=True)
    keys = [int(key) for key in df["id"].iloc[:2]]
    client.update(keys[0], {"custom7": "4321", "custom1": "Elsewhere", "custom3": "Archive"})
    client.create({"name": "Brand new", "custom7": "5", "custom5": "true"})
    shown.loc[1, "Seats"] = 99
    fresh = shown.opp.refresh()
    assert fresh["Seats"].iloc[[0, 1, -1]].tolist() == [4321, 99, 5]
    assert fresh["Region"].iloc[0] == "Elsewhere"
    assert fresh["Products"].iloc[0] == ("Archive",)
    assert fresh["Champion identified"].iloc[-1] is True or bool(fresh["Champion identified"].iloc[-1])
    assert fresh.opp.changes().cells[["field", "after"]].to_numpy().tolist() == [["custom7", "99"]]


def test_refresh__needs_a_load_from_a_service(df: pd.DataFrame) -> None:
    """Adopted frames, bare frames, another service and odd arguments are told what to do."""
    with pytest.raises(errors.FrameError, match="read_opportunities"):
        opp.adopt(pd.DataFrame({"name": ["A"]})).opp.refresh()
    with pytest.raises(errors.NotLoadedError):
        pd.DataFrame(df).opp.refresh()
    for options in ({"overlap": "soon"}, {"overlap": -5}, {"on_conflict": "ask"}):
        with pytest.raises(errors.ConfigurationError):
            df.opp.refresh(**options)
    with opp.sandbox(opportunities=1) as other, pytest.raises(errors.ConfigurationError, match="mean nothing"):
        df.opp.refresh(other.client())
    with pytest.raises(errors.DuplicateRowsError):
        pd.concat([df, df.iloc[:1]]).opp.refresh()


# --- unsaved edits -----------------------------------------------------------------


def test_edits__are_merged_three_ways(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Mine alone stays, theirs alone comes, the same is nothing to do, both is a conflict that stays one."""
    clock.move(hours=1)
    key = int(df["id"].iloc[0])
    df.loc[0, ["name", "next_step", "probability"]] = ["Mine", "Mine too", 77]
    df.loc[1, "name"] = "Untouched there"
    client.update(key, {"name": "Theirs", "description": "Theirs alone", "probability": 77})
    fresh = df.opp.refresh()
    assert fresh.loc[0, ["name", "next_step", "probability", "description"]].tolist() == [
        "Mine",
        "Mine too",
        77,
        "Theirs alone",
    ]
    conflicts = fresh.opp.load_report.conflicts
    loaded = require_loaded(df, "test").baseline.frame["name"].iloc[0]
    assert conflicts.to_numpy().tolist() == [[key, "name", loaded, "Mine", "Theirs"]]
    cells = {(row.id, row.field): row.before for row in fresh.opp.changes().cells.itertuples()}
    assert set(cells) == {(key, "name"), (key, "next_step"), (int(df["id"].iloc[1]), "name")}
    assert cells[key, "name"] == loaded, "what was loaded stays underneath, so that writing asks again"
    again = fresh.opp.refresh()
    assert len(again.opp.load_report.conflicts) == 1


@pytest.mark.parametrize(("policy", "value", "left"), [("mine", "Mine", 1), ("theirs", "Theirs", 0)])
def test_conflicts__can_be_settled_at_once(
    client: Client, df: pd.DataFrame, clock: Clock, policy: Any, value: str, left: int
) -> None:
    """With "mine" it becomes an ordinary edit of their value, with "theirs" no edit at all."""
    clock.move(hours=1)
    key = int(df["id"].iloc[0])
    df.loc[0, "name"] = "Mine"
    client.update(key, {"name": "Theirs"})
    fresh = df.opp.refresh(on_conflict=policy)
    assert fresh.loc[0, "name"] == value
    assert fresh.opp.load_report.conflicts.empty
    cells = fresh.opp.changes().cells
    assert cells["before"].tolist() == ["Theirs"] * left


def test_conflicts_of_relationships__keep_id_and_name_together(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """A stage moved on both sides: id and name in the frame stay mine, and the edit is still one edit."""
    clock.move(hours=1)
    stages = df[["stage_id", "stage_name"]].drop_duplicates().set_index("stage_id")["stage_name"].to_dict()
    loaded, mine, theirs = df.loc[0, "stage_id"], *[key for key in stages if key != df.loc[0, "stage_id"]][:2]
    df.loc[0, "stage_name"] = stages[mine]
    client.update(int(df.loc[0, "id"]), None, {"opportunityStage": int(theirs)})
    fresh = df.opp.refresh()
    assert fresh.opp.load_report.conflicts[["field", "loaded", "mine", "theirs"]].to_numpy().tolist() == [
        ["stage_id", loaded, mine, theirs]
    ]
    changes = fresh.opp.changes()
    assert changes.refused.empty
    assert changes.cells[["field", "before", "after"]].to_numpy().tolist() == [["stage_id", loaded, mine]]


def test_edits_that_would_be_refused__stay_too(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """An edit that cannot be sent is still the user's work."""
    clock.move(hours=1)
    df.loc[0, "probability"] = 101
    df.loc[0, "owner_name"] = "Nobody Known"
    client.update(int(df.loc[0, "id"]), {"name": "Theirs"})
    fresh = df.opp.refresh()
    assert fresh.loc[0, ["name", "probability", "owner_name"]].tolist() == ["Theirs", 101, "Nobody Known"]
    assert set(fresh.opp.changes().refused["field"]) == {"probability", "owner_name"}


def test_added_deals__wait_on(client: Client, df: pd.DataFrame, clock: Clock) -> None:
    """Rows that wait to be created are kept, and deals that are new at the service get other labels."""
    clock.move(hours=1)
    added = df.opp.add([{"name": "Mine one"}, {"name": "Mine two"}])
    client.create({"name": "Theirs"})
    fresh = added.opp.refresh()
    assert fresh["name"].tolist()[-3:] == ["Mine one", "Mine two", "Theirs"]
    assert fresh.index.is_unique
    assert fresh.opp.changes().created["name"].tolist() == ["Mine one", "Mine two"]


columns = st.sampled_from(["name", "amount", "next_step", "tags"])
texts = {"name": ["A", "B"], "amount": [1, 2], "next_step": ["x", None], "tags": [["a"], ["b", "a"]]}


@settings(max_examples=12)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), columns, st.integers(0, 1)), max_size=8))
def test_refresh__is_the_three_way_merge(actions: list[tuple[bool, int, str, int]]) -> None:
    """Whatever both sides do to a few cells, each cell follows the rule, and a second refresh changes nothing."""
    clock = Clock()
    with opp.sandbox(opportunities=3, now=clock) as box, box.client() as client:
        clock.move(hours=1)
        df = opp.read_opportunities(client, stages=STAGES, fields=texts, include=())
        before = df.copy()
        clock.move(hours=1)
        mine: dict[tuple[int, str], Any] = {}
        theirs: dict[tuple[int, str], Any] = {}
        for own, row, column, choice in actions:
            value = texts[column][choice]
            if own:
                df.at[row, column] = value
                mine[row, column] = value
            else:
                client.update(int(df.loc[row, "id"]), {{"next_step": "nextStep"}.get(column, column): value})
                theirs[row, column] = value
        fresh = df.opp.refresh()
        clashes = set()
        for row in range(3):
            for column in texts:
                base = plain(before.at[row, column])
                now = plain(theirs.get((row, column), base))
                own = plain(mine.get((row, column), base))
                if own != base and now != base and own != now:
                    clashes.add((int(before.loc[row, "id"]), column))
                assert plain(fresh.at[row, column]) == (own if own != base else now)
        listed = fresh.opp.load_report.conflicts
        assert set(zip(listed["id"], listed["field"], strict=True)) == clashes
        pd.testing.assert_frame_equal(fresh.opp.refresh(), fresh, check_flags=False)


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else None if pd.isna(value) else value


# --- filters ------------------------------------------------------------------------


def test_filter__is_respected(client: Client, clock: Clock) -> None:
    """Deals that come into the filter appear, those that left it go, unless they hold edits."""
    everything = opp.read_opportunities(client, stages=STAGES)
    owner, other = [int(key) for key in everything["owner_id"].value_counts().index[:2]]
    df = opp.read_opportunities(client, stages=STAGES, filter={"owner": owner})
    clock.move(hours=1)
    leaving, edited = [int(key) for key in df["id"].iloc[:2]]
    coming = int(everything["id"][everything["owner_id"] == other].iloc[0])
    df.loc[1, "name"] = "Edited"
    for key, now in ((leaving, other), (edited, other), (coming, owner)):
        client.update(key, None, {"owner": now})
    fresh = df.opp.refresh()
    assert leaving not in fresh["id"].tolist()
    assert coming in fresh["id"].tolist()
    assert fresh.loc[1, "name"] == "Edited"
    news = fresh.opp.load_report.refreshed
    assert dict(zip(news["id"], news["change"], strict=True)) == {
        coming: "new",
        leaving: "left the filter",
        edited: "left the filter",
    }
    assert fresh.opp.changes().cells["id"].tolist() == [edited]


def test_where__is_respected(client: Client, clock: Clock) -> None:
    """The part of the condition that is tested here decides about changed rows too."""
    df = opp.read_opportunities(client, stages=STAGES, where={"amount": (10_000, None)})
    clock.move(hours=1)
    leaving = int(df["id"].iloc[0])
    client.update(leaving, {"amount": 5})
    client.create({"name": "Too small", "amount": 5})
    client.create({"name": "Large", "amount": 50_000})
    fresh = df.opp.refresh()
    assert leaving not in fresh["id"].tolist()
    assert fresh["name"].tolist()[-1] == "Large"
    assert len(fresh) == len(df)


def test_limit__brings_no_new_deals(client: Client, clock: Clock) -> None:
    """Of a load with a limit nobody knows what was left out."""
    df = opp.read_opportunities(client, stages=STAGES, limit=5)
    clock.move(hours=1)
    client.update(int(df["id"].iloc[0]), {"name": "Changed"})
    client.create({"name": "New"})
    fresh = df.opp.refresh()
    assert fresh["name"].iloc[0] == "Changed"
    assert len(fresh) == 5
    assert "limit" in fresh.opp.load_report.notes[0]


@pytest.mark.parametrize(
    "condition",
    [
        {"updated_at": ("2026-01-01", None)},
        {"updated_at": (None, "2026-10-20T16:00:00Z")},
        {"updated_at": opp.NOT_NULL},
        {"updated_at": ("2026-10-01", "2026-10-20T16:59:59Z"), "owner": [1, 2, 3]},
    ],
)
def test_filter_by_updated_at__is_narrowed(client: Client, clock: Clock, condition: dict[str, Any]) -> None:
    """A filter on the very attribute that the refresh uses keeps its own bounds."""
    df = opp.read_opportunities(client, stages=STAGES, filter=condition)
    clock.move(hours=1)
    for key in df["id"].iloc[:2]:
        client.update(int(key), {"name": "Changed"})
    same_as_a_new_load(df.opp.refresh(), client, filter=condition)


# --- during the load ------------------------------------------------------------------


def test_load__reads_again_what_changed_meanwhile(box: Sandbox, client: Client, clock: Clock) -> None:
    """Deals changed, created or taken out of the filter between two pages are as they are at the end."""
    everything = opp.read_opportunities(client, stages=STAGES)
    owner, other = [int(key) for key in everything["owner_id"].value_counts().index[:2]]
    ids = [int(key) for key in everything["id"][everything["owner_id"] == owner]]

    def meanwhile(method: str, path: str) -> None:
        if method == "GET" and "page%5Bafter%5D" in (box.requests[-1].query if box.requests else ""):
            box.switches.before_request = None
            clock.move(seconds=5)
            with box.client() as user:
                user.update(ids[0], {"name": "Changed meanwhile"})
                user.update(ids[1], None, {"owner": other})

    box.switches.before_request = meanwhile
    df = opp.read_opportunities(client, stages=STAGES, filter={"owner": owner}, page_size=2)
    assert df.loc[0, "name"] == "Changed meanwhile"
    assert df["id"].tolist() == [ids[0], *ids[2:]]
    assert df.opp.load_report.notes == ("1 deals left the filter while they were loaded",)
    assert len(df.opp.changes()) == 0
    again = next(
        query for query in asked(box) if query.get("sort") == ["updatedAt,id"] and "filter[owner][id]" in query
    )
    assert again["filter[updatedAt][gte]"] == ["2026-10-20T15:59:00.000Z"]


def test_load__goes_on_where_reading_again_fails(box: Sandbox, client: Client) -> None:
    """The pages are there; the report says what is not known, and refresh() catches up."""

    def failing(method: str, path: str) -> None:
        if box.requests and path.endswith("/opportunities"):
            box.fail(400, path="/opportunities")
            box.switches.before_request = None

    box.switches.before_request = failing
    df = opp.read_opportunities(client, stages=STAGES)
    assert len(df) == 60
    assert "could not be read again" in df.opp.load_report.notes[0]


# --- what is gone -----------------------------------------------------------------------


def test_reconcile__finds_deleted_and_new_deals(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """Deleted deals are gone, created ones new; the list is asked for in large pages of ids and stamps."""
    gone = [int(key) for key in df["id"].iloc[[3, 7, 9]]]
    for key in gone:
        client.delete(key)
    made = client.create({"name": "New"}).data["id"]
    df.loc[3, "name"] = "Edited and gone"
    start = len(box.requests)
    found = df.opp.reconcile(confirm=2)
    assert (found.gone, found.new, found.not_visible, found.left) == (gone, [made], [], [])
    assert found.rows["confirmed"].tolist() == [True, True, False, True]
    assert found.rows["edited"].tolist() == [True, False, False, False]
    query = asked(box, start)[0]
    assert (query["page[size]"], query["count"]) == (["1000"], ["true"])
    assert query["fields[opportunity]"][0].startswith("updatedAt")
    assert "3 gone, 1 new" in repr(found)
    assert df["id"].isin(gone).sum() == 3, "the frame itself is untouched"
    assert found.frame["id"].tolist() == [key for key in df["id"] if key not in gone]
    assert found.frame.index.tolist() == [label for label in df.index if label not in (3, 7, 9)]
    assert len(found.frame.opp.changes()) == 0
    assert found.frame.opp.reconcile().gone == []


def test_reconcile__sweeps_with_the_filter_of_the_load(client: Client, df: pd.DataFrame) -> None:
    """What left the filter is not gone."""
    owner, other = [int(key) for key in df["owner_id"].value_counts().index[:2]]
    mine = opp.read_opportunities(client, stages=STAGES, filter={"owner": owner})
    deleted, left = [int(key) for key in mine["id"].iloc[:2]]
    client.delete(deleted)
    client.update(left, None, {"owner": other})
    found = mine.opp.reconcile()
    assert (found.gone, found.left) == ([deleted], [left])
    assert len(found.frame) == len(mine) - 1


@pytest.mark.parametrize("status", [400, 403, 0])
def test_reconcile__fails_with_any_page(box: Sandbox, client: Client, status: int) -> None:
    """A page that cannot be read is never taken for deletions."""
    df = opp.read_opportunities(client, stages=STAGES)
    box.fail(status, times=20, path="/opportunities")
    quick = box.client(deadline_s=1)
    with pytest.raises(errors.ServiceError):
        df.opp.reconcile(quick)


def test_reconcile__does_not_believe_a_short_list(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that ends early although all pages came is compared with the count."""
    walk = client.iter_pages

    def short(**query: Any) -> Iterator[Page]:
        for page in walk(**query):
            document = json.loads(page.body)
            if query.get("count"):
                document["data"] = document["data"][:-1]
            body = json.dumps(document).encode()
            yield Page(body, page.number, page.part, page.url, page.next_url, page.count, 1, 0.0, None, page.date)

    monkeypatch.setattr(client, "iter_pages", short)
    with pytest.raises(errors.ServiceError, match="counts 60 deals and listed 59"):
        df.opp.reconcile()


def test_reconcile__asks_for_each_where_one_is_there(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """Thrown-away deals that stand in no list answer when asked for; then nothing is taken for granted."""
    for place in (0, 1, 2):
        trash(box, int(df["id"].iloc[place]), "2026-10-20T16:00:00.000Z")
    client.delete(int(df["id"].iloc[3]))
    box.switches.list_trashed = False
    before = int(df["trashed_at"].notna().sum())
    found = df.opp.reconcile(confirm=1)
    assert sorted(found.rows["status"]) == ["gone"] + ["not listed"] * (3 + before)
    assert found.gone == [df["id"].iloc[3]]
    assert found.rows["confirmed"].all()


def test_reconcile__tells_hidden_deals(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """403 means that the deal is there."""
    keys = [int(key) for key in df["id"].iloc[:2]]
    for key in keys:
        client.delete(key)
    box.fail(403, path=f"/opportunities/{keys[0]}", body=b'{"errors":[{"id":"unauthorizedRequest","title":"x"}]}')
    found = df.opp.reconcile()
    assert (found.not_visible, found.gone) == ([keys[0]], [keys[1]])


def test_reconcile__works_without_a_count(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """A truncated count says nothing; every missing deal is asked for by id anyway."""
    client.delete(int(df["id"].iloc[0]))
    box.switches.count_truncated = True
    assert df.opp.reconcile().gone == [df["id"].iloc[0]]
    with pytest.raises(errors.ConfigurationError):
        df.opp.reconcile(confirm=-1)
    assert "filter" not in unquote(asked(box)[-1].get("include", [""])[0])
