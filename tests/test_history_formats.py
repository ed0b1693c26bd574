"""What a history keeps comes back exactly, in its format, an older one, or not at all."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import opp_pandas as opp
from damage import cuts, files_below, flips, outcome, replaced
from histories import frame_of, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, DamagedHistoryError
from opp_pandas.frame_state import loaded_of
from opp_pandas.history import History
from opp_pandas.history.query_identity import pack_query, unpack_query
from opp_pandas.history.typed_values import pack

LOG = ("id", "custom_id", "action", "field", "before", "after", "observed_at", "updated_at")
OLD = Path(__file__).parent / "data" / "history_format1"


def told(frame: pd.DataFrame) -> dict[str, Any]:
    """Every value and dtype of a frame, in words."""
    return {str(name): [str(frame[name].dtype), [repr(value) for value in frame[name].tolist()]] for name in frame}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Histories that were written in format 1, to do with as one likes."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def said(history: History, expected: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(expected["as_of"]))
    return {
        "as_of": {t: told(history.as_of(t)) for t in expected["as_of"]},
        # Of changes at one moment none is the first.
        "diff": sorted(zip(*(values for _, values in told(history.diff(first)).values()), strict=True)),
        "snapshots": told(history.snapshots()),
        "stage_entries": told(history.stage_entries()),
    }


@pytest.mark.parametrize("name", ["service", "adopted"])
def test_format_1__reads_as_it_did_and_upgrades(old: Path, name: str) -> None:
    """A history of format 1 says what it said when it was written, before the upgrade and after it."""
    expected = json.loads((old / f"{name}.json").read_text())
    expected["diff"] = sorted(zip(*(expected["diff"][name][1] for name in LOG), strict=True))
    history = History(old / name)
    assert said(history, expected) == expected
    assert len(history.verify()) == 0
    assert history.upgrade()
    assert not history.upgrade()
    assert said(history, expected) == expected
    assert len(history.verify()) == 0
    loaded = loaded_of(history.as_of())
    assert loaded is not None
    assert loaded.definitions.get("currency") == ("EUR" if name == "adopted" else None)
    # The files of format 1 are given up, not deleted.
    assert history.vacuum(older_than_days=0) > 0
    assert said(history, expected) == expected


def test_format_1__is_gone_on_from(old: Path) -> None:
    """Recording what an old history already knows upgrades it and adds no cell; what differs is one."""
    history = History(old / "service")
    before = history.as_of()
    loaded = loaded_of(before)
    assert loaded is not None
    again = history.record(before, observed_at="2026-09-05T08:00Z", complete=False)
    assert (again.cells, again.appeared, again.changed) == (0, 0, 0)
    pd.testing.assert_frame_equal(history.as_of(), before, check_flags=False)


def test_format_1__what_it_could_not_read_is_read(old: Path) -> None:
    """Values that look like marks, and a column with the name of one, stopped reading; now they are data."""
    unknown = History(old / "tagged").as_of()["unknown"].tolist()
    assert unknown == [{"$decimal": "n/a"}, "x"]
    history = History(old / "deal_column")
    assert history.as_of()["(deal)"].tolist() == ["x", "y"]
    history.upgrade()
    assert history.as_of()["(deal)"].tolist() == ["x", "y"]


def test_newer_format__is_named(tmp_path: Path) -> None:
    """A table of a later format is neither damaged nor another table: the error names its format and this program."""
    from opp_pandas.history import sealed_table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_table, "FORMAT", 3)
        History(tmp_path).record(load_of([{"id": 1, "name": "a"}], 1))
    words = f"format 3, and this version of opp_pandas \\({opp.__version__}\\) reads format 2"
    with pytest.raises(ConfigurationError, match=words):
        History(tmp_path).as_of()
    with pytest.raises(ConfigurationError, match="format 3"):
        History(tmp_path).record(load_of([{"id": 1, "name": "b"}], 2))


@pytest.mark.parametrize("format_", [1, 2])
def test_extra_column__does_not_make_it_another_table(old: Path, tmp_path: Path, format_: int) -> None:
    """Somebody's column in the table is left alone, by readers and recorders."""
    import deltalake
    from deltalake.schema import Field, PrimitiveType

    place = old / "service" if format_ == 1 else tmp_path / "new"
    history = History(place)
    if format_ == 2:
        history.record(load_of([{"id": 1, "name": "a"}], 1))
    before = history.as_of()
    deltalake.DeltaTable(str(place)).alter.add_columns([Field("note", PrimitiveType("string"))])
    pd.testing.assert_frame_equal(history.as_of(), before, check_flags=False)
    history.record(load_of([{"id": 1, "name": "b"}], "2026-10-01", complete=None))
    history.record(load_of([{"id": 1, "name": "c"}], "2026-10-02", complete=None))
    assert history.as_of().loc[0, "name"] == "c"
    assert len(history.verify()) == 0


# --- values -----------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(codec=None, exclude_categories=())),
    st.sampled_from(["$decimal", "(deal)", "\x00", "null", "1.50", "\ud800", ""]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=5) | st.sampled_from(["$decimal", "$day", "$tuple"]), inner, max_size=3),
    ),
    max_leaves=8,
)
NAMES = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.sampled_from(["(deal)", "$day", "\x00", "begins", "columns", "kind", "load", "sequence", "name ", "id\x00"]),
).filter(lambda name: name not in {"id", "name"})


@given(st.lists(VALUES, min_size=2, max_size=2), st.lists(VALUES, min_size=2, max_size=2), NAMES)
def test_values__of_any_json_in_any_column_come_back(first: list[Any], second: list[Any], column: str) -> None:
    """Whatever JSON says under whatever name comes back as it was, of the same types, each night its own."""
    history = history_in_memory()
    for day, values in enumerate((first, second), start=1):
        rows = frame_of([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
        history.record(load_of(rows.assign(**{column: pd.Series(values, dtype=object)}), day))
    for day, values in enumerate((first, second), start=1):
        back = history.as_of(moment(day))
        assert back["id"].tolist() == [1, 2]
        # Of a column of nothing but texts, pandas says NaN for what is missing.
        assert repr([None if value != value else value for value in back[column]]) == repr(values)


@pytest.mark.parametrize(
    "value",
    [
        {"$decimal": "n/a"},
        {"$day": "2026-01-01"},
        Decimal("1.50"),
        Decimal("NaN"),
        dt.date(9999, 12, 31),
        dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        pd.Timestamp("2026-01-01T00:00:00.123456789"),
        [Decimal("1.0"), {"x": dt.date(2026, 1, 1)}, float("inf")],
        {1: "one", (2, 3): [Decimal(4)], None: {}},
        2**70,
        "\x00",
    ],
    ids=repr,
)
def test_values__of_an_adopted_frame_come_back(tmp_path: Path, value: Any) -> None:
    """Exact decimals, days, instants and mappings of any key, through the files."""
    history = History(tmp_path)
    rows = pd.DataFrame({"custom_id": ["a", "b"], "(deal)": pd.Series([value, None], dtype=object)})
    adopted = opp.adopt(rows, as_of="2026-01-10")
    history.record(adopted)
    assert repr(history.as_of()["(deal)"][0]) == repr(adopted["(deal)"][0])
    history.record(opp.adopt(rows, as_of="2026-01-11"))
    assert len(history.diff("2026-01-10")) == 0


def test_query__with_marks_for_values_comes_back() -> None:
    """A filter whose values look like the marks of format 1 stays what it was."""
    query = {"filter": {"x": {"$tuple": [1]}, "y": ("a", None), "z": {"$not_null": True}}}
    assert unpack_query(pack_query(query)) == query


def test_tags__take_time_by_their_number() -> None:
    """Twice as many lists of tags take twice the time to record, not four times."""

    def seconds(n: int) -> float:
        column = pd.Series([["q4"], ["renewal"]] * (n // 2), name="tags", dtype=object)
        found = []
        for _ in range(3):
            began = time.process_time()
            pack(column)
            found.append(time.process_time() - began)
        return min(found)

    assert seconds(60_000) < 3 * seconds(30_000)


# --- damage -----------------------------------------------------------------------------------------------------------


def small_history(folder: Path) -> History:
    history = History(folder)
    for day in (1, 2, 3):
        history.record(load_of([{"id": 1, "name": "a", "amount": 100 * day}], day))
    return history


def truth(history: History) -> tuple[str, ...]:
    return (*(history.as_of(moment(day)).to_csv() for day in (1, 2, 3)), history.snapshots().to_csv())


def cells(history: History) -> Any:
    """Every cell, which all that a history says is made of; read in a tenth of the time of its states."""
    return history._storage.rows(history._storage.open())  # type: ignore[arg-type]


@pytest.mark.parametrize(("read", "step"), [(truth, 1999), pytest.param(cells, 1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("damage", [flips, cuts])
def test_damage__is_refused_or_changes_nothing(tmp_path: Path, damage: Any, read: Any, step: int) -> None:
    """A flipped bit or a cut at any byte of any file never gives another past, and `verify` finds it."""
    history = small_history(tmp_path)
    expected = read(history)
    places = {path: list(damage(path, step)) for path in files_below(tmp_path)}
    for path, cases in places.items():
        for words, content in cases:
            with replaced(path, content):
                assert outcome(lambda: read(history), lambda found: found == expected) != "OTHER", words
                assert len(history.verify()), f"{words}: verify() finds nothing"
    assert read(history) == expected


@pytest.mark.parametrize("lost", [1, 2])
def test_lost_commit__is_noticed(tmp_path: Path, lost: int) -> None:
    """Where the last commits are gone, with their files, nobody reads or records on top of what is left."""
    history = small_history(tmp_path)
    for path in sorted((tmp_path / "_delta_log").glob("*.json"))[-lost:]:
        path.unlink()
    for call in (history.as_of, history.snapshots, lambda: history.record(load_of([{"id": 1}], 4))):
        with pytest.raises(DamagedHistoryError, match="is gone"):
            call()
    damaged = history.verify()
    assert damaged["last_night"].max() == moment(3)
    assert len(damaged) == lost


def test_lost_head__is_noticed(tmp_path: Path) -> None:
    """The small file that knows the last commit is missed."""
    history = small_history(tmp_path)
    (tmp_path / "_opp_pandas" / "head.json").unlink()
    with pytest.raises(DamagedHistoryError, match=r"head\.json is gone"):
        history.as_of()
    assert history.verify()["file"].tolist() == ["_opp_pandas/head.json"]


def test_other_programs_commit__is_noticed(tmp_path: Path) -> None:
    """Rows that another program adds to the table are not taken for recorded ones."""
    from deltalake import DeltaTable, write_deltalake

    history = small_history(tmp_path)
    rows = DeltaTable(str(tmp_path)).to_pyarrow_table()
    write_deltalake(str(tmp_path), rows, mode="append")
    with pytest.raises(DamagedHistoryError, match="other data files"):
        history.as_of()
    assert len(history.verify())
