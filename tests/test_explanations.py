"""What is behind a number."""

from __future__ import annotations

from typing import Any

import pytest

from opp_pandas.analytics import WeekCalendar, explain, forecast, funnel, hygiene, kpis, show, stage_distribution
from opp_pandas.analytics.forecasts import COLUMNS
from opp_pandas.errors import ConfigurationError
from portfolios import LEAD, context, portfolio, random_portfolio


@pytest.mark.parametrize(
    "options",
    [
        {"by": "owner_name", "overdue": "exclude"},
        {"by": ["owner_name", "category"], "overdue": "include", "freq": "Y", "fiscal_start": 2},
        {"overdue": "roll_forward", "freq": "M"},
        {"freq": "Q-JAN"},
        {"calendar": WeekCalendar(), "fiscal_start": 2, "probability": "own_else_stage"},
    ],
)
def test_explain__rows_of_a_forecast_add_up_to_each_number(options: dict[str, Any]) -> None:
    """For every cell: the contributions of the rows make the number."""
    frame = random_portfolio(12, 70).iloc[45:]
    table = forecast(frame, context=context(), **options)
    for place, at in enumerate(table.index):
        for column in COLUMNS:
            found = explain(table, frame, context=context(), column=column, at=at)
            assert found.rows["contribution"].sum() == pytest.approx(table[column].iloc[place], abs=1e-6)
            assert found.formula == table.attrs["opp_basis"]["definitions"][column]


def test_explain__rows_of_stages_and_key_figures() -> None:
    """Sums add up; medians and means are those of the rows; a rate is the mean of its rows."""
    frame = random_portfolio(13, 110)
    stages = stage_distribution(frame, context=context(), by="owner_name")
    for at in stages.index:
        for column in stages.columns:
            found = explain(stages, frame, context=context(), column=column, at=at)
            assert found.rows["contribution"].sum() == pytest.approx(stages.loc[at, column], abs=1e-6)
    table = kpis(frame, context=context(), by="owner_name")
    for at in table.index:
        rows = {
            column: explain(table, frame, context=context(), column=column, at=at).rows["contribution"]
            for column in ("open_amount", "weighted_amount", "win_rate", "average_won_amount", "median_cycle_days")
        }
        assert rows["open_amount"].sum() == pytest.approx(table.loc[at, "open_amount"])
        assert rows["weighted_amount"].sum() == pytest.approx(table.loc[at, "weighted_amount"])
        assert rows["win_rate"].mean() == pytest.approx(table.loc[at, "win_rate"], nan_ok=True)
        assert rows["average_won_amount"].mean() == pytest.approx(table.loc[at, "average_won_amount"], nan_ok=True)
        assert rows["median_cycle_days"].median() == pytest.approx(table.loc[at, "median_cycle_days"], nan_ok=True)


def test_explain__whole_result_and_one_number_in_words() -> None:
    """The text has stages, moment, formula, value; periods may be written as text."""
    frame = random_portfolio(14)
    table = forecast(frame, context=context())
    text = repr(explain(table))
    assert "forecast_amount = won by as_of" in text
    assert "won: 'Won'" in text
    found = explain(table, frame, context=context(), column="open_amount", at="2026Q2")
    assert found.value == table.loc["2026Q2", "open_amount"]
    assert f"open_amount at 2026Q2 = {found.value:,.6g}" in repr(found)
    assert found._repr_html_().startswith("<pre>")
    undated = explain(table, frame, context=context(), column="open_count", at=table.index[-1])
    assert undated.rows["close_date"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"column": "luck", "at": "2026Q2"}, "no column"),
        ({"column": "open_amount"}, "name a period"),
        ({"column": "open_amount", "at": ("2026Q2", "Ada Byron")}, "at must name nothing"),
        ({"column": "open_amount", "at": "soon"}, "not a period"),
    ],
)
def test_explain__bad_questions_are_answered(arguments: dict[str, Any], words: str) -> None:
    """A column or row that is not there is named."""
    frame = random_portfolio(15)
    table = forecast(frame, context=context())
    with pytest.raises(ConfigurationError, match=words):
        explain(table, frame, context=context(), **arguments)


def test_explain__needs_the_frame_it_was_made_from() -> None:
    """Another frame, no frame, a plain table: each says so."""
    frame = random_portfolio(15)
    table = forecast(frame, context=context(), quota=1.0)
    with pytest.raises(ConfigurationError, match="frame and context"):
        explain(table, column="open_amount", at="2026Q2")
    with pytest.raises(ConfigurationError, match="made from 400 rows"):
        explain(table, frame.iloc[1:], context=context(), column="open_amount", at="2026Q2")
    with pytest.raises(ConfigurationError, match="worked out"):
        explain(table, frame, context=context(), column="coverage", at="2026Q2")
    with pytest.raises(ConfigurationError, match="no basis"):
        explain(frame)
    flags = hygiene(frame, context=context())
    with pytest.raises(ConfigurationError, match="not for hygiene"):
        explain(flags, frame, context=context(), column="overdue", at=0)


def test_show__escapes_every_text_from_the_data() -> None:
    """Names with markup, control characters and dollar signs are shown, not obeyed."""
    name = "<script>alert(1)</script>\x1b[31m"
    rows = [{"amount": 5_000, "probability": 50, "close_date": None, "stage_id": LEAD, "owner_name": name}]
    shown = show(kpis(portfolio(rows), context=context(), by="owner_name"))
    assert "<script>" not in shown._repr_html_()
    assert "\x1b" not in shown.text
    assert "5,000" in shown.text
    assert "(no date)" in show(forecast(portfolio(rows), context=context())).text
    assert repr(shown) == shown.text


def test_show__writes_numbers_for_people() -> None:
    """Shares as percent, coverage as reached, missing as nothing, long tables cut."""
    frame = random_portfolio(16)
    text = show(kpis(frame, context=context(), quota=1.0)).text
    assert "%" in text
    assert "reached" in text
    cut = show(forecast(frame, context=context(), freq="W"), max_rows=3).text
    assert "more rows" in cut
    assert "Stage distribution" in show(funnel(frame, context=context())).text
    assert "nan" not in text.lower().replace("finance", "")
