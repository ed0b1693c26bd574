"""Histories of other systems become events, and events become a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from histories import LEAD, OFFER, WON, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.history.importers import (
    hubspot_history,
    salesforce_field_history,
    salesforce_history,
    table_events,
    webhook_events,
)

if TYPE_CHECKING:
    from pathlib import Path

SALESFORCE = pd.DataFrame(
    {
        "OpportunityId": ["006A", "006A", "006A", "006B", "006B"],
        "CreatedDate": [
            "2026-01-02T10:00:00Z", "2026-01-05T10:00:00Z", "9999-12-31 23:59:59", "2026-01-03T10:00:00Z", "soon",
        ],
        "StageName": ["Lead", "Offer", "Won", "Lead", "Won"],
        "Amount": [100.4, 100.4, 100.4, "", 5],
        "Probability": [10, 60, 100, 1000, 100],
        "CloseDate": ["2026-03-31", "2026-03-31", "2026-03-31", "9999-12-31", "2026-03-31"],
    }
)  # fmt: skip


def told(events: Any) -> list[tuple[Any, ...]]:
    frame = events.events
    keys = frame["id"].astype(object).where(frame["id"].notna(), frame["custom_id"])
    return list(zip(keys, frame["field"], frame["value"], strict=True))


def in_history(events: Any) -> pd.DataFrame:
    history = history_in_memory()
    history.import_events(events)
    return history.stage_entries()


def test_salesforce_history__tells_only_what_changed() -> None:
    """Rows repeat the whole state; a year of 9999, a probability of 1000 and a word for a time are reported."""
    events = salesforce_history(SALESFORCE)
    assert told(events) == [
        ("006A", "stage_name", "Lead"), ("006A", "amount", 100), ("006A", "close_date", moment("2026-03-31")),
        ("006A", "probability", 10), ("006B", "stage_name", "Lead"),
        ("006A", "stage_name", "Offer"), ("006A", "probability", 60),
    ]  # fmt: skip
    reasons = list(events.report["reason"])
    assert reasons == [
        "set aside: CreatedDate is no moment",
        "set aside: CreatedDate is outside 1990 to 2049",
        "value left missing: close_date outside 1990 to 2049, or no date",
        "value left missing: probability outside 0 to 100 percent",
    ]
    assert list(events.stage_entries()["stage_name"]) == ["Lead", "Offer", "Lead"]
    with pytest.raises(MissingColumnError, match="OpportunityId"):
        salesforce_history(pd.DataFrame({"x": [1]}))


def test_salesforce_history__of_a_connector_begins_before_it() -> None:
    """The first version of a deal is how it was when the connector came; deleted deals are told of."""
    versions = pd.DataFrame(
        {"id": ["006A", "006A", "006B"], "_fivetran_start": ["2026-01-02", "2026-01-09", "2026-01-02"],
         "_fivetran_end": ["2026-01-09", "9999-12-31", "9999-12-31"], "stage_name": ["Lead", "Offer", "Lead"],
         "created_date": "2025-06-01", "is_deleted": [False, False, True]}
    )  # fmt: skip
    events = salesforce_history(versions)
    assert told(events) == [
        ("006A", "stage_name", "Lead"), ("006B", "stage_name", "Lead"), ("006A", "stage_name", "Offer"),
    ]  # fmt: skip
    assert list(events.stage_entries()["seen_before"]) == [True, False, True]
    assert list(in_history(events)["seen_before"]) == [True, False, True]
    assert events.report[["row", "value"]].values.tolist() == [[2, "006B"]]


def test_salesforce_history__with_ids_follows_deals_of_the_service() -> None:
    """Ids that nobody mapped are reported, not guessed."""
    events = salesforce_history(SALESFORCE, ids={"006A": 11})
    assert set(events.events["id"]) == {11}
    assert list(events.report["reason"]).count("set aside: ids= has no id for the deal") == 1


def test_salesforce_field_history__starts_with_the_first_old_value() -> None:
    """How a field was until it first changed stands at the deal's first event."""
    frame = pd.DataFrame(
        {
            "OpportunityId": ["006A", "006A", "006A"],
            "Field": ["StageName", "Amount", "Colour__c"],
            "OldValue": ["Lead", "50", "red"],
            "NewValue": ["Offer", "80", "blue"],
            "CreatedDate": ["2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z"],
        }
    )
    events = salesforce_field_history(frame)
    assert told(events) == [
        ("006A", "stage_name", "Lead"), ("006A", "stage_name", "Offer"), ("006A", "amount", 50), ("006A", "amount", 80),
    ]  # fmt: skip
    assert list(events.events["at"])[:3] == [moment("2026-01-01 23:59:59"), moment(2), moment(2)]
    assert list(events.report["value"]) == ["Colour__c"]
    # Nobody knows since when it was a Lead; the row that Salesforce writes at the creation says it.
    assert list(events.stage_entries()["seen_before"]) == [True, False]
    assert in_history(events)["seen_before"].tolist() == [True, False]
    created = {"OpportunityId": "006A", "Field": "created", "CreatedDate": "2025-12-30T00:00:00Z"}
    whole = salesforce_field_history(pd.concat([frame, pd.DataFrame([created])], ignore_index=True))
    entries = whole.stage_entries()
    assert list(entries["seen_before"]) == [False, False]
    assert entries["entered_at"][0] == moment("2025-12-30")
    assert list(whole.report["value"]) == ["Colour__c"]
    pd.testing.assert_frame_equal(in_history(whole)[list(entries.columns)], entries)


def test_hubspot_history__reads_stages_and_properties() -> None:
    """Stage ids get their labels; whole numbers written 12.0 are keys like any other."""
    stages = pd.DataFrame(
        {"deal_id": [12.0, 12.0], "value": ["s1", "s2"], "date_entered": ["2026-01-02", "2026-01-04"],
         "_fivetran_end": ["2026-01-04", "9999-12-31"]}
    )  # fmt: skip
    labels = pd.DataFrame({"stage_id": ["s1", "s2"], "label": ["Lead", "Won"]})
    events = hubspot_history(stages, stages=labels)
    assert told(events) == [("12", "stage_name", "Lead"), ("12", "stage_name", "Won")]
    properties = pd.DataFrame(
        {"deal_id": [12, 12, 12], "name": ["amount", "dealstage", "mood"], "value": ["70", "s2", "good"],
         "timestamp": ["2026-01-02", "2026-01-04", "2026-01-04"]}
    )  # fmt: skip
    events = hubspot_history(properties, stages={"s2": "Won"})
    assert told(events) == [("12", "amount", 70), ("12", "stage_name", "Won")]
    assert len(events.report) == 1
    with pytest.raises(MissingColumnError, match="date_entered"):
        hubspot_history(stages.drop(columns=["date_entered", "_fivetran_end"]))


def delivery(event: str, at: str, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    data = {"type": "opportunity", "id": 11, "attributes": attributes, **more.pop("data", {})}
    return {"data": data, "meta": {"eventName": f"opportunity.{event}", "deliveredAt": at}, **more}


def test_importers__leave_emptied_fields_missing() -> None:
    """A text that was taken away is missing from then on, not the word for it."""
    rows = {"OpportunityId": ["a", "a"], "CreatedDate": ["2026-01-02", "2026-01-04"]}
    versions = salesforce_history(pd.DataFrame({**rows, "StageName": ["Lead", None]}))
    log = salesforce_field_history(
        pd.DataFrame({**rows, "Field": ["Owner", "NextStep"], "OldValue": ["Sam", "call"], "NewValue": [None, None]})
    )
    assert told(versions) == [("a", "stage_name", "Lead"), ("a", "stage_name", None)]
    assert list(in_history(versions)["stage_name"]) == ["Lead"]
    history = history_in_memory()
    history.import_events(log)
    assert history.as_of()[["owner_name", "next_step"]].isna().all(axis=None)


@pytest.mark.parametrize("amount", [1e30, "1e400", 10**30, float("inf"), "-inf"])
def test_importers__leave_impossible_amounts_missing(amount: Any) -> None:
    """A number that no amount can be is reported, and never becomes another one."""
    events = salesforce_history(SALESFORCE.head(1).assign(Amount=pd.Series([amount], dtype=object)))
    assert "amount" not in set(events.events["field"])
    assert events.report["reason"].tolist() == ["value left missing: amount is no number, or too large"]


def test_importers__take_days_and_months_of_one_column_alike() -> None:
    """One date that reads only one way tells how the others are meant; where none does, somebody has to say."""
    rows = pd.DataFrame(
        {"OpportunityId": ["a", "b"], "StageName": "Lead", "CreatedDate": ["03/04/2026 10:00", "25/04/2026"]}
    )
    assert list(salesforce_history(rows).events["at"]) == [moment("2026-04-03T10:00"), moment("2026-04-25")]
    american = rows.assign(CreatedDate=["03/04/2026 10:00", "04/25/2026"])
    assert list(salesforce_history(american).events["at"]) == [moment("2026-03-04T10:00"), moment("2026-04-25")]
    for dates in (["03/04/2026", "04/05/2026"], ["25/04/2026", "04/25/2026"]):
        with pytest.raises(ConfigurationError, match=r"CreatedDate.* read both ways.*dayfirst=True"):
            salesforce_history(rows.assign(CreatedDate=dates))


def test_importers__keep_an_answer_that_spreadsheets_take_for_a_gap(tmp_path: Path) -> None:
    """A field set to "None" or "N/A" in a file of changes was set, and one with nothing in it was emptied."""
    path = tmp_path / "changes.csv"
    path.write_text(
        "\ufeffOpportunityId;Field;OldValue;NewValue;CreatedDate\r\n"
        "006A;NextStep;None;N/A;2026-01-02T00:00:00Z\r\n006A;NextStep;N/A;;2026-01-04T00:00:00Z\r\n",
        encoding="utf-8", newline="",
    )  # fmt: skip
    assert [value for _, _, value in told(salesforce_field_history(path))] == ["None", "N/A", None]


def test_importers__read_files_without_rows() -> None:
    """A night without changes is an import of none."""
    nothing = [
        salesforce_history(SALESFORCE.head(0)),
        salesforce_field_history(
            pd.DataFrame(columns=["OpportunityId", "Field", "OldValue", "NewValue", "CreatedDate"])
        ),
        hubspot_history(pd.DataFrame(columns=["deal_id", "value", "date_entered"])),
        hubspot_history(pd.DataFrame(columns=["deal_id", "name", "value", "timestamp"])),
        webhook_events([]),
        table_events(pd.DataFrame(columns=["id", "field", "value", "at"])),
    ]
    assert [len(events) for events in nothing] == [0] * len(nothing)
    history = history_in_memory()
    history.record(load_of([{"id": 11, "amount": 100}], 10))
    for events in nothing:
        assert len(history.import_events(events)) == 0
    assert len(history.snapshots()) == 1


def test_table__says_in_words_that_a_deal_was_deleted() -> None:
    """Files hold texts: false is no deal, and what is neither true nor false is set aside."""
    rows = {
        "id": [1, 1, 2, 3],
        "field": ["amount", None, None, None],
        "value": ["5", None, None, None],
        "present": [None, "False", "TRUE", "maybe"],
    }
    events = table_events(pd.DataFrame({**rows, "at": ["2026-01-02", "2026-01-03", "2026-01-03", "2026-01-03"]}))
    assert events.report[["row", "value"]].values.tolist() == [[3, "maybe"]]
    history = history_in_memory()
    history.import_events(events)
    assert history.as_of()["id"].tolist() == [2]
    assert history.as_of("2026-01-02")["id"].tolist() == [1]


def test_webhooks__tell_what_was_before() -> None:
    """Created, updated and destroyed in any order, twice, and bodies that are no such thing."""
    stage = {"relationships": {"opportunityStage": {"data": {"type": "opportunityStage", "id": OFFER}}}}
    before = {"attributes": {"amount": 50}, "relationships": {"opportunityStage": {"data": {"id": LEAD}}}}
    payloads = [
        delivery(
            "updated", "2026-01-05T00:00:00Z", {"amount": 80, "createdAt": "2026-01-01T00:00:00Z"}, data=stage,
            beforeUpdate=before,
        ),
        delivery("updated", "2026-01-08T00:00:00Z", {"amount": 90}, beforeUpdate={"amount": 80}),
        delivery("destroyed", "2026-01-09T00:00:00Z", {"amount": 90}),
        {"data": {"type": "account", "id": 1}, "meta": {"eventName": "account.updated"}},
        delivery("updated", "9999-12-31T00:00:00Z", {"amount": 1}),
        {"hello": "world"},
    ]  # fmt: skip
    events = webhook_events([*payloads, payloads[0]])
    amounts = events.events[events.events["field"] == "amount"].drop_duplicates(["at", "value"])
    assert list(zip(amounts["at"], amounts["value"], strict=True)) == [
        (moment(1), 50), (moment(5), 80), (moment(8), 90),
    ]  # fmt: skip
    assert events.report["reason"].str.partition(":")[0].tolist() == ["set aside"] * 3 + ["left out", "kept"]
    assert events.gaps["before"].tolist() == [moment(5)]
    history = history_in_memory()
    history.import_events(events)
    assert history.as_of(moment(4))["amount"].tolist() == [50]
    assert history.as_of(moment(6))[["amount", "stage_id"]].values.tolist() == [[80, OFFER]]
    assert len(history.as_of(moment(10))) == 0
    assert list(history.stage_entries()["stage_id"]) == [LEAD, OFFER]
    assert list(history.stage_entries()["seen_before"]) == [True, False]


def test_table__of_events_needs_only_four_names() -> None:
    """Any table with a row per change; stage columns stand for field and value."""
    frame = pd.DataFrame({"Deal": ["a", "a"], "Stage": ["Lead", "Won"], "When": ["2026-01-02", "2026-01-04"]})
    names = {"Deal": "custom_id", "Stage": "stage_name", "When": "at"}
    events = table_events(frame, names, timezone="America/New_York")
    assert list(events.events["at"]) == [moment("2026-01-02 05:00"), moment("2026-01-04 05:00")]
    with pytest.raises(MissingColumnError, match="at"):
        table_events(frame, {"Deal": "custom_id", "Stage": "stage_name"})


def test_import__before_and_between_snapshots_leaves_them_true() -> None:
    """Events fill in what lies before and between; what snapshots saw stays; a second import adds nothing."""
    history = history_in_memory()
    history.record(load_of([{"id": 11, "amount": 100, "stage_id": OFFER}], 10))
    history.record(load_of([{"id": 11, "amount": 100, "stage_id": WON}], 20))
    events = table_events(
        pd.DataFrame(
            {"id": [11, 11, 11], "field": ["stage_id", "amount", "amount"], "value": [LEAD, 30, 70],
             "at": [moment(2), moment(2), moment(15)]}
        )
    )  # fmt: skip
    history.import_events(events)
    assert [history.as_of(moment(day))["amount"].tolist() for day in (5, 10, 16, 20)] == [[30], [100], [70], [100]]
    assert list(history.stage_entries()["stage_id"]) == [LEAD, OFFER, WON]
    assert list(history.stage_entries()["seen_before"]) == [False, False, False]
    before = history.diff(moment(2))
    history.import_events(events)
    pd.testing.assert_frame_equal(history.diff(moment(2)), before)
    with pytest.raises(ConfigurationError, match="a history of their own"):
        history.import_events(salesforce_history(SALESFORCE))


def test_import__beside_snapshots_dates_no_other_deal() -> None:
    """An event of one deal says nothing of when another one changed between two snapshots."""
    history = history_in_memory()
    old = {"id": 11, "created_at": moment(1), "updated_at": moment(1), "stage_id": LEAD}
    history.record(load_of([old], 10))
    moved = {**old, "updated_at": moment(12), "stage_id": OFFER}
    new = {"id": 12, "created_at": moment(13), "updated_at": moment(13), "stage_id": LEAD}
    history.record(load_of([moved, new], 20))
    history.import_events(table_events(pd.DataFrame({"id": [13], "stage_id": [LEAD], "at": [moment(19)]})))
    entries = history.stage_entries()
    assert list(entries["id"]) == [11, 11, 12, 13]
    assert list(entries["entered_at"]) == [moment(10), moment(12), moment(13), moment(19)]
    assert list(entries["seen_before"]) == [True, False, False, False]
    assert list(entries["not_before"])[1] == moment(10)


@pytest.mark.parametrize("recorded_first", [True, False])
def test_import__of_stage_names_goes_before_snapshots_of_stage_ids(recorded_first: bool) -> None:
    """Stages that another system calls by name are those that the service knows by id."""
    history = history_in_memory()
    load = load_of([{"id": 11, "stage_id": OFFER, "amount": 100}], 10)
    at = [moment(day) for day in (2, 3, 4, 6)]
    events = table_events(pd.DataFrame({"id": [11] * 4, "stage_name": ["Lead", "Demo", "Lead", "Offer"], "at": at}))
    for step in (history.record, history.import_events) if recorded_first else (history.import_events, history.record):
        step(load if step == history.record else events)  # type: ignore[arg-type]
    entries = history.stage_entries()
    assert entries["stage_id"].tolist() == [LEAD, pd.NA, LEAD, OFFER]
    assert list(entries["stage_name"]) == ["Lead", "Demo", "Lead", "Offer"]
    assert list(entries["entered_at"]) == at
    assert not entries["seen_before"].any()
    assert load.opp.funnel(history)["reached"].tolist()[:4] == [1, 1, 1, 0]


def test_events__go_into_a_funnel_without_a_history() -> None:
    """An import alone is enough for conversion and time in stage."""
    stages = opp.StageMap(order=["Lead", "Offer"], won=["Won"], lost=["Lost"])
    rows = {
        "custom_id": ["006A", "006B"],
        "stage_name": ["Offer", "Lost"],
        "amount": [1, 2],
        "close_date": "2026-03-01",
    }
    frame = opp.adopt(pd.DataFrame(rows), stages=stages, as_of="2026-02-01")
    table = frame.opp.funnel(history=salesforce_history(SALESFORCE))
    assert table["reached"].tolist()[:3] == [2, 1, 0]


REAL = {
    "salesforce_devorg/OpportunityHistory.csv": (salesforce_history, 62, {"stage_name": 31}),
    "fivetran_salesforce/sf_opportunity_history_data.csv": (
        salesforce_history,
        10,
        {"stage_name": 10, "probability": 9},
    ),
    "fivetran_hubspot/deal_stage_data.csv": (hubspot_history, 14, {"stage_name": 14}),
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_importers__read_files_from_elsewhere(data: Path, name: str) -> None:
    """Exports as they come: every row becomes events or a remark, and a history can be made of them."""
    reader, rows, expected = REAL[name]
    frame = pd.read_csv(data / name)
    assert len(frame) == rows
    events = reader(frame)
    counts = events.events["field"].value_counts().to_dict()
    assert {field: counts[field] for field in expected} == expected
    history = history_in_memory()
    history.import_events(events)
    deals = history.as_of()
    assert len(deals) == events.events["custom_id"].nunique()
    assert set(deals["custom_id"]) == set(events.events["custom_id"])


@pytest.mark.data
def test_salesforce__impossible_probability_is_reported(data: Path) -> None:
    """The connector's sample says 1000 percent once."""
    events = salesforce_history(pd.read_csv(data / "fivetran_salesforce/sf_opportunity_history_data.csv"))
    assert events.report["value"].iloc[0] == 1000
    # All ten deals of the sample are in the recycle bin, and older than the connector.
    assert events.report["reason"].str.startswith("kept: the deal is in the recycle bin").sum() == 10
    assert events.stage_entries()["seen_before"].all()
