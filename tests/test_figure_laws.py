"""Laws that hold for every portfolio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.figures import (
    category_forecast,
    concentration,
    forecast,
    kpis,
    linearity,
    pacing,
    rollup,
    stage_distribution,
    undated,
)
from portfolios import LEAD, OFFER, WON, context, portfolio, portfolios, random_portfolio
from test_explanations import FIGURES as EVERY_FIGURE

SUMS = ["open_amount", "weighted_amount", "won_amount", "forecast_amount", "overdue_amount"]
COUNTS = ["open_count", "won_count", "missing_amount_count", "missing_probability_count"]
FIGURES = [
    lambda frame: forecast(frame, context=context(), by="owner_id"),
    lambda frame: forecast(frame, context=context(), freq="M", overdue="roll_forward"),
    lambda frame: stage_distribution(frame, context=context()),
    lambda frame: kpis(frame, context=context(), by="owner_name", quota=100.0),
    lambda frame: category_forecast(frame, context=context()),
    lambda frame: rollup(frame, context=context(), tree={7: 8, 9: 8}),
]


@pytest.mark.parametrize("figure", FIGURES)
@settings(max_examples=20)
@given(frame=portfolios, seed=st.integers(0, 99))
def test_figures__row_order_and_index_do_not_matter(figure: Any, frame: pd.DataFrame, seed: int) -> None:
    """Shuffled rows under another index give the same table."""
    mixed = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    mixed.index = pd.Index(["same"] * len(mixed))
    pd.testing.assert_frame_equal(figure(mixed), figure(frame), check_flags=False, rtol=1e-12)


@settings(max_examples=25)
@given(frame=portfolios, by=st.sampled_from(["owner_id", "owner_name", "stage_name", "category", "forecast_category"]))
def test_forecast__groups_add_up_to_the_total(frame: pd.DataFrame, by: str) -> None:
    """Every deal is in exactly one group."""
    whole, parts = forecast(frame, context=context()), forecast(frame, context=context(), by=by)
    summed = parts.groupby(level="period", dropna=False)[SUMS + COUNTS].sum()
    np.testing.assert_allclose(summed.to_numpy(), whole[SUMS + COUNTS].to_numpy(), rtol=1e-12)


@settings(max_examples=25)
@given(frame=portfolios)
def test_forecast__weighted_lies_between_0_and_open(frame: pd.DataFrame) -> None:
    """For amounts of 0 or more; overdue is a part of open."""
    table = forecast(frame, context=context(), freq="M")
    assert (table["weighted_amount"] >= 0).all()
    assert (table["weighted_amount"] <= table["open_amount"] * (1 + 1e-12)).all()
    assert (table["overdue_amount"] <= table["open_amount"]).all()


@settings(max_examples=25)
@given(frame=portfolios, freq=st.sampled_from(["M", "Q"]))
def test_forecast__splitting_a_period_splits_its_sums(frame: pd.DataFrame, freq: str) -> None:
    """Months add up to quarters, quarters to years, undated deals to undated ones."""
    whole = forecast(frame, context=context(), freq={"M": "Q", "Q": "Y"}[freq])
    parts = forecast(frame, context=context(), freq=freq)
    for (_, row), start, end in zip(whole.iterrows(), whole["period_start"], whole["period_end"], strict=True):
        inside = parts["period_start"].isna() if pd.isna(start) else parts["period_start"].between(start, end)
        np.testing.assert_allclose(parts.loc[inside, SUMS + COUNTS].sum(), row[SUMS + COUNTS].astype(float), rtol=1e-12)


@settings(max_examples=25)
@given(frame=portfolios)
def test_forecast__overdue_rule_moves_money_only_where_it_says(frame: pd.DataFrame) -> None:
    """Include and roll_forward bring the same total into the forecast, that of the overdue deals."""
    totals = {
        rule: forecast(frame, context=context(), freq="M", overdue=rule)["forecast_amount"].sum()
        for rule in ("exclude", "include", "roll_forward")
    }
    assert totals["include"] == pytest.approx(totals["roll_forward"])
    assert totals["exclude"] <= totals["include"] + 1e-9


@settings(max_examples=25)
@given(frame=portfolios)
def test_categories__add_up_to_the_forecasts_open_and_won(frame: pd.DataFrame) -> None:
    """Closed is won; commit, best case and pipeline are open; the cumulative amounts end at both."""
    table = category_forecast(frame, context=context(), freq="Y")
    whole = forecast(frame, context=context(), freq="Y")
    wide = table["amount"].unstack("category", sort=False) if len(table) else None
    if wide is None:
        assert not len(whole)
        return
    by_category = {name: table.xs(name, level="category") for name in ("closed", "commit", "best_case", "pipeline")}
    np.testing.assert_allclose(by_category["closed"]["amount"], whole["won_amount"])
    opened = sum(by_category[name]["amount"].to_numpy() for name in ("commit", "best_case", "pipeline"))
    np.testing.assert_allclose(opened, whole["open_amount"])
    np.testing.assert_allclose(by_category["pipeline"]["cumulative_amount"], whole["open_amount"] + whole["won_amount"])
    weighted = sum(by_category[name]["weighted_amount"].to_numpy() for name in by_category)
    np.testing.assert_allclose(weighted, whole["weighted_amount"])


@settings(max_examples=25)
@given(frame=portfolios)
def test_rollup__roots_hold_everything_once(frame: pd.DataFrame) -> None:
    """A tree's roots add up to the groups without a tree, whatever the tree."""
    flat = rollup(frame, context=context())
    tree = rollup(frame, context=context(), tree={7: 8, 9: 7, 8: 99})
    roots = tree[tree["level"] == 0]
    np.testing.assert_allclose(roots[SUMS + COUNTS].sum(), flat[SUMS + COUNTS].sum())


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_figures__of_an_empty_frame_have_the_same_columns_and_dtypes(name: str) -> None:
    """Programs that go on with a figure need no case of their own for nothing."""
    figure, options = EVERY_FIGURE[name]
    frame = random_portfolio(3, 60)
    some, none = figure(frame, context=context(), **options), figure(frame.iloc[:0], context=context(), **options)
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert none.index.names == some.index.names
    assert "opp_basis" in none.attrs


@settings(max_examples=25)
@given(amounts=st.lists(st.none() | st.integers(-(2**60), 2**60), min_size=1, max_size=7))
def test_figures__whole_amounts_sum_to_the_last_digit(amounts: list[int | None]) -> None:
    """Sums beyond 2**53, where floats leave numbers out, are what Python's own whole numbers give."""
    big = [2**53 + 1, *amounts]
    kinds = [{"stage_id": stage, "close_date": "2026-05-01T12:00Z"} for stage in (OFFER, WON, LEAD)]
    frame = portfolio([{"amount": amount, **kind} for amount in big for kind in kinds])
    total = sum(amount or 0 for amount in big)
    for table in (forecast(frame, context=context()), kpis(frame, context=context())):
        found = [int(table[name].iloc[0]) for name in ("open_amount", "won_amount", "overdue_amount")]
        assert found == [2 * total, total, 2 * total]
    stages = stage_distribution(frame, context=context())["amount"]
    assert [int(stages[name]) for name in ("Lead", "Offer", "Won")] == [total] * 3
    assert int(rollup(frame, context=context(), by="stage_name")["won_amount"].loc["Won"]) == total
    assert int(concentration(frame, context=context(), by="stage_name")["amount"].loc["Lead"]) == total


@pytest.mark.parametrize(
    ("figure", "options"),
    [(linearity, {}), (pacing, {}), (undated, {"by": "owner_id"})],
    ids=["linearity", "pacing", "undated"],
)
def test_sums_of_cents__are_the_same_in_any_order(figure: Any, options: dict[str, Any]) -> None:
    """Cents are added as whole numbers: not a digit depends on the order of the rows."""
    rng = np.random.default_rng(8)
    frame = random_portfolio(8, 3_000, odd=False)
    cents = rng.integers(1, 10**9, len(frame))
    frame["amount"] = pd.array(cents // 100, dtype="Int64")
    frame["amount_precise"] = pd.Series([f"{cent / 100:.2f}" for cent in cents], dtype="str")
    frame.loc[rng.random(len(frame)) < 0.2, "close_date"] = pd.NaT
    found = figure(frame, context=context(), **options)
    for seed in range(5):
        again = figure(frame.sample(frac=1, random_state=seed), context=context(), **options)
        pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(found), check_exact=True)
