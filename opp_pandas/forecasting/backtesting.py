"""How good the forecast would have been: past periods forecast from what was known then, and scored.

Nothing that was learned after a forecast's moment goes into it. No method is
called the best on fewer than eight periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, HistoryNeededError
from opp_pandas.figures.core.basis import BASIS_KEY, attach_basis, build_history_basis, counted
from opp_pandas.figures.core.days import to_date
from opp_pandas.figures.core.deals import WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.snapshots import HOW_TO_START, Snapshots, State, read_states
from opp_pandas.figures.forecasts import OPEN_CURRENT, kinds_of
from opp_pandas.figures.proportions import divide
from opp_pandas.forecasting.distribution import RHO, Bookings, bookings
from opp_pandas.forecasting.predicting import compare
from opp_pandas.forecasting.scoring import amount_errors, resampled

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.periods import Periods

METHODS = {
    "weighted": "won so far + amount x probability of the open deals that are not overdue",
    "conversion": "won so far + open amount x the mean share that earlier periods brought of theirs from that week on",
    "last_period": "what the period before brought",
    "last_year": "what the same period a year ago brought",
}
DEFINITIONS = {
    "periods": "periods that were forecast",
    "wape": "sum of absolute errors / sum of bookings",
    "wape_low": "lower end of its interval, from drawing periods with replacement",
    "wape_high": "upper end of the same",
    "mape": "mean of absolute error / bookings",
    "bias": "sum of (forecast - bookings) / sum of bookings",
    "crps": "mean continuous ranked probability score; of a single amount its absolute error",
    "crps_skill": "1 - crps / that of last_period, over the periods that both forecast",
    "inside_50": "share of periods whose bookings lay in the central 50 % interval",
    "inside_80": "the same for 80 %",
    "inside_90": "the same for 90 %",
}
LEVELS = (0.5, 0.8, 0.9)
ENOUGH_PERIODS = 8
_COLUMNS = (
    "id", "custom_id", "amount", "amount_precise", "currency_type", "probability", "close_date", "stage_id",
    "stage_name", "trashed_at", "forecast_category",
)  # fmt: skip
_DRAWS, _SEED = 1_000, 0


_OF_FORECASTS = {
    "actual": "what was won with its close date in the period",
    "error": "forecast - actual",
    "crps": "continuous ranked probability score; of a single amount its absolute error",
    "pit": "share of the distribution at or below what came",
    "inside_80": "whether what came lies in the central 80 % interval",
}


_ARGUMENTS = """
periods : int or sequence
    With a History: how many whole past periods, or which ones (``["2026Q1",
    "2026Q2"]``). Periods before the history are left out. Of nine, eight can
    be forecast by conversion, which is as few as tell methods apart.
weeks : sequence of int
    When forecasts are made: before the first day of these weeks of the
    period (1: the evening before the period).
grace_days : int
    Days after a period's end until its bookings are taken; nothing is
    learned from a period before that day [days].
rho : float
    Correlation of the deals of "weighted": 0 makes its spread too small.
"""


@figure(heading="Forecasts of past periods", definitions=_OF_FORECASTS, arguments=_ARGUMENTS)
def backtest_forecasts(
    history: Any,
    *,
    periods: int | Sequence[Any] = 9,
    weeks: Sequence[int] = (1, 5, 9),
    grace_days: int = 0,
    context: FigureContext,
    rho: float = RHO,
) -> pd.DataFrame:
    """List the forecasts that would have been made of past periods, and what came: the rows behind `backtest`.

    Returns
    -------
    DataFrame
        A row per period, week and method: ``period, week, method, as_of``
        (the last day that was known), ``forecast, actual, error, crps``
        [currency]; of the method "weighted", which is a distribution, also
        ``pit`` (share of it at or below what came) and ``inside_50, inside_80,
        inside_90``. A method that has nothing to go by has a missing forecast.

    Raises
    ------
    HistoryNeededError
        Without a history, or if it covers no whole period.

    Examples
    --------
    >>> table = df.opp.backtest_forecasts(history, periods=1)
    >>> table[["period", "week", "method", "as_of"]].head(3)
       period  week       method      as_of
    0  2026Q3     1   conversion 2026-06-30
    1  2026Q3     1  last_period 2026-06-30
    2  2026Q3     1    last_year 2026-06-30
    """
    if not isinstance(history, Snapshots):
        raise HistoryNeededError(f"a backtest forecasts from what was known then: pass a History. {HOW_TO_START}")
    chosen_weeks = sorted(set(weeks))
    if not chosen_weeks or min(chosen_weeks) < 1:
        raise ConfigurationError(f"weeks are numbers of weeks of the period, 1 the first, not {list(weeks)!r}")
    if grace_days < 0:
        raise ConfigurationError(f"grace_days must be 0 or more, not {grace_days!r}")
    cut = context.periods
    newest = next(read_states(history, [None], context=context, columns=_COLUMNS, what="a backtest"))
    ordinals = _past_periods(history, cut, periods, newest.context.today - grace_days)
    seen: dict[int, list[_Ended]] = {week: [] for week in chosen_weeks}
    rows: list[dict[str, Any]] = []
    plans = [_Plan.of(cut, ordinal, chosen_weeks, grace_days) for ordinal in ordinals]
    moments = [to_date(day) for plan in plans for day in (*plan.days, plan.end)]
    # One reading of the history for all of them.
    states = read_states(history, moments, context=context, columns=_COLUMNS, what="a backtest")
    for plan in plans:
        then = [next(states).scoped for _ in plan.days]
        end = next(states).scoped
        actual = _won(end, cut, plan.ordinal, end.context.today)
        for week, day, state in zip(plan.weeks, plan.days, then, strict=True):
            known = {"period": str(plan.label), "week": week, "as_of": to_date(day), "actual": actual}
            outlook = bookings(state.frame, context=state.context, period=plan.label, rho=rho)
            so_far, still_open = _won(state, cut, plan.ordinal, day), _open(state, cut, plan.ordinal)
            points = {
                "conversion": so_far + still_open * _conversion(seen[week], day),
                "last_period": _won(state, cut, plan.ordinal - 1, day),
                "last_year": _won(state, cut, _a_year_before(cut, plan.ordinal), day),
            }
            rows.append(known | _of_distribution(outlook, actual))
            rows += [known | _of_point(method, value, actual) for method, value in points.items()]
            seen[week].append(_Ended(plan.end, so_far, still_open, actual))
    if not rows:
        raise ConfigurationError(f"no period has a week {min(chosen_weeks)}: weeks are counted from its first day")
    table = pd.DataFrame(rows)
    return table.sort_values(["week", "method", "as_of"], kind="stable").reset_index(drop=True)


@figure(definitions=DEFINITIONS, alone=True, arguments=_ARGUMENTS)
def backtest(
    history: Any,
    *,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    horizon_days: int | None = None,
    new_deals: bool = True,
    segments: Sequence[str] | None = None,
    observed_from: Any = None,
    activity: pd.DataFrame | Literal[False] | None = None,
    periods: int | Sequence[Any] = 9,
    weeks: Sequence[int] = (1, 5, 9),
    grace_days: int = 0,
    context: FigureContext,
    rho: float = RHO,
    level: float = 0.9,
) -> pd.DataFrame:
    """Score forecasts of the past, made from what was known then.

    With a History, whole periods are forecast week by week from the percentages
    and amounts as they stood. Without one, or with `horizon_days`, windows of
    that length are forecast from created and closed dates, by the methods of
    `predict`.

    Parameters
    ----------
    history : History or DataFrame
        Snapshots; or opportunities, open and closed.
    methods : sequence or mapping, optional
        For windows: what `compare` takes. Naive rows stand beside in any case.
    horizon_days : int, optional
        Length of a window; 90 on a frame [days].
    new_deals : bool, default True
        For windows: whether deals count that are created within one.
    segments : sequence of str, optional
        For windows: columns that tell deals apart; found by their record if left out.
    observed_from : str or date, optional
        For windows: first day from which closings were recorded; inferred if left out.
    activity : DataFrame or False, optional
        For windows: what was done on the deals, as in `predict`.
    level : float, default 0.9
        Confidence of the intervals of the WAPE.

    Returns
    -------
    DataFrame
        Of windows: indexed by ``method``, its record: ``windows, wape, bias, crps,
        coverage_80`` and others. Of periods:
        indexed by ``week`` and ``method`` (`METHODS`): ``periods``, ``wape,
        wape_low, wape_high, mape, bias`` [share], ``crps`` [currency],
        ``crps_skill``, and for "weighted" ``inside_50, inside_80, inside_90``
        [share]. The basis names in ``best`` the method of the lowest CRPS, once
        eight periods, or windows without overlap, were scored by each.

    Raises
    ------
    HistoryNeededError
        If the history covers no whole period.
    ConfigurationError
        If an argument cannot be used, or a period is not over.

    References
    ----------
    .. [1] Gneiting and Raftery, Strictly proper scoring rules, prediction, and
       estimation, JASA 102 (2007).

    Examples
    --------
    >>> record = df.opp.backtest(horizon_days=90, methods=["last_window"])
    >>> record.loc["last_window", ["windows", "wape", "coverage_80"]].notna().tolist()
    [True, True, True]
    """
    if isinstance(history, pd.DataFrame) or horizon_days is not None:
        options = {"methods": methods, "new_deals": new_deals, "segments": segments, "observed_from": observed_from}
        options["activity"] = activity
        return _windows(history, context, 90 if horizon_days is None else horizon_days, options)
    rows = backtest_forecasts(history, periods=periods, weeks=weeks, grace_days=grace_days, context=context, rho=rho)
    parts = {}
    for week, of_week in rows.groupby("week"):
        reference = of_week[of_week["method"] == "last_period"].set_index("period")["crps"]
        for method in METHODS:
            found = of_week[(of_week["method"] == method) & of_week["forecast"].notna()]
            parts[int(str(week)), method] = _scores(found, reference, level)
    table = pd.DataFrame.from_dict(parts, orient="index").astype({"periods": "int64"})
    table.index = pd.MultiIndex.from_tuples(list(parts), names=["week", "method"])
    newest = next(read_states(history, [None], context=context, columns=_COLUMNS, what="a backtest"))
    names = list(dict.fromkeys(rows["period"]))
    notes = [
        f"{counted(len(names), 'period')}, {names[0]} to {names[-1]}, each forecast from what was known then",
        "weighted takes deals as independent: its intervals are too narrow" if rho == 0 else f"correlation {rho:g}",
    ]
    best = _best(rows)
    if None in best.values():
        notes.append(f"no method is called the best on fewer than {ENOUGH_PERIODS} periods")
    basis = build_history_basis(
        "backtest",
        newest.context,
        n=len(newest.scoped.frame),
        compared=[newest],
        title="Backtest",
        periods=names,
        best=best,
        methods=METHODS,
        arguments={"weeks": list(weeks), "grace_days": grace_days, "rho": rho, "level": level},
        definitions=DEFINITIONS,
        notes=notes,
    )
    return attach_basis(table, basis)


def _windows(source: Any, context: FigureContext, horizon_days: int, options: Mapping[str, Any]) -> pd.DataFrame:
    """Score the methods of `predict` on windows before the present one."""
    frame, kept = source, None
    if not isinstance(source, pd.DataFrame):
        state = next(read_states(source, [None], context=context, columns=(), what="a backtest")).scoped
        frame, context, kept = state.frame, state.context, source
    options = dict(options) | {"history": kept if isinstance(kept, Snapshots) else None}
    table = compare(frame, context=context, horizon_days=horizon_days, **options)
    basis = table.attrs[BASIS_KEY] | {"figure": "backtest", "title": f"Backtest, windows of {horizon_days} days"}
    return attach_basis(pd.DataFrame(table).drop(columns=["mean", "low_80", "high_80", "p_quota"]), basis)


@dataclass(frozen=True)
class _Plan:
    """When one period is forecast, and when its bookings are taken."""

    ordinal: int
    label: Any
    weeks: list[int]
    days: list[int]
    end: int

    @classmethod
    def of(cls, cut: Periods, ordinal: int, weeks: Sequence[int], grace_days: int) -> _Plan:
        first, last = _span(cut, ordinal)
        inside = [week for week in weeks if first + 7 * (week - 1) <= last]
        days = [first + 7 * (week - 1) - 1 for week in inside]
        return cls(ordinal, cut.labels(np.array([ordinal]))[0], inside, days, last + grace_days)


def _past_periods(history: Snapshots, cut: Periods, periods: int | Sequence[Any], today: int) -> list[int]:
    """Return the periods that are over and that the history knew before they began, oldest first."""
    present = int(cut.ordinals(np.array([today]))[0])
    if isinstance(periods, int):
        if isinstance(periods, bool) or periods < 1:
            raise ConfigurationError(f"periods is a number of 1 or more, or names of periods, not {periods!r}")
        last = present if _span(cut, present)[1] <= today else present - 1
        wanted = list(range(last - periods + 1, last + 1))
    else:
        wanted = sorted(cut.parse(label) for label in periods)
        late = [str(cut.labels(np.array([ordinal]))[0]) for ordinal in wanted if _span(cut, ordinal)[1] > today]
        if late:
            raise ConfigurationError(f"period {late[0]} is not over yet: its bookings are not known")
    for place, ordinal in enumerate(wanted):
        if _is_covered(history, to_date(_span(cut, ordinal)[0] - 1)):
            return wanted[place:]
    raise HistoryNeededError(f"the history begins after these periods did; none can be forecast. {HOW_TO_START}")


def _is_covered(history: Snapshots, moment: pd.Timestamp) -> bool:
    try:
        next(iter(history.states([moment], columns=["id"])))
    except HistoryNeededError:
        return False
    return True


def _span(cut: Periods, ordinal: int) -> tuple[int, int]:
    numbers = np.array([ordinal])
    return int(cut.starts(numbers)[0]), int(cut.ends(numbers)[0])


def _a_year_before(cut: Periods, ordinal: int) -> int:
    """Find the period in which this one's middle lay a year ago."""
    first, last = _span(cut, ordinal)
    return int(cut.ordinals(np.array([(first + last) // 2 - 365]))[0])


def _won(state: State, cut: Periods, ordinal: int, today: int) -> float:
    """Sum what was won in a period by a day, as known then."""
    deals = Deals(state.frame, state.context)
    first, last = _span(cut, ordinal)
    rows = (deals.status == WON) & (deals.close_day >= first) & (deals.close_day <= min(last, today))
    return float(np.nansum(deals.amount[rows]))


def _open(state: State, cut: Periods, ordinal: int) -> float:
    """Sum the open deals of a period that are not overdue."""
    deals = Deals(state.frame, state.context)
    first, last = _span(cut, ordinal)
    rows = (kinds_of(deals) == OPEN_CURRENT) & (deals.close_day >= first) & (deals.close_day <= last)
    return float(np.nansum(deals.amount[rows]))


@dataclass(frozen=True)
class _Ended:
    """What a period had won and open in a week, and what it brought: known from day `known` on."""

    known: int
    so_far: float
    still_open: float
    actual: float


def _conversion(seen: Sequence[_Ended], day: int) -> float:
    """Return the mean share of the open amount that earlier periods still brought, as known on a day."""
    ended = [period for period in seen if period.known <= day and period.still_open > 0]
    shares = [(period.actual - period.so_far) / period.still_open for period in ended]
    return float(np.mean(shares)) if shares else float("nan")


def _of_distribution(outlook: Bookings, actual: float) -> dict[str, Any]:
    facts = {"method": "weighted", "forecast": outlook.mean, "error": outlook.mean - actual}
    facts |= {"crps": outlook.crps(actual), "pit": 1 - outlook.p_at_least(actual + outlook.step / 1e6)}
    for level in LEVELS:
        low, high = outlook.interval(level)
        facts[f"inside_{level * 100:.0f}"] = float(low <= actual <= high)
    return facts


def _of_point(method: str, value: float, actual: float) -> dict[str, Any]:
    return {"method": method, "forecast": value, "error": value - actual, "crps": abs(value - actual)}


def _scores(found: pd.DataFrame, reference: pd.Series, level: float) -> dict[str, float]:
    scores: dict[str, float] = {"periods": len(found)}
    errors = amount_errors(found["forecast"], found["actual"])
    sums = np.stack([found["error"].abs(), found["actual"].abs()], axis=1).astype(np.float64)
    drawn = resampled(sums, _DRAWS, _SEED)
    ratio = divide(drawn[:, 0], drawn[:, 1])
    ratio = ratio[~np.isnan(ratio)]
    ends = np.quantile(ratio, (0.5 - level / 2, 0.5 + level / 2)) if len(found) > 1 and len(ratio) else (np.nan, np.nan)
    scores |= {"wape": errors["wape"], "wape_low": float(ends[0]), "wape_high": float(ends[1])}
    scores |= {"mape": errors["mape"], "bias": errors["bias"]}
    own = found.set_index("period")["crps"]
    both = reference.reindex(own.index).dropna()
    scores["crps"] = float(own.mean()) if len(own) else float("nan")
    scores["crps_skill"] = float(1 - divide(own.reindex(both.index).sum(), both.sum()))
    for column in (f"inside_{share * 100:.0f}" for share in LEVELS):
        scores[column] = float(found[column].mean()) if len(found) else float("nan")
    return scores


def _best(rows: pd.DataFrame) -> dict[str, str | None]:
    """Name the method of the lowest CRPS per week, over the periods that all scored methods have."""
    best: dict[str, str | None] = {}
    for week, found in rows.groupby("week"):
        scores = found.pivot(index="period", columns="method", values="crps")
        scores = scores.loc[:, scores.notna().sum() >= ENOUGH_PERIODS].dropna()
        enough = len(scores) >= ENOUGH_PERIODS and scores.shape[1] > 1
        best[str(week)] = str(scores.mean().idxmin()) if enough else None
    return best
