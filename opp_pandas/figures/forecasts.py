"""The forecast: open, weighted and won amounts by period and group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.figures.core.basis import attach_basis, build_basis, counted, money_facts, money_notes
from opp_pandas.figures.core.blocks import blocks, look_up
from opp_pandas.figures.core.days import NO_DAY, Codes, Flags, Floats, Integers, to_dates
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import Group, add_up, combine, read_groups, split
from opp_pandas.figures.core.lineage import Question, Trace, in_groups, span, together
from opp_pandas.figures.quotas import DEFINITIONS as QUOTA_DEFINITIONS
from opp_pandas.figures.quotas import Quota, quota_columns, read_quota

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.periods import Periods

OPEN_CURRENT, OVERDUE, OMITTED, WON_BY_NOW, WON_LATER, IGNORED = range(6)
KINDS = 6
"""Open and not overdue, open and overdue, omitted, won by as_of, won with a later date, in no figure."""


@dataclass(frozen=True)
class Term:
    """One sum inside a column: a quantity over deals of some kinds."""

    quantity: Literal["count", "amount", "weighted", "missing_amount", "missing_probability"]
    kinds: tuple[int, ...]


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
    "missing_probability_count": (Term("missing_probability", _ANY_OPEN),),
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


@dataclass(frozen=True, eq=False)
class Cells:
    """Every deal's place in a forecast.

    Parameters
    ----------
    deals : Deals
        The deals.
    periods : Periods
        How days are cut.
    ordinals : ndarray of int64, shape (p,)
        The periods that occur; code p is the missing one.
    groups : list of Group
        The groupings.
    period : ndarray of intp, shape (s,)
        Code of the period of every slot of time in ``deals.close``; -1 where
        deals stand outside the figure.
    """

    deals: Deals
    periods: Periods
    ordinals: Integers
    groups: list[Group]
    period: Codes

    @cached_property
    def n_groups(self) -> int:
        """Number of possible combinations of groups."""
        return math.prod(len(group) for group in self.groups)

    @cached_property
    def _layers(self) -> tuple[Codes, Codes]:
        """Give the layer of every status and slot, and what the layers are: period x KINDS + kind.

        Few of the pairs of a period and a kind occur: what is open in a past
        period is late, and what is not of any kind is in one last layer.
        """
        kinds = _kinds_by_status(self.deals)
        nowhere = (len(self.ordinals) + 1) * KINDS
        pair = np.where((kinds == IGNORED) | (self.period < 0), nowhere, self.period * KINDS + kinds)
        occurs = np.zeros(nowhere + 1, dtype=bool)
        occurs[pair] = True
        pairs = np.flatnonzero(occurs[:nowhere])
        layer_of = np.full(nowhere + 1, len(pairs), dtype=np.intp)
        layer_of[pairs] = np.arange(len(pairs))
        return layer_of[pair], pairs

    @cached_property
    def size(self) -> int:
        """Number of possible codes."""
        return (len(self._layers[1]) + 1) * self.n_groups

    @cached_property
    def _starts(self) -> Codes:
        return self._layers[0] * self.n_groups

    def code(self, rows: slice = slice(None)) -> Codes:
        """Give period, kind and groups as one code."""
        code = _look_up_by_status(self._starts, self.deals, rows)
        if self.groups:
            code += combine(self.groups, len(self.deals), rows)[0]
        return code

    def decode(self, codes: Codes) -> tuple[Codes, Codes, Codes]:
        """Take codes apart into cell (period and groups) and kind; the third says which codes are of any kind."""
        pairs = self._layers[1]
        layer, group = np.divmod(codes, self.n_groups)
        inside = np.flatnonzero(layer < len(pairs))
        period, kind = np.divmod(pairs[layer[inside]], KINDS)
        return period * self.n_groups + group[inside], kind, inside

    def cell(self) -> Codes:
        """Give period and groups of every deal as one code."""
        cell = look_up(self.period * self.n_groups, self.deals.close.places)
        cell += combine(self.groups, len(self.deals))[0]
        return cell

    def period_code(self, ordinal: int) -> int:
        """Code of a period; -1 if it does not occur."""
        place = int(np.searchsorted(self.ordinals, ordinal))
        return place if place < len(self.ordinals) and self.ordinals[place] == ordinal else -1


_LEFT_OUT_ROW = 5


def _kinds_by_status(deals: Deals) -> npt.NDArray[np.int8]:
    """Give the kind by status (omitted ones are the sixth) and slot of time, shape (6, s)."""
    days, today = deals.close.days, deals.context.today
    kinds = np.full((6, len(days)), IGNORED, dtype=np.int8)
    # An undated deal is neither overdue nor in the future.
    kinds[OPEN] = np.where((days < today) & (days != NO_DAY), OVERDUE, OPEN_CURRENT)
    kinds[WON] = np.where(days > today, WON_LATER, WON_BY_NOW)
    kinds[_LEFT_OUT_ROW] = OMITTED
    return kinds


def _look_up_by_status(table: npt.NDArray[Any], deals: Deals, rows: slice) -> npt.NDArray[Any]:
    """Give every deal its entry of a table by status and slot of time: one look-up for all that hangs on the two."""
    place = deals.status[rows].astype(np.intp)
    if deals.omitted is not None:
        place[deals.omitted[rows]] = _LEFT_OUT_ROW
    place *= table.shape[1]
    place += deals.close.places[rows]
    return table.reshape(-1).take(place)


def kinds_of(deals: Deals) -> npt.NDArray[np.int8]:
    """Return for every deal which sums it belongs to: OPEN_CURRENT, OVERDUE, OMITTED, WON_BY_NOW and so on."""
    table = _kinds_by_status(deals)
    kind = np.empty(len(deals), dtype=np.int8)
    for rows in blocks(len(deals)):
        kind[rows] = _look_up_by_status(table, deals, rows)
    return kind


def place_deals(deals: Deals, periods: Periods, by: str | Sequence[str] | None, also: Sequence[int] = ()) -> Cells:
    """Find the cell of every deal; `also` names periods that must occur whether or not a deal is in them."""
    period, ordinals = periods.cut(deals.close.days)
    wanted = np.union1d(ordinals, np.asarray(also, dtype=np.int64))
    if len(wanted) > len(ordinals):
        table = np.append(np.searchsorted(wanted, ordinals), len(wanted)).astype(np.intp)
        period, ordinals = table[period], wanted
    return Cells(deals, periods, ordinals, read_groups(deals, by), period)


@dataclass(frozen=True, eq=False)
class Totals:
    """Counts and sums by kind and cell: arrays of shape (KINDS, cells)."""

    ids: Codes
    count: Integers
    amount: Floats
    weighted: Floats
    missing_amount: Integers
    missing_probability: Integers

    @property
    def tables(self) -> tuple[npt.NDArray[Any], ...]:
        """All five tables, in the order of the fields."""
        return self.count, self.amount, self.weighted, self.missing_amount, self.missing_probability

    def sum(self, term: Term) -> npt.NDArray[Any]:
        """Add the kinds of a term, by cell."""
        table: npt.NDArray[Any] = getattr(self, term.quantity)
        return np.asarray(table[list(term.kinds)].sum(axis=0))

    def column(self, terms: Sequence[Term]) -> npt.NDArray[Any]:
        """Add the terms of a column, by cell."""
        total = self.sum(terms[0])
        for term in terms[1:]:
            total = total + self.sum(term)
        return total


def tally_cells(cells: Cells, also: npt.NDArray[Any]) -> Totals:
    """Count and sum by kind and cell; cells in `also` are there even if empty."""
    deals = cells.deals
    if cells.size <= max(1_000_000, 2 * len(deals)):
        sums = add_up(deals, cells.code, cells.size)
        occurring = codes = np.flatnonzero(sums.count)
    else:
        # More possible codes than deals: number those that occur.
        numbered, codes = pd.factorize(cells.code())
        sums = add_up(deals, numbered.__getitem__, len(codes))
        occurring = np.arange(len(codes))
    cell, kind, inside = cells.decode(codes)
    ids = np.union1d(cell, also).astype(np.intp)
    place, occurring = np.searchsorted(ids, cell), occurring[inside]

    def table(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found = np.zeros((KINDS, len(ids)), dtype=values.dtype)
        found[kind, place] = values[occurring]
        return found

    return Totals(
        ids,
        count=table(sums.count),
        amount=table(sums.amount),
        weighted=table(sums.product) / 100.0,
        missing_amount=table(sums.missing_amount),
        missing_probability=table(sums.missing_percent),
    )


def _reindex(tally: Totals, ids: Codes) -> Totals:
    places = np.searchsorted(tally.ids, ids)
    inside = places < len(tally.ids)
    inside[inside] = tally.ids[places[inside]] == ids[inside]

    def take(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found = np.zeros((KINDS, len(ids)), dtype=table.dtype)
        found[:, inside] = table[:, places[inside]]
        return found

    return Totals(ids, *(take(table) for table in tally.tables))


@figure(heading="Forecast", definitions=DEFINITIONS | QUOTA_DEFINITIONS)
def forecast(
    frame: pd.DataFrame,
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
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or
        ``stage_name``. Never modified. Optional: ``probability``,
        ``amount_precise``, ``currency_type``, ``trashed_at``, ``forecast_category``.
    context : FigureContext
        Stages, moment, time zone, names.
    by : str or sequence of str, optional
        Columns to group by; ``owner_name`` and ``account_name`` use the id
        underneath, ``category`` is the forecast category.
    quota : number, mapping or DataFrame, optional
        A number for every period and group; group -> number (without `by`:
        period -> number); or a frame with ``period``, the group and ``quota``.
        A group with a quota has a row in every period, or in those that the
        mapping or the frame names, whether or not it has deals there.
    fiscal_label : {"end", "start"}, default "end"
        Whether a fiscal year bears the year in which it ends or starts.
    overdue : {"exclude", "include", "roll_forward"}, default "exclude"
        What open deals with a close date before `as_of` do to
        ``forecast_amount``: nothing, add to their own period, or add to the
        present one. All other columns are the same in each case.
    category : str, default "forecast_category"
        Column that states the forecast category; omitted deals stay outside all sums.
    rates : ExchangeRates, mapping or DataFrame, optional
        Turns several currencies into one.

    Returns
    -------
    DataFrame, shape (p, 11)
        Indexed by ``period`` (a PeriodIndex; text for 4-4-5 and for years named
        after their start) and `by`; deals without a close date in last rows
        with a missing period. ``period_start, period_end`` (first and last
        day), ``open_count, won_count, missing_amount_count,
        missing_probability_count`` [deals], ``open_amount, weighted_amount,
        won_amount, forecast_amount, overdue_amount`` [currency]; with a quota
        also ``quota, gap, gap_to_forecast`` [currency], ``attainment, coverage``
        [ratio]. A row stands wherever an open or won deal does. No such deal:
        p = 0, same dtypes.

    Raises
    ------
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    ConfigurationError
        If an argument cannot be used, or a quota fits no group.

    Warns
    -----
    UnmappedStageWarning
        If deals are in stages that nobody called open, won or lost; they are left out.
    """
    overdue = context.money.overdue
    periods = context.periods.cut
    deals = Deals(frame, context)
    present = int(periods.ordinals(np.array([context.today]))[0])
    also: list[int] = []
    if quota is not None:
        # Periods with a quota must occur before groups can be combined with them.
        also += _quota_periods(quota, periods, by)
    rolls = overdue == "roll_forward" and bool((kinds_of(deals) == OVERDUE).any())
    if rolls:
        also.append(present)
    cells = place_deals(deals, periods, by, also)
    quotas = None if quota is None else read_quota(quota, periods, cells.groups)
    wanted = np.empty(0, dtype=np.intp)
    if quotas is not None and quotas.everywhere is None:
        wanted, quota_values = _quota_cells(quotas.ordinals, quotas.groups, quotas.values, cells)
    first = tally_cells(cells, wanted)
    if quotas is not None and quotas.everywhere is not None and cells.groups:
        # Who has a deal in one period has a quota in all: without these rows, quotas would not add up.
        everyone = np.unique(first.ids % cells.n_groups)
        everywhere = np.arange(len(cells.ordinals))[:, None] * cells.n_groups + everyone
        first = _reindex(first, np.union1d(first.ids, everywhere).astype(np.intp))
    if rolls:
        late = first.weighted[OVERDUE] != 0
        target = cells.period_code(present) * cells.n_groups + first.ids % cells.n_groups
        first = _reindex(first, np.union1d(first.ids, target[late]).astype(np.intp))
    columns = {name: first.column(terms) for name, terms in COLUMNS.items()}
    if overdue == "include":
        columns["forecast_amount"] = columns["forecast_amount"] + first.weighted[OVERDUE]
    elif rolls:
        rolled = np.bincount(first.ids % cells.n_groups, first.weighted[OVERDUE], minlength=cells.n_groups)
        current = first.ids // cells.n_groups == cells.period_code(present)
        columns["forecast_amount"][current] += rolled[first.ids[current] % cells.n_groups]
    table = _assemble(columns, first.ids, cells)
    if quotas is not None:
        values = np.full(len(first.ids), np.nan)
        if quotas.everywhere is not None:
            values[first.ids // cells.n_groups < len(cells.ordinals)] = quotas.everywhere
        else:
            values[np.searchsorted(first.ids, wanted)] = quota_values
        won_by_now = first.amount[WON_BY_NOW]
        more = quota_columns(
            values, columns["open_amount"], columns["won_amount"], won_by_now, columns["forecast_amount"]
        )
        table = table.assign(**more)
    arguments = {
        "by": by,
        "quota": None if quota is None else "frame" if isinstance(quota, pd.DataFrame) else quota,
    }
    return attach_basis(table, _basis(cells, first, columns, arguments, quotas is not None))


def _quota_periods(quota: Quota, periods: Periods, by: str | Sequence[str] | None) -> list[int]:
    if isinstance(quota, pd.DataFrame) and "period" in quota.columns:
        return [periods.parse(label) for label in quota["period"].drop_duplicates()]
    return [periods.parse(label) for label in quota] if isinstance(quota, Mapping) and not by else []


def _quota_cells(ordinals: Integers | None, groups: Codes, values: Floats, cells: Cells) -> tuple[Codes, Floats]:
    """Give the cells that have a quota, in order, and the quotas."""
    if ordinals is None:
        codes = np.arange(len(cells.ordinals))
        ids = (codes[:, None] * cells.n_groups + groups[None, :]).ravel()
        spread = np.tile(values, len(codes))
    else:
        codes = np.array([cells.period_code(int(ordinal)) for ordinal in ordinals], dtype=np.intp)
        ids, spread = codes * cells.n_groups + groups, values
    order = np.argsort(ids, kind="stable")
    return ids[order].astype(np.intp), spread[order]


def _assemble(columns: Mapping[str, npt.NDArray[Any]], ids: Codes, cells: Cells) -> pd.DataFrame:
    codes = ids // cells.n_groups
    dated = codes < len(cells.ordinals)
    labels = cells.periods.labels(cells.ordinals, missing=True)
    starts = np.append(cells.periods.starts(cells.ordinals), NO_DAY) if len(cells.ordinals) else np.array([NO_DAY])
    ends = np.append(cells.periods.ends(cells.ordinals), NO_DAY) if len(cells.ordinals) else np.array([NO_DAY])
    period = labels[codes] if not dated.all() else labels[:-1][codes]
    index: pd.Index = period.rename("period")
    if cells.groups:
        parts = split(ids % cells.n_groups, cells.groups)
        levels = [group.labels[part] for group, part in zip(cells.groups, parts, strict=True)]
        index = pd.MultiIndex.from_arrays([period, *levels], names=["period", *(group.name for group in cells.groups)])
    table: dict[str, Any] = {"period_start": to_dates(starts[codes]), "period_end": to_dates(ends[codes])}
    table |= {name: values.astype(np.int64) if name.endswith("count") else values for name, values in columns.items()}
    return pd.DataFrame(table, index=index)


def _basis(
    cells: Cells,
    tally: Totals,
    columns: Mapping[str, npt.NDArray[Any]],
    arguments: dict[str, Any],
    with_quota: bool,
) -> dict[str, Any]:
    deals = cells.deals
    facts = money_facts(deals)
    notes = money_notes(facts, deals)
    n_late, late = int(tally.count[OVERDUE].sum()), float(columns["overdue_amount"].sum())
    if n_late:
        did = {
            "exclude": "left out of forecast_amount",
            "include": "inside forecast_amount",
            "roll_forward": "in the present period's forecast_amount",
        }[deals.context.money.overdue]
        notes.append(
            f"{counted(n_late, 'open deal')} worth {late:,.2f}, overdue (close date before "
            f"{deals.context.as_of_date:%Y-%m-%d}): inside open and weighted sums, {did}"
        )
    n_later = int(tally.count[WON_LATER].sum())
    if n_later:
        notes.append(
            f"{counted(n_later, 'won deal')} with a close date after as_of: inside won_amount, not in forecast_amount"
        )
    near = {}
    if deals.context.timezone is None:
        inside = kinds_of(deals) != IGNORED
        moved = look_up(cells.periods.near_an_end(deals.close.days, deals.close.hours), deals.close.places)
        near["n_near_period_end"] = int(np.count_nonzero(moved & inside))
        if near["n_near_period_end"]:
            notes.append(
                f"{counted(near['n_near_period_end'], 'deal')} within 14 hours of a period's end: "
                "a time zone (timezone=) could put them into another period"
            )
    if arguments["quota"] is not None and isinstance(arguments["quota"], int | float) and arguments["by"] is not None:
        notes.append(f"the quota of {arguments['quota']:,} counts for every period and group")
    definitions = DEFINITIONS | (QUOTA_DEFINITIONS if with_quota else {})
    overdue = deals.context.money.overdue
    if overdue != "exclude":
        where = "in their own period" if overdue == "include" else "in the present period"
        definitions["forecast_amount"] = f"won by as_of + weighted open deals, overdue ones {where}"
    return build_basis(
        "forecast",
        deals,
        dated=True,
        **facts,
        **near,
        n_overdue=n_late,
        n_lost_outside=np.count_nonzero(deals.status == LOST),
        periods=cells.periods.words,
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
    group = in_groups(read_groups(deals, ask.arguments["by"]), deals, names)
    first, last = span(periods, label) if dated else (1, 0)
    return sums_behind(ask, kinds_of(deals), inside & group, group, first <= deals.context.today <= last)


def sums_behind(ask: Question, kind: Any, here: Flags, group: Flags, holds_today: bool) -> Trace:
    """Give the deals behind one of the sums of a forecast; overdue ones that roll come from all of the group."""
    deals = ask.deals
    terms = [(term, here) for term in COLUMNS[ask.column]]
    if ask.column == "forecast_amount":
        overdue = ask.arguments["overdue"]
        if overdue == "include" or (overdue == "roll_forward" and holds_today):
            terms.append((Term("weighted", (OVERDUE,)), here if overdue == "include" else group))
    chosen, contribution = np.zeros(len(deals), dtype=bool), np.zeros(len(deals))
    for term, scope in terms:
        rows, values = _term(deals, kind, term)
        chosen |= rows & scope
        contribution[rows & scope] = values[rows & scope]
    return chosen, contribution


def _term(deals: Deals, kind: Any, term: Term) -> tuple[Flags, Floats]:
    rows: Flags = np.isin(kind, term.kinds)
    amount, percent = deals.amount, deals.percent
    if term.quantity == "missing_amount":
        return rows & np.isnan(amount), np.ones(len(deals))
    if term.quantity == "missing_probability":
        return rows & np.isnan(percent), np.ones(len(deals))
    if term.quantity == "count":
        return rows, np.ones(len(deals))
    if term.quantity == "amount":
        return rows & ~np.isnan(amount), amount
    return rows & ~np.isnan(amount) & ~np.isnan(percent), amount * percent / 100.0
