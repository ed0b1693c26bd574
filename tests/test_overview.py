"""What ``df.opp`` shows of itself in a notebook."""

from __future__ import annotations

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.notebook.overview import describe
from opp_pandas.stages import StageMap


@pytest.fixture(scope="module")
def deals() -> pd.DataFrame:
    """Deals of a small sandbox."""
    with opp.sandbox(opportunities=60, seed=3) as sandbox:
        return opp.read_opportunities(sandbox.client(), timezone="America/New_York")


def test_overview__says_what_is_loaded_and_how_the_quarter_stands(deals: pd.DataFrame) -> None:
    """The amounts are those of the quarter in the forecast; nothing of a frame that was only looked at is changed."""
    seen = describe(deals.opp, deals)
    assert seen.loaded[0].startswith("60 opportunities from http://127.0.0.1")
    assert "America/New_York" in seen.loaded[1]
    table = deals.opp.forecast()
    period = pd.Period(deals.attrs["opp"].loaded.as_of.tz_convert("America/New_York").tz_localize(None), "Q")
    assert seen.period.startswith(f"{period}, amounts in ")
    assert seen.amounts["open_amount"] == f"{table.loc[period, 'open_amount']:,.0f}"
    page = deals.opp._repr_html_()
    assert page.count("<table") == 1
    assert "df.opp.hygiene()" in page
    assert len(deals.opp.changes()) == 0


def test_overview__names_what_needs_attention(deals: pd.DataFrame) -> None:
    """Edits that were not sent, checks that flag deals, and how many of the rows are left."""
    frame = deals.head(50).copy()
    frame.loc[frame.index[:3], "close_date"] = pd.NaT
    seen = describe(frame.opp, frame)
    assert seen.loaded[0].startswith("50 of 60 opportunities")
    assert "not written back yet: 3 deals (df.opp.changes())" in seen.attention
    assert "df.opp.write_back(dry_run=True)" in seen.calls


def test_overview__never_fails_on_what_cannot_be_computed(deals: pd.DataFrame) -> None:
    """Currencies that cannot be added are said; a frame without a load says how to get one; text is escaped."""
    frame = deals.assign(currency_type=["USD", "EUR"] * 30)
    said = describe(frame.opp, frame).attention
    assert any(line.startswith("there is no forecast: ") and "rates=" in line for line in said)
    plain = pd.DataFrame({"<b>": [1]})
    assert "df.opp.attach(original)" in plain.opp._repr_html_()
    assert "<b>" not in deals.rename(columns={"amount": "<b>x"}).opp._repr_html_().replace("<p><b>", "")
    adopted = opp.adopt(
        pd.DataFrame({"Name": ["a"], "Stage": ["Lead"], "Amount": [5], "Close": ["2026-07-01"]}),
        {"Name": "name", "Stage": "stage_name", "Amount": "amount", "Close": "close_date"},
        stages=StageMap(order=["Lead"], won=[], lost=[]),
        as_of="2026-06-15",
    )
    assert "1 opportunity from" in adopted.opp._repr_html_()
