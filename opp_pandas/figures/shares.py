"""How much of the pipeline, or of what was won, hangs on few accounts, owners or deals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import Facts
from opp_pandas.figures.core.deals import OPEN, STANDINGS, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import index_of, read_axes
from opp_pandas.figures.core.totals import Quantity, Term, tally
from opp_pandas.figures.proportions import divide

if TYPE_CHECKING:
    from opp_pandas.choices import Measure
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.totals import Part


def _gather_concentration(
    deals: Deals, by: str | Sequence[str] = "account_name", measure: Measure = "open_amount"
) -> Part:
    if measure not in _SHARED:
        raise ConfigurationError(f"measure must be {', '.join(_SHARED)}, not {measure!r}")
    table = np.full(STANDINGS, -1)
    table[_SHARED[measure][0]] = 0
    facts = Facts.of(deals, money=True)
    return {"facts": facts, "cells": tally(deals, read_axes(deals, by), [measure], table)}


_SHARED: dict[str, tuple[int, Quantity]] = {
    "open_amount": (OPEN, "amount"),
    "weighted_amount": (OPEN, "weighted"),
    "won_amount": (WON, "amount"),
}
"""Measure -> the standing of the deals, and what is summed."""


_CONCENTRATION = {
    "count": "open deals, or won ones, that are not omitted",
    "amount": "what is measured, of the group",
    "share": "amount / the amount of all groups",
    "cumulative_share": "part of this group and the larger ones",
    "hhi": "sum of squared shares",
}


@figure(definitions=_CONCENTRATION, gather=_gather_concentration)
def concentration(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] = "account_name",
    measure: Measure = "open_amount",
    top: Sequence[int] = (1, 5, 10),
) -> pd.DataFrame:
    """Measure how much of the pipeline depends on few accounts, owners or deals.

    Parameters
    ----------
    by : str or sequence of str, default "account_name"
        What the pipeline may hang on.
    measure : {"open_amount", "weighted_amount", "won_amount"}, default "open_amount"
        What is shared out.
    top : sequence of int, default (1, 5, 10)
        For the shares of the largest groups in the basis.

    Returns
    -------
    DataFrame
        A row per group, largest first. The basis holds ``hhi`` (1 / groups to
        1) and ``top_shares``. Negative sums have a share of 0; shares
        are missing where no sum is positive.

    Examples
    --------
    >>> df.opp.concentration(by="owner_name").head(3)
                           count     amount     share  cumulative_share
    owner_name
    Sam Novak                 18  391144.05  0.324520          0.324520
    Jürgen O'Brien (id 6)     10  265291.00  0.220104          0.544624
    Jürgen Lee                12  207441.00  0.172107          0.716732
    """
    cells = part["cells"]
    groups, row, size = cells.rows(context)
    amount, count = (cells.add(name, row, size) for name in (_SHARED[measure][1], "count"))
    positive = np.maximum(amount, 0)
    order = np.argsort(-amount, kind="stable")
    order = order[count[order] > 0]
    share = divide(positive[order], positive.sum())
    table = pd.DataFrame(
        {"count": count[order], "amount": amount[order], "share": share, "cumulative_share": np.cumsum(share)},
        index=index_of(order, groups),
    )
    hhi = float(np.sum(share**2)) if len(share) and not np.isnan(share).any() else None
    shares = {str(n): float(share[:n].sum()) for n in top if len(share) and not np.isnan(share).any()}
    return concentration.result(
        table,
        context,
        part["facts"],
        hhi=hhi,
        top_shares=shares,
        arguments={"by": by, "measure": measure, "top": list(top)},
        definitions=_CONCENTRATION | {"amount": f"{measure} of the group", "share": f"part of all {measure}"},
        notes=[f"the largest {n} hold {value:.1%}" for n, value in shares.items()],
    )


@concentration.rows
def _rows_of_concentration(ask: Question) -> Trace:
    deals, measure = ask.deals, ask.arguments["measure"]
    standing, quantity = _SHARED[measure]
    known, values = Term(quantity, (standing,)).rows(deals, deals.standing)
    if ask.column in ("hhi", "cumulative_share"):
        # Both stand on every group.
        return known, None
    here = ask.in_groups(ask.parts)
    if ask.column == "count":
        return (deals.standing == standing) & here, np.ones(len(deals))
    return known & here, values if ask.column == "amount" else None
