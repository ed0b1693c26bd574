"""Forecast categories: closed, commit, best case, pipeline, omitted, and who said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas.figures.core.basis import attach_basis, build_basis, money_facts, money_notes
from opp_pandas.figures.core.categories import BANDS, resolve_categories
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import (
    CLOSED,
    OMITTED,
    OPEN,
    Deals,
)
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import read_groups, split
from opp_pandas.figures.core.lineage import Question, Trace, in_groups
from opp_pandas.figures.forecasts import IGNORED, kinds_of, place_deals
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext


@figure(heading="Forecast by category")
def category_forecast(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    bands: tuple[float, float] = BANDS,
) -> pd.DataFrame:
    """Sum the deals by period and forecast category, each alone and added up.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or ``stage_name``.
    context : FigureContext
        Stages, moment, time zone, names.
    by : str or sequence of str, optional
        Columns to group by, between period and category.
    bands : tuple of float, default (90, 60)
        Lowest percentage of commit and of best case, for deals whose category
        nobody stated [percent].

    Returns
    -------
    DataFrame
        Indexed by ``period``, `by` and ``category`` (closed, commit, best_case,
        pipeline, omitted, always all five): ``count`` [deals], ``amount``
        (each alone), ``cumulative_amount`` (closed, + commit, + best case, +
        pipeline; missing for omitted) and ``weighted_amount`` (open deals)
        [currency]. Overdue deals stand in their own period. The basis says how
        many open deals have a stated category and how many a band.
    """
    deals = Deals(frame, context)
    periods = context.periods.cut
    settled = resolve_categories(deals, bands)
    cells = place_deals(deals, periods, by)
    inside = kinds_of(deals) != IGNORED
    width = len(CATEGORIES)
    code = (cells.cell() * width + settled.codes)[inside]
    places, ids = pd.factorize(code // width, sort=True)
    bins = places * width + code % width
    amount, percent = deals.amount[inside], deals.percent[inside]
    known = np.nan_to_num(amount)
    product = np.nan_to_num(amount * percent)
    product[(settled.codes[inside] == CLOSED) | (settled.codes[inside] == OMITTED)] = 0.0
    size = len(ids) * width
    alone = np.bincount(bins, known, minlength=size).astype(np.float64).reshape(-1, width)
    added = alone.cumsum(axis=1)
    added[:, OMITTED] = np.nan
    parts = split(ids % cells.n_groups, cells.groups)
    labels = periods.labels(cells.ordinals, missing=True)
    levels = [labels[ids // cells.n_groups], *(g.labels[part] for g, part in zip(cells.groups, parts, strict=True))]
    index = pd.MultiIndex.from_arrays(
        [*(level.repeat(width) for level in levels), pd.Index(list(CATEGORIES) * len(ids), dtype="str")],
        names=["period", *(group.name for group in cells.groups), "category"],
    )
    table = pd.DataFrame(
        {
            "count": np.bincount(bins, minlength=size).astype(np.int64),
            "amount": alone.ravel(),
            "cumulative_amount": added.ravel(),
            "weighted_amount": np.bincount(bins, product, minlength=size).astype(np.float64) / 100.0,
        },
        index=index,
    )
    money = money_facts(deals)
    origin = settled.origins
    overdue = int(((deals.status == OPEN) & (deals.close_day < context.today) & (deals.close_day != NO_DAY)).sum())
    basis = build_basis(
        "category_forecast",
        deals,
        dated=True,
        **money,
        origins=origin,
        n_overdue=overdue,
        arguments={
            "by": by,
            "bands": list(bands),
        },
        definitions={
            "count": "open and won deals of the category, by their close date",
            "amount": "deals of the category alone (individual)",
            "cumulative_amount": "closed + commit + best case + pipeline, up to the category (cumulative)",
            "weighted_amount": "amounts x probability of open deals",
        },
        notes=[
            f"category of open deals: {origin['stated']:,} stated, {origin['bands']:,} from probability bands",
            f"bands: commit from {bands[0]:g} %, best case from {bands[1]:g} %",
            *money_notes(money, deals),
        ],
    )
    return attach_basis(table, basis)


@category_forecast.rows
def rows_of_category_forecast(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    deals, arguments, (label, *names, category) = ask.deals, ask.arguments, ask.parts
    inside = ask.within(label) if not pd.isna(label) else deals.close_day == NO_DAY
    group = in_groups(read_groups(deals, arguments["by"]), deals, names)
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
