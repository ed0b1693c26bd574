"""What was said of deals, and what became of them."""

from __future__ import annotations

from typing import Any

import duckdb
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from histories import LEAD, LOST, OFFER, WON, frame_of, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, HistoryNeededError
from opp_pandas.figures import wilson
from opp_pandas.forecasting import calibration


def deal(key: int, percent: int | None, stage: int = LEAD, close: Any = "2026-02-10", **more: Any) -> dict[str, Any]:
    closes = None if close is None else moment(close)
    return {"id": key, "amount": 100, "probability": percent, "stage_id": stage, "close_date": closes} | more


# Ten days into January; what came of it is known at the end of June.
SAID = [
    deal(1, 80), deal(2, 80), deal(3, 80), deal(4, 20), deal(5, 20), deal(6, 20), deal(7, None),
    deal(8, 50, close=None), deal(9, 50), deal(10, 50, WON, "2026-01-05"), deal(11, 50, close="2025-12-20"),
]  # fmt: skip
CAME = [
    deal(1, 100, WON, "2026-02-10"), deal(2, 100, WON, "2026-05-20"), deal(3, 0, LOST, "2026-02-01"),
    deal(4, 20, LEAD, "2026-09-01"), deal(5, 0, LOST, "2026-01-20"), deal(6, 100, WON, "2026-03-31"),
    deal(7, 0, LOST), deal(8, 0, LOST), deal(10, 100, WON, "2026-01-05"), deal(11, 100, WON, "2026-01-20"),
]  # fmt: skip


def pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    return load_of(SAID, 10), load_of(CAME, "2026-06-30")


def basis(table: pd.DataFrame) -> dict[str, Any]:
    return dict(table.attrs["opp_basis"])


@pytest.mark.parametrize(
    ("target", "outcomes", "left_out"),
    [
        # By the end of March: deal 2 came in May, deal 4 is still open; 8 has no period, 11's was over.
        ("period", {0.8: [1, 0, 0], 0.2: [0, 0, 1]}, {"gone": 1, "without_period": 2, "not_over": 0}),
        ("ever", {0.8: [1, 1, 0], 0.2: [0, 1], 0.5: [0, 1]}, {"gone": 1, "without_period": 0, "not_over": 1}),
        (30, {0.8: [0, 0, 0], 0.2: [0, 0, 0], 0.5: [0, 1]}, {"gone": 1, "without_period": 0, "not_over": 0}),
        (200, {}, {"gone": 1, "without_period": 0, "not_over": 8}),
    ],
)
def test_calibration__asks_whether_it_came_in_time(
    target: Any, outcomes: dict[float, list[int]], left_out: dict[str, int]
) -> None:
    """By hand: each target has its own outcomes, and every forecast that has none is counted."""
    table = calibration(pair(), target=target, bins=100)
    assert table["p_mean"].tolist() == pytest.approx(sorted(outcomes))
    assert table["forecasts"].tolist() == [len(outcomes[p]) for p in sorted(outcomes)]
    assert table["won_count"].tolist() == [sum(outcomes[p]) for p in sorted(outcomes)]
    assert basis(table)["left_out"] == left_out | {"without_probability": 1}
    said = np.array([p for p, came in outcomes.items() for _ in came])
    happened = np.array([came for each in outcomes.values() for came in each])
    assert basis(table)["brier"] == (pytest.approx(np.mean((said - happened) ** 2)) if len(said) else None)


def test_calibration__takes_days_in_the_zone() -> None:
    """Won at one in the morning in Berlin on the first of April: not in the first quarter there."""
    said = [deal(1, 60)]
    came = [deal(1, 100, WON, "2026-03-31T23:30:00Z")]
    frames = (load_of(said, 10, timezone="Europe/Berlin"), load_of(came, "2026-06-30", timezone="Europe/Berlin"))
    assert calibration(frames, target="period")["won_count"].tolist() == [0]
    assert calibration(pair(), target="period")["won_count"].sum() == 2


def test_calibration__counts_deals_and_not_moments_as_evidence() -> None:
    """The same deals at six moments: six times the forecasts, the same intervals."""
    history = history_in_memory()
    rows = [deal(key, 40) for key in range(1, 21)]
    for day in (5, 8, 11, 14, 17, 20):
        history.record(load_of(rows, day))
    history.record(load_of([row | {"stage_id": WON if row["id"] <= 6 else LOST} for row in rows], 60))
    once = calibration(history, target="ever", times=[moment(5)])
    often = calibration(history, target="ever", times=[moment(day) for day in (5, 8, 11, 14, 17, 20)])
    assert (once["forecasts"].tolist(), often["forecasts"].tolist()) == ([20], [120])
    low, high = wilson(6, 20)
    for table in (once, often):
        assert table["deals"].tolist() == [20]
        assert table[["won_share_low", "won_share_high"]].to_numpy().ravel() == pytest.approx([low, high])
    assert basis(once)["brier_interval"] == pytest.approx(basis(often)["brier_interval"])
    assert (basis(often)["n"], basis(often)["n_forecasts"]) == (20, 120)


def random_states(seed: int, n: int = 300) -> list[pd.DataFrame]:
    rng = np.random.default_rng(seed)
    states = []
    for place in range(4):
        stage = rng.choice([LEAD, OFFER, WON, LOST], n, p=[0.5, 0.3, 0.1, 0.1] if place < 3 else [0.2, 0.1, 0.4, 0.3])
        frame = frame_of(
            {
                "id": key, "amount": 10, "probability": int(rng.integers(0, 101)), "stage_id": int(stage[key]),
                "close_date": moment("2026-01-01") + pd.Timedelta(hours=int(rng.integers(0, 24 * 200))),
            }
            for key in range(n)
        )  # fmt: skip
        frame.loc[rng.permutation(n)[:20], "probability"] = pd.NA
        frame.loc[rng.permutation(n)[:20], "close_date"] = pd.NaT
        states.append(frame[rng.random(n) > 0.05])
    return states


@pytest.mark.parametrize("target", ["ever", "period", 45])
def test_calibration__in_sql(target: Any) -> None:
    """Counts, shares and the Brier score recomputed by DuckDB from the four states."""
    states = random_states(3)
    days = ["2026-01-15", "2026-02-20", "2026-04-10", "2026-07-15"]
    history = history_in_memory()
    for frame, day in zip(states, days, strict=True):
        history.record(load_of(frame, day))
    table = calibration(history, target=target, times=days[:3], bins="fixed")
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        said = pd.concat([frame.assign(at=pd.Timestamp(day)) for frame, day in zip(states[:3], days, strict=False)])
        connection.register("said", said)
        connection.register("came", states[3])
        deadline = {
            "ever": "DATE '9999-01-01'",
            "period": "CAST(date_trunc('quarter', said.close_date) + INTERVAL 3 MONTH - INTERVAL 1 DAY AS DATE)",
            45: "CAST(said.at + INTERVAL 45 DAY AS DATE)",
        }[target]
        ended = "true" if target == "ever" else "deadline <= DATE '2026-07-15'"
        over = {"ever": "came.stage_id IN (4, 5)", "period": "deadline >= CAST(said.at AS DATE)", 45: "true"}[target]
        expected = connection.execute(f"""
            WITH rows AS (
                SELECT said.id, said.probability / 100.0 AS p, {deadline} AS deadline,
                    CASE WHEN came.stage_id = {WON}
                        AND coalesce(least(CAST(came.close_date AS DATE), DATE '2026-07-15'), DATE '1970-01-01')
                            <= deadline THEN 1 ELSE 0 END AS won
                FROM said JOIN came USING (id)
                WHERE said.stage_id NOT IN ({WON}, {LOST}) AND said.probability IS NOT NULL
                    AND deadline IS NOT NULL AND {over} AND {ended})
            SELECT least(CAST(floor(p * 10 + 1e-9) AS INTEGER), 9) AS bin, count(*) AS forecasts,
                count(DISTINCT id) AS deals, sum(won) AS won_count, avg(p) AS p_mean,
                (SELECT avg((p - won) * (p - won)) FROM rows) AS brier
            FROM rows GROUP BY bin ORDER BY bin""").df()
    finally:
        connection.close()
    for name in ("forecasts", "deals", "won_count"):
        assert table[name].tolist() == expected[name].tolist(), name
    assert table["p_mean"].tolist() == pytest.approx(expected["p_mean"].tolist())
    assert basis(table)["brier"] == pytest.approx(expected["brier"].iloc[0])
    assert len(table) > 8


def test_calibration__finds_true_probabilities_true() -> None:
    """Deals won as often as they say: bins hold the diagonal, skill is above none; boasting is found out."""
    rng = np.random.default_rng(5)
    p = rng.choice([10, 30, 50, 70, 90], 2_000)
    won = rng.random(2_000) * 100 < p
    came = [deal(key, 0, WON if won[key] else LOST) for key in range(2_000)]
    honest = calibration((load_of([deal(k, int(p[k])) for k in range(2_000)], 10), load_of(came, 100)), target="ever")
    inside = (honest["won_share_low"] <= honest["p_mean"]) & (honest["p_mean"] <= honest["won_share_high"])
    assert inside.all()
    assert basis(honest)["skill_interval"][0] > 0.2
    boast = [deal(k, min(int(p[k]) + 30, 100)) for k in range(2_000)]
    found = calibration((load_of(boast, 10), load_of(came, 100)), target="ever")
    assert basis(found)["reliability"] > 20 * basis(honest)["reliability"]
    assert (found["won_share_high"] < found["p_mean"]).sum() >= 4
    assert "the log loss is infinite" in " ".join(basis(found)["notes"])


def test_calibration__of_nothing_has_columns_and_no_scores() -> None:
    """No open deal had a probability."""
    table = calibration((load_of([deal(1, None)], 10), load_of([deal(1, None, WON)], 60)), target="ever")
    assert len(table) == 0
    assert table.dtypes.astype(str).to_dict() == calibration(pair(), target="ever").dtypes.astype(str).to_dict()
    assert basis(table)["brier"] is None


def test_calibration__refuses_what_cannot_be_scored() -> None:
    """No history, no target, no moment, a moment after the outcomes."""
    history = history_in_memory()
    history.record(load_of(SAID, 10))
    history.record(load_of(CAME, 60))
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        calibration(load_of(SAID, 10), target="ever")
    for target in ("soon", 0, True):
        with pytest.raises(ConfigurationError, match="target is 'ever', 'period' or a number of days"):
            calibration(pair(), target=target)
    with pytest.raises(ConfigurationError, match="names no moment"):
        calibration(history, target="ever")
    with pytest.raises(ConfigurationError, match="is not before"):
        calibration(history, target="ever", times=[moment(60)])


def test_calibration__is_reached_from_the_frame() -> None:
    """From an earlier frame, from a history, and from a history that ends with the frame as it is now."""
    before, after = pair()
    expected = calibration((before, after), target="ever")
    pd.testing.assert_frame_equal(after.opp.calibration(before, target="ever"), expected)
    history = history_in_memory()
    history.record(before)
    now = after.opp.calibration(history, present=True, target="ever", times=[moment(10)])
    pd.testing.assert_frame_equal(now, expected)
    history.record(after)
    pd.testing.assert_frame_equal(after.opp.calibration(history, target="ever", times=[moment(10)]), expected)
    assert (
        after.opp.plot.calibration(history, target="ever", times=[moment(10)]).get_xlabel() == "probability given [%]"
    )
    plt.close("all")
