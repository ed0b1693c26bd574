"""What a figure must know beside the rows: stages, moment, time zone and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.days import day_of, to_date
from opp_pandas.stages import StageTable
from opp_pandas.timezones import check_zone


@dataclass(frozen=True, eq=False)
class FigureContext:
    """What every figure stands on; no figure looks at a clock.

    Parameters
    ----------
    stages : StageTable
        The stages and what they mean, from `opp_pandas.stages.resolve_stages`.
    as_of : Timestamp
        The moment that the figures speak of, with a time zone.
    timezone : str or None, default None
        Where calendar days begin and end; None: UTC, and the basis says so.
    lookups : mapping of str to DataFrame, default {}
        ``user`` and ``account``: columns ``id, name``. Names come from here,
        never from a joined column that has gone stale.
    currency : str or None, default None
        Currency of the amounts that name none.

    Raises
    ------
    ConfigurationError
        If `as_of` has no zone, `timezone` does not exist, or `stages` is not settled.

    Examples
    --------
    >>> from opp_pandas.stages import StageMap, resolve_stages
    >>> stages = resolve_stages(StageMap(order=["Lead"], won=["Won"], lost=["Lost"]))
    >>> FigureContext(stages, pd.Timestamp("2026-06-30 22:00", tz="UTC"), "Europe/Berlin").as_of_date
    Timestamp('2026-07-01 00:00:00')
    """

    stages: StageTable
    as_of: pd.Timestamp
    timezone: str | None = None
    lookups: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    currency: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.stages, StageTable):
            raise ConfigurationError("stages must be a StageTable: resolve_stages(StageMap(...)) makes one")
        if self.timezone is not None:
            check_zone(self.timezone)
        object.__setattr__(self, "as_of", pd.Timestamp(self.as_of))
        _ = self.today

    @cached_property
    def today(self) -> int:
        """The calendar day of `as_of` in `timezone`, as a day number."""
        return day_of(self.as_of, self.timezone)

    @property
    def local_as_of(self) -> pd.Timestamp:
        """`as_of` by the clocks of `timezone`, for people to read."""
        return self.as_of.tz_convert(self.timezone or "UTC")

    @cached_property
    def as_of_date(self) -> pd.Timestamp:
        """The calendar day of `as_of` in `timezone`."""
        return to_date(self.today)
