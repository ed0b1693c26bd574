"""Scores of probabilities and of amounts: how far off they were, and of what kind the error was.

References
----------
.. [1] Brier, Verification of forecasts expressed in terms of probability,
   Monthly Weather Review 78 (1950).
.. [2] Murphy, A new vector partition of the probability score, J. Appl.
   Meteorology 12 (1973).
.. [3] Dimitriadis, Gneiting and Jordan, Stable reliability diagrams for
   probabilistic classifiers, PNAS 118 (2021): isotonic bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.proportions import divide

if TYPE_CHECKING:
    from opp_pandas.choices import Bins
    from opp_pandas.figures.core.days import Codes, Floats

ISOTONIC_BELOW = 500
"""With fewer forecasts, bins follow the outcomes; with more, they have fixed ends."""


def checked_forecasts(p: npt.ArrayLike, outcome: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return probabilities and outcomes (0 or 1) as floats.

    Raises
    ------
    ConfigurationError
        If they differ in length, a probability lies outside 0 to 1, or an
        outcome is neither.
    """
    chances, came = np.asarray(p, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if chances.shape != came.shape or chances.ndim != 1:
        raise ConfigurationError("give one outcome for each probability")
    if not ((chances >= 0) & (chances <= 1)).all():
        raise ConfigurationError("p lies between 0 and 1; percentages are divided by 100 first")
    if not np.isin(came, (0.0, 1.0)).all():
        raise ConfigurationError("an outcome is 1 (it happened) or 0 (it did not)")
    return chances, came


def brier(p: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Return the Brier score: the mean squared distance of probability and outcome, 0 best, 1 worst.

    Parameters
    ----------
    p : array-like, shape (n,)
        Probabilities (0 to 1).
    outcome : array-like, shape (n,)
        1 where it happened, 0 where not.

    Returns
    -------
    float
        NaN without forecasts.

    Examples
    --------
    >>> brier([0.5, 0.8, 0.1, 0.25], [1, 1, 0, 0])
    0.090625
    """
    chances, came = checked_forecasts(p, outcome)
    return float(np.mean((chances - came) ** 2)) if len(came) else float("nan")


def log_loss(p: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Return the mean of -log(probability of what happened): infinite once a certainty was wrong.

    Parameters
    ----------
    p : array-like, shape (n,)
        Probabilities (0 to 1).
    outcome : array-like, shape (n,)
        1 where it happened, 0 where not.

    Returns
    -------
    float
        In nats; NaN without forecasts.

    Examples
    --------
    >>> round(log_loss([0.5, 0.8, 0.1, 0.25], [1, 1, 0, 0]), 6)
    0.327333
    """
    chances, came = checked_forecasts(p, outcome)
    said = np.where(came == 1, chances, 1 - chances)
    with np.errstate(divide="ignore"):
        return float(np.mean(-np.log(said))) if len(came) else float("nan")


def brier_skill(p: npt.ArrayLike, outcome: npt.ArrayLike, reference: float | None = None) -> float:
    """Compute how much better than one probability for all: 1 - Brier score / that of the reference.

    Parameters
    ----------
    p : array-like, shape (n,)
        Probabilities (0 to 1).
    outcome : array-like, shape (n,)
        1 where it happened, 0 where not.
    reference : float, optional
        The one probability; that with which it happened if left out.

    Returns
    -------
    float
        1 perfect, 0 no better, below 0 worse; NaN where the reference makes no error.

    Examples
    --------
    >>> brier_skill([0.5, 0.8, 0.1, 0.25], [1, 1, 0, 0])
    0.6375
    """
    chances, came = checked_forecasts(p, outcome)
    if not len(came):
        return float("nan")
    one = float(came.mean()) if reference is None else reference
    return float(1 - divide(brier(chances, came), brier(np.full(len(came), one), came)))


def put_in_bins(p: npt.ArrayLike, outcome: npt.ArrayLike, bins: Bins | int | None = None) -> Codes:
    """Put forecasts of similar probability together.

    Parameters
    ----------
    p : array-like, shape (n,)
        Probabilities (0 to 1).
    outcome : array-like, shape (n,)
        1 where it happened, 0 where not.
    bins : {"isotonic", "fixed"} or int, optional
        "isotonic": as few bins as make the share that happened rise with the
        probability (pool adjacent violators); "fixed": ten of equal width, or
        so many. By default isotonic below 500 forecasts.

    Returns
    -------
    ndarray of intp, shape (n,)
        The bin of each forecast, 0 the lowest probabilities; no bin is empty.
    """
    chances, came = checked_forecasts(p, outcome)
    chosen = bins if bins is not None else "isotonic" if len(came) < ISOTONIC_BELOW else "fixed"
    if chosen == "isotonic":
        return _isotonic(chances, came)
    number = 10 if chosen == "fixed" else chosen
    if isinstance(number, bool | str) or number < 1:
        raise ConfigurationError(f"bins must be 'isotonic', 'fixed' or a number of 1 or more, not {bins!r}")
    # A little is added before cutting, so that 0.3 is in the bin that begins at 0.3.
    codes = np.minimum((chances * number + 1e-9).astype(np.intp), number - 1)
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def _isotonic(p: Floats, outcome: Floats) -> Codes:
    """Pool adjacent violators: neighbours whose shares fall instead of rising become one bin."""
    values, place = np.unique(p, return_inverse=True)
    blocks: list[tuple[float, int, int]] = []
    counts = np.bincount(place, minlength=len(values))
    for won, n in zip(np.bincount(place, outcome, minlength=len(values)), counts.tolist(), strict=True):
        total, size, width = float(won), int(n), 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            before = blocks.pop()
            total, size, width = total + before[0], size + before[1], width + before[2]
        blocks.append((total, size, width))
    bin_of = np.repeat(np.arange(len(blocks)), [width for _, _, width in blocks])
    return np.asarray(bin_of[place], dtype=np.intp)


def decompose(p: npt.ArrayLike, outcome: npt.ArrayLike, codes: Codes) -> dict[str, float]:
    """Take the Brier score apart: reliability - resolution + uncertainty + within_bins.

    Parameters
    ----------
    p : array-like, shape (n,)
        Probabilities (0 to 1).
    outcome : array-like, shape (n,)
        1 where it happened, 0 where not.
    codes : ndarray
        The bin of each forecast.

    Returns
    -------
    dict of str to float
        ``reliability``, how far the bins' mean probabilities lie from what
        happened, 0 best; ``resolution``, how far what happened differs between
        bins, more is better; ``uncertainty`` of the outcomes alone;
        ``within_bins``, what probabilities that differ inside one bin add or
        save, 0 where they do not differ.
    """
    chances, came = checked_forecasts(p, outcome)
    n = np.bincount(codes)
    said, happened = divide(np.bincount(codes, chances), n), divide(np.bincount(codes, came), n)
    base = float(came.mean()) if len(came) else float("nan")
    parts = {
        "reliability": float(divide(np.nansum(n * (said - happened) ** 2), len(came))),
        "resolution": float(divide(np.nansum(n * (happened - base) ** 2), len(came))),
        "uncertainty": base * (1 - base),
    }
    explained = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    return parts | {"within_bins": brier(chances, came) - explained}


def amount_errors(forecast: npt.ArrayLike, actual: npt.ArrayLike) -> dict[str, float]:
    """Score forecast amounts against what came: WAPE, MAPE and signed bias.

    Parameters
    ----------
    forecast, actual : array-like, shape (n,)
        Amounts [currency].

    Returns
    -------
    dict of str to float
        ``wape``: sum of absolute errors / sum of actual amounts; ``mape``: mean
        of absolute error / actual amount, over those that are not 0; ``bias``:
        sum of errors / sum of actual amounts, above 0 where the forecast was
        too high. NaN where there is nothing to divide by.

    Examples
    --------
    >>> amount_errors([110, 75], [100, 100])
    {'wape': 0.175, 'mape': 0.175, 'bias': -0.075}
    """
    said, came = np.asarray(forecast, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    error = said - came
    known = came != 0
    return {
        "wape": float(divide(np.abs(error).sum(), np.abs(came).sum())),
        "mape": float(divide(np.sum(np.abs(error[known] / came[known])), known.sum())),
        "bias": float(divide(error.sum(), came.sum())),
    }


def hubspot_accuracy(forecast: float, actual: float) -> float:
    """Return HubSpot's forecast accuracy, for comparison: 1 - relative error, at least 0.

    Examples
    --------
    >>> round(hubspot_accuracy(100_000, 90_000), 4)
    0.8889
    """
    return float(np.maximum(1 - divide(abs(forecast - actual), abs(actual)), 0.0))


def resampled(sums: npt.NDArray[Any], draws: int, seed: int) -> npt.NDArray[Any]:
    """Draw clusters with replacement and add their sums up: the cluster bootstrap.

    Parameters
    ----------
    sums : ndarray, shape (clusters, k)
        What each cluster (a deal, a period) adds to k sums.
    draws : int
        How often.
    seed : int
        The same seed gives the same draws.

    Returns
    -------
    ndarray, shape (draws, k)
    """
    generator = np.random.default_rng(seed)
    n = len(sums)
    made = [generator.multinomial(n, np.full(n, 1 / n)) @ sums for _ in range(draws)] if n else []
    return np.array(made, dtype=np.float64).reshape(len(made), sums.shape[1])
