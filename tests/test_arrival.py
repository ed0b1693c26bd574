"""What the service was asked is tested on what arrived: a service may ignore filter, sort and fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.frame_state import CellMarks, Rows
from opp_pandas.load import changed_records
from opp_pandas.load.arrival import is_sorted, leave_out_unfit, sort_rows
from rawserver import RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = "2026-09-01T08:00:00Z"
FILTERS: list[dict[str, Any]] = [
    {"created_at": ("2026-01-01", "2026-03-31")},
    {"updated_at": (None, "2026-05-31")},
    {"owner": [1, 3]},
    {"stage": 2},
    {"probability": (20, 60)},
    {"name": ["nobody has this name"]},
    {"custom_id": None},
    {"account": [2, 4, 8], "probability": (None, 50)},
]


@pytest.fixture(scope="module")
def box() -> Iterator[Any]:
    with opp.sandbox(opportunities=120, seed=11, now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def deaf(box: Any) -> Iterator[Any]:
    """A service that ignores what it is asked."""
    box.switches.ignore_parameters = ("filter", "sort", "fields")
    yield box
    box.switches.ignore_parameters = ()


def load(box: Any, **options: Any) -> pd.DataFrame:
    return opp.read_opportunities(box.client(), stages=STAGES, **options)


@pytest.mark.parametrize("asked", FILTERS)
@pytest.mark.parametrize("options", [{"page_size": 50}, {"limit": 5}, {"partitions": 3, "page_size": 20}])
def test_filter__is_tested_on_what_arrived(box: Any, asked: dict[str, Any], options: dict[str, Any]) -> None:
    """The frame is that of a service that listens; what came beside it is counted and named."""
    if "limit" in options or "name" in asked:
        options = {key: value for key, value in options.items() if key != "partitions"}
    expected = load(box, filter=asked, **options)
    assert not len(expected.opp.load_report.left_out)
    box.switches.ignore_parameters = ("filter",)
    try:
        found = load(box, filter=asked, **options)
    finally:
        box.switches.ignore_parameters = ()
    pd.testing.assert_frame_equal(found, expected)
    report = found.opp.load_report
    assert len(report.left_out) == 120 - len(load(box, filter=asked))
    assert any("the service ignored filter=" in note for note in report.notes) is (len(report.left_out) > 0)
    assert report.complete is not False


def test_filter__of_an_upper_bound_that_the_service_ignores(box: Any) -> None:
    """The reference says that the real service sometimes does."""
    asked = {"created_at": ("2026-01-01", "2026-03-31")}
    expected = load(box, filter=asked)
    box.switches.ignore_upper_bounds = True
    try:
        found = load(box, filter=asked)
    finally:
        box.switches.ignore_upper_bounds = False
    pd.testing.assert_frame_equal(found, expected)
    assert set(found.opp.load_report.left_out["column"]) == {"created_at"}
    assert (found["created_at"] < "2026-04-01").all()


@pytest.mark.parametrize("sort", ["-amount", "close_date", "name", "-probability,close_date", "id"])
@pytest.mark.parametrize("limit", [None, 7])
def test_sort__is_tested_on_what_arrived(box: Any, sort: str, limit: int | None) -> None:
    """Where the order was ignored the rows are sorted here, and the first ones are the first of all."""
    expected = load(box, sort=sort, limit=limit)
    assert not any("order" in note for note in expected.opp.load_report.notes)
    box.switches.ignore_parameters = ("sort",)
    try:
        found = load(box, sort=sort, limit=limit)
    finally:
        box.switches.ignore_parameters = ()
    first = sort.split(",")[0].removeprefix("-")
    # Where missing values stand is each side's own affair.
    mine, theirs = found[first].dropna().tolist(), expected[first].dropna().tolist()
    assert mine[: len(theirs)] == theirs[: len(mine)]
    assert len(found) == len(expected)
    if sort != "id":
        assert any("did not keep the order" in note for note in found.opp.load_report.notes)


@pytest.mark.parametrize("fields", [["name"], ["amount", "healthScore"], "name,close_date"])
def test_fields__that_were_not_asked_for_are_left_out(box: Any, fields: Any) -> None:
    """A service that sends everything gives the same frame, and the load says so."""
    expected = load(box, fields=fields)
    box.switches.ignore_parameters = ("fields",)
    try:
        found = load(box, fields=fields)
    finally:
        box.switches.ignore_parameters = ()
    pd.testing.assert_frame_equal(found, expected)
    assert any("ignored fields=" in note for note in found.opp.load_report.notes)
    assert not any("ignored fields=" in note for note in expected.opp.load_report.notes)


def test_filter__brings_the_columns_that_it_is_tested_by(box: Any) -> None:
    """What the service is asked to select by has to come, or nobody could tell whether it did."""
    found = load(box, fields=["name"], filter={"created_at": ("2026-01-01", None)}, sort="-amount")
    assert {"created_at", "amount"} <= set(found.columns)


def test_ids__stop_at_the_first_foreign_row(deaf: Any) -> None:
    """Reading a few deals by id costs a request each, not a walk through the whole collection."""
    wanted = [17, 90, 3, 100_000]
    before = len(deaf.requests)
    found = load(deaf, filter={"id": wanted}, page_size=5)
    assert found["id"].tolist() == sorted(wanted[:3]) or found["id"].tolist() == wanted[:3]
    assert len(deaf.requests) - before <= 8
    assert any("ignored filter[id]" in note for note in found.opp.load_report.notes)


def test_ids__of_many_deals_are_read_in_one_walk(deaf: Any) -> None:
    """More ids than one request takes: everything is read once."""
    found = load(deaf, filter={"id": list(range(2, 130, 1))}, page_size=50)
    assert found["id"].tolist() == list(range(2, 121))


def test_iter_pages__of_ids_raises_on_foreign_rows(deaf: Any) -> None:
    """Who reads pages gets an error instead of the whole collection."""
    with pytest.raises(errors.ForeignRowsError, match=r"ignored filter\[id\]"):
        list(deaf.client().iter_pages(filter={"id": 90}, page_size=5))
    with pytest.raises(errors.ForeignRowsError):
        deaf.client().users([100_000])


def test_write_back__rereads_one_deal_in_few_requests(deaf: Any) -> None:
    """The row is asked for by itself where the service ignores the ids."""
    df = load(deaf, page_size=20)
    df.loc[df["id"] == 90, "next_step"] = "Call"
    before = len(deaf.requests)
    report = df.opp.write_back()
    assert report.rows["status"].tolist() == ["written"]
    assert len(deaf.requests) - before <= 4


def test_refresh__takes_in_only_what_fits(box: Any) -> None:
    """What changed is tested too: a deal that does not fit never enters by a refresh."""
    df = load(box, filter={"owner": [1, 2]})
    outside = load(box)
    other = int(outside["id"][~outside["owner_id"].isin([1, 2])].iloc[0])
    mine = int(df["id"].iloc[0])
    client = box.client()
    client.update(other, {"nextStep": "x"})
    client.update(mine, {"nextStep": "y"})
    box.switches.ignore_parameters = ("filter",)
    try:
        fresh = df.opp.refresh()
    finally:
        box.switches.ignore_parameters = ()
    assert fresh["id"].tolist() == df["id"].tolist()
    assert fresh.loc[fresh["id"] == mine, "next_step"].tolist() == ["y"]
    assert any("ignored filter=" in note for note in fresh.opp.load_report.notes)


def test_warm_start__takes_in_only_what_fits(box: Any, tmp_path: Any) -> None:
    """A load that goes on from a history gives what a whole load of a listening service gives."""
    pytest.importorskip("deltalake")
    history = opp.History(tmp_path / "history")
    asked = {"owner": [1, 2]}
    history.record(load(box, filter=asked))
    outside = load(box)
    box.client().update(int(outside["id"][~outside["owner_id"].isin([1, 2])].iloc[0]), {"nextStep": "z"})
    expected = load(box, filter=asked)
    box.switches.ignore_parameters = ("filter",)
    try:
        found = load(box, filter=asked, history=history)
    finally:
        box.switches.ignore_parameters = ()
    assert found["id"].tolist() == expected["id"].tolist()


def test_unreadable_cell__says_nothing_against_its_row() -> None:
    """A value that could not be read is kept, locked and counted; nobody can tell whether it fits."""
    frame = pd.DataFrame({"id": pd.array([1, 2, 3], "Int64"), "amount": pd.array([5, None, 50], "Int64")})
    frame["probability"] = pd.array([10, None, None], "Int64")
    rows = Rows(frame, CellMarks({(1, "probability"): "half"}, {(1, "probability"): "must be a whole number"}))
    notes: list[str] = []
    kept, left_out = leave_out_unfit(rows, {"probability": (0, 20)}, None, notes)
    assert kept.frame["id"].tolist() == [1, 2]
    assert left_out["id"].tolist() == [3]


def test_order__of_any_usual_collation_is_an_order() -> None:
    """Capitals, accents and the place of missing values are the service's own affair."""
    names = pd.Series(["abel", "Ábel 2", "Berta", "carl", None], dtype="str")
    frame = pd.DataFrame({"id": range(1, 6), "name": names})
    assert is_sorted(frame, "name")
    assert is_sorted(frame.iloc[[4, 0, 1, 2, 3]], "name")
    assert is_sorted(frame.iloc[::-1], "-name")
    assert not is_sorted(frame.iloc[[0, 2, 1, 3]], "name")
    shuffled = Rows(frame.iloc[[3, 4, 0, 2, 1]].reset_index(drop=True))
    assert is_sorted(sort_rows(shuffled, "name").frame, "name")


@pytest.mark.parametrize("cycle", [1, 2, 5])
def test_walk__that_brings_nothing_new_ends(cycle: int) -> None:
    """Pages that repeat under ever new links would go on for hundreds of thousands of pages."""
    with RawServer() as server:
        for number in range(60):
            rows = [{"type": "opportunity", "id": number % cycle * 10 + row, "attributes": {}} for row in range(1, 6)]
            server.script(reply(200, {"data": rows, "links": {"next": f"{server.url}/opportunities?page={number}"}}))
        with pytest.raises(errors.DocumentError, match="without a new record"):
            list(opp.connect(server.url, token="t").iter_pages(page_size=5))
        assert len(server.requests) <= 2 * cycle + 4


def test_walk__without_include_is_an_empty_one(box: Any) -> None:
    """None includes nothing, as elsewhere in Python."""
    assert sum(len(page.document["data"]) for page in box.client().iter_pages(include=None)) == 120


@pytest.mark.parametrize(
    "role",
    [
        {"type": "opportunityProspectRole", "id": 1, "relationships": {"opportunity": {"data": {}}}},
        {"type": "opportunityProspectRole", "id": 1, "relationships": {"opportunity": {"data": {"id": "x"}}}},
        {"type": "opportunityProspectRole", "id": 1, "relationships": []},
        {
            "type": "opportunityProspectRole",
            "id": 1,
            "relationships": {"opportunity": {"data": {"type": "lead", "id": 1}}},
        },
        {"type": "opportunityProspectRole", "id": "a-1"},
        {"type": "opportunityProspectRole"},
        None,
    ],
)
def test_prospects__of_a_malformed_role_are_said(box: Any, role: Any) -> None:
    """A role that names nobody, or is none, costs its entry and a note, never the load."""
    expected = opp.read_opportunities(box.client(), stages=STAGES, prospects=True)
    address = f"{box.url}/opportunityProspectRoles?page[size]=1000"
    sent = requests.get(address, headers={"Authorization": f"Bearer {box.token}"}, timeout=60).json()
    body = json.dumps({"data": [*sent["data"], role]}).encode()
    box.fail(200, times=2, path="/opportunityProspectRoles", body=body)
    found = opp.read_opportunities(box.client(), stages=STAGES, prospects=True)
    pd.testing.assert_frame_equal(found, expected)
    assert any("prospect roles name no deal" in note for note in found.opp.load_report.notes)


def test_numbers_where_text_belongs__are_noted() -> None:
    """In the deals, the names of stages and what `refresh` brings: kept as their digits, and said."""
    box = opp.sandbox(12, seed=11, now=NOW)

    def sent(path: str, query: str, **values: Any) -> bytes:
        answer = requests.get(f"{box.url}{path}?{query}", headers={"Authorization": f"Bearer {box.token}"}, timeout=60)
        document = answer.json() | {"links": {}}
        for record in document["data"]:
            record["attributes"] |= values
        return json.dumps(document).encode()

    box.fail(200, path="/opportunities", body=sent("/opportunities", "page[size]=200", nextStep=5))
    box.fail(200, path="/opportunityStages", body=sent("/opportunityStages", "", name=7))
    df = opp.read_opportunities(box.client(), include="stage")
    assert set(df["next_step"]) == {"5"}
    assert set(df["stage_name"]) == {"7"}
    assert df.opp.load_report.notes == (
        "next_step: 12 numbers came where text belongs, and stand as text",
        "opportunityStage: 6 names came as numbers, and stand as text",
    )
    box.fail(200, path="/opportunities", body=sent("/opportunities", "filter[id]=1,2", name=8, updatedAt=NOW))
    again = df.opp.refresh()
    assert again.loc[again["id"] == 1, "name"].tolist() == ["8"]
    assert "name: 2 numbers came where text belongs, and stand as text" in again.opp.load_report.notes


def test_later_loads__of_a_service_without_lists_of_names_or_ids(tmp_path: Any) -> None:
    """Names stand as they were loaded, and deals that may be gone are asked for one by one."""
    box = opp.sandbox(12, seed=11, now=NOW)
    client = box.client()
    df = opp.read_opportunities(client, stages=STAGES)
    history = opp.History(tmp_path)
    history.record(df)
    client.delete(3)
    box.switches.ignore_parameters = ("filter",)
    for path in ("/accounts", "/users"):
        box.fail(404, times=10**6, path=path, body=b"{}")
    found = df.opp.refresh()
    pd.testing.assert_series_equal(found["account_name"], df["account_name"])
    assert "the service has no users: their names are those of the load before" in found.opp.load_report.notes
    assert df.opp.reconcile().gone == [3]
    warm = opp.read_opportunities(client, history=history, stages=STAGES)
    assert (len(warm), warm.opp.load_report.complete, warm.opp.load_report.pages) == (11, True, 1)
    assert any("1 deals are gone at the service" in note for note in warm.opp.load_report.notes)


def test_load_from_a_history__of_many_that_may_be_gone_reads_everything(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fit into one request are not asked for one by one."""
    monkeypatch.setattr(changed_records, "IDS_PER_REQUEST", 1)
    box = opp.sandbox(12, seed=11, now=NOW)
    client = box.client()
    history = opp.History(tmp_path)
    history.record(opp.read_opportunities(client, stages=STAGES))
    for key in (3, 4):
        client.delete(key)
    box.switches.ignore_parameters = ("filter",)
    warm = opp.read_opportunities(client, history=history, stages=STAGES)
    assert len(warm) == 10
    assert any("although history= was given: the service ignored filter[id]" in n for n in warm.opp.load_report.notes)
