"""Activity as numbers for models, as it was known of each deal at each deal's own moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.activity.touches import check_activity, known_touches

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

FEATURES = ("touches_30d", "meetings_30d", "touches_per_month", "meetings_per_month", "days_since_touch", "age_days")
"""What models know of activity. Plans are left out: a record keeps the present date of a plan only."""
DAY_S = 86_400
_SPAN = 1 << 34
"""More seconds than any moment has since 1970: a deal's place and a moment in one number."""


@dataclass(frozen=True, eq=False)
class KnownTouches:
    """The touches of all deals, in order of deal and of the moment from which each was known.

    Parameters
    ----------
    deals : Index of int
        The deals' ids, sorted.
    touches, meetings : ndarray of int64
        Place of the deal times `_SPAN` plus the moment [s since 1970], sorted.
    """

    deals: pd.Index
    touches: Integers
    meetings: Integers

    @classmethod
    def of(cls, activity: pd.DataFrame) -> KnownTouches | None:
        """Read them from activity; None where there is none.

        Parameters
        ----------
        activity : DataFrame
            As `read_activity` gives it.
        """
        known = known_touches(check_activity(activity))
        if known.empty:
            return None
        deals = pd.Index(np.unique(known["opportunity_id"].to_numpy(dtype=np.int64)))
        moments = known["known_at"].astype("datetime64[s, UTC]").astype(np.int64).to_numpy()
        keys = deals.get_indexer(known["opportunity_id"].to_numpy(dtype=np.int64)) * _SPAN + moments
        return cls(deals, np.sort(keys), np.sort(keys[(known["kind"] == "meeting").to_numpy()]))

    def without_any(self) -> KnownTouches:
        """Return what is known where nothing was done."""
        nothing = self.touches[:0]
        return KnownTouches(self.deals[:0], nothing, nothing)

    def features(self, ids: Any, created: Floats, moments: Floats) -> pd.DataFrame:
        """Return the features of deals at moments.

        Parameters
        ----------
        ids : array-like of int, shape (n,)
            The deals; -1 for one without an id.
        created, moments : ndarray of float, shape (n,)
            When each was created, and when it is looked at [s since 1970]; NaN where unknown.

        Returns
        -------
        DataFrame, shape (n, 6)
            ``touches_30d`` and ``meetings_30d`` (in the last 30 days),
            ``touches_per_month`` and ``meetings_per_month`` (30 days, since
            creation), ``days_since_touch`` (since creation where there was none) and
            ``age_days``. Missing where the deal has no id or a moment is unknown.
        """
        place = self.deals.get_indexer(pd.Index(np.asarray(ids, dtype=np.int64)))
        sound = ~np.isnan(created) & ~np.isnan(moments) & (np.asarray(ids) >= 0)
        now, begun = (np.where(sound, values, 0.0).astype(np.int64) for values in (moments, created))
        age = np.maximum(now - begun, 0) / DAY_S
        months = np.maximum(age / 30.0, 1 / 30)
        start = place * _SPAN

        def until(keys: Integers, at: Integers) -> Integers:
            count = np.searchsorted(keys, start + at, side="right") - np.searchsorted(keys, start)
            return np.where(place < 0, 0, count)

        total, met = until(self.touches, now), until(self.meetings, now)
        recent, recently_met = (
            all_of - until(keys, now - 30 * DAY_S) for all_of, keys in ((total, self.touches), (met, self.meetings))
        )
        last = np.searchsorted(self.touches, start) + total - 1
        since = np.where(total > 0, now - (self._at(last) - start), now - begun) / DAY_S
        columns = (recent, recently_met, total / months, met / months, np.maximum(since, 0.0), age)
        table = pd.DataFrame(
            dict(zip(FEATURES, (np.round(np.asarray(column, dtype=float), 2) for column in columns), strict=True))
        )
        return table.where(pd.Series(sound))

    def _at(self, places: Integers) -> Integers:
        return np.append(self.touches, 0)[np.clip(places, 0, len(self.touches))]
