"""The normal distribution on arrays, by interpolation in a fine table: right to 1e-8."""

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


def normal_cdf(z: npt.ArrayLike) -> Floats:
    """Return the probability of a value at or below `z`."""
    values = np.asarray(z, dtype=np.float64)
    below = np.interp(-np.abs(values), *_table())
    return np.where(values > 0, 1.0 - below, below)


def normal_quantile(p: npt.ArrayLike) -> Floats:
    """Return the value that is not exceeded with probability `p`; infinite at 0 and 1."""
    chances = np.asarray(p, dtype=np.float64)
    z, cdf = _table()
    tail = np.interp(np.minimum(chances, 1.0 - chances), cdf, z)
    found = np.where(chances > 0.5, -tail, tail)
    return np.where(chances <= 0, -np.inf, np.where(chances >= 1, np.inf, found))
