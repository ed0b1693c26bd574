"""New rows, close dates, tags, attaching again."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loads import load, resource
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    MissingColumnError,
    NotLoadedError,
    OppPandasWarning,
)


@pytest.fixture
def df() -> pd.DataFrame:
    return load([resource(1), resource(2, tags=None), resource(3)], timezone="America/New_York")


# --- add ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        {"name": "A"},
        [{"name": "A"}, {"name": "B"}],
        pd.DataFrame({"name": ["A"]}, index=[99]),
        [{"name": "A", "amount": 5.0}],
    ],
    ids=["mapping", "list", "frame", "whole float"],
)
def test_add__appends_rows_and_keeps_dtypes(df: pd.DataFrame, rows: Any) -> None:
    """New rows stand last under fresh labels; no dtype changes, the frame itself stays as it was."""
    added = df.opp.add(rows)
    assert added.dtypes.equals(df.dtypes)
    assert added.index[3] == 3
    assert len(df) == 3
    assert added["id"].isna().sum() == len(added) - 3
    assert len(df.opp.changes()) == 0


def test_add__is_in_the_one_currency_of_the_frame(df: pd.DataFrame) -> None:
    """Where all deals are in one; beside several, or some that name none, nobody can say which."""
    rows = [{"name": "A", "amount": 5}, {"name": "B", "currency_type": "EUR"}]
    assert df.opp.add(rows)["currency_type"].tolist()[-2:] == ["USD", "EUR"]
    for other in ("EUR", None):
        several = load([resource(1), resource(2, currencyType=other)])
        assert several.opp.add(rows)["currency_type"].isna().tolist()[-2:] == [True, False]


def test_add__labels_meet_no_other_row(df: pd.DataFrame) -> None:
    """Neither a row of the frame nor a deal that waits and is not in view."""
    added = df.opp.add({"name": "A"})
    again = added.iloc[:2].opp.add({"name": "B"})
    assert again.index.tolist() == [0, 1, 4]
    text = df.set_index(pd.Index(["a", "new 0", "c"]))
    assert text.opp.add([{"name": "A"}, {"name": "B"}]).index.tolist() == ["a", "new 0", "c", "new 1", "new 2"]


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        ([], FrameError, "no row to add"),
        ({"id": 5, "name": "A"}, FrameError, "new deals have no id"),
        ({"name": "A", "colour": "red"}, MissingColumnError, "no column 'colour'"),
        ({"name": ["A", "B"]}, FrameError, r"new row 0: name \['A', 'B'\] is a list"),
        ({"name": "A", "amount": "5"}, FrameError, "amount '5' is text"),
        ({"name": "A", "probability": 0.5}, FrameError, "is not a whole number"),
        ({"name": "A", "close_date": "2026-12-31T10:00"}, FrameError, "has no zone"),
        ({"name": "A", "close_date": "soon"}, FrameError, "not a date and time"),
        ({"name": "A", "tags": "x"}, FrameError, "tags are a list of texts"),
        (pd.DataFrame([["A", "B"]], columns=["name", "name"]), DuplicateRowsError, "stands twice"),
    ],
)
def test_add__refuses_what_cannot_be_a_new_deal(df: pd.DataFrame, rows: Any, error: Any, text: str) -> None:
    """Row, column, problem and remedy, at once."""
    with pytest.raises(error, match=text):
        df.opp.add(rows)


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (pd.Index([1, 2, 3], name="id"), "needs the column 'id' back"),
        (pd.MultiIndex.from_product([[1], [1, 2, 3]]), "has several levels"),
        (pd.Index([0.5, 1.5, 2.5]), "an index of numbers or text, this one is float64"),
    ],
)
def test_add__needs_an_index_that_can_grow(df: pd.DataFrame, index: pd.Index, text: str) -> None:
    """Labels mark new rows, so there have to be fresh ones."""
    with pytest.raises(FrameError, match=text):
        df.set_index(index).opp.add({"name": "A"})


def test_add__takes_columns_of_the_users_own_and_later_ones(df: pd.DataFrame) -> None:
    """A column the user made keeps its dtype; a known column that was dropped comes back."""
    df = df.assign(score=[1, 2, 3]).drop(columns="next_step")
    with pytest.raises(FrameError, match="column score of the new rows cannot be int64"):
        df.opp.add({"name": "A", "score": "many"})
    added = df.opp.add({"name": "A", "score": 4, "next_step": "Call"})
    assert added["score"].tolist() == [1, 2, 3, 4]
    assert added["next_step"].tolist()[3] == "Call"


def test_add__needs_a_load() -> None:
    """A frame without one has nowhere to send new deals to."""
    with pytest.raises(NotLoadedError, match=r"add\(\) needs what was loaded"):
        pd.DataFrame({"id": [1]}).opp.add({"name": "A"})


# --- attach ---------------------------------------------------------------------------


def test_attach__finds_new_deals_again(df: pd.DataFrame) -> None:
    """After a merge new deals are known by custom id, or by label and name together."""
    added = df.opp.add([{"name": "A"}, {"name": "B", "custom_id": "7"}, {"name": "C"}])
    merged = added.merge(pd.DataFrame({"owner_id": [3], "team": ["x"]}), on="owner_id", how="left")
    attached = merged.opp.attach(added)
    assert len(attached.opp.changes().creations) == 3
    shuffled = merged.iloc[::-1].reset_index(drop=True).opp.attach(added)
    assert [entry.values["name"] for entry in shuffled.opp.changes().creations] == ["B"]
    assert len(shuffled.opp.changes().refusals) == 2


def test_attach__takes_no_row_of_the_other_side_for_a_new_deal(df: pd.DataFrame) -> None:
    """An outer merge brings rows without an id: refused, even under a new deal's label."""
    added = df.opp.add({"name": "A"})
    other = pd.DataFrame({"name": ["Deal 1", "Deal 2", "Deal 3", "Z"], "score": 1})
    attached = added.merge(other, on="name", how="right").opp.attach(added)
    plan = attached.opp.changes()
    assert len(plan) == 0
    assert len(plan.refusals) == 1


def test_attach__by_ids_in_the_index(df: pd.DataFrame) -> None:
    """The id may be the index."""
    again = pd.DataFrame({"name": ["x"]}, index=pd.Index([2], name="id")).opp.attach(df)
    assert again.opp.changes().cells[["id", "after"]].to_numpy().tolist() == [[2, "x"]]


@pytest.mark.parametrize("column", ["next_step ", "Next Step", "NEXT_STEP", "next_step_x"])
def test_attach__asks_about_a_column_renamed_by_accident(df: pd.DataFrame, column: str) -> None:
    """A renamed column is no edit; one whose name only looks the same is said so, and a dropped one is not."""
    renamed = df.assign(next_step="typed into it").rename(columns={"next_step": column})
    with pytest.warns(OppPandasWarning, match=rf"'{column}', .* it has 'next_step'"):
        attached = renamed.opp.attach(df)
    assert len(attached.opp.changes()) == 0
    assert len(renamed.drop(columns=column).opp.attach(df).opp.changes()) == 0


def test_attach__refuses_what_cannot_be_attached(df: pd.DataFrame) -> None:
    """No load on the other side either, no id, ids doubled by a merge."""
    with pytest.raises(NotLoadedError, match="carries nothing of a load either"):
        df.opp.attach(pd.DataFrame({"id": [1]}))
    with pytest.raises(MissingColumnError, match="no column 'id'"):
        pd.DataFrame({"name": ["x"]}).opp.attach(df)
    with pytest.raises(DuplicateRowsError, match="stands in more than one row"):
        pd.DataFrame({"id": [1, 1]}).opp.attach(df)


# --- close dates ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "zone", "instant"),
    [
        ("2026-12-31", None, "2026-12-31T05:00Z"),
        (dt.date(2026, 7, 1), None, "2026-07-01T04:00Z"),
        (pd.Timestamp("2026-07-01"), "UTC", "2026-07-01T00:00Z"),
        # Midnight does not exist on this day in Asunción: the day begins at one.
        ("2017-10-01", "America/Asuncion", "2017-10-01T04:00Z"),
        (None, None, None),
    ],
)
def test_set_close_date__is_the_days_start_in_the_zone(
    df: pd.DataFrame, day: Any, zone: str | None, instant: str | None
) -> None:
    """A calendar day exists only in a zone."""
    df.opp.set_close_date(df["id"] == 2, day, timezone=zone)
    expected = pd.NaT if instant is None else pd.Timestamp(instant)
    assert df["close_date"].iloc[1] is expected if instant is None else df["close_date"].iloc[1] == expected
    assert len(df.opp.changes()) == 1


@pytest.mark.parametrize("day", ["soon", "2026-12-31T10:00", pd.Timestamp("2026-12-31", tz="UTC"), "NaT"])
def test_set_close_date__takes_days_only(df: pd.DataFrame, day: Any) -> None:
    """A time of day or a zone would be silently cut off."""
    with pytest.raises(ConfigurationError, match="day"):
        df.opp.set_close_date(0, day)


def test_choice_of_rows__makes_no_new_ones(df: pd.DataFrame) -> None:
    """A label that is not there is an error, where df.loc would append a row."""
    for edit in (lambda: df.opp.set_close_date(99, "2026-12-31"), lambda: df.opp.add_tag([0, 99], "x")):
        with pytest.raises(FrameError, match="the frame has no row"):
            edit()
    assert len(df) == 3
    df.opp.set_close_date(slice(0, 1), "2026-12-31")
    df.opp.set_close_date([True, False, False], "2026-11-30")
    assert len(df.opp.changes()) == 2
    with pytest.raises(MissingColumnError):
        df.drop(columns="close_date").opp.set_close_date(0, "2026-12-31")


# --- tags -------------------------------------------------------------------------------


def test_tags__are_added_and_removed_once(df: pd.DataFrame) -> None:
    """Rows that have (or lack) the tag stay as they are; missing tags become a list."""
    df.opp.add_tag(df.index, "renewal")
    assert df["tags"].tolist() == [["q4", "renewal"], ["renewal"], ["q4", "renewal"]]
    assert [update.id for update in df.opp.changes().updates] == [2]
    df.opp.remove_tag(0, "q4")
    df.opp.remove_tag(0, "never there")
    assert df["tags"].iloc[0] == ["renewal"]
    df["tags"] = df["tags"].map(np.array)
    df.opp.add_tag(0, "x")
    assert df["tags"].iloc[0] == ["renewal", "x"]


def test_tags__that_are_no_lists_are_not_overwritten(df: pd.DataFrame) -> None:
    """Text from a CSV in the tags: an error instead of a list with one tag."""
    df["tags"] = df["tags"].astype("str")
    with pytest.raises(FrameError, match="tags is a str, not a list"):
        df.opp.add_tag(0, "x")
    with pytest.raises(ConfigurationError, match="a tag is text"):
        df.opp.add_tag(0, 5)
    with pytest.raises(MissingColumnError):
        df.drop(columns="tags").opp.remove_tag(0, "x")
