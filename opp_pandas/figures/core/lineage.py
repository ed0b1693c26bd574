"""From a number of a figure back to the deals that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.categories import resolve_categories
from opp_pandas.figures.core.days import NO_DAY, Flags, Floats
from opp_pandas.figures.core.deals import CLOSED, OMITTED, OPEN, TRASHED, WON, Deals
from opp_pandas.figures.core.groups import Group, by_stage, combine, read_groups
from opp_pandas.figures.core.periods import Periods
from opp_pandas.figures.forecasts import (
    COLUMNS,
    IGNORED,
    OPEN_CURRENT,
    OVERDUE,
    WON_BY_NOW,
    Term,
    kinds_of,
)
from opp_pandas.figures.hygiene import CHECKERS
from opp_pandas.figures.quotas import last_month_of, won_in
from opp_pandas.figures.rates import closed_in, scopes_of
from opp_pandas.stages import CATEGORIES


@dataclass(frozen=True, eq=False)
class Question:
    """Which number of which figure.

    Parameters
    ----------
    deals : Deals
        What the figure counted.
    basis : dict
        What it stands on.
    column : str
        One of its defined columns, or a number of its basis.
    parts : tuple
        Labels of the number's row.
    row : Series or None
        That row; None where the number is of no row.
    """

    deals: Deals
    basis: dict[str, Any]
    column: str
    parts: tuple[Any, ...]
    row: pd.Series | None

    @property
    def arguments(self) -> dict[str, Any]:
        """The choices that were made."""
        return dict(self.basis["arguments"])

    @property
    def periods(self) -> Periods:
        """How days were cut."""
        return Periods.from_dict(self.arguments["cut"])

    def within(self, label: object) -> Flags:
        """Tell which deals have their close date in a period."""
        first, last = span(self.periods, label)
        days = self.deals.close_day
        return np.asarray((days >= first) & (days <= last))

    def with_column(self, column: str) -> Question:
        """Ask for another number of the same row."""
        return replace(self, column=column)


Trace: TypeAlias = tuple[Flags, Floats | None]
"""Which deals made a number, and what each contributes where it is a sum, a mean or a median."""
Finder: TypeAlias = Callable[[Question], Trace]


def span(periods: Periods, label: object) -> tuple[int, int]:
    """Give the first and last day of a period."""
    ordinal = np.array([periods.parse(label)])
    return int(periods.starts(ordinal)[0]), int(periods.ends(ordinal)[0])


def _together(ask: Question, find: Finder, columns: Sequence[str]) -> Trace:
    """Give the rows of several numbers, for one that is worked out from them."""
    chosen = np.zeros(len(ask.deals), dtype=bool)
    for column in columns:
        chosen |= find(ask.with_column(column))[0]
    return chosen, None


def _in_groups(groups: list[Group], deals: Deals, parts: Sequence[Any]) -> Flags:
    code = 0
    for group, part in zip(groups, parts, strict=True):
        code = code * len(group) + group.find(part)
    return np.asarray(combine(groups, len(deals))[0] == code)


# --- sums by period and group ---------------------------------------------------

_FROM_QUOTA = {
    "quota": (),
    "attainment": ("won_amount",),
    "gap": ("won_amount",),
    "gap_to_forecast": ("forecast_amount",),
    "coverage": ("open_amount", "won_amount"),
}


def _forecast(ask: Question) -> Trace:
    if ask.column not in COLUMNS:
        return _together(ask, _forecast, _FROM_QUOTA[ask.column])
    deals, periods, (label, *names) = ask.deals, ask.periods, ask.parts
    dated = not pd.isna(label)
    inside = ask.within(label) if dated else deals.close_day == NO_DAY
    group = _in_groups(read_groups(deals, ask.arguments["by"]), deals, names)
    first, last = span(periods, label) if dated else (1, 0)
    return _sums(ask, kinds_of(deals), inside & group, group, first <= deals.context.today <= last)


def _scenario(ask: Question) -> Trace:
    question = replace(ask, parts=ask.parts[1:])
    groups = read_groups(ask.deals, ask.arguments["by"])
    if any(part not in group.labels for group, part in zip(groups, ask.parts[2:], strict=True)):
        # The scenario left nothing of the group.
        return np.zeros(len(ask.deals), dtype=bool), None if ask.column == "change" else np.zeros(len(ask.deals))
    return _together(question, _forecast, ("forecast_amount",)) if ask.column == "change" else _forecast(question)


def _rollup(ask: Question) -> Trace:
    deals, arguments = ask.deals, ask.arguments
    if ask.column in ("adjusted", "delta"):
        return _together(ask, _rollup, (arguments["measure"],))
    if ask.column == "own_count":
        alone = replace(ask, basis={**ask.basis, "arguments": {**arguments, "tree": _alone(arguments["tree"])}})
        chosen, _ = _together(alone, _rollup, ("open_count", "won_count"))
        return chosen, np.ones(len(deals))
    groups = read_groups(deals, arguments["by"])
    if arguments["tree"] is None:
        group = _in_groups(groups, deals, ask.parts)
    else:
        group = np.isin(groups[0].codes, _codes_below(arguments["tree"], ask.parts[0]))
    inside, holds_today = np.ones(len(deals), dtype=bool), True
    if arguments["period"] is not None:
        first, last = span(ask.periods, arguments["period"])
        inside, holds_today = ask.within(arguments["period"]), first <= deals.context.today <= last
    return _sums(ask, kinds_of(deals), inside & group, group, holds_today)


def _alone(tree: dict[str, Any]) -> dict[str, Any]:
    return {**tree, "manager": {}}


def _codes_below(tree: dict[str, Any], node: str) -> list[int]:
    """Give the group of a node and those of everybody below it."""
    below = [node]
    for name in below:
        below += [child for child, manager in tree["manager"].items() if manager == name]
    return [tree["group"][name] for name in below if name in tree["group"]]


def _sums(ask: Question, kind: Any, here: Flags, group: Flags, holds_today: bool) -> Trace:
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


def _category_forecast(ask: Question) -> Trace:
    deals, arguments, (label, *names, category) = ask.deals, ask.arguments, ask.parts
    inside = ask.within(label) if not pd.isna(label) else deals.close_day == NO_DAY
    group = _in_groups(read_groups(deals, arguments["by"]), deals, names)
    here = inside & group & (kinds_of(deals) != IGNORED)
    commit, best_case = arguments["bands"]
    codes = resolve_categories(deals, (commit, best_case)).codes
    wanted = CATEGORIES.index(category)
    amount, product = deals.amount, deals.amount * deals.percent / 100.0
    alone = here & (codes == wanted)
    if ask.column == "count":
        return alone, np.ones(len(deals))
    if ask.column == "amount":
        return alone & ~np.isnan(amount), amount
    if ask.column == "weighted_amount":
        open_too = wanted not in (CLOSED, OMITTED)
        return alone & ~np.isnan(product) & open_too, product
    up_to = here & (codes >= 0) & (codes <= wanted) & (wanted != OMITTED)
    return up_to & ~np.isnan(amount), amount


def _stages(ask: Question) -> Trace:
    deals, column = ask.deals, ask.column
    here = _in_groups([*read_groups(deals, ask.arguments["by"]), by_stage(deals)], deals, ask.parts)
    here &= deals.status != TRASHED
    summed = here if deals.omitted is None else here & ~deals.omitted
    amount = deals.amount
    if column == "count":
        return here, np.ones(len(deals))
    if column == "amount":
        return summed & ~np.isnan(amount), amount
    if column == "missing_amount_count":
        return here & np.isnan(amount), np.ones(len(deals))
    if column == "weighted_amount":
        product = amount * deals.percent / 100.0
        return summed & (deals.status == OPEN) & ~np.isnan(product), product
    raise ConfigurationError(f"{column} stands on the history, not on rows of the frame")


def _concentration(ask: Question) -> Trace:
    deals, measure = ask.deals, ask.arguments["measure"]
    chosen = deals.status == (WON if measure == "won_amount" else OPEN)
    if deals.omitted is not None:
        chosen = chosen & ~deals.omitted
    values = deals.amount * deals.percent / 100.0 if measure == "weighted_amount" else deals.amount
    known = chosen & ~np.isnan(values)
    if ask.column in ("hhi", "cumulative_share"):
        # Both stand on every group.
        return known, None
    here = _in_groups(read_groups(deals, ask.arguments["by"]), deals, ask.parts)
    if ask.column == "count":
        return chosen & here, np.ones(len(deals))
    return known & here, values if ask.column == "amount" else None


# --- rates and ages -------------------------------------------------------------

_FROM_KEY_FIGURES = {
    "velocity_per_day": ("open_count", "win_rate", "average_won_amount", "median_cycle_days"),
    "quota": (),
    "attainment": ("period_won_amount",),
    "gap": ("period_won_amount",),
    "coverage": ("period_open_amount", "period_won_amount"),
    "pipeline_needed": ("period_won_amount", "win_rate"),
}


def _kpis(ask: Question) -> Trace:
    if ask.column in _FROM_KEY_FIGURES:
        return _together(ask, _kpis, _FROM_KEY_FIGURES[ask.column])
    deals = ask.deals
    groups = read_groups(deals, ask.arguments["by"])
    here = _in_groups(groups, deals, ask.parts if groups else ())
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


def _win_rates(ask: Question) -> Trace:
    deals = ask.deals
    if ask.column in ("rank", "rank_low", "rank_high"):
        # A rank stands on the intervals of all groups.
        _, _, _, won, lost = scopes_of(deals, closed_in(deals, ask.arguments["window_days"], None))
        return won | lost, None
    if ask.column == "shrunk_rate":
        return _kpis(ask.with_column("win_rate"))[0], None
    if ask.column == "win_rate_with_overdue":
        chosen, _ = _together(ask, _kpis, ("win_rate", "overdue_count"))
        return chosen, (deals.status == WON).astype(np.float64)
    return _kpis(ask)


def _ageing(ask: Question) -> Trace:
    deals = ask.deals
    value = np.nan if ask.row is None or pd.isna(ask.row[ask.column]) else float(ask.row[ask.column])
    return np.asarray(deals.frame.index == ask.parts[0]) & (deals.status == OPEN), np.full(len(deals), value)


def _hygiene(ask: Question) -> Trace:
    deals = ask.deals
    found = CHECKERS[ask.column](deals, ask.arguments["stale_days"]) or {}
    rows = np.zeros(len(deals), dtype=bool)
    rows[list(found)] = True
    if ask.parts:
        rows &= np.asarray(deals.frame.index == ask.parts[0])
    return rows, np.ones(len(deals))


# --- bookings in time -------------------------------------------------------------


def _linearity(ask: Question) -> Trace:
    deals, period = ask.deals, ask.basis["period"]
    first, last = span(ask.periods, period)
    won = won_in(deals, first, last)
    amount = np.nan_to_num(deals.amount)
    total = float(amount[won].sum())
    week = (deals.close_day - first) // 7 + 1
    if ask.column == "gini":
        return won, None
    if ask.column == "last_month_share":
        return won & (deals.close_day >= last_month_of(ask.periods, last)), amount / total if total else None
    here = won & (week <= ask.parts[0] if ask.column == "cumulative_share" else week == ask.parts[0])
    if ask.column == "won_count":
        return here, np.ones(len(deals))
    if ask.column == "won_amount":
        return here & ~np.isnan(deals.amount), amount
    return here, amount / total if total else None


def _pacing(ask: Question) -> Trace:
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
        start, _ = span(periods, ask.parts[0])
        rows = inside & (deals.close_day < start + int(ask.row["day"]))
        return rows, deals.amount if ask.column == "won_to_date" else None
    return inside, deals.amount if ask.column == "won_amount" else None


def _bookings(ask: Question) -> Trace:
    deals, arguments = ask.deals, ask.arguments
    known = ~np.isnan(deals.amount)
    open_ones = known & ~np.isnan(deals.percent)
    won = np.zeros(len(deals), dtype=bool)
    if arguments["period"] is None:
        open_ones &= deals.status == OPEN
        if deals.omitted is not None:
            open_ones &= ~deals.omitted
    else:
        first, last = span(ask.periods, arguments["period"])
        inside, kind = ask.within(arguments["period"]), kinds_of(deals)
        scope = inside & (kind == OPEN_CURRENT)
        if arguments["overdue"] == "include":
            scope |= inside & (kind == OVERDUE)
        elif arguments["overdue"] == "roll_forward" and first <= deals.context.today <= last:
            scope |= kind == OVERDUE
        open_ones &= scope
        won = inside & known & (kind == WON_BY_NOW)
    if ask.column == "won_amount":
        return won, deals.amount
    share = np.where(won, 1.0, deals.percent / 100.0)
    return open_ones | won, deals.amount * share if ask.column == "mean" else None


FINDERS: dict[str, Finder] = {
    "forecast": _forecast,
    "category_forecast": _category_forecast,
    "rollup": _rollup,
    "stage_distribution": _stages,
    "funnel": _stages,
    "kpis": _kpis,
    "win_rates": _win_rates,
    "pacing": _pacing,
    "linearity": _linearity,
    "bookings": _bookings,
    "scenario": _scenario,
    "hygiene": _hygiene,
    "ageing": _ageing,
    "concentration": _concentration,
}
"""By figure, who finds the deals behind one of its numbers."""
