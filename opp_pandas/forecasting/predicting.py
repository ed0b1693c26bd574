"""`predict` and `compare`: what a period will bring, from what this organisation's own past teaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.figures.core.basis import BASIS_KEY, Facts, attach_basis, build_basis, counted
from opp_pandas.figures.core.days import NO_DAY, parse_day, to_date
from opp_pandas.figures.core.deals import WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import read_groups, require_one_column
from opp_pandas.forecasting.as_of_view import FAR, Known, Past, describe_columns, read_past
from opp_pandas.forecasting.past_snapshots import read_stated
from opp_pandas.forecasting.past_touches import PastTouches
from opp_pandas.forecasting.prediction import ENOUGH_WINDOWS, Prediction, facts_of, outlook
from opp_pandas.forecasting.protocols import KnownDeals, ProbabilityForecaster, Window, read_method
from opp_pandas.forecasting.reasons import deal_table, reasons_of
from opp_pandas.forecasting.walk_forward import NAIVE, ROWS, Walk
from opp_pandas.forecasting.window_scores import Forecasts, crps

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Floats
    from opp_pandas.figures.core.lineage import Question

METHODS = {
    "mix": "all rows below but boosting, weighed by their past scores",
    **ROWS,
    "boosting": "gradient boosting on the features of landmark, with age and amount; needs the extra learn",
}
"""The methods by name."""

_DEFINITIONS = {
    "mean": "won to date + expected amount of open deals + that of new deals",
    "sd": "square root of phi x deal-level variance + (tau x mean)^2, phi and tau from past misses",
    "quantile": "smallest amount that bookings stay at or below with the given probability",
    "p_at_least": "probability that bookings reach an amount",
}
_RECORD = {
    "windows": "past windows that were forecast from what was known before each",
    "independent": "how many windows without overlap they are worth",
    "wape": "sum of absolute errors / sum of what came",
    "wape_low": "lower end of its 90 % interval, from drawing blocks of windows",
    "wape_high": "upper end of the same",
    "bias": "sum of (forecast - what came) / sum of what came",
    "crps": "mean continuous ranked probability score [currency]",
    "crps_share": "sum of the scores / sum of what came",
    "coverage_50": "share of windows whose amount lay in the central 50 % interval",
    "coverage_80": "the same for 80 %",
    "coverage_90": "the same for 90 %",
    "width_80": "mean width of the 80 % interval / mean forecast",
}


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is forecast: the evening, the days after it, and what was won of the period before."""

    deals: Deals
    past: Past
    first: int
    last: int
    won: float
    won_count: int
    target: str
    period: str | None

    @property
    def horizon(self) -> int:
        return self.last - self.past.day


def _ask(
    frame: pd.DataFrame,
    context: FigureContext,
    period: Any,
    horizon_days: int | None,
    new_deals: bool,
    segments: Sequence[str] | None,
    observed_from: Any,
    history: Any = None,
    activity: Any = None,
) -> _Asked:
    deals = Deals(frame, context)
    day = context.today
    start = None if observed_from is None else parse_day(observed_from)
    stated = None if history is None else read_stated(history, deals, context)
    past = read_past(deals, day=day, observed_from=start, segments=segments, stated=stated)
    if (touched := PastTouches.of(deals, activity)) is not None:
        past = replace(past, touched=touched, notes=(*past.notes, "what was done on deals helps to tell them apart"))
    if not (past.closed < FAR).any():
        raise FrameError(f"no deal was won or lost by {to_date(day):%Y-%m-%d}: nothing can be learned")
    if (period is None) == (horizon_days is None):
        if horizon_days is not None:
            raise ConfigurationError("say which period, or how many days: period='2026Q3' or horizon_days=90")
        horizon_days = 90
    if horizon_days is not None:
        if isinstance(horizon_days, bool) or not isinstance(horizon_days, int) or not 1 <= horizon_days <= 1_100:
            raise ConfigurationError(f"horizon_days is a number of days from 1 to 1,100, not {horizon_days!r}")
        first, last, won, count, name = day + 1, day + horizon_days, 0.0, 0, None
    else:
        periods = context.periods
        ordinal = np.array([periods.parse(period)])
        first, last = int(periods.starts(ordinal)[0]), int(periods.ends(ordinal)[0])
        name = str(periods.labels(ordinal)[0])
        if last <= day:
            raise ConfigurationError(f"period {name} is over: forecast() and kpis() say what it brought")
        if first > day + 1:
            raise ConfigurationError(
                f"period {name} has not begun: predict the days up to its end with horizon_days={last - day}"
            )
        rows = past.won & (past.closed >= first) & (past.closed <= day)
        won, count = float(np.nansum(past.amount[rows])), int(rows.sum())
    of = "" if new_deals else ", of deals open by now"
    target = f"won between {to_date(day + 1):%Y-%m-%d} and {to_date(last):%Y-%m-%d}{of}"
    if name is not None:
        target = f"won in {name}{of}: {target}, and {won:,.0f} won to date"
    return _Asked(deals, past, first, last, won, count, target, name)


@figure(heading="Prediction", definitions=_DEFINITIONS | _RECORD)
def predict(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    period: Any = None,
    horizon_days: int | None = None,
    method: Any = "auto",
    segments: Sequence[str] | None = None,
    new_deals: bool = True,
    observed_from: Any = None,
    history: Any = None,
    activity: pd.DataFrame | Literal[False] | None = None,
    quota: float | Mapping[Any, float] | None = None,
    by: str | None = None,
) -> Prediction:
    """Forecast what a period, or the days to come, will bring, from how deals were won and lost before.

    Every open deal is won or lost at a rate of its age, told apart by columns
    such as segment, owner or size of amount as far as they foretold deals
    before. Naive rows and a landing row stand beside; all are weighed by how
    they did in past windows, each forecast from what was known before it, and
    the spread is learned from what was missed there.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Open and closed opportunities: ``amount``, ``close_date``, ``created_at`` or
        ``external_created_at``, and ``stage_id`` or ``stage_name``. Never modified.
    context : FigureContext
        Stages, moment, time zone, names. Nothing that closed after its moment is seen.
    period : object, optional
        A period that is going on (``"2026Q3"``, a day in it): what was won to date counts.
    horizon_days : int, optional
        Instead, a number of days from `as_of` on; 90 if neither is given [days].
    method : str or object, default "auto"
        ``"auto"`` and ``"mix"``: all rows by their weights; one of `METHODS`; an
        object with ``fit(known)`` and ``predict(window)``, or ``predict(deals,
        until)`` for the probability of each deal; or a classifier with ``fit`` and
        ``predict_proba``.
    segments : sequence of str, optional
        Columns that tell deals apart. Left out: those with few values that were
        known when a deal was created, each by its own record.
    new_deals : bool, default True
        Whether deals count that are created within the window.
    observed_from : str or date, optional
        First day from which closings were recorded; inferred where left out, and said.
    history : History, optional
        Snapshots. Probabilities, close dates, amounts and stages as they stood
        on past evenings are then evidence, weighed by their own record.
    activity : DataFrame or False, optional
        What was done on the deals, as `read_activity` gives it: evidence as well.
        That of the load (``touches=True``) if left out; False: none.
    quota : float or mapping, optional
        An amount to reach; by group where `by` names a column [currency].
    by : str, optional
        A column to split what was won and what open deals bring by.

    Returns
    -------
    Prediction
        ``.mean, .sd, .quantile(q), .p_at_least(x), .interval(level)`` and ``.parts,
        .deals, .groups, .record, .windows, .weights, .method, .why, .target,
        .tested``; with a quota ``.p_quota`` and ``.attainment``.

    Raises
    ------
    FrameError
        If no deal has a creation date, or none was won or lost yet.
    ConfigurationError
        If an argument cannot be used, or the period is over or has not begun.

    Examples
    --------
    >>> coming = df.opp.predict(horizon_days=90, quota=400_000)
    >>> list(coming.parts.index), coming.quantile(0.1) < coming.mean < coming.quantile(0.9)
    (['won', 'open', 'new'], True)
    >>> coming.deals[["id", "p", "expected_amount"]].dtypes.astype(str).to_dict()
    {'id': 'int64', 'p': 'float64', 'expected_amount': 'float64'}
    """
    asked = _ask(frame, context, period, horizon_days, new_deals, segments, observed_from, history, activity)
    walk = Walk(asked.past, asked.horizon, new_deals=new_deals)
    return _build(asked, walk, *_chosen(walk, method), quota, by)


@predict.rows
def rows_of_prediction(ask: Question) -> tuple[Any, ...]:
    """Find the deals behind a prediction, for `explain`, each with its reasons; new deals are in no frame."""
    found, deals = ask.options["result"], ask.deals
    first, last = (parse_day(ask.basis[name]) for name in ("first_day", "evening"))
    won = np.asarray((deals.status == WON) & (deals.close_day >= first) & (deals.close_day <= last))
    won &= (deals.created_day != NO_DAY) & ~np.isnan(deals.amount)
    contribution, reasons = np.where(won, deals.amount, 0.0), np.full(len(deals), "", dtype=object)
    places = found.attrs["positions"]
    contribution[places], reasons[places] = found.amounts * found.chances, found.attrs["reasons"]
    chosen = won.copy()
    chosen[places] = True
    told = replace(deals, frame=deals.frame.assign(reasons=reasons))
    return chosen, contribution if ask.column == "mean" else None, told


class Predictor:
    """Predicts deals again after edits, and walks only that part of their past anew that an edit has touched.

    Examples
    --------
    >>> from opp_pandas.figures.core.snapshots import context_from_load
    >>> from opp_pandas.forecasting.predicting import Predictor
    >>> again, context = Predictor(), context_from_load(df)
    >>> first = again.predict(df, context=context, period="2026Q4")
    >>> again.predict(df, context=context, period="2026Q4").mean == first.mean
    True
    """

    def __init__(self) -> None:
        self._walk: Walk | None = None

    def predict(
        self, frame: pd.DataFrame, *, context: FigureContext, period: Any, by: str | None = None, history: Any = None
    ) -> Prediction:
        """Return what `predict` says of a period."""
        asked = _ask(frame, context, period, None, True, None, None, history)
        self._walk = Walk(asked.past, asked.horizon, kept=self._walk)
        return _build(asked, self._walk, *_chosen(self._walk, "auto"), None, by)


def predict_and_compare(
    frame: pd.DataFrame, *, context: FigureContext, period: Any, quota: float | None = None, history: Any = None
) -> tuple[Prediction, pd.DataFrame]:
    """Return what `predict` and `compare` say of a period, from one walk through the past."""
    asked = _ask(frame, context, period, None, True, None, None, history)
    walk = Walk(asked.past, asked.horizon, new_deals=True)
    return _build(asked, walk, *_chosen(walk, "auto")), _set_beside(asked, walk, None, quota)


def _chosen(walk: Walk, method: Any) -> tuple[str, Forecasts, str]:
    if not isinstance(method, str):
        return _name_of(method), run_forecaster(walk, method), "chosen by the user"
    if method in ("auto", "mix"):
        few = walk.independent < ENOUGH_WINDOWS
        why = f"{counted(int(walk.ended.sum()), 'past window')} worth {walk.independent:.1f} without overlap"
        why += ": too few to choose by, so the weights stay near the prior" if few else ": weights from their scores"
        return "mix", walk.mix, why
    if method not in METHODS:
        raise ConfigurationError(f"method is one of {', '.join(METHODS)}, or an object, not {method!r}")
    found = walk.forecasts(method)
    if not np.isfinite(found.mean[-1]):
        raise ConfigurationError(
            f"method {method!r} has nothing to go by: the record does not reach back so far, or no history was given"
        )
    return method, found, "chosen by the user"


def _name_of(method: Any) -> str:
    return str(getattr(method, "name", type(method).__name__))


def run_forecaster(walk: Walk, method: Any) -> Forecasts:
    """Return the forecasts of anybody's forecaster or classifier, fitted anew before every window."""
    method = read_method(method, walk.horizon)
    # New deals are added where a method knows open ones only.
    only_open = isinstance(method, ProbabilityForecaster)
    mean, sd, none = (np.empty(len(walk.cuts)) for _ in range(3))
    for at, cut in enumerate(walk.cuts):
        known, window = as_seen(cut.known, walk.horizon, walk.new_deals, cut.amounts[""])
        method.fit(known)
        found = method.predict(window)
        mean[at] = found.mean + (walk.new[1][at] if only_open else 0.0)
        sd[at] = np.sqrt(found.sd**2 + (walk.new[2][at] if only_open else 0.0))
        none[at] = max(1.0 - found.p_at_least(1e-9), 0.0) if found.mean > 0 else 1.0
    if only_open:
        return walk.spread(mean)
    return Forecasts(mean, np.maximum(sd, 1e-9), np.minimum(none, 0.99))


def as_seen(known: Known, horizon: int, new_deals: bool, amounts: Floats) -> tuple[KnownDeals, Window]:
    """Return what was known on an evening, and the window after it, as frames."""
    past = known.past
    rows = np.flatnonzero(past.created <= known.day)
    closed = np.where(past.closed[rows] <= known.day, past.closed[rows], FAR)
    amount = past.amount[rows].copy()
    if not past.stated_amounts:
        amount[np.searchsorted(rows, known.open)] = amounts
    frame = pd.DataFrame(
        {
            "created_day": past.created[rows].astype("datetime64[D]"),
            "closed_day": pd.Series(
                np.where(closed == FAR, np.datetime64("NaT", "D"), closed.astype("datetime64[D]")),
                dtype="datetime64[s]",
            ),
            "is_won": past.won[rows] & (closed < FAR),
            "amount": amount,
            **{name: np.array(c.labels, dtype=object)[c.codes[rows]] for name, c in past.columns.items()},
        }
    )
    evening = to_date(known.day)
    is_open = frame["closed_day"].isna()
    window = Window(evening + pd.Timedelta(days=1), evening + pd.Timedelta(days=horizon), frame[is_open], new_deals)
    return KnownDeals(frame, evening), window


def _build(
    asked: _Asked, walk: Walk, name: str, forecasts: Forecasts, why: str, quota: Any = None, by: str | None = None
) -> Prediction:
    past = asked.past
    bare = outlook(walk, forecasts, asked.won)
    amounts, scaled, numbers = bare.amounts, bare.chances, bare.new_numbers
    cut = walk.cuts[-1]
    parts = pd.DataFrame(
        {
            "deals": [float(asked.won_count), float(scaled.sum()), float(numbers.sum())],
            "mean": [asked.won, float(scaled @ amounts), float(numbers @ bare.new_amounts)],
        },
        index=pd.Index(["won", "open", "new"], name="part"),
    )
    parts["share"] = parts["mean"] / max(float(parts["mean"].sum()), 1e-9)
    reasons = reasons_of(walk)
    table = deal_table(walk, asked.deals.frame, scaled, amounts, reasons)
    record = facts_of(walk.record_of(forecasts), walk.independent)
    weights = pd.DataFrame(walk.mix_weights.T, columns=list(walk.rows), index=_dates(walk.days, "as_of"))
    zombies = int(table["zombie"].sum())
    notes = [
        asked.target,
        f"method {name}: {why}",
        *past.notes,
        f"columns that tell deals apart: {describe_columns(past)}",
    ]
    if past.stated is not None:
        kept = sum(cut.snapshot is not None for cut in walk.cuts)
        notes.append(f"what was stated of open deals was kept for {kept} of {len(walk.cuts)} evenings")
    negative = int(np.count_nonzero(amounts < 0))
    if negative:
        notes.append(f"{counted(negative, 'open deal')} with an amount below 0")
    groups = _by_group(asked, bare, past.rows[cut.known.open], by, quota)
    whole = float(sum(quota.values())) if isinstance(quota, Mapping) else quota
    if zombies:
        amount = float(table.loc[table["zombie"], "amount"].sum())
        notes.append(f"{counted(zombies, 'open deal')} ({amount:,.0f}) older than any deal that was ever won")
    basis = build_basis(
        "predict",
        asked.deals.context,
        Facts.of(asked.deals, dated=True),
        currency=asked.deals.currency,
        period=asked.period,
        title=f"Prediction, {asked.target.split(':')[0]}",
        n_deals=len(cut.known.open),
        won_amount=asked.won,
        first_day=f"{to_date(asked.first):%Y-%m-%d}",
        last_day=f"{to_date(asked.last):%Y-%m-%d}",
        evening=f"{to_date(past.day):%Y-%m-%d}",
        created_by=None if walk.new_deals else f"{to_date(past.day):%Y-%m-%d}",
        record=record.iloc[0].to_dict(),
        arguments={"method": name, "horizon_days": walk.horizon, "new_deals": walk.new_deals, "by": by, "quota": whole},
        definitions=_DEFINITIONS | _RECORD,
        notes=notes,
    )
    return replace(
        bare,
        attrs={BASIS_KEY: basis, "positions": past.rows[cut.known.open], "reasons": reasons},
        parts=parts,
        deals=table,
        method=name,
        why=why,
        record=record,
        windows=_windows(walk, forecasts),
        weights=weights,
        target=asked.target,
        quota=whole,
        groups=groups,
    )


def _by_group(asked: _Asked, bare: Prediction, positions: Codes, by: str | None, quota: Any) -> pd.DataFrame:
    """Split what was won and what open deals bring by a column; new deals have no group yet."""
    if by is None:
        if isinstance(quota, Mapping):
            raise ConfigurationError("quotas by group need by=, the column that the groups are of")
        return pd.DataFrame()
    require_one_column(by)
    (group,) = read_groups(asked.deals, by)
    codes, past = np.asarray(group.codes, dtype=np.intp), asked.past
    rows = past.won & (past.closed >= asked.first) & (past.closed <= past.day) & ~np.isnan(past.amount)
    won = np.bincount(codes[past.rows[rows]], past.amount[rows], minlength=len(group))
    quotas = np.full(len(group), np.nan)
    for key, value in quota.items() if isinstance(quota, Mapping) else ():
        quotas[group.find(key)] = value
    found = []
    for code in range(len(group)):
        mine = codes[positions] == code
        part = replace(bare.among(mine, won_amount=float(won[code]), with_new=False), quota=quotas[code])
        low, high = part.interval(0.8)
        expected = part.mean - part.won_amount
        found.append([int(mine.sum()), part.won_amount, expected, part.mean, low, high, part.p_quota, part.attainment])
    names = ["open_deals", "won", "open", "mean", "low_80", "high_80", "p_quota", "attainment"]
    table = pd.DataFrame(found, columns=names, index=group.labels.rename(by))
    new = float(bare.new_numbers @ bare.new_amounts)
    table.loc["(new deals)", ["open_deals", "won", "open", "mean"]] = [0, 0.0, 0.0, new]
    return table if isinstance(quota, Mapping) else table.drop(columns=["p_quota", "attainment"])


def _dates(days: Any, name: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([to_date(int(day)) for day in days], name=name)


def _windows(walk: Walk, forecasts: Forecasts) -> pd.DataFrame:
    low, high = forecasts.interval(0.8)
    table = pd.DataFrame(
        {
            "as_of": _dates(walk.days, "as_of"),
            "until": _dates(walk.days + walk.horizon, "until"),
            "forecast": forecasts.mean,
            "low_80": low,
            "high_80": high,
            "actual": walk.actual,
            "crps": crps(forecasts.quantiles, np.nan_to_num(walk.actual)),
        }
    )
    return table[walk.ended & np.isfinite(forecasts.mean)].reset_index(drop=True)


@figure(heading="Methods side by side", definitions=_RECORD)
def compare(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    period: Any = None,
    horizon_days: int | None = None,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    quota: float | None = None,
    segments: Sequence[str] | None = None,
    new_deals: bool = True,
    observed_from: Any = None,
    history: Any = None,
    activity: pd.DataFrame | Literal[False] | None = None,
) -> pd.DataFrame:
    """Set methods side by side: what each says of the coming period, and how it did before.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Open and closed opportunities, as `predict` needs them. Never modified.
    context : FigureContext
        Stages, moment, time zone, names. Nothing that closed after its moment is seen.
    period : object, optional
        A period that is going on (``"2026Q3"``, a day in it): what was won to date counts.
    horizon_days : int, optional
        Instead, a number of days from `as_of` on; 90 if neither is given [days].
    segments : sequence of str, optional
        Columns that tell deals apart. Left out: those with few values that were
        known when a deal was created, each by its own record.
    new_deals : bool, default True
        Whether deals count that are created within the window.
    observed_from : str or date, optional
        First day from which closings were recorded; inferred where left out, and said.
    history : History, optional
        Snapshots: evidence beside the deals, weighed by their own record.
    activity : DataFrame or False, optional
        What was done on the deals, as in `predict`.
    methods : sequence or mapping, optional
        Names of `METHODS`, forecasters and classifiers, a mapping to name them;
        all of `METHODS` that have something to go by if left out. Naive rows stand beside in any case.
    quota : float, optional
        An amount to reach [currency].

    Returns
    -------
    DataFrame
        Indexed by ``method``: ``mean, low_80, high_80`` [currency], ``p_quota``
        (missing without a quota), and the record: ``windows, wape, wape_low,
        wape_high, bias, crps, crps_share, coverage_50, coverage_80, coverage_90,
        width_80``. A method that has nothing to go by has a missing mean. The
        basis names in ``best`` the method of the lowest CRPS over windows that
        all were scored on, once those are worth eight without overlap and it is
        better than the mix beyond chance; else nothing.

    Examples
    --------
    >>> table = df.opp.compare(horizon_days=90, methods=["last_window"])
    >>> {"mean", "low_80", "high_80", "wape"} <= set(table.columns), "last_window" in table.index
    (True, True)
    """
    asked = _ask(frame, context, period, horizon_days, new_deals, segments, observed_from, history, activity)
    return _set_beside(asked, Walk(asked.past, asked.horizon, new_deals=new_deals), methods, quota)


def _set_beside(
    asked: _Asked, walk: Walk, methods: Sequence[Any] | Mapping[str, Any] | None, quota: float | None
) -> pd.DataFrame:
    by_method = _by_method(walk, methods)
    rows = {}
    for name, forecasts in by_method.items():
        facts = dict.fromkeys(("mean", "low_80", "high_80", "p_quota"), np.nan)
        if np.isfinite(forecasts.mean[-1]):
            found = replace(outlook(walk, forecasts, asked.won), quota=quota)
            low, high = found.interval(0.8)
            facts = {"mean": found.mean, "low_80": low, "high_80": high, "p_quota": found.p_quota}
        rows[name] = facts | walk.record_of(forecasts)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "method"
    best, words = best_method(walk, by_method)
    basis = build_basis(
        "compare",
        asked.deals.context,
        Facts.of(asked.deals, dated=True),
        currency=asked.deals.currency,
        period=asked.period,
        title=f"Methods, {asked.target.split(':')[0]}",
        best=best,
        verdict=words,
        few_windows=walk.independent < ENOUGH_WINDOWS,
        methods={name: METHODS.get(name, "the user's own") for name in by_method},
        arguments={"horizon_days": walk.horizon, "new_deals": walk.new_deals, "quota": quota},
        definitions=_RECORD | {"p_quota": "probability that bookings reach the quota"},
        notes=[asked.target, words, *asked.past.notes],
    )
    return attach_basis(table, basis)


def _by_method(walk: Walk, methods: Sequence[Any] | Mapping[str, Any] | None) -> dict[str, Forecasts]:
    named_methods: dict[str, Any] = {}
    if methods is None:
        named_methods = {name: name for name in ("mix", *walk.rows)}
    elif isinstance(methods, Mapping):
        named_methods = dict(methods)
    else:
        named_methods = {method if isinstance(method, str) else _name_of(method): method for method in methods}
    named_methods |= {name: name for name in NAIVE if name not in named_methods}
    found = {}
    for name, method in named_methods.items():
        if isinstance(method, str):
            if method not in METHODS:
                raise ConfigurationError(f"methods are {', '.join(METHODS)}, or objects, not {method!r}")
            found[name] = walk.forecasts(method)
        else:
            found[name] = run_forecaster(walk, method)
    return found


def best_method(walk: Walk, found: Mapping[str, Forecasts]) -> tuple[str | None, str]:
    """Name the method of the lowest score over windows that all were scored on; None where nobody can tell."""
    shown = {name: f for name, f in found.items() if np.isfinite(f.mean[walk.ended]).any()}
    if len(shown) < 2:
        return None, "one method is not compared"
    rows = walk.ended & np.all([np.isfinite(f.mean) & np.isfinite(f.sd) for f in shown.values()], axis=0)
    independent = float(rows.sum() * min(1.0, walk.step / walk.horizon))
    if independent < ENOUGH_WINDOWS:
        more = int(np.ceil(ENOUGH_WINDOWS - independent))
        return None, f"no method is called the best: that needs {counted(more, 'more window')} without overlap"
    scores = {name: crps(f.quantiles[rows], walk.actual[rows]) for name, f in shown.items()}
    order = sorted(scores, key=lambda name: float(scores[name].mean()))
    gap = scores[order[1]] - scores[order[0]]
    error = float(gap.std(ddof=1)) / np.sqrt(independent)
    if float(gap.mean()) > 1.645 * error:
        return order[0], f"{order[0]} scored best, beyond chance"
    return None, f"{order[0]} scored best, but {order[1]} no worse than chance allows"
