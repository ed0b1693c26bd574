"""What a dashboard shows of a choice of deals: headline figures and pictures, without a widget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, OppPandasError, named, printable
from opp_pandas.figures import ageing, forecast, funnel, kpis, stage_distribution, waterfall
from opp_pandas.figures.core.basis import BASIS_KEY
from opp_pandas.figures.core.days import NO_DAY, to_date
from opp_pandas.figures.core.deals import OPEN, WON, Deals
from opp_pandas.figures.core.groups import read_groups
from opp_pandas.figures.core.scope import resolve_scope
from opp_pandas.forecasting import Prediction, bookings, predict
from opp_pandas.plotting.canvas import label_of, write_short
from opp_pandas.plotting.words import chance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.forecasting import Bookings

LEVEL = 0.8
NO_DATE = "no date"
_INTERVALS = 6
_SIZE = (6.6, 3.9)  # of a picture [inches]


@dataclass(frozen=True)
class Choice:
    """What is looked at: nothing chosen means everything.

    Parameters
    ----------
    owners, stages : tuple of str
        Names as the dashboard lists them.
    period : str or None
        A period as the dashboard lists it.
    """

    owners: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    period: str | None = None


@dataclass(frozen=True, eq=False)
class Headline:
    """One number with its name and what belongs to it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One picture, or in ``reason`` why there is none."""

    name: str
    axes: Axes | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class View:
    """What one choice gives."""

    frame: pd.DataFrame
    headlines: list[Headline]
    pictures: list[Drawn]
    notes: list[str] = field(default_factory=list)


class Board:
    """The deals of a dashboard and everything that can be asked of them.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities. Never modified.
    context : FigureContext
        Stages, moment, time zone, names.
    history : History, optional
        Adds the conversion to the funnel, and the waterfall.
    quota : number, mapping or DataFrame, optional
        As in `forecast`: for each period, for periods, or for owners.
    rho : float
        As in `bookings`.

    Raises
    ------
    MissingColumnError
        If a column that every figure needs is not there.
    ConfigurationError
        If the quota fits neither periods nor owners.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        context: FigureContext,
        history: Any,
        quota: Any,
        rho: float,
    ) -> None:
        self.frame, self.context, self.history = frame, context, history
        self.rho = rho
        deals = Deals(frame, context)
        deals.need("amount", "close_date")
        has_owner = deals.has("owner_id") or deals.has("owner_name")
        owner = read_groups(deals, "owner_name")[0] if has_owner else None
        stage = read_groups(deals, "stage_name")[0]
        self._codes = {"stages": (stage.codes, [str(label) for label in stage.labels])}
        if owner is not None:
            self._codes["owners"] = (owner.codes, [str(label) for label in owner.labels])
        self._open = deals.status == OPEN
        self._cut_periods(deals)
        self.owners, self.stages = self._present("owners"), self._present("stages")
        self._quota, self._owner_quota = self._read_quota(quota)
        self._entries: Any = None
        self._states: dict[Any, pd.DataFrame] = {}

    def _cut_periods(self, deals: Deals) -> None:
        self._periods = self.context.periods.cut
        self._ordinals = self._periods.ordinals(deals.close_day)
        self._dated = deals.close_day != NO_DAY
        distinct = np.unique(self._ordinals[self._dated])
        self._today = int(self._periods.ordinals(np.array([self.context.today]))[0])
        so_far = (deals.status == WON) & (self._ordinals == self._today) & (deals.close_day <= self.context.today)
        self._won_to_date = np.where(so_far, np.nan_to_num(deals.amount), 0.0)
        self._period_now = label_of(self._labels([self._today])[0])
        self._by_label = {label_of(label): int(n) for n, label in zip(distinct, self._labels(distinct), strict=True)}
        self.periods = [*self._by_label, *([] if self._dated.all() else [NO_DATE])]

    def _labels(self, ordinals: Any) -> list[Any]:
        return list(self._periods.labels(np.asarray(ordinals)))

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
        """Tell which deals belong to a choice.

        Raises
        ------
        ConfigurationError
            If a name is not one of those listed.
        """
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
                chosen &= self._dated & (self._ordinals == self._by_label[choice.period])
        return chosen

    def view(self, choice: Choice) -> View:
        """Compute and draw everything for a choice."""
        rows = self.rows(choice)
        frame = self.frame if rows.all() else self.frame[rows]
        notes: list[str] = []
        quota = self._quota_for(choice, notes)
        table = forecast(frame, context=self.context, quota=quota)
        ahead = self._ahead(frame, table)
        spread = pd.DataFrame([result.interval(LEVEL) for result in ahead.values()], columns=["low", "high"])
        spread.index = pd.Index(list(ahead))
        pictures = [
            self._prediction(choice, table),
            _draw("forecast", "plot_forecast", table, interval=spread, note=self._interval_words(ahead)),
            self._funnel(frame),
            self._waterfall(choice, rows),
            _draw("ageing", "plot_ageing", ageing(frame, context=self.context)),
        ]
        headlines = self._headlines(frame, rows, table, choice, ahead)
        return View(frame, headlines, [drawn for drawn in pictures if drawn is not None], notes)

    @cached_property
    def predicted(self) -> Prediction | str:
        """What the present period is predicted to bring, of all deals; or why nobody can tell."""
        try:
            period = self._labels([self._today])[0]
            return predict(self.frame, context=self.context, period=period, history=self.history)
        except (FrameError, ConfigurationError) as error:
            return str(error)

    def _prediction(self, choice: Choice, table: pd.DataFrame) -> Drawn | None:
        """Draw the prediction of all deals, where all are looked at."""
        if choice.owners or choice.stages or choice.period not in (None, self._period_now):
            return None
        if isinstance(self.predicted, str):
            return Drawn("prediction", None, f"No prediction: {printable(self.predicted, 400)}")
        quota = [] if "quota" not in table.columns else [
            float(value) for period, value in table["quota"].items() if label_of(period) == self._period_now
        ]  # fmt: skip
        target = quota[0] if quota and not np.isnan(quota[0]) else None
        return _draw("prediction", "plot_predict", self.predicted, quota=target)

    def _predicted_headline(self, choice: Choice, unit: str) -> list[Headline]:
        """Return what the present period is predicted to bring; of some deals their part in it."""
        found, name = self.predicted, f"Predicted {self._period_now}"
        if isinstance(found, str):
            return []
        if not (choice.owners or choice.stages):
            low, high = found.interval(LEVEL)
            note = f"{LEVEL:.0%} interval {write_short(low)} to {write_short(high)}; {found.tested}"
            return [Headline(name, _money(found.mean, unit), note)]
        rows = self.rows(replace(choice, period=None))
        still_open = (found.amounts * found.chances)[rows[found.attrs["positions"]]]
        expected = float(self._won_to_date[rows].sum() + still_open.sum())
        return [Headline(name, _money(expected, unit), "their part in the prediction of all, without new deals")]

    def _quota_for(self, choice: Choice, notes: list[str]) -> Any:
        """Give the quota that a choice is measured by, or say why it has none."""
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

    @staticmethod
    def _interval_words(ahead: Mapping[Any, Bookings]) -> str:
        first = next(iter(ahead.values()), None)
        return "" if first is None else f"whiskers: {LEVEL:.0%} interval, {first.assumption}; {first.tested}"

    def _ahead(self, frame: pd.DataFrame, table: pd.DataFrame) -> dict[Any, Bookings]:
        """Give the distribution of bookings of each period that is not over, the nearest first."""
        ahead = [
            period for period in table.index if self._by_label.get(label_of(period), self._today - 1) >= self._today
        ]
        return {
            period: bookings(frame, context=self.context, period=period, rho=self.rho) for period in ahead[:_INTERVALS]
        }

    def _funnel(self, frame: pd.DataFrame) -> Drawn:
        if self.history is None:
            return _draw("stages", "plot_stage_distribution", stage_distribution(frame, context=self.context))
        try:
            if frame is not self.frame and self._entries is None:
                self._entries = self.history.stage_entries()
            entries = self.history if frame is self.frame else self._entries[self._entries["id"].isin(frame["id"])]
            table = funnel(frame, history=entries, context=self.context)
        except OppPandasError as error:
            return Drawn("funnel", None, f"No funnel: {printable(error, 400)}")
        return _draw("funnel", "plot_funnel", table)

    def _waterfall(self, choice: Choice, rows: Any) -> Drawn | None:
        """Draw how the open pipeline of the chosen period, or of the present one, became what it is."""
        if self.history is None:
            return None
        if choice.period == NO_DATE:
            return Drawn("waterfall", None, "No waterfall: deals without a date belong to no period")
        ordinal = self._today if choice.period is None else self._by_label[choice.period]
        period = self._labels([ordinal])[0]
        first = to_date(int(self._periods.starts(np.array([ordinal]))[0]))
        last = to_date(int(self._periods.ends(np.array([ordinal]))[0]))
        chosen = choice.owners or choice.stages
        scope = resolve_scope(rows, self.context.scope, self.frame) if chosen else self.context.scope
        try:
            ends = tuple(self._state(moment) for moment in self._moments(first, last))
            table = waterfall(ends, period=(first, last), context=replace(self.context, scope=scope))
        except OppPandasError as error:
            return Drawn("waterfall", None, f"No waterfall of {printable(period)}: {printable(error, 400)}")
        return _draw("waterfall", "plot_waterfall", table)

    def _moments(self, first: Any, last: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
        """From the day before the period to its last day, as far as the history knows."""
        taken = pd.DatetimeIndex(self.history.snapshots()["observed_at"])
        zone = self.context.timezone or "UTC"
        start = (pd.Timestamp(first)).tz_localize(zone).tz_convert("UTC")
        end = (pd.Timestamp(last) + pd.Timedelta(days=1)).tz_localize(zone).tz_convert("UTC")
        return max(start, taken.min()), min(end, taken.max())

    def _state(self, moment: pd.Timestamp) -> pd.DataFrame:
        """Read a moment of the history once."""
        if moment not in self._states:
            self._states[moment] = self.history.as_of(moment)
        return self._states[moment]

    def _headlines(
        self, frame: pd.DataFrame, rows: Any, table: pd.DataFrame, choice: Choice, ahead: Mapping[Any, Bookings]
    ) -> list[Headline]:
        open_amount, weighted = (float(table[name].sum()) for name in ("open_amount", "weighted_amount"))
        unit = str(table.attrs.get(BASIS_KEY, {}).get("currency") or "")
        shown = [
            *self._present_period(table, choice, ahead, unit),
            Headline("Open", _money(open_amount, unit), f"{int((self._open & rows).sum()):,} deals"),
            Headline(
                "Weighted", _money(weighted, unit), f"{weighted / open_amount:.0%} of open" if open_amount else ""
            ),
        ]
        overdue = float(table["overdue_amount"].sum())
        shown.append(Headline("Overdue", _money(overdue, unit), "open, the close date is past"))
        rate = kpis(frame, context=self.context)
        if len(rate) and not pd.isna(rate["win_rate"].iloc[0]):
            low, high, mid = (float(rate[name].iloc[0]) for name in ("win_rate_low", "win_rate_high", "win_rate"))
            shown.append(Headline("Win rate", f"{mid:.0%}", f"interval {low:.0%} to {high:.0%}"))
        return shown

    def _present_period(
        self, table: pd.DataFrame, choice: Choice, ahead: Mapping[Any, Bookings], unit: str
    ) -> list[Headline]:
        """Won, forecast and quota of the chosen period, or of the one that as_of lies in."""
        label = choice.period or self._period_now
        at = [place for place, period in enumerate(table.index) if label_of(period) == label]
        if not at or label == NO_DATE:
            return self._predicted_headline(choice, unit) if label == self._period_now else []
        row = table.iloc[at[0]]
        result: Bookings | None = ahead.get(table.index[at[0]])
        note = ""
        if result is not None:
            low, high = result.interval(LEVEL)
            note = f"{LEVEL:.0%} interval {write_short(low)} to {write_short(high)}, not tested"
        stated = [one.attrs[BASIS_KEY]["arguments"]["probability"] for one in ahead.values()]
        whose = {"own": "Sellers' sum", "stage": "Stages' sum"}.get(stated[0] if stated else "", "Weighted sum")
        found = [
            *(self._predicted_headline(choice, unit) if label == self._period_now else []),
            Headline(f"{whose} {label}", _money(float(row["forecast_amount"]), unit), note),
            Headline(f"Won {label}", _money(float(row["won_amount"]), unit), f"{int(row['won_count']):,} deals"),
        ]
        if label == self._period_now and not (choice.owners or choice.stages or isinstance(self.predicted, str)):
            result = self.predicted
        if "quota" in table.columns and not pd.isna(row["quota"]):
            quota = float(row["quota"])
            parts = [] if pd.isna(row["attainment"]) else [f"{float(row['attainment']):.0%} won"]
            parts += [] if result is None else [chance(result.p_at_least(quota)).replace(" %", "%")]
            found.append(Headline(f"Quota {label}", _money(quota, unit), ", ".join(parts)))
        return found


def _money(value: float, unit: str) -> str:
    return f"{printable(unit, 20)} {write_short(value)}".strip()


def _draw(name: str, plot: str, table: Any, **options: Any) -> Drawn:
    """Draw a table on a figure of its own, which no window manager knows."""
    from matplotlib.figure import Figure

    from opp_pandas import plotting
    from opp_pandas.plotting.pipeline import MAX_STAGES

    width, height = _SIZE
    if plot in ("plot_stage_distribution", "plot_funnel"):
        # A line per stage: many stages need a taller picture, or their names run into each other.
        rows = len(table) if "step_conversion" in table else min(len(table), MAX_STAGES)
        height = max(height, 1.3 + 0.24 * rows)
    with plotting.style("light"):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = getattr(plotting, plot)(table, figure.subplots(), **options)
    # Laid out once for all the files that are made of it.
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    figure.set_layout_engine("none")
    return Drawn(name, axes)
