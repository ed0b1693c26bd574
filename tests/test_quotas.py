"""Pacing and linearity of bookings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import WeekCalendar, gini, linearity, pacing
from portfolios import WON, context, portfolio


def won(day: str, amount: int) -> dict[str, Any]:
    return {"amount": amount, "stage_id": WON, "close_date": f"{day}T12:00Z"}


def test_linearity__shares_by_week_and_the_last_month() -> None:
    """Weeks of seven days from the first; the last calendar month; what closes after as_of is left out and counted."""
    rows = [won("2026-04-01", 1), won("2026-04-08", 2), won("2026-06-01", 5), won("2026-06-30", 40)]
    table = linearity(portfolio(rows), context=context())
    assert len(table) == 13
    assert table["won_amount"].tolist() == [1, 2, *[0] * 6, 5, *[0] * 4]
    assert table["cumulative_share"].iloc[-1] == pytest.approx(1)
    assert table["week_end"].iloc[-1] == pd.Timestamp("2026-06-30")
    basis = table.attrs["opp_basis"]
    assert basis["last_month_share"] == pytest.approx(5 / 8)
    assert basis["n_closed_later"] == 1
    assert any("not closed yet" in note for note in basis["notes"])
    nothing = linearity(portfolio([won("2026-01-01", 1)]), context=context())
    assert nothing["share"].isna().all()


@pytest.mark.parametrize("quarter", range(1, 5))
def test_linearity__all_on_the_first_day_of_the_last_month(quarter: int) -> None:
    """A quarter booked on its last month's first day is 1, one booked the day before 0: months, not thirds of days."""
    first = pd.Period(f"2026-{3 * quarter:02d}").start_time
    for day, share in ((first, 1.0), (first - pd.Timedelta(days=1), 0.0)):
        frame = portfolio([won(f"{day:%Y-%m-%d}", 7)])
        table = linearity(frame, context=context(as_of="2027-06-01T00:00Z"), period=f"2026Q{quarter}")
        assert table.attrs["opp_basis"]["last_month_share"] == share


def test_linearity__last_month_of_other_calendars() -> None:
    """The last five weeks of a 4-4-5 quarter, December of a year; a month and a period before its last month: none."""
    calendar = WeekCalendar((4, 4, 5), starts={2026: "2026-01-04"})
    for day, share in (("2026-03-01", 1.0), ("2026-02-28", 0.0)):
        table = linearity(portfolio([won(day, 7)]), context=context(), period="FY2026-Q1", calendar=calendar)
        assert table.attrs["opp_basis"]["last_month_share"] == share
    late = context(as_of="2027-06-01T00:00Z")
    frame = portfolio([won("2026-12-01", 1), won("2026-05-01", 3)])
    assert linearity(frame, context=late, period="2026", freq="Y").attrs["opp_basis"]["last_month_share"] == 0.25
    assert linearity(frame, context=late, period="2026-12", freq="M").attrs["opp_basis"]["last_month_share"] is None
    early = linearity(frame, context=context(as_of="2026-05-31T00:00Z"), period="2026Q2")
    assert early.attrs["opp_basis"]["last_month_share"] is None


@pytest.mark.parametrize("as_of", ["2027-06-01T00:00Z", "2026-05-13T00:00Z", "2026-04-01T23:00Z"])
@pytest.mark.parametrize("freq", ["M", "Q", "Y"])
def test_linearity__even_bookings_have_a_gini_of_0(as_of: str, freq: str) -> None:
    """The same amount every day is even in every period, its last week of one day and an unfinished one included."""
    frame = portfolio([won(f"{day:%Y-%m-%d}", 3) for day in pd.date_range("2026-01-01", "2026-12-31")])
    for period in ("2026-01-01", "2026-02-28", "2026-04-01", "2026-08-01"):
        gini_found = linearity(frame, context=context(as_of=as_of), period=period, freq=freq).attrs["opp_basis"]["gini"]
        started = pd.Period(period, freq=freq).start_time.tz_localize("UTC") <= pd.Timestamp(as_of)
        assert gini_found == (0 if started else None)


def test_gini__ends() -> None:
    """0 when even, 1 - 1/n when all is in one, missing when there is nothing."""
    assert gini(np.full(13, 7.0)) == pytest.approx(0)
    assert gini(np.array([0.0] * 12 + [3.0])) == pytest.approx(12 / 13)
    assert np.isnan(gini(np.zeros(3)))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=8))
def test_gini__weights_are_repetitions(pairs: list[tuple[int, int]]) -> None:
    """A week of five even days counts as its five days do; and the coefficient is the mean difference over 2 means."""
    days = np.array([amount for amount, times in pairs for _ in range(times)], dtype=float)
    weeks, weights = [amount * times for amount, times in pairs], [times for _, times in pairs]
    if not days.sum():
        assert np.isnan(gini(weeks, weights))
        return
    expected = np.abs(days[:, None] - days[None, :]).mean() / (2 * days.mean())
    assert gini(weeks, weights) == pytest.approx(expected, abs=1e-9)


def test_pacing__compares_with_the_same_part_of_earlier_periods() -> None:
    """Half of the last quarter was in by now, so a landing at twice of what is won."""
    rows = [won("2026-01-10", 30), won("2026-03-30", 30), won("2026-05-01", 40), won("2026-06-20", 999)]
    table = pacing(portfolio(rows), context=context(), quota=160, compare=2)
    assert [str(period) for period in table.index] == ["2025Q4", "2026Q1", "2026Q2"]
    assert table["won_to_date"].tolist() == [0, 30, 40]
    assert table["share"].iloc[1] == 0.5
    assert table["attained"].iloc[-1] == 0.25
    basis = table.attrs["opp_basis"]
    assert (basis["usual_share"], basis["landing"], basis["n_compared"]) == (0.5, 80, 1)
    with pytest.raises(ConfigurationError, match="compare"):
        pacing(portfolio(rows), context=context(), compare=0)
    assert pacing(portfolio(rows), context=context(), quota=0)["attained"].isna().all()
    for wrong in (pd.NA, pd.DataFrame({"period": ["2026Q2"], "quota": [5]}), {"2026Q2": 5}, 1j, b"5", -1):
        with pytest.raises(ConfigurationError, match="must be a number of 0 or more"):
            pacing(portfolio(rows), context=context(), quota=wrong)  # type: ignore[arg-type]


def test_pacing__without_a_quota_defines_nothing_of_one() -> None:
    """What the basis defines is there: in the table, or in the basis itself."""
    table = pacing(portfolio([won("2026-05-01", 40)]), context=context())
    basis = table.attrs["opp_basis"]
    assert all(name in table.columns or name in basis for name in basis["definitions"])


def test_pacing__of_a_finished_period_has_its_share() -> None:
    """A period that is over is compared whole."""
    table = pacing(portfolio([won("2026-02-10", 30)]), context=context(), period="2026Q1", compare=1)
    assert table["share"].iloc[-1] == 1.0


def test_pacing__what_closes_after_as_of_is_not_won_yet() -> None:
    """Neither in the present period, nor in an earlier one that is not over: those have no share either."""
    rows = [won("2026-05-01", 40), won("2026-06-20", 999)]
    now = pacing(portfolio(rows), context=context(), compare=1)
    assert now["won_amount"].iloc[-1] == 40
    assert now.attrs["opp_basis"]["n_closed_later"] == 1
    ahead = pacing(portfolio(rows), context=context(), compare=1, period="2026Q3")
    assert ahead["share"].isna().all()
    assert ahead.attrs["opp_basis"]["n_compared"] == 0
