"""What a report is made of: the deals, what figures need beside them, and the figures, each worked out once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from opp_pandas import figures, forecasting
from opp_pandas.errors import ConfigurationError, FrameError, HistoryNeededError, MissingColumnError, printable
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.groups import Group, read_groups
from opp_pandas.figures.core.snapshots import HOW_TO_START
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.forecasting.predicting import predict_and_compare
from opp_pandas.frame_state import Loaded, loaded_of
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from opp_pandas.figures import FigureContext
    from opp_pandas.figures.core.days import Codes


@dataclass(frozen=True, eq=False)
class Material:
    """What a section is given: the deals, under a plain RangeIndex, the choices of `write_report`, and the figures.

    A figure is worked out when a section first asks for it, and only once.
    """

    frame: pd.DataFrame
    context: FigureContext
    history: Any = None
    quota: Any = None
    by: str | None = None
    since: Any = None
    window_days: int | None = None
    rho: float = RHO
    level: float = 0.95
    stale_days: int = 30
    max_rows: int = 15
    link: str | None = None

    def __post_init__(self) -> None:
        if self.link is not None and not (
            isinstance(self.link, str) and re.match(r"https?://[^{}\s]+(?:\{(?:id|custom_id)\}[^{}\s]*)+\Z", self.link)
        ):
            raise ConfigurationError(
                f"link= is the address of a deal such as 'https://crm.example.com/deals/{{id}}', with {{id}} or "
                f"{{custom_id}} in it, not {printable(repr(self.link), 80)}"
            )

    def links(self, places: Codes) -> list[str | None]:
        """Return the addresses of deals at the service; None where a deal has none."""
        if self.link is None:
            return []
        named = [name for name in ("id", "custom_id") if f"{{{name}}}" in self.link]
        if any(name not in self.frame.columns for name in named):
            return []
        rows = (dict(zip(named, row, strict=True)) for row in self.frame[named].iloc[places].itertuples(index=False))
        return [
            None if any(pd.isna(key) for key in row.values())
            else self.link.format(**{name: quote(str(key), safe="") for name, key in row.items()})
            for row in rows
        ]  # fmt: skip

    @property
    def days_left(self) -> int:
        """The days of the present period that are still to come."""
        return self.context.periods.span(self.context.period_number())[1] - self.context.today

    @cached_property
    def loaded(self) -> Loaded | None:
        """What travels with the frame, if anything does."""
        return loaded_of(self.frame)

    @cached_property
    def period(self) -> str:
        """Name of the period that holds the moment of the report."""
        return str(self.context.periods.label(self.context.period_number()))

    @property
    def group_quota(self) -> Any:
        """The quota as far as it is stated by group; None where it is not."""
        if self.by is None:
            return None
        if isinstance(self.quota, pd.DataFrame):
            return self.quota if self.quota.columns.isin([self.by, "group"]).any() else None
        return self.quota if isinstance(self.quota, Mapping) else None

    @property
    def total_quota(self) -> Any:
        """The quota of all groups together; as it was given where it names no groups."""
        stated = self.group_quota
        if stated is None:
            return self.quota
        if not isinstance(stated, pd.DataFrame):
            return float(sum(stated.values()))
        missing = [name for name in ("period", "quota") if name not in stated.columns]
        if missing:
            raise MissingColumnError(missing, list(stated.columns), "A quota frame has period, quota and the group.")
        return stated.groupby("period", sort=False)["quota"].sum().reset_index()

    @cached_property
    def forecast(self) -> pd.DataFrame:
        """The forecast of all deals by period, beside the quota."""
        return figures.forecast(self.frame, context=self.context, quota=self.total_quota)

    @cached_property
    def kpis(self) -> pd.DataFrame:
        """Key figures of all deals, with the quota of the present period."""
        return figures.kpis(
            self.frame, context=self.context, quota=self.total_quota, window_days=self.window_days,
            level=self.level,
        )  # fmt: skip

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Key figures of each group, with their quotas of the present period."""
        if self.by is None:
            raise ConfigurationError("groups are compared by a column: give by=, such as by='owner_name'")
        return figures.kpis(
            self.frame, context=self.context, by=self.by, quota=self.group_quota, window_days=self.window_days,
            level=self.level,
        )  # fmt: skip

    @cached_property
    def predicted(self) -> tuple[forecasting.Prediction, pd.DataFrame] | str:
        """What the present period is predicted to bring, and the methods side by side; or why nobody can tell."""
        quota = self.kpis["quota"].iloc[0] if "quota" in self.kpis.columns else None
        target = None if quota is None or pd.isna(quota) else float(quota)
        try:
            return predict_and_compare(
                self.frame, context=self.context, period=self.period, quota=target, history=self.history
            )
        except (FrameError, ConfigurationError) as error:
            # A period whose last day is the moment has nothing to come; a young pipeline has nothing to learn from.
            return str(error)

    @property
    def prediction(self) -> forecasting.Prediction | None:
        """The prediction of the present period, where one can be made."""
        return None if isinstance(self.predicted, str) else self.predicted[0]

    @cached_property
    def bookings(self) -> forecasting.Bookings:
        """The distribution of the present period's bookings by the percentages that are stated."""
        return forecasting.bookings(self.frame, context=self.context, period=self.period, rho=self.rho)

    @cached_property
    def funnel(self) -> pd.DataFrame:
        """The funnel from the history; without one, the stage distribution."""
        return figures.funnel(self.frame, context=self.context, history=self.history)

    @cached_property
    def before(self) -> tuple[pd.DataFrame, FigureContext]:
        """The deals as they were at `since`, else at the last snapshot before this load."""
        if self.history is None:
            raise HistoryNeededError(f"what moved since the last snapshot needs history=. {HOW_TO_START}")
        moment = self.since
        if moment is None:
            observed = self.history.snapshots()["observed_at"]
            earlier = observed[observed < self.context.as_of]
            if not len(earlier):
                raise HistoryNeededError(
                    f"the history has no snapshot before {self.context.local_as_of:%Y-%m-%d %H:%M}, the moment of "
                    "this report: record one at every load"
                )
            moment = earlier.max()
        frame = self.history.as_of(moment)
        own = loaded_of(frame)
        as_of = self.context.as_of if own is None else own.as_of
        names = {} if own is None else own.lookups
        return frame, replace(self.context, as_of=as_of, lookups={**names, **self.context.lookups})

    @cached_property
    def waterfall(self) -> pd.DataFrame:
        """What moved in the present period since `before`."""
        frame, context = self.before
        return figures.waterfall((frame, self.frame), period=self.period, context=(context, self.context))

    @cached_property
    def ageing(self) -> pd.DataFrame:
        """The open deals with their ages; its index holds their positions in `frame`."""
        return figures.ageing(self.frame, context=self.context)

    @cached_property
    def hygiene(self) -> pd.DataFrame:
        """The deals that need a look, and why."""
        return figures.hygiene(self.frame, context=self.context, stale_days=self.stale_days)

    def names(self, column: str) -> Group:
        """Return every deal's owner or account by the names of the look-ups; two of one name are told apart."""
        kept: dict[str, Group] = self.__dict__.setdefault("_names", {})
        if column not in kept:
            kept[column] = read_groups(Deals(self.frame, self.context), column)[0]
        return kept[column]

    def around_now(self, table: pd.DataFrame, before: int = 4, after: int = 4) -> pd.DataFrame:
        """Keep a forecast's rows around the present period, and those without a period."""
        undated = table["period_end"].isna().to_numpy()
        ahead = np.flatnonzero((table["period_end"] >= self.context.as_of_date).to_numpy())
        first = int(ahead[0]) if len(ahead) else int((~undated).sum())
        places = np.arange(len(table))
        return table[undated | ((places >= first - before) & (places <= first + after))]


def plain_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the deals under a RangeIndex; known columns come back from the index."""
    levels = [name for name in frame.index.names if name in COLUMN_DTYPES and name not in frame.columns]
    return frame.reset_index(level=levels).reset_index(drop=True) if levels else frame.reset_index(drop=True)


def sequence_of(value: Any) -> Sequence[Any]:
    """Return a sequence: what is one already, or the value alone."""
    return value if isinstance(value, list | tuple) else [value]
