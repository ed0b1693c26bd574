"""Which deals somebody looks at: owners, stages and periods that the deals have, and the quota that fits a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.figures import forecast
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import OPEN, Deals
from opp_pandas.figures.core.groups import read_groups
from opp_pandas.plotting.canvas import label_of

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.groups import Group

NO_DATE = "no date"


@dataclass(frozen=True)
class Choice:
    """What is looked at, by the names that the dashboard lists: nothing chosen means everything."""

    owners: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    period: str | None = None


class Selection:
    """The deals that can be chosen from, by what they have.

    Raises
    ------
    MissingColumnError
        If a column that every figure needs is not there.
    ConfigurationError
        If the quota fits neither periods nor owners.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    """

    def __init__(self, frame: pd.DataFrame, context: FigureContext, quota: Any = None) -> None:
        self.frame, self.context = frame, context
        deals = Deals(frame, context)
        deals.need("amount", "close_date")
        has_owner = deals.has("owner_id") or deals.has("owner_name")
        owner = read_groups(deals, "owner_name")[0] if has_owner else None
        stage = read_groups(deals, "stage_name")[0]
        self._codes = {"stages": (stage.codes, [str(label) for label in stage.labels])}
        if owner is not None:
            self._codes["owners"] = (owner.codes, [str(label) for label in owner.labels])
        self.amounts, self.is_open = np.nan_to_num(deals.amount), deals.status == OPEN
        self._cut_periods(deals)
        self.owners, self.stages = self._present("owners"), self._present("stages")
        self.teams = {} if owner is None else self._teams_of(owner)
        self._quota, self._owner_quota = self._read_quota(quota)
        self.owner_quota = None if self._owner_quota is None else quota
        """The quota as it was given, where it is one of owners."""

    def _cut_periods(self, deals: Deals) -> None:
        self.cut = self.context.periods
        self._ordinals = self.cut.ordinals(deals.close_day)
        self._dated = deals.close_day != NO_DAY
        distinct = np.unique(self._ordinals[self._dated])
        self.today = int(self.cut.ordinals(np.array([self.context.today]))[0])
        self.period_now = label_of(self.labels([self.today])[0])
        self.ordinal_of = {label_of(label): int(n) for n, label in zip(distinct, self.labels(distinct), strict=True)}
        self.periods = [*self.ordinal_of, *([] if self._dated.all() else [NO_DATE])]

    def labels(self, ordinals: Any) -> list[Any]:
        """Return the periods of numbers."""
        return list(self.cut.labels(np.asarray(ordinals)))

    def _teams_of(self, owner: Group) -> dict[str, tuple[str, ...]]:
        """Return the listed owners of each team, as far as the load has the organisation."""
        organisation = self.context.organisation
        keys = dict(zip(map(str, owner.labels), owner.keys, strict=True))
        teams = {} if organisation is None else organisation.teams_by_label
        listed = {team: tuple(name for name in self.owners if keys[name] in ids) for team, ids in teams.items()}
        return {team: names for team, names in listed.items() if names}

    def names_of(self, which: str) -> Any:
        """Return every deal's owner or stage as it is listed."""
        codes, labels = self._codes[which]
        return np.array(labels, dtype=object)[codes]

    def _present(self, which: str) -> list[str]:
        """Names that some deal has, in the group's order."""
        if which not in self._codes:
            return []
        codes, labels = self._codes[which]
        return [labels[place] for place in np.unique(codes)]

    def _read_quota(self, quota: Any) -> tuple[Any, pd.Series | None]:
        """Tell a quota of the whole team from quotas of owners."""
        if quota is None:
            return None, None
        try:
            forecast(self.frame, context=self.context, quota=quota)
        except ConfigurationError as error:
            if not self.owners:
                raise
            try:
                table = forecast(self.frame, context=self.context, by="owner_name", quota=quota)
            except ConfigurationError as problem:
                raise ConfigurationError(f"the quota fits neither periods: {error}; nor owners: {problem}") from None
            return None, table["quota"]
        return quota, None

    def rows(self, choice: Choice) -> Any:
        """Return which deals belong to a choice; a ConfigurationError says which name is not listed."""
        chosen = np.ones(len(self.frame), dtype=bool)
        for which, names in (("owners", choice.owners), ("stages", choice.stages)):
            if not names:
                continue
            known: list[str] = getattr(self, which)
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ConfigurationError(f"no deal has the {which[:-1]} {named(unknown)}; there are {named(known, 12)}")
            codes, labels = self._codes[which]
            chosen &= np.isin(codes, [labels.index(name) for name in names])
        if choice.period is not None:
            if choice.period not in self.periods:
                raise ConfigurationError(
                    f"no deal is dated in {named([choice.period])}; there are {named(self.periods, 12)}"
                )
            if choice.period == NO_DATE:
                chosen &= ~self._dated
            else:
                chosen &= self._dated & (self._ordinals == self.ordinal_of[choice.period])
        return chosen

    def quota_for(self, choice: Choice, notes: list[str]) -> Any:
        """Return the quota that a choice is measured by, or say why it has none."""
        if self._quota is None and self._owner_quota is None:
            return None
        if choice.stages or choice.period == NO_DATE:
            notes.append("no quota is shown: it is for deals in all stages, with a date")
            return None
        if self._owner_quota is None:
            if choice.owners:
                notes.append("no quota is shown: the one given is for all owners together")
                return None
            return self._quota
        quota = self._owner_quota.dropna()
        if choice.owners:
            wanted = [str(name) in choice.owners for name in quota.index.get_level_values(1)]
            quota = quota[np.array(wanted, dtype=bool)]
        sums = quota.groupby(level=0).sum()
        shown = self.periods if choice.period is None else [choice.period]
        return {str(period): float(value) for period, value in sums.items() if label_of(period) in shown} or None
