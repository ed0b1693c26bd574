"""Forecast categories: closed, commit, best case, pipeline, omitted, and who said so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import attach_basis, build_basis, money_facts, money_notes
from opp_pandas.figures.core.blocks import blocks
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import (
    CLOSED,
    NO_CATEGORY,
    OMITTED,
    OPEN,
    PIPELINE,
    WON,
    Deals,
    ProbabilitySource,
)
from opp_pandas.figures.core.money import Rates, read_rates
from opp_pandas.figures.core.periods import WeekCalendar, resolve_periods
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext

BANDS = (90.0, 60.0)
"""Without a stated category: at least this percentage is commit, best case."""


@dataclass(frozen=True, eq=False)
class SettledCategories:
    """The forecast category of every deal.

    Parameters
    ----------
    codes : ndarray of int8, shape (n,)
        Position in `opp_pandas.stages.CATEGORIES`; -1 for lost deals and those outside.
    origins : dict of str to int
        Open deals by who said it: ``stated`` (column or stage map) or ``bands``.
    """

    codes: npt.NDArray[np.int8]
    origins: dict[str, int]


def resolve_categories(deals: Deals, bands: tuple[float, float] = BANDS) -> SettledCategories:
    """Settle the forecast category of every deal.

    Won deals are closed. An open deal takes the stated category; where nobody
    stated one, or somebody called an open deal closed, its probability decides:
    at least ``bands[0]`` percent is commit, ``bands[1]`` best case, all else
    pipeline, 0 percent and a missing percentage included.

    Parameters
    ----------
    deals : Deals
        The deals.
    bands : tuple of float, default (90, 60)
        Lowest percentage of commit and of best case [percent].

    Returns
    -------
    SettledCategories

    Raises
    ------
    ConfigurationError
        If the bands do not fall from 100 to 0.
    """
    commit, best_case = bands
    if not 100 >= commit >= best_case > 0:
        raise ConfigurationError(
            f"bands are percentages for commit and best case, falling, such as {BANDS}, not {bands}"
        )
    stated = deals.stated_category
    is_open = deals.status == OPEN
    # One-byte arithmetic: numpy chooses between single values far more slowly.
    codes = np.int8(NO_CATEGORY) + np.int8(CLOSED - NO_CATEGORY) * (deals.status == WON).view(np.int8)
    settled = np.zeros(len(deals), dtype=bool)
    if stated is not None:
        settled = is_open & (stated != NO_CATEGORY) & (stated != CLOSED)
        codes += settled.view(np.int8) * (stated - np.int8(NO_CATEGORY))
    n_stated, n_open = int(np.count_nonzero(settled)), int(np.count_nonzero(is_open))
    if n_stated < n_open:
        for rows in blocks(len(deals)):
            percent = deals.percents[rows]
            # Pipeline, best case and commit are 3, 2 and 1: each band that is reached takes one off.
            banded = np.int8(PIPELINE) - (percent >= best_case).view(np.int8) - (percent >= commit).view(np.int8)
            codes[rows] += (is_open[rows] & ~settled[rows]).view(np.int8) * (banded - np.int8(NO_CATEGORY))
    return SettledCategories(codes, {"stated": n_stated, "bands": n_open - n_stated})


def category_forecast(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    freq: str = "Q",
    by: str | Sequence[str] | None = None,
    fiscal_start: int = 1,
    fiscal_label: Literal["end", "start"] = "end",
    calendar: WeekCalendar | None = None,
    bands: tuple[float, float] = BANDS,
    probability: ProbabilitySource = "own",
    category: str = "forecast_category",
    category_names: Mapping[str, str] | None = None,
    rates: Rates | None = None,
) -> pd.DataFrame:
    """Sum the deals by period and forecast category, each alone and added up.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or ``stage_name``.
    context : FigureContext
        Stages, moment, time zone, names.
    freq, fiscal_start, fiscal_label, calendar, probability, category_names, rates
        As in `forecast`.
    by : str or sequence of str, optional
        Columns to group by, between period and category.
    bands : tuple of float, default (90, 60)
        Lowest percentage of commit and of best case, for deals whose category
        nobody stated [percent].
    category : str, default "forecast_category"
        Column that states the category; may be a custom field.

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
    from opp_pandas.figures.core.groups import split
    from opp_pandas.figures.forecasts import IGNORED, kinds_of, place_deals

    deals = Deals(frame, context, probability, category, category_names, read_rates(rates))
    periods = resolve_periods(freq, fiscal_start=fiscal_start, fiscal_label=fiscal_label, calendar=calendar)
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
            "freq": freq,
            "cut": periods.to_dict(),
            "by": by,
            "bands": list(bands),
            "probability": probability,
            "category": category,
            "category_names": None if category_names is None else dict(category_names),
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
