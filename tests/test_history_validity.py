"""A history for people who come with SQL or Polars: a row per deal and period, and every state in it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pytest

import opp_pandas as opp
from histories import frame_of, history_in_memory, load_of, moment
from opp_pandas.errors import MissingColumnError

if TYPE_CHECKING:
    from opp_pandas.history import History

NIGHTS = {
    1: [(1, 100, ["a"]), (2, 50, None)],
    2: [(1, 100, ["a"]), (2, 60, ["b", "c"])],
    3: [(2, 60, ["b", "c"])],
    4: [(1, 100, ["a"]), (2, None, []), (3, 5, None)],
}


@pytest.fixture
def history() -> History:
    made = history_in_memory()
    for day, deals in NIGHTS.items():
        rows = [{"id": key, "amount": amount, "tags": tags, "close_date": moment(20)} for key, amount, tags in deals]
        made.record(load_of(frame_of(rows), day))
    return made


def test_validity__has_a_row_per_period(history: History, tmp_path: Path) -> None:
    """A period ends where the deal changes or goes, the one that lasts has no end, and every column has its type."""
    path = history.write_validity(tmp_path / "for bi")
    assert path == tmp_path / "for bi" / "validity.parquet"
    frame = pd.read_parquet(path)
    days = [[None if pd.isna(at) else at.day for at in frame[name]] for name in ("valid_from", "valid_to")]
    assert list(zip(frame["id"], *days, strict=True)) == [
        (1, 1, 3),
        (1, 4, None),
        (2, 1, 2),
        (2, 2, 4),
        (2, 4, None),
        (3, 4, None),
    ]
    schema = pl.read_parquet_schema(path)
    assert (schema["amount"], schema["tags"]) == (pl.Int64, pl.List(pl.String))
    assert schema["valid_from"] == schema["close_date"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("day", NIGHTS)
def test_validity__gives_every_state_in_duckdb_and_polars(history: History, tmp_path: Path, day: int) -> None:
    """What the documented queries find is what `as_of` finds."""
    path = history.write_validity(tmp_path / "validity.parquet")
    at = moment(day).to_pydatetime() + dt.timedelta(hours=1)
    expected = [(key, amount) for key, amount, _ in NIGHTS[day]]
    query = f"""
        SELECT id, amount FROM '{path}' WHERE valid_from <= TIMESTAMPTZ '{at}'
        AND (valid_to IS NULL OR valid_to > TIMESTAMPTZ '{at}') ORDER BY id
    """
    assert duckdb.sql(query).fetchall() == expected
    deals = pl.read_parquet(path)
    there = deals.filter((pl.col("valid_from") <= at) & (pl.col("valid_to").is_null() | (pl.col("valid_to") > at)))
    assert there.sort("id").select("id", "amount").rows() == expected
    assert history.as_of(moment(day))["id"].tolist() == [key for key, _ in expected]


def test_validity__of_some_columns_has_fewer_periods(history: History, tmp_path: Path) -> None:
    """Only what was asked for begins a period."""
    frame = pd.read_parquet(history.write_validity(tmp_path / "v.parquet", columns=["close_date"]))
    assert list(frame.columns) == ["id", "valid_from", "valid_to", "close_date"]
    assert frame["id"].tolist() == [1, 1, 2, 3]
    with pytest.raises(MissingColumnError, match="nonsense"):
        history.write_validity(tmp_path / "v.parquet", columns=["nonsense"])


def test_validity__of_a_real_load_has_its_names(df: pd.DataFrame, tmp_path: Path) -> None:
    """Every column of a load of the service is there, joined names too."""
    history = history_in_memory()
    history.record(df)
    frame = pl.read_parquet(history.write_validity(tmp_path))
    assert set(frame.columns) == {*df.columns, "valid_from", "valid_to"}
    for name in ("stage_name", "owner_name", "account_name", "amount", "name"):
        assert frame[name].to_list() == df[name].astype(object).where(df[name].notna(), None).tolist()


def test_validity__of_five_nights_reads_alike_in_every_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All columns of five nights of a sandbox, and the queries of the documentation, agree with `as_of`."""
    monkeypatch.chdir(tmp_path)
    history = opp.History("pipeline-history")
    with opp.sandbox(40, now="2026-09-01T02:00:00Z") as box, box.client(timezone="America/New_York") as client:
        for _ in range(5):
            history.record(opp.read_opportunities(client, history=history, on_invalid="ignore"))
            box.advance(9)
    deals = pl.read_parquet(history.write_validity("deals.parquet"))
    for moment_ in history.snapshots()["observed_at"]:
        at, state = moment_.to_pydatetime(), history.as_of(moment_)
        there = (pl.col("valid_from") <= at) & (pl.col("valid_to").is_null() | (pl.col("valid_to") > at))
        found = deals.filter(there).sort("id")
        for name in state:
            column = state[name].astype(object)
            assert found[name].to_list() == column.where(column.notna(), None).tolist(), name
    state = history.as_of("2026-09-30 23:59:59Z")
    state["close_day"] = state["close_date"].dt.tz_convert("America/New_York").dt.date
    expected = [
        (name, len(part), int(part["amount"].sum()), part["close_day"].dropna().min())
        for name, part in state.groupby("stage_name")
    ]
    assert len(expected) > 3
    text = (Path(__file__).parents[1] / "docs" / "how-to" / "history.md").read_text(encoding="utf-8")
    assert duckdb.sql(text.split("```sql")[1].split("```")[0]).fetchall() == expected
    block = text.split("```python")[-1].split("```")[0]
    known: dict[str, Any] = {"opp": opp}
    exec(block.replace("there.group_by", "result = there.group_by"), known)  # noqa: S102
    assert known["result"].rows() == expected
