"""Scores of probabilities and amounts: golden numbers, laws, and a second way of computing each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.forecasting.scoring import (
    amount_errors,
    brier,
    brier_skill,
    decompose,
    hubspot_accuracy,
    log_loss,
    put_in_bins,
    resampled,
)

P, CAME = [0.5, 0.8, 0.1, 0.25], [1, 1, 0, 0]
forecasts = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1)), min_size=1, max_size=60).map(
    lambda pairs: (np.array([p / 100 for p, _ in pairs]), np.array([came for _, came in pairs]))
)


def test_scores__are_the_golden_numbers() -> None:
    """The reference's four deals, of which the first two were won; and one forecast of 100 against 90."""
    assert brier(P, CAME) == pytest.approx(0.090625, abs=1e-12)
    assert log_loss(P, CAME) == pytest.approx(0.327333, abs=5e-7)
    assert brier_skill(P, CAME) == pytest.approx(0.6375, abs=1e-12)
    assert hubspot_accuracy(100_000, 90_000) == pytest.approx(0.8889, abs=5e-5)
    assert hubspot_accuracy(300, 90) == 0
    assert math.isnan(hubspot_accuracy(1, 0))


def test_scores__of_nothing_are_missing_and_of_wrong_certainty_infinite() -> None:
    """No forecast, no score; 0 % that was won costs everything; a base rate without errors has no skill over it."""
    assert math.isnan(brier([], []))
    assert math.isnan(log_loss([], []))
    assert math.isnan(brier_skill([], []))
    assert log_loss([0.0, 0.5], [1, 1]) == math.inf
    assert log_loss([0.0, 1.0], [0, 1]) == 0
    assert math.isnan(brier_skill([0.5, 0.4], [1, 1]))
    assert brier_skill([0.5, 0.4], [1, 1], reference=0.45) < 0
    assert math.isnan(amount_errors([], [])["wape"])


@pytest.mark.parametrize(
    ("p", "came", "words"),
    [([50], [1], "percentages are divided"), ([0.5], [2], "1 .it happened. or 0"), ([0.5, 0.5], [1], "one outcome")],
)
def test_scores__refuse_what_is_no_forecast(p: list[float], came: list[int], words: str) -> None:
    """Percent, other outcomes, lists of two lengths."""
    with pytest.raises(ConfigurationError, match=words):
        brier(p, came)


@given(forecasts, st.sampled_from(["isotonic", "fixed", 3]))
def test_decompose__adds_up_to_the_brier_score(pair: tuple[np.ndarray, np.ndarray], bins: str | int) -> None:
    """With any bins; where a bin holds one probability only, Murphy's three parts are all of it."""
    p, came = pair
    parts = decompose(p, came, put_in_bins(p, came, bins))
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
    assert whole == pytest.approx(brier(p, came), abs=1e-12)
    distinct = decompose(p, came, np.unique(p, return_inverse=True)[1])
    assert distinct["within_bins"] == pytest.approx(0, abs=1e-12)
    # What happened in each bin is the best forecast for it: recalibrating saves what reliability and the rest say.
    codes = put_in_bins(p, came, bins)
    happened = np.bincount(codes, came) / np.bincount(codes)
    saved = parts["reliability"] + parts["within_bins"]
    assert brier(p, came) - brier(happened[codes], came) == pytest.approx(saved, abs=1e-12)


@given(forecasts)
def test_isotonic__is_the_best_rising_curve(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """The same as by the formula max over starts of min over ends of means; never worse than what was said."""
    p, came = pair
    codes = put_in_bins(p, came, "isotonic")
    happened = (np.bincount(codes, came) / np.bincount(codes))[codes]
    order = np.argsort(p, kind="stable")
    values = np.unique(p)
    sums = [(came[p == value].sum(), (p == value).sum()) for value in values]

    def mean(start: int, end: int) -> float:
        return sum(won for won, _ in sums[start : end + 1]) / sum(n for _, n in sums[start : end + 1])

    n = len(values)
    curve = [max(min(mean(i, k) for k in range(place, n)) for i in range(place + 1)) for place in range(n)]
    assert happened == pytest.approx([curve[place] for place in np.searchsorted(values, p)], abs=1e-12)
    assert (np.diff(happened[order]) >= -1e-12).all()
    assert brier(happened, came) <= brier(p, came) + 1e-12


@given(forecasts, st.randoms())
def test_scores__do_not_depend_on_the_order(pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
    """The same forecasts in another order have the same scores and bins."""
    p, came = pair
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert brier(p[order], came[order]) == pytest.approx(brier(p, came), abs=1e-12)
    assert put_in_bins(p[order], came[order]).tolist() == put_in_bins(p, came)[order].tolist()


def test_bins__of_equal_width_are_closed_below() -> None:
    """0.3 is in the bin that begins at 0.3, 1 in the last; empty bins take no number."""
    assert put_in_bins([0.0, 0.29, 0.3, 0.95, 1.0], [0] * 5, "fixed").tolist() == [0, 1, 2, 3, 3]
    with pytest.raises(ConfigurationError, match="number of 1 or more"):
        put_in_bins([0.5], [1], 0)


def test_resampled__has_the_right_spread() -> None:
    """The mean of 400 coins: its standard error is 1/40."""
    coins = np.random.default_rng(1).integers(0, 2, 400)
    drawn = resampled(np.stack([np.ones(400), coins], axis=1), 2_000, 7)
    assert (drawn[:, 0] == 400).all()
    assert (drawn[:, 1] / 400).std() == pytest.approx(np.std(coins) / 20, rel=0.06)
    assert resampled(np.empty((0, 2)), 5, 0).shape == (0, 2)
