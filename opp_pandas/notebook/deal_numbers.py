"""The figures of one state of the deals, each worked out when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.figures import ageing, forecast, hygiene, kpis, stage_distribution
from opp_pandas.forecasting import bookings
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.plotting.canvas import label_of

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.forecasting import Bookings
    from opp_pandas.notebook.selection import Choice, Selection

LEVEL = 0.8
AGES = {
    "up to 30 days": 30.0, "31 to 60 days": 60.0, "61 to 90 days": 90.0, "91 to 180 days": 180.0,
    "181 to 365 days": 365.0, "over a year": np.inf,
}  # fmt: skip
UNKNOWN_AGE = "age unknown"
_NEAREST = 6


@dataclass(frozen=True, eq=False)
class Numbers:
    """The figures of one state of the deals: as they are edited, or as they were loaded.

    Rows of `selection` are the deals, by their numbers in the sheet; where some owners are looked at,
    `of_all_owners` are the same figures with the deals of the others.
    """

    selection: Selection
    choice: Choice
    rho: float = RHO
    of_all_owners: Numbers | None = None

    @property
    def context(self) -> FigureContext:
        """What the figures stand on."""
        return self.selection.context

    @cached_property
    def rows(self) -> Any:
        """Which deals are looked at: of all periods."""
        return self.selection.rows(replace(self.choice, period=None))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The deals that are looked at."""
        return self.selection.frame if self.rows.all() else self.selection.frame[self.rows]

    @cached_property
    def quota(self) -> Any:
        """The quota that the choice is measured by."""
        return self.selection.quota_for(replace(self.choice, period=None), [])

    @cached_property
    def period(self) -> str:
        """The period in focus."""
        return self.choice.period or self.selection.period_now

    @cached_property
    def forecast(self) -> pd.DataFrame:
        """Sums by period."""
        return forecast(self.frame, context=self.context, quota=self.quota)

    @cached_property
    def focus(self) -> pd.Series | None:
        """The row of the period in focus."""
        at = [place for place, label in enumerate(self.forecast.index) if label_of(label) == self.period]
        return self.forecast.iloc[at[0]] if at else None

    @cached_property
    def stages(self) -> pd.DataFrame:
        """The pipeline by stage."""
        return stage_distribution(self.frame, context=self.context)

    @cached_property
    def owners(self) -> pd.DataFrame:
        """The period in focus by owner, the largest first; owners that are not looked at, too, to be compared with."""
        if self.of_all_owners is not None:
            return self.of_all_owners.owners
        if not self.selection.owners:
            return pd.DataFrame()
        quota = None if self.choice.stages else self.selection.owner_quota
        table = forecast(self.frame, context=self.context, by="owner_name", quota=quota)
        here = [label_of(period) == self.period for period in table.index.get_level_values(0)]
        table = table[np.array(here, dtype=bool)]
        return table.sort_values("forecast_amount", ascending=False, kind="stable")

    @cached_property
    def key_figures(self) -> pd.DataFrame:
        """Pipeline, what is overdue, win rate."""
        return kpis(self.frame, context=self.context)

    @cached_property
    def hygiene(self) -> pd.DataFrame:
        """The deals that need a look."""
        return hygiene(self.frame, context=self.context)

    @cached_property
    def ages(self) -> pd.DataFrame:
        """The open deals with their ages, and the span of ages that each stands in."""
        table = ageing(self.frame, context=self.context)
        days = table["age_days"].to_numpy(dtype=float, na_value=np.nan)
        spans = np.array([*AGES, UNKNOWN_AGE], dtype=object)
        at = np.searchsorted(list(AGES.values()), np.where(np.isnan(days), 0, days))
        return table.assign(span=spans[np.where(np.isnan(days), len(AGES), at)])

    @cached_property
    def ahead(self) -> dict[str, Bookings]:
        """What the deals' own percentages say of the nearest periods that are not over."""
        today, ordinals = self.selection.today, self.selection.ordinal_of
        found = [label for label in map(label_of, self.forecast.index) if ordinals.get(label, today - 1) >= today]
        return {
            label: bookings(self.frame, context=self.context, period=label, rho=self.rho) for label in found[:_NEAREST]
        }

    def figure(self, name: str) -> Any:
        """Return one of the figures by its name."""
        named = {"stage_distribution": "stages", "kpis": "key_figures", "ageing": "ages"}
        return getattr(self, named.get(name, name))
