"""Results as readers see them, and as pandas does."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.figures import ageing, forecast, hygiene, kpis, show
from opp_pandas.figures.core.presentation import write_column
from opp_pandas.forecasting import bookings
from portfolios import LEAD, WON, context, portfolio

ROWS = [
    {"amount": 1_241_862, "probability": 50, "stage_id": LEAD, "close_date": "2026-07-01T03:00Z", "owner_id": 7},
    {"amount": 500, "probability": 50, "stage_id": LEAD, "close_date": None, "owner_id": None},
    {"amount": 90, "stage_id": WON, "close_date": "2026-05-01T12:00Z", "owner_id": 8},
]
FRAME = portfolio([{**row, "created_at": "2026-01-01T00:00Z", "name": "<b>Deal</b> $5"} for row in ROWS])
ZONE = context(timezone="America/New_York")


@pytest.mark.parametrize(
    "figure",
    [
        lambda: forecast(FRAME, context=ZONE, by="owner_name", quota=1000),
        lambda: kpis(FRAME, context=ZONE),
        lambda: hygiene(FRAME, context=ZONE),
        lambda: ageing(FRAME, context=ZONE),
    ],
)
def test_result__shows_numbers_and_days_for_readers(figure: Any) -> None:
    """No exponents, no NaT, no instants: grouped numbers, days in the zone; the currency in the caption."""
    result = figure()
    for shown in (repr(result), result._repr_html_()):
        assert "1,24" in shown
        assert not any(raw in shown for raw in ("e+06", "NaT", "NaN", "nan", ":00:00", "<NA>"))
        assert "amounts in USD" in shown
    page = result._repr_html_()
    assert "<b>Deal" not in page
    assert "<details><summary>What this stands on</summary>" in page
    assert "3 deals; stages open" in page


def test_result__days_are_those_of_the_zone() -> None:
    """03:00 UTC of 1 July is 30 June in New York."""
    shown = repr(hygiene(FRAME, context=ZONE))
    assert "2026-06-30" in shown
    assert "2026-07-01" not in shown


def test_result__is_a_plain_frame_to_pandas() -> None:
    """What any operation gives is a plain DataFrame with pandas' own look; pickle keeps the result a result."""
    result = kpis(FRAME, context=ZONE)
    assert isinstance(result, pd.DataFrame)
    for made in (result.copy(), result.head(), result[["win_rate"]], result + 0, result.T, result.assign(a=1)):
        assert type(made) is pd.DataFrame
    again = pickle.loads(pickle.dumps(result))  # noqa: S301
    assert repr(again) == repr(result)
    pd.testing.assert_frame_equal(again, result)


def test_result__one_long_row_stands_upright() -> None:
    """Key figures are read from top to bottom; with a name per group they lie."""
    lines = repr(kpis(FRAME, context=ZONE)).splitlines()
    assert lines[0] == "Key figures, as of 2026-06-15, amounts in USD"
    assert any(line.split() == ["win_rate", "100.0", "%"] for line in lines)
    assert any(line.split() == ["median_cycle_days", "121", "days"] for line in lines)
    grouped = kpis(FRAME, context=ZONE, by="owner_name")
    assert len(grouped) > 1
    assert grouped._repr_html_().count('scope="row"') == len(grouped)


def test_result__without_rows_or_with_many() -> None:
    """No rows are said with the names of the columns; of many the first are shown, and how many are not."""
    empty = forecast(FRAME.iloc[:0], context=ZONE)
    assert "no rows" in repr(empty)
    assert "<tbody></tbody>" in empty._repr_html_()
    many = ageing(pd.concat([FRAME.iloc[:1]] * 1_070, ignore_index=True), context=ZONE)
    assert "1,010 more rows" in repr(many)
    assert many._repr_html_().count("<tr>") == 61


def test_show__has_everything_unfolded() -> None:
    """`show` lists below the table what a result folds away; bookings, which are no frame, too."""
    text = show(kpis(FRAME, context=ZONE)).text
    assert "- 3 deals; stages open: " in text
    assert "<details open>" in show(bookings(FRAME, context=ZONE)).html


def test_write_column__keeps_one_format_per_column() -> None:
    """Decimals by the column, not by the value; ids are not grouped, a reached quota has no number."""
    cases: list[tuple[str, list[Any], list[str]]] = [
        ("open_amount", [1.5, 2.25], ["1.50", "2.25"]),
        ("open_amount", [1.0, 2_000.4], ["1", "2,000"]),
        ("id", [1234, 5], ["1234", "5"]),
        ("coverage", [np.inf, 2.083], ["reached", "2.08 x"]),
        ("age_days", [1, 1_200], ["1 day", "1,200 days"]),
        ("wape", [0.123, np.nan], ["12.3 %", ""]),
        ("rank", [1, 12], ["1", "12"]),
        ("gini", [0.25, 0.5], ["0.25", "0.50"]),
    ]
    for name, values, words in cases:
        assert write_column(pd.Series(values, name=name)) == words
    assert write_column(pd.Series(pd.to_datetime(["9999-12-31"]).astype("datetime64[s]"), name="x")) == ["9999-12-31"]
    instants = pd.Series(pd.to_datetime(["2026-06-15T12:30Z", None]), name="moment")
    assert write_column(instants) == ["2026-06-15 12:30", ""]
