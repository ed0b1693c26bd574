"""The normal distribution on arrays, from a fine table and the first terms of the series around its points."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats

_REACH, _POINTS = 9.0, 1 << 16


@cache
def _table() -> tuple[Floats, Floats]:
    z = np.linspace(-_REACH, 0.0, _POINTS)
    return z, np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.tolist()])


def _density(z: Floats) -> Floats:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def normal_cdf(z: npt.ArrayLike) -> Floats:
    """Return the probability of a value at or below `z`, to 1e-15; exactly 0 and 1 at the infinities."""
    values = np.asarray(z, dtype=np.float64)
    points, table = _table()
    low = -np.minimum(np.abs(values), _REACH)
    near = np.rint((low + _REACH) * ((_POINTS - 1) / _REACH)).astype(np.int64)
    there = points[near]
    step = low - there
    series = step * (1 - step * there / 2 + step**2 * (there**2 - 1) / 6)
    below = np.where(np.isinf(values), 0.0, table[near] + _density(there) * series)
    return np.where(values > 0, 1.0 - below, below)


def normal_quantile(p: npt.ArrayLike) -> Floats:
    """Return the value that is not exceeded with probability `p`; infinite at 0 and 1."""
    chances = np.asarray(p, dtype=np.float64)
    points, table = _table()
    low = np.minimum(chances, 1.0 - chances)
    tail = np.interp(low, table, points)
    # A step of Newton's method sharpens what lies between two points of the table.
    tail -= (normal_cdf(tail) - low) / _density(tail)
    found = np.where(chances > 0.5, -tail, tail)
    return np.where(chances <= 0, -np.inf, np.where(chances >= 1, np.inf, found))
