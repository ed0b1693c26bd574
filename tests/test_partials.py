"""Figures worked out in pieces."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError, MixedCurrencyError
from opp_pandas.figures import forecast, kpis, stage_distribution
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.figure import FIGURES
from opp_pandas.figures.core.totals import Addends, Histogram, combine_parts
from opp_pandas.forecasting.distribution import bookings
from opp_pandas.scanning.mergeable import mergeable
from portfolios import context, portfolio, random_portfolio

# A figure that is not named here is tried as it is by itself.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "forecast": [
        {"freq": "M", "by": ["owner_name", "stage_name"], "overdue": "roll_forward"},
        {"freq": "W", "by": "account_name", "quota": 1_000.0, "timezone": None},
        {"quota": {"2026Q2": 90_000}, "probability": "own_else_stage"},
    ],
    "stage_distribution": [{}, {"by": ["owner_id", "category"]}],
    "category_forecast": [{"by": "owner_name"}, {"bands": (80, 40)}],
    "rollup": [{"by": "account_name"}, {"period": "2026Q2", "overdue": "roll_forward"}, {"tree": {7: 8, 9: 8}}],
    "kpis": [{}, {"by": "owner_name", "quota": 100_000, "period": "2026Q2", "window_days": 90}],
    "win_rates": [{"by": ["owner_name"], "shrink_by": "fit"}, {"by": "account_id", "window_days": 200}],
    "concentration": [{}, {"by": "owner_name", "measure": "won_amount"}, {"measure": "weighted_amount"}],
    "hygiene": [{}, {"checks": ["old", "zombie", "outlier", "no_amount"]}, {"stale_days": 3, "rates": {"USD": 1.0}}],
    "bookings": [{}, {"period": "2026Q2", "overdue": "include"}],
}
TRIED = [(name, each) for name in sorted(mergeable()) for each in OPTIONS.get(name, [{}])]


def in_pieces(name: str, frame: pd.DataFrame, ends: list[int], **options: Any) -> Any:
    """The figure from parts that were pickled, the first two combined before."""
    stands_on = context(timezone=options.pop("timezone", "UTC"))
    pieces = [frame.iloc[a:b] for a, b in zip([0, *ends], [*ends, len(frame)], strict=True)]
    figure = FIGURES[name]
    survey = None
    if figure.survey is not None:
        survey = combine_parts([figure.partial_survey(piece, context=stands_on, **options) for piece in pieces])
    parts = [
        pickle.loads(pickle.dumps(figure.partial(piece, context=stands_on, survey=survey, **options)))  # noqa: S301
        for piece in pieces
    ]
    return figure.merge([combine_parts(parts[:2]), *parts[2:]], context=stands_on, **options)


def whole(name: str, frame: pd.DataFrame, **options: Any) -> Any:
    return FIGURES[name](frame, context=context(timezone=options.pop("timezone", "UTC")), **options)


@pytest.mark.parametrize(("name", "options"), [pytest.param(name, each, id=f"{name}-{each}") for name, each in TRIED])
@settings(max_examples=5)
@given(
    seed=st.integers(0, 9),
    ends=st.lists(st.integers(0, 200), max_size=5).map(sorted),
    names=st.sampled_from(["both", "ids", "names"]),
)
def test_merged_figures__equal_the_figure_of_all_deals(
    name: str, options: dict[str, Any], seed: int, ends: list[int], names: str
) -> None:
    """For any split, empty pieces too: counts and whole sums to the last bit, the rest to 1e-12, and one basis."""
    frame = random_portfolio(seed, 200)
    rng = np.random.default_rng(seed)
    frame["owner_id"] = frame["owner_id"].mask(rng.random(200) < 0.2)
    frame["owner_name"] = pd.Series(rng.choice(["Ada Byron", "Sam Lee", "Eve"], 200), dtype="str")
    if names == "names" and "tree" not in options:
        frame = frame.assign(owner_id=pd.array([None] * 200, dtype="Int64"))
    if names == "ids":
        frame = frame.drop(columns="owner_name")
    found, expected = in_pieces(name, frame, ends, **options), whole(name, frame, **options)
    if name == "bookings":
        assert (found.mean, found.sd) == pytest.approx((expected.mean, expected.sd), rel=1e-12)
        found, expected = found.attrs, expected.attrs
        assert found["opp_basis"] == expected["opp_basis"]
        return
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=0)
    for column in expected.columns[expected.dtypes == "int64"]:
        assert found[column].tolist() == expected[column].tolist()
    assert without_floats(found.attrs) == without_floats(expected.attrs)


def without_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_floats(each) for each in value]
    return f"{value:.10g}" if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("amounts", "exact"),
    [([2**53 - 1, 1, 2**53 - 1], 2**54 - 1), ([0.1, 0.2, 0.3], 0.6), ([10**9 + 0.07, -0.05, -0.01], 10**9 + 0.01)],
)
def test_merged_sums__keep_the_last_digit(amounts: list[float], exact: float) -> None:
    """Sums beyond what floats hold stay whole numbers; cents are added as cents, in whatever order they come."""
    frame = portfolio([{"amount": amount, "stage_id": 1, "probability": 50} for amount in amounts])
    for shuffled in (frame, frame.iloc[::-1]):
        for found in (in_pieces("stage_distribution", shuffled, [1, 2]), whole("stage_distribution", shuffled)):
            assert found["amount"].iloc[0] == exact


def test_merge__currencies_of_several_pieces_do_not_add_up() -> None:
    """Each piece has one currency, and all of them together two."""
    frame = portfolio([{"amount": 1, "stage_id": 1, "currency_type": code} for code in ("USD", "EUR")])
    for name in ("stage_distribution", "kpis", "bookings"):
        dated = frame.assign(close_date=pd.Timestamp("2026-05-01", tz="UTC"))
        with pytest.raises(MixedCurrencyError, match="EUR: 1 row"):
            in_pieces(name, dated, [1])


def test_partial__of_a_figure_that_needs_all_deals_says_so() -> None:
    """Ages and the like are no sums."""
    with pytest.raises(ConfigurationError, match="needs to see all deals"):
        FIGURES["ageing"].partial(random_portfolio(0, 5), context=context())
    with pytest.raises(ConfigurationError, match="no part"):
        forecast.merge([], context=context())
    with pytest.raises(TypeError, match="did you mean 'window_days'"):
        kpis.partial(random_portfolio(0, 5), context=context(), window_day=3)


def test_medians__of_very_many_different_amounts_are_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only then: amounts are rounded to twelve binary digits, days are not, and the basis says so."""
    monkeypatch.setattr("opp_pandas.figures.core.totals.MOST_VALUES", 10)
    frame = random_portfolio(4, 300)
    one, many = whole("kpis", frame), in_pieces("kpis", frame, [100, 200])
    assert many["median_cycle_days"].tolist() == one["median_cycle_days"].tolist()
    assert many["median_won_amount"].iloc[0] == pytest.approx(one["median_won_amount"].iloc[0], rel=1 / 4_096)
    assert any("1 part in 4,096" in note for note in many.attrs["opp_basis"]["notes"])
    assert not any("4,096" in note for note in one.attrs["opp_basis"]["notes"])


def test_parts__are_small() -> None:
    """A part holds cells, not rows: ten times the deals make a part that is hardly larger."""
    few, many = random_portfolio(0, 2_000), random_portfolio(0, 20_000)
    for figure in (forecast, stage_distribution):
        sizes = [len(pickle.dumps(figure.partial(frame, context=context(), by="owner_id"))) for frame in (few, many)]
        assert sizes[1] < 1.3 * sizes[0]
    assert bookings.gather is not None
    assert Histogram.counted([], np.arange(3), np.array([1.0, 2.0, 1.0])).counts.tolist() == [2, 1]


@pytest.mark.parametrize("n", [0, 1, 400])
@pytest.mark.parametrize("size", [7, 2**62])
@pytest.mark.parametrize("amount", [1, 2**61, 0.25, 1 / 3])
def test_sums__are_the_same_however_deals_of_a_cell_are_brought_together(n: int, size: int, amount: float) -> None:
    """Added where they belong, or sorted first: whole numbers, cents and others, and cells beyond any table."""
    frame = random_portfolio(3).iloc[:n]
    addends = Addends.of(Deals(frame.assign(amount=frame["amount"].astype("Float64") * amount), context()))
    cells = np.random.default_rng(n).integers(0, 7, n)
    expected = addends.into(lambda rows: cells[rows], 7)
    some = np.flatnonzero(expected["count"])
    found, sums = addends.sorted(lambda rows: cells[rows], size)
    assert found.tolist() == some.tolist()
    assert {name: values.dtype for name, values in sums.items()} == {name: v.dtype for name, v in expected.items()}
    for name, values in sums.items():
        np.testing.assert_allclose(values, expected[name][some], rtol=1e-12)
