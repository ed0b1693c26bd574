"""Where the pipeline stands by stage.

One load knows only the present stage of each deal. What is drawn from it is a
stage distribution, whatever it is called; how many deals ever reached a stage
needs snapshots over time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.analytics.basis import attach_basis, build_basis, money_facts, money_notes
from opp_pandas.analytics.days import Codes, Flags, Integers
from opp_pandas.analytics.deals import OPEN, TRASHED, Deals, ProbabilitySource
from opp_pandas.analytics.groups import NO_STAGE, UNKNOWN_STAGE, by_stage, combine, index_of, read_groups
from opp_pandas.analytics.money import Rates, read_rates
from opp_pandas.errors import HistoryNeededError

if TYPE_CHECKING:
    from opp_pandas.analytics.context import FigureContext

DEFINITIONS = {
    "count": "deals in the stage now",
    "amount": "their amounts; open deals omitted from the forecast left out",
    "weighted_amount": "amounts x probability of the open ones; 0 in closed stages",
    "missing_amount_count": "deals without an amount: counted, in no sum",
}


def stage_distribution(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    probability: ProbabilitySource = "own",
    category: str = "forecast_category",
    category_names: Mapping[str, str] | None = None,
    rates: Rates | None = None,
) -> pd.DataFrame:
    """Count and sum the deals by the stage in which they stand now.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount`` and ``stage_id`` or ``stage_name``.
    context : FigureContext
        Stages, moment, time zone, names.
    by : str or sequence of str, optional
        Columns to group by, outside the stage.
    probability, category, category_names, rates
        As in `forecast`.

    Returns
    -------
    DataFrame, shape (s, 4)
        Indexed by `by` and ``stage_name``: every stage in pipeline order, open
        ones first, then won and lost; empty ones too. Deals without a stage, or
        in one that is not in the table, stand in rows of their own.
        ``count, missing_amount_count`` [deals], ``amount, weighted_amount``
        [currency]. Trashed deals are left out.

    Raises
    ------
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    """
    deals = Deals(frame, context, probability, category, category_names, read_rates(rates))
    return _distribution("stage_distribution", deals, by)


def _distribution(figure: str, deals: Deals, by: str | Sequence[str] | None) -> pd.DataFrame:
    stage = by_stage(deals)
    groups = [*read_groups(deals, by), stage]
    cells, size = combine(groups, len(deals))
    status, amount, percent = deals.status, deals.amount, deals.percent
    # Trashed deals fall into a bin past the end.
    if (status == TRASHED).any():
        cells = np.where(status == TRASHED, size, cells)
    no_amount = np.isnan(amount)
    known = np.where(no_amount, 0.0, amount) if no_amount.any() else amount
    if deals.omitted is not None:
        known = np.where(deals.omitted, 0.0, known)
    product = np.where((status == OPEN) & ~np.isnan(percent), known * percent, 0.0)
    table = pd.DataFrame(
        {
            "count": np.bincount(cells, minlength=size)[:size].astype(np.int64),
            "amount": np.bincount(cells, known, minlength=size)[:size].astype(np.float64),
            "weighted_amount": np.bincount(cells, product, minlength=size)[:size] / 100.0,
            "missing_amount_count": np.bincount(cells[no_amount], minlength=size)[:size].astype(np.int64),
        }
    )
    kept = _rows_to_show(table["count"].to_numpy(), stage.labels, size)
    table = table.iloc[kept]
    table.index = index_of(kept, groups)
    facts = money_facts(deals)
    arguments = {"by": by, "probability": deals.probability, "category": deals.category}
    basis = build_basis(
        figure,
        deals,
        **facts,
        title="Stage distribution",
        arguments=arguments,
        definitions=DEFINITIONS,
        notes=[
            "drawn from the present stage of each deal: a stage distribution, not a conversion funnel",
            *money_notes(facts, deals),
        ],
    )
    return attach_basis(table, basis)


def _rows_to_show(count: Integers, labels: pd.Index, size: int) -> Codes:
    """Keep every stage of every group that occurs, and deals without a known stage only where there are some."""
    width = len(labels)
    ids = np.arange(size)
    in_group: Flags = np.asarray(count.reshape(-1, width).any(axis=1))
    if size == width:
        in_group[:] = True
    extra = np.isin(np.asarray(labels, dtype=object), [UNKNOWN_STAGE, NO_STAGE])[ids % width]
    return np.flatnonzero(in_group[ids // width] & (~extra | (count > 0)))


def funnel(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    history: object = None,
    cohort: object = None,
    step_conversion: bool = False,
    probability: ProbabilitySource = "own",
    category: str = "forecast_category",
    category_names: Mapping[str, str] | None = None,
    rates: Rates | None = None,
) -> pd.DataFrame:
    """Give the funnel that one load can honestly give: the stage distribution.

    Parameters
    ----------
    frame, context, by, probability, category, category_names, rates
        As in `stage_distribution`.
    history : object, optional
        Reserved for snapshots over time; None: the present only.
    cohort : object, optional
        Deals that entered in one span of time; needs a history.
    step_conversion : bool, default False
        Share of deals that went on from stage to stage; needs a history.

    Returns
    -------
    DataFrame
        As from `stage_distribution`; basis and title say so.

    Raises
    ------
    HistoryNeededError
        If `cohort` or `step_conversion` asks for what only snapshots over time know.
    """
    if cohort is not None or step_conversion:
        asked = "a cohort" if cohort is not None else "step conversion"
        raise HistoryNeededError(
            f"{asked} needs to know which stages each deal passed and when, and one load knows the present stage only; "
            "record snapshots with opp.History(path).record(df) and pass history="
        )
    deals = Deals(frame, context, probability, category, category_names, read_rates(rates))
    return _distribution("funnel", deals, by)
