"""Forecasts of windows as amounts that are nothing with a probability, else log-normal; and how they did."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from opp_pandas.forecasting.normal import normal_quantile

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats

QUANTILES = np.arange(0.0125, 1.0, 0.025)
LEVELS = (0.5, 0.8, 0.9)


def quantiles(mean: Floats, sd: Floats, p_none: Floats, q: npt.ArrayLike) -> Floats:
    """Return quantiles of amounts that are nothing with a probability, and log-normal otherwise.

    Parameters
    ----------
    mean, sd, p_none : ndarray of float, shape (n,)
        Mean and standard deviation of the whole, and the probability of nothing.
    q : array-like, shape (m,)

    Returns
    -------
    ndarray of float, shape (n, m)
    """
    some = np.maximum(1.0 - p_none, 1e-9)
    m = np.maximum(mean / some, 1e-9)
    second = (sd**2 + mean**2) / some
    log_variance = np.log(np.maximum(second / m**2, 1.0 + 1e-12))
    inner = (np.asarray(q)[None, :] - p_none[:, None]) / some[:, None]
    z = normal_quantile(np.clip(inner, 1e-9, 1 - 1e-9))
    values = np.exp(np.log(m)[:, None] - log_variance[:, None] / 2 + np.sqrt(log_variance)[:, None] * z)
    return np.where((inner <= 0) | (mean <= 0)[:, None], 0.0, values)


def crps(values: Floats, actual: Floats) -> Floats:
    """Return the continuous ranked probability score from the quantiles `QUANTILES`, shape (n, m)."""
    above = (actual[:, None] < values).astype(np.float64)
    return np.asarray(2 * np.mean((above - QUANTILES) * (values - actual[:, None]), axis=1))


@dataclass(frozen=True, eq=False)
class Forecasts:
    """One method's forecasts of the windows of a walk; the last is the coming one.

    Parameters
    ----------
    mean, sd, p_none : ndarray of float, shape (m,)
        Moments, and the probability that nothing comes; NaN where it had nothing to say.
    """

    mean: Floats
    sd: Floats
    p_none: Floats

    @cached_property
    def quantiles(self) -> Floats:
        """Their quantiles at `QUANTILES`, shape (m, 40)."""
        return quantiles(np.nan_to_num(self.mean), np.nan_to_num(self.sd), self.p_none, QUANTILES)

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the central intervals."""
        ends = quantiles(
            np.nan_to_num(self.mean), np.nan_to_num(self.sd), self.p_none, [0.5 - level / 2, 0.5 + level / 2]
        )
        return ends[:, 0], ends[:, 1]


def score_windows(
    mean: Floats, actual: Floats, scores: Floats, intervals: dict[float, tuple[Floats, ...]], block: int
) -> dict[str, Any]:
    """Return errors, score and coverage of forecasts of several windows, overlapping ones drawn in blocks."""
    n, total = len(mean), float(np.sum(np.abs(actual)))
    found: dict[str, Any] = {"windows": n}
    if not n or total <= 0:
        names = ("wape", "wape_low", "wape_high", "bias", "crps", "crps_share")
        return found | dict.fromkeys([*names, *(f"coverage_{level:.0%}"[:-1] for level in LEVELS), "width_80"], np.nan)
    error = np.abs(mean - actual)
    low = high = np.nan
    if n >= 2 * block:  # Of one block, drawn again and again, the interval would be a point.
        starts = np.random.default_rng(0).integers(0, n - block + 1, size=(1_000, -(-n // block)))
        drawn = np.minimum((starts[:, :, None] + np.arange(block)).reshape(len(starts), -1)[:, :n], n - 1)
        sums = np.abs(actual)[drawn].sum(axis=1)
        ratio = error[drawn].sum(axis=1)[sums > 0] / sums[sums > 0]
        low, high = np.quantile(ratio, (0.05, 0.95)) if len(ratio) else (np.nan, np.nan)
    found |= {"wape": float(error.sum()) / total, "wape_low": float(low), "wape_high": float(high)}
    found |= {"bias": float(np.sum(mean - actual)) / total, "crps": float(scores.mean())}
    found["crps_share"] = float(scores.sum()) / total
    for level, (start, end) in intervals.items():
        found[f"coverage_{level * 100:.0f}"] = float(np.mean((start <= actual) & (actual <= end)))
    start, end = intervals[0.8]
    found["width_80"] = float(np.sum(end - start)) / max(float(np.sum(np.abs(mean))), 1e-9)
    return found
