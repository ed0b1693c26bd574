"""When open deals are won: competing hazards of winning and losing, by age, level of a column and time of the quarter.

The rate of a cause on a day is that of the deal's age, times a factor of its
level, times one of level and age together, times one of the day's place in
month and quarter. Every factor is (observed + k) / (expected + k): where little
was seen it stays near 1. k follows from how much the factors differ. What
happened long ago counts less, because rates drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from opp_pandas.forecasting.known import AGE_EDGES, CALENDAR_PLACES, MONTH_PLACES, Known, calendar_places

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Codes, Floats

HALF_LIFE = 365.0
"""After so many days what was seen counts half [days]."""

_LEAST_K, _MOST_K = 2.0, 200.0
_AGE_K = 3.0
_MONTH_PRIOR, _MONTH_NOISE = 0.06, 0.02
"""Variance of the logarithm of a month's factor between places in the quarter, and between equal months."""


def shrunk(observed: npt.NDArray[Any], expected: npt.NDArray[Any], least: float = _LEAST_K) -> Floats:
    """Return (observed + k) / (expected + k), with k from the spread of the factors themselves.

    Parameters
    ----------
    observed, expected : ndarray of float
        Events.
    least : float
        The smallest k.
    """
    squares = float(np.sum(expected**2))
    if squares <= 0:
        return np.ones_like(observed)
    variance = float(np.sum((observed - expected) ** 2 - expected)) / squares
    k = _MOST_K if variance <= 1.0 / _MOST_K else max(1.0 / variance, least)
    return np.asarray((observed + k) / (expected + k))


def rates_by_age(events: Floats, at_risk: Floats) -> Floats:
    """Return the rate per day in each age band, each pulled to that of the band before."""
    overall = max(float(events.sum()) / max(float(at_risk.sum()), 1.0), 1e-9)
    rates, before = np.empty(len(events)), overall
    for band in range(len(events)):
        before = (events[band] + _AGE_K) / (at_risk[band] + _AGE_K / max(before, overall * 1e-3))
        rates[band] = before
    return rates


@dataclass(frozen=True, eq=False)
class Cause:
    """The rates of one way to end: by level and age band, and the factor of each place in the calendar."""

    rate: Floats
    calendar: Floats


@dataclass(frozen=True, eq=False)
class Hazards:
    """Rates of winning and of losing, learned from what was known on a day.

    Parameters
    ----------
    win, loss : Cause
    """

    win: Cause
    loss: Cause

    @classmethod
    def fit(cls, known: Known, name: str = "") -> Hazards:
        """Learn them, told apart by a column; "" takes all deals together."""
        return cls(*(_fit_cause(known, name, won) for won in (True, False)))

    def chances(self, levels: Codes, ages: npt.NDArray[np.int64], day: int, horizon: int) -> Floats:
        """Return the probability that each deal, open on the evening of `day`, is won within `horizon` days.

        Parameters
        ----------
        levels, ages : ndarray of int, shape (n,)
            Level and age that evening [days]; -1 is created the day after.
        day, horizon : int
            The evening, and how many days follow.
        """
        if not len(levels):
            return np.empty(0)
        span = int(ages.max()) + 2
        pairs, place = np.unique(levels.astype(np.int64) * span + ages + 1, return_inverse=True)
        level, age = pairs // span, pairs % span - 1
        steps = np.arange(1, horizon + 1)
        calendar = calendar_places(day + steps)
        band = np.searchsorted(AGE_EDGES, age[:, None] + steps, side="right") - 1
        win = self.win.rate[level[:, None], band] * self.win.calendar[calendar]
        total = win + self.loss.rate[level[:, None], band] * self.loss.calendar[calendar]
        before = np.exp(total - np.cumsum(total, axis=1))
        won = np.sum(before * -np.expm1(-total) * win / np.maximum(total, 1e-300), axis=1)
        return np.asarray(won[place])


def _weights(known: Known, first: int) -> Floats:
    return 0.5 ** ((known.day - np.arange(first, known.day + 1)) / HALF_LIFE)


def _fit_cause(known: Known, name: str, won: bool) -> Cause:
    base = known.past.exposure("")
    rows = known.day - base.first + 1
    if rows < 1:
        return Cause(np.full((1, len(AGE_EDGES)), 1e-9), np.ones(CALENDAR_PLACES))
    weights = _weights(known, base.first)
    places = calendar_places(np.arange(base.first, known.day + 1))
    at_risk = base.at_risk[:rows, 0].astype(np.float64)
    events = (base.wins if won else base.losses)[:rows, 0].astype(np.float64)
    calendar, weighted = np.ones(CALENDAR_PLACES), weights @ events
    for _ in range(2):
        rate = rates_by_age(weighted, (weights * calendar[places]) @ at_risk)
        calendar = _fit_calendar(at_risk @ rate, events.sum(axis=1), weights, places, base.first)
    exposure = (weights * calendar[places]) @ at_risk
    rate = rates_by_age(weighted, exposure)
    if not name:
        return Cause(rate[None, :], calendar)
    table = known.past.exposure(name)
    shape = table.at_risk.shape[1:]
    risk = ((weights * calendar[places]).astype(np.float32) @ table.at_risk[:rows].reshape(rows, -1)).reshape(shape)
    seen = (table.wins if won else table.losses)[:rows].reshape(rows, -1)
    observed = (weights.astype(np.float32) @ seen).reshape(shape).astype(np.float64)
    factor = np.ones(shape[0])
    for _ in range(4):
        factor = shrunk(observed.sum(axis=1), (risk * rate).sum(axis=1))
        rate = rates_by_age(observed.sum(axis=0), (risk * factor[:, None]).sum(axis=0))
    both = rate * factor[:, None]
    return Cause(both * shrunk(observed, risk * both), calendar)


def _fit_calendar(expected: Floats, observed: Floats, weights: Floats, places: Codes, first: int) -> Floats:
    """Return the factor of each place in month and quarter."""
    expected, observed = expected * weights, observed * weights
    expected = expected * (observed.sum() / max(expected.sum(), 1e-9))
    in_month = places % MONTH_PLACES
    by_place = shrunk(
        np.bincount(in_month, observed, MONTH_PLACES), np.bincount(in_month, expected, MONTH_PLACES), least=10.0
    )
    left = expected * by_place[in_month]
    months = np.arange(first, first + len(places)).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    came, due = np.bincount(months - months[0], observed), np.bincount(months - months[0], left)
    by_month = np.ones(3)
    for quarter_place in range(3):
        rows = ((np.arange(len(came)) + months[0]) % 3 == quarter_place) & (due > 0)
        if rows.any():
            # Few months of one place are few witnesses, however many deals each of them has.
            trust = 1.0 / (1.0 / due[rows] + _MONTH_NOISE)
            mean = float(np.sum(trust * np.log((came[rows] + 0.5) / (due[rows] + 0.5)))) / float(trust.sum())
            by_month[quarter_place] = np.exp(mean * _MONTH_PRIOR / (_MONTH_PRIOR + 1.0 / float(trust.sum())))
    left = left * by_month[places // MONTH_PLACES]
    both = shrunk(
        np.bincount(places, observed, CALENDAR_PLACES), np.bincount(places, left, CALENDAR_PLACES), least=10.0
    )
    factor = both * np.repeat(by_month, MONTH_PLACES) * np.tile(by_place, 3)
    mean = float(np.sum(factor * np.bincount(places, expected, CALENDAR_PLACES))) / max(float(expected.sum()), 1e-9)
    return np.asarray(factor / max(mean, 1e-9))
