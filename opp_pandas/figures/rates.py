"""Rates and speeds: win rate, deal size, cycle, velocity, and the table of key figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import Facts, tell
from opp_pandas.figures.core.days import NO_DAY, to_date
from opp_pandas.figures.core.deals import LEFT_OUT, LOST, OPEN, STANDINGS, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import index_of, read_axes
from opp_pandas.figures.core.lineage import Question, Trace, together
from opp_pandas.figures.core.totals import MOST_VALUES, Histogram, Term, Totals, tally
from opp_pandas.figures.proportions import divide, fit_strength, rank_intervals, shrink, wilson
from opp_pandas.figures.quotas import Quota, quota_columns, read_quota

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Floats
    from opp_pandas.figures.core.totals import Part

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


OPEN_AHEAD, OPEN_LATE, OMITTED_AHEAD, OMITTED_LATE, WON_INSIDE, LOST_INSIDE, WON_BEFORE = range(7)
"""Open and not overdue, overdue, the same but omitted; won and lost in the window, won before it."""
_ANY_OPEN = (OPEN_AHEAD, OPEN_LATE, OMITTED_AHEAD, OMITTED_LATE)
COLUMNS: dict[str, Term] = {
    "open_count": Term("count", _ANY_OPEN),
    "open_amount": Term("amount", (OPEN_AHEAD, OPEN_LATE)),
    "weighted_amount": Term("weighted", (OPEN_AHEAD, OPEN_LATE)),
    "overdue_count": Term("count", (OPEN_LATE, OMITTED_LATE)),
    "overdue_amount": Term("amount", (OPEN_LATE,)),
    "won_count": Term("count", (WON_INSIDE,)),
    "lost_count": Term("count", (LOST_INSIDE,)),
    "won_amount": Term("amount", (WON_INSIDE,)),
    "missing_amount_count": Term("missing_amount", (*_ANY_OPEN, WON_INSIDE, LOST_INSIDE)),
}
PERIOD_WON, PERIOD_OPEN = Term("amount", (WON_INSIDE, WON_BEFORE)), Term("amount", (OPEN_AHEAD, OPEN_LATE))
_CLOSED = Term("count", (WON_INSIDE, LOST_INSIDE))


def kinds_by_standing(deals: Deals, window_days: int | None) -> npt.NDArray[np.int8]:
    """Return the kind by standing and slot of time, shape (STANDINGS, s); -1 for deals that are in none.

    The window is the last days up to as_of. A deal whose close date lies after
    as_of is not closed yet: it is of no kind.
    """
    if window_days is not None and window_days < 1:
        raise ConfigurationError(f"window_days must be 1 or more, not {window_days!r}")
    days, today = deals.close.days, deals.context.today
    late, closed = (days < today) & (days != NO_DAY), days <= today
    inside = closed if window_days is None else closed & (days > today - window_days)
    kinds = np.full((STANDINGS, len(days)), -1, dtype=np.int8)
    kinds[OPEN] = np.where(late, OPEN_LATE, OPEN_AHEAD)
    kinds[LEFT_OUT] = np.where(late, OMITTED_LATE, OMITTED_AHEAD)
    kinds[WON] = np.where(inside, WON_INSIDE, np.where(closed, WON_BEFORE, -1))
    kinds[LOST] = np.where(inside, LOST_INSIDE, -1)
    return kinds


def kinds_of(deals: Deals, window_days: int | None) -> npt.NDArray[np.int8]:
    """Return the kind of every deal."""
    return np.asarray(kinds_by_standing(deals, window_days)[deals.standing, deals.close.places])


def _gather_kpis(
    deals: Deals,
    by: str | Sequence[str] | None = None,
    quota: Quota | None = None,
    period: object = None,
    window_days: int | None = None,
) -> Part:
    kinds = kinds_by_standing(deals, window_days).astype(np.intp)
    if quota is not None:
        first, last = deals.context.periods.span(deals.context.period_number(period))
        # What is in the period of the quota is in the second half of the layers.
        inside = (deals.close.days >= first) & (deals.close.days <= last)
        kinds = np.where(inside & (kinds >= 0), kinds + len(_LAYERS), kinds)
    groupings = read_axes(deals, by)
    won = np.flatnonzero((deals.standing == WON) & (deals.close_day <= deals.context.today))
    if window_days is not None:
        won = won[deals.close_day[won] > deals.context.today - window_days]
    days = deals.close_day[won].astype(np.float64) - deals.created_day[won]
    cycled = (deals.close_day[won] != NO_DAY) & (deals.created_day[won] != NO_DAY)
    amount = deals.amount[won]
    known = ~np.isnan(amount)
    dated = deals.has("created_at") or deals.has("external_created_at")
    negative = int((days[cycled] < 0).sum())
    more = {"negative_cycles": negative, "creation_known": int(dated)}
    return {
        "facts": Facts.of(deals, money=True, later=True, more=more),
        "cells": tally(deals, groupings, [(kind, inside) for inside in (False, True) for kind in _LAYERS], kinds),
        "cycles": Histogram.counted(groupings, won[cycled], days[cycled]),
        "amounts": Histogram.counted(groupings, won[known], amount[known]),
    }


_LAYERS = range(WON_BEFORE + 1)


@figure(heading="Key figures", definitions=DEFINITIONS | _QUOTA_DEFINITIONS, gather=_gather_kpis)
def kpis(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    quota: Quota | None = None,
    period: object = None,
    window_days: int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compute the key figures: pipeline, win rate, deal size, cycle, velocity, and how far the quota is.

    Parameters
    ----------
    quota : number, mapping or DataFrame, optional
        A number for every group, group -> number, or a frame with ``period``, the
        group and ``quota``, for the one period that `period` names [currency].
    period : object, optional
        The period that quota, attainment, gap and coverage speak of (``"2026Q4"``,
        a Period, a day in it). The one that holds as_of if left out.
    window_days : int, optional
        Win rate, deal size and cycle from deals closed in so many days up to
        as_of [days]; all closed deals if left out.

    Returns
    -------
    DataFrame
        One row, indexed 0; with `by` one row for each group that has a deal, or
        that `quota` names. NaN where there is nothing to divide by; from
        ``quota`` on with a quota only.

    Examples
    --------
    >>> df.opp.kpis()[["open_amount", "win_rate", "average_won_amount", "median_cycle_days"]].round(2)
       open_amount  win_rate  average_won_amount  median_cycle_days
    0   1205299.21      0.36            20762.88              117.0
    """
    cells, facts = part["cells"], part["facts"]
    groups, row, size = cells.rows(context)
    totals = Totals(cells, [kind for kind, _ in cells.layers], row, size)
    columns = _columns(totals, level)
    columns["average_won_amount"] = divide(
        columns["won_amount"], columns["won_count"] - totals.of("missing_amount", WON_INSIDE)
    )
    columns["median_won_amount"] = part["amounts"].medians(context)
    columns["median_cycle_days"] = part["cycles"].medians(context)
    columns["velocity_per_day"] = velocity(
        columns["open_count"], columns["win_rate"], columns["average_won_amount"], columns["median_cycle_days"]
    )
    more: dict[str, Any] = {}
    if quota is not None:
        ordinal, quotas = context.period_number(period), read_quota(quota, context.periods, groups)
        more["period"] = str(context.periods.label(ordinal))
        inside = Totals(cells, [kind if here else -1 for kind, here in cells.layers], row, size)
        won, still_open = inside.column([PERIOD_WON]), inside.column([PERIOD_OPEN])
        values = np.full(size, np.nan if quotas.everywhere is None else quotas.everywhere)
        here = np.ones(len(quotas.values), bool) if quotas.ordinals is None else quotas.ordinals == ordinal
        values[quotas.groups[here]] = quotas.values[here]
        columns |= {"period_won_amount": won, "period_open_amount": still_open}
        columns |= quota_columns(values, still_open, won, won)
        needed = divide(columns["gap"], columns["win_rate"])
        columns["pipeline_needed"] = np.where(columns["gap"] == 0, 0.0, needed)
    elif period is not None:
        raise ConfigurationError("period= chooses the period of a quota: give quota= as well, or leave it out")
    # Groups that have a deal, or a quota of their own; one number for everybody names no group.
    having = ["open_count", "won_count", "lost_count"]
    having += ["quota"] if isinstance(quota, Mapping | pd.DataFrame) else []
    kept = np.flatnonzero(np.any([columns[name] > 0 for name in having], axis=0)) if groups else np.arange(1)
    order = [name for name in DEFINITIONS | _QUOTA_DEFINITIONS if name in columns]
    table = pd.DataFrame({name: columns[name][kept] for name in order})
    if groups:
        table.index = index_of(kept, groups)
    window = "all closed deals"
    if window_days is not None:
        start = to_date(context.today - window_days + 1)
        window = f"deals closed from {start:%Y-%m-%d} to {context.as_of_date:%Y-%m-%d}"
    notes = [f"win rate, deal size and cycle stand on {window}; open deals are in none of them"]
    n_negative = facts.counts["negative_cycles"]
    if not facts.counts["creation_known"]:
        notes.append("the frame has no created_at or external_created_at: no cycle and no velocity")
    notes += tell((n_negative, "won deal", "closed before creation: inside the median as they are"))
    if not part["amounts"].exact:
        notes.append(f"median_won_amount within 1 part in 4,096: more than {MOST_VALUES:,} different amounts")
    notes += _value_notes(columns)
    return kpis.result(
        table,
        context,
        facts,
        later=True,
        **more,
        window=window,
        n_negative_cycles=n_negative,
        arguments={"by": by, "window_days": window_days, "level": level},
        notes=notes,
    )


def _columns(totals: Totals, level: float) -> dict[str, npt.NDArray[Any]]:
    """Return the sums, and the win rates with their intervals."""
    columns = {name: totals.column([term]) for name, term in COLUMNS.items()}
    won, closed = columns["won_count"], totals.column([_CLOSED])
    columns["win_rate"] = divide(won, closed)
    columns["win_rate_low"], columns["win_rate_high"] = wilson(won, closed, level)
    columns["win_rate_value"] = divide(columns["won_amount"], totals.of("amount", WON_INSIDE, LOST_INSIDE))
    return columns


def _value_notes(columns: dict[str, npt.NDArray[Any]]) -> list[str]:
    """Say where the rate by value is 1 because lost deals keep no amounts."""
    rates = columns["win_rate_value"][columns["lost_count"] > 0]
    if not (rates == 1).any() or (rates < 1).any():
        return []
    return ["no lost deal has an amount other than 0: win_rate_value is 1 wherever anything was won, and says nothing"]


def _gather_win_rates(deals: Deals, by: str | Sequence[str] | None = None, window_days: int | None = None) -> Part:
    kinds = kinds_by_standing(deals, window_days)
    return {"facts": Facts.of(deals, later=True), "cells": tally(deals, read_axes(deals, by), _LAYERS, kinds)}


_WIN_RATES = {
    **{name: DEFINITIONS[name] for name in ("won_count", "lost_count", "overdue_count")},
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


@figure(definitions=_WIN_RATES, gather=_gather_win_rates)
def win_rates(
    part: Part,
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
    shrink_by : float or "fit", optional
        Add ``shrunk_rate``: the rate pulled towards that of all, which is worth
        so many deals (20 is usual) [deals]; "fit": as many as the groups
        themselves tell, see `fit_strength`.

    Returns
    -------
    DataFrame
        A group's place lies between ``rank_low`` and ``rank_high`` (1 is best),
        see `rank_intervals`. A group without losses has a rate of 1, one
        without closed deals a missing rate and no rank. Deals that close after
        as_of are left out.

    Examples
    --------
    >>> df.opp.win_rates(by="owner_name").iloc[:3, :4].round(3)
                 won_count  lost_count  overdue_count  win_rate
    owner_name
    Dmitri Lee          15          14              1     0.517
    Ivan García         13          20              0     0.394
    Jürgen Lee          10          22              0     0.312
    """
    cells = part["cells"]
    groups, row, size = cells.rows(context)
    found = _columns(Totals(cells, cells.layers, row, size), level)
    n_won, n_closed = found["won_count"], found["won_count"] + found["lost_count"]
    n_all = n_closed + found["overdue_count"]
    shown = ("won_count", "lost_count", "overdue_count", "win_rate", "win_rate_low", "win_rate_high", "win_rate_value")
    columns: dict[str, Any] = {name: found[name] for name in shown}
    columns["win_rate_with_overdue"] = divide(n_won, n_all)
    overall = float(divide(n_won.sum(), n_closed.sum()))
    facts: dict[str, Any] = {}
    if shrink_by is not None:
        strength = fit_strength(n_won, n_closed) if shrink_by == "fit" else shrink_by
        if isinstance(strength, str | bool) or (shrink_by != "fit" and strength <= 0):
            raise ConfigurationError(f"shrink_by must be a number above 0, or 'fit', not {shrink_by!r}")
        columns["shrunk_rate"] = shrink(n_won, n_closed, overall, strength)
        facts["shrunk_by"] = strength
    kept = np.flatnonzero(n_all > 0) if groups else np.arange(1)
    best, worst = rank_intervals(n_won[kept], n_closed[kept], level)
    table = pd.DataFrame({name: values[kept] for name, values in columns.items()})
    table = table.assign(rank_low=best, rank_high=worst, rank=best.mask(best != worst))
    if groups:
        table.index = index_of(kept, groups)
    return win_rates.result(
        table,
        context,
        part["facts"],
        later=True,
        overall=overall,
        **facts,
        arguments={"by": by, "window_days": window_days, "shrink_by": shrink_by, "level": level},
        notes=[
            "deals that nobody closes are in no win rate: where losers stay open, it is too high",
            *_value_notes(found),
        ],
    )


def velocity(n: npt.ArrayLike, win_rate: npt.ArrayLike, average: npt.ArrayLike, cycle: npt.ArrayLike) -> Floats:
    """Return what a pipeline earns a day: deals x win rate x average won amount / cycle.

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


_FROM_KEY_FIGURES = {
    "velocity_per_day": ("open_count", "win_rate", "average_won_amount", "median_cycle_days"),
    "quota": (),
    "attainment": ("period_won_amount",),
    "gap": ("period_won_amount",),
    "coverage": ("period_open_amount", "period_won_amount"),
    "pipeline_needed": ("period_won_amount", "win_rate"),
}


@kpis.rows
def _rows_of_kpis(ask: Question) -> Trace:
    if ask.column in _FROM_KEY_FIGURES:
        return together(ask, _rows_of_kpis, _FROM_KEY_FIGURES[ask.column])
    deals = ask.deals
    here = ask.in_groups(ask.parts if ask.arguments["by"] else ())
    kind = kinds_of(deals, ask.arguments["window_days"])
    if ask.column in ("period_won_amount", "period_open_amount"):
        term = PERIOD_WON if ask.column == "period_won_amount" else PERIOD_OPEN
        rows, values = term.rows(deals, kind)
        return rows & here & ask.within(ask.basis["period"]), values
    term = COLUMNS.get(ask.column) or _BEHIND.get(ask.column, _CLOSED)
    rows, values = term.rows(deals, kind)
    if ask.column == "median_cycle_days":
        rows &= (deals.close_day != NO_DAY) & (deals.created_day != NO_DAY)
        values = deals.close_day.astype(np.float64) - deals.created_day
    if ask.column == "win_rate":
        values = (kind == WON_INSIDE).astype(np.float64)
    return rows & here, None if ask.column in ("win_rate_low", "win_rate_high", "win_rate_value") else values


_BEHIND = {
    "win_rate_value": Term("amount", (WON_INSIDE, LOST_INSIDE)),
    "average_won_amount": COLUMNS["won_amount"],
    "median_won_amount": COLUMNS["won_amount"],
    "median_cycle_days": COLUMNS["won_count"],
}
"""What ratios and medians stand on, where that is not all closed deals."""


@win_rates.rows
def _rows_of_win_rates(ask: Question) -> Trace:
    deals = ask.deals
    if ask.column in ("rank", "rank_low", "rank_high"):
        # A rank stands on the intervals of all groups.
        return _CLOSED.rows(deals, kinds_of(deals, ask.arguments["window_days"]))[0], None
    if ask.column == "shrunk_rate":
        return _rows_of_kpis(ask.with_column("win_rate"))[0], None
    if ask.column == "win_rate_with_overdue":
        chosen, _ = together(ask, _rows_of_kpis, ("win_rate", "overdue_count"))
        return chosen, (deals.status == WON).astype(np.float64)
    return _rows_of_kpis(ask)
