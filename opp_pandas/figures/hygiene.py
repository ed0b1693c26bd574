"""Ageing, hygiene and concentration: deals that need a look, each with the reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.figures.core.basis import Facts, counted
from opp_pandas.figures.core.days import NO_DAY, Days, local_days
from opp_pandas.figures.core.deals import OPEN, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import by_stage, read_axes, read_groups
from opp_pandas.figures.core.totals import Members, Rows
from opp_pandas.figures.hygiene_checks import CHECKS, Limits, flagged, survey, touched_day

if TYPE_CHECKING:
    from opp_pandas.choices import Check
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.totals import Part

_OF_TOUCHES = frozenset({"silent", "no_next_meeting"})
"""Checks that say nothing, and are not missed, where nobody asked for activity."""
_NAMED = ("id", "custom_id", "name", "owner_name")
_SHOWN = (*_NAMED, "account_name", "amount", "close_date")


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
        reasons = flagged(name, deals, limits)
        if reasons is None:
            continue
        counts[name] = len(reasons)
        for place, reason in reasons.items():
            found.setdefault(place, {})[name] = reason
    rows = np.array(sorted(found), dtype=np.intp)
    table = deals.frame[[name for name in _SHOWN if deals.has(name)]].iloc[rows].copy()
    if deals.has("amount"):
        # Several currencies without rates are no reason to hide what needs a look: each amount stands as it is.
        amount = (deals.own_amount if deals.money.rates is None else deals.amount)[rows]
        table[_SIZE] = np.nan_to_num(np.abs(amount))
        if deals.money.rates is not None:
            table["amount"] = amount
    for title, words in (
        ("checks", [", ".join(found[row]) for row in rows.tolist()]),
        ("reasons", ["; ".join(dict.fromkeys("; ".join(found[row].values()).split("; "))) for row in rows.tolist()]),
    ):
        table[title] = pd.Series(words, index=table.index, dtype="str")
    part: dict[str, Any] = {"facts": Facts.of(deals, more=counts), "rows": Rows(table)}
    if deals.has("owner_name"):
        part["owners"] = Members.of(read_axes(deals, "owner_name"), rows)
    return part if not deals.has("amount") else part | {"currencies": deals.currencies}


_SIZE = "size of the amount"


@figure(definitions=CHECKS, gather=_gather, survey=survey)
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
        owner = part["owners"].rows(context)[0][0]
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
    return hygiene.result(
        table,
        context,
        facts,
        counts=counts,
        currency=currency if rates is None else rates.base,
        n_currencies=n_currencies,
        arguments={"stale_days": stale_days, "checks": wanted},
        definitions={name: CHECKS[name] for name in wanted},
        notes=notes,
    )


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


_AGES = {
    "age_days": "as_of - day of creation",
    "idle_days": "as_of - day of the last event (touched_at, else updated_at)",
    "overdue_days": "as_of - close date, at least 0",
    "touch_days": "as_of - day of the last meeting, call, mailing or task that was done",
}


@figure(heading="Age of deals", definitions=_AGES)
def ageing(frame: pd.DataFrame, *, context: FigureContext) -> pd.DataFrame:
    """Compute the age of every open deal.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``stage_id`` or ``stage_name``; ages need
        ``created_at`` or ``external_created_at``, and are missing without.

    Returns
    -------
    DataFrame
        The open deals, indexed like the frame: of ``id, custom_id, name,
        owner_name`` those that it has, ``stage_name``, ``amount``, and how old
        they are; ``touch_days`` for deals that were loaded with their touches.
        Time in the present stage needs a history.

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
        idle_days=_days_since(deals, touched_day(deals), rows).array,
        overdue_days=overdue.clip(lower=0).array,
    )
    if deals.has("last_touch_at"):
        touched = local_days(deals.frame["last_touch_at"], context.timezone)
        table["touch_days"] = _days_since(deals, touched, rows).array
    return ageing.result(table, context, Facts.of(deals), currency=deals.currency)


def _days_since(deals: Deals, days: Days | None, rows: Codes) -> pd.Series:
    if days is None:
        return pd.Series(pd.NA, index=deals.frame.index[rows], dtype="Int64")
    gone = pd.Series(deals.context.today - days[rows].astype(np.int64), index=deals.frame.index[rows], dtype="Int64")
    return gone.mask(days[rows] == NO_DAY)


@hygiene.rows
def _rows_of_hygiene(ask: Question) -> Trace:
    deals = ask.deals
    found = flagged(ask.column, deals, Limits.of(survey(deals), ask.arguments["stale_days"])) or {}
    rows = np.zeros(len(deals), dtype=bool)
    rows[list(found)] = True
    if ask.parts:
        rows &= np.asarray(deals.frame.index == ask.parts[0])
    return rows, np.ones(len(deals))


@ageing.rows
def _rows_of_ageing(ask: Question) -> Trace:
    deals = ask.deals
    value = np.nan if ask.row is None or pd.isna(ask.row[ask.column]) else float(ask.row[ask.column])
    return np.asarray(deals.frame.index == ask.parts[0]) & (deals.status == OPEN), np.full(len(deals), value)
