"""What the period in focus will bring: worked out beside everything else, since the past takes seconds to walk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, FrameError, printable
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.forecasting import Prediction, bookings
from opp_pandas.forecasting.predicting import Predictor
from opp_pandas.notebook.charts import number
from opp_pandas.notebook.deal_numbers import LEVEL
from opp_pandas.notebook.selection import NO_DATE, Choice, Selection
from opp_pandas.notebook.workspace_messages import Outlook

if TYPE_CHECKING:
    from opp_pandas.forecasting import Bookings
    from opp_pandas.notebook.deal_numbers import Numbers


class OutlookMaker:
    """Predicts the present period of the deals as they are and as they were loaded, in a thread of its own."""

    def __init__(self, history: Any) -> None:
        self._history = history
        self._learning = ThreadPoolExecutor(1, "opp_pandas outlook")
        self._begun: dict[str, tuple[Any, Future[Prediction | str]]] = {}
        self._predictors = {name: Predictor() for name in ("now", "before")}
        self._last: Prediction | str | None = None

    def of(self, now: tuple[Any, Numbers], before: tuple[Any, Numbers] | None, *, begin: bool) -> Outlook:
        """Return what the period is predicted to bring, or say that it is being worked out.

        With ``begin`` that is begun where nobody did yet. Where there is no prediction, as for periods
        ahead, the deals' own percentages speak. Numbers come with the key of the deals they are of.
        """
        key, here = now
        earlier = None if before is None else before[1]
        if here.choice.stages or here.period != here.selection.period_now:
            return _stated(here, earlier)
        shown = Outlook("computing", "Predicted", here.period, here.period)
        found = self._predicted("now", here.selection, key, begin)
        then = None if before is None else self._predicted("before", before[1].selection, before[0], begin)
        if found is not None:
            self._last = found
        if isinstance(self._last, str):
            shown.state, shown.reason = "none", self._last
        elif self._last is not None:
            shown.mean, shown.low, shown.high, shown.won, shown.open, shown.new = _expected(self._last, here.choice)
            shown.tested = self._last.tested
            shown.quota = _quota_of(here)
            if shown.quota is not None and not here.choice.owners:
                shown.p_quota = self._last.p_at_least(shown.quota)
            if isinstance(then, Prediction):
                shown.before = _expected(then, here.choice)[0]
            if found is not None and (before is None or then is not None):
                shown.state = "ready"
        return shown

    def wait(self, timeout_s: float | None) -> None:
        """Wait until nothing is being worked out."""
        wait([future for _, future in self._begun.values()], timeout_s)

    def _predicted(self, name: str, selection: Selection, key: Any, begin: bool) -> Prediction | str | None:
        """Return a prediction, why there is none, or None while it is being worked out."""
        kept, future = self._begun.get(name, (None, None))
        if future is None or kept != key:
            if future is not None:
                future.cancel()
            if not begin:
                return None
            future = self._learning.submit(self._predict, name, selection)
            self._begun[name] = key, future
        return future.result() if future.done() and not future.cancelled() else None

    def _predict(self, name: str, selection: Selection) -> Prediction | str:
        by = "owner_name" if selection.owners else None
        try:
            period = selection.labels([selection.today])[0]
            with suppress_unmapped_stages():
                found = self._predictors[name].predict(
                    selection.frame, context=selection.context, period=period, by=by, history=self._history
                )
            _ = found.mean, found.interval(LEVEL)
            return found
        except (FrameError, ConfigurationError) as error:
            return f"No prediction: {printable(error, 300)}"


def _stated(now: Numbers, before: Numbers | None) -> Outlook:
    """Return what the deals' own percentages say of a period that is not over."""
    shown = Outlook("none", "Forecast", now.period, now.selection.period_now)
    found = _bookings(now)
    if found is None:
        over = now.period != NO_DATE
        shown.reason = "The period is over: what it brought stands beside." if over else "These deals have no date."
        return shown
    shown.state, shown.mean, (shown.low, shown.high) = "ready", found.mean, found.interval(LEVEL)
    shown.tested = f"from the percentages of the deals: {found.tested}"
    shown.quota = _quota_of(now)
    if shown.quota is not None:
        shown.p_quota = found.p_at_least(shown.quota)
    earlier = None if before is None else _bookings(before)
    if earlier is not None:
        shown.before = earlier.mean
    return shown


def _bookings(numbers: Numbers) -> Bookings | None:
    selection = numbers.selection
    if selection.ordinal_of.get(numbers.period, selection.today - 1) < selection.today:
        return None
    return bookings(numbers.frame, context=numbers.context, period=numbers.period, rho=numbers.rho)


def _quota_of(now: Numbers) -> float | None:
    return None if now.focus is None or "quota" not in now.focus.index else number(now.focus["quota"])


def _expected(found: Prediction, choice: Choice) -> list[float | None]:
    """Return mean, ends of the interval, and parts: of all deals, or the part that some owners have in it."""
    if not choice.owners:
        parts = found.parts["mean"]
        return [found.mean, *found.interval(LEVEL), *(float(parts[name]) for name in ("won", "open", "new"))]
    groups = found.groups.loc[[name for name in found.groups.index if str(name) in choice.owners]]
    sums = groups[["mean", "won", "open"]].sum()
    ends = groups[["low_80", "high_80"]].iloc[0] if len(groups) == 1 else (None, None)
    return [float(sums["mean"]), *ends, float(sums["won"]), float(sums["open"]), None]
