"""Win rates, deal size, cycle, velocity, key figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import kpis, shrink, velocity, wilson, win_rates
from opp_pandas.figures.core.totals import grouped_median
from opp_pandas.figures.proportions import fit_strength, rank_intervals
from portfolios import LEAD, LOST, OFFER, WON, context, portfolio, random_portfolio

FIXED = [
    "open_amount",
    "weighted_amount",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "win_rate_value",
    "average_won_amount",
    "median_cycle_days",
    "velocity_per_day",
]


def closed(stage: int, amount: int | None, created: str, close: str, owner: int = 7) -> dict[str, Any]:
    return {"amount": amount, "stage_id": stage, "created_at": created, "close_date": close, "owner_id": owner}


DEALS = [
    closed(WON, 100, "2026-01-01T00:00Z", "2026-01-31T12:00Z"),
    closed(WON, 300, "2026-01-01T00:00Z", "2026-03-02T12:00Z"),
    closed(WON, None, "2026-01-01T00:00Z", "2026-05-01T12:00Z"),
    closed(LOST, 600, "2026-01-01T00:00Z", "2026-05-02T12:00Z"),
    {"amount": 1000, "probability": 20, "stage_id": LEAD, "close_date": "2026-06-20T00:00Z", "owner_id": 8},
    {"amount": 500, "probability": 60, "stage_id": OFFER, "close_date": "2026-06-01T00:00Z", "owner_id": 8},
]


def test_wilson__golden() -> None:
    """6 of 20: definitions.md, §10."""
    low, high = wilson(6, 20)
    assert (round(float(low), 5), round(float(high), 5)) == (0.14548, 0.51897)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson__holds_the_share_and_stays_between_0_and_1(won: int, lost: int) -> None:
    """The interval holds the share; without trials there is none."""
    low, high = (float(end) for end in wilson(won, won + lost))
    if won + lost == 0:
        assert np.isnan(low)
        assert np.isnan(high)
    else:
        assert 0 <= low <= won / (won + lost) <= high <= 1


def test_shrink_and_velocity__golden() -> None:
    """Shrunk 3 of 5 and velocity: definitions.md, §10; no cycle, no velocity."""
    assert float(shrink(3, 5, 0.22, 20)) == pytest.approx(0.296)
    assert float(velocity(40, 0.25, 30_000, 60)) == 5_000
    assert np.isnan(velocity(40, 0.25, 30_000, 0))


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1e6, 1e6)), max_size=40))
def test_grouped_median__is_that_of_pandas(pairs: list[tuple[int, float]]) -> None:
    """Medians per group, missing where a group has no value."""
    codes, values = np.array([c for c, _ in pairs], dtype=np.intp), np.array([v for _, v in pairs], dtype=float)
    expected = pd.Series(values).groupby(codes).median().reindex(range(5)).to_numpy()
    np.testing.assert_allclose(grouped_median(codes, values, 5), expected, rtol=1e-12)


def test_kpis__one_row_of_everything() -> None:
    """Counts, sums and rates of a small portfolio, by hand."""
    table = kpis(portfolio(DEALS), context=context())
    assert len(table) == 1
    assert set(FIXED) <= set(table.columns)
    row = table.iloc[0]
    assert row[["open_count", "open_amount", "weighted_amount"]].tolist() == [2, 1500, 500]
    assert row[["overdue_count", "overdue_amount"]].tolist() == [1, 500]
    assert row[["won_count", "lost_count", "win_rate", "won_amount"]].tolist() == [3, 1, 0.75, 400]
    assert row["win_rate_value"] == pytest.approx(400 / 1000)
    assert row[["average_won_amount", "median_won_amount"]].tolist() == [200, 200]
    assert row["median_cycle_days"] == 60
    assert row["velocity_per_day"] == pytest.approx(2 * 0.75 * 200 / 60)
    assert row["missing_amount_count"] == 1


def test_win_rate_value__of_lost_deals_without_amounts_says_nothing_and_says_so() -> None:
    """Where amounts of lost deals are set to 0 or blank the rate by value is 1 whatever was lost: the basis says it."""
    lost = [{**row, "amount": amount} for row in DEALS if row["stage_id"] == LOST for amount in (0, None)]
    won = [row for row in DEALS if row["stage_id"] == WON]
    for figure in (kpis, win_rates):
        table = figure(portfolio([*won, *lost]), context=context())
        assert table["win_rate_value"].tolist() == [1.0]
        assert any("win_rate_value is 1" in note for note in table.attrs["opp_basis"]["notes"])
        for other in (DEALS, won):
            notes = figure(portfolio(other), context=context()).attrs["opp_basis"]["notes"]
            assert not any("win_rate_value" in note for note in notes)


def test_kpis__external_creation_goes_before_the_services() -> None:
    """CreatedAt may be the day of the first sync; the outside system's date counts where it is known."""
    rows = [{**DEALS[0], "external_created_at": "2026-01-21T00:00Z"}, {**DEALS[1], "external_created_at": None}]
    assert kpis(portfolio(rows), context=context())["median_cycle_days"].tolist() == [(10 + 60) / 2]


def test_kpis__nothing_to_divide_by_is_missing_not_zero() -> None:
    """No closed deals: rates are missing; no creation date: no cycle, said in the basis."""
    table = kpis(portfolio(DEALS[4:]), context=context())
    assert table[["win_rate", "win_rate_value", "average_won_amount", "velocity_per_day"]].isna().all(axis=None)
    assert any("no cycle" in note for note in table.attrs["opp_basis"]["notes"])
    empty = kpis(portfolio(DEALS).iloc[:0], context=context())
    assert empty.dtypes.to_dict() == table.dtypes.to_dict()
    assert len(empty) == 1
    assert len(kpis(portfolio(DEALS).iloc[:0], context=context(), by="owner_name")) == 0


def test_kpis__window_takes_closed_deals_of_the_last_days() -> None:
    """window_days counts back from as_of, both ends included."""
    frame = portfolio(DEALS)
    assert kpis(frame, context=context(), window_days=46)["won_count"].tolist() == [1]
    assert kpis(frame, context=context(), window_days=45)["won_count"].tolist() == [0]
    with pytest.raises(ConfigurationError, match="window_days"):
        kpis(frame, context=context(), window_days=0)


def test_kpis__quota_golden() -> None:
    """OP 250k, Q 200k, B 80k: coverage 2.0833; needed at a win rate of 25 %: 480k."""
    rows = [
        closed(WON, 80_000, "2026-01-01T00:00Z", "2026-05-01T12:00Z"),
        *[closed(LOST, 1, "2026-01-01T00:00Z", "2026-05-01T12:00Z")] * 3,
        {"amount": 250_000, "stage_id": LEAD, "close_date": "2026-06-30T00:00Z", "owner_id": 7},
        {"amount": 9_000, "stage_id": LEAD, "close_date": "2026-07-01T00:00Z", "owner_id": 7},
    ]
    row = kpis(portfolio(rows), context=context(), quota=200_000).iloc[0]
    assert row["coverage"] == pytest.approx(2.0833, abs=5e-5)
    assert row["pipeline_needed"] == pytest.approx(480_000)
    assert row[["attainment", "gap"]].tolist() == [0.4, 120_000]
    reached = kpis(portfolio(rows), context=context(), quota={"Sam Lee": 80_000}, by="owner_name", period="2026Q2")
    assert np.isinf(reached["coverage"].iloc[0])
    assert reached["pipeline_needed"].iloc[0] == 0
    with pytest.raises(ConfigurationError, match="period="):
        kpis(portfolio(rows), context=context(), period="2026Q2")


def test_kpis__one_quota_for_everybody_makes_no_groups_without_deals() -> None:
    """Two groupings have rows for the pairs that occur; a pair that a mapping names has its row."""
    lead = {"amount": 10, "stage_id": LEAD, "close_date": "2026-06-30T00:00Z"}
    frame = portfolio([{**lead, "owner_id": 7, "account_id": 1}, {**lead, "owner_id": 8, "account_id": 2}])
    by = ["owner_name", "account_id"]
    pairs = [("Ada Byron", 2), ("Sam Lee", 1)]
    assert kpis(frame, context=context(), by=by).index.tolist() == pairs
    assert kpis(frame, context=context(), by=by, quota=100).index.tolist() == pairs
    named = kpis(frame, context=context(), by=by, quota={("Sam Lee", 2): 100})
    assert named.index.tolist() == [*pairs, ("Sam Lee", 2)]


def test_kpis__groups_add_up_to_the_whole() -> None:
    """Counts and sums by owner together are those of all."""
    frame = random_portfolio(6)
    whole, by_owner = kpis(frame, context=context()), kpis(frame, context=context(), by="owner_name")
    columns = [
        "open_count",
        "open_amount",
        "weighted_amount",
        "won_count",
        "lost_count",
        "won_amount",
        "overdue_amount",
    ]
    np.testing.assert_allclose(by_owner[columns].sum().to_numpy(), whole[columns].iloc[0].to_numpy(), rtol=1e-12)


def test_win_rates__rank_what_differences_tell_apart() -> None:
    """Clear groups have a rank; a small one between them may have any place."""
    rows = []
    for owner, won, lost in ((7, 90, 10), (8, 10, 90), (9, 1, 1)):
        rows += [closed(WON, 1, "2026-01-01T00:00Z", "2026-05-01T12:00Z", owner)] * won
        rows += [closed(LOST, 1, "2026-01-01T00:00Z", "2026-05-01T12:00Z", owner)] * lost
    clear = win_rates(portfolio(rows[:200]), context=context(), by="owner_id")
    assert clear["rank"].tolist() == [1, 2]
    mixed = win_rates(portfolio(rows), context=context(), by="owner_id", shrink_by=20)
    assert mixed[["rank_low", "rank_high"]].to_numpy().tolist() == [[1, 2], [2, 3], [1, 3]]
    assert mixed["rank"].isna().all()
    assert mixed.loc[9, "shrunk_rate"] == pytest.approx((1 + 20 * 101 / 202) / 22)
    alone = win_rates(portfolio(rows[:100]), context=context(), by="owner_id")
    assert alone[["rank", "rank_low", "rank_high"]].isna().all(axis=None)


def test_rank_intervals__hold_the_true_places() -> None:
    """Eight reps from 15 to 65 %: the true place is inside for 95 % of them, and most places are ruled out."""
    rng = np.random.default_rng(8)
    truth = np.linspace(0.15, 0.65, 8)[::-1]
    inside, widths = [], []
    for _ in range(300):
        low, high = rank_intervals(rng.binomial(100, truth), np.full(8, 100))
        inside.append(((low <= np.arange(1, 9)) & (high >= np.arange(1, 9))).mean())
        widths.append((high - low + 1).mean())
    assert np.mean(inside) >= 0.95
    assert np.mean(widths) < 5


def test_rank_intervals__groups_alike_may_have_any_place() -> None:
    """The counts decide, not the order; groups without closed deals are out of the comparison."""
    low, high = rank_intervals([5, 5, 0, 5], [10, 10, 0, 10])
    assert low.fillna(0).tolist() == [1, 1, 0, 1]
    assert high.fillna(0).tolist() == [3, 3, 0, 3]


LATER = [
    closed(WON, 100, "2026-01-01T00:00Z", "2026-02-01T12:00Z"),
    closed(WON, 100, "2026-01-01T00:00Z", "2026-03-01T12:00Z"),
    closed(LOST, 100, "2026-01-01T00:00Z", "2026-03-05T12:00Z"),
]


@pytest.mark.parametrize("figure", [kpis, win_rates])
@pytest.mark.parametrize("window", [None, 365])
def test_rates__what_closes_after_as_of_is_not_closed_yet(figure: Any, window: int | None) -> None:
    """At 10 February one deal is won; what closes in March is left out, counted and said."""
    table = figure(portfolio(LATER), context=context(as_of="2026-02-10T00:00Z"), window_days=window)
    row, basis = table.iloc[0], table.attrs["opp_basis"]
    assert row[["won_count", "lost_count", "win_rate"]].tolist() == [1, 0, 1.0]
    assert basis["n_closed_later"] == 2
    assert any("2 won or lost deals with a close date after as_of" in note for note in basis["notes"])
    everything = figure(portfolio(LATER), context=context(), window_days=window)
    assert everything["win_rate"].iloc[0] == pytest.approx(2 / 3)
    assert everything.attrs["opp_basis"]["n_closed_later"] == 0


def test_kpis__a_quota_is_attained_by_what_is_won_by_as_of() -> None:
    """A deal that closes later in the period attains nothing yet."""
    row = kpis(portfolio(LATER), context=context(as_of="2026-02-10T00:00Z"), quota=400).iloc[0]
    assert row[["period_won_amount", "attainment", "gap"]].tolist() == [100, 0.25, 300]


def test_win_rates__overdue_is_a_variant_by_name() -> None:
    """W / (W + L + overdue) stands beside W / (W + L)."""
    row = win_rates(portfolio(DEALS), context=context()).iloc[0]
    assert (row["win_rate"], row["win_rate_with_overdue"]) == (0.75, 0.6)
    assert win_rates(portfolio(DEALS).iloc[:0], context=context())["win_rate"].isna().all()


def test_fit_strength__finds_what_the_groups_were_drawn_with() -> None:
    """400 groups around 30 %, as if 20 deals were known of each: fitted within a third, and better than raw rates."""
    rng = np.random.default_rng(4)
    true = rng.beta(0.3 * 20, 0.7 * 20, 400)
    n = rng.integers(1, 40, 400)
    won = rng.binomial(n, true)
    fitted = fit_strength(won, n)
    assert 20 / 1.33 < fitted < 20 * 1.33
    rate = won.sum() / n.sum()
    error = np.mean((shrink(won, n, rate, fitted) - true) ** 2)
    assert error < 0.5 * np.mean((won / n - true) ** 2)


def test_fit_strength__of_groups_without_a_difference_is_infinite() -> None:
    """One rate for all, exactly; and where nothing can be told, it is missing."""
    assert fit_strength([3, 6, 9], [10, 20, 30]) == np.inf
    assert shrink([3, 6], [10, 20], 0.3, np.inf).tolist() == [0.3, 0.3]
    assert fit_strength([10, 0], [10, 10]) == 0
    for won, n in (([1], [2]), ([0, 0], [5, 5]), ([5, 5], [5, 5]), ([], []), ([1, 0], [2, 0])):
        assert np.isnan(fit_strength(won, n))


def test_win_rates__where_every_group_stands_for_itself_a_group_without_closed_deals_has_no_rate() -> None:
    """Nothing to divide by is missing, without a warning of numpy's."""
    rows = [
        closed(stage, 100, "2026-01-01T00:00Z", "2026-05-01T12:00Z", owner) for stage, owner in ((WON, 7), (LOST, 8))
    ]
    late = {"amount": 5, "stage_id": LEAD, "close_date": "2026-06-01T00:00Z", "owner_id": 9}
    table = win_rates(portfolio([*rows * 3, late]), context=context(), by="owner_id", shrink_by="fit")
    assert table.attrs["opp_basis"]["shrunk_by"] == 0
    assert table["shrunk_rate"].tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)


def test_win_rates__are_shrunk_as_far_as_the_groups_tell() -> None:
    """The fitted strength stands in the basis; nonsense is refused."""
    frame = random_portfolio(21)
    table = win_rates(frame, context=context(), by="owner_name", shrink_by="fit")
    closed = table["won_count"] + table["lost_count"]
    strength = table.attrs["opp_basis"]["shrunk_by"]
    assert strength in (fit_strength(table["won_count"], closed), "inf")
    overall = table["won_count"].sum() / closed.sum()
    expected = shrink(table["won_count"], closed, overall, float(strength))
    assert table["shrunk_rate"].to_numpy() == pytest.approx(expected)
    for wrong in (0, -1, "most", True):
        with pytest.raises(ConfigurationError, match="shrink_by must be a number above 0, or 'fit'"):
            win_rates(frame, context=context(), shrink_by=wrong)
