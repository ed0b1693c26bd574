"""Kaplan-Meier and Aalen-Johansen, against lifelines, laws and by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.survival import aalen_johansen, kaplan_meier, time_at

VECTORS = json.loads((Path(__file__).parent / "data" / "survival_lifelines.json").read_text())
CAUSES = (None, "won", "lost")


def value_at(table: pd.DataFrame, column: str, times: Any) -> Any:
    """Read a step function at times; before the first step survival is 1 and every incidence 0."""
    places = np.searchsorted(table.index.to_numpy(dtype=float), np.asarray(times, dtype=float), side="right")
    return np.append(1.0 if column == "survival" else 0.0, table[column].to_numpy(dtype=float))[places]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"n={len(case['duration'])}")
def test_estimates__equal_recorded_ones_of_lifelines(case: dict[str, Any]) -> None:
    """To 1e-9, with censoring and left truncation; the numbers were made with lifelines 0.30.3."""
    cause = [CAUSES[code] for code in case["cause"]]
    km = kaplan_meier(case["duration"], np.array(case["cause"]) > 0, case["entry"])
    times, values = case["km"]
    np.testing.assert_allclose(value_at(km, "survival", times), values, rtol=0, atol=1e-9)
    aj = aalen_johansen(case["duration"], cause, case["entry"])
    for name, (times, values) in case["aj"].items():
        np.testing.assert_allclose(value_at(aj, name, times), values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_estimates__equal_lifelines(seed: int) -> None:
    """The same against lifelines itself, where it is installed (it does not declare pandas 3)."""
    lifelines = pytest.importorskip("lifelines", reason="lifelines is not installed")
    random = np.random.default_rng(100 + seed)
    n = 150
    duration = random.exponential(30, n) + 0.01
    codes = random.choice([0, 1, 2], n, p=[0.3, 0.3, 0.4])
    entry = duration * random.uniform(0, 0.6, n) if seed % 2 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        km = lifelines.KaplanMeierFitter().fit(duration, codes > 0, entry=entry).survival_function_.iloc[:, 0]
        fitter = lifelines.AalenJohansenFitter(calculate_variance=False)
        aj = fitter.fit(duration, codes, event_of_interest=1, entry=entry).cumulative_density_.iloc[:, 0]
    own = kaplan_meier(duration, codes > 0, entry)
    np.testing.assert_allclose(value_at(own, "survival", km.index), km, rtol=0, atol=1e-9)
    incidence = aalen_johansen(duration, [CAUSES[code] for code in codes], entry)
    np.testing.assert_allclose(value_at(incidence, "won", aj.index), aj, rtol=0, atol=1e-9)


ROWS = st.lists(st.tuples(st.integers(1, 20), st.sampled_from(CAUSES), st.integers(0, 19)), min_size=1, max_size=30)


@given(ROWS)
def test_incidences__and_survival_add_up_to_one(rows: list[tuple[int, str | None, int]]) -> None:
    """Whatever is tied, censored or truncated; survival is Kaplan-Meier's."""
    kept = [row for row in rows if row[2] < row[0]]
    duration, cause, entry = [row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept]
    table = aalen_johansen(duration, cause, entry, causes=["won", "lost"])
    np.testing.assert_allclose(table["survival"] + table["won"] + table["lost"], 1.0)
    km = kaplan_meier(duration, [word is not None for word in cause], entry)
    np.testing.assert_allclose(table["survival"], km["survival"])
    assert (table["at_risk"] > 0).all()


def test_one_minus_kaplan_meier__overstates_wins() -> None:
    """With losses taken for censored, more deals seem to be won than there are."""
    duration, cause = [1, 2, 3, 4], ["lost", "won", "lost", "won"]
    naive = 1 - kaplan_meier(duration, [word == "won" for word in cause])["survival"].iloc[-1]
    assert naive == 1.0
    assert aalen_johansen(duration, cause)["won"].iloc[-1] == 0.5


def test_censored_deals__count_while_they_were_seen() -> None:
    """By hand: 3 at risk at 5, then 2 of which one goes unseen at 8, then 1."""
    table = kaplan_meier([5, 8, 12], [True, False, True])
    assert table["at_risk"].tolist() == [3, 1]
    assert table["survival"].tolist() == pytest.approx([2 / 3, 0.0])
    assert time_at(table, 0.5) == 12
    assert np.isnan(time_at(kaplan_meier([5, 8], [True, False]), 0.9))
    assert len(kaplan_meier([], [])) == 0
    assert value_at(table, "survival", [4.9, 5]).tolist() == pytest.approx([1.0, 2 / 3])


def test_bad_times__are_named() -> None:
    """Missing and negative times, unequal lengths and ends before the first look."""
    with pytest.raises(ConfigurationError, match=r"rows \[1\]"):
        kaplan_meier([1, -1], [True, True])
    with pytest.raises(ConfigurationError, match="one end and one entry per row"):
        kaplan_meier([1, 2], [True])
    with pytest.raises(ConfigurationError, match=r"rows \[0\] were first seen when they had ended"):
        kaplan_meier([1, 2], [True, True], [1, 0])
    with pytest.raises(ConfigurationError, match=r"causes \['stolen'\]"):
        aalen_johansen([1], ["stolen"], causes=["won"])
