"""Walk-forward: what was forecast at each as-of date from what was known then, against what came.

``python -m pytest -n0 -m nightly -s tests/test_walk_forward.py`` prints the table of the
shared sets and that of the generated worlds: 500 draws of each, or as many as the environment
variable OPP_PANDAS_DRAWS says, from the seed OPP_PANDAS_FIRST_DRAW on (0). What is tuned is
tuned on the seeds from a million on.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.forecasting import Bookings
from opp_pandas.forecasting.prediction import outlook
from opp_pandas.forecasting.walk_forward import NAIVE, Walk
from opp_pandas.forecasting.window_scores import crps, score_windows
from worlds import WORLDS, World, came_again, expected, generate, past_of, weighted

DRAWS = int(os.environ.get("OPP_PANDAS_DRAWS", "500"))
THROWS = 40
FIRST_DRAW = int(os.environ.get("OPP_PANDAS_FIRST_DRAW", "0"))

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
    "olga 90 days": (olga, MONTHS[:24], 90, {"wape": 0.142, "low": 0.75, "high": 0.88}),
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
    """The one call with its defaults is as good as asked, to the digits of the line, on rows adopted as they are."""
    make, moments, horizon, lines = SETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record, methods = walk(make(data), moments, horizon)
    show(name, record, methods)
    assert round(record["wape"], 3) <= lines["wape"]
    assert record["crps_share"] <= lines.get("crps_share", np.inf)
    assert lines["low"] <= record["coverage_80"] <= lines["high"]


@dataclass(frozen=True)
class Scores:
    """How forecasts of many draws of a world did; amounts are shares of what came on average.

    Parameters
    ----------
    coverage : mapping of float to pair of float
        Share of what came that lay in the central interval, and its standard error.
    bias : float
        Mean forecast over what somebody who knows every deal's chance expects, less 1.
    crps, best_naive, weighted : float
        Mean scores: of the forecast, of the naive row that did best, and of the
        pipeline weighed by the sellers (of draws without new deals, as is `crps_open` of the forecast).
    """

    n: int
    coverage: dict[float, tuple[float, float]]
    bias: float
    bias_error: float
    crps: float
    naive: str
    best_naive: float
    naive_error: float
    crps_open: float
    weighted: float
    weighted_error: float
    width: float

    def __str__(self) -> str:
        inside = " ".join(
            f"{level:.0%} {share:.3f} (se {error:.3f})" for level, (share, error) in self.coverage.items()
        )
        return (
            f"n {self.n} | covered {inside} | bias {self.bias:+.3f} (se {self.bias_error:.3f}) | crps {self.crps:.4f}, "
            f"{self.naive} {self.best_naive:.4f} (se of the difference {self.naive_error:.4f}) | open deals "
            f"{self.crps_open:.4f}, weighted pipeline {self.weighted:.4f} (se {self.weighted_error:.4f}) | "
            f"width {self.width:.2f}"
        )


def score_of(found: Bookings, came: np.ndarray) -> float:
    """Return the mean continuous ranked probability score over several outcomes."""
    values = found.pmf
    distance = np.abs(values.index.to_numpy() - came[:, np.newaxis]) @ values.to_numpy()
    return float(distance.mean() - distance[0] + found.crps(float(came[0])))


def score_draw(name: str, draw: int, horizon: int) -> dict[str, Any]:
    """Forecast one draw of a world, every second one without new deals; its coins are thrown again, for less luck."""
    deals, new_deals = generate(WORLDS[name], draw), bool(draw % 2)
    walk = Walk(past_of(deals), horizon, new_deals=new_deals)
    found, came = outlook(walk, walk.mix), came_again(deals, horizon, new_deals=new_deals, times=THROWS)
    ends = {level: found.interval(level) for level in LEVELS}
    naive = {row: walk.forecasts(row) for row in NAIVE}
    return {
        "mean": found.mean,
        "came": came.mean(),
        "score": score_of(found, came),
        "due": expected(deals, horizon, new_deals=new_deals),
        "weighted": np.nan if new_deals else score_of(Bookings(*weighted(deals, horizon)), came),
        "width": ends[0.8][1] - ends[0.8][0],
        **{level: np.mean((low <= came) & (came <= high)) for level, (low, high) in ends.items()},
        **{row: np.mean(crps(np.tile(f.quantiles[-1], (THROWS, 1)), came)) if np.isfinite(f.mean[-1]) else np.nan
           for row, f in naive.items()},
    }  # fmt: skip


def score_world(name: str, draws: int, horizon: int = 30) -> Scores:
    """Forecast draws of a world and score them against what came."""
    first = FIRST_DRAW + 10_000 * list(WORLDS).index(name)
    table = pd.DataFrame([score_draw(name, draw, horizon) for draw in range(first, first + draws)])
    usual, only = table["came"].mean(), table[table["weighted"].notna()]
    best = str(table[list(NAIVE)].mean().idxmin())
    per_open = only["came"].mean()

    def error(values: pd.Series) -> float:
        return float(values.std() / np.sqrt(values.notna().sum()))

    return Scores(
        draws,
        {level: (float(table[level].mean()), error(table[level])) for level in LEVELS},
        float(table["mean"].sum() / table["due"].sum() - 1),
        error(table["mean"] - table["due"]) / float(table["due"].mean()),
        float(table["score"].mean() / usual),
        best,
        float(table[best].mean() / usual),
        error(table["score"] - table[best]) / usual,
        float(only["score"].mean() / per_open),
        float(only["weighted"].mean() / per_open),
        error(only["score"] - only["weighted"]) / per_open,
        float(table["width"].mean() / usual),
    )


@pytest.mark.parametrize("name", WORLDS)
def test_world__is_covered_without_bias_and_better_than_naive(name: str) -> None:
    """Intervals cover, the mean has no bias, and no naive row and no sellers' sum scores better, beyond chance."""
    scores = score_world(name, DRAWS)
    sys.stdout.write(f"\n{name}: {scores}\n")
    for level in (0.8, 0.9):
        share, error = scores.coverage[level]
        assert share >= (level - 0.03 if WORLDS[name].holds else 0.7) - 2 * error
        assert not WORLDS[name].holds or share <= level + 0.03 + 2 * error
    assert abs(scores.bias) <= 0.05 + 2 * scores.bias_error
    assert scores.crps <= scores.best_naive + 2 * scores.naive_error
    # Sellers who know every deal's chance and day cannot be beaten: what has to be learned first costs a tenth at most.
    know_all = WORLDS[name].optimism == WORLDS[name].noise == WORLDS[name].date_error == 0
    assert scores.crps_open <= scores.weighted * (1.1 if know_all else 1.0) + 2 * scores.weighted_error


@pytest.mark.parametrize(
    "world",
    [WORLDS["two_months"], *(replace(WORLDS["two_months"], has_history=False, per_day=n) for n in (5.0, 1.2))],
    ids=["history", "dates alone", "few deals"],
)
def test_record__of_two_months_is_no_worse_than_naive_rows(world: World) -> None:
    """Of one to three months of record: over the windows that a naive row was scored on, at most a tenth worse."""
    ratios: dict[str, list[float]] = {name: [0.0, 0.0] for name in NAIVE}
    for draw in range(FIRST_DRAW, FIRST_DRAW + min(DRAWS, 200)):
        walk = Walk(past_of(generate(world, draw)), 30, new_deals=bool(draw % 2))
        shown = {name: walk.forecasts(name) for name in ("mix", *NAIVE)}
        scores = {name: crps(f.quantiles, np.nan_to_num(walk.actual)) for name, f in shown.items()}
        for name in NAIVE:
            rows = walk.ended & np.isfinite(shown[name].mean)
            ratios[name][0] += float(scores["mix"][rows].sum())
            ratios[name][1] += float(scores[name][rows].sum())
    found = {name: mine / theirs for name, (mine, theirs) in ratios.items() if theirs > 0}
    sys.stdout.write(f"\nscore of the mix over that of naive rows: {found}\n")
    assert max(found.values()) <= 1.10
