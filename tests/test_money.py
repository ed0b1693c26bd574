"""Several currencies."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError, FrameError, MissingColumnError
from opp_pandas.figures import ExchangeRates, convert_amounts, forecast
from portfolios import LEAD, WON, context, portfolio

TABLE = pd.DataFrame(
    {
        "currency": ["EUR", "EUR", "EUR", "GBP"],
        "start": ["2026-01-01", "2026-06-01", "2026-07-01", "2026-01-01"],
        "rate": [1.0, 2.0, 4.0, 10.0],
    }
)
FRAME = portfolio(
    [
        {"amount": 1, "stage_id": WON, "close_date": "2026-05-31T12:00Z", "currency_type": "EUR"},
        {"amount": 1, "stage_id": LEAD, "close_date": "2026-08-01T12:00Z", "currency_type": "eur"},
        {"amount": 1, "stage_id": LEAD, "close_date": None, "currency_type": "USD"},
        {"amount": None, "stage_id": LEAD, "close_date": None, "currency_type": "XXX"},
        {"amount": 1, "stage_id": LEAD, "close_date": None, "currency_type": None},
    ]
)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT, pd.NA])
def test_rates__without_a_start_day_hold_from_the_beginning(missing: object) -> None:
    """However the table, or the file that it came from, says that there is none."""
    table = pd.DataFrame({"currency": ["EUR", "EUR"], "start": [missing, "2026-06-01"], "rate": [1.0, 2.0]})
    table["start"] = table["start"].astype(object)
    rates = ExchangeRates(table, base="USD").to_dict()["table"]
    assert [rate["start"] for rate in rates if rate["currency"] == "EUR"] == [None, "2026-06-01"]


@pytest.mark.parametrize(
    ("open_date", "won_date", "expected"),
    [
        ("as_of", "close", [1.0, 2.0]),
        ("close", "close", [1.0, 4.0]),
        ("2026-01-15", "2026-01-15", [1.0, 1.0]),
        ("2026-07-01", "2026-07-01", [4.0, 4.0]),
    ],
)
def test_rates__date_rule_is_an_argument(open_date: str, won_date: str, expected: list[float]) -> None:
    """Won deals at their close date; open ones as of now, at their close date, or all on one fixed day."""
    rates = ExchangeRates(TABLE, "USD", open_date, won_date)
    found = convert_amounts(FRAME, context=context(), rates=rates)
    assert found.tolist()[:3] == [*expected, 1.0]
    assert pd.isna(found.iloc[3])
    assert found.name == "amount_usd"
    # Rows that name no currency take that of the load.
    assert found.iloc[4] == 1.0


def test_rates__basis_says_which_deals_were_converted() -> None:
    """Base, rules and deals per currency."""
    basis = forecast(FRAME, context=context(), rates=ExchangeRates(TABLE, "USD")).attrs["opp_basis"]
    assert basis["currency"] == "USD"
    assert basis["rates"]["deals"] == {"EUR": 2, "USD": 2}


def test_rates__before_the_first_rate_is_an_error_with_rows() -> None:
    """No rate on the day, no currency at all: each lists the rows."""
    early = FRAME.assign(close_date=pd.Timestamp("2025-12-31T12:00Z"))
    with pytest.raises(FrameError, match=r"currency 'EUR', rows 0"):
        forecast(early, context=context(), rates=ExchangeRates(TABLE, "USD"))
    with pytest.raises(FrameError, match=r"'\(missing\)', rows 4"):
        forecast(FRAME, context=context(currency=None), rates=ExchangeRates(TABLE, "USD"))


def test_rates__mapping_and_frame_need_a_base_at_1() -> None:
    """Which currency sums are in must be said."""
    assert forecast(FRAME, context=context(), rates={"USD": 1, "EUR": 3})["open_amount"].tolist() == [0.0, 3.0, 2.0]
    for unclear in ({"EUR": 2.0, "GBP": 3.0}, {"EUR": 1.0, "USD": 1.0}, TABLE, "EUR"):
        with pytest.raises(ConfigurationError, match="rates"):
            forecast(FRAME, context=context(currency=None), rates=unclear)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ({"EUR": 0.0}, ConfigurationError, "positive"),
        ({"EUR": "much"}, ConfigurationError, "positive"),
        ({"USD": 2.0}, ConfigurationError, "must be 1"),
        (pd.DataFrame({"currency": ["EUR", "eur"], "rate": [1.0, 2.0]}), ConfigurationError, "two rates"),
        (pd.DataFrame({"currency": ["EUR"]}), MissingColumnError, "rate"),
    ],
)
def test_rates__bad_tables_are_refused(table: Any, error: type[Exception], words: str) -> None:
    """Zero, text, a base that is not 1, two rates for one day."""
    with pytest.raises(error, match=words):
        ExchangeRates(table, "USD")
