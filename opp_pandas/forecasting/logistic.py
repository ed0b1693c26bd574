"""Logistic regression whose weights are pulled to usual ones, by Newton's method; odds and chances."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats


def log_odds(p: Floats, least: float = 1e-3) -> Floats:
    """Return the logarithm of the odds, of probabilities kept off 0 and 1."""
    inside = np.clip(p, least, 1 - least)
    return np.asarray(np.log(inside / (1 - inside)))


def chance_of(odds: Floats) -> Floats:
    """Return the probabilities of which these are the logarithms of the odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


def with_ones(x: Floats) -> Floats:
    """Return a matrix with a column of ones before its own."""
    return np.column_stack([np.ones(len(x)), x])


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def fit_logistic(
    x: Floats, y: Floats, pull: Floats, usual: Floats, *, start: Any = None, w: Any = 1.0, close: float = 1e-8
) -> Floats:
    """Return the weights of the columns of `x` that fit best, pulled to what is usual.

    Parameters
    ----------
    x, y : ndarray of float, shape (n, k) and (n,)
    pull, usual : ndarray of float, shape (k,)
        Half the pull times the squared distance from the usual weight is added to the loss.
    start : ndarray, optional
        Weights to begin with; the usual ones if left out.
    w : ndarray of float, optional
        How much each row counts.
    close : float
        The longest step at which it is done.
    """

    def loss(weights: Floats) -> float:
        odds = x @ weights
        return float(np.sum(w * (np.logaddexp(0.0, odds) - y * odds)) + np.sum(pull * (weights - usual) ** 2) / 2)

    found = usual if start is None else start
    # Many small fits: where cores are shared, threads that wait for each other take a hundred times as long.
    with _thread_pools().limit(limits=1, user_api="blas"):
        least = loss(found)
        for _ in range(50):
            p = chance_of(x @ found)
            slope = x.T @ (w * (p - y)) + pull * (found - usual)
            curve = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(pull)
            step = np.clip(np.linalg.solve(curve, slope), -2.0, 2.0)
            # A whole step from far away can lead further away.
            while (here := loss(found - step)) > least and np.abs(step).max() >= 1e-3:
                step = step / 2
            found, least = found - step, here
            if np.abs(step).max() < close:
                break
    return found
