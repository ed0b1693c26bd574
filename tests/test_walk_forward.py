"""Walk-forward: what was forecast at each as-of date from what was known then, against what came.

``python -m pytest -n0 -m nightly -s tests/test_walk_forward.py`` prints the table of the
shared sets and that of the generated worlds.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.forecasting.walk import score_windows
from worlds import WORLDS, came, frame_of, generate

MONTHS = pd.date_range("2024-01-01", periods=26, freq="MS")
WEEKS = pd.date_range("2017-05-01", "2017-08-31", freq="7D")
LEVELS = (0.5, 0.8, 0.9)
pytestmark = pytest.mark.nightly


def olga(data: Path) -> pd.DataFrame:
    return opp.adopt(pd.read_csv(data / "olga_synth" / "opportunities.csv"), as_of="2026-06-30", on_invalid="ignore")


def maven(data: Path) -> pd.DataFrame:
    source = pd.read_csv(data / "maven" / "sales_pipeline_asof_2017-09-30.csv")
    columns = {"close_value": "amount", "engage_date": "external_created_at"}
    return opp.adopt(source, columns, timezone="America/New_York", as_of="2017-09-30", currency="USD")


SETS: dict[str, tuple[Any, Any, int, dict[str, float]]] = {
    "olga 30 days": (olga, MONTHS, 30, {"wape": 0.180, "crps_share": 0.130, "low": 0.75, "high": 0.88}),
    "olga 90 days": (olga, MONTHS[:24], 90, {"wape": 0.150, "low": 0.75, "high": 0.88}),
    "maven 30 days": (maven, WEEKS, 30, {"wape": 0.26, "low": 0.70, "high": 1.0}),
}


def show(name: str, record: dict[str, Any], methods: pd.DataFrame) -> None:
    """Write a record, and the error of every method beside it."""
    numbers = ", ".join(f"{key} {value:.3f}" for key, value in record.items())
    sys.stdout.write(f"\n{name}: {numbers}\n{methods.round(3).T.to_string()}\n")


def walk(frame: pd.DataFrame, moments: pd.DatetimeIndex, horizon: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Forecast at every moment and score it against what the newest rows say came."""
    local = frame["close_date"].dt.tz_convert(frame.opp.predict(horizon_days=7).attrs["opp_basis"]["timezone"])
    closed, created = local.dt.tz_localize(None).dt.normalize(), frame["external_created_at"]
    created = created.dt.tz_convert(local.dt.tz).dt.tz_localize(None).dt.normalize()
    won = frame["stage_name"].str.contains("Won")
    rows, naive = [], []
    for moment in moments:
        until = moment + pd.Timedelta(days=horizon)
        actual = float(frame.loc[won & (closed > moment) & (closed <= until) & (created <= moment), "amount"].sum())
        found = frame.opp.predict(as_of=moment.date(), horizon_days=horizon, new_deals=False)
        ends = [found.interval(level) for level in LEVELS]
        rows.append([found.mean, actual, found.crps(actual), *np.ravel(ends)])
        naive.append(frame.opp.compare(as_of=moment.date(), horizon_days=horizon, new_deals=False)["mean"])
    table = np.array(rows)
    intervals = {level: (table[:, 3 + 2 * k], table[:, 4 + 2 * k]) for k, level in enumerate(LEVELS)}
    step = max((moments[1] - moments[0]).days, 1)
    record = score_windows(table[:, 0], table[:, 1], table[:, 2], intervals, -(-horizon // step))
    methods = pd.DataFrame(naive).reset_index(drop=True)
    error = methods.sub(table[:, 1], axis=0).abs().sum() / methods.notna().mul(table[:, 1], axis=0).sum()
    return record, error.rename("wape").to_frame()


@pytest.mark.parametrize("name", SETS)
def test_shared_set__meets_its_lines(name: str, data: Path) -> None:
    """The one call with its defaults is as good as asked, on rows adopted as they are."""
    make, moments, horizon, lines = SETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record, methods = walk(make(data), moments, horizon)
    show(name, record, methods)
    assert record["wape"] <= lines["wape"]
    assert record["crps_share"] <= lines.get("crps_share", np.inf)
    assert lines["low"] <= record["coverage_80"] <= lines["high"]


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("draws", [500])
def test_world__is_covered(name: str, draws: int) -> None:
    """On generated organisations the intervals cover, the mean has little bias, and naive rows are no better."""
    rows, naive = [], []
    for seed in range(draws):
        world = generate(WORLDS[name], seed)
        found = frame_of(world).opp.compare(horizon_days=30)
        prediction = frame_of(world).opp.predict(horizon_days=30)
        actual = came(world, 30, new_deals=True)
        rows.append(
            [prediction.mean, actual, prediction.crps(actual), *np.ravel([prediction.interval(x) for x in LEVELS])]
        )
        naive.append((found["mean"] - actual).abs())
    table = np.array(rows)
    intervals = {level: (table[:, 3 + 2 * k], table[:, 4 + 2 * k]) for k, level in enumerate(LEVELS)}
    record = score_windows(table[:, 0], table[:, 1], table[:, 2], intervals, 1)
    missed = pd.DataFrame(naive).mean() / table[:, 1].mean()
    show(name, record, missed.to_frame("wape"))
    assert record["coverage_80"] >= 0.70
    assert abs(record["bias"]) <= 0.10
