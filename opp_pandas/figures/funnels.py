"""Where the pipeline stands by stage.

One load knows only the present stage of each deal. What is drawn from it is a
stage distribution, whatever it is called; how many deals ever reached a stage
needs snapshots over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, HistoryNeededError
from opp_pandas.figures.core.basis import Facts, attach_basis, basis_of, tell
from opp_pandas.figures.core.days import local_days, parse_day
from opp_pandas.figures.core.deals import (
    LEFT_OUT,
    LOST,
    OPEN,
    STANDINGS,
    TRASHED,
    UNSETTLED,
    WON,
    Deals,
    suppress_unmapped_stages,
)
from opp_pandas.figures.core.figure import Figure, figure
from opp_pandas.figures.core.groups import (
    NO_STAGE,
    UNKNOWN_STAGE,
    by_stage,
    combine,
    index_of,
    read_axes,
    read_groups,
    stage_axis,
)
from opp_pandas.figures.core.lineage import Question, Trace, in_groups
from opp_pandas.figures.core.snapshots import HOW_TO_START, Snapshots, keys_of, vanished_deals
from opp_pandas.figures.core.totals import Term, tally
from opp_pandas.figures.proportions import divide
from opp_pandas.figures.time_in_stage import read_entries

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Days, Flags, Floats
    from opp_pandas.figures.core.totals import Part

DEFINITIONS = {
    "count": "deals in the stage now",
    "amount": "amounts of these deals; open ones omitted from the forecast left out",
    "weighted_amount": "amounts x probability of the open ones; 0 in closed stages",
    "missing_amount_count": "deals without an amount: counted, in no sum",
}
_REACHED = {
    "reached": "deals ever seen in this stage or a later one, won last; each once",
    "step_conversion": "reached / reached the stage before",
    "overall_conversion": "reached / reached the first stage",
    "reached_amount": "present amounts of the deals in reached",
    "step_conversion_amount": "reached_amount / reached_amount of the stage before",
    "overall_conversion_amount": "reached_amount / reached_amount of the first stage",
    "lost_count": "deals whose furthest stage this is, lost now",
    "still_count": "deals whose furthest stage this is, open now",
    "left_count": "deals whose furthest stage this is, deleted while open or now in none that means anything",
    "back_count": "deals that were in this stage and later in an earlier open one; each once",
}


def _gather(deals: Deals, by: str | Sequence[str] | None = None) -> Part:
    cells = tally(deals, [*read_axes(deals, by), stage_axis(deals)], range(STANDINGS), np.arange(STANDINGS))
    return {"facts": Facts.of(deals, money=True, cells=cells), "cells": cells}


@figure(definitions=DEFINITIONS, gather=_gather)
def stage_distribution(
    part: Part,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Count and sum the deals by the stage in which they stand now.

    Returns
    -------
    DataFrame, shape (s, 4)
        Indexed by `by` and ``stage_name``: every stage in pipeline order, open
        ones first, then won and lost; empty ones too. Deals without a stage, or
        in one that is not in the table, stand in rows of their own. Trashed
        deals are left out.

    Examples
    --------
    >>> df.opp.stage_distribution()
    Stage distribution, as of 2026-11-02, amounts in USD
                count     amount weighted_amount missing_amount_count
    stage_name
    Qualify        28    689,399         302,362                    0
    Discover       14    199,100         104,128                    0
    Propose        13    138,665          93,785                    0
    Negotiate      10    178,135         144,490                    0
    Closed Won     77  1,536,453               0                    3
    Closed Lost   135  3,727,812               0                    1
    """
    return _distribution(stage_distribution, part, context, by)[0]


def _distribution(
    figure: Figure[pd.DataFrame], part: Part, context: FigureContext, by: str | Sequence[str] | None
) -> tuple[pd.DataFrame, Codes]:
    """Return the table and the combined code (groups, stage) of each of its rows."""
    cells = part["cells"]
    groups, row, size = cells.rows(context)
    labels, inside = groups[-1].labels, cells.of_layers(lambda standing: standing != TRASHED)
    # Deals omitted from the forecast are counted and not summed.
    summed = cells.of_layers(lambda standing: standing not in (LEFT_OUT, TRASHED))
    # The stage settles which rows are open; deals in an unknown stage are not, those without one are.
    is_open = np.tile([*(context.stages.status == "open"), False, True], size // len(labels))
    columns = {
        "count": cells.add("count", row, size, inside),
        "amount": cells.add("amount", row, size, summed),
        "weighted_amount": np.where(is_open, cells.add("weighted", row, size, summed), 0.0),
        "missing_amount_count": cells.add("missing_amount", row, size, inside),
    }
    # Every stage of every group that occurs, and deals without a known stage only where there are some.
    count, width = columns["count"], len(labels)
    occurs = np.repeat(count.reshape(-1, width).any(axis=1) | (size == width), width)
    extra = np.tile(np.isin(np.asarray(labels, dtype=object), [UNKNOWN_STAGE, NO_STAGE]), size // width)
    kept = np.flatnonzero(occurs & (~extra | (count > 0)))
    table = pd.DataFrame({name: values[kept] for name, values in columns.items()}, index=index_of(kept, groups))
    notes = ["drawn from the present stage of each deal: a stage distribution, not a conversion funnel"]
    facts, title = part["facts"], stage_distribution.heading
    return figure.result(table, context, facts, title=title, arguments={"by": by}, notes=notes), kept


@figure(definitions=DEFINITIONS | _REACHED)
def funnel(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    by: str | Sequence[str] | None = None,
    history: Any = None,
    cohort: tuple[str, str] | None = None,
    window_days: int | None = None,
    step_conversion: bool = False,
) -> pd.DataFrame:
    """Compute the funnel: how many deals ever reached each stage; without history, where they stand now.

    Parameters
    ----------
    history : History or DataFrame, optional
        Snapshots, imported events, or a frame of which stages the deals
        entered: ``id``, ``stage_id`` or ``stage_name``, and ``entered_at``
        [instant, UTC], a row per entry. Left out: the result is the stage
        distribution, and basis and title say so.
    cohort : tuple of day, optional
        Only deals whose first entry lies between these days, both included;
        needs a history. Deals that were there before the history began, whose
        first entry nobody saw, are in no cohort.
    window_days : int, optional
        Give every deal the same time: count what it reached within so many
        days of its first entry, and only deals that were followed for as long;
        needs a history, and takes deals as `cohort` does.
    step_conversion : bool, default False
        Insist on the share of deals that went on from stage to stage: without
        a history this raises.

    Returns
    -------
    DataFrame
        As from `stage_distribution`; with a history also who reached each
        stage, and what became of those who went no further. A deal reached
        every stage up to the furthest one it was ever seen in; a stage entered
        twice counts once. The last step is won; stages that mean lost have no
        conversion. Deals that were closed when they were first seen are in no
        conversion, won or lost.

    Raises
    ------
    HistoryNeededError
        If `cohort` or `step_conversion` asks for what only snapshots over time know.
    MissingColumnError
        If the history lacks a column.

    Examples
    --------
    >>> df.opp.funnel(history)[["count", "reached", "step_conversion"]].round(2)
                 count  reached  step_conversion
    stage_name
    Qualify         28      129              NaN
    Discover        14       87             0.67
    Propose         13       59             0.68
    Negotiate       10       42             0.71
    Closed Won      77       32             0.76
    Closed Lost    135     <NA>              NaN
    """
    if history is None and (cohort is not None or step_conversion or window_days is not None):
        asked = "a cohort" if cohort is not None else "step conversion" if step_conversion else "a window"
        raise HistoryNeededError(
            f"{asked} needs to know which stages each deal passed and when: pass history=, a History or a frame with a "
            f"row per stage that a deal entered (id, stage_id, entered_at). {HOW_TO_START}"
        )
    if window_days is not None and window_days < 1:
        raise ConfigurationError(f"window_days must be 1 or more, not {window_days!r}")
    deals = Deals(frame, context)
    if history is None:
        return _distribution(funnel, _gather(deals, by), context, by)[0]
    return _reached(deals, history, by, cohort, window_days)


def _reached(
    deals: Deals,
    history: Any,
    by: str | Sequence[str] | None,
    cohort: tuple[str, str] | None,
    window_days: int | None,
) -> pd.DataFrame:
    basis = basis_of(_distribution(funnel, _gather(deals, by), deals.context, by)[0])
    # Nobody must forget the deals that were deleted since: those that are left look better without them.
    n_here, (deals, outcome) = len(deals), _with_vanished(deals, history)
    table, cells = _distribution(funnel, _gather(deals, by), deals.context, by)
    kind = "events" if isinstance(history, pd.DataFrame) else "snapshots"
    history = read_entries(history, deals.context, "a funnel")
    stages = deals.context.stages.frame
    status = stages["status"].to_numpy(dtype=object)
    # Steps are the open stages in order and then won; two won stages are one step.
    n_open = int((status == "open").sum())
    step_of = np.full(len(stages) + 2, -1, dtype=np.intp)
    step_of[: len(stages)][status == "open"] = np.arange(n_open)
    step_of[: len(stages)][status == "won"] = n_open
    entries, rows = _entries(deals, history)
    late, unknown = _first_seen_late(deals, entries, rows, step_of, n_open)
    # Without a window, the stage of now is one more thing that was seen of a deal.
    furthest = step_of[deals.stage] if window_days is None else np.full(len(deals), -1, dtype=np.intp)
    entered = local_days(entries.frame["entered_at"], deals.context.timezone)
    followed = np.ones(len(deals), dtype=bool)
    within = np.ones(len(rows), dtype=bool)
    if window_days is not None:
        begun = _first_days(len(deals), rows, entered)
        followed = deals.context.today - begun.astype(np.int64) >= window_days
        within = entered.astype(np.int64) - begun[rows] <= window_days
    np.maximum.at(furthest, rows[within], step_of[entries.stage[within]])
    furthest[unknown] = -1
    counted_in = (outcome != TRASHED) & (furthest >= 0) & followed
    if cohort is not None or window_days is not None:
        counted_in &= ~late
    if cohort is not None:
        first_day, last_day = parse_day(cohort[0]), parse_day(cohort[1])
        if first_day > last_day:
            raise ConfigurationError(f"cohort ends before it begins: {cohort[0]} to {cohort[1]}")
        begun = _first_days(len(deals), rows, entered)
        counted_in &= (begun >= first_day) & (begun <= last_day)
    groups = read_groups(deals, by)
    group_of, size = combine(groups, len(deals))
    width = n_open + 1
    bins = group_of * width + furthest

    def at_furthest(chosen: Flags, weights: Floats | None = None) -> Floats:
        kept = counted_in & chosen
        sums = np.bincount(bins[kept], None if weights is None else weights[kept], minlength=size * width)
        return sums.reshape(size, width).astype(np.float64)

    def before(sums: Floats) -> Floats:
        return np.concatenate([np.full((size, 1), np.nan), sums[:, :-1]], axis=1)

    everyone = np.ones(len(deals), dtype=bool)
    reached = _from_here_on(at_furthest(everyone))
    reached_amount = _from_here_on(at_furthest(everyone, np.nan_to_num(deals.amount)))
    unfinished = furthest < n_open
    ways = {
        "lost_count": at_furthest(unfinished & (outcome == LOST)),
        "still_count": at_furthest(unfinished & (outcome == OPEN)),
        "left_count": at_furthest(unfinished & (outcome != LOST) & (outcome != OPEN)),
    }
    ways["back_count"] = _gone_back(rows, step_of[entries.stage], entered, counted_in, group_of, size, width)
    # The two rows past the stages (none, unknown) have no step: their places in step_of hold -1.
    step, group = step_of[cells % (len(stages) + 2)], cells // (len(stages) + 2)
    known = step >= 0

    def pick(values: Floats) -> Floats:
        return np.where(known, values[group, np.maximum(step, 0)], np.nan)

    def first(sums: Floats) -> Floats:
        return np.where(known, sums[group, 0], np.nan)

    def whole(sums: Floats) -> Any:
        return pd.array(pick(sums), dtype="Float64").astype("Int64")

    result = table.assign(
        reached=whole(reached),
        step_conversion=divide(pick(reached), pick(before(reached))),
        overall_conversion=divide(pick(reached), first(reached)),
        reached_amount=pick(reached_amount),
        step_conversion_amount=divide(pick(reached_amount), pick(before(reached_amount))),
        overall_conversion_amount=divide(pick(reached_amount), first(reached_amount)),
        **{name: whole(sums) for name, sums in ways.items()},
    )
    there = outcome != TRASHED
    left, n_closed = int((there & (furthest < 0)).sum()), int((there & unknown).sum())
    n_late = int((there & late & ~unknown).sum())
    notes = [note for note in basis["notes"] if "stage distribution" not in note]
    notes += tell((len(deals) - n_here, "deal", "deleted since, counted as they were last seen"))
    if deals.context.scope is not None and kind == "snapshots":
        notes.append(f"scope: {deals.context.scope.words}")
    what = "left out, nobody saw the beginning"
    if cohort is None and window_days is None:
        what = "those like them that were lost before are not here, so early steps look better than they are; "
        what += "cohort= takes only deals seen from their beginning"
    notes += tell(
        (n_closed, "deal", "already closed when first seen, won or lost: in no conversion"),
        (left - n_closed, "deal", "never seen in an open or won stage: in no conversion"),
        (n_late, "deal", f"already on the way when first seen: {what}"),
    )
    basis |= {
        "title": funnel.heading,
        "history": kind,
        "n_history": len(history),
        "n_deleted": len(deals) - n_here,
        "n_unknown_path": left,
        "n_seen_late": n_late,
        "arguments": {
            **basis["arguments"],
            "cohort": None if cohort is None else [str(day) for day in cohort],
            "window_days": window_days,
        },
        "definitions": funnel.definitions,
        "notes": notes,
    }
    return attach_basis(result, basis)


def _with_vanished(deals: Deals, history: Any) -> tuple[Deals, npt.NDArray[np.int8]]:
    """Add the deals that were deleted since, in the trash now, and tell the outcome of every deal.

    The outcome of a deleted deal is what it was last seen with; an open one is in no stage that means anything.
    """
    context, outcome = deals.context, deals.status
    vanished = vanished_deals(history, context) if isinstance(history, Snapshots) else None
    if vanished is not None:
        here = keys_of(deals.frame, unique=False)
        inside = ~keys_of(vanished).isin(set(here)).to_numpy()
        if context.scope is not None:
            inside &= context.scope.mask(vanished)
        vanished = vanished[inside]
    if vanished is None or not len(vanished):
        return deals, outcome
    with suppress_unmapped_stages():
        last = Deals(vanished, context).status
    known = [name for name in vanished.columns if name in deals.frame.columns or name == "trashed_at"]
    frame = pd.concat([deals.frame, vanished[known].assign(trashed_at=context.as_of)], ignore_index=True)
    return Deals(frame, context), np.concatenate([outcome, np.where(last == OPEN, np.int8(UNSETTLED), last)])


def _first_seen_late(deals: Deals, entries: Deals, rows: Codes, step_of: Codes, n_open: int) -> tuple[Flags, Flags]:
    """Return whose beginning nobody saw, and who of them was closed by then.

    Of a deal that was closed when it was first seen nobody knows the way. Those
    that were won must stay out as those that were lost do, or only survivors
    would be counted.
    """
    late = np.ones(len(deals), dtype=bool)
    late[rows] = False
    first_step = step_of[deals.stage]
    if "seen_before" in entries.frame.columns:
        before = entries.frame["seen_before"].to_numpy(dtype=bool)
        late[rows[before]] = True
        first_step[rows[before]] = step_of[entries.stage[before]]
    return late, late & ((first_step < 0) | (first_step == n_open))


def _from_here_on(at: Floats) -> Floats:
    """Add up from the last step to the first: who came further came here, too."""
    return at[:, ::-1].cumsum(axis=1)[:, ::-1]


def _first_days(n: int, rows: Codes, entered: Days) -> Days:
    """Return the day of the first entry of every deal; a day that never comes where there is none."""
    first = np.full(n, np.iinfo(np.int32).max, dtype=np.int32)
    np.minimum.at(first, rows, entered)
    return first


def _gone_back(
    rows: Codes, steps: Codes, entered: Days, counted_in: Flags, group_of: Codes, size: int, width: int
) -> Floats:
    """Count per step the deals that were there and later in an earlier open stage."""
    order = np.lexsort((np.arange(len(rows)), entered, rows))
    row, step = rows[order], steps[order]
    back = np.zeros(len(row), dtype=bool)
    back[:-1] = (row[1:] == row[:-1]) & (step[1:] >= 0) & (step[1:] < step[:-1])
    back &= counted_in[row] if len(row) else False
    pairs = np.unique(row[back] * width + step[back])
    bins = group_of[pairs // width] * width + pairs % width
    return np.bincount(bins, minlength=size * width).reshape(size, width).astype(np.float64)


def _entries(deals: Deals, history: pd.DataFrame) -> tuple[Deals, Codes]:
    """Return the entries of deals in the frame, and the row of each entry's deal."""
    if not {"id", "custom_id"} & set(deals.frame.columns):
        deals.need("id", hint="A history is joined by id.")
    index = pd.Index(keys_of(deals.frame, unique=False), dtype=object)
    if index.has_duplicates:
        raise FrameError("one id stands twice, so a history cannot be joined; see frame['id'].duplicated()")
    history = history[history["id"].notna()] if "custom_id" not in history.columns else history
    rows = index.get_indexer(pd.Index(keys_of(history, unique=False), dtype=object))
    kept = (rows >= 0) & (local_days(history["entered_at"], deals.context.timezone) <= deals.context.today)
    return Deals(history[kept], deals.context), rows[kept]


_SUMMED = (OPEN, WON, LOST, UNSETTLED)
_BEHIND = {
    "count": Term("count", (*_SUMMED, LEFT_OUT)),
    "amount": Term("amount", _SUMMED),
    "weighted_amount": Term("weighted", (OPEN,)),
    "missing_amount_count": Term("missing_amount", (*_SUMMED, LEFT_OUT)),
}


@funnel.rows
@stage_distribution.rows
def _rows_of_stage_distribution(ask: Question) -> Trace:
    deals = ask.deals
    here = in_groups([*read_groups(deals, ask.arguments["by"]), by_stage(deals)], deals, ask.parts)
    if ask.column not in _BEHIND:
        raise ConfigurationError(f"{ask.column} stands on the history, not on rows of the frame")
    rows, values = _BEHIND[ask.column].rows(deals, deals.standing)
    return rows & here, values
