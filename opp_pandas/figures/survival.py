"""How long things last, seen honestly: Kaplan-Meier and Aalen-Johansen.

Deals that are still under way are censored, not left out; deals that were
first seen at some age count from that age on (left truncation). Where a deal
can end in several ways, each has its own incidence: one minus Kaplan-Meier of
the one with the other censored overstates it.

References
----------
.. [1] Kaplan and Meier, Nonparametric estimation from incomplete
   observations, JASA 53 (1958).
.. [2] Aalen and Johansen, An empirical transition matrix for
   non-homogeneous Markov chains, Scand. J. Statist. 5 (1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats


def kaplan_meier(duration: npt.ArrayLike, observed: npt.ArrayLike, entry: npt.ArrayLike | None = None) -> pd.DataFrame:
    """Estimate the share that lasts longer than each time.

    Parameters
    ----------
    duration : array-like, shape (n,)
        Age at the end, or when last seen [any unit of time].
    observed : array-like of bool, shape (n,)
        Whether it ended; False: it was still going on.
    entry : array-like, shape (n,), optional
        Age at which it was first seen; 0 if left out. It is at risk after
        `entry`, up to and including `duration`.

    Returns
    -------
    DataFrame, shape (t, 3)
        Indexed by ``time``, the distinct times at which something ended:
        ``at_risk, events, survival`` [share]. Nothing ended: no rows.

    Raises
    ------
    ConfigurationError
        If the arrays differ in length, a time is missing or negative, or an
        entry does not lie before its end.

    Examples
    --------
    >>> kaplan_meier([5, 8, 8, 12], [True, True, False, True])["survival"].tolist()
    [0.75, 0.5, 0.0]
    """
    times, ended, entered = _checked(duration, np.asarray(observed, dtype=bool), entry)
    moments, at_risk, events = _counts(times, ended.astype(np.intp), entered, 1)
    survival = np.cumprod(1.0 - events[:, 0] / at_risk) if len(moments) else np.empty(0)
    return pd.DataFrame(
        {"at_risk": at_risk, "events": events[:, 0], "survival": survival}, index=pd.Index(moments, name="time")
    )


def aalen_johansen(
    duration: npt.ArrayLike,
    cause: Sequence[Any] | npt.NDArray[Any] | pd.Series,
    entry: npt.ArrayLike | None = None,
    *,
    causes: Sequence[str] = (),
) -> pd.DataFrame:
    """Estimate the share that has ended in each way by each time.

    Parameters
    ----------
    duration : array-like, shape (n,)
        Age at the end, or when last seen [any unit of time].
    cause : array-like of str, shape (n,)
        How it ended; missing where it was still going on.
    entry : array-like, shape (n,), optional
        Age at which it was first seen; 0 if left out.
    causes : sequence of str, optional
        The ways, in order; those that occur if left out.

    Returns
    -------
    DataFrame, shape (t, 2 + c)
        Indexed by ``time``: ``at_risk``, ``survival`` (still going on) and a
        column per cause, its cumulative incidence [share]; they and survival
        add up to 1.

    Raises
    ------
    ConfigurationError
        As for `kaplan_meier`, or if a cause is not among `causes`.

    Examples
    --------
    >>> table = aalen_johansen([5, 8, 9, 12], ["won", "lost", None, "won"])
    >>> table[["lost", "won"]].iloc[-1].tolist()
    [0.25, 0.75]
    """
    words = pd.Series(cause, dtype=object).reset_index(drop=True)
    known = words.notna().to_numpy()
    names = list(causes) or sorted({str(word) for word in words[known]})
    unknown = {str(word) for word in words[known]} - set(names)
    if unknown:
        raise ConfigurationError(f"causes {sorted(unknown)} are not among {names}")
    codes = np.zeros(len(words), dtype=np.intp)
    codes[known] = [names.index(str(word)) + 1 for word in words[known]]
    times, codes, entered = _checked(duration, codes, entry)
    moments, at_risk, events = _counts(times, codes, entered, len(names))
    survival = np.cumprod(1.0 - events.sum(axis=1) / at_risk) if len(moments) else np.empty(0)
    before = np.concatenate([[1.0], survival[:-1]]) if len(moments) else survival
    incidence = np.cumsum(before[:, None] * events / at_risk[:, None], axis=0)
    table = pd.DataFrame({"at_risk": at_risk, "survival": survival}, index=pd.Index(moments, name="time"))
    return table.assign(**{name: incidence[:, place] for place, name in enumerate(names)})


def time_at(table: pd.DataFrame, share: float) -> float:
    """Return the first time by which a share has ended; NaN if fewer ever were seen to."""
    # A share reached but for rounding is reached.
    reached = np.flatnonzero(table["survival"].to_numpy() <= 1.0 - share + 1e-12)
    return float(table.index[reached[0]]) if len(reached) else float("nan")


def _checked(
    duration: npt.ArrayLike, codes: npt.NDArray[Any], entry: npt.ArrayLike | None
) -> tuple[Floats, Any, Floats]:
    times = np.asarray(duration, dtype=np.float64)
    entered = np.full(len(times), -np.inf) if entry is None else np.asarray(entry, dtype=np.float64)
    if times.ndim != 1 or len(codes) != len(times) or len(entered) != len(times):
        raise ConfigurationError(f"one end and one entry per row: got {len(times)}, {len(codes)} and {len(entered)}")
    bad = ~np.isfinite(times) | (times < 0) | np.isnan(entered)
    if bad.any():
        raise ConfigurationError(f"times must be numbers from 0 on; not so in rows {np.flatnonzero(bad)[:5].tolist()}")
    late = entered >= times
    if entry is not None and late.any():
        raise ConfigurationError(
            f"rows {np.flatnonzero(late)[:5].tolist()} were first seen when they had ended already; leave them out"
        )
    return times, codes, entered


def _counts(times: Floats, codes: Any, entered: Floats, n_causes: int) -> tuple[Floats, Any, Any]:
    """Return the distinct times of events, how many were at risk just before, and the events per cause."""
    moments, place = np.unique(times[codes > 0], return_inverse=True)
    events = np.zeros((len(moments), n_causes), dtype=np.int64)
    np.add.at(events, (place, codes[codes > 0] - 1), 1)
    left = np.searchsorted(np.sort(times), moments, side="left")
    came = np.searchsorted(np.sort(entered), moments, side="left")
    return moments, came - left, events
