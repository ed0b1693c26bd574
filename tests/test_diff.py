"""From an edited frame to a plan: what is seen, what is refused and why, what follows what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from loads import load, resource
from opp_pandas.api.custom_field_types import CustomField
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    MissingColumnError,
    NotLoadedError,
)
from opp_pandas.frame_state import Rows, attach_loaded, freeze

STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])


@pytest.fixture
def df() -> pd.DataFrame:
    return load([resource(1), resource(2), resource(3)], timezone="America/New_York")


def cells(df: pd.DataFrame) -> list[tuple[int, str, Any, Any]]:
    plan = df.opp.changes()
    assert plan.refusals == ()
    return [(update.id, cell.column, cell.before, cell.after) for update in plan.updates for cell in update.cells]


def reasons(df: pd.DataFrame, **options: Any) -> list[str]:
    return [str(reason) for reason in df.opp.changes(**options).refused["reason"]]


# --- pandas code ------------------------------------------------------------------


def test_in_place__edits_of_lists_are_seen(df: pd.DataFrame) -> None:
    """A tag appended to the very list in the frame is an edit; the baseline is out of reach."""
    df["tags"].iloc[1].append("new")
    assert cells(df) == [(2, "tags", ["q4", "renewal"], ["q4", "renewal", "new"])]


def test_chained_assignment__has_no_effect_and_so_is_no_edit(df: pd.DataFrame) -> None:
    """With copy-on-write an assignment to a copy reaches nothing."""
    chosen = df[df["id"] == 1]
    chosen.loc[0, "name"] = "x"
    assert cells(df) == []
    assert cells(chosen) == [(1, "name", "Deal 1", "x")]


def test_fillna__of_everything_is_refused_where_zero_is_no_value() -> None:
    """df.fillna(0): amounts become 0 (and are asked about), an owner with the id 0 does not exist."""
    df = load([resource(1, {"owner": {"data": None}}, amount=None, amountPrecise=None)])
    numbers = ["amount", "owner_id"]
    df[numbers] = df[numbers].fillna(0)
    assert reasons(df) == ["owner_id 0 is not an id; to clear it set it to missing"]


def test_before__is_what_was_sent_cell_by_cell() -> None:
    """An odd form keeps its original, and its neighbours theirs."""
    df = load([resource(1, closeDate="2026-12-10T17:00:00-05:00"), resource(2)])
    df["close_date"] += pd.Timedelta(days=1)
    found = [(cell.before, cell.after) for entry in df.opp.changes().updates for cell in entry.cells]
    assert found == [
        ("2026-12-10T17:00:00-05:00", "2026-12-11T22:00:00.000Z"),
        ("2026-12-10T22:00:00.000Z", "2026-12-11T22:00:00.000Z"),
    ]


def test_percent__that_is_not_whole_is_refused_and_the_row_held_back(df: pd.DataFrame) -> None:
    """Probability * 1.1 gives halves: refused with the remedy, and nothing else of the row is sent."""
    df["probability"] = df["probability"] * 1.11
    df.loc[0, "name"] = "x"
    plan = df.opp.changes()
    assert len(plan) == 0
    assert (
        plan.refused["reason"].tolist()
        == ["probability is not a whole number; round it first, as in .round().astype('Int64')"] * 3
    )
    df["probability"] = df["probability"].where(df["id"] != 2, 0.75)
    assert reasons(df)[1] == "probability 0.75 is a fraction; it is in percent, 0 to 100"
    df["probability"] = df["probability"].where(df["id"] != 2, 56).round().astype("Int64")
    assert [entry[1:] for entry in cells(df)][:1] == [("name", "Deal 1", "x")]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("name", 5, "is a int; it must be text"),
        ("name", "x" * 256, "name has 256 characters; the service takes 255"),
        ("name", "\ud800", "is not valid Unicode"),
        ("amount", True, "is true or false"),
        ("amount", "12", "is text; it must be a whole number"),
        ("amount", 2.5, "is not a whole number"),
        ("amount", 2.0**60, "too large to be exact"),
        ("amount", 2**70, "does not fit into 64 bits"),
        ("amount", [1], "is a list; it must be a whole number"),
        ("amount_precise", "1e400", "is not a decimal number such as '5000.50'"),
        ("probability", 101, "probability 101 is not within 0 to 100"),
        ("close_date", "soon", "is not a date and time that can be read"),
        ("close_date", "2026-12-31T10:00", "has no zone; use df.opp.set_close_date"),
        ("close_date", 5, "is a int; it must be an instant"),
        ("tags", "a, b", "is a str; tags are a list of texts"),
        ("tags", ["a", 5], "holds something that is not text"),
        ("tags", ["\ud800"], "is not valid Unicode"),
        ("owner_id", -1, "owner_id -1 is not an id"),
        ("stage_id", 99, "stage_id 99 is not a stage of the service; there are '1 Discovery'"),
        ("created_at", pd.Timestamp("2026-02-02", tz="UTC"), "created_at is kept by the service"),
        ("stage_order", 7, "stage_order is joined for reading; edit stage_id"),
    ],
)
def test_value__that_cannot_be_written_is_refused_with_its_reason(
    df: pd.DataFrame, column: str, value: Any, reason: str
) -> None:
    """Row, column, problem and remedy; the row is held back whole, others are not."""
    df = df.astype({column: object})
    df.at[0, column] = value
    df.loc[0, "description"] = "held back"
    df.loc[1, "description"] = "sent"
    plan = df.opp.changes()
    assert [entry.id for entry in plan.updates] == [2]
    assert plan.refused[["id", "row", "field"]].to_numpy().tolist() == [[1, 0, column]]
    assert reason in plan.refused["reason"].iloc[0]
    assert "refused: id 1" in repr(plan)


def test_locked_cell__is_never_overwritten() -> None:
    """What could not be read at the load must not be replaced by a guess."""
    df = load([resource(1, amount="a lot")])
    assert cells(df) == []
    df.loc[0, "amount"] = 5
    assert "amount is locked" in reasons(df)[0]


def test_can_write__false_refuses_the_row() -> None:
    """What this user may not edit is not tried."""
    rows = [resource(1) | {"meta": {"canWrite": False, "canDelete": False}}, resource(2) | {"meta": {"canWrite": True}}]
    df = load(rows).assign(can_write=pd.array([False, True], dtype="boolean"))
    loaded = df.attrs["opp"].loaded
    attach_loaded(df, replace(loaded, baseline=replace(loaded.baseline, frame=freeze(df))))
    df["name"] = ["x", "y"]
    plan = df.opp.changes()
    assert [entry.id for entry in plan.updates] == [2]
    assert "may not edit" in plan.refused["reason"].iloc[0]
    df["can_delete"] = pd.array([False, None], dtype="boolean")
    attach_loaded(df, replace(loaded, baseline=replace(loaded.baseline, frame=freeze(df))))
    assert "may not delete" in reasons(df, delete=[1, 2], allow_delete=True)[0]
    assert len(df.opp.changes(delete=[1, 2], allow_delete=True).deletions) == 1


def test_unknown_attribute__is_kept_and_never_sent() -> None:
    """An attribute that this version does not know can be looked at, not written."""
    df = load([resource(1, healthScore=3)])
    df["health_score"] = 4
    assert "is an attribute that this version does not know" in reasons(df)[0]


def test_column_that_was_not_loaded__is_refused() -> None:
    """Nobody knows what stands there at the service."""
    df = load([resource(1), resource(2)])
    df["custom77"] = ["x", None]
    assert reasons(df) == ["custom77 was not loaded, so its value at the service is unknown: load it to edit it"]


# --- names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "cell"),
    [
        ({"stage_name": "Closed Won"}, ("stage_id", 1, 3)),
        ({"owner_id": 1}, ("owner_id", 3, 1)),
        ({"owner_id": 1, "owner_name": "Sam Lee"}, ("owner_id", 3, 1)),
        ({"account_name": "Überland"}, ("account_id", 1, 2)),
        ({"owner_id": None, "owner_name": None}, ("owner_id", 3, None)),
    ],
)
def test_name__becomes_its_id(df: pd.DataFrame, edit: dict[str, Any], cell: Any) -> None:
    """A name that fits exactly one id is written as that id."""
    for column, value in edit.items():
        df.loc[0, column] = value
    assert cells(df) == [(1, *cell)]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"stage_name": "Close Won"}, "is not known here; set stage_id instead, or use 'Closed Won'"),
        ({"owner_name": "Sam Lee"}, "fits 2 ids (1, 2); set owner_id instead, or choose one of them"),
        ({"owner_name": None}, "owner_name was cleared; to clear the relationship set owner_id to missing"),
        ({"owner_name": "Sam Lee", "owner_id": 3, "account_name": "?"}, "account_name '?' is not known here"),
        ({"stage_name": "Proposal", "stage_id": 3}, "stage_name says 'Proposal' and stage_id says 3: make them agree"),
    ],
)
def test_name__that_does_not_settle_is_refused_with_candidates(
    df: pd.DataFrame, edit: dict[str, Any], reason: str
) -> None:
    """Unknown, doubled, cleared or contradicting names."""
    for column, value in edit.items():
        df.loc[0, column] = value
    assert any(reason in found for found in reasons(df))


def test_stale_name__beside_an_edited_id_is_no_edit(df: pd.DataFrame) -> None:
    """The joined name may stay as it was; ids are the truth."""
    df.loc[0, "owner_id"] = 2
    assert cells(df) == [(1, "owner_id", 3, 2)]
    df.loc[0, "owner_name"] = "Ann Hall"
    assert cells(df) == [(1, "owner_id", 3, 2)]


def test_name_of_a_newer_look_up__is_no_edit_where_it_names_the_same_id(df: pd.DataFrame) -> None:
    """The account was renamed since: writing its new name beside the same id changes nothing."""
    loaded = df.attrs["opp"].loaded
    renamed = loaded.lookups["account"].replace({"name": {"Acme": "Acme Corp"}})
    attach_loaded(df, replace(loaded, lookups={**loaded.lookups, "account": renamed}))
    df.loc[0, "account_name"] = "Acme Corp"
    assert cells(df) == []


def test_relationship_of_unusual_form__is_compared_by_its_id() -> None:
    """What was loaded of an owner whose id was sent as text is the id."""
    df = load([resource(1, {"owner": {"data": {"type": "user", "id": "2"}}})])
    assert cells(df) == []
    df.loc[0, "owner_id"] = 3
    assert cells(df) == [(1, "owner_id", 2, 3)]


def test_relationship_of_another_type__is_not_overwritten() -> None:
    """An owner that is a team is missing here, and an edit of it is refused."""
    df = load([resource(1, {"owner": {"data": {"type": "team", "id": 2}}})])
    assert pd.isna(df.loc[0, "owner_id"])
    df.loc[0, "owner_id"] = 3
    assert "locked" in reasons(df)[0]


# --- amounts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "sent"),
    [
        ({"amount": 6000}, {"amount": 6000, "amount_precise": "6000"}),
        ({"amount_precise": "6000.50"}, {"amount": 6001, "amount_precise": "6000.50"}),
        ({"amount_precise": "1000.40"}, {"amount_precise": "1000.40"}),
        ({"amount": None}, {"amount": None, "amount_precise": None}),
        ({"amount": 6000, "amount_precise": None}, {"amount": 6000, "amount_precise": "6000"}),
        ({"amount": 6000, "amount_precise": "6000.40"}, {"amount": 6000, "amount_precise": "6000.40"}),
        ({"amount": 10**17}, {"amount": 10**17}),
        ({"amount": None, "amount_precise": None}, {"amount": None, "amount_precise": None}),
    ],
)
def test_amounts__follow_each_other(df: pd.DataFrame, edit: dict[str, Any], sent: dict[str, Any]) -> None:
    """One sum in two columns stays one sum."""
    for column, value in edit.items():
        df.loc[0, column] = value
    assert {column: after for _, column, _, after in cells(df)} == sent


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"amount": 7000, "amount_precise": "6000.40"}, "are two sums"),
        ({"amount": None, "amount_precise": "6000.40"}, "are two sums"),
        ({"amount_precise": None}, "amount_precise was cleared and amount was not"),
    ],
)
def test_amounts__that_contradict_are_refused(df: pd.DataFrame, edit: dict[str, Any], reason: str) -> None:
    """Nobody can tell which of the two is meant."""
    for column, value in edit.items():
        df.loc[0, column] = value
    assert reason in reasons(df)[0]


@pytest.mark.filterwarnings("ignore::opp_pandas.errors.InvalidValuesWarning")
def test_amounts__an_exact_one_that_is_no_number_gives_way() -> None:
    """What cannot be the same sum follows the edited amount."""
    df = load([resource(1, amountPrecise="a lot")])
    df.loc[0, "amount"] = 6000
    assert cells(df) == [(1, "amount", 1000, 6000), (1, "amount_precise", "a lot", "6000")]


def test_midnight__in_utc_is_warned_of(df: pd.DataFrame) -> None:
    """A day written the pandas way is the day before in New York; set_close_date writes the right one."""
    df.loc[0, "close_date"] = pd.Timestamp("2026-12-31", tz="UTC")
    assert "another day in America/New_York (id 1)" in df.opp.changes().notes[0]
    df.opp.set_close_date(0, "2026-12-31")
    plan = df.opp.changes()
    assert plan.notes == ()
    assert "→ 2026-12-31" in repr(plan)


# --- rows ---------------------------------------------------------------------------


def test_absent_rows_and_columns__are_neither_deletions_nor_edits(df: pd.DataFrame) -> None:
    """Dropping is looking away."""
    assert cells(df.iloc[1:][["id", "name"]]) == []


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda df: pd.concat([df, df]), DuplicateRowsError, "id 1, 2, 3 stands in more than one row"),
        (lambda df: df.explode("tags"), DuplicateRowsError, "stands in more than one row"),
        (lambda df: pd.concat([df, df[["name"]]], axis=1), DuplicateRowsError, "column 'name' stands twice"),
        (lambda df: df.drop(columns="id"), MissingColumnError, "no column 'id'"),
        (lambda df: df.rename(columns={"id": "ID"}), MissingColumnError, "no column 'id'"),
        (lambda df: pd.DataFrame(df.to_dict("list")), NotLoadedError, r"df\.opp\.attach\(original\)"),
        (lambda df: pd.concat({"a": df}, axis=1), FrameError, "MultiIndex"),
    ],
)
def test_frame__that_is_no_list_of_deals_is_an_error(df: pd.DataFrame, change: Any, error: Any, text: str) -> None:
    """Doubled ids or columns, a lost id, a lost load, a pivot: said with the remedy."""
    with pytest.raises(error, match=text):
        change(df).opp.changes()


def test_ids__cannot_be_made_up_changed_or_lost(df: pd.DataFrame) -> None:
    """Any row that came neither by add() nor by adopt() is refused."""
    df["id"] = pd.Series([1, 99, None], dtype="Int64")
    assert reasons(df) == [
        "id 99 is not an id that was loaded; an id cannot be changed or made up",
        "the row has no id and came neither by add() nor by adopt(); bring new deals in with df.opp.add(rows)",
    ]
    df["id"] = pd.Series([-1, "02", 1.5], dtype=object)
    assert [reason[:20] for reason in reasons(df)] == [
        "id -1 is not an id t",
        "id is text; it must ",
        "id is not a whole nu",
    ]


@pytest.mark.parametrize("dtype", ["str", "object"])
def test_ids__as_text_are_ids(df: pd.DataFrame, dtype: Any) -> None:
    """A CSV that was read without types makes no edit by itself, and hides none."""
    df["id"] = pd.Series(["3", "1", "2"], dtype=dtype)
    df = df.iloc[[1, 2, 0]].assign(name=["Deal 1", "Deal 2", "x"])
    found = [entry for entry in df.opp.changes().updates if any(cell.column == "name" for cell in entry.cells)]
    assert [(entry.id, entry.position) for entry in found] == [(3, 2)]


def test_deletion__needs_ids_that_were_loaded_and_the_switch(df: pd.DataFrame) -> None:
    """Listed ids only, each loaded, and allow_delete."""
    with pytest.raises(ConfigurationError, match="needs the switch"):
        df.opp.changes(delete=[1])
    plan = df.opp.changes(delete=np.array([2, 2]), allow_delete=True)
    assert (plan.deleted["id"].tolist(), plan.deleted["name"].tolist()) == ([2], ["Deal 2"])
    assert plan.deletions[0].before["amount"] == 2000
    assert reasons(df, delete=[99], allow_delete=True) == ["was not loaded, so it must not be deleted from here"]
    df.loc[1, "name"] = "x"
    both = df.opp.changes(delete=2, allow_delete=True)
    assert (len(both.updates), len(both.deletions)) == (0, 1)
    assert len(df.iloc[:1].opp.changes(delete=[2], allow_delete=True).deletions) == 1


@pytest.mark.parametrize("delete", ["88", b"88", 88.0, [88.7], [True], True, [0], [2**70], {"id": 1}, None, ["1"]])
def test_deletion__of_anything_but_ids_is_refused(df: pd.DataFrame, delete: Any) -> None:
    """The text "88" must not delete the deal 8."""
    with pytest.raises(ConfigurationError, match="delete is a list of ids"):
        df.opp.changes(delete=delete, allow_delete=True)


# --- new deals ------------------------------------------------------------------------


def test_added_rows__are_new_deals(df: pd.DataFrame) -> None:
    """They take the frame's columns; days become the zone's; each has a key of its own."""
    df = df.opp.add([{"name": "A", "amount": 5, "close_date": "2026-12-31", "tags": ["x"]}, {"name": "B"}])
    plan = df.opp.changes()
    assert [dict(entry.values) for entry in plan.creations] == [
        {
            "name": "A",
            "amount": 5,
            "currency_type": "USD",
            "close_date": "2026-12-31T05:00:00.000Z",
            "tags": ["x"],
            "custom_id": plan.creations[0].key,
        },
        {"name": "B", "currency_type": "USD", "custom_id": plan.creations[1].key},
    ]
    assert plan.creations[0].key != plan.creations[1].key
    assert df.opp.changes().fingerprint == plan.fingerprint
    assert "create  row 3" in repr(plan)
    assert plan.created["name"].tolist() == ["A", "B"]


def test_custom_ids__of_ours_stay_away_from_an_outside_crms() -> None:
    """Where loaded deals have custom ids of their own, new ones get none, unless asked for."""
    df = load([resource(1, customId="006xx")]).opp.add({"name": "A"})
    assert df.opp.changes().creations[0].custom_id is None
    assert df.opp.changes(custom_ids="always").creations[0].custom_id == df.opp.changes().creations[0].key
    ours = load([resource(1, customId="opp-pandas:1")]).opp.add({"name": "A"})
    assert ours.opp.changes().creations[0].custom_id is not None
    assert ours.opp.changes(custom_ids="never").creations[0].custom_id is None
    unknown = load([resource(1)]).drop(columns="custom_id")
    assert unknown.opp.add({"name": "A"}).opp.changes().creations[0].custom_id is not None


def test_custom_ids__of_ours_need_to_know_what_the_deals_have() -> None:
    """A load without the column does not tell; an adopted file without it has none."""
    whole = load([resource(1)])
    narrow = load([resource(1)], baseline=Rows(freeze(whole.drop(columns="custom_id"))))
    assert narrow.opp.add({"name": "A"}).opp.changes().creations[0].custom_id is None
    file = pd.DataFrame({"name": ["A"], "amount": [5], "probability": [10]})
    df = opp.adopt(file, stages=STAGES, probability_unit="percent", currency="USD", as_of="2026-10-20")
    assert df.opp.changes().creations[0].custom_id is not None


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ({"owner_id": 3, "owner_name": "Ann Hall"}, {"owner_id": 3}),
        ({"owner_id": 99, "owner_name": "Nobody we know"}, {"owner_id": 99}),
        ({"amount_precise": "7.25"}, {"amount_precise": "7.25"}),
        ({"amount": 7, "amount_precise": "7.25"}, {"amount": 7, "amount_precise": "7.25"}),
    ],
)
def test_added_row__with_two_forms_of_one_fact_is_created(
    df: pd.DataFrame, row: dict[str, Any], values: dict[str, Any]
) -> None:
    """An id with its own name, an unknown id with any name, an exact amount alone or with its whole one."""
    df = df.opp.add({"name": "A"} | row).drop(columns="account_name")
    creation = df.opp.changes(custom_ids="never").creations[0]
    assert (dict(creation.values), dict(creation.unresolved)) == ({"name": "A", "currency_type": "USD"} | values, {})


def test_added_row__with_an_unreadable_cell_is_refused(df: pd.DataFrame) -> None:
    """What was put in later is read like an edit."""
    df = df.opp.add({"name": "A"})
    df["probability"] = df["probability"].astype(object)
    df.loc[3, "probability"] = "high"
    assert reasons(df)[0].startswith("probability ")
    assert len(df.opp.changes()) == 0


def test_added_row__needs_what_the_organisation_requires(df: pd.DataFrame) -> None:
    """A custom field that a new deal must have."""
    region = CustomField("custom1", "Region", "string", required=True)
    df = load([resource(1)], custom_fields={"custom1": region}).opp.add({"name": "A"})
    assert reasons(df) == ["Region (custom1) is required by the organisation"]
    df.loc[1, "custom1"] = "EMEA"
    assert len(df.opp.changes().creations) == 1


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"name": " "}, "a new deal needs a name"),
        ({"probability": 101}, "probability 101 is not within 0 to 100"),
        ({"stage_id": 99}, "is not a stage of the service"),
        ({"amount": 5, "amount_precise": "7.00"}, "are two sums: give one of them"),
        ({"owner_id": 1, "owner_name": "Ann Hall"}, "owner_name says 'Ann Hall' and owner_id says 1"),
    ],
)
def test_added_row__that_cannot_be_created_is_refused(df: pd.DataFrame, edit: dict[str, Any], reason: str) -> None:
    """One bad cell holds the new deal back, and the others go."""
    df = df.opp.add([{"name": "A"} | edit, {"name": "B"}])
    assert reason in reasons(df)[0]
    assert [entry.values["name"] for entry in df.opp.changes().creations] == ["B"]


def test_added_row__standing_twice_is_an_error(df: pd.DataFrame) -> None:
    """A new deal doubled by a concat is not created twice."""
    df = df.opp.add({"name": "A"})
    with pytest.raises(DuplicateRowsError, match="the new deal of row 3"):
        pd.concat([df, df.iloc[-1:]]).opp.changes()


def adopted(**columns: Any) -> pd.DataFrame:
    deals = pd.DataFrame(
        {"key": ["7", "8"], "name": ["A", "B"], "amount": ["5000.50", "6"], "probability": 10} | columns
    )
    return opp.adopt(
        deals,
        {"key": "custom_id"},
        stages=STAGES,
        probability_unit="percent",
        currency="USD",
        as_of="2026-10-20",
        timezone="UTC",
        duplicates="keep",
    )


def test_adopted_rows__are_found_by_custom_id_where_labels_moved() -> None:
    """Sorted, re-indexed, filtered: the same two deals with the same keys."""
    df = adopted()
    keys = {entry.values["custom_id"]: entry.key for entry in df.opp.changes().creations}
    moved = df.sort_values("name", ascending=False).reset_index(drop=True)
    assert {entry.values["custom_id"]: entry.key for entry in moved.opp.changes().creations} == keys
    assert len(df.iloc[1:].opp.changes().creations) == 1
    assert len(df.set_index("name").reset_index().opp.attach(df).opp.changes().creations) == 2


def test_adopted_rows__with_one_custom_id_are_two_deals() -> None:
    """duplicates="keep": told apart by their labels."""
    assert len(adopted(key=["7", "7"]).opp.changes().creations) == 2


@pytest.mark.parametrize(
    ("edit", "sent"),
    [
        ({}, (5001, "5000.50")),
        ({"amount": 7000}, (7000, "7000")),
        ({"amount_precise": "8.25"}, (8, "8.25")),
        ({"amount": 10**17}, (10**17, None)),
    ],
)
def test_adopted_amounts__follow_the_one_that_was_edited(edit: dict[str, Any], sent: Any) -> None:
    """An edited amount is not overruled by the cents of the file."""
    df = adopted()
    for column, value in edit.items():
        df.loc[0, column] = value
    values = df.opp.changes().creations[0].values
    assert (values["amount"], values.get("amount_precise")) == sent


@pytest.mark.filterwarnings("ignore::opp_pandas.errors.InvalidValuesWarning")
def test_adopted_cell__that_could_not_be_read_is_refused() -> None:
    """It must not silently be created as missing."""
    df = adopted(probability=["10", "high"])
    assert "probability could not be read from 'high': set it, or drop the column" in reasons(df)[0]
    df.loc[1, "probability"] = 20
    assert len(df.opp.changes().creations) == 2


def test_plan__shows_hostile_text_escaped() -> None:
    """Text from the service is text, in HTML and on a terminal."""
    df = load(
        [resource(1, {"account": {"data": {"type": "account", "id": 3}}}, name="<script>alert(1)</script>\x1b[31m")]
    )
    df.loc[0, ["name", "account_id"]] = ["<img src=x onerror=y>", 1]
    df.loc[0, "next_step"] = "\u202eabc"
    df = df.opp.add({"name": "<b>new</b>", "stage_id": 99})
    plan = df.opp.changes(delete=[1], allow_delete=True)
    for shown in (df.iloc[:1].opp.changes(), plan):
        page = shown._repr_html_()
        assert "<script" not in page
        assert "<img" not in page
        assert "<b>new" not in page
        assert "\x1b" not in repr(shown) + page
        assert "\u202e" not in repr(shown) + page
    assert "&lt;b&gt;Initech&lt;/b&gt; (3)" in df.iloc[:1].opp.changes()._repr_html_()


def test_plan__shows_the_first_and_counts_the_rest() -> None:
    """Long plans and long refusals stay readable."""
    df = load([resource(number) for number in range(1, 61)])
    df["name"] = "x"
    df.loc[30:, "created_at"] = pd.Timestamp("2026-02-02", tz="UTC")
    text = repr(df.opp.changes())
    assert "10 more" in text
    assert "refused: 30 times (id 31, id 32, id 33 …): created_at is kept by the service" in text
    assert "<table>" in df.opp.changes()._repr_html_()


def test_shown__instants_beyond_the_calendar_stay_as_sent(df: pd.DataFrame) -> None:
    """The last day of the year 9999 has no name in Tokyo."""
    plan = load([resource(1)], timezone="Asia/Tokyo").opp.changes()
    assert plan.shown("close_date", "9999-12-31T23:59:59Z") == "9999-12-31T23:59:59Z"
    assert plan.shown("close_date", "nonsense") == "nonsense"
    assert plan.words("close_date", "2026-12-31T10:00:00Z") == "2026-12-31 19:00 JST"
    assert plan.words("name", None) == "(missing)"
