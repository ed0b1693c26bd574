"""What a dashboard shows of a choice of deals: headline figures and pictures, without a widget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, OppPandasError, printable
from opp_pandas.figures import ageing, forecast, funnel, kpis, stage_distribution, waterfall
from opp_pandas.figures.core.basis import BASIS_KEY
from opp_pandas.figures.core.days import to_date
from opp_pandas.figures.core.scope import resolve_scope
from opp_pandas.forecasting import Prediction, bookings, predict
from opp_pandas.notebook.selection import NO_DATE, Choice, Selection
from opp_pandas.plotting.canvas import label_of, write_short
from opp_pandas.plotting.descriptions import chance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.forecasting import Bookings

LEVEL = 0.8
_INTERVALS = 6
_SIZE = (6.6, 3.9)  # of a picture [inches]


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


class Board(Selection):
    """The deals of a dashboard and everything that can be asked of them.

    ``history`` adds the conversion to the funnel, and the waterfall; ``rho`` is as in `bookings`.
    """

    def __init__(self, frame: pd.DataFrame, *, context: FigureContext, history: Any, quota: Any, rho: float) -> None:
        super().__init__(frame, context, quota)
        self.history, self.rho = history, rho
        self._entries: Any = None
        self._states: dict[Any, pd.DataFrame] = {}

    def view(self, choice: Choice) -> View:
        """Compute and draw everything for a choice."""
        rows = self.rows(choice)
        frame = self.frame if rows.all() else self.frame[rows]
        notes: list[str] = []
        quota = self.quota_for(choice, notes)
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
            period = self.labels([self.today])[0]
            return predict(self.frame, context=self.context, period=period, history=self.history)
        except (FrameError, ConfigurationError) as error:
            return str(error)

    def _prediction(self, choice: Choice, table: pd.DataFrame) -> Drawn | None:
        """Draw the prediction of all deals, where all are looked at."""
        if choice.owners or choice.stages or choice.period not in (None, self.period_now):
            return None
        if isinstance(self.predicted, str):
            return Drawn("prediction", None, f"No prediction: {printable(self.predicted, 400)}")
        quota = [] if "quota" not in table.columns else [
            float(value) for period, value in table["quota"].items() if label_of(period) == self.period_now
        ]  # fmt: skip
        target = quota[0] if quota and not np.isnan(quota[0]) else None
        return _draw("prediction", "plot_predict", self.predicted, quota=target)

    def _predicted_headline(self, choice: Choice, unit: str) -> list[Headline]:
        """Return what the present period is predicted to bring; of some deals their part in it."""
        found, name = self.predicted, f"Predicted {self.period_now}"
        if isinstance(found, str):
            return []
        if not (choice.owners or choice.stages):
            low, high = found.interval(LEVEL)
            note = f"{LEVEL:.0%} interval {write_short(low)} to {write_short(high)}; {found.tested}"
            return [Headline(name, _money(found.mean, unit), note)]
        rows = self.rows(replace(choice, period=None))
        still_open = (found.amounts * found.chances)[rows[found.attrs["positions"]]]
        expected = float(self.won_to_date[rows].sum() + still_open.sum())
        return [Headline(name, _money(expected, unit), "their part in the prediction of all, without new deals")]

    @staticmethod
    def _interval_words(ahead: Mapping[Any, Bookings]) -> str:
        first = next(iter(ahead.values()), None)
        return "" if first is None else f"whiskers: {LEVEL:.0%} interval, {first.assumption}; {first.tested}"

    def _ahead(self, frame: pd.DataFrame, table: pd.DataFrame) -> dict[Any, Bookings]:
        """Give the distribution of bookings of each period that is not over, the nearest first."""
        ahead = [
            period for period in table.index if self.ordinal_of.get(label_of(period), self.today - 1) >= self.today
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
        ordinal = self.today if choice.period is None else self.ordinal_of[choice.period]
        period = self.labels([ordinal])[0]
        first = to_date(int(self.cut.starts(np.array([ordinal]))[0]))
        last = to_date(int(self.cut.ends(np.array([ordinal]))[0]))
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
            Headline("Open", _money(open_amount, unit), f"{int((self.is_open & rows).sum()):,} deals"),
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
        label = choice.period or self.period_now
        at = [place for place, period in enumerate(table.index) if label_of(period) == label]
        if not at or label == NO_DATE:
            return self._predicted_headline(choice, unit) if label == self.period_now else []
        row = table.iloc[at[0]]
        result: Bookings | None = ahead.get(table.index[at[0]])
        note = ""
        if result is not None:
            low, high = result.interval(LEVEL)
            note = f"{LEVEL:.0%} interval {write_short(low)} to {write_short(high)}, not tested"
        stated = [one.attrs[BASIS_KEY]["arguments"]["probability"] for one in ahead.values()]
        whose = {"own": "Sellers' sum", "stage": "Stages' sum"}.get(stated[0] if stated else "", "Weighted sum")
        found = [
            *(self._predicted_headline(choice, unit) if label == self.period_now else []),
            Headline(f"{whose} {label}", _money(float(row["forecast_amount"]), unit), note),
            Headline(f"Won {label}", _money(float(row["won_amount"]), unit), f"{int(row['won_count']):,} deals"),
        ]
        if label == self.period_now and not (choice.owners or choice.stages or isinstance(self.predicted, str)):
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
