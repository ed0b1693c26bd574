"""Where the pipeline stands by stage.

One load knows only the present stage of each deal. What is drawn from it is a
stage distribution, whatever it is called; how many deals ever reached a stage
needs snapshots over time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas.analytics.basis import attach_basis, basis_of, build_basis, counted, money_facts, money_notes
from opp_pandas.analytics.days import local_days, parse_day
from opp_pandas.analytics.deals import TRASHED, Deals, ProbabilitySource
from opp_pandas.analytics.groups import NO_STAGE, UNKNOWN_STAGE, by_stage, combine, index_of, read_groups
from opp_pandas.analytics.money import Rates, read_rates
from opp_pandas.analytics.rates import divide
from opp_pandas.errors import ConfigurationError, FrameError, HistoryNeededError, MissingColumnError

if TYPE_CHECKING:
    from opp_pandas.analytics.context import FigureContext
    from opp_pandas.analytics.days import Codes, Flags, Floats, Integers

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
    return _distribution("stage_distribution", deals, by)[0]


def _distribution(figure: str, deals: Deals, by: str | Sequence[str] | None) -> tuple[pd.DataFrame, Codes]:
    """Give the table and the combined code (groups, stage) of each of its rows."""
    stage = by_stage(deals)
    groups = [*read_groups(deals, by), stage]
    cells, size = combine(groups, len(deals))
    status, amount, percent = deals.status, deals.amount, deals.percent
    # Trashed deals fall into a bin past the end.
    if (status == TRASHED).any():
        cells = np.where(status == TRASHED, size, cells)
    no_amount, no_percent = np.isnan(amount), np.isnan(percent)
    known = np.where(no_amount, 0.0, amount) if no_amount.any() else amount
    if deals.omitted is not None:
        known = np.where(deals.omitted, 0.0, known)
    product = known * (np.where(no_percent, 0.0, percent) if no_percent.any() else percent)
    # The stage settles which cells are open; deals without a stage are open, in an unknown one not.
    is_open = np.tile([*(deals.context.stages.status == "open"), False, True], size // len(stage.labels))
    table = pd.DataFrame(
        {
            "count": np.bincount(cells, minlength=size)[:size].astype(np.int64),
            "amount": np.bincount(cells, known, minlength=size)[:size].astype(np.float64),
            "weighted_amount": np.where(is_open, np.bincount(cells, product, minlength=size)[:size] / 100.0, 0.0),
            "missing_amount_count": np.bincount(cells[no_amount], minlength=size)[:size].astype(np.int64),
        }
    )
    kept = _rows_to_show(table["count"].to_numpy(), stage.labels, size)
    table = table.iloc[kept]
    table.index = index_of(kept, groups)
    facts = money_facts(deals)
    arguments = {
        "by": by,
        "probability": deals.probability,
        "category": deals.category,
        "category_names": None if deals.category_names is None else dict(deals.category_names),
    }
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
    return attach_basis(table, basis), kept


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
    history: pd.DataFrame | None = None,
    cohort: tuple[str, str] | None = None,
    step_conversion: bool = False,
    probability: ProbabilitySource = "own",
    category: str = "forecast_category",
    category_names: Mapping[str, str] | None = None,
    rates: Rates | None = None,
) -> pd.DataFrame:
    """Give the funnel: how many deals ever reached each stage; without history, where they stand now.

    Parameters
    ----------
    frame, context, by, probability, category, category_names, rates
        As in `stage_distribution`.
    history : DataFrame, optional
        Which stages the deals entered: ``id``, ``stage_id`` or ``stage_name``,
        and ``entered_at`` [instant, UTC], a row per entry. Left out: the result
        is the stage distribution, and basis and title say so.
    cohort : tuple of day, optional
        Only deals whose first known entry lies between these days, both
        included; needs a history.
    step_conversion : bool, default False
        Insist on the share of deals that went on from stage to stage: without
        a history this raises.

    Returns
    -------
    DataFrame
        As from `stage_distribution`; with a history also ``reached`` [deals],
        ``step_conversion`` (reached / reached the stage before, missing in the
        first row) and ``overall_conversion`` (reached / reached the first)
        [share]. A deal reached every stage up to the furthest one it was ever
        seen in; a stage entered twice counts once. The last step is won; stages
        that mean lost have no conversion.

    Raises
    ------
    HistoryNeededError
        If `cohort` or `step_conversion` asks for what only snapshots over time know.
    MissingColumnError
        If the history lacks a column.
    """
    if history is None and (cohort is not None or step_conversion):
        asked = "a cohort" if cohort is not None else "step conversion"
        raise HistoryNeededError(
            f"{asked} needs to know which stages each deal passed and when, and one load knows the present stage only; "
            "pass history= with a row per stage that a deal entered (id, stage_id, entered_at)"
        )
    deals = Deals(frame, context, probability, category, category_names, read_rates(rates))
    if history is None:
        return _distribution("funnel", deals, by)[0]
    return _reached(deals, history, by, cohort)


def _reached(
    deals: Deals, history: pd.DataFrame, by: str | Sequence[str] | None, cohort: tuple[str, str] | None
) -> pd.DataFrame:
    table, cells = _distribution("funnel", deals, by)
    deals.need("id", hint="A history is joined by id.")
    stages = deals.context.stages.frame
    status = stages["status"].to_numpy(dtype=object)
    # Steps are the open stages in order and then won; two won stages are one step.
    n_open = int((status == "open").sum())
    step_of = np.full(len(stages) + 2, -1, dtype=np.intp)
    step_of[: len(stages)][status == "open"] = np.arange(n_open)
    step_of[: len(stages)][status == "won"] = n_open
    entries, rows = _entries(deals, history)
    furthest = step_of[deals.stage]
    np.maximum.at(furthest, rows, step_of[entries.stage])
    counted_in = (deals.status != TRASHED) & (furthest >= 0)
    if cohort is not None:
        counted_in &= _in_cohort(deals, entries, rows, cohort)
    groups = read_groups(deals, by)
    within, size = combine(groups, len(deals))
    width = n_open + 1
    at = np.bincount((within * width + furthest)[counted_in], minlength=size * width).reshape(size, width)
    reached = at[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
    before = np.concatenate([np.full((size, 1), np.nan), reached[:, :-1]], axis=1)
    # The two rows past the stages (none, unknown) have no step: their places in step_of hold -1.
    step, group = step_of[cells % (len(stages) + 2)], cells // (len(stages) + 2)
    known = step >= 0

    def pick(values: Floats) -> Floats:
        return np.where(known, values[group, np.maximum(step, 0)], np.nan)

    count = pick(reached)
    result = table.assign(
        reached=pd.array(np.where(np.isnan(count), 0, count), dtype="Int64"),
        step_conversion=divide(count, pick(before)),
        overall_conversion=divide(count, np.where(known, reached[group, 0], np.nan)),
    )
    result.loc[~known, "reached"] = pd.NA
    basis = basis_of(table)
    left = int(((deals.status != TRASHED) & (furthest < 0)).sum())
    notes = [note for note in basis["notes"] if "stage distribution" not in note]
    if left:
        notes.append(f"{counted(left, 'deal')} never seen in an open or won stage: in no conversion")
    basis |= {
        "title": "Funnel",
        "history": "events",
        "n_history": len(history),
        "n_unknown_path": left,
        "arguments": {**basis["arguments"], "cohort": None if cohort is None else [str(day) for day in cohort]},
        "definitions": {**basis["definitions"], **_REACHED},
        "notes": notes,
    }
    return attach_basis(result, basis)


_REACHED = {
    "reached": "deals ever seen in this stage or a later one, won last; each once",
    "step_conversion": "reached / reached the stage before",
    "overall_conversion": "reached / reached the first stage",
}


def _entries(deals: Deals, history: pd.DataFrame) -> tuple[Deals, Codes]:
    """Give the entries of deals in the frame, and the row of each entry's deal."""
    missing = [name for name in ("id", "entered_at") if name not in history.columns]
    if not {"stage_id", "stage_name"} & set(history.columns):
        missing.append("stage_id")
    if missing:
        raise MissingColumnError(missing, list(history.columns), "A history has id, stage_id and entered_at.")
    index = pd.Index(deals.frame["id"])
    if index[index.notna()].has_duplicates:
        raise FrameError("one id stands twice, so a history cannot be joined; see frame['id'].duplicated()")
    rows = index.get_indexer(pd.Index(history["id"].astype(index.dtype)))
    known = (rows >= 0) & history["id"].notna().to_numpy()
    before = local_days(history["entered_at"], deals.context.timezone) <= deals.context.today
    kept = history[known & before]
    return Deals(kept, deals.context), rows[known & before]


def _in_cohort(deals: Deals, entries: Deals, rows: Codes, cohort: tuple[str, str]) -> Flags:
    first, last = parse_day(cohort[0]), parse_day(cohort[1])
    if first > last:
        raise ConfigurationError(f"cohort ends before it begins: {cohort[0]} to {cohort[1]}")
    entered = np.full(len(deals), np.iinfo(np.int32).max, dtype=np.int32)
    np.minimum.at(entered, rows, local_days(entries.frame["entered_at"], deals.context.timezone))
    inside: Flags = (entered >= first) & (entered <= last)
    return inside
