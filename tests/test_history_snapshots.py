"""Recording loads, and reading them back as they were."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pytest

import opp_pandas as opp
from histories import LEAD, LOOKUP, LOST, OFFER, USERS, WON, frame_of, history_in_memory, load_of, moment
from objectstore import BUCKET, object_store
from opp_pandas.errors import (
    ConfigurationError,
    DamagedHistoryError,
    DuplicateRowsError,
    FrameError,
    HistoryNeededError,
    MissingExtraError,
    NotLoadedError,
)
from opp_pandas.frame_state import loaded_of
from opp_pandas.history import History
from opp_pandas.history.query_identity import asked_for

if TYPE_CHECKING:
    from opp_pandas.api.client import Client


def deal(key: int, **values: object) -> dict[str, object]:
    return {"id": key, "name": f"deal {key}", "amount": 100, "stage_id": LEAD, "owner_id": 7, **values}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def test_as_of__gives_back_a_load_of_the_service(history: History, df: pd.DataFrame) -> None:
    """Every column, dtype, tag and unknown attribute of a real load comes back, and what travels with it."""
    history.record(df)
    back = history.as_of()
    pd.testing.assert_frame_equal(back, df, check_flags=False)
    before, after = loaded_of(df), loaded_of(back)
    assert before is not None
    assert after is not None
    assert (after.timezone, after.kind, after.definitions) == (before.timezone, before.kind, before.definitions)
    assert dict(after.baseline.marks.original) == dict(before.baseline.marks.original)
    assert after.baseline.marks.locked.keys() == before.baseline.marks.locked.keys()
    pd.testing.assert_frame_equal(after.stages.frame, before.stages.frame)
    pd.testing.assert_frame_equal(back.opp.forecast(), df.opp.forecast(), check_flags=False)
    assert len(back.opp.changes()) == 0


def test_as_of__gives_back_an_adopted_frame(history: History) -> None:
    """Adopted deals are followed by their custom id, and figures work on what comes back."""
    stages = opp.StageMap(order=["Lead"], won=["Won"], lost=["Lost"])
    rows = pd.DataFrame(
        {
            "Deal": ["b-2", "a-1"],
            "Stage": ["Lead", "Won"],
            "Amount": [10.5, 20.0],
            "Close": ["2026-03-01", "2026-02-01"],
        }
    )
    names = {"Deal": "custom_id", "Stage": "stage_name", "Amount": "amount", "Close": "close_date"}
    first = opp.adopt(rows, names, stages=stages, timezone="Europe/Berlin", as_of="2026-01-10", currency="EUR")
    second = opp.adopt(
        rows.assign(Stage=["Won", "Won"]),
        names,
        stages=stages,
        timezone="Europe/Berlin",
        as_of="2026-01-20",
        currency="EUR",
    )
    history.record(first)
    added = history.record(second)
    assert (added.changed, added.appeared, added.gone) == (1, 0, 0)
    back = history.as_of("2026-01-15")
    pd.testing.assert_frame_equal(back, first, check_flags=False)
    assert back.opp.stage_distribution().loc["Won", "count"] == 1
    assert list(history.diff("2026-01-15")["custom_id"].unique()) == ["b-2"]
    assert list(history.stage_entries()["custom_id"]) == ["b-2", "b-2", "a-1"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["2026-01-01T23:00+01:00", None], dtype="datetime64[us, Europe/Berlin]"),
        pd.Series(["2026-01-01T10:00", None], dtype="datetime64[ns]"),
        pd.Series([2**63 + 1, 7], dtype="uint64"),
        pd.Series(["u", None], dtype="category"),
    ],
    ids=lambda column: str(column.dtype),
)
def test_as_of__gives_columns_of_ones_own_back_as_they_were(column: pd.Series) -> None:
    """Instants of other zones stay instants, and large numbers stay large."""
    history = history_in_memory()
    rows = pd.DataFrame({"custom_id": ["a", "b"], "amount": [1, 2], "own": column})
    adopted = opp.adopt(rows, as_of="2026-01-10")
    history.record(adopted)
    pd.testing.assert_frame_equal(history.as_of(), adopted, check_flags=False)


def test_record__takes_the_baseline_whole(history: History) -> None:
    """What was edited, filtered, sorted or dropped in the frame since does not matter."""
    df = load_of([deal(1), deal(2), deal(3)], 1)
    edited = df.assign(amount=0).query("id > 1").drop(columns="name")
    assert history.record(edited).appeared == 3
    assert list(history.as_of()["amount"]) == [100, 100, 100]


def test_record__the_same_load_twice_adds_nothing(history: History) -> None:
    """Neither rows nor a version of the table."""
    df = load_of([deal(1), deal(2)], 1)
    assert history.record(df)
    before = len(history.versions())
    again = history.record(df.query("id == 1"))
    assert not again
    assert again.cells == 0
    assert str(again) == "2 deals, recorded before: nothing was added"
    assert not history.record(load_of([deal(1), deal(2)], 1))
    assert len(history.versions()) == before


def test_record__takes_a_frame_joined_from_pieces(history: History) -> None:
    """Text that stands in several Arrow chunks is kept like any other."""
    frame = pd.concat([loaded.copy() for loaded in (load_of([deal(1)], 1), load_of([deal(2)], 1))], ignore_index=True)
    history.record(load_of(frame, 1))
    assert list(history.as_of()["name"]) == ["deal 1", "deal 2"]


def test_record__writes_only_differences(history: History) -> None:
    """A night in which one amount changed adds one cell; a night without changes only that somebody looked."""
    history.record(load_of([deal(1), deal(2)], 1))
    assert history.record(load_of([deal(1, amount=7), deal(2)], 2)).cells == 1
    quiet = history.record(load_of([deal(1, amount=7), deal(2)], 3))
    assert quiet
    assert quiet.cells == 0
    assert list(history.snapshots()["observed_at"]) == [moment(1), moment(2), moment(3)]


@pytest.mark.parametrize(
    ("complete", "query", "gone"),
    [
        (True, None, 1),
        (None, None, 0),
        (False, None, 0),
        (True, {"filter": {"owner": 7}, "where": None, "limit": None}, 0),
        (True, {"filter": None, "where": {"amount": 1}, "limit": None}, 0),
        (True, {"filter": None, "where": None, "limit": 5}, 0),
        (True, {}, 0),
    ],
)
def test_record__buries_deals_only_after_a_whole_load(complete: bool | None, query: object, gone: int) -> None:
    """A deal that is absent from a filtered, cut or unchecked load still stands."""
    history = history_in_memory()
    history.record(load_of([deal(1), deal(2)], 1))
    added = history.record(load_of([deal(1)], 2, complete=complete, query=query))  # type: ignore[arg-type]
    assert added.gone == gone
    assert len(history.as_of()) == 2 - gone
    assert len(history.as_of(moment(1))) == 2


def test_record__an_earlier_load_leaves_later_ones_true() -> None:
    """A load put in between changes what was known between, and nothing after."""
    history = history_in_memory()
    history.record(load_of([deal(1)], 1))
    history.record(load_of([deal(1)], 5))
    history.record(load_of([deal(1, amount=7), deal(2)], 3))
    assert list(history.as_of(moment(4))["amount"]) == [7, 100]
    assert list(history.as_of(moment(5))["amount"]) == [100]


def test_record__an_earlier_load_leaves_names_and_questions_of_later_ones_true() -> None:
    """Names, zone and what was asked for stand in later snapshots as those had them."""
    history = history_in_memory()
    renamed = USERS.assign(name=pd.array(["Samuel Lee", "Ana Ito"], dtype="str"))
    rows = frame_of([deal(1)]).assign(owner_name="Sam Lee")
    everything: dict[str, object] = {"filter": None, "where": None, "limit": None}
    of_one = {**everything, "filter": {"owner": [7]}}
    history.record(load_of(rows, 1, query=everything))
    history.record(load_of(rows, 5, query=everything))
    between = load_of(
        rows, 3, query=of_one, timezone="Asia/Tokyo", lookups={"opportunityStage": LOOKUP, "user": renamed}
    )
    history.record(between)
    assert [history.as_of(moment(day))["owner_name"].item() for day in (1, 3, 5)] == [
        "Sam Lee",
        "Samuel Lee",
        "Sam Lee",
    ]
    loaded = loaded_of(history.as_of(moment(5)))
    assert loaded is not None
    assert (loaded.query["filter"], loaded.timezone) == (None, None)


def test_record__refuses_what_it_cannot_follow() -> None:
    """Frames without a load, deals without a key, doubled keys and a second kind of deals are named."""
    history = history_in_memory()
    with pytest.raises(NotLoadedError, match="record needs"):
        history.record(pd.DataFrame({"id": [1]}))
    with pytest.raises(DuplicateRowsError, match="ids stand twice: 1"):
        history.record(load_of([deal(1), deal(1)], 1))
    stages = opp.StageMap(order=["Lead"], won=["Won"], lost=["Lost"])
    rows = pd.DataFrame({"name": ["a"], "stage_name": ["Lead"], "amount": [1], "close_date": ["2026-03-01"]})
    with pytest.raises(FrameError, match=r"neither id nor custom_id.*rows 0.*custom_id"):
        history.record(opp.adopt(rows, stages=stages, as_of="2026-01-01"))
    history.record(load_of([deal(1)], 1))
    with pytest.raises(ConfigurationError, match="a history of their own"):
        history.record(opp.adopt(rows.assign(custom_id="x"), stages=stages, as_of="2026-01-02"))


@pytest.mark.parametrize("adopted_first", [True, False])
def test_record__counts_no_adopted_deal_twice(client: Client, adopted_first: bool) -> None:
    """A deal that got an id at the service is not taken for another one beside itself."""
    history = history_in_memory()
    rows = pd.DataFrame({"custom_id": ["a", "b"], "name": ["A", "B"], "amount": [1, 2], "stage_name": "Qualify"})
    adopted = opp.adopt(rows, as_of="2026-10-01")
    created = opp.adopt(rows, as_of="2026-10-20").opp.write_back(client, confirm=2).frame
    assert created["id"].notna().all()
    first, second = (adopted, created) if adopted_first else (created, adopted)
    history.record(first)
    with pytest.raises(ConfigurationError, match="2 adopted deals would stand twice"):
        history.record(second)
    assert len(history.as_of()) == 2
    assert history.record(first.iloc[:1]).sequence is None


def test_as_of__before_the_beginning_says_how_to_start(history: History) -> None:
    """An empty history, and a moment before the first snapshot, say what to do."""
    with pytest.raises(HistoryNeededError, match=r"Record the first one.*opp-pandas snapshot"):
        history.as_of()
    assert len(history.snapshots()) == 0
    history.record(load_of([deal(1)], 10))
    with pytest.raises(HistoryNeededError, match="begins at 2026-01-10"):
        history.as_of("2026-01-05")
    with pytest.raises(ConfigurationError, match="not a day"):
        history.as_of("soon")
    with pytest.raises(opp.errors.MissingColumnError, match=r"amont.*did you mean 'amount'"):
        history.as_of(columns=["amont"])


def test_as_of__a_day_means_its_end_in_the_zone() -> None:
    """The evening of the ninth in New York is the tenth in UTC."""
    history = history_in_memory()
    history.record(load_of([deal(1)], 1, timezone="America/New_York"))
    history.record(load_of([deal(1, amount=7)], "2026-01-10T02:00", timezone="America/New_York"))
    assert history.as_of("2026-01-09")["amount"][0] == 7
    assert history.as_of("2026-01-08")["amount"][0] == 100


def test_as_of__some_columns_come_with_their_names(history: History) -> None:
    """A joined name brings the id that it stands for, and figures work on the few columns."""
    history.record(load_of([deal(1, close_date=moment(20))], 1))
    few = history.as_of(columns=["amount", "stage_id", "close_date"])
    assert list(few.columns) == ["id", "amount", "close_date", "stage_id"]
    assert len(few.opp.forecast()) == 1
    assert [len(state) for state in history.states([moment(1), moment(2)], columns=["amount"])] == [1, 1]


def test_renamed_owner__changes_one_cell(history: History) -> None:
    """Names are kept once, apart from the deals."""
    from histories import LOOKUP, USERS

    history.record(load_of([deal(1), deal(2)], 1))
    renamed = USERS.assign(name=pd.array(["Samuel Lee", "Ana Ito"], dtype="str"))
    added = history.record(load_of([deal(1), deal(2)], 2, lookups={"opportunityStage": LOOKUP, "user": renamed}))
    assert added.changed == 0
    before, after = loaded_of(history.as_of(moment(1))), loaded_of(history.as_of(moment(2)))
    assert before is not None
    assert after is not None
    assert (before.lookups["user"]["name"][0], after.lookups["user"]["name"][0]) == ("Sam Lee", "Samuel Lee")


def test_diff__logs_each_change_in_order() -> None:
    """Who, which field, from what to what, when; new and lost deals in one row each."""
    history = history_in_memory()
    history.record(load_of([deal(1), deal(2)], 1))
    history.record(load_of([deal(1, amount=7, updated_at=moment(2)), deal(3)], 3))
    history.record(load_of([deal(1, updated_at=moment(2)), deal(2), deal(3, stage_id=OFFER)], 4))
    log = history.diff(moment(1))
    told = [
        (row["id"], row["action"], row["field"] if isinstance(row["field"], str) else None, row["before"], row["after"])
        for row in log.to_dict("records")
        if row["field"] != "updated_at"
    ]
    assert told == [
        (1, "changed", "amount", 100, 7),
        (2, "gone", None, None, None),
        (3, "appeared", None, None, None),
        (1, "changed", "amount", 7, 100),
        (2, "returned", None, None, None),
        (3, "changed", "stage_id", LEAD, OFFER),
    ]
    assert log["updated_at"][0] == moment(2)
    assert log["observed_at"][0] == moment(3)
    net = history.diff(moment(1), net=True, fields=["amount", "stage_id"])
    assert [(row["id"], row["action"]) for row in net.to_dict("records")] == [(3, "appeared")]
    assert len(history.diff(moment(4))) == 0


def test_stage_entries__guess_within_what_was_observed() -> None:
    """The service's updated_at dates an entry, but never outside the two observations."""
    history = history_in_memory()
    history.record(load_of([deal(1, created_at=moment(1), updated_at=moment(1))], 2))
    history.record(load_of([deal(1, created_at=moment(1), updated_at=moment(4), stage_id=OFFER)], 5))
    rows = [
        deal(1, created_at=moment(1), updated_at=moment(12), stage_id=WON),
        deal(2, created_at=moment(6), updated_at=moment(6)),
    ]
    history.record(load_of(rows, 8))
    entries = history.stage_entries()
    assert list(entries["id"]) == [1, 1, 1, 2]
    assert list(entries["stage_name"]) == ["Lead", "Offer", "Won", "Lead"]
    assert list(entries["entered_at"]) == [moment(2), moment(4), moment(8), moment(6)]
    assert list(entries["seen_before"]) == [True, False, False, False]
    assert list(entries["not_before"].isna()) == [True, False, False, True]
    assert len(history.stage_entries(until=moment(5))) == 2


def test_stage_entries__of_two_teams_are_dated_by_their_own_loads() -> None:
    """A load of one team tells nothing of when a deal of the other one came or moved."""
    history = history_in_memory()
    ours, theirs = (
        {"filter": {"owner": 7}, "where": None, "limit": None},
        {"filter": {"owner": 9}, "where": None, "limit": None},
    )

    def record(rows: list[dict[str, object]], at: object, query: dict[str, object]) -> None:
        history.record(load_of(rows, at, query=query, watermark=moment(at)))

    old, new = deal(1, created_at=moment(1)), deal(3, created_at=moment("2026-01-04 10:00"))
    record([{**old, "updated_at": moment(1)}], 4, ours)
    record([deal(2, created_at=moment(1), owner_id=9)], 4, theirs)
    record([deal(2, created_at=moment(1), owner_id=9)], "2026-01-05 05:00", theirs)
    moved = {**old, "updated_at": moment("2026-01-04 12:00"), "stage_id": OFFER}
    record([moved, {**new, "updated_at": moment("2026-01-04 10:00")}], "2026-01-05 05:10", ours)
    entries = history.stage_entries()
    assert list(entries["id"]) == [1, 1, 2, 3]
    assert entries["entered_at"][1] == moment("2026-01-04 12:00")
    assert entries["entered_at"][3] == moment("2026-01-04 10:00")
    assert list(entries["seen_before"]) == [True, False, True, False]


def test_forget__keeps_how_everything_stood(history: History) -> None:
    """What lies before the new beginning goes; every later moment is unchanged."""
    for day, amount in ((1, 1), (2, 2), (3, 3), (4, 4)):
        history.record(load_of([deal(1, amount=amount), deal(2)], day))
    before = history.as_of(moment(3)), history.as_of()
    assert history.forget(moment(3)) > 0
    pd.testing.assert_frame_equal(history.as_of(moment(3)), before[0], check_flags=False)
    pd.testing.assert_frame_equal(history.as_of(), before[1], check_flags=False)
    assert history.forget(moment(3)) == 0
    # What is left of the second day says how the third began, not how the second was.
    with pytest.raises(HistoryNeededError, match="begins at 2026-01-03"):
        history.as_of(moment(2))
    assert list(history.snapshots()["observed_at"]) == [moment(3), moment(4)]
    assert history.record(load_of([deal(1, amount=5), deal(2)], 5)).changed == 1


def test_forget__leaves_a_deal_whole_that_comes_back(history: History) -> None:
    """A deal that is away at the new beginning and returns later is as it was, though it said so before it went."""
    history.record(load_of([deal(1, amount=5), deal(2), deal(3)], 1))
    history.record(load_of([deal(2)], 2))
    history.record(load_of([deal(1, amount=7), deal(2)], 3))
    before = [history.as_of(moment(day)) for day in (2, 3)]
    log = history.diff(moment(2))
    assert history.forget(moment(2)) > 0
    for day, frame in zip((2, 3), before, strict=True):
        pd.testing.assert_frame_equal(history.as_of(moment(day)), frame, check_flags=False)
    pd.testing.assert_frame_equal(history.diff(moment(2)), log)


@pytest.mark.parametrize("whole", [True, False])
def test_forget__leaves_what_later_loads_go_on_from(history: History, whole: bool) -> None:
    """Until when all is known, and what was asked for then, is not what the last load of a part says."""
    query = {"filter": None, "where": None, "limit": None}
    owners = [query if whole else {**query, "filter": {"owner": [7]}}, {**query, "filter": {"owner": [9]}}]
    for day, asked in ((1, owners[0]), (2, owners[1]), (3, owners[0] if not whole else owners[1])):
        history.record(load_of([deal(1, amount=day)], day, query=asked, watermark=moment(day)))
    before = loaded_of(history.as_of())
    history.forget(moment(3))
    after = loaded_of(history.as_of())
    assert before is not None
    assert after is not None
    assert (after.watermark, after.query) == (before.watermark, before.query) == (moment(1), owners[0])
    # How that load itself stood is forgotten: none begins from there.
    assert history.newest_load(str(asked_for(query, "test")), ["id"]) is None


def test_forget__leaves_no_beginning_that_was_not_seen(history: History) -> None:
    """A deal whose first stage was forgotten did not begin in the one that is left."""
    history.record(load_of([deal(1, created_at=moment(1))], 2))
    history.record(load_of([deal(1, created_at=moment(1)), deal(2, created_at=moment(3))], 4))
    history.record(load_of([deal(1, created_at=moment(1)), deal(2, created_at=moment(3), stage_id=OFFER)], 6))
    before = history.stage_entries()
    assert list(before["seen_before"]) == [True, False, False]
    history.forget(moment(6))
    after = history.stage_entries()
    assert list(after["stage_id"]) == [LEAD, OFFER]
    assert list(after["seen_before"]) == [True, True]
    assert list(after["entered_at"]) == [moment(2), moment(6)]


def test_compact__joins_files_and_vacuum_deletes_them(history: History) -> None:
    """After compaction the same frame is read from fewer files."""
    for day in range(1, 6):
        history.record(load_of([deal(1, amount=day), deal(2)], day))
    before = history.as_of()
    few = history.compact(more_than=100)
    assert few["files_before"] == few["files_after"] > 1
    counts = history.compact()
    assert counts["files_before"] > counts["files_after"]
    assert history.vacuum() == 0
    assert history.vacuum(older_than_days=0) > 0
    pd.testing.assert_frame_equal(history.as_of(), before, check_flags=False)
    assert list(history.versions()["operation"])[-1] != ""


def test_table__is_read_by_duckdb(history: History) -> None:
    """The files are plain Parquet with typed cells."""
    history.record(load_of([deal(1), deal(2, amount=50)], 1))
    history.record(load_of([deal(1, amount=7), deal(2, amount=50)], 2))
    files = str(Path(history.location) / "*.parquet")
    query = f"""
        SELECT sum(amount) FROM (
            SELECT id, arg_max(integer, (observed_at, sequence)) AS amount FROM read_parquet('{files}')
            WHERE resource = 'opportunity' AND field = 'amount' GROUP BY id)
    """
    assert duckdb.sql(query).fetchall() == [(57,)]


def test_folder__with_other_things_is_refused(tmp_path: Path) -> None:
    """A history neither mixes with other files nor with another table."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        History(tmp_path).record(load_of([deal(1)], 1))
    with pytest.raises(ConfigurationError, match="is a file"):
        History(tmp_path / "notes.txt").record(load_of([deal(1)], 1))
    from deltalake import write_deltalake

    write_deltalake(tmp_path / "other", pd.DataFrame({"x": [1]}))
    with pytest.raises(ConfigurationError, match="holds another table"):
        History(tmp_path / "other").as_of()


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_history__with_a_damaged_file_says_so(tmp_path: Path, damage: str) -> None:
    """A data file that is gone or cut short is named on one line, whoever reads; put back, all is there again."""
    history = History(tmp_path / "history")
    history.record(load_of([deal(1)], 1))
    history.record(load_of([deal(1, amount=7)], 2))
    (path, *_) = sorted((tmp_path / "history").glob("*.parquet"))
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(content[:100])
    for call in (history.as_of, history.snapshots, lambda: history.record(load_of([deal(2)], 3))):
        with pytest.raises(DamagedHistoryError, match=f"{path.name} (is gone|was changed).*from a copy") as caught:
            call()
        assert str(caught.value).isprintable()
    damaged = history.verify()
    assert damaged["file"].tolist() == [path.name]
    assert damaged["first_night"].tolist() == damaged["last_night"].tolist()
    assert damaged["first_night"][0] in (moment(1), moment(2))
    path.write_bytes(content)
    assert len(history.snapshots()) == 2
    assert len(history.verify()) == 0


def test_object_store__gets_its_options_and_says_plainly_what_is_wrong() -> None:
    """An address goes to deltalake with its options; what it cannot reach is named on one line, without a secret."""
    options = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "max_retries": "0",
    }
    with pytest.raises(ConfigurationError, match=r"s3://bucket/history cannot be read: .*127\.0\.0\.1:9") as caught:
        History("s3://bucket/history", storage_options=options).snapshots()
    assert "canary" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_object_store__keeps_a_history_like_a_folder() -> None:
    """Over HTTP, as with S3: two recorders at once, views of the past, joined files, what is forgotten is deleted."""
    with object_store() as (options, puts):
        address = f"s3://{BUCKET}/team/history"
        history = History(address, storage_options=options)
        assert len(history.snapshots()) == 0
        history.record(load_of([deal(1), deal(2)], 1))
        assert not history.record(load_of([deal(1), deal(2)], 1))
        assert history.record(load_of([deal(1, amount=7)], 2)).gone == 1

        def record_own(worker: int) -> None:
            own = History(address, storage_options=options)
            for turn in range(3):
                key = worker * 100 + turn
                own.record(load_of([deal(key, amount=key)], f"2026-01-1{turn}T0{worker}:00", complete=None))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(record_own, (1, 2)))
        expected = [1, *range(100, 103), *range(200, 203)]
        assert list(history.as_of()["id"]) == expected
        assert list(history.as_of(moment(1))["id"]) == [1, 2]
        # Nobody wrote a version over another one.
        commits = [key for key in puts() if "_delta_log" in key and key.endswith(".json")]
        assert len(commits) == len(set(commits)) == 1 + 2 + 6
        counts = history.compact()
        assert counts["files_before"] > counts["files_after"]
        assert history.forget(moment(2)) > 0
        assert history.vacuum(older_than_days=0) > 0
        assert list(history.as_of()["id"]) == expected


def test_deltalake__missing_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the extra the error says what to install."""
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'opp_pandas\[history\]'"):
        History(tmp_path).record(load_of([deal(1)], 1))


def record_some(folder: str, worker: int, n: int) -> None:
    """Record snapshots that are this worker's own; runs in another process."""
    history = History(folder)
    for turn in range(n):
        key = worker * 100 + turn
        history.record(load_of([deal(key, amount=key)], f"2026-01-{10 + turn:02d}T{worker:02d}:00", complete=None))


def test_recorders__at_once_lose_nothing(tmp_path: Path) -> None:
    """Two processes record into one history, and every deal of both is there."""
    folder = str(tmp_path / "shared")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=record_some, args=(folder, number, 6)) for number in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    history = History(folder)
    assert list(history.as_of()["id"]) == [*range(100, 106), *range(200, 206)]
    assert list(history.as_of()["amount"]) == [*range(100, 106), *range(200, 206)]
    assert len(history.snapshots()) == 12


def test_lost__stays_lost_in_figures() -> None:
    """A figure on an old state counts what was open then."""
    history = history_in_memory()
    history.record(load_of([deal(1), deal(2)], 1))
    history.record(load_of([deal(1, stage_id=WON), deal(2, stage_id=LOST)], 2))
    assert history.as_of(moment(1)).opp.funnel().loc["Lead", "count"] == 2
    assert history.as_of(moment(2)).opp.funnel().loc["Lost", "count"] == 1
