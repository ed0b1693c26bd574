"""The checks of `hygiene`: what each looks for among the deals, and the reason that it gives, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.figures.core.basis import Facts, counted
from opp_pandas.figures.core.columns import read_numbers
from opp_pandas.figures.core.days import NO_DAY, Days, local_days, to_date
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.totals import Histogram, grouped_median

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Flags
    from opp_pandas.figures.core.totals import Part

_ODDS_APART = 25
_FEWEST_WON = 10
"""Won deals, below which nothing is said of how long a deal takes."""
_FEWEST_OPEN = 10
_FAR_DAYS = 5 * 366


def survey(deals: Deals) -> Part:
    """Count how long won deals took and what open ones bring: what is unusual is so among all deals."""
    part: dict[str, Any] = {"facts": Facts.of(deals)}
    if deals.has("close_date") and (deals.has("created_at") or deals.has("external_created_at")):
        close, created = deals.close_day, deals.created_day
        won = (deals.status == WON) & (close != NO_DAY) & (created != NO_DAY) & (close <= deals.context.today)
        rows = np.flatnonzero(won)
        part["cycles"] = Histogram.counted([], rows, (close[rows] - created[rows]).astype(np.float64))
    if deals.has("amount"):
        rows = np.flatnonzero((deals.status == OPEN) & (deals.own_amount > 0))
        part |= {"amounts": Histogram.counted([], rows, deals.own_amount[rows]), "currencies": deals.currencies}
    return part


@dataclass(frozen=True)
class Limits:
    """From where on a deal needs a look."""

    stale_days: int
    """Without an event for longer, an open deal is untouched [days]."""
    old: float | None = None
    zombie: float | None = None
    """Open for longer than most, and than any, won deal took [days]; None where too few are won."""
    usual: float | None = None
    spread: float | None = None
    """The median amount of open deals, and the spread of its logarithm; None where there are too few, or several
    currencies."""

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


def zombie_age(longest: float, n_won: int) -> float:
    """Return the age beyond which no deal was ever won; infinite where too few were won to say so [days]."""
    return float(max(longest, 1)) if n_won >= _FEWEST_WON else np.inf


Reason = str | Callable[[int], str]
Found = tuple["Flags", Reason] | None
"""Which deals, and the reason: the same for all, or that of the deal at a place. None: nothing can be said."""
Finder = Callable[[Deals, Limits], Found]

CHECKS: dict[str, str] = {}
"""What every check looks for."""
_FINDERS: dict[str, tuple[Finder, tuple[str, ...], tuple[int, ...]]] = {}


def _check(looks_for: str, *columns: str, among: tuple[int, ...] = (OPEN,)) -> Callable[[Finder], Finder]:
    """Register a check of the deals of some statuses; it is left out where a column (of "a or b" both) is missing."""

    def register(find: Finder) -> Finder:
        name = find.__name__.removeprefix("_")
        CHECKS[name], _FINDERS[name] = looks_for, (find, columns, among)
        return find

    return register


def flagged(name: str, deals: Deals, limits: Limits) -> dict[int, str] | None:
    """Return the places of the deals that a check finds, with the reason of each; None where it cannot be made."""
    find, columns, among = _FINDERS[name]
    there = all(any(deals.has(column) for column in needed.split(" or ")) for needed in columns)
    if not there or (found := find(deals, limits)) is None:
        return None
    rows, reason = found
    places = np.flatnonzero(rows & np.isin(deals.status, among)).tolist()
    return {place: reason if isinstance(reason, str) else reason(place) for place in places}


@_check("open, and the close date is before as_of", "close_date")
def _overdue(deals: Deals, _: Limits) -> Found:
    close, gone = deals.close_day, deals.context.today - deals.close_day
    late = (close != NO_DAY) & (close < deals.context.today)
    return late, lambda place: f"the close date {_day(close[place])} passed {counted(gone[place], 'day')} ago"


@_check("open, without a close date", "close_date")
def _no_close_date(deals: Deals, _: Limits) -> Found:
    return deals.close_day == NO_DAY, "no close date: in no period's forecast"


@_check("open, without an amount", "amount")
def _no_amount(deals: Deals, _: Limits) -> Found:
    return np.isnan(deals.own_amount), "no amount: in no sum"


@_check("open or won, with an amount below 0", "amount", among=(OPEN, WON))
def _negative_amount(deals: Deals, _: Limits) -> Found:
    amount = deals.own_amount
    return amount < 0, lambda place: f"the amount is {amount[place]:,.2f}, and sums shrink by it"


@_check("open, without a probability or with one outside 0 to 100", "probability")
def _no_probability(deals: Deals, _: Limits) -> Found:
    given = read_numbers(deals.frame["probability"]).floats

    def reason(place: int) -> str:
        odd = "" if np.isnan(given[place]) else f"{given[place]:g} is not between 0 and 100"
        return (f"the probability {odd}" if odd else "no probability") + ": in no weighted sum"

    return np.isnan(deals.percent), reason


@_check("open, and the next step is empty", "next_step")
def _no_next_step(deals: Deals, _: Limits) -> Found:
    empty = deals.frame["next_step"].isna() | (deals.frame["next_step"].astype("str").str.strip() == "")
    return empty.to_numpy(), "no next step is written down"


@_check("open, without an owner", "owner_id or owner_name")
def _no_owner(deals: Deals, _: Limits) -> Found:
    columns = [name for name in ("owner_id", "owner_name") if deals.has(name)]
    return deals.frame[columns].isna().all(axis=1).to_numpy(), "nobody owns it"


def touched_day(deals: Deals) -> Days:
    """Return the day of the last event of every deal; `NO_DAY` where nothing says it."""
    column = next((name for name in ("touched_at", "updated_at") if deals.has(name)), None)
    if column is None:
        return np.full(len(deals), NO_DAY, dtype=np.int32)
    return local_days(deals.frame[column], deals.context.timezone)


@_check("open, and nothing happened for more than stale_days", "touched_at or updated_at")
def _untouched(deals: Deals, limits: Limits) -> Found:
    touched = touched_day(deals)
    idle, stale = deals.context.today - touched, limits.stale_days
    rows = (touched != NO_DAY) & (idle > stale)
    return rows, lambda place: f"nothing happened for {counted(idle[place], 'day')} (limit {stale})"


@_check(
    "open, and no meeting, call, mailing or task was done for more than stale_days (with touches only)", "last_touch_at"
)
def _silent(deals: Deals, limits: Limits) -> Found:
    last = local_days(deals.frame["last_touch_at"], deals.context.timezone)
    never, stale = last == NO_DAY, limits.stale_days
    # Where nothing was done yet, the silence began with the deal.
    begun = np.where(never, deals.created_day, last)
    quiet = deals.context.today - begun

    def reason(place: int) -> str:
        since = " since creation" if never[place] else ""
        return f"no touch for {counted(quiet[place], 'day')}{since} (limit {stale})"

    return (begun != NO_DAY) & (quiet > stale), reason


@_check("open, and no meeting is planned (with touches only)", "next_meeting_at")
def _no_next_meeting(deals: Deals, _: Limits) -> Found:
    planned = (deals.frame["next_meeting_at"] > deals.context.as_of).to_numpy(dtype=bool)
    return ~planned, "no meeting is planned"


def _open_for_longer(deals: Deals, limit: float | None, why: str) -> Found:
    if limit is None:
        return None
    age, known = deals.context.today - deals.created_day, deals.created_day != NO_DAY
    words = why.format(limit=limit)
    return known & (age > limit), lambda place: f"open for {counted(age[place], 'day')}; {words}"


@_check("open for longer than 9 of 10 won deals took (10 won deals or more)")
def _old(deals: Deals, limits: Limits) -> Found:
    return _open_for_longer(deals, limits.old, "9 of 10 won deals took {limit:,.0f} or less")


@_check("open for longer than any won deal took (10 won deals or more)")
def _zombie(deals: Deals, limits: Limits) -> Found:
    return _open_for_longer(deals, limits.zombie, "no deal was ever won after more than {limit:,.0f}")


@_check("open, and the probability is 25 points or more from the stage's", "probability")
def _stage_contradicts(deals: Deals, _: Limits) -> Found:
    team = deals.stage_percents
    if deals.context.stages.frame["probability"].isna().all():
        return None

    def reason(place: int) -> str:
        return f"the probability is {deals.percent[place]:g} %, and the team gives its stage {team[place]:g} %"

    return np.abs(deals.percent - team) >= _ODDS_APART, reason


@_check("open, and the amount is far outside the others (robust z of its logarithm above 3.5)", "amount")
def _outlier(deals: Deals, limits: Limits) -> Found:
    usual, spread, amount = limits.usual, limits.spread, deals.own_amount
    if usual is None or spread is None:
        return None
    far = np.abs(np.log(np.where(amount > 0, amount, usual) / usual)) > 3.5 * spread

    def reason(place: int) -> str:
        value = float(amount[place])
        times = f"{value / usual:,.0f} times" if value > usual else f"one {usual / value:,.0f}th of"
        return f"the amount {value:,.0f} is {times} the usual {usual:,.0f}"

    return far & (spread > 0), reason


@_check("open, and the close date is more than 5 years ahead", "close_date")
def _far_close_date(deals: Deals, _: Limits) -> Found:
    close = deals.close_day
    far = close > deals.context.today + _FAR_DAYS
    return far, lambda place: f"the close date {_day(close[place])} is more than 5 years ahead"


@_check("won or lost, with a close date after as_of", "close_date", among=(WON, LOST))
def _closed_later(deals: Deals, _: Limits) -> Found:
    close = deals.close_day
    ahead = close > deals.context.today
    return ahead, lambda place: f"closed, and the close date {_day(close[place])} is still ahead"


@_check(
    "won or lost, and the close date is before creation",
    "close_date",
    "created_at or external_created_at",
    among=(WON, LOST),
)
def _closed_before_created(deals: Deals, _: Limits) -> Found:
    close, created = deals.close_day, deals.created_day
    odd = (close != NO_DAY) & (created != NO_DAY) & (close < created)
    return odd, lambda place: f"closed {_day(close[place])}, created {_day(created[place])}: its cycle is negative"


def _day(day: Any) -> str:
    return f"{to_date(int(day)):%Y-%m-%d}"
