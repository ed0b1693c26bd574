"""The model behind the editor: typed edits, all or none, with a way back and as pandas code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from loads import load, lookups, resource
from opp_pandas.api.custom_field_types import CustomField
from opp_pandas.changes.changeset import members_of
from opp_pandas.frame_state import attach_loaded, require_loaded
from opp_pandas.notebook.edit_session import Entry, Sheet
from opp_pandas.notebook.ordering import Ordering
from opp_pandas.notebook.to_code import edit_lines, recipe
from opp_pandas.stages import resolve_stages
from strategies import collections

FIELDS = {
    "custom1": CustomField("custom1", "Region", "inclusion", options=("EMEA", "AMER")),
    "custom2": CustomField("custom2", "Seats", "numerical", required=True),
    "custom3": CustomField("custom3", "Criteria", "multi_inclusion", options=("Price", "Speed")),
    "custom4": CustomField("custom4", "Champion", "boolean"),
    "custom5": CustomField("custom5", "Start", "date"),
}
WANTED = ["id", "name", "stage_id", "stage_name", "owner_id", "owner_name", "amount", "probability", "close_date"]
WANTED += ["next_step", "tags", "custom1"]


def deals(number: int = 6, **options: Any) -> pd.DataFrame:
    return load((resource(place) for place in range(1, number + 1)), timezone="America/New_York", **options)


def executed(frame: pd.DataFrame, sheet: Sheet) -> pd.DataFrame:
    """The frame after the lines of code were executed on it."""
    names: dict[str, Any] = {"df": frame.copy(), "pd": pd}
    exec("\n".join(edit_lines(sheet)), names)  # noqa: S102 - this is what people do with them
    return names["df"]


def put(sheet: Sheet, row: int, column: str, text: str | None) -> list[str]:
    return [entry.reason for entry in sheet.put([Entry(row, column, text)])]


def text(sheet: Sheet, row: int, column: str) -> str | None:
    return sheet.texts(sheet.places([row]), column)[0]


# --- laws -----------------------------------------------------------------------


@settings(max_examples=12)
@given(collections())
def test_cells__round_trip_bit_equal(resources: list[dict[str, Any]]) -> None:
    """What a cell shows, sent as JSON and typed into an empty deal, makes the same value of the same dtype."""
    frame = load(resources, timezone="Europe/Berlin")
    bare = [{**entry, "attributes": {}, "relationships": {}, "meta": None} for entry in resources]
    shown, typed = Sheet(frame), Sheet(load(bare, timezone="Europe/Berlin"))
    for column, field in shown.fields.items():
        if field.locked or column not in typed.fields:
            continue
        crossed = json.loads(json.dumps(shown.texts(np.arange(len(frame)), column)))
        for row, value in enumerate(crossed):
            if not put(typed, row, column, value):
                assert typed.held[column].dtype == frame[column].dtype
                one, other = shown.held[column].array[row], typed.held[column].array[row]
                assert (pd.isna(one) is True and pd.isna(other) is True) or one == other


@settings(max_examples=12)
@given(collections())
def test_own_text__is_no_edit(resources: list[dict[str, Any]]) -> None:
    """Typing into every cell what it shows changes nothing, whatever odd form the service sent."""
    frame = load(resources, timezone="Asia/Kolkata")
    sheet = Sheet(frame)
    everything = np.arange(len(frame))
    for column, field in sheet.fields.items():
        entries = [Entry(row, column, value) for row, value in enumerate(sheet.texts(everything, column))]
        open_rows = [entry for entry in entries if not sheet.cell_lock(entry.row, column)]
        assert field.locked or not sheet.put([entry for entry in open_rows if entry.text is not None])
    assert not sheet.done
    assert not sheet.changed
    assert len(sheet.changes()) == 0


TYPED = {
    "name": st.sampled_from(("Acme", 'O\'Neill "x"', "", "a\nb", None)),
    "amount": st.sampled_from(("5", "-7", str(2**60), None)),
    "probability": st.sampled_from(("0", "100", None)),
    "close_date": st.sampled_from(("2026-12-31", "2026-12-31 17:00", "2026-11-01 06:30:00.000001Z", None)),
    "next_step": st.sampled_from(("Call", "", None)),
    "tags": st.sampled_from(("a, b", "[]", '["x, y"]', None)),
    "stage_name": st.sampled_from(("Proposal", "Discovery", None)),
    "owner_id": st.sampled_from(("1", "77", None)),
    "owner_name": st.sampled_from(("Sam Lee (2)", "#77", "Ann Hall", None)),
    "custom1": st.sampled_from(("EMEA", None)),
}
ENTRY = st.sampled_from(sorted(TYPED)).flatmap(lambda column: st.tuples(st.just(column), TYPED[column]))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 7), ENTRY),
        st.tuples(st.just("put"), st.integers(0, 7), ENTRY),
        st.tuples(st.sampled_from(("add", "undo", "redo")), st.just(0), st.none()),
        st.tuples(st.sampled_from(("delete", "restore", "revert")), st.integers(0, 7), st.none()),
    ),
    max_size=25,
)


def act(sheet: Sheet, actions: list[tuple[str, int, Any]]) -> None:
    for name, number, entry in actions:
        row = int(sheet.uids[number % len(sheet.uids)])
        if name == "put":
            sheet.put([Entry(row, *entry)])
        elif name == "revert":
            sheet.revert([(row, column) for column in TYPED])
        elif name in ("delete", "restore"):
            getattr(sheet, name)([row])
        else:
            getattr(sheet, name)()


def described(frame: pd.DataFrame, ids: list[int]) -> tuple[Any, ...]:
    """What a frame would send, and what of it is refused, without the keys of new deals."""
    plan = frame.opp.changes(delete=ids, allow_delete=bool(ids), custom_ids="never")
    created = [entry.values for entry in plan.creations]
    refused = sorted((str(entry.id), entry.column, entry.reason) for entry in plan.refusals)
    updates = sorted((entry.id, sorted(entry.cells, key=lambda cell: cell.column)) for entry in plan.updates)
    return updates, created, [entry.id for entry in plan.deletions], refused


@settings(max_examples=15)
@given(ACTIONS)
def test_code__makes_the_same_edits(actions: list[tuple[str, int, Any]]) -> None:
    """The lines, executed on the frame that was opened, make what the editor made; the frame itself is untouched."""
    frame = deals()[WANTED]
    before = frame.copy()
    sheet = Sheet(frame)
    act(sheet, actions)
    pd.testing.assert_frame_equal(frame, before, check_flags=False)
    made, ids = executed(frame, sheet), sheet.deleted_ids()
    assert described(made, ids) == described(sheet.frame, ids)
    assert made.dtypes.to_dict() == sheet.frame.dtypes.to_dict()
    last = recipe(sheet).splitlines()[-1]
    assert last == "df.opp.write_back(dry_run=True" + (f", delete={ids}, allow_delete=True)" if ids else ")")


@settings(max_examples=15)
@given(ACTIONS)
def test_undo__goes_all_the_way_back_and_redo_forth(actions: list[tuple[str, int, Any]]) -> None:
    """Undoing everything leaves the frame as opened, redoing everything as edited, and the marks follow."""
    frame = deals()[WANTED]
    sheet = Sheet(frame)
    act(sheet, actions)
    edited, ids, changed = sheet.frame, sheet.deleted_ids(), set(sheet.changed)
    steps = 0
    while sheet.undo():
        steps += 1
    pd.testing.assert_frame_equal(sheet.frame, frame, check_flags=False)
    assert not sheet.changed
    assert not sheet.deleted
    for _ in range(steps):
        assert sheet.redo() is not None
    pd.testing.assert_frame_equal(sheet.frame, edited, check_flags=False)
    assert (sheet.deleted_ids(), sheet.changed) == (ids, changed)


@settings(max_examples=15)
@given(ACTIONS)
def test_marks__are_those_of_a_sheet_opened_anew(actions: list[tuple[str, int, Any]]) -> None:
    """The marks kept along the way are those that comparing everything anew would give."""
    sheet = Sheet(deals()[WANTED])
    act(sheet, [entry for entry in actions if entry[0] != "delete"])
    place_of = {uid: place for place, uid in enumerate(sheet.uids[sheet.kept()].tolist())}
    again = Sheet(sheet.frame)
    assert {(place_of[uid], column) for uid, column in sheet.changed if uid in place_of} == again.changed


# --- edits ----------------------------------------------------------------------


def test_put__is_all_or_none() -> None:
    """One refused cell refuses the batch, and says which and why."""
    sheet = Sheet(deals())
    found = sheet.put([Entry(0, "amount", "5"), Entry(1, "amount", "12.5"), Entry(2, "probability", "101")])
    assert [(entry.row, entry.column) for entry in found] == [(1, "amount"), (2, "probability")]
    assert "'12.5' is not a whole number" in found[0].reason
    assert "not within 0 to 100" in found[1].reason
    assert not sheet.changed
    assert text(sheet, 0, "amount") == "1000"


def test_missing_and_empty__differ() -> None:
    """Clearing is null; an empty text is a text."""
    sheet = Sheet(deals())
    assert not sheet.clear([(0, "next_step")])
    assert not put(sheet, 1, "next_step", "")
    assert not put(sheet, 2, "amount", "")
    cells = {entry.id: entry.cells[0].after for entry in sheet.changes().updates}
    assert cells == {1: None, 2: "", 3: None}


def test_relation__is_set_by_name_with_its_id() -> None:
    """A stage chosen by name sets id and name; a name that fits two people is refused with both."""
    sheet = Sheet(deals())
    assert not put(sheet, 0, "stage_name", "Proposal")
    assert (sheet.frame.loc[0, "stage_id"], sheet.frame.loc[0, "stage_name"]) == (2, "Proposal")
    assert "Sam Lee (1), Sam Lee (2)" in put(sheet, 0, "owner_name", "Sam Lee")[0].replace("'", "")
    assert not put(sheet, 0, "owner_name", "Sam Lee (2)")
    assert not put(sheet, 1, "owner_id", "77")
    assert text(sheet, 1, "owner_name") == "#77"
    assert "not a stage" in put(sheet, 1, "stage_id", "99")[0]
    assert not sheet.clear([(2, "account_name")])
    sent = {entry.id: members_of(entry)[1] for entry in sheet.changes().updates}
    assert sent == {1: {"opportunityStage": 2, "owner": 2}, 2: {"owner": 77}, 3: {"account": None}}
    assert not sheet.changes().refusals


def test_day__is_a_day_in_the_loads_zone() -> None:
    """A typed day is its midnight in the load's zone, and shown as that day."""
    sheet = Sheet(deals())
    assert not put(sheet, 0, "close_date", "2026-12-31")
    assert text(sheet, 0, "close_date") == "2026-12-31"
    assert sheet.changes().updates[0].cells[0].after == "2026-12-31T05:00:00.000Z"


def test_line_breaks__stay_long_where_they_were() -> None:
    """A browser's bare line breaks become the text's own ones again."""
    sheet = Sheet(load([resource(1, nextStep="a\r\nb")]))
    assert not put(sheet, 0, "next_step", "a\nb")
    assert not sheet.changed
    assert not put(sheet, 0, "next_step", "a\nb\nc")
    assert sheet.frame.loc[0, "next_step"] == "a\r\nb\r\nc"


def test_locks__say_why() -> None:
    """Read-only columns, cells and rows refuse in words, and are known to be locked beforehand."""
    frame = load([resource(1), resource(2, amount="odd")])
    loaded = require_loaded(frame, "test")
    allowed = {name: pd.array([False, True], dtype="boolean") for name in ("can_write", "can_delete")}
    base = replace(loaded.baseline, frame=loaded.baseline.frame.assign(**allowed))
    sheet = Sheet(attach_loaded(frame.assign(**allowed), replace(loaded, baseline=base)))
    assert "can_write" in put(sheet, 0, "name", "x")[0]
    assert "could not be read" in put(sheet, 1, "amount", "5")[0]
    assert "kept by the service" in put(sheet, 1, "created_at", "2026-01-01")[0]
    assert "gives the id" in sheet.fields["id"].locked
    assert "joined for reading" in sheet.fields["creator_name"].locked
    assert "can_delete" in sheet.delete([0])[0].reason
    assert not sheet.delete([1])
    assert "to be deleted" in put(sheet, 1, "name", "x")[0]
    assert not sheet.changed


def test_unloaded_column__is_locked() -> None:
    """A column that somebody added by hand cannot be edited here: nobody knows what the service has."""
    frame = deals().drop(columns="description")
    loaded = require_loaded(frame, "test")
    base = replace(loaded.baseline, frame=loaded.baseline.frame.drop(columns="description"))
    frame = attach_loaded(frame.assign(description="x"), replace(loaded, baseline=base))
    assert "was not loaded" in put(Sheet(frame), 0, "description", "y")[0]


def test_custom_fields__bear_labels_options_and_rules() -> None:
    """Known custom fields have their label, their options and the organisation's rules."""
    sheet = Sheet(deals(custom_fields=FIELDS))
    assert (sheet.fields["custom1"].title, sheet.fields["custom1"].options) == ("Region", ("EMEA", "AMER"))
    assert "no option" in put(sheet, 0, "custom1", "APAC")[0]
    assert "number" in put(sheet, 0, "custom2", "many")[0]
    assert not put(sheet, 0, "custom2", "12")
    assert "required" in put(sheet, 0, "custom2", None)[0]
    assert not put(sheet, 0, "custom3", "Price;Speed")
    assert not put(sheet, 0, "custom5", "2026-12-31")


def test_converted_columns__are_edited_by_their_kind() -> None:
    """After relabel(convert=True) numbers, days, options and choices are values, and are read as such."""
    resources = [resource(1, custom1="EMEA", custom2="12", custom3="Price;Speed", custom4="Yes", custom5="2026-01-31")]
    resources.append(resource(2, custom1="AMER", custom2="7", custom3="Price", custom4="No"))
    frame = load(resources, custom_fields=FIELDS).opp.relabel(convert=True)
    sheet = Sheet(frame)
    shown = {title: text(sheet, 0, title) for title in ("Region", "Seats", "Criteria", "Champion", "Start")}
    assert shown == {
        "Region": "EMEA",
        "Seats": "12",
        "Criteria": "Price;Speed",
        "Champion": "true",
        "Start": "2026-01-31",
    }
    for column, value in (("Region", "AMER"), ("Seats", "15"), ("Criteria", "Speed"), ("Champion", "false")):
        assert not put(sheet, 0, column, value)
    assert "of the list" in put(sheet, 0, "Region", "APAC")[0]
    assert "decimals" in put(sheet, 0, "Seats", "1.5")[0]
    sent = {cell.column: cell.after for cell in sheet.changes().updates[0].cells}
    assert sent == {"custom1": "AMER", "custom2": "15", "custom3": "Speed", "custom4": "No"}
    assert described(executed(frame, sheet), []) == described(sheet.frame, [])
    assert sheet.revert([(0, "Seats"), (0, "Criteria"), (0, "Champion"), (0, "Region")]) == 4
    assert len(sheet.changes()) == 0


def test_earlier_edits__are_marked_and_can_be_put_back() -> None:
    """What pandas code edited before is pending in the editor too, with its old value."""
    frame = deals()
    frame.loc[0, "amount"] = 5
    frame.loc[1, "stage_name"] = "Proposal"
    sheet = Sheet(frame)
    assert sheet.changed == {(0, "amount"), (1, "stage_name")}
    assert sheet.pending() == {"cells": 2, "rows": 2, "new": 0, "deleted": 0}
    view = sheet.cells(np.array([0, 1]), "amount")
    assert [(cell.changed, cell.was) for cell in view] == [(True, "1000"), (False, None)]
    assert text(sheet, 1, "stage_name") == "Proposal"
    sheet.revert([(0, "amount"), (1, "stage_name")])
    assert len(sheet.changes()) == 0


def test_drifted_columns__take_their_dtype_back_without_an_edit() -> None:
    """Floats from a merge are whole numbers again, and a cell that only drifted is no edit."""
    frame = load([resource(1, amount=2**53 + 1), resource(2)])
    frame["amount"] = frame["amount"].astype("float64")
    sheet = Sheet(frame)
    assert text(sheet, 0, "amount") == str(2**53 + 1)
    assert not sheet.changed
    frame["amount"] = [0.5, 2000.0]
    assert "cannot be edited here: row 0 is not a whole number" in put(Sheet(frame), 1, "amount", "5")[0]


def test_new_rows__are_created_and_dropped() -> None:
    """A new deal is filled in like any other, sent as a creation, and gone when it is dropped."""
    sheet = Sheet(deals())
    first, second = sheet.add(), sheet.add()
    for row, name in ((first, "One"), (second, "Two")):
        assert not sheet.put([Entry(row, "name", name), Entry(row, "stage_name", "Proposal")])
    assert not sheet.delete([first, 0])
    plan = sheet.changes()
    assert [entry.values["name"] for entry in plan.creations] == ["Two"]
    assert [entry.id for entry in plan.deletions] == [1]
    assert sheet.pending() == {"cells": 0, "rows": 0, "new": 1, "deleted": 1}
    assert len(sheet.frame) == 7
    sheet.restore([0])
    assert not sheet.changes().deletions


@pytest.mark.parametrize("index", ["id", "name"])
def test_index__may_be_any(index: str) -> None:
    """Ids in the index are fine, and stay there."""
    frame = deals().set_index(index)
    sheet = Sheet(frame)
    assert not put(sheet, 0, "amount", "5")
    assert sheet.changes().updates[0].id == 1
    assert described(executed(frame, sheet), []) == described(sheet.frame, [])


def test_frames_that_cannot_be_edited__are_refused() -> None:
    """Without a load, or with a column twice, there is nothing to compare with."""
    with pytest.raises(opp.errors.NotLoadedError):
        Sheet(pd.DataFrame({"id": [1]}))
    frame = deals()
    doubled = pd.concat([frame, frame[["name"]]], axis=1)
    attach_loaded(doubled, require_loaded(frame, "test"))
    with pytest.raises(opp.errors.DuplicateRowsError):
        Sheet(doubled)


# --- order and filter --------------------------------------------------------------


def test_sort__puts_missing_cells_last_and_stages_in_their_order() -> None:
    """Numbers by size, stages as they follow each other, texts without regard to case."""
    order = opp.StageMap(order=["Discovery", "Proposal"], won=["Closed Won"], lost=["Closed Lost"])
    frame = deals(4, stages=resolve_stages(order, lookups()["opportunityStage"]))
    frame.loc[1, "amount"] = pd.NA
    frame["name"] = ["b", "A", "c", "B"]
    frame["stage_id"] = pd.array([4, 1, 3, 2], dtype="Int64")
    ordering = Ordering(Sheet(frame))
    ordering.sort("amount", [])
    assert ordering.rows.tolist() == [0, 2, 3, 1]
    ordering.sort("amount", [], descending=True)
    assert ordering.rows.tolist() == [3, 2, 0, 1]
    ordering.sort("stage_name", [])
    assert ordering.rows.tolist() == [1, 3, 2, 0]
    ordering.sort("name", [])
    assert ordering.rows.tolist() == [1, 0, 3, 2]
    ordering.sort("tags", [])
    assert ordering.rows.tolist() == [0, 1, 2, 3]
    ordering.sort(None, [])
    assert ordering.rows.tolist() == [0, 1, 2, 3]


def test_filter__finds_words_in_any_shown_column() -> None:
    """All words have to stand in a row: in texts, numbers, days of the zone, tags, names."""
    frame = deals(4)
    frame.loc[2, "name"] = "Überland (x*"
    sheet = Sheet(frame)
    ordering = Ordering(sheet)
    columns = ["name", "amount", "close_date", "tags", "owner_name"]
    for words, rows in (
        ("überland", [2]),
        ("(X*", [2]),
        ("3000", [2]),
        ("2026-12-10 ann 4000", [3]),
        ("renewal deal", [0, 1, 3]),
        ("nowhere", []),
    ):
        ordering.show(columns, filter=words)
        assert ordering.rows.tolist() == rows, words
    put(sheet, 1, "amount", "5")
    ordering.show(columns, filter="", only_changed=True)
    assert ordering.rows.tolist() == [1, 2]
