"""Forecast, roll-up and rates recomputed in SQL, independently of the package's arithmetic."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

from opp_pandas.figures import forecast, kpis, rollup, stage_distribution, win_rates
from portfolios import AS_OF, LOST, OFFER, WON, context, random_portfolio

SEEDS = [1, 2, 3]
ZONE = "America/New_York"
# One row per deal with its meaning; everything below only filters and adds.
DEALS = f"""
    SELECT *,
        CASE stage_id WHEN {WON} THEN 'won' WHEN {LOST} THEN 'lost' ELSE 'open' END AS status,
        CAST(timezone('{ZONE}', close_date) AS DATE) AS day,
        CAST(timezone('{ZONE}', created_at) AS DATE) AS created,
        CAST(timezone('{ZONE}', TIMESTAMPTZ '{AS_OF.isoformat()}') AS DATE) AS today,
        CASE WHEN probability BETWEEN 0 AND 100 THEN probability END AS percent,
        coalesce(forecast_category = 'Omitted', false) AND stage_id IS DISTINCT FROM {WON}
            AND stage_id IS DISTINCT FROM {LOST} AS omitted
    FROM frame WHERE trashed_at IS NULL
"""
SUMS = """
    count(*) FILTER (status = 'open') AS open_count,
    coalesce(sum(amount) FILTER (status = 'open' AND NOT omitted), 0) AS open_amount,
    coalesce(sum(amount * percent) FILTER (status = 'open' AND NOT omitted), 0) / 100.0 AS weighted_amount,
    count(*) FILTER (status = 'won') AS won_count,
    coalesce(sum(amount) FILTER (status = 'won'), 0) AS won_amount,
    coalesce(sum(amount) FILTER (status = 'won' AND (day IS NULL OR day <= today)), 0)
        + coalesce(sum(amount * percent) FILTER (status = 'open' AND NOT omitted AND (day IS NULL OR day >= today)), 0)
        / 100.0 AS forecast_amount,
    coalesce(sum(amount) FILTER (status = 'open' AND NOT omitted AND day < today), 0) AS overdue_amount,
    count(*) FILTER (status IN ('open', 'won') AND amount IS NULL) AS missing_amount_count,
    count(*) FILTER (status = 'open' AND percent IS NULL) AS missing_probability_count
"""


def ask(frame: pd.DataFrame, query: str, more: str = "") -> pd.DataFrame:
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("frame", frame)
        return connection.execute(f"WITH RECURSIVE deals AS ({DEALS}){', ' + more if more else ''} {query}").df()
    finally:
        connection.close()


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    assert len(found) == len(expected)
    for name in columns:
        ours, theirs = found[name].to_numpy(dtype=float), expected[name].to_numpy(dtype=float)
        if name.endswith("_count"):
            assert ours.tolist() == theirs.tolist(), name
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("freq", "start", "period"),
    [
        ("M", 1, "date_trunc('month', day)"),
        ("Q", 1, "date_trunc('quarter', day)"),
        ("W", 1, "date_trunc('week', day)"),
        ("Y", 1, "date_trunc('year', day)"),
        # The first of the month is safe to move by months; the 31st is not.
        ("Q", 2, "date_trunc('quarter', date_trunc('month', day) - INTERVAL 1 MONTH) + INTERVAL 1 MONTH"),
        ("Y", 7, "date_trunc('year', date_trunc('month', day) - INTERVAL 6 MONTH) + INTERVAL 6 MONTH"),
    ],
)
def test_forecast__in_sql(seed: int, freq: str, start: int, period: str) -> None:
    """Every column by period and owner; fiscal periods through their first day."""
    frame = random_portfolio(seed)
    found = forecast(frame, context=context(timezone=ZONE), freq=freq, fiscal_start=start, by="owner_id")
    query = f"SELECT {period} AS period, owner_id, {SUMS} FROM deals WHERE status <> 'lost' GROUP BY ALL"
    expected = ask(frame, f"{query} ORDER BY period NULLS LAST, owner_id NULLS LAST")
    assert_same(found, expected, list(found.columns[2:]))
    starts = pd.to_datetime(expected["period"]).reset_index(drop=True)
    assert (
        found["period_start"].reset_index(drop=True).fillna(pd.Timestamp(0)) == starts.fillna(pd.Timestamp(0))
    ).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_rollup__in_sql(seed: int) -> None:
    """Sums per owner, and up a tree by a recursive query."""
    frame = random_portfolio(seed)
    zone = context(timezone=ZONE)
    flat = rollup(frame, context=zone, by="owner_id")
    query = f"SELECT owner_id, {SUMS} FROM deals WHERE status <> 'lost' GROUP BY ALL ORDER BY owner_id NULLS LAST"
    assert_same(flat, ask(frame, query), list(flat.columns))
    above = {7: 8, 9: 7, 10: 8}
    pairs = ", ".join(f"({child}, {parent})" for child, parent in above.items())
    below = f"""reports(child, parent) AS (VALUES {pairs}), below(top, id) AS (
        SELECT DISTINCT owner_id, owner_id FROM frame WHERE owner_id IS NOT NULL
        UNION SELECT below.top, reports.child FROM below JOIN reports ON reports.parent = below.id)"""
    joined = "below JOIN deals ON deals.owner_id = below.id"
    query = f"SELECT top, {SUMS} FROM {joined} WHERE status <> 'lost' GROUP BY top ORDER BY top"
    expected = ask(frame, query, below)
    tree = rollup(frame, context=zone, tree=above)
    names = {7: "Sam Lee (id 7)", 8: "Ada Byron", 9: "Sam Lee (id 9)", 10: "stale"}
    assert_same(tree.loc[[names[int(key)] for key in expected["top"]]], expected, list(flat.columns))


@pytest.mark.parametrize("seed", SEEDS)
def test_rates__in_sql(seed: int) -> None:
    """Win rates by count and value, deal size, median cycle and velocity per owner, of what is closed by as_of."""
    frame = random_portfolio(seed)
    query = """
        SELECT owner_id,
            count(*) FILTER (status = 'won') AS won_count, count(*) FILTER (status = 'lost') AS lost_count,
            count(*) FILTER (status = 'open') AS open_count,
            won_count / nullif(won_count + lost_count, 0) AS win_rate,
            sum(amount) FILTER (status = 'won') / sum(amount) FILTER (status IN ('won', 'lost')) AS win_rate_value,
            avg(amount) FILTER (status = 'won') AS average_won_amount,
            median(amount) FILTER (status = 'won') AS median_won_amount,
            median(date_diff('day', created, day)) FILTER (status = 'won') AS median_cycle_days,
            open_count * win_rate * average_won_amount / nullif(median_cycle_days, 0) AS velocity_per_day
        FROM deals WHERE status = 'open' OR day IS NULL OR day <= today
        GROUP BY owner_id ORDER BY owner_id NULLS LAST"""
    expected = ask(frame, query)
    found = kpis(frame, context=context(timezone=ZONE), by="owner_id")
    assert_same(found, expected, list(expected.columns[1:]))
    z = 1.959963984540054
    n = expected["won_count"] + expected["lost_count"]
    share = expected["win_rate"]
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    rates = win_rates(frame, context=context(timezone=ZONE), by="owner_id")
    np.testing.assert_allclose(rates["win_rate_low"].to_numpy(), (centre - half).to_numpy(), rtol=1e-9)
    np.testing.assert_allclose(rates["win_rate_high"].to_numpy(), (centre + half).to_numpy(), rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_stage_distribution__in_sql(seed: int) -> None:
    """Count and amounts by stage."""
    frame = random_portfolio(seed)
    query = """SELECT stage_id, count(*) AS count, coalesce(sum(amount) FILTER (NOT omitted), 0) AS amount,
        coalesce(sum(amount * percent) FILTER (status = 'open' AND NOT omitted), 0) / 100.0 AS weighted_amount,
        count(*) FILTER (amount IS NULL) AS missing_amount_count
        FROM deals GROUP BY stage_id ORDER BY stage_id NULLS LAST"""
    expected = ask(frame, query)
    found = stage_distribution(frame, context=context(timezone=ZONE)).drop(index="Parked")
    assert found["count"].tolist() == expected["count"].tolist()
    assert_same(found, expected, ["amount", "weighted_amount", "missing_amount_count"])


def test_probabilities__of_stages_in_sql() -> None:
    """own_else_stage is a coalesce."""
    frame = random_portfolio(8)
    query = f"""SELECT sum(amount * coalesce(percent, CASE stage_id WHEN {OFFER} THEN 60 WHEN 1 THEN 20 END)) / 100.0
        AS weighted FROM deals WHERE status = 'open' AND NOT omitted"""
    expected = ask(frame, query)["weighted"].iloc[0]
    found = forecast(frame, context=context(timezone=ZONE), probability="own_else_stage")
    assert found["weighted_amount"].sum() == pytest.approx(float(expected), rel=1e-12)
