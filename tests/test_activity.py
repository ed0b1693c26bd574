"""Activity on deals: from the service's resources to touches, and how many requests that takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW
from opp_pandas.activity.sources import COLUMNS, activity_frame
from opp_pandas.activity.touches import summarize_touches
from opp_pandas.errors import ConfigurationError, DocumentError, FrameError, MissingColumnError
from opp_pandas.resource import ACTIVITY, TOUCH_COLUMNS
from opp_pandas.sandbox_server.store import TABLES, NewRecord
from rawserver import RawServer, Request, Step, reply

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

AS_OF = pd.Timestamp("2026-09-01T12:00:00Z")
PATHS = {resource.path for resource in ACTIVITY}


def asked(box: Sandbox, since: int = 0) -> list[str]:
    """The resources of activity that were asked for, request by request."""
    names = [item.path.rsplit("/", 1)[-1] for item in box.requests[since:]]
    return [name for name in names if name in PATHS]


def put(box: Sandbox, kind: str, key: int, deal: int | None, **attributes: Any) -> None:
    """Store a record of activity as somebody else's program would make it."""
    box.client().get(1)
    with box._store.transaction():
        box._store.insert_many(TABLES[kind], [NewRecord(attributes, {"opportunity_id": deal}, id=key)], replace=True)


@pytest.fixture(scope="module")
def big() -> Iterator[Sandbox]:
    """A sandbox with 250 deals, for reading."""
    with opp.sandbox(opportunities=250, now=NOW) as made:
        yield made


@pytest.fixture(scope="module")
def activity(big: Sandbox) -> pd.DataFrame:
    """All that was done on them."""
    return opp.read_activity(big.client())


def rows(**columns: Any) -> pd.DataFrame:
    """Activity of deal 1, one row per entry."""
    given = {"opportunity_id": 1, "kind": "call", "created_at": "2026-08-01T00:00:00Z", "type": "call", **columns}
    n = max((len(value) for value in given.values() if isinstance(value, list)), default=1)
    frame = pd.DataFrame(given, index=range(n)).assign(id=range(n))
    stamps = {name: pd.to_datetime(frame[name], utc=True) for name in frame if str(name).endswith("_at")}
    return activity_frame(dict(frame.assign(**stamps)), frame.index)


def day(month: int, of_month: int) -> str:
    return f"2026-{month:02d}-{of_month:02d}T00:00:00Z"


def touches_of(frame: pd.DataFrame, as_of: pd.Timestamp = AS_OF) -> dict[str, Any]:
    return summarize_touches(frame, pd.Index([1], dtype="Int64"), as_of).iloc[0].to_dict()


# --- loading -----------------------------------------------------------------------


def test_activity__has_both_ends(big: Sandbox, activity: pd.DataFrame) -> None:
    """Every record that the sandbox serves becomes a row, whole and typed; meetings are told from tasks."""
    assert {name: str(dtype) for name, dtype in activity.dtypes.items()} == COLUMNS
    served: dict[str, list[Any]] = {kind: [] for kind in ("call", "mailing", "task", "event")}
    for kind in served:
        for page in big.client().iter_pages(resource=TABLES[kind].resource, page_size=1000):
            served[kind] += page.document["data"]
    assert activity.groupby("type").size().to_dict() == {kind: len(found) for kind, found in served.items()}
    for kind, found in served.items():
        mine = activity[activity["type"] == kind].set_index("id")
        assert set(mine.index) == {row["id"] for row in found}
        for row in found:
            assert mine.loc[row["id"], "opportunity_id"] == row["relationships"]["opportunity"]["data"]["id"]
            assert mine.loc[row["id"], "created_at"] == pd.Timestamp(row["attributes"]["createdAt"])
    in_person = {row["id"] for row in served["task"] if row["attributes"]["action"] == "in_person"}
    tasks = activity[activity["type"] == "task"]
    assert set(tasks.loc[tasks["kind"] == "meeting", "id"]) == in_person
    assert set(activity["kind"]) == {"meeting", "call", "mailing", "task", "event"}
    assert activity.attrs["opp_activity"]["complete"]


@pytest.mark.parametrize("resource", ACTIVITY, ids=lambda resource: resource.path)
def test_activity_resource__is_filtered_sorted_and_paged(big: Sandbox, resource: Any) -> None:
    """Filters by deal (one, several) and by instant, sorting, and pages that follow each other."""
    client = big.client()
    everything = [row for page in client.iter_pages(resource=resource, page_size=900) for row in page.document["data"]]
    assert len(everything) > 100
    deal_of = {row["id"]: row["relationships"]["opportunity"]["data"]["id"] for row in everything}
    wanted = sorted(set(deal_of.values()))[:3]
    pages = client.iter_pages(resource=resource, filter={"opportunity": wanted}, page_size=10)
    found = [row["id"] for page in pages for row in page.document["data"]]
    assert sorted(found) == sorted(key for key, deal in deal_of.items() if deal in wanted)
    middle = sorted(row["attributes"]["createdAt"] for row in everything)[len(everything) // 2]
    pages = client.iter_pages(resource=resource, filter={"created_at": (middle, None)}, sort="-created_at")
    stamps = [row["attributes"]["createdAt"] for page in pages for row in page.document["data"]]
    assert stamps == sorted((row["attributes"]["createdAt"] for row in everything
                             if row["attributes"]["createdAt"] >= middle), reverse=True)  # fmt: skip


def test_requests__are_few_by_deals_and_whole(big: Sandbox, activity: pd.DataFrame) -> None:
    """Few deals are asked for by their ids, all of them by reading everything; nothing when nobody asks."""
    client, before = big.client(), len(big.requests)
    df = opp.read_opportunities(client)
    assert asked(big, before) == []
    before = len(big.requests)
    some = opp.read_activity(client, df["id"].head(5))
    assert sorted(asked(big, before)) == sorted(PATHS)
    expected = activity[activity["opportunity_id"].isin(df["id"].head(5))].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, check_flags=False)
    assert opp.read_activity(client, []).empty
    assert len(asked(big, before)) == 4


def test_requests__stay_within_the_budget(big: Sandbox, activity: pd.DataFrame) -> None:
    """For d deals with a records: 4 x (d / 100 + 1) + a / 1,000 requests, whatever the rest of the resource holds."""
    client, before = big.client(), len(big.requests)
    whole = opp.read_activity(client, range(1, 251))
    # All of it is on the deals asked for: a page for each thousand records and resource.
    assert len(asked(big, before)) == sum(-(-len(rows) // 1000) for _, rows in activity.groupby("type"))
    pd.testing.assert_frame_equal(whole, activity, check_flags=False)
    with big._store.transaction():
        # Far more is on no deal: the deals are asked for by their ids.
        stamp = {"createdAt": "2026-08-01T00:00:00.000Z", "updatedAt": "2026-08-01T00:00:00.000Z"}
        big._store.insert_many(TABLES["call"], (NewRecord(stamp, id=10**9 + n) for n in range(3_000)))
    before = len(big.requests)
    few = opp.read_activity(client, range(1, 151))
    used = asked(big, before)
    assert used.count("calls") == 3
    assert len(used) <= 4 * (150 / 100 + 1) + len(few) / 1000
    assert few.attrs["opp_activity"]["requests"] == len(used)
    expected = activity[activity["opportunity_id"] <= 150].reset_index(drop=True)
    pd.testing.assert_frame_equal(few, expected, check_flags=False)


@pytest.mark.nightly
def test_requests__for_a_hundred_thousand_records() -> None:
    """On 5,000 deals they come at a thousand a request, and within the budget where each resource holds far more."""
    with opp.sandbox(opportunities=5_000, now=NOW) as box:
        # The first request waits until the sandbox has made it all up.
        client = box.client(read_timeout_s=300, deadline_s=600)
        activity = opp.read_activity(client, range(1, 5_001))
        used = len(asked(box))
        print(len(activity), used)  # noqa: T201  # the figure of the documentation
        assert len(activity) > 100_000
        assert used <= len(activity) / 1000 + 4
        # Where each resource holds far more that is on no deal, deals are asked for by their ids.
        with box._store.transaction():
            stamp = {"createdAt": "2026-08-01T00:00:00.000Z", "updatedAt": "2026-08-01T00:00:00.000Z"}
            for kind in ("call", "mailing", "task", "event"):
                strangers = (NewRecord(stamp, id=10**9 + n) for n in range(60_000))
                box._store.insert_many(TABLES[kind], strangers)
        before = len(box.requests)
        again = opp.read_activity(client, range(1, 5_001))
        pd.testing.assert_frame_equal(again, activity, check_flags=False)
        assert len(asked(box, before)) <= 4 * 51 + len(activity) / 1000


def test_load__that_was_stopped_goes_on(box: Sandbox, client: Client, tmp_path: Path) -> None:
    """Pages that came are kept; the second call asks for the rest only, and leaves no file."""
    file, ids = tmp_path / "activity", range(1, 61)
    box.fail(400, path="/tasks")
    with pytest.raises(opp.errors.ServiceError):
        opp.read_activity(client, ids, checkpoint=file)
    assert min(path.name for path in tmp_path.glob("*calls*")) == "activity.calls"
    before = len(box.requests)
    activity = opp.read_activity(client, ids, checkpoint=file)
    assert sorted(set(asked(box, before))) == ["events", "tasks"]
    assert list(tmp_path.iterdir()) == []
    pd.testing.assert_frame_equal(activity, opp.read_activity(client, ids), check_flags=False)


def test_load__waits_for_the_rate_limit(big: Sandbox) -> None:
    """A used-up limit is waited for and the request repeated, as with deals."""
    before = len(big.requests)
    big.fail(429, path="/mailings", headers={"Retry-After": "0"})
    activity = opp.read_activity(big.client(), range(1, 61))
    assert [item.status for item in big.requests[before:]] == [200, 429, 200, 200, 200]
    assert set(activity["type"]) == {"call", "mailing", "task", "event"}


def test_limit_and_since__take_a_part(big: Sandbox, activity: pd.DataFrame) -> None:
    """limit= stops, and says so; since= asks for what changed; arguments are checked."""
    client = big.client()
    few = opp.read_activity(client, limit=7)
    assert len(few) == 7
    assert not few.attrs["opp_activity"]["complete"]
    since = "2026-10-01T00:00:00Z"
    new = opp.read_activity(client, since=since)
    stamp = activity["updated_at"].fillna(activity["created_at"])
    assert set(map(tuple, new[["type", "id"]].to_numpy())) == set(
        map(tuple, activity.loc[stamp >= since, ["type", "id"]].to_numpy())
    )
    for wrong in ({"limit": -1}, {"limit": 2.5}, {"deals": ["x"]}, {"deals": 7}):
        with pytest.raises(ConfigurationError):
            opp.read_activity(client, **wrong)
    with pytest.raises(MissingColumnError):
        opp.read_activity(client, pd.DataFrame({"name": []}))


def test_token__that_may_not_read_mailings() -> None:
    """What may be read comes, and the rest is said."""
    scopes = frozenset({"opportunities.read", "calls.read", "tasks.read", "events.read"})
    with opp.sandbox(opportunities=10, now=NOW, scopes=scopes) as narrow:
        activity = opp.read_activity(narrow.client())
    assert set(activity["type"]) == {"call", "task", "event"}
    facts = activity.attrs["opp_activity"]
    assert not facts["complete"]
    assert "mailings" in facts["notes"][0]


def test_records_that_are_none__are_said(big: Sandbox) -> None:
    """Among the calls of some deals stand an empty one, one without an id and one whose relationships are a list."""
    records = [None, {"type": "call"}, {"type": "call", "id": 1, "relationships": [1]}]
    big.fail(200, path="/calls", body=json.dumps({"data": records}).encode())
    found = opp.read_activity(big.client(), [1, 2])
    assert "3 calls could not be read" in found.attrs["opp_activity"]["notes"]
    assert set(found["type"]) >= {"mailing"}


def test_service__that_ignores_the_filter_by_deal(
    big: Sandbox, activity: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are those of the deals asked for, read once, and the frame says so."""
    monkeypatch.setattr(big.switches, "ignore_parameters", ("filter",))
    before = len(big.requests)
    found = opp.read_activity(big.client(), range(3, 230), limit=10**6)
    # One piece of the deals is the whole resource: the other two are not asked for.
    assert asked(big, before).count("mailings") == -(-activity["type"].eq("mailing").sum() // 1000)
    expected = activity[activity["opportunity_id"].between(3, 229)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_flags=False)
    assert "ignored filter[opportunity][id]" in found.attrs["opp_activity"]["notes"][0]


def resource_page(kind: str, records: list[dict[str, Any]], following: str | None = None) -> Step:
    """One page of records, each a mapping of attributes with ``id`` and ``deal``."""

    def step(connection: socket.socket, request: Request) -> bool:
        data = [
            {
                "type": kind,
                "id": record["id"],
                "attributes": {name: value for name, value in record.items() if name not in ("id", "deal")},
                "relationships": {"opportunity": {"data": record["deal"]}},
            }
            for record in records
        ]
        links = {} if following is None else {"next": following}
        return reply(body={"data": data, "links": links})(connection, request)

    return step


def test_pages__that_repeat_or_overlap() -> None:
    """A record that comes twice stands once, the newer copy; a link that repeats ends the load with an error."""
    deal = {"type": "opportunity", "id": 7}
    old = {"id": 1, "deal": deal, "answeredAt": "2026-08-01T10:00:00Z", "updatedAt": "2026-08-01T10:00:00Z"}
    new = old | {"answeredAt": "2026-08-02T10:00:00Z", "updatedAt": "2026-08-02T10:00:00Z"}
    nothing = [reply(body={"data": []}) for _ in range(3)]
    with RawServer() as server:
        server.steps += [
            resource_page("call", [new], f"{server.url}/calls?page=2"),
            resource_page("call", [old]),
            *nothing,
        ]
        found = opp.read_activity(opp.connect(server.url, token="t"), [7])
    assert found["done_at"].tolist() == [pd.Timestamp("2026-08-02T10:00:00Z")]
    with RawServer() as server:
        server.steps += [resource_page("call", [row], f"{server.url}/calls?page=2") for row in (old, new)]
        with pytest.raises(DocumentError, match="repeats"):
            opp.read_activity(opp.connect(server.url, token="t"), [7])


def test_records__that_are_odd() -> None:
    """On two deals, on another thing, on a deal not asked for, without a date, without anything."""
    deals = [{"type": "opportunity", "id": 7}, {"type": "opportunity", "id": 8}]
    then = "2026-08-01T10:00:00Z"
    calls = [
        {"id": 1, "deal": deals, "answeredAt": then},
        {"id": 2, "deal": {"type": "account", "id": 7}, "answeredAt": then},
        {"id": 3, "deal": {"type": "opportunity", "id": 99}, "answeredAt": then},
        {"id": 4, "deal": deals[0]},
        {"id": 5, "deal": None, "answeredAt": then},
        {"id": 6, "deal": [], "answeredAt": then},
        {"id": 7, "deal": deals[1], "dialedAt": then, "answeredAt": None},
    ]
    nothing = [reply(body={"data": []}) for _ in range(3)]
    with RawServer([resource_page("call", calls), *nothing]) as server:
        found = opp.read_activity(opp.connect(server.url, token="t"), [7, 8])
    assert list(zip(found["opportunity_id"], found["id"], strict=True)) == [(7, 1), (7, 4), (8, 1), (8, 7)]
    assert found["done_at"].notna().tolist() == [True, False, True, True]
    assert "1 records do not say when" in found.attrs["opp_activity"]["notes"][-1]
    table = summarize_touches(found, pd.Index([7, 8, 9], dtype="Int64"), AS_OF)
    assert table["touch_count"].tolist() == [1, 2, 0]


def test_meetings__are_tasks_in_person_and_events_of_that_name(box: Sandbox, client: Client) -> None:
    """An event that tells of a task, a call or a mailing is no touch of its own; nor is a mailing that came back."""
    opp.read_activity(client, [1])
    moment = {"createdAt": "2026-10-01T00:00:00.000Z"}
    put(box, "event", 5, 1, name="Customer Meeting held", eventAt="2026-10-02T00:00:00.000Z", **moment)
    put(box, "event", 6, 1, name="opportunity_stage_changed", eventAt="2026-10-02T00:00:00.000Z", **moment)
    put(box, "task", 7, 1, action="in_person", completedAt="2026-10-03T00:00:00.000Z", completed=True, **moment)
    put(box, "task", 8, 1, action="email", completed=True, state="complete", dueAt="2027-10-03T00:00:00.000Z", **moment)
    put(box, "mailing", 9, 1, deliveredAt="2026-10-04T00:00:00.000Z", bouncedAt="2026-10-04T00:01:00.000Z", **moment)
    with box._store.transaction():
        record = NewRecord(
            {"name": "meeting_booked", "eventAt": "2026-10-03T00:00:00.000Z"}, {"opportunity_id": 1, "task_id": 7}, id=4
        )
        box._store.insert_many(TABLES["event"], [record])
    found = opp.read_activity(client, [1])
    mine = found[found["id"] < 1000].set_index(["type", "id"])
    assert mine["kind"].to_dict() == {
        ("event", 4): "event", ("event", 5): "meeting", ("event", 6): "event",
        ("task", 7): "meeting", ("task", 8): "task", ("mailing", 9): "mailing",
    }  # fmt: skip
    assert touches_of(mine.reset_index(), pd.Timestamp(NOW)) == {
        "touch_count": 2, "last_touch_at": pd.Timestamp("2026-10-03T00:00:00Z"), "next_touch_at": pd.NaT,
        "meeting_count": 2, "call_count": 0, "mailing_count": 0, "task_count": 0,
        "last_meeting_at": pd.Timestamp("2026-10-03T00:00:00Z"), "next_meeting_at": pd.NaT,
    }  # fmt: skip


# --- touches -----------------------------------------------------------------------


def test_touches__are_joined_on_request(client: Client) -> None:
    """Counts and moments are those of the activity; they are for reading, and survive what frames go through."""
    df = opp.read_opportunities(client, touches=True)
    activity = opp.read_activity(client, df)
    done = activity[activity["kind"].ne("event") & activity["done_at"].notna() & activity["state"].ne("bounced")]
    done = done[done["done_at"] <= df.attrs["opp"].loaded.as_of]
    counts = done.groupby("opportunity_id").size().reindex(df["id"], fill_value=0)
    assert df["touch_count"].tolist() == counts.tolist()
    assert sum(df[f"{kind}_count"].sum() for kind in ("meeting", "call", "mailing", "task")) == counts.sum()
    last = done.groupby("opportunity_id")["done_at"].max().reindex(df["id"])
    assert df["last_touch_at"].tolist() == last.tolist()
    assert (df["next_touch_at"].dropna() > pd.Timestamp(NOW)).all()
    assert df["next_meeting_at"].notna().any()
    assert len(df.opp.changes()) == 0
    edited = df.copy()
    edited.loc[0, "touch_count"] = 99
    assert "read_activity" in edited.opp.changes().refused["reason"].iloc[0]
    with pytest.raises(ConfigurationError, match="touches="):
        opp.read_opportunities(client, touches=True, to="somewhere")


def test_touches__follow_a_refresh() -> None:
    """As if loaded anew: what was done since, the deals that are new, what was planned and done; edits stay."""
    with opp.sandbox(opportunities=60, seed=3, now=NOW) as box:
        client = box.client()
        before = opp.read_opportunities(client, touches=True)
        box.advance(20)
        edited = before.assign(next_step=before["next_step"].where(before["id"] != 5, "call them"))
        after, anew = edited.opp.refresh(), opp.read_opportunities(client, touches=True)
        assert len(after) > len(before)
        assert after["touch_count"].sum() > before["touch_count"].sum()
        columns = ["id", *TOUCH_COLUMNS]
        pd.testing.assert_frame_equal(
            after[columns].sort_values("id", ignore_index=True), anew[columns].sort_values("id", ignore_index=True)
        )
        assert after.opp.changes().cells["id"].tolist() == [5]
        known, wanted = (
            frame.attrs["opp"].loaded.activity.sort_values(["type", "id", "opportunity_id"], ignore_index=True)
            for frame in (after, anew)
        )
        pd.testing.assert_frame_equal(known, wanted)
        plain = opp.read_opportunities(client)
        asked = len(box.requests)
        plain.opp.refresh()
        assert not [entry for entry in box.requests[asked:] if entry.path.endswith(("/calls", "/tasks", "/events"))]


def test_touches__of_any_frame(activity: pd.DataFrame) -> None:
    """Rows without an id have none; copies of a deal have the same; without a load the activity says the moment."""
    frame = pd.DataFrame({"id": [2, None, 2, 99_999], "name": list("abcd")}, index=[5, 6, 7, 8])
    joined = opp.add_touches(frame, activity)
    assert joined.index.tolist() == [5, 6, 7, 8]
    assert joined["touch_count"].tolist()[0] == joined["touch_count"].tolist()[2] > 0
    assert joined["touch_count"].isna().tolist() == [False, True, False, False]
    assert joined.loc[8, "touch_count"] == 0
    assert opp.add_touches(frame, activity_frame())["touch_count"].dropna().eq(0).all()
    early = opp.add_touches(frame, activity, as_of="2020-01-01")
    assert early["touch_count"].dropna().eq(0).all()
    for wrong, error in ((activity.drop(columns="kind"), MissingColumnError), ("x", FrameError)):
        with pytest.raises(error):
            opp.add_touches(frame, wrong)
    with pytest.raises(MissingColumnError):
        opp.add_touches(frame.drop(columns="id"), activity)


def test_touches__know_nothing_later() -> None:
    """What was put down, or done, after the moment is not seen, whatever its dates say."""
    frame = rows(
        kind=["call", "call", "call", "meeting", "meeting", "meeting", "task"],
        done_at=[day(8, 20), day(8, 21), day(9, 3), None, None, day(9, 10), None],
        planned_at=[None, None, None, day(9, 5), day(9, 4), day(9, 8), day(8, 25)],
        created_at=[day(8, 20), day(9, 2), None, day(8, 30), day(9, 2), day(8, 30), day(8, 1)],
    )
    found = touches_of(frame)
    assert found["touch_count"] == 1  # a call put down later, and one done later, are not known
    assert found["last_touch_at"] == pd.Timestamp(day(8, 20))
    # A meeting put down later is not planned yet; a task that was due before is not planned any more.
    assert found["next_touch_at"] == found["next_meeting_at"] == pd.Timestamp(day(9, 5))
    later = touches_of(frame, pd.Timestamp(day(9, 12)))
    assert (later["touch_count"], later["meeting_count"]) == (4, 1)
    assert pd.isna(later["next_touch_at"])


# --- what the win model learns of it ------------------------------------------------

FEATURES = ["owner_id", "lead_source", "opportunity_type", "custom1", "custom2", "custom5", "amount"]
"""What is known when a deal is created."""


@pytest.fixture(scope="module")
def deals(big: Sandbox) -> pd.DataFrame:
    """Its deals with their touches."""
    return opp.read_opportunities(big.client(), touches=True)


def test_win_model__knows_nothing_later(deals: pd.DataFrame) -> None:
    """A touch that was put down, or done, after the moment changes no probability; one from before does."""
    activity = deals.attrs["opp"].loaded.activity
    as_of = pd.Timestamp("2026-08-20T00:00:00Z")
    past = deals[deals["stage_is_closed"].to_numpy(dtype=bool) & (deals["close_date"] < as_of).to_numpy()]
    present = deals[~deals["stage_is_closed"].to_numpy(dtype=bool) & (deals["created_at"] < as_of).to_numpy()]

    def predicted(known: pd.DataFrame) -> pd.Series:
        model = past.opp.fit_win_model(features=FEATURES, activity=known, as_of=as_of)
        return model.predict(present, as_of=as_of)

    before = predicted(activity)
    late = activity[(activity["created_at"] > as_of) | (activity["done_at"] > as_of)]
    assert len(late) > 50
    pd.testing.assert_series_equal(before, predicted(activity.drop(late.index)))
    # Put down later, though it is said to have been done before.
    false = activity.head(400).assign(opportunity_id=int(present["id"].iloc[0]), kind="meeting",
                                      done_at=as_of - pd.Timedelta(days=3))  # fmt: skip
    pd.testing.assert_series_equal(
        before, predicted(pd.concat([activity, false.assign(created_at=as_of + pd.Timedelta(days=1))]))
    )
    known = predicted(pd.concat([activity, false.assign(created_at=as_of - pd.Timedelta(days=3))]))
    assert known.iloc[0] > before.iloc[0]


def test_win_model__without_activity_is_as_before(deals: pd.DataFrame) -> None:
    """No activity, none on these deals, and none that is a touch: the same probabilities to the last digit."""
    plain = deals.drop(columns=[name for name in deals if str(name) in TOUCH_COLUMNS])
    bare = plain.opp.fit_win_model(features=FEATURES, activity=False)
    activity = deals.attrs["opp"].loaded.activity
    for none in (activity_frame(), activity.assign(opportunity_id=10**6), activity.assign(kind="event")):
        model = deals.opp.fit_win_model(features=FEATURES, activity=none)
        pd.testing.assert_series_equal(model.predict(deals), bare.predict(plain))
        pd.testing.assert_frame_equal(model.evaluation, bare.evaluation)
    counted = deals[["id", "stage_id", "lead_source", "amount", *TOUCH_COLUMNS]]
    assert set(counted.opp.fit_win_model(activity=False).features) == {"lead_source", "amount"}


def test_win_model__learns_from_activity(deals: pd.DataFrame) -> None:
    """Its features are in it, each deal's views stand in one fold, reasons name them, and it is better with them."""
    bare = deals.opp.fit_win_model(features=FEATURES, activity=False)
    model = deals.opp.fit_win_model(features=FEATURES)
    assert {"touches_30d", "days_since_touch", "age_days"} <= set(model.features)
    facts = model.evaluation.iloc[0]
    assert facts["n"] > facts["groups"]
    assert facts["groups"] == bare.evaluation["groups"].iloc[0]
    still_open = deals[~deals["stage_is_closed"].to_numpy(dtype=bool)]
    assert model.reasons(still_open, n=20).str.contains("touch").all()
    assert model.predict(still_open, activity=activity_frame()).between(0, 1).all()
    assert (
        facts["brier"] / facts["brier_base"] < bare.evaluation["brier"].iloc[0] / bare.evaluation["brier_base"].iloc[0]
    )


def test_predict__without_activity_is_as_before(deals: pd.DataFrame) -> None:
    """No activity, none on these deals, and none that is a touch: the same figures to the last digit."""
    asked: dict[str, Any] = {"horizon_days": 60}
    plain = deals.drop(columns=[name for name in deals if str(name) in TOUCH_COLUMNS])
    bare, activity = plain.opp.predict(activity=False, **asked), deals.attrs["opp"].loaded.activity
    for none in (activity_frame(), activity.assign(opportunity_id=10**6), activity.assign(kind="event")):
        found = plain.opp.predict(activity=none, **asked)
        pd.testing.assert_frame_equal(found.deals, bare.deals)
        assert (found.mean, found.sd) == (bare.mean, bare.sd)
    methods = plain.opp.compare(activity=False, **asked)
    assert "activity" not in methods.index
    pd.testing.assert_frame_equal(methods, plain.opp.compare(activity=activity_frame(), **asked))


def test_predict__learns_from_activity_and_knows_nothing_later(deals: pd.DataFrame) -> None:
    """Touches tell deals apart, in every window by what was known then; those after the moment change nothing."""
    activity = deals.attrs["opp"].loaded.activity
    asked: dict[str, Any] = {"horizon_days": 60, "as_of": "2026-08-20"}
    bare, found = (deals.opp.predict(activity=own, **asked) for own in (False, activity))
    assert found.weights["activity"].iloc[-1] > 0.2
    assert not found.deals["p"].equals(bare.deals["p"])
    assert found.deals["reasons"].str.contains("touches in 30 days").mean() > 0.2
    assert "activity" in deals.opp.backtest(horizon_days=60).index
    as_of = pd.Timestamp("2026-08-21T00:00:00Z")
    late = activity[(activity["created_at"] > as_of) | (activity["done_at"] > as_of)]
    assert len(late) > 50
    again = deals.opp.predict(activity=activity.drop(late.index), **asked)
    pd.testing.assert_frame_equal(found.deals, again.deals)
    # Nor has what was done after an evening a part in the window that was forecast from it.
    evening = found.windows["as_of"].iloc[-3].tz_localize("UTC") + pd.Timedelta(days=1)
    known = activity[(activity["created_at"] <= evening) & ~(activity["done_at"] > evening)]
    then = deals.opp.predict(activity=known, **asked)
    assert then.windows["forecast"].iloc[-3] == found.windows["forecast"].iloc[-3]
    # A deal on which more was done than on any other is likelier to be won.
    deal = int(found.deals["id"].iloc[0])
    busy = activity.head(40).assign(opportunity_id=deal, kind="meeting", created_at=as_of - pd.Timedelta(days=6),
                                    done_at=as_of - pd.Timedelta(days=3))  # fmt: skip
    met = deals.opp.predict(activity=pd.concat([activity, busy]), **asked).deals.set_index("id")["p"][deal]
    assert met > found.deals.set_index("id")["p"][deal]


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_win_model__with_activity_has_a_lower_brier_score(seed: int) -> None:
    """Walk-forward, each month from what was loaded then: 10 % less than without, and less than with others' activity.

    With the activity of other deals the model still learns from views at an age, which is part of the gain.
    """
    names = ("with", "without", "others")
    errors = dict.fromkeys(names, 0.0)
    with opp.sandbox(opportunities=600, seed=seed, now="2026-05-01T08:00:00Z") as box:
        client = box.client()
        for month in range(4):
            if month:
                box.advance(30)
            df = opp.read_opportunities(client, touches=True)
            outcome = df["id"].map(box.truth.set_index("id")["outcome"]).eq("won").to_numpy(dtype=float)
            still_open = ~df["stage_is_closed"].to_numpy(dtype=bool)
            activity = df.attrs["opp"].loaded.activity
            ids = df["id"].dropna().astype(int)
            other = dict(zip(ids, ids.sample(frac=1, random_state=seed), strict=True))
            mixed = activity.assign(opportunity_id=activity["opportunity_id"].map(other))
            for name, known in zip(names, (activity, False, mixed), strict=True):
                model = df.opp.fit_win_model(features=FEATURES, activity=known)
                errors[name] += float(((model.predict(df[still_open]) - outcome[still_open]) ** 2).sum())
    print({name: round(1 - errors["with"] / errors[name], 3) for name in names[1:]})  # noqa: T201
    assert errors["with"] < 0.9 * errors["without"]
    assert errors["with"] < 0.95 * errors["others"]
