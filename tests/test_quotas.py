"""Pacing and linearity of bookings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import gini, linearity, pacing
from portfolios import WON, context, portfolio


def won(day: str, amount: int) -> dict[str, Any]:
    return {"amount": amount, "stage_id": WON, "close_date": f"{day}T12:00Z"}


def test_linearity__shares_by_week_and_the_last_month() -> None:
    """Weeks of seven days from the first; the last third of the days; Gini over the weeks."""
    table = linearity(portfolio([won("2026-04-01", 1), won("2026-04-08", 2), won("2026-06-30", 5)]), context=context())
    assert len(table) == 13
    assert table["won_amount"].tolist() == [1, 2, *[0] * 10, 5]
    assert table["cumulative_share"].iloc[-1] == pytest.approx(1)
    assert table["week_end"].iloc[-1] == pd.Timestamp("2026-06-30")
    basis = table.attrs["opp_basis"]
    assert basis["last_month_share"] == pytest.approx(5 / 8)
    assert basis["gini"] == pytest.approx(gini(table["won_amount"].to_numpy()))
    nothing = linearity(portfolio([won("2026-01-01", 1)]), context=context())
    assert nothing["share"].isna().all()


def test_gini__ends() -> None:
    """0 when even, 1 - 1/n when all is in one, missing when there is nothing."""
    assert gini(np.full(13, 7.0)) == pytest.approx(0)
    assert gini(np.array([0.0] * 12 + [3.0])) == pytest.approx(12 / 13)
    assert np.isnan(gini(np.zeros(3)))


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
