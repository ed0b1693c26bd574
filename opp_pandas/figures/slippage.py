"""Deals that do not close when they were to: slippage, pushes, and where everything went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import HistoryNeededError, MissingColumnError
from opp_pandas.figures.core.basis import tell
from opp_pandas.figures.core.blocks import pick
from opp_pandas.figures.core.days import NO_DAY, Flags, SmallCodes, local_days
from opp_pandas.figures.core.deals import LOST, OPEN, TRASHED, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import (
    NO_STAGE,
    UNASSIGNED,
    UNKNOWN_STAGE,
    by_stage,
    read_groups,
    require_one_column,
)
from opp_pandas.figures.core.snapshots import (
    HOW_TO_START,
    STATE_COLUMNS,
    Snapshots,
    keys_of,
    later_of,
    parse_window,
    read_span,
    read_states,
)
from opp_pandas.figures.proportions import divide

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext

SLIPPAGE = {
    "due_count": "open deals at the start with their close date in the period",
    "due_amount": "their amounts at the start",
    "slipped_count": "of these, still open at the end with a close date behind the period",
    "slipped_amount": "their amounts at the start",
    "slippage": "slipped_count / due_count",
    "slippage_value": "slipped_amount / due_amount",
    "won_count": "of these, won with a close date in the period",
    "not_closed_on_time": "(due_count - won_count) / due_count: losses, slipped and vanished deals too",
}
PUSHES = {
    "date_moves": "times that the close date moved later",
    "pushes": "of these, across the end of a period",
    "days_pushed": "days by which it moved later, added up",
    "pulls": "times that the close date moved earlier",
    "deals": "deals whose close date moved later at least once",
}
GONE, NEW = "(not there any more)", "(new)"


@figure(definitions=SLIPPAGE)
def slippage(
    history: Any,
    *,
    period: Any,
    since: Any = None,
    until: Any = None,
    by: str | None = None,
    context: FigureContext | tuple[FigureContext, FigureContext],
) -> pd.DataFrame:
    """Return the share of the deals due in a period that were pushed behind it.

    Parameters
    ----------
    by : str, optional
        A column to group by, as it was at the start.

    Returns
    -------
    DataFrame
        A row per group, or one row ``(all)``; NaN where nothing was due. Deals
        without an amount count, and stand in no sum.

    Examples
    --------
    >>> table = df.opp.slippage(history, period="2026Q4", since="2026-09-04", by="owner_name")
    >>> table[["due_count", "slipped_count", "won_count"]].head(3)
                 due_count  slipped_count  won_count
    owner_name
    Dmitri Lee           2              2          0
    Ivan García          9              2          0
    Jürgen Lee           7              4          0
    """
    if by is not None:
        require_one_column(by)
    w0, w1, words = parse_window(period, later_of(context).periods)
    *times, notes = read_span(history, w0, w1, since, until, later_of(context))
    columns = STATE_COLUMNS if by is None else (*STATE_COLUMNS, by)
    before, after = read_states(history, times, context=context, columns=columns, what="slippage")
    deals0, deals1 = Deals(before.frame, before.context), Deals(after.frame, after.context)
    rows = pd.Index(keys_of(after.frame), dtype=object).get_indexer(pd.Index(keys_of(before.frame), dtype=object))
    due = before.in_scope & (deals0.status == OPEN) & (deals0.close_day >= w0) & (deals0.close_day <= w1)
    status, day = pick(deals1.status, rows, TRASHED), pick(deals1.close_day, rows, NO_DAY)
    slipped = due & (status == OPEN) & (day > w1)
    won = due & (status == WON) & (day >= w0) & (day <= w1)
    codes, labels = _groups(deals0, by)
    amount = np.nan_to_num(deals0.amount)

    def count(flags: Flags) -> Any:
        return np.bincount(codes[flags], minlength=len(labels))

    def total(flags: Flags) -> Any:
        return np.bincount(codes[flags], amount[flags], minlength=len(labels))

    table = pd.DataFrame(
        {
            "due_count": count(due),
            "due_amount": total(due),
            "slipped_count": count(slipped),
            "slipped_amount": total(slipped),
            "won_count": count(won),
        },
        index=labels,
    )
    table = _without_empty_rest(table)
    table["slippage"] = divide(table["slipped_count"], table["due_count"])
    table["slippage_value"] = divide(table["slipped_amount"], table["due_amount"])
    table["not_closed_on_time"] = divide(table["due_count"] - table["won_count"], table["due_count"])
    notes += tell(((due & np.isnan(deals0.amount)).sum(), "due deal", "without an amount: counted, in no sum"))
    return slippage.result(
        table,
        after.context,
        n=len(after.frame),
        compared=[before],
        since=before.context.local_as_of.isoformat(),
        period=words,
        currency=deals0.currency,
        arguments={"by": by},
        notes=notes,
    )


@figure(definitions=PUSHES)
def pushes(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    history: Any = None,
    since: Any,
    until: Any = None,
    by: str | None = "owner_name",
) -> pd.DataFrame:
    """Count how often and how far close dates moved later.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        The deals as they are now; groups are taken from here.
    history : History
        Snapshots, from which every move of a close date is taken.
    since, until : str, date or Timestamp
        From when to when; until the newest snapshot if left out.
    by : str, optional
        A column to group by, such as ``owner_name`` or ``stage_name``.

    Returns
    -------
    DataFrame
        A row per group, or one row ``(all)``. A date that was set or deleted
        is no move.

    Examples
    --------
    >>> df.opp.pushes(history, since="2026-06-01").head(3)
                 deals  date_moves  pushes  days_pushed  pulls
    owner_name
    Dmitri Lee      14          17      10         1043      5
    Ivan García     10          11       8          659      9
    Jürgen Lee      11          15      11         1117      5
    """
    if not isinstance(history, Snapshots):
        raise HistoryNeededError(f"pushes are moves of a close date over time: pass history=. {HOW_TO_START}")
    if by is not None:
        require_one_column(by)
    log = history.diff(since, until, fields=["close_date"])
    log = log[(log["field"] == "close_date") & log["before"].notna() & log["after"].notna()]
    deals = Deals(frame, context)
    codes, labels = _groups(deals, by)
    rows = pd.Index(keys_of(frame), dtype=object).get_indexer(pd.Index(keys_of(log, unique=False), dtype=object))
    known = rows >= 0
    log, rows = log[known], rows[known]
    days = [
        local_days(pd.Series(pd.to_datetime(log[name], utc=True)).astype("datetime64[us, UTC]"), context.timezone)
        for name in ("before", "after")
    ]
    later, periods = days[1] > days[0], context.periods
    crossed = later & (periods.ordinals(days[1]) > periods.ordinals(days[0])) if len(log) else later
    group = codes[rows]

    def count(flags: Flags) -> Any:
        return np.bincount(group[flags], minlength=len(labels))

    moved = np.unique(rows[later])
    table = pd.DataFrame(
        {
            "deals": np.bincount(codes[moved], minlength=len(labels)),
            "date_moves": count(later),
            "pushes": count(crossed),
            "days_pushed": np.bincount(
                group[later], (days[1] - days[0])[later].astype(np.float64), minlength=len(labels)
            ).astype(np.int64),
            "pulls": count(days[1] < days[0]),
        },
        index=labels,
    )
    table = _without_empty_rest(table)
    return pushes.result(
        table,
        context,
        n=len(frame),
        since=str(since),
        arguments={"by": by, "since": str(since)},
        notes=tell(((~known).sum(), "move", "of deals that are not in the frame, left out")),
    )


_FLOWS = {
    "stage_from": "the stage at the start; (new) for deals that were not there",
    "stage_to": "the stage at the end; (not there any more)",
    "count": "deals",
    "amount": "their amounts at the end; of vanished deals at the start",
}


@figure(definitions=_FLOWS)
def flows(
    history: Any,
    *,
    since: Any = None,
    until: Any = None,
    context: FigureContext | tuple[FigureContext, FigureContext],
) -> pd.DataFrame:
    """Count from which stage to which the deals went between two moments: what a Sankey diagram draws.

    Parameters
    ----------
    since, until : str, date or Timestamp
        For a history: from when to when; from the first snapshot until the
        newest if left out.

    Returns
    -------
    DataFrame
        A row per pair of stages that occurs, in pipeline order. Deals closed at
        both moments stay out.

    Examples
    --------
    >>> df.opp.flows(history, since="2026-09-04").tail(3)
       stage_from   stage_to  count   amount
    15      (new)   Discover      5  75140.0
    16      (new)    Propose      3  39812.0
    17      (new)  Negotiate      2  16890.0
    """
    if since is None and isinstance(history, Snapshots) and len(history.snapshots()):
        since = history.snapshots()["observed_at"].min()
    before, after = read_states(history, [since, until], context=context, columns=STATE_COLUMNS, what="a flow of deals")
    keys0, keys1 = keys_of(before.frame), keys_of(after.frame)
    union = pd.Index(pd.unique(pd.concat([keys0, keys1], ignore_index=True)), dtype=object)
    deals0, deals1 = Deals(before.frame, before.context), Deals(after.frame, after.context)
    rows0, rows1 = (pd.Index(keys, dtype=object).get_indexer(union) for keys in (keys0, keys1))
    groups = by_stage(deals0), by_stage(deals1)
    status0, status1 = pick(deals0.status, rows0, TRASHED), pick(deals1.status, rows1, TRASHED)
    names0 = np.append(groups[0].labels.to_numpy(dtype=object), NEW)
    names1 = np.append(groups[1].labels.to_numpy(dtype=object), GONE)
    code0 = np.where(status0 == TRASHED, len(names0) - 1, pick(groups[0].codes, rows0, 0))
    code1 = np.where(status1 == TRASHED, len(names1) - 1, pick(groups[1].codes, rows1, 0))
    closed0, closed1 = np.isin(status0, [WON, LOST]), np.isin(status1, [WON, LOST])
    nowhere = (status0 == TRASHED) & (status1 == TRASHED)
    # A deal is in scope where it is at the end, or where it was last seen.
    in_scope = np.where(rows1 >= 0, pick(after.in_scope, rows1, False), pick(before.in_scope, rows0, False))
    shown = in_scope & ~(closed0 & (closed1 | (status1 == TRASHED))) & ~nowhere
    amount = np.where(status1 == TRASHED, pick(deals0.amount, rows0, np.nan), pick(deals1.amount, rows1, np.nan))
    pairs = pd.DataFrame({"from": code0[shown], "to": code1[shown], "amount": np.nan_to_num(amount[shown])})
    sums = pairs.groupby(["from", "to"]).agg(count=("amount", "size"), amount=("amount", "sum")).reset_index()
    table = pd.DataFrame(
        {
            "stage_from": pd.array(names0[sums["from"]], dtype="str"),
            "stage_to": pd.array(names1[sums["to"]], dtype="str"),
            "count": sums["count"].to_numpy(dtype=np.int64),
            "amount": sums["amount"].to_numpy(dtype=np.float64),
        }
    )
    return flows.result(
        table,
        after.context,
        n=len(after.frame),
        compared=[before],
        since=before.context.local_as_of.isoformat(),
        currency=deals1.currency or deals0.currency,
    )


def _groups(deals: Deals, by: str | None) -> tuple[SmallCodes, pd.Index]:
    if by is None:
        return np.zeros(len(deals), dtype=np.intp), pd.Index(["(all)"], dtype="str")
    if by not in deals.frame.columns and by.endswith("_name") and not deals.has(by.replace("_name", "_id")):
        raise MissingColumnError([by], list(deals.frame.columns), f"Rows without it would all stand in {UNASSIGNED}.")
    group = read_groups(deals, by)[0]
    return group.codes, group.labels


def _without_empty_rest(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rows of deals that have no group, where there is nothing in them."""
    is_rest = table.index.isin([UNASSIGNED, NO_STAGE, UNKNOWN_STAGE])
    return table[~is_rest | (table != 0).any(axis=1).to_numpy()]
