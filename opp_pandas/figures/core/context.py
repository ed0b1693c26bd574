"""What a figure must know beside the rows: stages, moment, time zone, names, and how time and amounts are meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, NotLoadedError
from opp_pandas.figures.core.days import day_of, to_date
from opp_pandas.figures.core.money import ExchangeRates, MoneySpec
from opp_pandas.figures.core.periods import Periods, WeekCalendar
from opp_pandas.frame_state import PUT_IT_BACK, Meaning
from opp_pandas.instants import parse_end
from opp_pandas.stages import StageMap, StageTable, resolve_stages
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    from opp_pandas.figures.core.snapshots import Scope
    from opp_pandas.organisation import Organisation

PERIOD_OPTIONS = tuple(each.name for each in fields(Periods))
MONEY_OPTIONS = tuple(each.name for each in fields(MoneySpec))
DEFINITIONS = (*PERIOD_OPTIONS, *MONEY_OPTIONS)
"""What an organisation states once, with its load, and any call may say otherwise."""


def read_definitions(**options: Any) -> dict[str, Any]:
    """Settle how time is cut and what amounts mean, as it is to travel with a load: what was stated, checked."""
    stated = {name: value for name, value in options.items() if value is not None and value is not False}
    Periods().but(**{name: stated[name] for name in PERIOD_OPTIONS if name in stated})
    money = MoneySpec().but(**{name: stated[name] for name in MONEY_OPTIONS if name in stated})
    return stated if money.rates is None else {**stated, "rates": money.exchange}


def unpack_definitions(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Read definitions again that `opp_pandas.frame_state.pack_definitions` wrote; settled ones stay as they are."""
    found = dict(packed)
    if isinstance(found.get("calendar"), Mapping):
        found["calendar"] = WeekCalendar.from_dict(found["calendar"])
    # A mapping of currencies to rates, as people give it, is settled where it is used.
    if isinstance(found.get("rates"), Mapping) and "table" in found["rates"]:
        given = dict(found["rates"])
        found["rates"] = ExchangeRates(**{**given, "table": pd.DataFrame(given["table"])})
    return found


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
    periods : Periods
        How time is cut.
    money : MoneySpec
        What amounts and percentages mean.
    scope : Scope, optional
        Which deals figures over time speak of; None: all.
    caveats : tuple of str
        What the deals may lack: nights that a repaired history lost. They stand in every basis.
    organisation : Organisation, optional
        Roles, teams and users, where the load has them.
    organisation_then : Organisation, optional
        The same as a history knew it at the moment of its state.

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
    periods: Periods = field(default_factory=Periods)
    money: MoneySpec = field(default_factory=MoneySpec)
    scope: Scope | None = None
    caveats: tuple[str, ...] = ()
    organisation: Organisation | None = None
    organisation_then: Organisation | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.stages, StageTable):
            raise ConfigurationError("stages must be a StageTable: resolve_stages(StageMap(...)) makes one")
        if self.timezone is not None:
            check_zone(self.timezone)
        object.__setattr__(self, "as_of", pd.Timestamp(self.as_of))
        _ = self.today

    def with_definitions(self, **options: Any) -> FigureContext:
        """Return the context with some definitions said otherwise; None leaves one as it is, False takes it away."""
        periods = self.periods.but(**{name: options[name] for name in PERIOD_OPTIONS if name in options})
        money = self.money.but(**{name: options[name] for name in MONEY_OPTIONS if name in options})
        return self if periods is self.periods and money is self.money else replace(self, periods=periods, money=money)

    def with_caveats(self, caveats: Iterable[str]) -> FigureContext:
        """Return the context with more of what the deals may lack."""
        found = tuple(dict.fromkeys([*self.caveats, *caveats]))
        return self if found == self.caveats else replace(self, caveats=found)

    @property
    def arguments(self) -> dict[str, Any]:
        """The definitions, for a basis."""
        return {**self.periods.to_dict(), **self.money.to_dict()}

    @cached_property
    def today(self) -> int:
        """The calendar day of `as_of` in `timezone`, as a day number."""
        return day_of(self.as_of, self.timezone)

    def period_number(self, period: object = None) -> int:
        """Return the number of a period; of the one that holds `as_of` where none is named."""
        return self.periods.of_day(self.today) if period is None else self.periods.parse(period)

    @property
    def local_as_of(self) -> pd.Timestamp:
        """`as_of` by the clocks of `timezone`, for people to read."""
        return self.as_of.tz_convert(self.timezone or "UTC")

    @cached_property
    def as_of_date(self) -> pd.Timestamp:
        """The calendar day of `as_of` in `timezone`."""
        return to_date(self.today)


def settle_context(
    load: Meaning | None,
    stage_names: Sequence[str],
    *,
    as_of: Any = None,
    stages: StageMap | StageTable | None = None,
    timezone: str | None = None,
    **definitions: Any,
) -> FigureContext:
    """Gather what figures need beside the rows: what their load says, and what stages occur where it names none."""
    zone = timezone if timezone is not None else (load.timezone if load else None)
    if as_of is not None:
        moment = parse_end(as_of, zone)
    elif load is not None:
        moment = load.as_of
    else:
        raise NotLoadedError(
            "this frame does not say of which day it speaks: give as_of='2026-09-30' (and stages=StageMap(...)), "
            f"or bring the load back: {PUT_IT_BACK}"
        )
    if not isinstance(stages, StageTable):
        lookup = load.lookups.get("opportunityStage") if load else None
        stages = load.stages if stages is None and load else resolve_stages(stages, lookup, stage_names)
    context = FigureContext(
        stages=stages,
        as_of=moment,
        timezone=zone,
        lookups=load.lookups if load else {},
        caveats=load.caveats if load else (),
        organisation=load.organisation if load else None,
    )
    stated = unpack_definitions(load.definitions) if load else {}
    return context.with_definitions(**stated).with_definitions(**definitions)
