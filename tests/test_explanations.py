"""What is behind a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import (
    WeekCalendar,
    ageing,
    category_forecast,
    concentration,
    explain,
    forecast,
    funnel,
    hygiene,
    kpis,
    linearity,
    pacing,
    rollup,
    scale,
    scenario,
    show,
    stage_distribution,
    waterfall,
    win_rates,
)
from opp_pandas.figures.hygiene import flags_of
from opp_pandas.forecasting import bookings
from portfolios import LEAD, context, portfolio, random_portfolio

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIOS = {"half as much": scale(amount=0.5), "gone": lambda frame: frame[frame["owner_id"] != 7]}
PERSONS = {7: 8, 9: 7, 10: 8}
FIGURES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "forecast": (forecast, {"by": "owner_name", "quota": 50_000.0}),
    "forecast by two": (forecast, {"by": ["owner_name", "category"], "overdue": "include", "freq": "Y"}),
    "forecast rolled": (forecast, {"overdue": "roll_forward", "freq": "M", "fiscal_start": 2}),
    "forecast by alias": (forecast, {"freq": "Q-JAN"}),
    "forecast of weeks": (forecast, {"calendar": WeekCalendar(starts={2026: "2026-01-25"}), "fiscal_start": 2}),
    "forecast by stage": (forecast, {"probability": "own_else_stage", "fiscal_label": "start", "fiscal_start": 7}),
    "category_forecast": (category_forecast, {"by": "owner_name", "freq": "Y", "bands": (80, 40)}),
    "stage_distribution": (stage_distribution, {"by": "owner_name"}),
    "rollup": (rollup, {}),
    "rollup of a period": (rollup, {"period": "2026Q2", "overdue": "roll_forward", "by": "account_id"}),
    "rollup of a tree": (rollup, {"tree": PERSONS, "adjustments": {8: 5.0}, "overdue": "include"}),
    "kpis": (kpis, {"by": "owner_name", "quota": 50_000.0, "window_days": 200}),
    "win_rates": (win_rates, {"by": "owner_name", "shrink_by": 20}),
    "pacing": (pacing, {"quota": 1e6, "compare": 2}),
    "linearity": (linearity, {"period": "2026Q1"}),
    "concentration": (concentration, {"by": "owner_name", "measure": "weighted_amount"}),
    "ageing": (ageing, {}),
    "scenario": (scenario, {"scenarios": SCENARIOS, "freq": "Y", "by": "owner_name"}),
}
MEANS = {"win_rate", "win_rate_with_overdue", "average_won_amount"}
MEDIANS = {"median_won_amount", "median_cycle_days"}
WORKED_OUT = {
    "win_rate_low", "win_rate_high", "win_rate_value", "velocity_per_day", "shrunk_rate", "rank", "rank_low",
    "rank_high", "adjusted", "delta",
    "quota", "attainment", "gap", "gap_to_forecast", "coverage", "pipeline_needed", "change", "gini", "hhi", "attained",
    "usual_share", "landing",
}  # fmt: skip
SHARES = {"pacing": {"share"}, "concentration": {"share", "cumulative_share"}}


def rows_of(table: pd.DataFrame, column: str) -> list[Any]:
    """Labels of a few rows, the first and the last among them; None for a number about the whole table."""
    return [*table.index[:: len(table) // 5 + 1], table.index[-1]] if column in table.columns else [None]


@pytest.mark.parametrize("name", FIGURES)
def test_explain__rows_make_every_number_of_every_figure(name: str) -> None:
    """Each defined column, in each row: its rows add up to it, or have it as their mean or median."""
    figure, options = FIGURES[name]
    frame = random_portfolio(12, 75)
    table = figure(frame, context=context(), **options)
    given = {"scenarios": SCENARIOS} if "scenarios" in options else {}
    definitions = table.attrs["opp_basis"]["definitions"]
    summed = 0
    for column, formula in definitions.items():
        for at in rows_of(table, column):
            found = explain(table, frame, context=context(), column=column, at=at, **given)
            stated = table.loc[[at], column].iloc[0] if column in table.columns else table.attrs["opp_basis"][column]
            assert found.value == (None if pd.isna(stated) else stated)
            assert found.formula == formula
            if column in WORKED_OUT | SHARES.get(figure.__name__, set()):
                assert "contribution" not in found.rows.columns
                continue
            if found.value is None:
                assert found.rows.get("contribution", pd.Series(dtype=float)).isna().all()
                continue
            part = found.rows["contribution"]
            made = part.mean() if column in MEANS else part.median() if column in MEDIANS else part.sum()
            assert made == pytest.approx(found.value, abs=1e-6)
            summed += found.value != 0
    assert summed > 3


def test_explain__bookings() -> None:
    """Won deals with their amount, open ones with amount x p; what was asked for is asked again."""
    frame = random_portfolio(12, 90)
    for options in ({}, {"period": "2026Q2"}, {"period": "2026Q2", "overdue": "roll_forward"}, {"overdue": "include"}):
        result = bookings(frame, context=context(), **options)
        found = explain(result, frame, context=context(), column="mean")
        assert found.value == result.mean == pytest.approx(found.rows["contribution"].sum())
        won = explain(result, frame, context=context(), column="won_amount")
        assert won.value == won.rows["contribution"].sum()
        assert len(found.rows) - len(won.rows) == len(result.amounts)
    assert explain(result, frame, context=context(), column="p_at_least", at=1e6).value == result.p_at_least(1e6)
    assert "quantile at 0.5 =" in repr(explain(result, frame, context=context(), column="quantile", at=0.5))
    with pytest.raises(ConfigurationError, match="what quantile was asked for"):
        explain(result, frame, context=context(), column="quantile")


def test_explain__hygiene_is_asked_by_its_check() -> None:
    """All deals that a check flags, or one of them."""
    frame = random_portfolio(12, 90)
    table = hygiene(frame, context=context())
    flags = flags_of(table)
    assert len(flags) > len(table)
    for check, flagged in flags.groupby(flags):
        found = explain(table, frame, context=context(), column=str(check))
        assert found.value == len(flagged)
        assert set(found.rows.index) == set(flagged.index)
        one = explain(table, frame, context=context(), column=str(check), at=flagged.index[0])
        assert list(one.rows.index) == [flagged.index[0]]


def test_explain__rows_of_a_scenario_are_those_it_changed() -> None:
    """The rows stand as the scenario has them, so it has to be given again."""
    frame = random_portfolio(12, 90)
    table = scenario(frame, context=context(), scenarios=SCENARIOS)
    at = ("half as much", "2026Q3")
    found = explain(table, frame, context=context(), column="open_amount", at=at, scenarios=SCENARIOS)
    before = explain(table, frame, context=context(), column="open_amount", at=("as it is", "2026Q3"))
    assert found.value == pytest.approx(before.value / 2)
    assert found.rows["amount"].sum() == pytest.approx(before.rows["amount"].sum() / 2)
    with pytest.raises(ConfigurationError, match="give scenarios= as they were given"):
        explain(table, frame, context=context(), column="open_amount", at=at)


def test_explain__tree_and_shares_say_which_rows() -> None:
    """A manager's number has the rows of everybody below, what a person owns alone only the own ones."""
    frame = random_portfolio(12, 90)
    table = rollup(frame, context=context(), tree=PERSONS)
    found = explain(table, frame, context=context(), column="open_count", at="Ada Byron")
    assert set(found.rows["owner_id"].dropna()) == {7, 8, 9, 10}
    alone = explain(table, frame, context=context(), column="own_count", at="Ada Byron")
    assert set(alone.rows["owner_id"]) == {8}
    parts = concentration(frame, context=context(), by="owner_name")
    assert set(explain(parts, frame, context=context(), column="share", at="Ada Byron").rows["owner_id"]) == {8}


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
        ({"column": "open_amount"}, "at must name period, such as Period"),
        ({"column": "open_amount", "at": ("2026Q2", "Ada Byron")}, "at must name period, .*it names '2026Q2', 'Ada"),
        ({"column": "open_amount", "at": "soon"}, "'soon' is not a period of this figure; write it like"),
        ({"column": "open_amount", "at": "1999Q1"}, "'1999Q1' is no row of this figure; there are '2025Q4'"),
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
    with pytest.raises(ConfigurationError, match="no basis"):
        explain(frame)
    moved = waterfall((frame, frame), context=(context(), context()), period="2026Q2")
    with pytest.raises(ConfigurationError, match="waterfall_deals"):
        explain(moved, frame, context=context(), column="start", at=0)


def test_explain__names_without_their_ids_are_found_where_one_fits() -> None:
    """Two people of one name have to be told apart."""
    frame = random_portfolio(15)
    table = kpis(frame, context=context(), by="owner_name")
    ids = explain(table, frame, context=context(), column="open_count", at="Sam Lee (id 9)").rows["owner_id"]
    assert set(ids) == {9}
    with pytest.raises(ConfigurationError, match=r"fits 2 rows; say which: 'Sam Lee \(id 7\)', 'Sam Lee \(id 9\)'"):
        explain(table, frame, context=context(), column="open_count", at="Sam Lee")
    one = kpis(frame[frame["owner_id"] == 8], context=context())
    assert (
        explain(one, frame[frame["owner_id"] == 8], context=context(), column="open_count").value
        == one["open_count"][0]
    )


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


def test_show__speaks_of_the_day_in_the_zone_of_the_figure() -> None:
    """The end of 14 June in New York is 15 June in UTC, which nobody asked about."""
    frame = random_portfolio(16, 75)
    evening = context(as_of="2026-06-15T03:59:59Z", timezone="America/New_York")
    assert show(kpis(frame, context=evening)).text.startswith("Key figures, as of 2026-06-14")
    assert show(bookings(frame, context=evening)).text.splitlines()[0].endswith("as of 2026-06-14, amounts in USD")
    assert repr(explain(kpis(frame, context=evening))).startswith(
        "kpis, as of 2026-06-14 23:59, days in America/New_York\n"
    )


def test_show__writes_days_beyond_the_calendar_of_python() -> None:
    """A deal of 9999-12-31, which tools write for "never", stands in a quarter that ends in the year 10000."""
    rows = [{"amount": 5, "probability": 50, "close_date": "9999-12-31T12:00Z", "stage_id": LEAD}]
    assert "10000-01-31" in show(forecast(portfolio(rows), context=context(), fiscal_start=2)).text
    rows = [{"amount": 5, "probability": 50, "close_date": "0001-01-31T12:00Z", "stage_id": LEAD}]
    assert "0001-01-01" in show(forecast(portfolio(rows), context=context())).text


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
    assert text.startswith("Key figures, as of")
    rows = [{"amount": 5_000, "probability": 50, "close_date": "2026-06-20T12:00Z", "stage_id": LEAD}]
    nothing = show(forecast(portfolio(rows), context=context())[["won_amount", "won_count"]]).text
    assert nothing.splitlines()[3].split() == ["2026Q2", "0", "0"]
