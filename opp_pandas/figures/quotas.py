"""Quota beside the figures: attainment, gap, coverage and what is still needed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.figures.core.basis import Facts
from opp_pandas.figures.core.days import to_dates
from opp_pandas.figures.core.deals import STANDINGS, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import Group, combine
from opp_pandas.figures.core.totals import Tally, tally

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Floats, Integers
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.periods import Periods

Quota: TypeAlias = float | Mapping[Any, float] | pd.DataFrame
"""A number per row of the figure, group (or period) -> number, or a frame ``period, group, quota``."""

DEFINITIONS = {
    "quota": "what was to be won",
    "attainment": "won_amount / quota",
    "gap": "quota - won_amount, at least 0",
    "gap_to_forecast": "quota - forecast_amount",
    "coverage": "open_amount / (quota - won by as_of), to-go; inf once the quota is reached",
}


@dataclass(frozen=True, eq=False)
class QuotaTable:
    """Quotas settled to periods and groups."""

    everywhere: float | None
    """One number for every row."""
    ordinals: Integers | None
    groups: Codes
    """Period number (None: every period) and group code of each entry."""
    values: Floats
    """The quota of each entry."""


def read_quota(quota: Quota, periods: Periods, groups: Sequence[Group]) -> QuotaTable:
    """Settle a quota as a user gives it.

    A number counts for every row. A mapping goes from group (a label, an id, a tuple
    where there are several groupings) to number, for every period; without groups, from
    period to number. A frame has ``quota``, a column for each grouping (or one called
    ``group``), and ``period`` where quotas differ by it.
    """
    nothing = np.empty(0, dtype=np.intp)
    if isinstance(quota, pd.DataFrame):
        return _from_frame(quota, periods, groups)
    if isinstance(quota, Mapping):
        values = np.array([_number(value, key) for key, value in quota.items()])
        if not groups:
            ordinals = np.array([periods.parse(key) for key in quota], dtype=np.int64)
            _require_distinct(list(quota), ordinals)
            return QuotaTable(None, ordinals, np.zeros(len(values), dtype=np.intp), values)
        codes = _codes(list(quota), groups)
        _require_distinct(list(quota), codes)
        return QuotaTable(None, None, codes, values)
    return QuotaTable(_number(quota, "quota"), None, nothing, np.empty(0))


def _from_frame(quota: pd.DataFrame, periods: Periods, groups: Sequence[Group]) -> QuotaTable:
    columns = ["group"] if len(groups) == 1 and "group" in quota.columns else [group.name for group in groups]
    missing = [name for name in (*columns, "quota") if name not in quota.columns]
    if missing:
        hint = "A quota frame has quota, each grouping, and period where quotas differ by it."
        raise MissingColumnError(missing, list(quota.columns), hint)
    by_period = "period" in quota.columns
    ordinals = [periods.parse(label) for label in quota["period"]] if by_period else [0] * len(quota)
    values = np.array([_number(value, place) for place, value in quota["quota"].items()])
    keys = quota[columns[0]] if len(columns) == 1 else quota[columns].itertuples(index=False, name=None)
    codes = _codes(list(keys), groups) if columns else np.zeros(len(values), dtype=np.intp)
    doubled = pd.MultiIndex.from_arrays([ordinals, codes]).duplicated()
    if doubled.any():
        raise ConfigurationError(
            f"the quota frame states one period and group twice, in rows {named(quota.index[doubled])}"
        )
    return QuotaTable(None, np.array(ordinals, dtype=np.int64) if by_period else None, codes, values)


def _require_distinct(keys: Sequence[Any], places: Integers | Codes) -> None:
    """Raise if two keys mean the same, such as a name and the id behind it."""
    doubled = pd.Index(places).duplicated(keep=False)
    if doubled.any():
        meant = named([str(key) for key, twice in zip(keys, doubled, strict=True) if twice])
        raise ConfigurationError(f"the quota states one group or period twice: {meant} are the same")


def _number(value: Any, key: Any) -> float:
    number = float(value) if isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0:
        raise ConfigurationError(f"the quota of {key!r} must be a number of 0 or more, not {value!r}")
    return number


def _codes(keys: Sequence[Any], groups: Sequence[Group]) -> Codes:
    found = []
    for key in keys:
        parts = key if isinstance(key, tuple) and len(groups) > 1 else (key,)
        if len(parts) != len(groups):
            names = ", ".join(group.name for group in groups)
            raise ConfigurationError(f"quota key {key!r} must name a group of each of ({names})")
        found.append([group.find(part) for group, part in zip(groups, parts, strict=True)])
    places = np.array(found, dtype=np.intp).reshape(len(keys), len(groups))
    picked = [Group(group.name, places[:, i], group.labels, group.keys) for i, group in enumerate(groups)]
    return combine(picked, len(keys))[0]


def quota_columns(
    quota: Floats, open_amount: Floats, won_amount: Floats, won_by_now: Floats, forecast_amount: Floats | None = None
) -> dict[str, Floats]:
    """Compare sums with quotas; NaN where there is no quota, or a quota of 0 to divide by."""
    left = quota - won_by_now
    # To a reached quota (Q <= B) nothing is left to cover.
    coverage = np.where(left > 0, np.divide(open_amount, left, out=np.full(len(left), np.inf), where=left > 0), np.inf)
    return {
        "quota": quota,
        "attainment": np.divide(won_amount, quota, out=np.full(len(quota), np.nan), where=quota > 0),
        "gap": np.where(np.isnan(quota), np.nan, np.maximum(quota - won_amount, 0.0)),
        **({} if forecast_amount is None else {"gap_to_forecast": quota - forecast_amount}),
        "coverage": np.where(np.isnan(quota), np.nan, coverage),
    }


def gini(values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Compute the Gini coefficient of amounts: 0 all equal, towards 1 all in one; NaN if they sum to nothing.

    Parameters
    ----------
    values : array-like
        Amounts.
    weights : array-like, optional
        How much of an even spread belongs to each, such as the days of a week;
        the same for all if left out.

    Returns
    -------
    float

    Examples
    --------
    >>> gini([1.0, 1.0, 1.0]), gini([0.0, 3.0]), gini([7.0, 7.0, 1.0], weights=[7, 7, 1])
    (0.0, 0.5, 0.0)
    """
    amounts = np.asarray(values, dtype=np.float64)
    size = np.ones(len(amounts)) if weights is None else np.asarray(weights, dtype=np.float64)
    amounts, size = amounts[size > 0], size[size > 0]
    total = amounts.sum()
    if total <= 0:
        return float("nan")
    order = np.argsort(amounts / size, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(amounts[order])]) / total
    # Twice the area between the line of an even spread and the Lorenz curve.
    unequal = 1 - float(np.sum(size[order] / size.sum() * (below[1:] + below[:-1])))
    return 0.0 if abs(unequal) < 1e-12 else unequal


def won_by_day(deals: Deals, first: int, last: int) -> Tally:
    """Tally what was won with its close date in a span of days, by as_of; a layer is a day, counted from the first."""
    days = deals.close.days
    inside = (days >= first) & (days <= min(last, deals.context.today))
    table = np.full((STANDINGS, len(days)), -1)
    table[WON, inside] = days[inside] - first
    return tally(deals, [], range(last - first + 1), table)


def last_month_of(periods: Periods, last: int) -> int:
    """Find the first day of the month, of the calendar or 4-4-5, that ends a period on the day `last`."""
    months = periods.but(freq="M")
    return months.span(months.of_day(last))[0]


_LINEARITY = {
    "won_count": "deals won with their close date in the week, by as_of",
    "won_amount": "their amounts",
    "share": "won in the week / won in the period",
    "cumulative_share": "won up to the end of the week / won in the period",
    "last_month_share": "won in the last month of the period / won in the period",
    "gini": "inequality of the weeks up to as_of, each by its days: 0 even",
}


@figure(definitions=_LINEARITY)
def linearity(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    period: object = None,
) -> pd.DataFrame:
    """Measure how evenly a period's bookings came in, week by week.

    Parameters
    ----------
    period : object, optional
        The period; the one that holds as_of if left out.

    Returns
    -------
    DataFrame
        A row per week of the period (seven days from its first), indexed by
        ``week``, with ``week_start`` and ``week_end``. Shares are missing if
        nothing was won. Won deals that close after as_of are left out. The
        basis holds ``last_month_share`` (by the calendar or 4-4-5; missing
        before that month begins) and ``gini``.

    Examples
    --------
    >>> df.opp.linearity(period="2026Q3")[["won_amount", "share"]].head(4).round(2)
          won_amount  share
    week
    1        6914.08   0.01
    2           0.00   0.00
    3       17613.68   0.03
    4       76282.90   0.13
    """
    deals = Deals(frame, context)
    periods = context.periods
    ordinal = context.period_number(period)
    first, last = periods.span(ordinal)
    won = won_by_day(deals, first, last)
    starts = np.arange(first, last + 1, 7)
    sums = won.add("amount", won.layer // 7, len(starts))
    total = float(sums.sum())
    share = sums / total if total else np.full(len(sums), np.nan)
    table = pd.DataFrame(
        {
            "week_start": to_dates(starts),
            "week_end": to_dates(np.minimum(starts + 6, last)),
            "won_count": won.add("count", won.layer // 7, len(starts)),
            "won_amount": sums,
            "share": share,
            "cumulative_share": np.cumsum(share),
        },
        index=pd.RangeIndex(1, len(starts) + 1, name="week"),
    )
    month = last_month_of(periods, last)
    in_last_month = won.add("amount", won.layer * 0, 1, won.layer >= month - first)
    dated = total and periods.unit in ("Q", "Y") and month <= context.today
    days_gone = np.clip(min(last, context.today) - starts + 1, 0, 7)
    return linearity.result(
        table,
        context,
        Facts.of(deals, money=True, later=True),
        later=True,
        period=str(periods.label(ordinal)),
        complete=last < context.today,
        last_month_share=float(in_last_month[0]) / total if dated else None,
        gini=gini(sums, days_gone),
    )


_PACING = {
    "won_to_date": "deals won in the period's first `day` days, with an amount",
    "won_amount": "deals won in all of the period so far",
    "share": "won up to the same part of the period / won in all of it",
    "usual_share": "mean share of the earlier periods",
    "landing": "won to date / usual_share",
    "attained": "won_to_date / quota",
}


@figure(definitions=_PACING)
def pacing(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    quota: float | None = None,
    period: object = None,
    compare: int = 4,
) -> pd.DataFrame:
    """Compare what is won so far with earlier periods on the same day.

    Parameters
    ----------
    quota : float, optional
        The period's quota [currency].
    period : object, optional
        The period; the one that holds as_of if left out.
    compare : int, default 4
        Earlier periods to compare with.

    Returns
    -------
    DataFrame
        A row per period, earlier ones first, indexed by ``period``, with
        ``day``, the days gone, and its ``days``. ``share`` is missing in the
        present one, and ``attained`` is there with a quota, in the last row.
        The basis holds ``usual_share`` and ``landing``.

    Examples
    --------
    >>> df.opp.pacing(quota=500_000)
    Pacing, as of 2026-11-02, amounts in USD
           day days won_to_date won_amount   share attained
    period
    2025Q4  33   92      19,684     76,761  25.6 %
    2026Q1  32   90     186,156    223,075  83.4 %
    2026Q2  33   91      36,590    251,249  14.6 %
    2026Q3  33   92     118,661    595,360  19.9 %
    2026Q4  33   92      86,785     86,785           17.4 %
    """
    if compare < 1:
        raise ConfigurationError(f"compare must be 1 or more, not {compare!r}")
    deals = Deals(frame, context)
    periods = context.periods
    ordinal = context.period_number(period)
    ordinals = np.arange(ordinal - compare, ordinal + 1)
    starts, ends = periods.starts(ordinals), periods.ends(ordinals)
    length = ends - starts + 1
    gone = int(min(max(context.today - starts[-1] + 1, 0), length[-1]))
    # The same day is the same part of the period: quarters have 90 to 92 days.
    day = np.rint(gone * length / length[-1]).astype(np.int64)
    won = won_by_day(deals, int(starts[0]), int(ends[-1]))
    in_days = won.layer + starts[0]
    place = np.searchsorted(starts, in_days, side="right") - 1
    in_all = won.add("amount", place, len(ordinals))
    to_date = won.add("amount", place, len(ordinals), in_days < (starts + day)[place])
    share = np.divide(to_date, in_all, out=np.full(len(ordinals), np.nan), where=in_all > 0)
    # What is not over has no share yet: also of earlier periods, where as_of lies before the present one.
    share[ends >= context.today] = np.nan
    earlier = share[:-1][~np.isnan(share[:-1])]
    usual = float(earlier.mean()) if len(earlier) else float("nan")
    table = pd.DataFrame(
        {"day": day, "days": length, "won_to_date": to_date, "won_amount": in_all, "share": share},
        index=periods.labels(ordinals),
    )
    if quota is not None:
        attained = np.full(len(ordinals), np.nan)
        attained[-1] = to_date[-1] / target if (target := _number(quota, "quota")) else np.nan
        table = table.assign(attained=attained)
    return pacing.result(
        table,
        context,
        Facts.of(deals, money=True, later=True),
        later=True,
        usual_share=usual,
        landing=float(to_date[-1] / usual) if usual > 0 else None,
        n_compared=len(earlier),
        period=str(periods.labels(ordinals[-1:])[0]),
        arguments={"compare": compare, "quota": quota},
    )


@linearity.rows
def _rows_of_linearity(ask: Question) -> Trace:
    deals, period = ask.deals, ask.basis["period"]
    first, last = ask.periods.span_of(period)
    close = deals.close_day
    won = (deals.status == WON) & (close >= first) & (close <= min(last, deals.context.today))
    amount = np.nan_to_num(deals.amount)
    total = float(amount[won].sum())
    week = (close - first) // 7 + 1
    if ask.column == "gini":
        return won, None
    if ask.column == "last_month_share":
        return won & (close >= last_month_of(ask.periods, last)), amount / total if total else None
    here = won & (week <= ask.parts[0] if ask.column == "cumulative_share" else week == ask.parts[0])
    if ask.column == "won_count":
        return here, np.ones(len(deals))
    if ask.column == "won_amount":
        return here & ~np.isnan(deals.amount), amount
    return here, amount / total if total else None


@pacing.rows
def _rows_of_pacing(ask: Question) -> Trace:
    deals, periods = ask.deals, ask.periods
    won = (deals.status == WON) & (deals.close_day <= deals.context.today) & ~np.isnan(deals.amount)
    present = periods.parse(ask.basis["period"])
    earlier = periods.labels(np.arange(present - ask.arguments["compare"], present))
    if ask.row is None:
        # The usual share and the landing stand on all periods compared.
        labels = [*earlier, ask.basis["period"]] if ask.column == "landing" else list(earlier)
        return won & np.logical_or.reduce([ask.within(label) for label in labels]), None
    inside = won & ask.within(ask.parts[0])
    if ask.column in ("won_to_date", "attained"):
        start, _ = periods.span_of(ask.parts[0])
        rows = inside & (deals.close_day < start + int(ask.row["day"]))
        return rows, deals.amount if ask.column == "won_to_date" else None
    return inside, deals.amount if ask.column == "won_amount" else None
