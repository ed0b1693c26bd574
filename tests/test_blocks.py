"""Long columns, a block of rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.figures import category_forecast, forecast, funnel, kpis, rollup, stage_distribution
from opp_pandas.figures.core import blocks as module
from opp_pandas.figures.core.blocks import blocks, look_up, smallest_integer
from portfolios import context, random_portfolio

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("n", [0, 1, module.ROWS - 1, module.ROWS, module.ROWS + 1, 3 * module.ROWS])
def test_blocks__cover_every_row_once(n: int) -> None:
    """Also at the edges of a block, and where there is no row."""
    rows = np.arange(n)
    assert np.concatenate([rows[:0], *(rows[block] for block in blocks(n))]).tolist() == rows.tolist()


def test_look_up__is_indexing_in_the_dtype_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places below 0 count from the end, as numpy has it; a place past the end is an error."""
    monkeypatch.setattr(module, "ROWS", 3)
    table, places = np.array([5, 6, 7], dtype=np.int8), np.array([0, 2, -1, 1, -2, 0, 0], dtype=np.int16)
    found = look_up(table, places)
    assert (found.tolist(), found.dtype) == (table[places].tolist(), np.dtype(np.int8))
    with pytest.raises(IndexError):
        look_up(table, np.array([3]))


@pytest.mark.parametrize("highest", [0, 127, 128, 32_767, 32_768, 2**31 - 1, 2**31])
def test_smallest_integer__holds_every_code(highest: int) -> None:
    """The highest code and the negative ones that mean missing or unknown."""
    dtype = smallest_integer(highest)
    assert (int(np.array(highest, dtype)), int(np.array(-2, dtype))) == (highest, -2)


@pytest.mark.parametrize(
    "figure",
    [
        lambda frame, **more: forecast(frame, freq="M", by=["owner_name", "category"], overdue="roll_forward", **more),
        lambda frame, **more: forecast(frame, freq="W", by="account_id", probability="own_else_stage", **more),
        lambda frame, **more: category_forecast(frame, by="owner_id", **more),
        lambda frame, **more: rollup(frame, by="account_name", **more),
        lambda frame, **more: rollup(frame, period="2026Q2", overdue="roll_forward", **more),
        lambda frame, **more: stage_distribution(frame, by="owner_name", **more),
        lambda frame, **more: funnel(frame, probability="stage", **more),
        lambda frame, **more: kpis(frame, by="owner_name", quota=100_000, **more),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", None, "Asia/Kathmandu", "America/New_York"])
def test_figures__do_not_depend_on_where_blocks_end(
    monkeypatch: pytest.MonkeyPatch, figure: Callable[..., pd.DataFrame], zone: str | None
) -> None:
    """Blocks of seven rows give the same numbers to the last bit, and the same basis, as one block."""
    frame = random_portfolio(3, 500)
    stands_on: dict[str, Any] = {"context": context(timezone=zone)}
    whole = figure(frame, **stands_on)
    monkeypatch.setattr(module, "ROWS", 7)
    parts = figure(frame, **stands_on)
    pd.testing.assert_frame_equal(parts, whole, check_exact=True)
    assert parts.attrs == whole.attrs


@pytest.mark.parametrize(
    "dtype", ["Int64", "Float64", "float64", "float32", "int64[pyarrow]", "double[pyarrow]", "object"]
)
def test_forecast__missing_amounts_are_counted_and_the_frame_stays(dtype: str) -> None:
    """Whatever the dtype that says so; what is missing is filled in a copy, never in the frame's own memory."""
    frame = random_portfolio(7, 300, odd=False)
    gaps = frame["id"] % 7 == 0
    kept = frame["amount"].where(~gaps)
    frame["amount"] = kept.astype("Float64").astype(dtype) if "int" in dtype.lower() else kept.astype(dtype)
    frame["probability"] = frame["probability"].astype("float64").where(frame["id"] % 5 != 0)
    before = frame.copy(deep=True)
    table = forecast(frame, context=context())
    open_or_won = frame["stage_id"] != 4
    assert table["missing_amount_count"].sum() == (gaps & open_or_won).sum()
    assert table["missing_probability_count"].sum() == ((frame["id"] % 5 == 0) & frame["stage_id"].isin([1, 2])).sum()
    assert table["won_amount"].sum() == float(kept[frame["stage_id"] == 3].sum())
    pd.testing.assert_frame_equal(frame, before)


def test_forecast__nan_in_a_nullable_column_is_missing() -> None:
    """0 / 0 in a Float64 column gives a NaN that pandas does not count as missing."""
    frame = random_portfolio(8, 200, odd=False)
    amounts = frame["amount"].astype("float64").to_numpy(copy=True)
    amounts[:3] = np.nan
    frame["amount"] = pd.Series(pd.arrays.FloatingArray(amounts, np.zeros(len(amounts), dtype=bool)))
    frame["stage_id"] = pd.array([3] * len(frame), dtype="Int64")
    table = forecast(frame, context=context())
    assert table["missing_amount_count"].sum() == 3
    assert table["won_amount"].sum() == np.nansum(amounts)


def test_forecast__many_groups_need_codes_wider_than_a_byte() -> None:
    """Three hundred accounts by two hundred owners by week: every deal is found again, none in another's cell."""
    n = 4_000
    rng = np.random.default_rng(5)
    frame = random_portfolio(5, n, odd=False).assign(
        owner_id=pd.array(rng.integers(1, 201, n), dtype="Int64"),
        account_id=pd.array(rng.integers(1, 301, n), dtype="Int64"),
    )
    table = forecast(frame, context=context(), freq="W", by=["account_id", "owner_id"])
    won = frame[frame["stage_id"] == 3]
    weeks = won["close_date"].dt.tz_localize(None).dt.to_period("W-SUN")
    expected = won["amount"].groupby([weeks, won["account_id"], won["owner_id"]]).sum()
    found = table["won_amount"][table["won_count"] > 0]
    assert dict(zip(found.index.tolist(), found, strict=True)) == dict(
        zip(expected.index.tolist(), expected, strict=True)
    )
