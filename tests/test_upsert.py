"""Newer copies of rows over older ones: places, dtypes and marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.api.query import settle_filter
from opp_pandas.frame_state import CellMarks, Rows
from opp_pandas.load.changed_records import narrowed
from opp_pandas.load.upsert import extended, missing, not_older, overlay, put

T = pd.Timestamp("2026-10-01T10:00:00Z")


def rows(ids: list[int], stamps: list[int], wire: Any = (), **columns: Any) -> Rows:
    frame = pd.DataFrame({"id": pd.array(ids, dtype="Int64"), **columns})
    frame["updated_at"] = pd.array([T + pd.Timedelta(seconds=second) for second in stamps]).as_unit("us")
    return Rows(frame, CellMarks(dict(wire)))


def test_overlay__replaces_by_id_and_appends() -> None:
    """Order stays, new rows come last, marks follow their rows, columns of both sides are there."""
    old = rows([5, 3, 9], [0, 0, 0], {(0, "a"): "five", (1, "a"): "three"}, a=["x", "y", "z"], only=[1, 2, 3])
    fresh = rows([3, 7], [1, 1], {(0, "a"): "new three", (1, "a"): "seven"}, a=["Y", "W"], other=[True, False])
    found, places = overlay(old, fresh)
    assert found.frame["id"].tolist() == [5, 3, 9, 7]
    assert found.frame["a"].tolist() == ["x", "Y", "z", "W"]
    assert found.frame["only"].astype(object).fillna("-").tolist() == [1, 2, 3, "-"]
    assert found.frame["other"].astype(object).fillna("-").tolist() == ["-", True, "-", False]
    assert places.tolist() == [1, 3]
    assert found.marks.original == {(0, "a"): "five", (1, "a"): "new three", (3, "a"): "seven"}
    assert old.frame["a"].tolist() == ["x", "y", "z"], "the old rows are untouched"


def test_overlay__of_nothing_is_the_same() -> None:
    """Without fresh rows nothing is copied."""
    old = rows([1], [0])
    found, places = overlay(old, old.take(np.array([], dtype=np.int64)))
    assert found is old
    assert len(places) == 0


def test_not_older__drops_what_a_lagging_copy_sends() -> None:
    """Older copies go; equal stamps stay, since a second may hold two changes; new rows stay."""
    old = rows([1, 2, 3], [5, 5, 5])
    kept = not_older(old, rows([1, 2, 3, 4], [4, 5, 6, 0]))
    assert kept.frame["id"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("array", "values", "expected", "dtype"),
    [
        (pd.array([1, 2], dtype="Int64"), pd.Series([5], dtype="Int64"), [1, 5], "Int64"),
        (pd.array([1, 2], dtype="Int64"), pd.Series([5.5], dtype="Float64"), [1.0, 5.5], "Float64"),
        (pd.array([1.5, 2.0]), pd.Series([5], dtype="Int64"), [1.5, 5.0], "Float64"),
        (pd.array(["a", "b"], dtype="str"), pd.Series([5], dtype="Int64"), ["a", 5], "object"),
        (pd.array([None, None], dtype="str"), pd.Series([5], dtype="Int64"), [None, 5], "Int64"),
        (pd.array([1, 2], dtype="Int64"), pd.Series(["x"], dtype="str"), [1, "x"], "object"),
        (pd.Categorical(["a", "b"]), pd.Series(pd.Categorical(["c"])), ["a", "c"], "category"),
        (np.array([("a",), None], dtype=object), pd.Series([["b"]], dtype=object), [("a",), ["b"]], "object"),
        (pd.array([True, False], dtype="boolean"), pd.Series([None], dtype="boolean"), [True, None], "boolean"),
    ],
)
def test_put__keeps_every_value(array: Any, values: pd.Series, expected: list[Any], dtype: str) -> None:
    """Where one dtype cannot hold both sides the wider one is taken, and no number becomes text."""
    found = pd.Series(put(array, np.array([1]), values))
    assert str(found.dtype) == dtype
    assert [None if cell is pd.NA else cell for cell in found] == expected


def test_put__without_a_difference_copies_nothing() -> None:
    """The same values at their places give the same array back."""
    array = pd.array(["a", "b"], dtype="str")
    assert put(array, np.array([1]), pd.Series(["b"], dtype="str")) is array


@pytest.mark.parametrize("values", [np.array([1, 2]), np.array([True, False]), np.array([1.5, 2.5])])
def test_extended__has_missing_cells_behind(values: Any) -> None:
    """NumPy's own dtypes without a missing value become those that have one."""
    found = pd.Series(extended(values, 2))
    assert found.isna().tolist() == [False, False, True, True]
    assert found.iloc[:2].tolist() == values.tolist()
    assert pd.Series(missing(2, "bool")).isna().all()


LOW, HIGH = pd.Timestamp("2026-10-01", tz="UTC"), pd.Timestamp("2026-10-02", tz="UTC")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"updated_at": (LOW, HIGH)}),
        ({"owner": 1}, {"owner": 1, "updated_at": (LOW, HIGH)}),
        ({"updatedAt": ("2026-09-01", None)}, {"updated_at": (LOW, HIGH)}),
        ({"updated_at": ("2026-10-01T12:00:00Z", None)}, {"updated_at": (LOW + pd.Timedelta("12h"), HIGH)}),
        ({"updated_at": (None, "2026-10-01T12:00:00Z")}, {"updated_at": (LOW, LOW + pd.Timedelta("12h"))}),
        ({"updated_at": (None, "2026-09-01")}, None),
        ({"updated_at": None}, None),
        ({"updated_at": "2026-09-01"}, None),
    ],
)
def test_narrowed__keeps_both_bounds(asked: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """The user's own bounds and the span hold together; None where nothing fits both."""
    assert narrowed(settle_filter(asked, None), LOW, HIGH) == expected
