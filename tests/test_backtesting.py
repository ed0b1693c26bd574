"""Past periods forecast from what was known then, and scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from histories import LEAD, LOST, WON, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, HistoryNeededError
from opp_pandas.figures import forecast
from opp_pandas.figures.core.snapshots import context_from_load
from opp_pandas.forecasting import backtest, backtest_forecasts
from opp_pandas.forecasting.backtesting import METHODS

if TYPE_CHECKING:
    from opp_pandas.history import History

MONTHS = pd.period_range("2025-03", "2026-03", freq="M")


def deal(key: int, percent: int, close: Any, stage: int = LEAD, amount: int = 100) -> dict[str, Any]:
    return {"id": key, "amount": amount, "probability": percent, "stage_id": stage, "close_date": moment(close)}


def states(seed: int = 1, n: int = 15) -> dict[str, list[dict[str, Any]]]:
    """Each month n new deals, won as often as they say; seen on the evening before, on the 14th, and at its end."""
    rng = np.random.default_rng(seed)
    seen: dict[str, list[dict[str, Any]]] = {}
    settled: list[dict[str, Any]] = []
    for place, month in enumerate(MONTHS):
        fresh = [
            deal(place * n + key, int(rng.integers(5, 96)), month.start_time.date() + pd.Timedelta(days=20),
                 amount=int(rng.integers(1, 50)) * 1_000)
            for key in range(n)
        ]  # fmt: skip
        seen[str((month.start_time - pd.Timedelta(days=1)).date())] = [*settled, *fresh]
        done = [
            row | {"stage_id": WON if luck < row["probability"] else LOST, "close_date": moment(f"{month}-{day}")}
            for row, day, luck in zip(fresh, rng.integers(10, 28, n), rng.random(n) * 100, strict=True)
        ]  # fmt: skip
        half = [now if now["close_date"].day <= 14 else was for now, was in zip(done, fresh, strict=True)]
        seen[f"{month}-14"] = [*settled, *half]
        settled += done
    seen[str(MONTHS[-1].end_time.date())] = settled
    return seen


def recorded(seen: dict[str, list[dict[str, Any]]]) -> History:
    history = history_in_memory()
    for day, rows in seen.items():
        history.record(load_of(rows, f"{day}T22:00:00Z"))
    return history


@pytest.fixture(scope="module")
def seen() -> dict[str, list[dict[str, Any]]]:
    return states()


@pytest.fixture(scope="module")
def history(seen: dict[str, list[dict[str, Any]]]) -> History:
    return recorded(seen)


@pytest.fixture(scope="module")
def rows(history: History) -> pd.DataFrame:
    """Twelve months, forecast on the evening before and before the third week."""
    return backtest_forecasts(history, periods=12, weeks=(1, 3), freq="M")


def won_in(rows: list[dict[str, Any]], month: str) -> float:
    return float(sum(row["amount"] for row in rows if row["stage_id"] == WON and f"{row['close_date']:%Y-%m}" == month))


def test_backtest__forecasts_what_the_figures_would_have_said(
    seen: dict[str, list[dict[str, Any]]], rows: pd.DataFrame
) -> None:
    """Every method in every month, recomputed from the state of that evening and of the month's end."""
    end = seen[str(MONTHS[-1].end_time.date())]
    assert len(rows) == 12 * 2 * len(METHODS)
    shares: dict[int, list[float]] = {1: [], 3: []}
    for (month, week), group in rows.groupby(["period", "week"]):
        day = str(group["as_of"].iloc[0].date())
        frame = load_of(seen[day], f"{day}T22:00:00Z")
        found = group.set_index("method")
        table = forecast(frame, context=context_from_load(frame), freq="M").loc[str(month)]
        assert found.loc["weighted", "forecast"] == pytest.approx(table["forecast_amount"])
        assert (found["actual"] == won_in(end, str(month))).all()
        before = str(pd.Period(str(month)) - 1)
        assert found.loc["last_period", "forecast"] == won_in(end, before)
        assert found.loc["last_year", "forecast"] == won_in(end, str(pd.Period(str(month)) - 12))
        so_far = won_in(seen[day], str(month))
        past = shares[int(str(week))]
        if past:
            expected = so_far + table["open_amount"] * np.mean(past)
            assert found.loc["conversion", "forecast"] == pytest.approx(expected)
        else:
            assert np.isnan(found.loc["conversion", "forecast"])
        past.append((won_in(end, str(month)) - so_far) / table["open_amount"])


def test_backtest__knows_nothing_of_what_came_later(seen: dict[str, list[dict[str, Any]]], rows: pd.DataFrame) -> None:
    """Whatever happens after a month, its forecasts are the same."""
    other = states(seed=2)
    cut = "2025-10-31"
    mixed = {day: old if day <= cut else other[day] for day, old in seen.items()}
    again = backtest_forecasts(recorded(mixed), periods=12, weeks=(1, 3), freq="M")
    early, early_again = (table[table["as_of"] <= cut] for table in (rows, again))
    assert len(early) > 50
    pd.testing.assert_series_equal(early["forecast"], early_again["forecast"])


def test_backtest__learns_nothing_from_the_days_of_grace(seen: dict[str, list[dict[str, Any]]]) -> None:
    """Bookings that are taken 20 days after a month's end are unknown in those days: what they hold changes nothing."""
    other = states(seed=2)
    cut = "2025-10-31"
    mixed = {day: old if day <= cut else other[day] for day, old in seen.items()}
    one, two = (
        backtest_forecasts(recorded(each), periods=12, weeks=(1,), freq="M", grace_days=20) for each in (seen, mixed)
    )
    # October is over by then, but what it brought is taken in November.
    rows = [table[(table["as_of"] <= cut) & (table["method"] == "conversion")] for table in (one, two)]
    assert rows[0]["forecast"].notna().sum() > 3
    assert (rows[0]["as_of"] == cut).any()
    pd.testing.assert_series_equal(rows[0]["forecast"], rows[1]["forecast"])


def test_backtest__scores_are_those_of_its_rows(history: History, rows: pd.DataFrame) -> None:
    """WAPE, bias, CRPS skill and coverage recomputed; all of one week and method."""
    table = backtest(history, periods=12, weeks=(1, 3), freq="M")
    for (week, method), scores in table.iterrows():
        own = rows[(rows["week"] == week) & (rows["method"] == method)].dropna(subset="forecast")
        error = own["forecast"] - own["actual"]
        assert scores["periods"] == len(own)
        assert scores["wape"] == pytest.approx(error.abs().sum() / own["actual"].sum())
        assert scores["bias"] == pytest.approx(error.sum() / own["actual"].sum())
        assert scores["wape_low"] <= scores["wape"] <= scores["wape_high"]
        if method == "last_period":
            assert scores["crps_skill"] == 0
    basis = table.attrs["opp_basis"]
    # What is known of the deals beats what was won a month ago, the more the later one looks.
    assert basis["best"] == {"1": "weighted", "3": "weighted"}
    assert table.loc[(3, "weighted"), "wape"] < table.loc[(1, "weighted"), "wape"]
    assert table.loc[(1, "weighted"), "crps_skill"] > 0.2
    assert abs(table.loc[(1, "weighted"), "bias"]) < 0.1
    assert table.loc[(1, "weighted"), "inside_50"] < table.loc[(1, "weighted"), "inside_90"]
    assert 0.5 <= table.loc[(1, "weighted"), "inside_80"] <= 1
    assert table.loc[(1, "last_year"), "inside_80"] != table.loc[(1, "last_year"), "inside_80"]


def test_backtest__claims_no_winner_on_few_periods(history: History) -> None:
    """Seven are not enough, and the basis says so."""
    table = backtest(history, periods=7, weeks=(1,), freq="M")
    basis = table.attrs["opp_basis"]
    assert basis["best"] == {"1": None}
    assert "no method is called the best on fewer than 8 periods" in basis["notes"]
    named = backtest(history, periods=["2026-01", "2025-12"], weeks=(1,), freq="M")
    assert named.attrs["opp_basis"]["periods"] == ["2025-12", "2026-01"]


def test_backtest__begins_where_the_history_does(history: History) -> None:
    """Periods before the first snapshot are left out; if none is left it says so."""
    assert backtest(history, periods=40, weeks=(1,), freq="M").loc[(1, "weighted"), "periods"] == len(MONTHS)
    with pytest.raises(HistoryNeededError, match="the history begins after these periods did"):
        backtest(history, periods=["2024-06"], freq="M")
    with pytest.raises(HistoryNeededError, match="pass a History"):
        backtest(None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"periods": ["2026-04"]}, "2026-04 is not over yet"),
        ({"periods": 0}, "periods is a number of 1 or more"),
        ({"weeks": (0,)}, "1 the first"),
        ({"weeks": ()}, "1 the first"),
        ({"weeks": (6, 9)}, "no period has a week 6"),
        ({"grace_days": -1}, "grace_days must be 0 or more"),
    ],
)
def test_backtest__refuses_what_cannot_be_meant(history: History, options: dict[str, Any], words: str) -> None:
    """Wrong numbers, and periods whose bookings nobody knows."""
    with pytest.raises(ConfigurationError, match=words):
        backtest(history, freq="M", **options)


def test_backtest__names_periods_as_asked(history: History) -> None:
    """Years from February on, named after their start: the same forecasts under other names."""
    usual, named = (
        backtest_forecasts(history, periods=[period], weeks=(1,), freq="Q", fiscal_start=2, fiscal_label=label)
        for period, label in (("2026Q3", "end"), ("2025Q3", "start"))
    )
    assert set(named["period"]) == {"2025Q3"}
    pd.testing.assert_frame_equal(named.drop(columns="period"), usual.drop(columns="period"), check_flags=False)
