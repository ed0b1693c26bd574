"""Proportions of counts: intervals, shrinkage towards a common rate, and which of several is the higher one."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats, Integers


def divide(above: npt.ArrayLike, below: npt.ArrayLike) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    top, bottom = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    result = np.full(bottom.shape, np.nan)
    np.divide(top, bottom, out=result, where=(bottom != 0) & ~np.isnan(bottom))
    return result


def wilson(won: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Wilson confidence interval of a proportion.

    Parameters
    ----------
    won, n : array-like
        Successes, and trials.
    level : float, default 0.95
        Confidence.

    Returns
    -------
    low, high : ndarray
        Ends of the interval; NaN where n is 0.

    References
    ----------
    .. [1] Wilson, Probable inference, JASA 22 (1927).

    Examples
    --------
    >>> low, high = wilson(6, 20)
    >>> round(float(low), 5), round(float(high), 5)
    (0.14548, 0.51897)
    """
    if not 0 < level < 1:
        raise ConfigurationError(f"level must lie between 0 and 1, such as 0.95, not {level!r}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    k, m = np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)
    share = divide(k, m)
    below = 1 + divide(z * z, m)
    centre = (share + divide(z * z, 2 * m)) / below
    half = z * np.sqrt(divide(share * (1 - share), m) + divide(z * z, 4 * m * m)) / below
    # Rounding must not push an end past what it bounds.
    return np.maximum(np.minimum(centre - half, share), 0.0), np.minimum(np.maximum(centre + half, share), 1.0)


def shrink(won: npt.ArrayLike, n: npt.ArrayLike, rate: float, m: float = 20.0) -> Floats:
    """Pull the rates of small groups towards the rate of all: ``(k + m r) / (n + m)``.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.
    rate : float
        The rate of all.
    m : float, default 20
        How many deals the rate of all is worth.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> float(shrink(3, 5, rate=0.22).round(3))
    0.296
    """
    if np.isinf(m):
        return np.full(np.shape(won), rate)
    return divide(np.asarray(won) + m * rate, np.asarray(n) + m)


def fit_strength(won: npt.ArrayLike, n: npt.ArrayLike) -> float:
    """Estimate from the groups themselves how many deals the rate of all is worth: the m of `shrink`.

    Groups whose rates differ by no more than chance are worth nothing on their
    own. Moments of the beta-binomial distribution [1]_.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.

    Returns
    -------
    float
        0: every rate stands for itself; infinite: all groups have one rate; NaN
        where fewer than two groups have closed deals, or all or none are won.

    References
    ----------
    .. [1] Kleinman, Proportions with extraneous variance, JASA 68 (1973).

    Examples
    --------
    >>> round(fit_strength([9, 2, 7, 1], [10, 10, 10, 10]), 2)
    0.81
    """
    k, m = np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)
    k, m = k[m > 0], m[m > 0]
    total, rate = float(m.sum()), float(divide(k.sum(), m.sum()))
    if len(m) < 2 or not 0 < rate < 1:
        return float("nan")
    spread = float(np.sum(m * (k / m - rate) ** 2)) / (rate * (1 - rate))
    room = total - float(np.sum(m**2)) / total - (len(m) - 1)
    # The correlation of two deals of one group: 0 where groups differ by chance alone, 1 / (m + 1) beyond that.
    alike = (spread - (len(m) - 1)) / room if room > 0 else 0.0
    return float("inf") if alike <= 0 else max(1 / alike - 1, 0.0)


def rank_intervals(won: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[pd.Series, pd.Series]:
    """Find between which places the true win rate of each group stands.

    One group is better than another for certain where Newcombe's interval of the
    difference [1]_ lies above 0. Each group is compared with all others, so each
    comparison takes its part of what may go wrong (Bonferroni): the two places hold
    a group's true place with the stated confidence [2]_.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.
    level : float, default 0.95
        Confidence for each group.

    Returns
    -------
    low, high : Series of Int64
        The best and the worst place that a group may have; missing where it has
        no closed deals, or no other group has any.

    References
    ----------
    .. [1] Newcombe, Interval estimation for the difference between independent
       proportions, Statistics in Medicine 17 (1998), method 10.
    .. [2] Mogstad, Romano, Shaikh and Wilhelm, Inference for ranks, Review of
       Economic Studies 91 (2024).

    Examples
    --------
    >>> low, high = rank_intervals([90, 50, 45, 5], [100, 100, 100, 100])
    >>> low.tolist(), high.tolist()
    ([1, 2, 2, 4], [1, 3, 3, 4])
    """
    # Groups with the same counts have the same places: thousands of small ones are a few distinct pairs.
    pairs = np.stack([np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)])
    (k, m), inverse, times = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    known = m > 0
    n_known = int(times[known].sum())
    n_better, n_worse = np.zeros(len(k), dtype=np.int64), np.zeros(len(k), dtype=np.int64)
    rate = divide(k, m)
    low, high = wilson(k, m, 1 - (1 - level) / max(n_known - 1, 1))
    for place in np.flatnonzero(known).tolist():
        difference = rate - rate[place]
        above = difference - np.hypot(rate - low, high[place] - rate[place]) > 0
        below = difference + np.hypot(high - rate, rate[place] - low[place]) < 0
        n_better[place], n_worse[place] = times[above].sum(), times[below].sum()
    ranked = (known if n_known > 1 else np.zeros_like(known))[inverse.ravel()]

    def places(found: Integers) -> pd.Series:
        return pd.Series(found[inverse.ravel()], dtype="Int64").where(ranked)

    return places(1 + n_better), places(n_known - n_worse)
