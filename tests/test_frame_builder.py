"""From pages to one frame: joining, doubled rows, look-ups, threads."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opp_pandas.api.frame_builder import Collector, join_names, look_up, lookup_frame
from opp_pandas.errors import DocumentError
from opp_pandas.resource import OPPORTUNITY
from tests.slowload import assert_same, collect, load_slowly
from tests.test_decode import SHORT_COLLECTION


def record(number: int, updated: str | None = "2026-09-03T11:00:01.000Z", **attributes: Any) -> dict[str, Any]:
    """Make a resource object."""
    return {"type": "opportunity", "id": number, "attributes": {"updatedAt": updated, **attributes}}


def body_of(*records: Any, **members: Any) -> bytes:
    """Write a page."""
    return json.dumps({"data": list(records), **members}, separators=(",", ":")).encode()


def test_collector__no_page_and_no_row() -> None:
    """Without rows there are all columns with their dtypes."""
    for bodies in ([], [b'{"data":[]}']):
        collected = collect(bodies)
        assert collected.rows.frame.shape == (
            0,
            1 + len(OPPORTUNITY.attributes) + len(OPPORTUNITY.relationship_by_column),
        )
        assert collected.rows.frame["close_date"].dtype == "datetime64[us, UTC]"
        assert collected.rows.frame["id"].dtype == "Int64"
        assert collected.rows.frame["name"].dtype == "str"


def test_collector__a_row_that_comes_twice() -> None:
    """One row per id stays, at its first place: the newest copy, and of equals the last."""
    bodies = [
        body_of(record(1, name="old"), record(2, name="only"), record(3, name="first")),
        body_of(record(1, "2026-09-04T00:00:00.000Z", name="new"), record(4, None, name="unstamped")),
        body_of(record(1, name="late arrival"), record(3, name="second"), record(4, name="stamped", amount=10.0)),
    ]
    for block_bytes in (1, 10**6):
        collected = collect(bodies, block_bytes=block_bytes)
        assert collected.rows.frame["id"].tolist() == [1, 2, 3, 4]
        assert collected.rows.frame["name"].tolist() == ["new", "only", "second", "stamped"]
        assert collected.rows.marks.original == {(3, "amount"): 10.0}
        assert collected.duplicates.to_dict("list") == {
            "key": [1, 3, 4],
            "rows": [3, 2, 2],
            "kept": ["the copy with the latest updated_at"] * 3,
        }
        assert_same(collected, load_slowly(bodies))


def test_collector__pages_of_all_forms_mix() -> None:
    """Rows keep the order of arrival and records their page, whichever way a page is read."""
    collector = Collector()
    collector.add_body(body_of(record(5), 17))
    collector.add_body(json.dumps({"meta": {}, "data": [record(3), {"type": "opportunity"}]}).encode())
    collector.add_body(body_of(record(4)))
    assert collector.rows == 3
    collected = collector.finish()
    assert collected.rows.frame["id"].tolist() == [5, 3, 4]
    assert collected.quarantined[["row", "reason"]].to_numpy().tolist() == [
        ["page 1, record 1", "not a JSON object"],
        ["page 2, record 1", "it has no id"],
    ]


@pytest.mark.parametrize("document", [{}, {"data": None}, {"data": {"type": "opportunity", "id": 1}}, {"meta": {}}])
def test_collector__no_collection(document: dict[str, Any]) -> None:
    """A document without a list of data is refused, never read as no rows."""
    with Collector() as collector:
        collector.add_body(json.dumps(document).encode())
        with pytest.raises(DocumentError):
            collector.finish()


def test_collector__where_a_bad_page_came_from() -> None:
    """The error of a page decoded later names its request."""
    with Collector() as collector:
        collector.add_body(body_of(record(1), record(2)), method="GET", url="https://api.example/1", request_id="r1")
        bad = body_of(record(3), record(4)).replace(b'"id":3', b'"id":3,"id":3')
        collector.add_body(bad, method="GET", url="https://api.example/2", request_id="r2")
        with pytest.raises(DocumentError) as problem:
            collector.finish()
    assert (problem.value.url, problem.value.request_id) == ("https://api.example/2", "r2")


def test_collector__leaves_no_thread_behind() -> None:
    """After finish, close or an error in the caller nothing keeps running."""
    before = threading.active_count()

    def interrupted() -> None:
        with Collector() as collector:
            collector.block_bytes = 1
            for number in range(1, 8):
                collector.add_body(body_of(record(number)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before
    collect([body_of(record(1))])
    assert threading.active_count() == before


def test_collector__empty_columns_are_apart() -> None:
    """Columns without a value share memory and nothing else: an edit of one leaves the others empty."""
    frame = collect([body_of(record(1), record(2))]).rows.frame
    frame.loc[0, "custom3"] = "x"
    frame["custom4"].array[1] = "y"
    assert frame["custom3"].tolist()[0] == "x"
    assert frame.filter(like="custom").notna().sum().sum() == 2
    assert collect([body_of(record(1))]).rows.frame["custom3"].isna().all()


def test_collector__included() -> None:
    """Included resources become look-ups, the later copy in force, whatever they hold."""
    included = [
        {"type": "user", "id": 7, "attributes": {"name": "Sam Lee"}},
        {"type": "user", "id": "8", "attributes": {"firstName": "Ann", "lastName": "Hall"}},
        {"type": "user", "id": 9, "attributes": None},
        {"type": "user", "attributes": {"name": "without an id"}},
        {"type": "opportunityStage", "id": 6, "attributes": {"name": "Won", "order": 4, "isClosed": True}},
        {"type": "opportunityStage", "id": 5, "attributes": {"name": 5, "order": "x", "isClosed": "no"}},
        {"type": "account", "id": 1, "attributes": ["odd"]},
        17,
    ]
    again = [{"type": "user", "id": 7, "attributes": {"name": "Sam Leigh"}}]
    lookups = collect([body_of(record(1), included=included), body_of(record(2), included=again)]).lookups
    assert lookups["user"][["id", "name"]].astype(object).to_numpy().tolist()[:2] == [[7, "Sam Leigh"], [8, "Ann Hall"]]
    assert lookups["user"]["name"].isna().tolist() == [False, False, True]
    assert lookups["opportunityStage"].astype(object).where(lambda cells: cells.notna(), None).to_numpy().tolist() == [
        [5, "5", None, None],  # a number where text belongs stands as text
        [6, "Won", 4, True],
    ]
    assert lookups["account"]["name"].isna().all()
    assert lookup_frame([]).dtypes.astype(str).to_dict() == {
        "id": "Int64",
        "name": "str",
        "order": "Int64",
        "is_closed": "boolean",
    }


def test_join_names__ids_known_unknown_and_missing() -> None:
    """Names stand beside ids, missing where the look-up has none."""
    owners = pd.DataFrame({"owner_id": pd.array([8, None, 7, 99, 8], dtype="Int64")})
    lookup = lookup_frame({"id": key, "attributes": {"name": name}} for key, name in ((7, "Sam"), (8, "Ann")))
    joined = join_names(owners, {"user": lookup}, ("owner", "stage"))
    assert joined["owner_name"].isna().tolist() == [False, True, False, True, False]
    assert joined["owner_name"].dropna().tolist() == ["Ann", "Sam", "Ann"]
    assert pd.isna(look_up(owners["owner_id"], None, "order", "Int64")).all()


def test_collector__documented_page() -> None:
    """The page of the service's description loads whole, undocumented attributes kept in their dtypes."""
    body = json.dumps(SHORT_COLLECTION).encode()
    collected = collect([body])
    assert_same(collected, load_slowly([body]))
    frame = collected.rows.frame
    assert list(frame.columns[:4]) == ["id", "name", "amount", "currency_type"]
    assert (frame["health_score"].dtype, frame["health_category"].dtype) == ("Int64", "str")
    assert frame["custom2"].tolist() == [""]
    assert frame["custom150"].isna().all()
    assert collected.unknown_attributes == ("healthCategory", "healthScore")


@pytest.mark.data
def test_collector__record_of_the_real_service() -> None:
    """A record that the real service returned, its relationships put back, loads with every undocumented attribute."""
    folder = os.environ.get("OPP_PANDAS_DATA")
    if not folder:
        pytest.skip("OPP_PANDAS_DATA does not name the folder of opportunity files")
    path = Path(folder) / "outreach_record" / "opportunity_flattened_by_airbyte.json"
    flat = json.loads(path.read_text(encoding="utf-8"))
    types = {"account": "account", "creator": "user", "opportunityStage": "opportunityStage", "owner": "user"}
    types |= {
        "stage": "opportunityStage",
        "assignedUsers": "user",
        "opportunityHealthFactors": "opportunityHealthFactor",
    }

    def linked(kind: str, target: Any) -> Any:
        if isinstance(target, list):
            return {"data": [{"type": kind, "id": key} for key in target]}
        return {"data": {"type": kind, "id": target}}

    entry = {
        "type": "opportunity",
        "id": flat.pop("id"),
        "relationships": {name: linked(kind, flat.pop(name)) for name, kind in types.items()},
        "attributes": flat,
    }
    body = body_of(entry)
    collected = collect([body])
    assert_same(collected, load_slowly([body]))
    row = collected.rows.frame.iloc[0]
    assert (row["health_category"], row["health_score"], row["map_number_of_overdue_tasks"]) == ("RED", 22, 8)
    assert (row["stage_id"], row["owner_id"], row["account_id"], row["tags"]) == (1, 1, 1, [])
    assert str(row["close_date"]) == "2021-12-09 22:00:00+00:00"
    assert (collected.rows.marks.original, collected.rows.marks.locked) == ({}, {})
    assert collected.unknown_relationships == ()
