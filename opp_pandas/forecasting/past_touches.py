"""What was done on open deals by the evenings of a walk, as features of a landmark model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from opp_pandas.activity.features import DAY_S, KnownTouches
from opp_pandas.figures.core.days import to_date
from opp_pandas.frame_state import loaded_of

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Floats
    from opp_pandas.figures.core.deals import Deals
    from opp_pandas.forecasting.as_of_view import Past


def known_activity(frame: pd.DataFrame, activity: pd.DataFrame | Literal[False] | None) -> KnownTouches | None:
    """Return the touches of a frame's deals: those given, else those of its load; None where there are none."""
    loaded = loaded_of(frame)
    if activity is None and loaded is not None:
        activity = loaded.activity
    return None if activity is None or activity is False or "id" not in frame.columns else KnownTouches.of(activity)


@dataclass(frozen=True, eq=False)
class PastTouches:
    """The touches of a frame's deals, by the rows of a walk's past."""

    known: KnownTouches
    ids: Any
    context: FigureContext

    @classmethod
    def of(cls, deals: Deals, activity: pd.DataFrame | Literal[False] | None) -> PastTouches | None:
        """Read them; None where nothing was done on any of the deals."""
        known = known_activity(deals.frame, activity)
        if known is None or not deals.frame["id"].isin(known.deals).any():
            return None
        return cls(known, deals.frame["id"].to_numpy(dtype=np.int64, na_value=-1), deals.context)

    def _by(self, past: Past, day: int) -> pd.DataFrame:
        rows, zone = past.known(day).open, self.context.timezone or "UTC"
        evening = to_date(day + 1).tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        moment = np.full(len(rows), min(evening, self.context.as_of).timestamp())
        return self.known.features(self.ids[past.rows[rows]], past.created[rows].astype(np.float64) * DAY_S, moment)

    def features(self, past: Past, day: int) -> Floats:
        """Return the features of the deals that were open on an evening, shape (n, k)."""
        # Counts and days are read by their size: the third meeting says less than the first.
        values = np.log1p(self._by(past, day).to_numpy(dtype=np.float64))
        values = np.column_stack([np.nan_to_num(values), np.isnan(values[:, 0])])
        # Against the other deals of the evening: how busy everybody is says little of one of them.
        return values - values.mean(axis=0) if len(values) else values

    def in_words(self, past: Past, day: int) -> list[str]:
        """Describe what was done on the deals that were open on an evening."""
        columns = ("touches_per_month", "touches_30d", "meetings_30d", "days_since_touch")
        rows = self._by(past, day)[list(columns)].itertuples(index=False, name=None)
        return [
            "no activity known"
            if np.isnan(ever)
            else f"{touches:.0f} touches in 30 days ({met:.0f} meetings), the last {since:.0f} days ago"
            if ever
            else "never touched"
            for ever, touches, met, since in rows
        ]
