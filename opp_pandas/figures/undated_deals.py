"""Open deals without a close date: in no period, so in no forecast of one.

The file is the whole of the figure: what it computes, how each column is
defined, which deals are behind a number, how it is drawn and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.figures.core.basis import Facts, counted, known_basis
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import LEFT_OUT, OPEN, STANDINGS, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import index_of, read_axes
from opp_pandas.figures.core.totals import Term, tally

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.lineage import Question, Trace

_DEFINITIONS = {
    "count": "open deals without a close date",
    "amount": "their amounts, omitted ones left out",
    "weighted_amount": "their amounts x probability, omitted ones left out",
}


@figure(heading="Open deals without a close date", definitions=_DEFINITIONS)
def undated(frame: pd.DataFrame, *, context: FigureContext, by: str | Sequence[str] = "owner_name") -> pd.DataFrame:
    """Count and sum the open deals that have no close date.

    Returns
    -------
    DataFrame
        A row per group that has such a deal, largest amount first. None: no
        rows.

    Examples
    --------
    >>> df.opp.undated()
    Open deals without a close date, as of 2026-11-02, amounts in USD
               count  amount weighted_amount
    owner_name
    Sam Novak      1  45,110          33,832
    """
    deals = Deals(frame, context)
    undated_slots = deals.close.days == NO_DAY
    layers = np.full((STANDINGS, len(undated_slots)), -1)
    layers[np.ix_([OPEN, LEFT_OUT], undated_slots)] = [[0], [1]]
    # Omitted deals are counted and not summed.
    cells = tally(deals, read_axes(deals, by), ["summed", "omitted"], layers)
    groups, row, size = cells.rows(context)
    summed = cells.of_layers(lambda layer: layer == "summed")
    table = pd.DataFrame(
        {
            "count": cells.add("count", row, size),
            "amount": cells.add("amount", row, size, summed),
            "weighted_amount": cells.add("weighted", row, size, summed),
        }
    )
    order = np.argsort(-table["amount"].to_numpy(), kind="stable")
    kept = order[table["count"].to_numpy()[order] > 0]
    table = table.iloc[kept].set_axis(index_of(kept, groups))
    return undated.result(table, context, Facts.of(deals, money=True), arguments={"by": by})


_BEHIND = {
    "count": Term("count", (OPEN, LEFT_OUT)),
    "amount": Term("amount", (OPEN,)),
    "weighted_amount": Term("weighted", (OPEN,)),
}


@undated.rows
def _rows_of_undated(ask: Question) -> Trace:
    deals = ask.deals
    rows, values = _BEHIND[ask.column].rows(deals, deals.standing)
    return rows & ask.in_groups(ask.parts) & (deals.close_day == NO_DAY), values


def undated_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what the plot of `undated` shows."""
    if not len(table):
        return "Every open deal has a close date: 0 deals to show."
    currency = known_basis(table).get("currency") or ""
    worth = f"{table['amount'].sum():,.0f} {currency}".rstrip()
    return f"{counted(table['count'].sum(), 'deal')} worth {worth}, most with {table.index[0]}."


@undated.plot(undated_in_words)
def draw_undated(table: pd.DataFrame, ax: Any = None, *, kit: Any, max_groups: int = 12) -> Any:
    """Draw the amounts without a close date, largest first.

    Parameters
    ----------
    max_groups : int, default 12
        Groups drawn.

    Examples
    --------
    >>> ax = df.opp.plot.undated()
    """
    if not len(table):
        return kit.draw_nothing(ax, "every open deal has a close date")
    shown = table.iloc[:max_groups]
    bars = ax.barh(np.arange(len(shown)), shown["amount"], 0.66, color=kit.BLUE)
    kit.name_rows(ax, kit.row_names(shown, "all deals"), room_for=max_groups // 2)
    ax.bar_label(bars, [f"{count:,}" for count in shown["count"]], padding=4, color=kit.look_of(ax).notes)
    kit.format_money(ax.xaxis, float(shown["amount"].abs().max()), table, note="(at the bars: deals)")
    return ax
