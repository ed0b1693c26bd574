"""The distribution of bookings: golden numbers and exactness."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import forecast, show
from opp_pandas.forecasting import Bookings, bookings
from opp_pandas.forecasting.normal import normal_cdf, normal_quantile
from portfolios import LEAD, WON, context, portfolio, random_portfolio

AMOUNTS = np.array([100_000.0, 50_000.0, 20_000.0, 80_000.0])
CHANCES = np.array([0.5, 0.8, 0.1, 0.25])


def test_bookings__golden_numbers() -> None:
    """The vectors of definitions.md, §10."""
    found = Bookings(AMOUNTS, CHANCES)
    assert found.mean == pytest.approx(112_000)
    assert found.sd == pytest.approx(64_311.7408, abs=1e-4)
    assert [found.quantile(q) for q in (0.1, 0.25, 0.5, 0.75, 0.9)] == [50e3, 50e3, 130e3, 150e3, 200e3]
    assert found.p_at_least(120e3) == pytest.approx(0.5325)
    assert found.crps(130e3) == pytest.approx(18_767.5)
    assert found.wins.tolist() == pytest.approx([0.0675, 0.3675, 0.4225, 0.1325, 0.01])
    assert found.exact


def test_bookings__golden_correlation() -> None:
    """A common luck of rho 0.1 keeps the mean and widens the spread."""
    found = Bookings(AMOUNTS, CHANCES, rho=0.1)
    assert found.mean == pytest.approx(112_000)
    assert found.sd == pytest.approx(67_644.691, abs=1e-3)
    values = found.pmf
    assert (values * values.index).sum() == pytest.approx(112_000)


@pytest.mark.parametrize(("rho", "cv"), [(0.0, 0.0), (0.1, 0.0), (0.4, 0.3)])
def test_bookings__of_many_deals_equals_simulation(rho: float, cv: float) -> None:
    """Draws of a common luck and of each deal's own fall as the distribution says; cents, large deals, sure ones."""
    rng = np.random.default_rng(7)
    amounts = np.round(np.append(rng.lognormal(10, 1.2, 400), [2e6, -3e4]), 2)
    chances = np.append(rng.beta(1, 3, 398), [0.0, 1.0, 0.3, 0.5])
    found = Bookings(amounts, chances, 1e5, rho=rho, cv=cv)
    normal = NormalDist()
    needed = np.array([normal.inv_cdf(p) if 0 < p < 1 else np.inf * (2 * p - 1) for p in chances])
    sums = []
    for _ in range(20):
        luck = rng.normal(size=(1_000, 1)) * np.sqrt(rho) + rng.normal(size=(1_000, len(amounts))) * np.sqrt(1 - rho)
        sizes = amounts * (1 + cv * rng.choice([-1, 1], size=luck.shape))
        sums.append(1e5 + np.where(luck < needed, sizes, 0).sum(axis=1))
    drawn = np.concatenate(sums)
    for q in (0.02, 0.1, 0.5, 0.9, 0.98):
        assert (drawn <= found.quantile(q)).mean() == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q) / len(drawn)) + 2e-3)
    assert found.mean == pytest.approx(1e5 + (amounts * chances).sum())
    assert found.sd == pytest.approx(drawn.std(), rel=0.03)


@pytest.mark.parametrize("rho", [0.1, 0.3])
def test_bookings__of_many_deals_are_the_average_over_their_common_luck(rho: float) -> None:
    """What stands between two values of the common luck is what multiplying out there gives; the mean stays."""
    rng = np.random.default_rng(5)
    amounts, chances = np.round(rng.lognormal(9, 1, 200), 2), rng.beta(1, 4, 200)
    found, whole = Bookings(amounts, chances, rho=rho), np.zeros(4)
    points = found.quantile(0.5) * np.array([0.5, 0.9, 1.3, 2.0])
    luck = np.linspace(-5, 5, 61)
    for value, weight in zip(luck, np.exp(-(luck**2) / 2) / np.exp(-(luck**2) / 2).sum(), strict=True):
        given = normal_cdf((normal_quantile(chances) + np.sqrt(rho) * value) / np.sqrt(1 - rho))
        whole += weight * np.array([Bookings(amounts, given).p_at_least(point) for point in points])
    assert np.array([found.p_at_least(point) for point in points]) == pytest.approx(whole, abs=2e-3)
    assert (found.pmf * found.pmf.index).sum() == pytest.approx(found.mean, rel=1e-5)


@pytest.mark.parametrize("rho", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_bookings__of_thousands_of_correlated_deals_equals_simulation(rho: float, spread: float) -> None:
    """Of one amount or many: drawn at evenly spaced values of the common luck they fall as it says."""
    rng = np.random.default_rng(11)
    amounts, chances = np.round(rng.lognormal(9, spread, 2_000), 2), rng.beta(1, 3, 2_000)
    found, needed, drawn = Bookings(amounts, chances, 1e5, rho=rho), normal_quantile(chances), []
    for luck in normal_quantile((np.arange(1_000) + 0.5) / 1_000):
        given = normal_cdf((needed + np.sqrt(rho) * luck) / np.sqrt(1 - rho))
        drawn.append(1e5 + amounts[rng.random(len(amounts)) < given].sum())
    near = found.sd / 128
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert np.mean(np.array(drawn) <= found.quantile(q) + near) >= q - 5e-3
        assert np.mean(np.array(drawn) < found.quantile(q) - near) <= q + 5e-3
    values = found.pmf
    assert values.index[0] >= 1e5
    assert (values * values.index).sum() == pytest.approx(found.mean, rel=1e-4)


def test_normal__equals_the_library() -> None:
    """To 1e-13 wherever it is asked, far out too, and exactly at the infinities."""
    normal, rng = NormalDist(), np.random.default_rng(3)
    values = np.append(rng.uniform(-12, 12, 20_000), [0.0, 9.0, -9.0, np.inf, -np.inf])
    assert normal_cdf(values) == pytest.approx(np.array([normal.cdf(value) for value in values]), abs=1e-13)
    assert normal_cdf(np.array([np.inf, -np.inf])).tolist() == [1.0, 0.0]
    chances = np.append(rng.uniform(0, 1, 20_000), [1e-12, 1e-6, 0.5, 1 - 1e-6])
    assert normal_quantile(chances) == pytest.approx(np.array([normal.inv_cdf(p) for p in chances]), abs=1e-7)
    assert normal_quantile(np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]


@given(
    st.lists(st.tuples(st.integers(-50, 200), st.integers(0, 100)), max_size=9),
    st.integers(0, 500),
    st.integers(-100, 900),
)
def test_bookings__equals_counting_every_outcome(pairs: list[tuple[int, int]], won: int, target: int) -> None:
    """For a few deals, the distribution is that of all 2^n outcomes."""
    amounts, chances = np.array([a for a, _ in pairs], float), np.array([p for _, p in pairs]) / 100
    found = Bookings(amounts, chances, float(won))
    outcomes: dict[float, float] = {}
    for wins in itertools.product((0, 1), repeat=len(pairs)):
        total = won + sum(a for a, w in zip(amounts, wins, strict=True) if w)
        p = float(np.prod([q if w else 1 - q for q, w in zip(chances, wins, strict=True)]))
        outcomes[total] = outcomes.get(total, 0.0) + p
    assert found.p_at_least(target) == pytest.approx(sum(p for x, p in outcomes.items() if x >= target), abs=1e-9)
    assert found.mean == pytest.approx(sum(x * p for x, p in outcomes.items()))
    assert found.shortfall(target) == pytest.approx(sum(max(target - x, 0) * p for x, p in outcomes.items()), abs=1e-6)
    # Ties of probabilities that differ by rounding only may fall either way.
    for q in (0.137, 0.5021, 0.9):
        reached = np.cumsum([outcomes[x] for x in sorted(outcomes)])
        if np.min(np.abs(reached - q)) > 1e-9:
            assert found.quantile(q) == pytest.approx(sorted(outcomes)[int(np.searchsorted(reached, q))])


@pytest.mark.parametrize("n", [40, 700])
def test_bookings__grid_keeps_mean_and_spread(n: int) -> None:
    """Odd amounts are put on a grid: the mean stays, the spread is right to a few parts in ten thousand."""
    rng = np.random.default_rng(n)
    found = Bookings(rng.lognormal(10, 1.2, n), rng.uniform(0.02, 0.98, n))
    assert not found.exact
    values = found.pmf
    mean = float((values * values.index).sum())
    sd = float(np.sqrt((values * (values.index - mean) ** 2).sum()))
    assert mean == pytest.approx(found.mean, rel=1e-9)
    assert sd == pytest.approx(found.sd, rel=2e-4)


def test_bookings__a_rare_whale_is_not_cut_off() -> None:
    """One chance in a thousand of a deal far beyond eight standard deviations stays in the tail."""
    found = Bookings(np.array([1e9, *[1000.0] * 50]), np.array([0.001, *[0.5] * 50]))
    assert found.p_at_least(9e8) == pytest.approx(0.001, rel=1e-6)


def test_bookings__uncertain_amounts_add_their_variance() -> None:
    """Var += sum of p a^2 cv^2."""
    found = Bookings(AMOUNTS, CHANCES, cv=0.2)
    expected = np.sum(AMOUNTS**2 * CHANCES * (1 - CHANCES)) + np.sum(CHANCES * AMOUNTS**2 * 0.04)
    assert found.sd == pytest.approx(np.sqrt(expected))
    values = found.pmf
    assert float(np.sqrt((values * (values.index - found.mean) ** 2).sum())) == pytest.approx(found.sd, rel=2e-4)


def test_bookings__drivers_are_the_deals_that_move_the_chance() -> None:
    """Without its largest likely deal the chance falls most."""
    moved = Bookings(AMOUNTS, CHANCES).drivers(120e3)
    assert moved.index[0] == 1
    assert moved.loc[1, "p_moved"] == pytest.approx(0.5325 - 0.1625)


def test_bookings__of_a_period_has_the_forecast_as_its_mean() -> None:
    """bookings(period).mean is forecast_amount; without a period it is the whole weighted amount."""
    frame = random_portfolio(3)
    table = forecast(frame, context=context())
    for period in ("2026Q1", "2026Q2", "2026Q3"):
        for overdue in ("exclude", "include", "roll_forward"):
            expected = forecast(frame, context=context(), overdue=overdue).loc[period, "forecast_amount"]
            assert bookings(frame, context=context(), period=period, overdue=overdue).mean == pytest.approx(expected)
    assert bookings(frame, context=context()).mean == pytest.approx(table["weighted_amount"].sum())


def test_bookings__says_that_independence_is_too_narrow() -> None:
    """The basis and the repr say so; deals without amount or probability are counted out."""
    rows = [
        {"amount": 100, "probability": 50, "close_date": "2026-06-20T12:00Z", "stage_id": LEAD},
        {"amount": 100, "probability": None, "close_date": "2026-06-20T12:00Z", "stage_id": LEAD},
        {"amount": 70, "probability": 50, "close_date": "2026-06-01T12:00Z", "stage_id": WON},
    ]
    found = bookings(portfolio(rows), context=context(), period="2026Q2")
    basis = found.attrs["opp_basis"]
    assert "too narrow" in basis["title"]
    assert "too narrow" in repr(found)
    assert any("left out" in note for note in basis["notes"])
    assert (found.won_amount, found.mean, basis["n_deals"]) == (70.0, 120.0, 1)
    assert "too narrow" in show(found).text


def test_bookings__nothing_open_is_what_was_won() -> None:
    """No open deals: everything at the amount won."""
    found = Bookings(np.empty(0), np.empty(0), 5.0)
    assert (found.mean, found.sd, found.quantile(0.3), found.p_at_least(5.0), found.p_at_least(6.0)) == (5, 0, 5, 1, 0)
    assert bookings(random_portfolio(1).iloc[:0], context=context()).mean == 0


@pytest.mark.parametrize(
    "change",
    [{"rho": 1.0}, {"cv": -0.1}, {"chances": CHANCES * 100}, {"amounts": AMOUNTS * np.nan}, {"amounts": AMOUNTS[:2]}],
)
def test_bookings__bad_input_is_refused(change: dict[str, object]) -> None:
    """Percentages for chances, missing amounts and correlations of 1 are errors."""
    with pytest.raises(ConfigurationError):
        Bookings(**({"amounts": AMOUNTS, "chances": CHANCES} | change))
    with pytest.raises(ConfigurationError):
        Bookings(AMOUNTS, CHANCES).quantile(50)


@pytest.mark.nightly
def test_bookings__intervals_cover_what_they_say() -> None:
    """Over 2,000 draws from the truth, the 80 % interval holds about 80 %."""
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(2_000):
        amounts, chances = np.round(rng.lognormal(9, 1, 30)), rng.uniform(0.05, 0.95, 30)
        low, high = Bookings(amounts, chances).interval(0.8)
        inside += low <= float((amounts * (rng.uniform(size=30) < chances)).sum()) <= high
    assert 0.77 <= inside / 2_000 <= 0.83


def test_bookings__table_has_the_usual_quantiles() -> None:
    """to_frame() gives one row of mean, spread and quantiles."""
    row = Bookings(AMOUNTS, CHANCES).to_frame()
    assert row[["p10", "p50", "p90"]].iloc[0].tolist() == [50e3, 130e3, 200e3]
    assert isinstance(row, pd.DataFrame)


def test_p_at_least__of_no_amount_is_missing_and_of_infinity_certain() -> None:
    """The quota of a group that has none is missing, and so is the chance to reach it."""
    result = bookings(random_portfolio(3, 75), context=context())
    assert np.isnan(result.p_at_least(np.nan))
    assert np.isnan(result.p_at_least(pd.NA))  # type: ignore[arg-type]
    assert (result.p_at_least(np.inf), result.p_at_least(-np.inf)) == (0.0, 1.0)
