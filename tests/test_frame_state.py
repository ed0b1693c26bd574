"""What was loaded travels along with the frame, and never changes."""

from __future__ import annotations

import copy
import gc
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from opp_pandas.frame_state import CellMarks, Loaded, Rows, attach_loaded, freeze, loaded_of
from opp_pandas.stages import resolve_stages

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def frame() -> pd.DataFrame:
    made = pd.DataFrame(
        {
            "id": pd.array([1, 2, 3], dtype="Int64"),
            "name": pd.array(["a", "b", None], dtype="str"),
            "close_date": pd.to_datetime(["2026-01-01", None, "9999-12-31"], utc=True).astype("datetime64[us, UTC]"),
            "tags": [["x"], [], None],
        }
    )
    loaded = Loaded(
        kind="read",
        baseline=Rows(freeze(made)),
        stages=resolve_stages(),
        lookups={},
        timezone=None,
        as_of=pd.Timestamp("2026-01-01", tz="UTC"),
    )
    return attach_loaded(made, loaded)


SURVIVED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "query": lambda df: df.query("id > 1"),
    "assign": lambda df: df.assign(x=1),
    "sort": lambda df: df.sort_values("name"),
    "astype": lambda df: df.astype({"id": "float64"}),
    "set_index": lambda df: df.set_index("id"),
    "reindex": lambda df: df.reindex([2, 0]),
    "explode": lambda df: df.explode("tags"),
    "copy": lambda df: df.copy(),
    "deepcopy": copy.deepcopy,
    "drop": lambda df: df.drop(columns="name"),
    "concat of pieces": lambda df: pd.concat([df.iloc[2:], df.iloc[:2]]),
}


@pytest.mark.parametrize("operation", SURVIVED, ids=str)
def test_carrier__survives(frame: pd.DataFrame, operation: str) -> None:
    """Ordinary pandas code keeps what was loaded: the very same object."""
    assert loaded_of(SURVIVED[operation](frame)) is loaded_of(frame)


@pytest.mark.parametrize("operation", ["concat with new rows", "rebuilt"])
def test_carrier__is_lost(frame: pd.DataFrame, operation: str) -> None:
    """Where pandas drops attrs, nothing is carried."""
    other = pd.DataFrame({"id": pd.array([4], dtype="Int64")})
    made = pd.concat([frame, other]) if operation == "concat with new rows" else pd.DataFrame(frame.to_dict("list"))
    assert loaded_of(made) is None


def test_pieces_of_two_loads__do_not_mix(frame: pd.DataFrame) -> None:
    """Two loads of the same rows are told apart."""
    loaded = loaded_of(frame)
    assert loaded is not None
    other = attach_loaded(frame.copy(), loaded.renewed())
    assert loaded_of(pd.concat([frame, other])) is None


def test_baseline__cannot_be_reached_through_the_frame(frame: pd.DataFrame) -> None:
    """Nothing done to the frame, its arrays or its lists changes what was loaded."""
    loaded = loaded_of(frame)
    assert loaded is not None
    frame.loc[0, "name"] = "z"
    frame["name"].array[1] = "z"
    frame["id"].array[0] = 99
    frame["close_date"].array[0] = pd.Timestamp("2000-01-01", tz="UTC")
    frame["tags"].iloc[0].append("y")
    base = loaded.baseline.frame
    assert base["id"].tolist() == [1, 2, 3]
    assert base["name"].tolist()[:2] == ["a", "b"]
    assert base["close_date"].iloc[0] == pd.Timestamp("2026-01-01", tz="UTC")
    assert base["tags"].iloc[0] == ("x",)


def test_baseline__keeps_every_list_as_it_is() -> None:
    """Lists become tuples at every depth; equal ones are one only where they are of text, since 1 and True differ."""
    lists = [["x"], [], None, ["x"], [["y"], {"k": [1]}], [1], [True], [1.0]]
    frozen = freeze(pd.DataFrame({"tags": lists}))["tags"].tolist()
    assert repr(frozen) == "[('x',), (), None, ('x',), (('y',), {'k': (1,)}), (1,), (True,), (1.0,)]"
    plain = freeze(pd.DataFrame({"tags": lists[:4]}))["tags"].tolist()
    assert plain == frozen[:4]
    assert plain[0] is plain[3]


def test_baseline__does_not_feed_the_garbage_collector() -> None:
    """Freezing many lists holds few objects at once, so that the collector does not walk all that there is."""
    frame = pd.DataFrame({"tags": [["x", "y"], ["z"]] * 10_000})
    before = gc.get_stats()[0]["collections"]
    freeze(frame)
    assert gc.get_stats()[0]["collections"] - before < 5


def test_ids__are_unique_even_where_they_are_missing() -> None:
    """Rows without an id can be looked up by nobody."""
    baseline = Rows(pd.DataFrame({"id": pd.array([7, None, None], dtype="Int64")}))
    assert baseline.ids.is_unique
    assert baseline.ids.get_indexer([7, 1, 0]).tolist() == [0, -1, -1]


def test_cell_marks__follow_their_cells() -> None:
    """Taken, moved, renamed and put one below the other, marks stay with their cells."""
    marks = CellMarks({(0, "amount"): 10.0, (2, "name"): 7}, {(2, "name"): "must be text"})
    assert marks.take([2, 1]) == CellMarks({(0, "name"): 7}, {(0, "name"): "must be text"})
    assert marks.at([5, 6, 4]).original == {(5, "amount"): 10.0, (4, "name"): 7}
    assert marks.rename({"amount": "Amount"}) == CellMarks({(0, "Amount"): 10.0})
    assert marks.without(lambda row, _: row == 2) == CellMarks({(0, "amount"): 10.0})
    both = CellMarks.concat([marks, marks], [3, 3])
    assert both.locked == {(2, "name"): "must be text", (5, "name"): "must be text"}
    assert not CellMarks()
    assert marks
