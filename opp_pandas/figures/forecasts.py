"""The forecast: open, weighted and won amounts by period and group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.figures.core.basis import Facts, tell
from opp_pandas.figures.core.blocks import number_codes, take_apart
from opp_pandas.figures.core.days import NO_DAY, to_dates
from opp_pandas.figures.core.deals import LEFT_OUT, OPEN, STANDINGS, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import index_from, read_axes
from opp_pandas.figures.core.lineage import Question, Trace, together
from opp_pandas.figures.core.totals import Tally, Term, Totals, tally
from opp_pandas.figures.quotas import DEFINITIONS as QUOTA_DEFINITIONS
from opp_pandas.figures.quotas import Quota, QuotaTable, quota_columns, read_quota

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Flags, Floats, Integers
    from opp_pandas.figures.core.groups import Group, Grouping
    from opp_pandas.figures.core.periods import Periods
    from opp_pandas.figures.core.totals import Part

OPEN_CURRENT, OVERDUE, OMITTED, WON_BY_NOW, WON_LATER, IGNORED = range(6)
KINDS = 6
"""Open and not overdue, open and overdue, omitted, won by as_of, won with a later date, in no figure."""


_ANY_OPEN = (OPEN_CURRENT, OVERDUE, OMITTED)
_SUMMED = (OPEN_CURRENT, OVERDUE)
_ANY_WON = (WON_BY_NOW, WON_LATER)
COLUMNS: dict[str, tuple[Term, ...]] = {
    "open_count": (Term("count", _ANY_OPEN),),
    "open_amount": (Term("amount", _SUMMED),),
    "weighted_amount": (Term("weighted", _SUMMED),),
    "won_count": (Term("count", _ANY_WON),),
    "won_amount": (Term("amount", _ANY_WON),),
    "forecast_amount": (Term("amount", (WON_BY_NOW,)), Term("weighted", (OPEN_CURRENT,))),
    "overdue_amount": (Term("amount", (OVERDUE,)),),
    "missing_amount_count": (Term("missing_amount", (*_ANY_OPEN, *_ANY_WON)),),
    "missing_probability_count": (Term("missing_percent", _ANY_OPEN),),
}
DEFINITIONS = {
    "open_count": "open deals with their close date in the period, overdue and omitted ones included",
    "open_amount": "amounts of the open deals, overdue ones included, omitted ones left out",
    "weighted_amount": "the same amounts x probability",
    "won_count": "won deals with their close date in the period",
    "won_amount": "amounts of the won deals with their close date in the period",
    "forecast_amount": "won by as_of + weighted open deals that are not overdue",
    "overdue_amount": "the part of open_amount whose close date is before as_of",
    "missing_amount_count": "open or won deals without an amount: in counts, in no sum",
    "missing_probability_count": "open deals without a probability: in open_amount, in no weighted sum",
}


def kinds_by_standing(deals: Deals) -> npt.NDArray[np.int8]:
    """Return the kind by standing and slot of time, shape (STANDINGS, s)."""
    days, today = deals.close.days, deals.context.today
    kinds = np.full((STANDINGS, len(days)), IGNORED, dtype=np.int8)
    # An undated deal is neither overdue nor in the future.
    kinds[OPEN] = np.where((days < today) & (days != NO_DAY), OVERDUE, OPEN_CURRENT)
    kinds[WON] = np.where(days > today, WON_LATER, WON_BY_NOW)
    kinds[LEFT_OUT] = OMITTED
    return kinds


def kinds_of(deals: Deals) -> npt.NDArray[np.int8]:
    """Return for every deal which sums it belongs to: OPEN_CURRENT, OVERDUE, OMITTED, WON_BY_NOW and so on."""
    return np.asarray(kinds_by_standing(deals)[deals.standing, deals.close.places])


class Slice(NamedTuple):
    """What a layer of a forecast is: the number of a period, None without a close date, and the kind of its deals."""

    period: int | None
    kind: int


def tally_by_period(deals: Deals, groupings: Sequence[Grouping]) -> Tally:
    """Count and sum by period, kind and group; the layers name the first and the last period even without deals."""
    period, ordinals = deals.context.periods.cut(deals.close.days)
    kinds = kinds_by_standing(deals)
    pair = np.where(kinds == IGNORED, -1, period * KINDS + kinds)
    occurs = np.zeros((len(ordinals) + 1) * KINDS + 1, dtype=bool)
    occurs[pair] = True
    pairs = np.flatnonzero(occurs[:-1])
    number = [*ordinals.tolist(), None]
    layers = [Slice(number[code], kind) for code, kind in np.stack(np.divmod(pairs, KINDS), axis=1).tolist()]
    layer_of = np.full(len(occurs), -1, dtype=np.intp)
    layer_of[pairs] = np.arange(len(pairs))
    # Only their periods count: no deal is ever in these two.
    layers += [Slice(int(ordinals[place]), IGNORED) for place in (0, -1) if len(ordinals)]
    return tally(deals, groupings, layers, layer_of[pair])


@dataclass(frozen=True, eq=False)
class PeriodRows:
    """The periods and groups that the rows of a forecast may have.

    A row is a number: the place of its period (one past the last: no close date) x groups + group.
    """

    periods: Periods
    ordinals: Integers
    groups: list[Group]

    @classmethod
    def of(cls, cells: Tally, context: FigureContext, also: Sequence[int] = ()) -> tuple[PeriodRows, Codes]:
        """Return them and the row of every cell; `also` names periods that must be there."""
        periods, (groups, group, n_groups) = context.periods, cells.rows(context)
        known = sorted({layer.period for layer in cells.layers if layer.period is not None})
        ordinals = np.union1d(known, np.array(also, dtype=np.int64)).astype(np.int64)
        if known:
            first, last = periods.starts(np.array([known[0], known[-1]]))
            # A date of year 9999 must not bring eight thousand empty years along.
            if last - first <= _CENTURY_DAYS:
                ordinals = np.union1d(ordinals, np.arange(known[0], known[-1] + 1))
        rows = cls(periods, ordinals, groups)
        place = {int(ordinal): code for code, ordinal in enumerate(ordinals)}
        places = np.array([place.get(layer.period, len(ordinals)) for layer in cells.layers], dtype=np.intp)
        return rows, places[cells.layer] * n_groups + group

    @property
    def n_groups(self) -> int:
        """Number of possible combinations of groups."""
        return math.prod(len(group) for group in self.groups)

    def place(self, ordinal: int) -> int:
        """Return the place of a period that is there."""
        return int(np.searchsorted(self.ordinals, ordinal))

    def levels(self, ids: Codes) -> list[tuple[pd.Index, Codes]]:
        """Return the labels of the periods and of the groups, and of every row the place among them."""
        labels = self.periods.labels(self.ordinals, missing=True).rename("period")
        period, *parts = take_apart(ids, [len(group) for group in self.groups])
        named = [(group.labels, part) for group, part in zip(self.groups, parts, strict=True)]
        return [(labels, period), *named]

    def days(self, ids: Codes, first: bool) -> pd.DatetimeIndex:
        """Return the first or last day of the period of every row."""
        read = self.periods.starts if first else self.periods.ends
        found = read(self.ordinals) if len(self.ordinals) else self.ordinals
        return to_dates(np.append(found, NO_DAY)).take(ids // self.n_groups)


_CENTURY_DAYS = 40_000


def _gather(deals: Deals, by: str | Sequence[str] | None = None) -> Part:
    near = {}
    if deals.context.timezone is None:
        moved = deals.context.periods.near_an_end(deals.close.days, deals.close.hours)
        near["near_period_end"] = int(deals.slot_counts[:, moved][[OPEN, LEFT_OUT, WON]].sum())
    return {
        "facts": Facts.of(deals, money=True, dated=True, more=near),
        "cells": tally_by_period(deals, read_axes(deals, by)),
    }


@figure(heading="Forecast", definitions=DEFINITIONS | QUOTA_DEFINITIONS, gather=_gather)
def forecast(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    quota: Quota | None = None,
) -> pd.DataFrame:
    """Sum open, weighted and won amounts by the period of the close date.

    The forecast of a period is what was won in it up to now, plus the amounts
    of the open deals expected in it, each times its probability.

    Parameters
    ----------
    quota : number, mapping or DataFrame, optional
        A number for every period and group; group -> number (without `by`:
        period -> number); or a frame with ``period``, the group and ``quota``.
        A group with a quota has a row in every period, or in those that the
        mapping or the frame names, whether or not it has deals there.

    Returns
    -------
    DataFrame, shape (p, 11)
        Indexed by ``period`` (a PeriodIndex; text for 4-4-5 and for years named
        after their start) and `by`; deals without a close date in last rows
        with a missing period. A row stands wherever an open or won deal does;
        no such deal: p = 0, same dtypes. ``period_start, period_end`` are the
        first and the last day; what is of a quota is there with one only.

    Warns
    -----
    UnmappedStageWarning
        If deals are in stages that nobody called open, won or lost; they are left out.

    Examples
    --------
    >>> table = df.opp.forecast(quota=450_000)
    >>> table.loc["2026Q4":"2027Q1", ["open_count", "weighted_amount", "won_amount", "attainment"]].round(2)
            open_count  weighted_amount  won_amount  attainment
    period
    2026Q4          19        162271.06    86785.38        0.19
    2027Q1          38        407761.50        0.00        0.00
    >>> years = df.opp.forecast(by="owner_name", freq="Y", fiscal_start=2)
    >>> years.loc["2027", ["open_count", "open_amount"]].head(3)
                 open_count  open_amount
    owner_name
    Dmitri Lee            4     97755.16
    Ivan García           7     79801.00
    Jürgen Lee            9    180891.00
    """
    overdue, periods, cells = context.money.overdue, context.periods, part["cells"]
    present = context.period_number()
    # Periods with a quota must occur before groups can be combined with them.
    also: list[Any] = []
    if isinstance(quota, pd.DataFrame) and "period" in quota.columns:
        also = [periods.parse(label) for label in quota["period"].drop_duplicates()]
    elif isinstance(quota, Mapping) and not by:
        also = [periods.parse(label) for label in quota]
    late = cells.of_layers(lambda layer: layer.kind == OVERDUE)
    rolls = overdue == "roll_forward" and bool(late.any())
    rows, row = PeriodRows.of(cells, context, [*also, present] if rolls else also)
    n_groups, n_periods = rows.n_groups, len(rows.ordinals)
    quotas = None if quota is None else read_quota(quota, periods, rows.groups)
    wanted, quota_values = np.empty(0, dtype=np.intp), np.empty(0)
    if quotas is not None and quotas.everywhere is None:
        wanted, quota_values = _quota_cells(quotas, rows)
    elif quotas is not None and rows.groups:
        # Who has a deal in one period has a quota in all: without these rows, quotas would not add up.
        wanted = (np.arange(n_periods)[:, None] * n_groups + np.unique(row % n_groups)).ravel()
    rolled = np.zeros(n_groups)
    if rolls:
        rolled = cells.add("weighted", row % n_groups, n_groups, late)
        wanted_too = rows.place(present) * n_groups + np.flatnonzero(rolled)
    every = np.concatenate([row, wanted, wanted_too if rolls else wanted[:0]]).astype(np.intp)
    ids, places = number_codes(every, (n_periods + 1) * n_groups)
    totals = Totals(cells, [layer.kind for layer in cells.layers], places[: len(row)], len(ids))
    columns = {name: totals.column(terms) for name, terms in COLUMNS.items()}
    if overdue == "include":
        columns["forecast_amount"] = columns["forecast_amount"] + totals.of("weighted", OVERDUE)
    elif rolls:
        current = ids // n_groups == rows.place(present)
        columns["forecast_amount"][current] += rolled[ids[current] % n_groups]
    days = {"period_start": rows.days(ids, first=True), "period_end": rows.days(ids, first=False)}
    # Nobody else holds these columns: putting them together anew takes a fifth of the time of a large table.
    table = pd.DataFrame({**days, **columns}, index=index_from(rows.levels(ids)), copy=False)
    if quotas is not None:
        values = np.full(len(ids), np.nan)
        if quotas.everywhere is not None:
            values[ids // n_groups < n_periods] = quotas.everywhere
        else:
            values[places[len(row) : len(row) + len(wanted)]] = quota_values
        won_by_now = totals.of("amount", WON_BY_NOW)
        more = quota_columns(
            values, columns["open_amount"], columns["won_amount"], won_by_now, columns["forecast_amount"]
        )
        table = table.assign(**more)
    arguments = {"by": by, "quota": "frame" if isinstance(quota, pd.DataFrame) else quota}
    return _with_basis(table, context, part["facts"], totals, arguments)


def _quota_cells(quotas: QuotaTable, rows: PeriodRows) -> tuple[Codes, Floats]:
    """Return the rows that have a quota, in order, and the quotas."""
    if quotas.ordinals is None:
        codes = np.arange(len(rows.ordinals))
        ids = (codes[:, None] * rows.n_groups + quotas.groups[None, :]).ravel()
        spread = np.tile(quotas.values, len(codes))
    else:
        codes = np.searchsorted(rows.ordinals, quotas.ordinals)
        ids, spread = codes * rows.n_groups + quotas.groups, quotas.values
    order = np.argsort(ids, kind="stable")
    return ids[order].astype(np.intp), spread[order]


def _with_basis(
    table: pd.DataFrame, context: FigureContext, facts: Facts, totals: Totals, arguments: dict[str, Any]
) -> pd.DataFrame:
    counts, overdue, quota = facts.counts, context.money.overdue, arguments["quota"]
    n_late, late = int(totals.of("count", OVERDUE).sum()), float(totals.of("amount", OVERDUE).sum())
    did = {
        "exclude": "left out of forecast_amount",
        "include": "inside forecast_amount",
        "roll_forward": "in the present period's forecast_amount",
    }[overdue]
    before = f"overdue (close date before {context.as_of_date:%Y-%m-%d})"
    near = {f"n_{name}": counts[name] for name in ("near_period_end",) if name in counts}
    zones = "within 14 hours of a period's end: a time zone (timezone=) could put them into another period"
    notes = tell(
        (n_late, "open deal", f"worth {late:,.2f}, {before}: inside open and weighted sums, {did}"),
        (
            totals.of("count", WON_LATER).sum(),
            "won deal",
            "with a close date after as_of: inside won_amount, not in forecast_amount",
        ),
        (near.get("n_near_period_end"), "deal", zones),
    )
    if isinstance(quota, int | float) and arguments["by"] is not None:
        notes.append(f"the quota of {quota:,} counts for every period and group")
    definitions = DEFINITIONS | (QUOTA_DEFINITIONS if quota is not None else {})
    if overdue != "exclude":
        where = "in their own period" if overdue == "include" else "in the present period"
        definitions["forecast_amount"] = f"won by as_of + weighted open deals, overdue ones {where}"
    return forecast.result(
        table,
        context,
        facts,
        **near,
        n_overdue=n_late,
        n_lost_outside=counts["lost"],
        periods=context.periods.words,
        arguments=arguments,
        definitions=definitions,
        notes=notes,
    )


_FROM_QUOTA = {
    "quota": (),
    "attainment": ("won_amount",),
    "gap": ("won_amount",),
    "gap_to_forecast": ("forecast_amount",),
    "coverage": ("open_amount", "won_amount"),
}


@forecast.rows
def rows_of_forecast(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    if ask.column not in COLUMNS:
        return together(ask, rows_of_forecast, _FROM_QUOTA[ask.column])
    deals, periods, (label, *names) = ask.deals, ask.periods, ask.parts
    dated = not pd.isna(label)
    inside = ask.within(label) if dated else deals.close_day == NO_DAY
    group = ask.in_groups(names)
    first, last = periods.span_of(label) if dated else (1, 0)
    return sums_behind(ask, kinds_of(deals), inside & group, group, first <= deals.context.today <= last)


def sums_behind(ask: Question, kind: Any, here: Flags, group: Flags, holds_today: bool) -> Trace:
    """Return the deals behind one of the sums of a forecast; overdue ones that roll come from all of the group."""
    deals = ask.deals
    terms = [(term, here) for term in COLUMNS[ask.column]]
    if ask.column == "forecast_amount":
        overdue = ask.arguments["overdue"]
        if overdue == "include" or (overdue == "roll_forward" and holds_today):
            terms.append((Term("weighted", (OVERDUE,)), here if overdue == "include" else group))
    chosen, contribution = np.zeros(len(deals), dtype=bool), np.zeros(len(deals))
    for term, scope in terms:
        rows, values = term.rows(deals, kind)
        chosen |= rows & scope
        contribution[rows & scope] = values[rows & scope]
    return chosen, contribution
