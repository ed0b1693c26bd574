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

from opp_pandas.forecasting.as_of_view import AGE_EDGES, CALENDAR_PLACES, MONTH_PLACES, Known, calendar_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opp_pandas.figures.core.days import Codes, Floats

HALF_LIFE = 365.0
"""After so many days what was seen counts half [days]."""

_LEAST_K, _MOST_K = 2.0, 200.0
_MONTH, _LEVEL_HALF_LIFE = 30, 60.0
_MOST_STARTS = 31
BAND_OF_AGE = np.searchsorted(AGE_EDGES, np.arange(AGE_EDGES[-1] + 1), side="right") - 1
"""The band of every age up to the last band's beginning [days]."""

_AGE_K = 0.5
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
    rates, before = [], overall
    for came, exposed in zip(events.tolist(), at_risk.tolist(), strict=True):
        before = (came + _AGE_K) / (exposed + _AGE_K / max(before, overall * 1e-3))
        rates.append(before)
    return np.array(rates)


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
    def fit(cls, known: Known, names: Sequence[str] = ("",)) -> dict[str, Hazards]:
        """Learn them, told apart by each of several columns; "" takes all deals together."""
        causes = [_Base.fit(known, won) for won in (True, False)]
        return {name: cls(*(cause.told_apart(known, name) for cause in causes)) for name in names}

    def chances(self, levels: Codes, ages: npt.NDArray[np.int64], day: int, horizon: int) -> Floats:
        """Return the probability that each deal, open on the evening of `day`, is won within `horizon` days.

        Parameters
        ----------
        levels, ages : ndarray of int, shape (n,)
            Level and age that evening [days].
        day, horizon : int
            The evening, and how many days follow.
        """
        if not len(levels):
            return np.empty(0)
        span = int(ages.max()) + 1
        pairs, place = np.unique(levels.astype(np.int64) * span + ages, return_inverse=True)
        steps = np.arange(1, horizon + 1)
        won = self._won(pairs // span, (pairs % span)[:, None] + steps, calendar_places(day + steps))
        return np.asarray(won[place])

    def chances_of_new(self, levels: Codes, day: int, horizon: int) -> Floats:
        """Return the probability that a deal of each level is won within the window, summed over days of creation."""
        steps = np.arange(1, horizon + 1)
        # The chance changes little from one day of creation to the next.
        starts = np.unique(np.linspace(1, horizon, min(horizon, _MOST_STARTS)).astype(np.int64))
        days = np.array([np.interp(steps, starts, row).sum() for row in np.eye(len(starts))])
        ages = np.tile(steps - starts[:, None], (len(levels), 1))
        won = self._won(np.repeat(levels, len(starts)), ages, calendar_places(day + steps))
        return np.asarray(won.reshape(len(levels), -1) @ days)

    def _won(self, levels: Codes, ages: npt.NDArray[np.int64], calendar: Codes) -> Floats:
        """Return the chance of a win over days, one row of ages for each level; nothing happens before age 0."""
        band = BAND_OF_AGE[np.clip(ages, 0, len(BAND_OF_AGE) - 1)]
        win = self.win.rate[levels[:, None], band] * self.win.calendar[calendar]
        total = win + self.loss.rate[levels[:, None], band] * self.loss.calendar[calendar]
        total = np.where(ages < 0, 0.0, total)
        # Within a day winning and losing share what ends by their rates.
        ended = np.exp(total - np.cumsum(total, axis=1)) * -np.expm1(-total)
        return np.asarray(np.sum(ended * win / np.maximum(total, 1e-300), axis=1))


@dataclass(frozen=True, eq=False)
class _Base:
    """One way to end, of all deals together."""

    won: bool
    weights: Floats
    rate: Floats
    calendar: Floats
    level: float = 1.0

    @classmethod
    def fit(cls, known: Known, won: bool) -> _Base:
        table = known.past.exposure("")
        rows = known.day - table.first + 1
        if rows < 1:
            return cls(won, np.empty(0), np.full(len(AGE_EDGES), 1e-9), np.ones(CALENDAR_PLACES))
        weights = 0.5 ** (np.arange(rows)[::-1] / HALF_LIFE)
        places = table.places[:rows]
        at_risk = table.at_risk[:rows, 0]
        events = (table.wins if won else table.losses)[:rows, 0]
        came = events.sum(axis=1, dtype=np.float64)
        calendar, weighted = np.ones(CALENDAR_PLACES), _times(weights, events)
        for _ in range(2):
            rate = rates_by_age(weighted, _times(weights * calendar[places], at_risk))
            calendar = _fit_calendar(_by(at_risk, rate), came, weights, places, table.first)
        weights = weights * calendar[places]
        rate = rates_by_age(weighted, _times(weights, at_risk))
        level = _present_level(_by(at_risk, rate) * calendar[places], came)
        return cls(won, weights, rate, calendar, level)

    def told_apart(self, known: Known, name: str) -> Cause:
        """Return the rates by level of a column."""
        rows = len(self.weights)
        if not name or not rows:
            levels = len(known.past.columns[name].labels) if name else 1
            return Cause(np.broadcast_to(self.rate * self.level, (levels, len(self.rate))), self.calendar)
        table = known.past.exposure(name)
        shape = table.at_risk.shape[1:]
        risk = _times(self.weights, table.at_risk[:rows].reshape(rows, -1)).reshape(shape)
        seen = (table.wins if self.won else table.losses)[:rows].reshape(rows, -1)
        base = table.places[:rows]
        observed = _times(self.weights / self.calendar[base], seen).reshape(shape)
        rate = rates_by_age(observed.sum(axis=0), risk.sum(axis=0))
        factor = np.ones(shape[0])
        for _ in range(4):
            factor = shrunk(observed.sum(axis=1), (risk * rate).sum(axis=1))
            rate = rates_by_age(observed.sum(axis=0), (risk * factor[:, None]).sum(axis=0))
        both = rate * factor[:, None]
        return Cause(both * shrunk(observed, risk * both) * self.level, self.calendar)


def _times(weights: Floats, table: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(weights.astype(np.float32) @ table, dtype=np.float64)


def _by(table: npt.NDArray[np.float32], rate: Floats) -> Floats:
    return np.asarray(table @ rate.astype(np.float32), dtype=np.float64)


def _present_level(expected: Floats, came: Floats) -> float:
    """Return by how much rates have drifted from their mean: recent months against what was expected of them.

    How far months agree with their neighbours tells drift from chance: luck does
    not last. Where they agree no more than chance, little is corrected.
    """
    months = np.arange(len(came))[::-1] // _MONTH
    observed, due = np.bincount(months, came), np.bincount(months, expected)
    due = due * (observed.sum() / max(due.sum(), 1e-9))
    missed = observed - due
    lasting = float(missed[1:] @ missed[:-1]) / max(float(due[1:] @ due[:-1]), 1e-9)
    k = _MOST_K if lasting <= 1.0 / _MOST_K else 1.0 / lasting
    weights = 0.5 ** (np.arange(len(due)) * _MONTH / _LEVEL_HALF_LIFE)
    return float((weights @ observed + k) / (weights @ due + k))


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
