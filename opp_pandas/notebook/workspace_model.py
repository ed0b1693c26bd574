"""What a workspace shows and answers, without a browser: numbers, charts, the deals behind them and their order.

Every number is a registered figure's, of the deals as they are edited now; beside
it stands the same figure of the deals as they were loaded, so that edits are seen
to move it before anything is sent.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, OppPandasError, named, printable
from opp_pandas.figures import forecast, hygiene, kpis, stage_distribution, waterfall, waterfall_deals
from opp_pandas.figures.core.basis import basis_of, counted
from opp_pandas.figures.core.days import to_date
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.explanations import explain
from opp_pandas.figures.core.figure import PLOTS
from opp_pandas.figures.core.scope import resolve_scope
from opp_pandas.forecasting import Prediction, bookings, predict
from opp_pandas.frame_state import attach_loaded
from opp_pandas.notebook import workspace_messages as messages
from opp_pandas.notebook.selection import NO_DATE, Choice, Selection
from opp_pandas.notebook.workspace_messages import (
    Bar,
    Card,
    Chart,
    Chosen,
    Kind,
    Options,
    Outlook,
    OutlookAnswer,
    Pick,
    Picture,
    PictureAnswer,
    Series,
)
from opp_pandas.plotting.canvas import label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.forecasting import Bookings
    from opp_pandas.notebook.cells import Places
    from opp_pandas.notebook.grid_controller import Desk

LEVEL = 0.8
MOST_SNAPSHOTS = 12
URGENT = ("overdue", "untouched")
"""Checks whose deals stand first in the list."""
_PARTS = (
    Series("won_amount", "won", "won"),
    Series("weighted_amount", "open, weighted", "open"),
    Series("open_amount", "open, in all", "rest"),
)
_TONES = {"start": "base", "end": "base", "won": "won", "lost": "lost"}


@dataclass(frozen=True, eq=False)
class Numbers:
    """The figures of one state of the deals: as they are edited, or as they were loaded.

    Parameters
    ----------
    selection : Selection
        The deals, by their numbers in the sheet.
    choice : Choice
        Which of them.
    """

    selection: Selection
    choice: Choice

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
    def of_all_owners(self) -> pd.DataFrame:
        """The deals that are looked at, and those of the other owners."""
        rows = self.selection.rows(replace(self.choice, owners=(), period=None))
        frame: pd.DataFrame = self.selection.frame[rows]
        return frame

    @cached_property
    def owners(self) -> pd.DataFrame:
        """The period in focus by owner, the largest first; owners that are not looked at, too, to be compared with."""
        if not self.selection.owners:
            return pd.DataFrame()
        quota = None if self.choice.stages else self.selection.owner_quota
        table = forecast(self.of_all_owners, context=self.context, by="owner_name", quota=quota)
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

    def figure(self, name: str) -> Any:
        """Return one of the figures by its name."""
        return {
            "forecast": self.forecast, "stage_distribution": self.stages, "owners": self.owners,
            "hygiene": self.hygiene, "kpis": self.key_figures,
        }[name]  # fmt: skip


class WorkspaceModel:
    """A desk with the numbers above it.

    Parameters
    ----------
    desk : Desk
        The deals, and everything that can be done to them.
    context : FigureContext
        Stages, moment, time zone, definitions.
    history : History, optional
        Adds what changed since a snapshot.
    quota : number, mapping or DataFrame, optional
        As in `forecast`.

    Raises
    ------
    ConfigurationError, MissingColumnError, MixedCurrencyError
        As `Selection` does.
    """

    def __init__(self, desk: Desk, context: FigureContext, history: Any = None, quota: Any = None) -> None:
        self.desk, self.context, self.history, self._quota = desk, context, history, quota
        self.choice, self.since = Choice(), ""
        self.pick: Pick | None = None
        self._states: dict[str, pd.DataFrame] = {}
        self._taken = self._snapshots()
        self._learning = ThreadPoolExecutor(1, "opp_pandas outlook")
        self._outlooks: dict[str, tuple[Any, Future[Prediction | str]]] = {}
        self._last: Prediction | str | None = None
        self._cache: dict[Any, Any] = {}
        desk.actions |= {
            messages.Look: self._on_look,
            messages.List: self._on_list,
            messages.Figures: lambda _: PictureAnswer(picture=self.picture()),
            messages.Predict: lambda _: OutlookAnswer(outlook=self.outlook()),
        }
        # What cannot be shown at all is refused when the workspace is opened.
        self._explain_rows(self.now)
        self.arrange()

    # --- the deals, as edited and as loaded ----------------------------------------------

    def _remember(self, name: str, key: Any, work: Callable[[], Any]) -> Any:
        """Return what was worked out for this key, or work it out; only the newest of a name is kept."""
        if self._cache.get(name, (None, None))[0] != key:
            self._cache[name] = key, work()
        return self._cache[name][1]

    def _frame_now(self) -> pd.DataFrame:
        sheet = self.desk.sheet
        frame = sheet.held.set_axis(pd.Index(sheet.uids))
        return frame[~frame.index.isin(sheet.deleted)] if sheet.deleted else frame

    def _frame_before(self) -> pd.DataFrame:
        """Return the rows of the sheet as they were loaded, without those that are new."""
        sheet = self.desk.sheet
        known = sheet.rows.places >= 0
        frame = sheet.loaded.baseline.frame.iloc[sheet.rows.places[known]].set_axis(pd.Index(sheet.uids[known]))
        return attach_loaded(frame, sheet.loaded)

    def _numbers(self, name: str, key: Any, frame: Callable[[], pd.DataFrame]) -> Numbers:
        selection = self._remember(f"{name} deals", key, lambda: Selection(frame(), self.context, self._quota))
        return cast(
            "Numbers", self._remember(name, (key, self.choice), lambda: Numbers(selection, self._within(selection)))
        )

    def _within(self, selection: Selection) -> Choice:
        """Leave out of the choice what no deal has after an edit."""
        owners = tuple(name for name in self.choice.owners if name in selection.owners)
        stages = tuple(name for name in self.choice.stages if name in selection.stages)
        return replace(self.choice, owners=owners, stages=stages)

    @property
    def now(self) -> Numbers:
        """The figures of the deals as they are edited."""
        return self._numbers("now", self.desk.sheet.edition, self._frame_now)

    @property
    def before(self) -> Numbers | None:
        """The figures of the deals as they were loaded; None where nothing differs from that."""
        if not any(self.desk.sheet.pending().values()):
            return None
        return self._numbers("before", self.desk.sheet.loaded.key, self._frame_before)

    # --- what is asked ---------------------------------------------------------------------

    def _on_look(self, request: messages.Look) -> PictureAnswer:
        self.look(request.owners, request.stages, request.period, request.since)
        return PictureAnswer(picture=self.picture())

    def _on_list(self, request: messages.List) -> PictureAnswer:
        n = self.choose_pick(request.pick)
        return PictureAnswer(picture=self.picture(), said=f"{counted(n, 'deal')} listed")

    def look(
        self, owners: Sequence[str] = (), stages: Sequence[str] = (), period: str | None = None, since: str = ""
    ) -> None:
        """Look at other deals.

        Parameters
        ----------
        owners, stages : sequence of str
            Names as `Selection` lists them; none: all.
        period : str, optional
            The period in focus; the present one if left out.
        since : str, optional
            Which snapshot changes are told from; the newest before the load if left out.

        Raises
        ------
        ConfigurationError
            If a name is not listed.
        """
        wanted = Choice(tuple(owners), tuple(stages), period or None)
        self.now.selection.rows(wanted)
        if since and since not in self._taken:
            raise ConfigurationError(
                f"there is no snapshot of {printable(since, 40)}; there are {named(self._taken, 12)}"
            )
        self.choice, self.since, self.pick = wanted, since, None
        self.arrange()

    def choose_pick(self, pick: Pick | None) -> int:
        """Show the deals behind a number only, or all again; give how many.

        Raises
        ------
        ConfigurationError
            If there is no such number.
        """
        self._behind(pick)
        self.pick = pick
        self.arrange()
        return len(self.desk.ordering)

    def _behind(self, pick: Pick | None) -> Places | None:
        """Find the rows behind a number."""
        if pick is None:
            return None
        now = self.now
        if pick.figure == "waterfall":
            ends, options = self._changes(now)
            table = waterfall_deals(ends, **options, bucket=pick.label or None)
            row_of = {row_id: uid for uid, row_id in self.desk.sheet.ids()}
            return np.array([row_of[key] for key in table["id"] if key in row_of], dtype=np.int64)
        column = pick.column
        at: Any = pd.NaT if pick.label == NO_DATE else pick.label or None
        if pick.figure == "owners":
            at = (now.period, pick.label)
        elif pick.figure == "hygiene":
            column, at = pick.label, None
        frame = now.of_all_owners if pick.figure == "owners" else now.frame
        found = explain(now.figure(pick.figure), frame, context=self.context, column=column, at=at)
        return found.rows.index.to_numpy(dtype=np.int64)

    def arrange(self) -> None:
        """Choose and order the deals of the list anew: urgent ones, others with a reason, other open ones, closed."""
        now, ordering = self.now, self.desk.ordering
        uids = now.selection.frame.index.to_numpy()
        checks = now.hygiene["checks"]
        urgent = checks.str.split(", ").map(lambda names: bool(set(URGENT) & set(names))).to_numpy(dtype=bool)
        flagged = checks.index.to_numpy()
        rest = np.argsort(-now.selection.amounts, kind="stable")
        rest = np.concatenate([rest[now.selection.is_open[rest]], rest[~now.selection.is_open[rest]]])
        ranked = np.concatenate([flagged[urgent], flagged[~urgent], uids[rest]])
        # A deal stands where it is named first.
        ordering.rank = ranked[np.sort(np.unique(ranked, return_index=True)[1])]
        within = self._behind(self.pick)
        chosen = now.selection.rows(self._within(now.selection))
        if within is None and not chosen.all():
            within = uids[chosen]
        ordering.within = within
        ordering.show(self.desk.columns)
        self.desk.moved()

    # --- what is shown -----------------------------------------------------------------------

    def picture(self) -> Picture:
        """Give everything above the list of deals."""
        with suppress_unmapped_stages():
            now, before = self.now, self.before
            notes: list[str] = []
            now.selection.quota_for(now.choice, notes)
            charts = [self._forecast(now, before), self._owners(now, before), self._stages(now, before)]
            charts += [self._attention(now, before), self._bridge(now, notes)]
            self._explain_rows(now)
            selection = now.selection
            return Picture(
                version=self.desk.sheet.edition,
                as_of=f"{self.context.local_as_of:%Y-%m-%d}",
                currency=str(basis_of(now.forecast).get("currency") or ""),
                period=now.period,
                shown=int(now.rows.sum()),
                total=len(selection.frame),
                chosen=Chosen(
                    [*now.choice.owners], [*now.choice.stages], now.choice.period or "", self.since, self.pick,
                    len(self.desk.ordering),
                ),
                options=Options(selection.owners, selection.stages, selection.periods, [*self._taken]),
                outlook=self.outlook(begin=False),
                cards=_compared(self._cards(now), None if before is None else self._cards(before)),
                charts=[chart for chart in charts if chart is not None],
                notes=notes,
            )  # fmt: skip

    def _explain_rows(self, now: Numbers) -> None:
        """Let every deal of the list say why it stands where it does."""
        reasons = now.hygiene["reasons"]
        self.desk.reasons = dict(zip(reasons.index.tolist(), reasons.tolist(), strict=True))

    def _cards(self, now: Numbers) -> list[Card]:
        row, rates, period = now.focus, now.key_figures.iloc[0], now.period
        cards: list[Card] = []

        def add(title: str, value: Any, kind: Kind, note: str = "", pick: Pick | None = None) -> None:
            cards.append(Card(title, _number(value), kind, note, pick=pick))

        def sums(title: str, column: str, note: str = "") -> None:
            add(title, 0.0 if row is None else row[column], "money", note, Pick("forecast", column, period, title))

        stated = basis_of(now.forecast)["arguments"].get("probability")
        whose = {"own": "Sellers' forecast", "stage": "Stages' forecast"}.get(stated, "Weighted forecast")
        count = {name: 0 if row is None else int(row[name]) for name in ("won_count", "open_count")}
        sums("Won", "won_amount", counted(count["won_count"], "deal"))
        sums(whose, "forecast_amount", "won and weighted open deals, without overdue ones")
        sums("Open, due in the period", "open_amount", counted(count["open_count"], "deal"))
        if row is not None and "quota" in row.index and not pd.isna(row["quota"]):
            attained = _number(row["attainment"])
            add("Gap to quota", row["gap"], "money", "" if attained is None else f"{attained:.0%} of the quota is won")
            add("Coverage", row["coverage"], "ratio", "open amount for each unit of the gap")
        add("Overdue", rates["overdue_amount"], "money", counted(int(rates["overdue_count"]), "deal"),
            Pick("kpis", "overdue_amount", "", "Overdue"))  # fmt: skip
        add("Open pipeline", rates["open_amount"], "money", f"{counted(int(rates['open_count']), 'deal')}, all periods",
            Pick("kpis", "open_amount", "", "Open pipeline"))  # fmt: skip
        low, high = _number(rates["win_rate_low"]), _number(rates["win_rate_high"])
        note = "no deal was closed" if low is None else f"between {low:.0%} and {high:.0%}"
        add("Win rate", rates["win_rate"], "percent", note, Pick("kpis", "win_rate", "", "Closed deals"))
        return cards

    def _forecast(self, now: Numbers, before: Numbers | None) -> Chart:
        table = now.forecast
        bars = _bars(table, _PARTS, None if before is None else before.forecast, "open_count")
        for bar in bars:
            bar.focus = bar.label == now.period
        return Chart(
            "forecast", "Forecast by period", "columns", "money", [*_PARTS], bars, _in_words("forecast", table)
        )

    def _owners(self, now: Numbers, before: Numbers | None) -> Chart | None:
        table = now.owners
        if not len(table):
            return None
        bars = _bars(table, _PARTS, None if before is None else before.owners, "open_count")
        for bar in bars:
            bar.focus = bar.label in now.choice.owners
        title = f"{now.period} by owner"
        return Chart("owners", title, "bars", "money", [*_PARTS], bars, _in_words("forecast", table))

    def _stages(self, now: Numbers, before: Numbers | None) -> Chart:
        stages = self.context.stages.frame
        is_open = now.stages.index.isin(stages.loc[stages["status"] == "open", "stage_name"])
        series, table = [_PARTS[1], Series("amount", "open, in all", "rest")], now.stages[is_open]
        bars = _bars(table, series, None if before is None else before.stages, "count")
        return Chart(
            "stage_distribution", "Open pipeline by stage", "bars", "money", series, bars,
            _in_words("stage_distribution", table),
        )  # fmt: skip

    def _attention(self, now: Numbers, before: Numbers | None) -> Chart:
        counts, earlier = ({} if each is None else basis_of(each.hygiene)["counts"] for each in (now, before))
        meanings = basis_of(now.hygiene)["definitions"]
        bars = [
            Bar(name, [float(n)], [float(earlier[name])] if name in earlier else [], note=meanings[name])
            for name, n in sorted(counts.items(), key=lambda pair: -pair[1])
            if n or earlier.get(name)
        ]
        series = [Series("", "deals", "alert")]
        return Chart(
            "hygiene", "What needs attention", "bars", "count", series, bars, _in_words("hygiene", now.hygiene)
        )

    # --- what changed --------------------------------------------------------------------------

    def _snapshots(self) -> dict[str, pd.Timestamp]:
        """List the newest snapshots that were taken before the load, by the clocks of its zone."""
        if self.history is None:
            return {}
        taken = pd.DatetimeIndex(self.history.snapshots()["observed_at"]).unique().sort_values()
        earlier = taken[taken < self.context.as_of]
        newest = (earlier if len(earlier) else taken)[-MOST_SNAPSHOTS:][::-1]
        return {f"{moment.tz_convert(self.context.timezone or 'UTC'):%Y-%m-%d %H:%M}": moment for moment in newest}

    def _changes(self, now: Numbers) -> tuple[Any, dict[str, Any]]:
        """Give what a waterfall of the period in focus is made of: both ends, and its options."""
        selection = now.selection
        since = self.since or next(iter(self._taken), "")
        if since and since not in self._states:
            self._states = {since: self.history.as_of(self._taken[since])}
        earlier = self._states[since] if since else self._frame_before()
        ordinal = np.array([selection.ordinal_of.get(now.period, selection.today)])
        days = (to_date(int(ends(ordinal)[0])) for ends in (selection.cut.starts, selection.cut.ends))
        scope = self.context.scope
        if not now.rows.all():
            scope = resolve_scope(now.rows, scope, selection.frame)
        context = replace(self.context, scope=scope)
        return (earlier, selection.frame), {"period": tuple(days), "context": context}

    def _bridge(self, now: Numbers, notes: list[str]) -> Chart | None:
        since = self.since or next(iter(self._taken), "")
        if now.period == NO_DATE or not (since or any(self.desk.sheet.pending().values())):
            return None
        words = f"since {since}" if since else "by the edits that wait"
        try:
            ends, options = self._changes(now)
            table = waterfall(ends, **options)
        except OppPandasError as error:
            notes.append(f"what changed {words} cannot be told: {printable(error, 300)}")
            return None
        bars = [
            Bar(str(name), [_number(row["amount"])], count=int(row["count"]))
            for name, row in table.iterrows()
            if row["count"] or row["amount"] or name in ("start", "end")
        ]
        return Chart(
            "waterfall", f"Open pipeline of {now.period}: changes {words}", "bridge", "money",
            [Series("amount", "amount", "base")], bars, _in_words("waterfall", table),
        )  # fmt: skip

    # --- what the period will bring ---------------------------------------------------------------

    def outlook(self, *, begin: bool = True) -> Outlook:
        """Give what the period is predicted to bring, or say that it is being worked out.

        The past is walked through beside everything else, which takes seconds: with ``begin`` it is
        begun where nobody did yet. Where there is no prediction, as for periods ahead, the deals' own
        percentages speak.
        """
        now, before = self.now, self.before
        if now.choice.stages or now.period != now.selection.period_now:
            return self._stated(now, before)
        shown = Outlook("computing", "Predicted", now.period, now.period)
        found = self._predicted("now", now.selection, self.desk.sheet.edition, begin)
        earlier = None
        if before is not None:
            earlier = self._predicted("before", before.selection, self.desk.sheet.loaded.key, begin)
        if found is not None:
            self._last = found
        if isinstance(self._last, str):
            shown.state, shown.reason = "none", self._last
        elif self._last is not None:
            shown.mean, shown.low, shown.high, shown.won, shown.open, shown.new = self._expected(self._last, now.choice)
            shown.tested = self._last.tested
            shown.quota = self._quota_of(now)
            if shown.quota is not None and not now.choice.owners:
                shown.p_quota = self._last.p_at_least(shown.quota)
            if isinstance(earlier, Prediction):
                shown.before = self._expected(earlier, now.choice)[0]
            if found is not None and (before is None or earlier is not None):
                shown.state = "ready"
        return shown

    def _stated(self, now: Numbers, before: Numbers | None) -> Outlook:
        """Give what the deals' own percentages say of a period that is not over."""
        shown = Outlook("none", "Forecast", now.period, now.selection.period_now)
        found = self._bookings(now)
        if found is None:
            over = now.period != NO_DATE
            shown.reason = "The period is over: what it brought stands beside." if over else "These deals have no date."
            return shown
        shown.state, shown.mean, (shown.low, shown.high) = "ready", found.mean, found.interval(LEVEL)
        shown.tested = f"from the percentages of the deals: {found.tested}"
        shown.quota = self._quota_of(now)
        if shown.quota is not None:
            shown.p_quota = found.p_at_least(shown.quota)
        earlier = None if before is None else self._bookings(before)
        if earlier is not None:
            shown.before = earlier.mean
        return shown

    @staticmethod
    def _bookings(numbers: Numbers) -> Bookings | None:
        selection = numbers.selection
        if selection.ordinal_of.get(numbers.period, selection.today - 1) < selection.today:
            return None
        return bookings(numbers.frame, context=numbers.context, period=numbers.period)

    @staticmethod
    def _quota_of(now: Numbers) -> float | None:
        return None if now.focus is None or "quota" not in now.focus.index else _number(now.focus["quota"])

    @staticmethod
    def _expected(found: Prediction, choice: Choice) -> list[float | None]:
        """Return mean, ends of the interval, and parts: of all deals, or the part that some owners have in it."""
        if not choice.owners:
            parts = found.parts["mean"]
            return [found.mean, *found.interval(LEVEL), *(float(parts[name]) for name in ("won", "open", "new"))]
        groups = found.groups.loc[[name for name in found.groups.index if str(name) in choice.owners]]
        sums = groups[["mean", "won", "open"]].sum()
        ends = groups[["low_80", "high_80"]].iloc[0] if len(groups) == 1 else (None, None)
        return [float(sums["mean"]), *ends, float(sums["won"]), float(sums["open"]), None]

    def _predicted(self, name: str, selection: Selection, key: Any, begin: bool) -> Prediction | str | None:
        """Return a prediction, why there is none, or None while it is being worked out."""
        kept, future = self._outlooks.get(name, (None, None))
        if future is None or kept != key:
            if future is not None:
                future.cancel()
            if not begin:
                return None
            future = self._learning.submit(self._predict, selection)
            self._outlooks[name] = key, future
        return future.result() if future.done() and not future.cancelled() else None

    def _predict(self, selection: Selection) -> Prediction | str:
        by = "owner_name" if selection.owners else None
        try:
            period = selection.labels([selection.today])[0]
            with suppress_unmapped_stages():
                found = predict(selection.frame, context=self.context, period=period, by=by, history=self.history)
            _ = found.mean, found.interval(LEVEL)
            return found
        except (FrameError, ConfigurationError) as error:
            return f"No prediction: {printable(error, 300)}"

    def wait(self, timeout_s: float | None = None) -> Outlook:
        """Wait until the prediction is there."""
        self.outlook()
        wait([future for _, future in self._outlooks.values()], timeout_s)
        return self.outlook()


def _number(value: Any) -> float | None:
    """Give a number as it crosses to the page; None where it is missing or endless."""
    return None if pd.isna(value) or not np.isfinite(value) else float(value)


def _bars(table: pd.DataFrame, series: Sequence[Series], before: pd.DataFrame | None, count: str) -> list[Bar]:
    """Give the rows of a table as bars; beside them what another table has in the same row."""
    columns = [each.column for each in series]
    earlier = {} if before is None else dict(zip(_labels(before), _values(before, columns), strict=True))
    nothing: list[float | None] = [0.0] * len(columns) if before is not None else []
    bars = [
        Bar(label, values, earlier.get(label, nothing), n)
        for label, values, n in zip(
            _labels(table), _values(table, columns), table[count].astype(int).tolist(), strict=True
        )
    ]
    for name, column in (("mark", "forecast_amount"), ("quota", "quota")):
        for bar, (value,) in zip(bars, _values(table, [column]) if column in table.columns else (), strict=False):
            setattr(bar, name, value)
    if before is not None and "forecast_amount" in before.columns:
        marks = dict(zip(_labels(before), _values(before, ["forecast_amount"]), strict=True))
        for bar in bars:
            bar.mark_before = marks.get(bar.label, [0.0])[0]
    return bars


def _labels(table: pd.DataFrame) -> list[str]:
    """Give the rows' own labels: of a grouped table the groups'."""
    names = table.index.get_level_values(-1)
    return [NO_DATE if missing else label_of(name) for name, missing in zip(names, names.isna(), strict=True)]


def _values(table: pd.DataFrame, columns: Sequence[str]) -> list[list[float | None]]:
    numbers = table[[*columns]].to_numpy(dtype=float)
    return [[_number(value) for value in row] for row in numbers.tolist()]


def _compared(cards: list[Card], before: list[Card] | None) -> list[Card]:
    """Note beside each number what it was, where the edits that wait moved it."""
    earlier = {} if before is None else {card.title: card.value for card in before}
    for card in cards:
        was = earlier.get(card.title)
        if was is not None and card.value is not None and not np.isclose(was, card.value, rtol=1e-12, atol=1e-9):
            card.before = was
    return cards


def _in_words(figure: str, table: pd.DataFrame) -> str:
    """Say what a chart shows, for those who do not see it."""
    return PLOTS[figure].alt(table)
