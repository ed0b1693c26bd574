"""As-of views equal a replayed full copy, whatever was recorded in whatever order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import DTYPES, frame_of, history_in_memory, load_of, moment
from opp_pandas.history import History

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = ("name", "amount", "close_date", "stage_id", "risk", "flag", "tags", "updated_at")
INSTANTS = st.sampled_from([None, moment(3), moment(4), pd.Timestamp("9999-12-31", tz="UTC")])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from([None, "", "Acme", "Ünïcødé 'x'", "a\x00b"]),
    "amount": st.sampled_from([None, 0, -5, 10, 2**62]),
    "close_date": INSTANTS,
    "stage_id": st.sampled_from([None, 1, 2, 4]),
    "risk": st.sampled_from([None, 0.0, 0.5, 1e300]),
    "flag": st.sampled_from([None, True, False]),
    "tags": st.sampled_from([None, [], ["a"], ["a", "b"], ["b", "a"]]),
    "updated_at": INSTANTS,
}
DEAL = st.fixed_dictionaries(VALUES)


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Snapshots of a few deals that change, come and go; some see only a part. In order of recording."""
    state: dict[int, dict[str, Any]] = {}
    snapshots = []
    for day in range(draw(st.integers(1, 6))):
        for key in draw(st.lists(st.integers(1, 5), max_size=4)):
            what = draw(st.sampled_from(["edit", "edit", "new", "delete"]))
            if what == "delete":
                state.pop(key, None)
            elif what == "new" or key not in state:
                state[key] = draw(DEAL)
            else:
                name = draw(st.sampled_from(FIELDS))
                state[key] = {**state[key], name: draw(VALUES[name])}
        complete = draw(st.booleans())
        keys = sorted(state) if complete else [key for key in sorted(state) if draw(st.booleans())]
        fields = FIELDS if draw(st.integers(0, 3)) else tuple(draw(st.sets(st.sampled_from(FIELDS), min_size=1)))
        rows = [{"id": key, **{name: state[key][name] for name in fields}} for key in keys]
        snapshots.append({"at": moment(10 + day), "rows": rows, "fields": fields, "complete": complete})
    return draw(st.permutations(snapshots)) if draw(st.booleans()) else snapshots


def replayed(snapshots: list[dict[str, Any]], at: pd.Timestamp) -> pd.DataFrame:
    """The full copy: every snapshot until then laid over the one before."""
    known: dict[int, dict[str, Any]] = {}
    there: set[int] = set()
    for snapshot in sorted(snapshots, key=lambda entry: entry["at"]):
        if snapshot["at"] > at:
            break
        for row in snapshot["rows"]:
            known[row["id"]] = {**known.get(row["id"], {}), **row}
        seen = {row["id"] for row in snapshot["rows"]}
        there = seen if snapshot["complete"] else there | seen
    columns = {name for entry in snapshots if entry["at"] <= at for name in entry["fields"]}
    return frame_of([known[key] for key in sorted(there)], ["id", *(name for name in DTYPES if name in columns)])


def check_stream(history: History, snapshots: list[dict[str, Any]]) -> None:
    """Record in the order given, and compare every moment with the copy."""
    for snapshot in snapshots:
        columns = ["id", *(name for name in DTYPES if name in snapshot["fields"])]
        frame = frame_of(snapshot["rows"], columns)
        history.record(load_of(frame, snapshot["at"]), complete=snapshot["complete"], observed_at=snapshot["at"])
    for snapshot in snapshots:
        expected = replayed(snapshots, snapshot["at"])
        got = history.as_of(snapshot["at"])
        pd.testing.assert_frame_equal(got[list(expected.columns)], expected, check_flags=False)


@settings(max_examples=20)
@given(streams())
def test_as_of__equals_a_replayed_copy(snapshots: list[dict[str, Any]]) -> None:
    """Partial and complete loads, recorded in any order, give the copy that was known at each moment."""
    check_stream(history_in_memory(), snapshots)


@pytest.mark.nightly
@settings(max_examples=250)
@given(streams())
def test_as_of__equals_a_replayed_copy_on_disk(tmp_path_factory: pytest.TempPathFactory, snapshots: Any) -> None:
    """The same through Delta tables on disk, compacted at the end."""
    folder: Path = tmp_path_factory.mktemp("history")
    history = History(folder)
    check_stream(history, snapshots)
    history.compact()
    last = max(snapshot["at"] for snapshot in snapshots)
    expected = replayed(snapshots, last)
    pd.testing.assert_frame_equal(history.as_of(last)[list(expected.columns)], expected, check_flags=False)
