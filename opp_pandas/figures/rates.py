"""Rates and speeds: win rate, deal size, cycle, velocity, and the table of key figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import attach_basis, build_basis, closed_later, counted, money_facts, money_notes
from opp_pandas.figures.core.days import NO_DAY, Codes, Flags, Floats, Integers, to_date
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import combine, index_of, read_groups, sum_amounts
from opp_pandas.figures.core.lineage import Question, Trace, in_groups, together
from opp_pandas.figures.forecasts import OPEN_CURRENT, OVERDUE, WON_BY_NOW, kinds_of
from opp_pandas.figures.quotas import Quota, quota_columns, read_quota

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.periods import Periods

DEFINITIONS = {
    "open_count": "open deals",
    "open_amount": "amounts of the open deals, overdue ones included, omitted ones left out",
    "weighted_amount": "the same amounts x probability",
    "overdue_count": "open deals whose close date is before as_of",
    "overdue_amount": "the part of open_amount that is overdue",
    "won_count": "won deals closed in the window",
    "lost_count": "lost deals closed in the window",
    "won_amount": "amounts of the won deals",
    "win_rate": "won_count / (won_count + lost_count)",
    "win_rate_low": "lower end of the Wilson interval",
    "win_rate_high": "upper end of the Wilson interval",
    "win_rate_value": "won amount / (won + lost amount)",
    "average_won_amount": "mean amount of won deals that have one",
    "median_won_amount": "median amount of the same deals",
    "median_cycle_days": "median of close day - created day over won deals",
    "velocity_per_day": "open_count x win_rate x average_won_amount / median_cycle_days",
    "missing_amount_count": "open, won or lost deals without an amount: in counts, in no sum",
}
_QUOTA_DEFINITIONS = {
    "quota": "what was to be won in the period",
    "period_won_amount": "won deals with their close date in the period, by as_of",
    "period_open_amount": "open deals with their close date in the period, omitted ones left out",
    "attainment": "period_won_amount / quota",
    "gap": "quota - period_won_amount, at least 0",
    "coverage": "period_open_amount / (quota - won by as_of), to-go; inf once the quota is reached",
    "pipeline_needed": "gap / win_rate",
}


def divide(above: npt.ArrayLike, below: npt.ArrayLike) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    top, bottom = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    result = np.full(bottom.shape, np.nan)
    np.divide(top, bottom, out=result, where=(bottom != 0) & ~np.isnan(bottom))
    return result


def wilson(won: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Give the Wilson interval of a share.

    Parameters
    ----------
    won, n : array-like
        Successes, and trials.
    level : float, default 0.95
        Confidence.

    Returns
    -------
    low, high : ndarray
        Ends of the interval; NaN where n is 0.

    References
    ----------
    .. [1] Wilson, Probable inference, JASA 22 (1927).

    Examples
    --------
    >>> low, high = wilson(6, 20)
    >>> round(float(low), 5), round(float(high), 5)
    (0.14548, 0.51897)
    """
    if not 0 < level < 1:
        raise ConfigurationError(f"level must lie between 0 and 1, such as 0.95, not {level!r}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    k, m = np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)
    share = divide(k, m)
    below = 1 + divide(z * z, m)
    centre = (share + divide(z * z, 2 * m)) / below
    half = z * np.sqrt(divide(share * (1 - share), m) + divide(z * z, 4 * m * m)) / below
    # Rounding must not push an end past what it bounds.
    return np.maximum(np.minimum(centre - half, share), 0.0), np.minimum(np.maximum(centre + half, share), 1.0)


def shrink(won: npt.ArrayLike, n: npt.ArrayLike, rate: float, m: float = 20.0) -> Floats:
    """Pull the rates of small groups towards the rate of all: ``(k + m r) / (n + m)``.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.
    rate : float
        The rate of all.
    m : float, default 20
        How many deals the rate of all is worth.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> float(shrink(3, 5, rate=0.22).round(3))
    0.296
    """
    if np.isinf(m):
        return np.full(np.shape(won), rate)
    return divide(np.asarray(won) + m * rate, np.asarray(n) + m)


def fit_strength(won: npt.ArrayLike, n: npt.ArrayLike) -> float:
    """Estimate from the groups themselves how many deals the rate of all is worth: the m of `shrink`.

    Groups whose rates differ by no more than chance are worth nothing on their
    own. Moments of the beta-binomial distribution [1]_.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.

    Returns
    -------
    float
        0: every rate stands for itself; infinite: all groups have one rate; NaN
        where fewer than two groups have closed deals, or all or none are won.

    References
    ----------
    .. [1] Kleinman, Proportions with extraneous variance, JASA 68 (1973).

    Examples
    --------
    >>> round(fit_strength([9, 2, 7, 1], [10, 10, 10, 10]), 2)
    0.81
    """
    k, m = np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)
    k, m = k[m > 0], m[m > 0]
    total, rate = float(m.sum()), float(divide(k.sum(), m.sum()))
    if len(m) < 2 or not 0 < rate < 1:
        return float("nan")
    spread = float(np.sum(m * (k / m - rate) ** 2)) / (rate * (1 - rate))
    room = total - float(np.sum(m**2)) / total - (len(m) - 1)
    # The correlation of two deals of one group: 0 where groups differ by chance alone, 1 / (m + 1) beyond that.
    alike = (spread - (len(m) - 1)) / room if room > 0 else 0.0
    return float("inf") if alike <= 0 else max(1 / alike - 1, 0.0)


def grouped_median(codes: Codes, values: Floats, size: int) -> Floats:
    """Give the median of each group; NaN for groups without a value."""
    result = np.full(size, np.nan)
    if not len(values):
        return result
    order = np.lexsort((values, codes))
    ordered = values[order]
    counts = np.bincount(codes, minlength=size)
    starts = np.cumsum(counts) - counts
    some = counts > 0
    low, high = starts[some] + (counts[some] - 1) // 2, starts[some] + counts[some] // 2
    result[some] = (ordered[low] + ordered[high]) / 2
    return result


def closed_in(deals: Deals, window_days: int | None, period: tuple[int, int] | None) -> Flags:
    """Tell which won and lost deals closed in the window: the last days up to as_of, or a span of days.

    A deal whose close date lies after as_of is not closed yet: it is in none.
    """
    closed: Flags = ((deals.status == WON) | (deals.status == LOST)) & (deals.close_day <= deals.context.today)
    if period is not None:
        closed &= (deals.close_day >= period[0]) & (deals.close_day <= period[1])
    elif window_days is not None:
        closed &= deals.close_day > deals.context.today - window_days
    return closed


@figure(heading="Key figures", definitions=DEFINITIONS | _QUOTA_DEFINITIONS)
def kpis(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    quota: Quota | None = None,
    period: object = None,
    window_days: int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Give the key figures: pipeline, win rate, deal size, cycle, velocity, and how far the quota is.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or ``stage_name``.
    context : FigureContext
        Stages, moment, time zone, names.
    by : str or sequence of str, optional
        Columns to group by; without it there is one row.
    quota : number, mapping or DataFrame, optional
        As in `forecast`, for the one period that `period` names.
    period : object, optional
        The period that quota, attainment, gap and coverage speak of (``"2026Q4"``,
        a Period, a day in it). The one that holds as_of if left out.
    window_days : int, optional
        Win rate, deal size and cycle from deals closed in so many days up to
        as_of [days]; all closed deals if left out.
    level : float, default 0.95
        Confidence of the interval around the win rate.

    Returns
    -------
    DataFrame
        One row, indexed 0; with `by` one row for each group that has a deal, or
        that `quota` names.
        ``open_count, overdue_count, won_count, lost_count,
        missing_amount_count`` [deals], ``open_amount, weighted_amount,
        overdue_amount, won_amount, average_won_amount, median_won_amount``
        [currency], ``win_rate, win_rate_low, win_rate_high, win_rate_value``
        [share], ``median_cycle_days`` [days], ``velocity_per_day`` [currency a
        day]; with a quota ``quota, period_won_amount, period_open_amount, gap,
        pipeline_needed`` [currency] and ``attainment, coverage`` [ratio].
        NaN where there is nothing to divide by.

    Raises
    ------
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    ConfigurationError
        If an argument cannot be used, or a quota fits no group.
    """
    deals = Deals(frame, context)
    if window_days is not None and window_days < 1:
        raise ConfigurationError(f"window_days must be 1 or more, not {window_days!r}")
    periods = context.periods.cut
    groups = read_groups(deals, by)
    cells, size = combine(groups, len(deals))
    closed = closed_in(deals, window_days, None)
    columns, n_negative = _columns(deals, cells, size, closed, level)
    facts: dict[str, Any] = {}
    if quota is not None:
        ordinal = int(periods.ordinals(np.array([context.today]))[0]) if period is None else periods.parse(period)
        columns |= _quota_figures(deals, cells, size, quota, periods, ordinal, groups, columns["win_rate"])
        facts["period"] = str(periods.labels(np.array([ordinal]))[0])
    elif period is not None:
        raise ConfigurationError("period= chooses the period of a quota: give quota= as well, or leave it out")
    named_in_quota = isinstance(quota, Mapping | pd.DataFrame)
    kept = _groups_with_rows(columns, size, quota=named_in_quota) if groups else np.arange(1)
    table = pd.DataFrame({name: values[kept] for name, values in columns.items()})
    if groups:
        table.index = index_of(kept, groups)
    money = money_facts(deals)
    notes = money_notes(money, deals)
    window = "all closed deals"
    if window_days is not None:
        start = to_date(context.today - window_days + 1)
        window = f"deals closed from {start:%Y-%m-%d} to {context.as_of_date:%Y-%m-%d}"
    notes.append(f"win rate, deal size and cycle stand on {window}; open deals are in none of them")
    later, words = closed_later(deals)
    notes += words
    if not deals.has("created_at") and not deals.has("external_created_at"):
        notes.append("the frame has no created_at or external_created_at: no cycle and no velocity")
    if n_negative:
        notes.append(f"{counted(n_negative, 'won deal')} closed before creation: inside the median as they are")
    arguments = {
        "by": by,
        "window_days": window_days,
        "level": level,
    }
    basis = build_basis(
        "kpis",
        deals,
        dated=True,
        **money,
        **later,
        **facts,
        window=window,
        n_negative_cycles=n_negative,
        arguments=arguments,
        definitions=DEFINITIONS | (_QUOTA_DEFINITIONS if quota is not None else {}),
        notes=notes,
    )
    return attach_basis(table, basis)


def scopes_of(deals: Deals, closed: Flags) -> tuple[Flags, Flags, Flags, Flags, Flags]:
    """Tell which deals are open, open and summed, overdue, won in the window and lost in the window."""
    is_open = deals.status == OPEN
    summed = is_open if deals.omitted is None else is_open & ~deals.omitted
    overdue = is_open & (deals.close_day != NO_DAY) & (deals.close_day < deals.context.today)
    return is_open, summed, overdue, closed & (deals.status == WON), closed & (deals.status == LOST)


class _Scope:
    """The deals of one kind, taken out once: their rows, groups and amounts."""

    def __init__(self, deals: Deals, cells: Codes, size: int, chosen: Flags) -> None:
        self.deals = deals
        self.rows = np.flatnonzero(chosen)
        self.size = size
        self.cells = cells[self.rows]
        self.amount = deals.amount[self.rows]
        self.known = ~np.isnan(self.amount)

    @cached_property
    def count(self) -> Integers:
        return np.bincount(self.cells, minlength=self.size).astype(np.int64)

    @cached_property
    def n_known(self) -> Integers:
        return np.bincount(self.cells, self.known, minlength=self.size).astype(np.int64)

    def _sum(self, values: Floats) -> Floats:
        return np.bincount(self.cells, np.nan_to_num(values), minlength=self.size).astype(np.float64)

    @cached_property
    def total(self) -> Floats | Integers:
        return sum_amounts(self.deals, self.cells, self.size, self.rows)

    def total_without(self, left_out: Flags | None) -> Floats | Integers:
        if left_out is None:
            return self.total
        kept = ~left_out[self.rows]
        return sum_amounts(self.deals, self.cells[kept], self.size, self.rows[kept])

    def weighted(self, percent: Floats) -> Floats:
        return self._sum(self.amount * percent[self.rows]) / 100.0


def _columns(
    deals: Deals, cells: Codes, size: int, closed: Flags, level: float
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    is_open, summed, overdue, won, lost = (_Scope(deals, cells, size, rows) for rows in scopes_of(deals, closed))
    low, high = wilson(won.count, won.count + lost.count, level)
    rate, average = divide(won.count, won.count + lost.count), divide(won.total, won.n_known)
    close, created = deals.close_day[won.rows], deals.created_day[won.rows]
    cycled = (close != NO_DAY) & (created != NO_DAY)
    cycle_days = (close[cycled] - created[cycled]).astype(np.float64)
    cycle = grouped_median(won.cells[cycled], cycle_days, size)
    n_open = is_open.count
    columns = {
        "open_count": n_open,
        "open_amount": summed.total,
        "weighted_amount": summed.weighted(deals.percent),
        "overdue_count": overdue.count,
        "overdue_amount": overdue.total_without(deals.omitted),
        "won_count": won.count,
        "lost_count": lost.count,
        "won_amount": won.total,
        "win_rate": rate,
        "win_rate_low": low,
        "win_rate_high": high,
        "win_rate_value": divide(won.total, won.total + lost.total),
        "average_won_amount": average,
        "median_won_amount": grouped_median(won.cells[won.known], won.amount[won.known], size),
        "median_cycle_days": cycle,
        "velocity_per_day": velocity(n_open, rate, average, cycle),
        "missing_amount_count": sum(
            (scope.count - scope.n_known for scope in (is_open, won, lost)), np.zeros(size, dtype=np.int64)
        ),
    }
    return columns, int((cycle_days < 0).sum())


@figure()
def win_rates(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    window_days: int | None = None,
    shrink_by: float | Literal["fit"] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare win rates of groups, with intervals, and rank them as far as their differences are certain.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or ``stage_name``.
    context : FigureContext
        Stages, moment, time zone, names.
    by : str or sequence of str, optional
        Columns to group by; without it there is one row.
    window_days : int, optional
        Deals closed in so many days up to as_of; all closed deals if left out [days].
    shrink_by : float or "fit", optional
        Add ``shrunk_rate``: the rate pulled towards that of all, which is worth
        so many deals (20 is usual) [deals]; "fit": as many as the groups
        themselves tell, see `fit_strength`.
    level : float, default 0.95
        Confidence of the Wilson interval.

    Returns
    -------
    DataFrame
        ``won_count, lost_count, overdue_count`` [deals], ``win_rate,
        win_rate_low, win_rate_high`` (count), ``win_rate_value`` (amounts),
        ``win_rate_with_overdue`` (overdue open deals count as not won) [share],
        and ``rank_low, rank_high``: the group's place lies between them (1 is
        best), see `rank_intervals`; ``rank`` where both agree, else missing. A
        group without losses has a rate of 1, one without closed deals a
        missing rate and no rank. Deals that close after as_of are left out.
    """
    deals = Deals(frame, context)
    groups = read_groups(deals, by)
    cells, size = combine(groups, len(deals))
    _, _, overdue, won, lost = scopes_of(deals, closed_in(deals, window_days, None))

    def count(rows: Flags) -> Integers:
        return np.bincount(cells[rows], minlength=size).astype(np.int64)

    def total(rows: Flags) -> Floats:
        rows = rows & ~np.isnan(deals.amount)
        return np.bincount(cells[rows], deals.amount[rows], minlength=size).astype(np.float64)

    n_won, n_lost, n_overdue = count(won), count(lost), count(overdue)
    low, high = wilson(n_won, n_won + n_lost, level)
    columns: dict[str, Any] = {
        "won_count": n_won,
        "lost_count": n_lost,
        "overdue_count": n_overdue,
        "win_rate": divide(n_won, n_won + n_lost),
        "win_rate_low": low,
        "win_rate_high": high,
        "win_rate_value": divide(total(won), total(won) + total(lost)),
        "win_rate_with_overdue": divide(n_won, n_won + n_lost + n_overdue),
    }
    overall = float(divide(n_won.sum(), (n_won + n_lost).sum()))
    facts: dict[str, Any] = {}
    if shrink_by is not None:
        strength = fit_strength(n_won, n_won + n_lost) if shrink_by == "fit" else shrink_by
        if isinstance(strength, str | bool) or (shrink_by != "fit" and strength <= 0):
            raise ConfigurationError(f"shrink_by must be a number above 0, or 'fit', not {shrink_by!r}")
        columns["shrunk_rate"] = shrink(n_won, n_won + n_lost, overall, strength)
        facts["shrunk_by"] = strength
    kept = np.flatnonzero(n_won + n_lost + n_overdue > 0) if groups else np.arange(1)
    best, worst = rank_intervals(n_won[kept], (n_won + n_lost)[kept], level)
    table = pd.DataFrame({name: values[kept] for name, values in columns.items()})
    table = table.assign(rank_low=best, rank_high=worst, rank=best.mask(best != worst))
    later, words = closed_later(deals)
    if groups:
        table.index = index_of(kept, groups)
    definitions = {
        "won_count": DEFINITIONS["won_count"],
        "lost_count": DEFINITIONS["lost_count"],
        "overdue_count": DEFINITIONS["overdue_count"],
        "win_rate": "won / (won + lost), by count",
        "win_rate_value": "won / (won + lost), by amount",
        "win_rate_with_overdue": "won / (won + lost + overdue open)",
        "win_rate_low": "lower end of the Wilson interval",
        "win_rate_high": "upper end of the Wilson interval",
        "rank_low": "1 + groups that are better for certain: the interval of the difference lies above 0",
        "rank_high": "number of groups - those that are worse for certain",
        "rank": "rank_low where it is rank_high, too",
        "shrunk_rate": "(won + m x rate of all) / (won + lost + m)",
    }
    basis = build_basis(
        "win_rates",
        deals,
        dated=True,
        overall=overall,
        **later,
        **facts,
        arguments={"by": by, "window_days": window_days, "shrink_by": shrink_by, "level": level},
        definitions={name: words for name, words in definitions.items() if name in table.columns},
        notes=["deals that nobody closes are in no win rate: where losers stay open, it is too high", *words],
    )
    return attach_basis(table, basis)


def rank_intervals(won: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[pd.Series, pd.Series]:
    """Find between which places the true win rate of each group stands.

    One group is better than another for certain where Newcombe's interval of the
    difference [1]_ lies above 0. Each group is compared with all others, so each
    comparison takes its part of what may go wrong (Bonferroni): the two places hold
    a group's true place with the stated confidence [2]_.

    Parameters
    ----------
    won, n : array-like
        Wins and closed deals of each group.
    level : float, default 0.95
        Confidence for each group.

    Returns
    -------
    low, high : Series of Int64
        The best and the worst place that a group may have; missing where it has
        no closed deals, or no other group has any.

    References
    ----------
    .. [1] Newcombe, Interval estimation for the difference between independent
       proportions, Statistics in Medicine 17 (1998), method 10.
    .. [2] Mogstad, Romano, Shaikh and Wilhelm, Inference for ranks, Review of
       Economic Studies 91 (2024).

    Examples
    --------
    >>> low, high = rank_intervals([90, 50, 45, 5], [100, 100, 100, 100])
    >>> low.tolist(), high.tolist()
    ([1, 2, 2, 4], [1, 3, 3, 4])
    """
    # Groups with the same counts have the same places: thousands of small ones are a few distinct pairs.
    pairs = np.stack([np.asarray(won, dtype=np.float64), np.asarray(n, dtype=np.float64)])
    (k, m), inverse, times = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    known = m > 0
    n_known = int(times[known].sum())
    n_better, n_worse = np.zeros(len(k), dtype=np.int64), np.zeros(len(k), dtype=np.int64)
    rate = divide(k, m)
    low, high = wilson(k, m, 1 - (1 - level) / max(n_known - 1, 1))
    for place in np.flatnonzero(known).tolist():
        difference = rate - rate[place]
        above = difference - np.hypot(rate - low, high[place] - rate[place]) > 0
        below = difference + np.hypot(high - rate, rate[place] - low[place]) < 0
        n_better[place], n_worse[place] = times[above].sum(), times[below].sum()
    ranked = (known if n_known > 1 else np.zeros_like(known))[inverse.ravel()]

    def places(found: Integers) -> pd.Series:
        return pd.Series(found[inverse.ravel()], dtype="Int64").where(ranked)

    return places(1 + n_better), places(n_known - n_worse)


def velocity(n: npt.ArrayLike, win_rate: npt.ArrayLike, average: npt.ArrayLike, cycle: npt.ArrayLike) -> Floats:
    """Give what a pipeline earns a day: deals x win rate x average won amount / cycle.

    Parameters
    ----------
    n, win_rate, average, cycle : array-like
        Open deals [deals], [share], [currency], [days], all of one scope.

    Returns
    -------
    ndarray
        Currency a day; NaN without a cycle longer than 0 days.

    Examples
    --------
    >>> float(velocity(40, 0.25, 30_000, 60))
    5000.0
    """
    days = np.asarray(cycle, dtype=np.float64)
    return divide(np.asarray(n) * np.asarray(win_rate) * np.asarray(average), np.where(days > 0, days, np.nan))


def _quota_figures(
    deals: Deals,
    cells: Codes,
    size: int,
    quota: Quota,
    periods: Periods,
    ordinal: int,
    groups: list[Any],
    win_rate: Floats,
) -> dict[str, Floats]:
    from opp_pandas.figures.forecasts import OPEN_CURRENT, OVERDUE, WON_BY_NOW, kinds_of

    first, last = (int(days[0]) for days in (periods.starts(np.array([ordinal])), periods.ends(np.array([ordinal]))))
    inside = (deals.close_day >= first) & (deals.close_day <= last) & ~np.isnan(deals.amount)
    kind = kinds_of(deals)

    def total(*kinds: int) -> Floats:
        rows = inside & np.isin(kind, kinds)
        return np.bincount(cells[rows], deals.amount[rows], minlength=size).astype(np.float64)

    settled = read_quota(quota, periods, groups)
    values = np.full(size, np.nan)
    if settled.everywhere is not None:
        values[:] = settled.everywhere
    else:
        here = np.ones(len(settled.values), bool) if settled.ordinals is None else settled.ordinals == ordinal
        values[settled.groups[here]] = settled.values[here]
    won, still_open = total(WON_BY_NOW), total(OPEN_CURRENT, OVERDUE)
    found = quota_columns(values, still_open, won, won)
    return {
        "quota": found["quota"],
        "period_won_amount": won,
        "period_open_amount": still_open,
        "attainment": found["attainment"],
        "gap": found["gap"],
        "coverage": found["coverage"],
        "pipeline_needed": np.where(found["gap"] == 0, 0.0, divide(found["gap"], win_rate)),
    }


def _groups_with_rows(columns: Mapping[str, npt.NDArray[Any]], size: int, *, quota: bool) -> Codes:
    """Find the groups that have a deal, or a `quota` of their own; one number for everybody names no group."""
    some = np.zeros(size, dtype=bool)
    for name in ("open_count", "won_count", "lost_count", *(("quota",) if quota else ())):
        some |= columns[name] > 0
    return np.flatnonzero(some)


_FROM_KEY_FIGURES = {
    "velocity_per_day": ("open_count", "win_rate", "average_won_amount", "median_cycle_days"),
    "quota": (),
    "attainment": ("period_won_amount",),
    "gap": ("period_won_amount",),
    "coverage": ("period_open_amount", "period_won_amount"),
    "pipeline_needed": ("period_won_amount", "win_rate"),
}


@kpis.rows
def rows_of_kpis(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    if ask.column in _FROM_KEY_FIGURES:
        return together(ask, rows_of_kpis, _FROM_KEY_FIGURES[ask.column])
    deals = ask.deals
    groups = read_groups(deals, ask.arguments["by"])
    here = in_groups(groups, deals, ask.parts if groups else ())
    amount = deals.amount
    known, ones = ~np.isnan(amount), np.ones(len(deals))
    if ask.column in ("period_won_amount", "period_open_amount"):
        kinds = (WON_BY_NOW,) if ask.column == "period_won_amount" else (OPEN_CURRENT, OVERDUE)
        return here & known & ask.within(ask.basis["period"]) & np.isin(kinds_of(deals), kinds), amount
    is_open, summed, overdue, won, lost = scopes_of(deals, closed_in(deals, ask.arguments["window_days"], None))
    product = amount * deals.percent / 100.0
    cycled = won & (deals.close_day != NO_DAY) & (deals.created_day != NO_DAY)
    cycle = deals.close_day.astype(np.float64) - deals.created_day
    both = won | lost
    scopes: dict[str, Trace] = {
        "open_count": (is_open, ones),
        "open_amount": (summed & known, amount),
        "weighted_amount": (summed & ~np.isnan(product), product),
        "overdue_count": (overdue, ones),
        "overdue_amount": (overdue & summed & known, amount),
        "won_count": (won, ones),
        "lost_count": (lost, ones),
        "won_amount": (won & known, amount),
        "win_rate": (both, won.astype(np.float64)),
        "win_rate_low": (both, None),
        "win_rate_high": (both, None),
        "win_rate_value": (both & known, None),
        "average_won_amount": (won & known, amount),
        "median_won_amount": (won & known, amount),
        "median_cycle_days": (cycled, cycle),
        "missing_amount_count": ((is_open | both) & ~known, ones),
    }
    rows, contribution = scopes[ask.column]
    return rows & here, contribution


@win_rates.rows
def rows_of_win_rates(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    deals = ask.deals
    if ask.column in ("rank", "rank_low", "rank_high"):
        # A rank stands on the intervals of all groups.
        _, _, _, won, lost = scopes_of(deals, closed_in(deals, ask.arguments["window_days"], None))
        return won | lost, None
    if ask.column == "shrunk_rate":
        return rows_of_kpis(ask.with_column("win_rate"))[0], None
    if ask.column == "win_rate_with_overdue":
        chosen, _ = together(ask, rows_of_kpis, ("win_rate", "overdue_count"))
        return chosen, (deals.status == WON).astype(np.float64)
    return rows_of_kpis(ask)
