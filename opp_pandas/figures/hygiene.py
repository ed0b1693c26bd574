"""Ageing, hygiene and concentration: deals that need a look, each with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.figures.core.basis import Facts, attach_basis, build_basis, counted
from opp_pandas.figures.core.columns import read_numbers
from opp_pandas.figures.core.days import NO_DAY, Days, local_days, to_date
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import by_stage, read_axes, read_groups
from opp_pandas.figures.core.partials import Rows
from opp_pandas.figures.core.totals import Histogram, Members, grouped_median

if TYPE_CHECKING:
    from opp_pandas.choices import Check
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Flags
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.partials import Part

CHECKS = {
    "overdue": "open, and the close date is before as_of",
    "no_close_date": "open, without a close date",
    "no_amount": "open, without an amount",
    "negative_amount": "open or won, with an amount below 0",
    "no_probability": "open, without a probability or with one outside 0 to 100",
    "no_next_step": "open, and the next step is empty",
    "no_owner": "open, without an owner",
    "untouched": "open, and nothing happened for more than stale_days",
    "silent": "open, and no meeting, call, mailing or task was done for more than stale_days (with touches only)",
    "no_next_meeting": "open, and no meeting is planned (with touches only)",
    "old": "open for longer than 9 of 10 won deals took (10 won deals or more)",
    "zombie": "open for longer than any won deal took (10 won deals or more)",
    "stage_contradicts": "open, and the probability is 25 points or more from the stage's",
    "outlier": "open, and the amount is far outside the others (robust z of its logarithm above 3.5)",
    "far_close_date": "open, and the close date is more than 5 years ahead",
    "closed_later": "won or lost, with a close date after as_of",
    "closed_before_created": "won or lost, and the close date is before creation",
}
_OF_TOUCHES = frozenset({"silent", "no_next_meeting"})
"""Checks that say nothing, and are not missed, where nobody asked for activity."""
_ODDS_APART = 25
_FEWEST_WON = 10
"""Won deals, below which nothing is said of how long a deal takes."""
_FEWEST_OPEN = 10
_FAR_DAYS = 5 * 366
_NAMED = ("id", "custom_id", "name", "owner_name")
_SHOWN = (*_NAMED, "account_name", "amount", "close_date")


def _survey(deals: Deals) -> Part:
    """Count how long won deals took and what open ones bring: what is unusual is so among all deals."""
    part: dict[str, Any] = {"facts": Facts.of(deals)}
    if deals.has("close_date") and (deals.has("created_at") or deals.has("external_created_at")):
        close, created = deals.close_day, deals.created_day
        won = (deals.status == WON) & (close != NO_DAY) & (created != NO_DAY) & (close <= deals.context.today)
        rows = np.flatnonzero(won)
        part["cycles"] = Histogram.of([], rows, (close[rows] - created[rows]).astype(np.float64))
    if deals.has("amount"):
        rows = np.flatnonzero((deals.status == OPEN) & (deals.own_amount > 0))
        part |= {"amounts": Histogram.of([], rows, deals.own_amount[rows]), "currencies": deals.currencies}
    return part


@dataclass(frozen=True)
class Limits:
    """From where on a deal needs a look.

    Parameters
    ----------
    stale_days : int
        Without an event for longer, an open deal is untouched [days].
    old, zombie : float or None
        Open for longer than most, and than any, won deal took [days]; None where too few are won.
    usual, spread : float or None
        The median amount of open deals, and the spread of its logarithm; None
        where there are too few, or several currencies.
    """

    stale_days: int
    old: float | None = None
    zombie: float | None = None
    usual: float | None = None
    spread: float | None = None

    @classmethod
    def of(cls, survey: Part, stale_days: int) -> Limits:
        """Work the limits out from what is known of all deals."""
        limits = cls(stale_days)
        cycles, amounts = survey.get("cycles"), survey.get("amounts")
        if cycles is not None and (n := int(cycles.counts.sum())) >= _FEWEST_WON:
            old, zombie = cycles.quantile(0.9), zombie_age(cycles.values.max(), n)
            limits = replace(limits, old=old, zombie=zombie)
        if amounts is None or amounts.counts.sum() < _FEWEST_OPEN or len(survey["currencies"].counts) > 1:
            return limits
        logs, nowhere = np.log(amounts.values), np.zeros(len(amounts), dtype=np.intp)
        median = grouped_median(nowhere, logs, 1, amounts.counts)[0]
        spread = 1.4826 * grouped_median(nowhere, np.abs(logs - median), 1, amounts.counts)[0]
        return replace(limits, usual=float(np.exp(median)), spread=float(spread))


def _gather(deals: Deals, survey: Part, stale_days: int = 30, checks: Sequence[Check] | None = None) -> Part:
    wanted = list(CHECKS) if checks is None else list(checks)
    unknown = [name for name in wanted if name not in CHECKS]
    if unknown:
        raise ConfigurationError(f"there is no check {named(unknown)}; there are {named(CHECKS, 20)}")
    if stale_days < 1:
        raise ConfigurationError(f"stale_days must be 1 or more, not {stale_days!r}")
    limits = Limits.of(survey, stale_days)
    found: dict[int, dict[str, str]] = {}
    counts = {}
    for name in wanted:
        flagged = CHECKERS[name](deals, limits)
        if flagged is None:
            continue
        counts[name] = len(flagged)
        for place, reason in flagged.items():
            found.setdefault(place, {})[name] = reason
    rows = np.array(sorted(found), dtype=np.intp)
    table = deals.frame[[name for name in _SHOWN if deals.has(name)]].iloc[rows].copy()
    if deals.has("amount"):
        # Several currencies without rates are no reason to hide what needs a look: each amount stands as it is.
        amount = (deals.own_amount if deals.rates is None else deals.amount)[rows]
        table[_SIZE] = np.nan_to_num(np.abs(amount))
        if deals.rates is not None:
            table["amount"] = amount
    for title, words in (
        ("checks", [", ".join(found[row]) for row in rows.tolist()]),
        ("reasons", ["; ".join(found[row].values()) for row in rows.tolist()]),
    ):
        table[title] = pd.Series(words, index=table.index, dtype="str")
    part: dict[str, Any] = {"facts": Facts.of(deals, more=counts), "rows": Rows(table)}
    if deals.has("owner_name"):
        part["owners"] = Members.of(read_axes(deals, "owner_name"), rows)
    return part if not deals.has("amount") else part | {"currencies": deals.currencies}


_SIZE = "size of the amount"


@figure(definitions=CHECKS, gather=_gather, survey=_survey)
def hygiene(
    part: Part,
    *,
    context: FigureContext,
    stale_days: int = 30,
    checks: Sequence[Check] | None = None,
) -> pd.DataFrame:
    """List the deals that need a look, and say why.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``stage_id`` or ``stage_name``. A check whose column
        is missing is left out, and the basis says so.
    stale_days : int, default 30
        Without an event for longer, an open deal is untouched [days].
    checks : sequence of str, optional
        Only these; all of `CHECKS` if left out, ``silent`` and ``no_next_meeting``
        for deals that were loaded with their touches.

    Returns
    -------
    DataFrame
        A row per deal, indexed like the frame: of ``id, custom_id, name,
        owner_name, account_name, amount, close_date`` those that the frame has,
        owners' names from the look-ups; ``checks`` that flagged it, separated by
        commas, and ``reasons`` in words. Largest amounts first. Nothing to say:
        no rows.

    Raises
    ------
    ConfigurationError
        If a check does not exist.

    Examples
    --------
    >>> df.opp.hygiene(stale_days=45)[["id", "amount", "reasons"]].head(3)
          id  amount                                            reasons
    162  163   45110             no close date: in no period's forecast
    231  232   30900            nothing happened for 48 days (limit 45)
    156  157   25480  nothing happened for 111 days (limit 45); open...
    """
    facts = part["facts"]
    found = [name for name in CHECKS if name in facts.counts or name not in _OF_TOUCHES]
    wanted = found if checks is None else list(checks)
    table = part["rows"].frame
    if "owners" in part:
        owner = part["owners"].groups(context)[0]
        table = table.assign(owner_name=owner.labels[owner.codes].to_numpy())
    if _SIZE in table.columns:
        table = table.iloc[np.argsort(-table[_SIZE].to_numpy(), kind="stable")].drop(columns=_SIZE)
    counts = {name: facts.counts[name] for name in wanted if name in facts.counts}
    skipped = [name for name in wanted if name not in counts]
    notes = [f"{counted(len(table), 'deal')} flagged, {counted(sum(counts.values()), 'reason')}"]
    if skipped:
        notes.append(f"checks left out, as the frame lacks the column or too few deals are won: {', '.join(skipped)}")
    money, rates = part.get("currencies"), context.money.exchange
    n_currencies = 0 if money is None else len(money.counts)
    currency = money.base if money is not None and n_currencies == 1 else None
    basis = build_basis(
        "hygiene",
        context,
        facts,
        counts=counts,
        currency=currency if rates is None else rates.base,
        n_currencies=n_currencies,
        arguments={"stale_days": stale_days, "checks": wanted},
        definitions={name: CHECKS[name] for name in wanted},
        notes=notes,
    )
    return attach_basis(table, basis)


def identify(deals: Deals, places: Codes, columns: Sequence[str]) -> pd.DataFrame:
    """Return those of `columns` that the frame has, of some deals; owners' names from the look-ups."""
    frame = deals.frame
    table = frame[[name for name in columns if deals.has(name)]].iloc[places].copy()
    if "owner_name" in table.columns and len(frame):
        owner = read_groups(deals, "owner_name")[0]
        table["owner_name"] = owner.labels[owner.codes[places]].to_numpy()
    return table


def flags_of(table: pd.DataFrame) -> pd.Series:
    """Return the checks of a `hygiene` table, a row per deal and check, indexed like it."""
    return table["checks"].str.split(", ").explode().astype("str")


_Found = Mapping[int, str] | None


def _overdue(deals: Deals, _: Limits) -> _Found:
    if not deals.has("close_date"):
        return None
    today = deals.context.today
    rows = np.flatnonzero((deals.status == OPEN) & (deals.close_day != NO_DAY) & (deals.close_day < today))
    gone = today - deals.close_day
    return {
        place: f"the close date {_day(deals.close_day[place])} passed {counted(gone[place], 'day')} ago"
        for place in rows.tolist()
    }


def _no_close_date(deals: Deals, _: Limits) -> _Found:
    if not deals.has("close_date"):
        return None
    return _same((deals.status == OPEN) & (deals.close_day == NO_DAY), "no close date: in no period's forecast")


def _no_amount(deals: Deals, _: Limits) -> _Found:
    if not deals.has("amount"):
        return None
    return _same((deals.status == OPEN) & np.isnan(deals.own_amount), "no amount: in no sum")


def _negative_amount(deals: Deals, _: Limits) -> _Found:
    if not deals.has("amount"):
        return None
    rows = np.flatnonzero(((deals.status == OPEN) | (deals.status == WON)) & (deals.own_amount < 0))
    return {place: f"the amount is {deals.own_amount[place]:,.2f}, and sums shrink by it" for place in rows.tolist()}


def _no_probability(deals: Deals, _: Limits) -> _Found:
    if not deals.has("probability"):
        return None
    given = read_numbers(deals.frame["probability"]).floats
    rows = np.flatnonzero((deals.status == OPEN) & np.isnan(deals.percent))
    return {
        place: "no probability: in no weighted sum"
        if np.isnan(given[place])
        else f"the probability {given[place]:g} is not between 0 and 100: in no weighted sum"
        for place in rows.tolist()
    }


def _no_next_step(deals: Deals, _: Limits) -> _Found:
    if not deals.has("next_step"):
        return None
    empty = deals.frame["next_step"].isna() | (deals.frame["next_step"].astype("str").str.strip() == "")
    return _same((deals.status == OPEN) & empty.to_numpy(), "no next step is written down")


def _no_owner(deals: Deals, _: Limits) -> _Found:
    columns = [name for name in ("owner_id", "owner_name") if deals.has(name)]
    if not columns:
        return None
    without = np.logical_and.reduce([deals.frame[name].isna().to_numpy() for name in columns])
    return _same((deals.status == OPEN) & without, "nobody owns it")


def _touched_day(deals: Deals) -> Days | None:
    column = next((name for name in ("touched_at", "updated_at") if deals.has(name)), None)
    return None if column is None else local_days(deals.frame[column], deals.context.timezone)


def _untouched(deals: Deals, limits: Limits) -> _Found:
    touched = _touched_day(deals)
    if touched is None:
        return None
    today = deals.context.today
    rows = np.flatnonzero((deals.status == OPEN) & (touched != NO_DAY) & (today - touched > limits.stale_days))
    return {
        place: f"nothing happened for {counted(today - touched[place], 'day')} (limit {limits.stale_days})"
        for place in rows.tolist()
    }


def _silent(deals: Deals, limits: Limits) -> _Found:
    if not deals.has("last_touch_at"):
        return None
    today, last = deals.context.today, local_days(deals.frame["last_touch_at"], deals.context.timezone)
    never = last == NO_DAY
    # Where nothing was done yet, the silence began with the deal.
    begun = np.where(never, deals.created_day, last)
    rows = np.flatnonzero((deals.status == OPEN) & (begun != NO_DAY) & (today - begun > limits.stale_days))
    return {
        place: f"no touch for {counted(today - begun[place], 'day')}{' since creation' if never[place] else ''} "
        f"(limit {limits.stale_days})"
        for place in rows.tolist()
    }


def _no_next_meeting(deals: Deals, _: Limits) -> _Found:
    if not deals.has("next_meeting_at"):
        return None
    planned = (deals.frame["next_meeting_at"] > deals.context.as_of).to_numpy(dtype=bool)
    return _same((deals.status == OPEN) & ~planned, "no meeting is planned")


def zombie_age(longest: float, n_won: int) -> float:
    """Return the age beyond which no deal was ever won; infinite where too few were won to say so [days]."""
    return float(max(longest, 1)) if n_won >= _FEWEST_WON else np.inf


def _open_for_longer(deals: Deals, limit: float, why: str) -> dict[int, str]:
    age = deals.context.today - deals.created_day
    rows = np.flatnonzero((deals.status == OPEN) & (deals.created_day != NO_DAY) & (age > limit))
    return {place: f"open for {counted(age[place], 'day')}; {why}" for place in rows.tolist()}


def _old(deals: Deals, limits: Limits) -> _Found:
    if limits.old is None:
        return None
    return _open_for_longer(deals, limits.old, f"9 of 10 won deals took {limits.old:,.0f} or less")


def _zombie(deals: Deals, limits: Limits) -> _Found:
    if limits.zombie is None:
        return None
    return _open_for_longer(deals, limits.zombie, f"no deal was ever won after more than {limits.zombie:,.0f}")


def _stage_contradicts(deals: Deals, _: Limits) -> _Found:
    by_stage = deals.context.stages.frame["probability"].to_numpy(dtype=np.float64, na_value=np.nan)
    if not deals.has("probability") or not (~np.isnan(by_stage)).any():
        return None
    team = np.append(by_stage, [np.nan, np.nan])[deals.stage]
    rows = np.flatnonzero((deals.status == OPEN) & (np.abs(deals.percent - team) >= _ODDS_APART))
    return {
        place: f"the probability is {deals.percent[place]:g} %, and the team gives its stage {team[place]:g} %"
        for place in rows.tolist()
    }


def _outlier(deals: Deals, limits: Limits) -> _Found:
    usual, spread = limits.usual, limits.spread
    if usual is None or spread is None or not deals.has("amount"):
        return None
    if spread == 0:
        return {}
    amount = deals.own_amount
    positive = np.flatnonzero((deals.status == OPEN) & (amount > 0))
    rows = positive[np.abs(np.log(amount[positive]) - math.log(usual)) / spread > 3.5]

    def reason(value: float) -> str:
        times = f"{value / usual:,.0f} times" if value > usual else f"one {usual / value:,.0f}th of"
        return f"the amount {value:,.0f} is {times} the usual {usual:,.0f}"

    return {place: reason(float(amount[place])) for place in rows.tolist()}


def _far_close_date(deals: Deals, _: Limits) -> _Found:
    if not deals.has("close_date"):
        return None
    rows = np.flatnonzero((deals.status == OPEN) & (deals.close_day > deals.context.today + _FAR_DAYS))
    return {
        place: f"the close date {_day(deals.close_day[place])} is more than 5 years ahead" for place in rows.tolist()
    }


def _closed_later(deals: Deals, _: Limits) -> _Found:
    if not deals.has("close_date"):
        return None
    closed = (deals.status == WON) | (deals.status == LOST)
    rows = np.flatnonzero(closed & (deals.close_day > deals.context.today))
    return {
        place: f"closed, and the close date {_day(deals.close_day[place])} is still ahead" for place in rows.tolist()
    }


def _closed_before_created(deals: Deals, _: Limits) -> _Found:
    if not deals.has("close_date") or not (deals.has("created_at") or deals.has("external_created_at")):
        return None
    closed = ((deals.status == WON) | (deals.status == LOST)) & (deals.close_day != NO_DAY)
    rows = np.flatnonzero(closed & (deals.created_day != NO_DAY) & (deals.close_day < deals.created_day))
    return {
        place: f"closed {_day(deals.close_day[place])}, created {_day(deals.created_day[place])}: its cycle is negative"
        for place in rows.tolist()
    }


CHECKERS = {
    "overdue": _overdue,
    "no_close_date": _no_close_date,
    "no_amount": _no_amount,
    "negative_amount": _negative_amount,
    "no_probability": _no_probability,
    "no_next_step": _no_next_step,
    "no_owner": _no_owner,
    "untouched": _untouched,
    "silent": _silent,
    "no_next_meeting": _no_next_meeting,
    "old": _old,
    "zombie": _zombie,
    "stage_contradicts": _stage_contradicts,
    "outlier": _outlier,
    "far_close_date": _far_close_date,
    "closed_later": _closed_later,
    "closed_before_created": _closed_before_created,
}


def _same(rows: Flags, reason: str) -> dict[int, str]:
    return dict.fromkeys(np.flatnonzero(rows).tolist(), reason)


def _day(day: Any) -> str:
    return f"{to_date(int(day)):%Y-%m-%d}"


_AGES = {
    "age_days": "as_of - day of creation",
    "idle_days": "as_of - day of the last event (touched_at, else updated_at)",
    "overdue_days": "as_of - close date, at least 0",
    "touch_days": "as_of - day of the last meeting, call, mailing or task that was done",
}


@figure(heading="Age of deals", definitions=_AGES)
def ageing(frame: pd.DataFrame, *, context: FigureContext) -> pd.DataFrame:
    """Give the age of every open deal.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``stage_id`` or ``stage_name``; ages need
        ``created_at`` or ``external_created_at``, and are missing without.

    Returns
    -------
    DataFrame
        The open deals, indexed like the frame: of ``id, custom_id, name,
        owner_name`` those that it has, ``stage_name``, ``amount`` [currency],
        ``age_days`` (since creation), ``idle_days`` (since the last event),
        ``overdue_days`` (0 while the close date is ahead) [days]; for deals that were
        loaded with their touches also ``touch_days`` (since the last touch). Time in
        the present stage needs a history.

    Examples
    --------
    >>> df.opp.ageing()[["id", "stage_name", "age_days", "idle_days"]].head(3)
          id stage_name  age_days  idle_days
    24    25    Qualify       191          6
    67    68    Qualify       181          2
    117  118  Negotiate       287         21
    """
    deals = Deals(frame, context)
    rows = np.flatnonzero(deals.status == OPEN)
    stage = by_stage(deals)
    overdue = _days_since(deals, deals.close_day if deals.has("close_date") else None, rows)
    table = identify(deals, rows, _NAMED).assign(
        stage_name=pd.array(np.asarray(stage.labels[stage.codes[rows]]).astype(str), dtype="str"),
        amount=deals.amount[rows],
        age_days=_days_since(deals, deals.created_day, rows).array,
        idle_days=_days_since(deals, _touched_day(deals), rows).array,
        overdue_days=overdue.clip(lower=0).array,
    )
    if deals.has("last_touch_at"):
        touched = local_days(deals.frame["last_touch_at"], context.timezone)
        table["touch_days"] = _days_since(deals, touched, rows).array
    shown = {name: words for name, words in _AGES.items() if name in table.columns}
    basis = build_basis("ageing", context, Facts.of(deals), currency=deals.currency, definitions=shown)
    return attach_basis(table, basis)


def _days_since(deals: Deals, days: Days | None, rows: Codes) -> pd.Series:
    if days is None:
        return pd.Series(pd.NA, index=deals.frame.index[rows], dtype="Int64")
    gone = pd.Series(deals.context.today - days[rows].astype(np.int64), index=deals.frame.index[rows], dtype="Int64")
    return gone.mask(days[rows] == NO_DAY)


@hygiene.rows
def rows_of_hygiene(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    deals = ask.deals
    found = CHECKERS[ask.column](deals, Limits.of(_survey(deals), ask.arguments["stale_days"])) or {}
    rows = np.zeros(len(deals), dtype=bool)
    rows[list(found)] = True
    if ask.parts:
        rows &= np.asarray(deals.frame.index == ask.parts[0])
    return rows, np.ones(len(deals))


@ageing.rows
def rows_of_ageing(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    deals = ask.deals
    value = np.nan if ask.row is None or pd.isna(ask.row[ask.column]) else float(ask.row[ask.column])
    return np.asarray(deals.frame.index == ask.parts[0]) & (deals.status == OPEN), np.full(len(deals), value)
