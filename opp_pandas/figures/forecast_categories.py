"""Forecast categories: closed, commit, best case, pipeline, omitted, and who said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas.figures.core.basis import Facts
from opp_pandas.figures.core.blocks import number_codes
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import CLOSED, OMITTED, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import BANDS, category_axis, index_from, read_axes, resolve_categories
from opp_pandas.figures.core.totals import Term
from opp_pandas.figures.forecasts import IGNORED, PeriodRows, kinds_of, tally_by_period
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.totals import Part


def _gather(deals: Deals, by: str | Sequence[str] | None = None, bands: tuple[float, float] = BANDS) -> Part:
    codes, origins = resolve_categories(deals, bands)
    facts = Facts.of(deals, money=True, later=True, more=origins)
    return {"facts": facts, "cells": tally_by_period(deals, [*read_axes(deals, by), (category_axis(), codes)])}


DEFINITIONS = {
    "count": "open and won deals of the category, by their close date",
    "amount": "deals of the category alone (individual)",
    "cumulative_amount": "closed + commit + best case + pipeline, up to the category (cumulative); missing for omitted",
    "weighted_amount": "amounts x probability of open deals",
}


@figure(heading="Forecast by category", definitions=DEFINITIONS, gather=_gather)
def category_forecast(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    bands: tuple[float, float] = BANDS,
) -> pd.DataFrame:
    """Sum the deals by period and forecast category, each alone and added up.

    Parameters
    ----------
    bands : tuple of float, default (90, 60)
        Lowest percentage of commit and of best case, for deals whose category
        nobody stated [percent].

    Returns
    -------
    DataFrame
        Indexed by ``period``, `by` and ``category`` (closed, commit, best_case,
        pipeline, omitted, always all five). Overdue deals stand in their own
        period. The basis says how many open deals have a stated category and
        how many a band.

    Examples
    --------
    >>> df.opp.category_forecast().loc["2026Q4"]
               count     amount  cumulative_amount  weighted_amount
    category
    closed         5   86785.38           86785.38           0.0000
    commit         7  112369.82          199155.20       91351.7250
    best_case      7   85917.00          285072.20       45464.9000
    pipeline       5   97991.23          383063.43       25454.4345
    omitted        0       0.00                NaN           0.0000
    """
    cells, facts, width = part["cells"], part["facts"], len(CATEGORIES)
    # The last axis has a place for deals without a category, before the others; none of these is open or won.
    rows, row = PeriodRows.of(replace(cells, axes=cells.axes[:-1], places=cells.places[:-1]), context)
    category = cells.places[-1] - 1
    ids, place = number_codes(row, (len(rows.ordinals) + 1) * rows.n_groups)
    bins, size = place * width + category, len(ids) * width
    alone = cells.add("amount", bins, size).reshape(-1, width)
    added = alone.cumsum(axis=1).astype(np.float64)
    added[:, OMITTED] = np.nan
    names = pd.Index(list(CATEGORIES), dtype="str", name="category")
    levels = [(labels, places.repeat(width)) for labels, places in rows.levels(ids)]
    index = index_from([*levels, (names, np.tile(np.arange(width), len(ids)))])
    is_open = (category != CLOSED) & (category != OMITTED)
    table = pd.DataFrame(
        {
            "count": cells.add("count", bins, size),
            "amount": alone.ravel(),
            "cumulative_amount": added.ravel(),
            "weighted_amount": cells.add("weighted", bins, size, is_open),
        },
        index=index,
    )
    origin = {name: facts.counts[name] for name in ("stated", "bands")}
    return category_forecast.result(
        table,
        context,
        facts,
        origins=origin,
        n_overdue=facts.counts["overdue"],
        arguments={"by": by, "bands": list(bands)},
        notes=[
            f"category of open deals: {origin['stated']:,} stated, {origin['bands']:,} from probability bands",
            f"bands: commit from {bands[0]:g} %, best case from {bands[1]:g} %",
        ],
    )


@category_forecast.rows
def _rows_of_category_forecast(ask: Question) -> Trace:
    deals, (label, *names, category) = ask.deals, ask.parts
    inside = ask.within(label) if not pd.isna(label) else deals.close_day == NO_DAY
    here = inside & ask.in_groups(names) & (kinds_of(deals) != IGNORED)
    commit, best_case = ask.arguments["bands"]
    codes, _ = resolve_categories(deals, (commit, best_case))
    wanted = CATEGORIES.index(category)
    terms = {
        "count": Term("count", (wanted,)),
        "amount": Term("amount", (wanted,)),
        "weighted_amount": Term("weighted", (wanted,) if wanted not in (CLOSED, OMITTED) else ()),
        "cumulative_amount": Term("amount", tuple(range(wanted + 1)) if wanted != OMITTED else ()),
    }
    rows, values = terms[ask.column].rows(deals, codes)
    return rows & here, values
