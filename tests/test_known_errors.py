"""What open code is known to get wrong, each as a test that bears its name (definitions.md, last table)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from opp_pandas.errors import FrameError
from opp_pandas.figures import ExchangeRates, forecast, funnel, kpis, rollup, stage_distribution, win_rates
from portfolios import LEAD, LOST, OFFER, WON, context, portfolio


def deal(
    stage: int, amount: int = 100, probability: int = 50, close: str = "2026-06-20T00:00Z", **more: Any
) -> dict[str, Any]:
    return {"amount": amount, "probability": probability, "stage_id": stage, "close_date": close, **more}


BEFORE = "2026-06-01T00:00Z"


def test_fivetran_dbt_salesforce__percent_is_not_a_factor() -> None:
    """Amount x 75 percent is three quarters of the amount, not 75 times."""
    table = forecast(portfolio([deal(LEAD, 1_000, 75)]), context=context())
    assert table["weighted_amount"].tolist() == [750.0]


def test_fivetran_dbt_salesforce__days_to_close_are_positive() -> None:
    """A deal created in January and won in March took 59 days, not -59."""
    frame = portfolio([deal(WON, close="2026-03-01T00:00Z", created_at="2026-01-01T00:00Z")])
    assert kpis(frame, context=context())["median_cycle_days"].tolist() == [59.0]


def test_fivetran_dbt_salesforce__owner_without_losses_wins_all() -> None:
    """Three won, none lost is 100 %, neither 0 % nor missing."""
    rows = [deal(WON, owner_id=8, close=BEFORE)] * 3 + [deal(LOST, owner_id=7, close=BEFORE)]
    rates = win_rates(portfolio(rows), context=context(), by="owner_name")
    assert rates.loc["Ada Byron", "win_rate"] == 1.0
    assert rates.loc["Sam Lee", "win_rate"] == 0.0


def test_fivetran_dbt_salesforce__manager_keeps_owners_without_losses() -> None:
    """The manager's wins and closed deals come from the same people."""
    rows = [deal(status, owner_id=owner, close=BEFORE) for status, owner in [(WON, 8)] * 3 + [(WON, 7), (LOST, 7)]]
    people = win_rates(portfolio(rows), context=context(), by="owner_name")
    whole = win_rates(portfolio(rows), context=context())
    assert whole["win_rate"].tolist() == [4 / 5]
    assert people[["won_count", "lost_count"]].sum().tolist() == [4, 1]
    tree = rollup(portfolio(rows), context=context(), tree={8: 7})
    assert tree.loc["Sam Lee", "won_count"] == 4


def test_frappe_crm__lost_deals_are_not_forecast() -> None:
    """A lost deal adds nothing, whatever its amount and probability."""
    table = forecast(portfolio([deal(LOST, 10_000, 100), deal(LEAD, 100, 50)]), context=context())
    assert table["forecast_amount"].tolist() == [50.0]
    assert table["open_amount"].tolist() == [100.0]


def test_frappe_crm__funnel_keeps_deals_that_were_lost() -> None:
    """Conversion is of all who came, not of the survivors."""
    history = pd.DataFrame({"id": [1, 2, 2], "stage_id": [LEAD, LEAD, OFFER], "entered_at": ["2026-01-01"] * 3})
    history["entered_at"] = pd.to_datetime(history["entered_at"], utc=True)
    frame = portfolio([deal(LOST, id=1), deal(WON, id=2)])
    assert funnel(frame, context=context(), history=history)["reached"].tolist()[:3] == [2, 1, 1]


def test_frappe_crm__stage_entered_twice_counts_once() -> None:
    """Back and forth between two stages is still one deal in each."""
    history = pd.DataFrame({"id": [1] * 4, "stage_id": [LEAD, OFFER, LEAD, OFFER], "entered_at": ["2026-01-01"] * 4})
    history["entered_at"] = pd.to_datetime(history["entered_at"], utc=True)
    table = funnel(portfolio([deal(OFFER, id=1)]), context=context(), history=history)
    assert table["reached"].tolist()[:3] == [1, 1, 0]


def test_frappe_crm__missing_rate_is_an_error_not_1() -> None:
    """A currency without a rate is named with its rows."""
    frame = portfolio([deal(LEAD, currency_type="USD"), deal(LEAD, currency_type="CHF")])
    with pytest.raises(FrameError, match=r"'CHF', rows 1"):
        forecast(frame, context=context(), rates={"USD": 1.0, "EUR": 1.1})


@pytest.mark.parametrize("freq", ["M", "Q"])
def test_erpnext__months_and_quarters_keep_their_year(freq: str) -> None:
    """June 2026 and June 2027 are two periods."""
    rows = [deal(LEAD, close="2026-06-20T00:00Z"), deal(LEAD, close="2027-06-20T00:00Z")]
    assert len(forecast(portfolio(rows), context=context(), freq=freq)) == 2


def test_erpnext__rates_depend_on_the_day() -> None:
    """Two won deals in one currency on two days take two rates."""
    table = pd.DataFrame({"currency": "EUR", "start": ["2026-01-01", "2026-04-01"], "rate": [1.0, 2.0]})
    rows = [
        deal(WON, currency_type="EUR", close="2026-03-31T12:00Z"),
        deal(WON, currency_type="EUR", close="2026-04-01T12:00Z"),
    ]
    found = forecast(portfolio(rows), context=context(), rates=ExchangeRates(table, "USD"))
    assert found["won_amount"].tolist() == [100.0, 200.0]


def test_odoo__deal_without_a_stage_is_not_at_0_percent() -> None:
    """Its own probability counts; it stands in a row of its own."""
    frame = portfolio([{**deal(LEAD), "stage_id": None}])
    assert forecast(frame, context=context())["weighted_amount"].tolist() == [50.0]
    assert stage_distribution(frame, context=context()).loc["(no stage)", "weighted_amount"] == 50.0


def test_salesforce_revenue_insights__coverage_is_not_the_inverse() -> None:
    """Open over what is left of the quota: 300 open for 100 left is 3, not a third."""
    table = forecast(portfolio([deal(LEAD, 300)]), context=context(), quota=100)
    assert table["coverage"].tolist() == [3.0]


def test_groupby__missing_owners_do_not_vanish() -> None:
    """Deals without an owner keep their row and their share of the total."""
    frame = portfolio([deal(LEAD, owner_id=7), deal(LEAD, owner_id=None)])
    table = forecast(frame, context=context(), by="owner_name")
    assert table["weighted_amount"].sum() == 100.0
    assert table.index.get_level_values(1).tolist() == ["Sam Lee", "(unassigned)"]
