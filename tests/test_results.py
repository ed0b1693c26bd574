"""Taking answers in: only what was answered, in its place, whatever the frame looks like by now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from loads import load, lookups, resource
from opp_pandas.apply.results import take_outcomes
from opp_pandas.apply.status import Outcome, Status
from opp_pandas.frame_state import loaded_of, require_loaded


def written(position: int, answer: dict[str, Any], action: str = "update", row: Any = None) -> Outcome:
    return Outcome(action, Status.WRITTEN, answer["id"], row=row, position=position, resource=answer)


def take(df: pd.DataFrame, *outcomes: Outcome) -> pd.DataFrame:
    return take_outcomes(df, require_loaded(df, "test"), outcomes, {})


def test_nothing_answered__leaves_frame_and_carrier() -> None:
    """No answer, no new load."""
    df = load([resource(1)])
    before = loaded_of(df)
    assert loaded_of(take(df, Outcome("update", Status.CONFLICT, 1))) is before


def test_sparse_answer__leaves_what_it_does_not_mention() -> None:
    """An attribute, relationship or permission that the answer left out is not cleared."""
    first = resource(1, description="long", healthScore=3) | {"meta": {"canWrite": True}}
    df = load([first, resource(2)]).assign(note=["mine", "too"])
    df.loc[0, "name"] = "mine"
    answer = {
        "type": "opportunity",
        "id": 1,
        "attributes": {"name": "Mine", "healthScore": 4},
        "relationships": {"owner": {}},
    }
    take(df, written(0, answer))
    row = df.iloc[0]
    assert (row["name"], row["description"], row["owner_id"], row["owner_name"]) == ("Mine", "long", 3, "Ann Hall")
    assert (row["health_score"], row["note"], row["tags"]) == (4, "mine", ["q4", "renewal"])
    assert len(df.opp.changes()) == 0


def test_answer__replaces_odd_originals_and_locks() -> None:
    """A cell that could not be read is readable after the service sent a good one, and the other way round."""
    df = load([resource(1, amount="a lot"), resource(2)])
    loaded = require_loaded(df, "test")
    assert (0, "amount") in loaded.baseline.marks.locked
    take(df, written(0, resource(1, amount=5)), written(1, resource(2, amount="much")))
    fresh = require_loaded(df, "test").baseline
    assert (list(fresh.marks.locked), fresh.marks.original[1, "amount"]) == ([(1, "amount")], "much")
    assert df["amount"].tolist() == [5, pd.NA]
    # The old load is as it was: other frames go on with it.
    assert loaded.baseline.frame["amount"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    "drift",
    [
        lambda df: df.astype({"amount": "float64", "name": "category"}),
        lambda df: df.astype(object),
        lambda df: df.assign(close_date=df["close_date"].dt.tz_localize(None)),
        lambda df: df.set_index("id"),
        lambda df: df.set_index(["owner_id", "id"]),
        lambda df: df.sort_values("id", ascending=False),
        lambda df: df.iloc[1:],
        lambda df: df.set_axis(["x", "x", "y"]),
    ],
)
def test_drifted_frame__takes_the_answer_all_the_same(drift: Any) -> None:
    """Drifted dtypes take their own back; index and order stay."""
    df = drift(load([resource(1), resource(2), resource(3)]))
    place = [int(value) for value in df.reset_index()["id"]].index(2)
    index = df.index
    answer = resource(2, name="Theirs", amount=7, amountPrecise="7.00", closeDate="2027-01-01T00:00:00.000Z")
    take(df, written(place, answer))
    assert df.index.equals(index)
    row = df.iloc[place]
    assert (row["name"], row["amount"]) == ("Theirs", 7)
    assert len(df.opp.changes()) == 0


def test_created_rows__get_their_ids_in_column_or_index() -> None:
    """A new deal leaves the waiting list; the others keep their keys."""
    df = load([resource(1)]).opp.add([{"name": "A"}, {"name": "B"}])
    keys = {entry.label: entry.key for entry in df.opp.changes().creations}
    take(df, written(2, resource(8, name="B"), "create", row=2))
    assert df["id"].tolist() == [1, pd.NA, 8]
    assert [(entry.label, entry.key) for entry in df.opp.changes().creations] == [(1, keys[1])]
    df["id"] = df["id"].astype("Int64")
    indexed = df.iloc[[2]].set_index("id")
    indexed["name"] = "C"
    take(indexed, written(0, resource(8, name="C")))
    assert indexed.index.tolist() == [8]
    assert len(indexed.opp.changes()) == 0


def test_deleted_rows__leave_and_waiting_rows_keep_their_places() -> None:
    """The baseline shrinks; rows that wait behind the deleted one still find theirs."""
    from opp_pandas.apply.results import _without
    from opp_pandas.frame_state import Pending

    df = load([resource(1), resource(2), resource(3, amount="?")])
    base = require_loaded(df, "test").baseline
    pending = {"a": Pending(2, None, "k"), "b": Pending(None, None, "l")}
    shorter, moved = _without(base, [1, None], pending)
    assert shorter.frame["id"].tolist() == [2, 3]
    assert (moved["a"].position, moved["b"].position) == (1, None)
    assert list(shorter.marks.locked) == [(1, "amount")]
    extra = df.copy()
    extra.attrs["note"] = "kept"
    same = take(extra, Outcome("delete", Status.WRITTEN, 1, position=0), Outcome("delete", Status.GONE, 2, position=-1))
    assert same is extra
    assert (extra["id"].tolist(), extra.attrs["note"]) == ([2, 3], "kept")
    assert extra.index.tolist() == [1, 2]


def test_unsure_creation__is_remembered() -> None:
    """What may exist is looked for before it is sent again."""
    df = load([resource(1)]).opp.add({"name": "A"})
    take(df, Outcome("create", Status.UNKNOWN, row=1, position=1))
    assert df.opp.changes().creations[0].attempted
    assert df["id"].isna().tolist() == [False, True]


def test_fresh_look_ups__give_names_and_stages() -> None:
    """Names read while writing are known afterwards, the older ones too."""
    df = load([resource(1)])
    stages = lookups()["opportunityStage"].replace({"name": {"Discovery": "Found"}})
    outcome = written(0, resource(1))
    take_outcomes(df, require_loaded(df, "test"), [outcome], {"opportunityStage": stages})
    assert df["stage_name"].tolist() == ["Found"]
    assert np.array_equal(require_loaded(df, "test").lookups["user"]["id"], lookups()["user"]["id"])
