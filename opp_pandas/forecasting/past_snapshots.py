"""What a history kept of open deals on past evenings, as snapshots for a walk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import HistoryNeededError
from opp_pandas.figures.core.days import NO_DAY, day_of, local_days, to_date
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.snapshots import HOW_TO_START, Snapshots, keys_of, read_states
from opp_pandas.forecasting.as_of_view import Past, Snapshot, Stated

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext

_COLUMNS = (
    "id", "custom_id", "amount", "amount_precise", "currency_type", "probability", "close_date", "stage_id",
    "stage_name", "trashed_at",
)  # fmt: skip


_FAR_APART = 1 << 24
"""Deals apart in one sorted array of deal and day."""


def read_stated(history: Snapshots, deals: Deals, context: FigureContext) -> Stated:
    """Return what gives the snapshots of several evenings, of the deals of a frame; none of a history still empty.

    Raises
    ------
    HistoryNeededError
        If it is no history.
    """
    if not isinstance(history, Snapshots):
        raise HistoryNeededError(f"history= takes a History with snapshots. {HOW_TO_START}")
    if not len(history.snapshots()):
        return _nothing
    keys = pd.Index(keys_of(deals.frame), dtype=object)
    first = day_of(history.snapshots()["observed_at"].min(), context.timezone)
    entries = history.stage_entries()
    entered = local_days(entries["entered_at"], context.timezone).astype(np.int64)
    rows = keys.get_indexer(pd.Index(keys_of(entries, unique=False), dtype=object))
    since = np.sort(rows[rows >= 0] * _FAR_APART + entered[rows >= 0])

    def stated(past: Past, days: Sequence[int]) -> dict[int, Snapshot]:
        kept = [day for day in days if day >= first]
        moments = [to_date(day) for day in kept]
        states = read_states(history, moments, context=context, columns=_COLUMNS, what="predict")
        return {
            day: _snapshot(past, day, Deals(state.frame, state.context), keys, since)
            for day, state in zip(kept, states, strict=True)
        }

    return stated


def _nothing(*_: Any) -> dict[int, Snapshot]:
    return {}


def _snapshot(past: Past, day: int, then: Deals, keys: pd.Index, since: np.ndarray) -> Snapshot:
    rows = past.rows[past.known(day).open]
    place = pd.Index(keys_of(then.frame), dtype=object).get_indexer(keys[rows])
    there = place >= 0
    begun = rows * _FAR_APART + day
    last = np.searchsorted(since, begun, side="right") - 1
    entered = np.where(last >= 0, since[np.maximum(last, 0)] if len(since) else -1, -1)
    in_stage = np.where(entered >= rows * _FAR_APART, day - entered % _FAR_APART, np.nan)
    return Snapshot(
        np.where(there, then.percent[place] / 100.0, np.nan),
        np.where(there, then.close_day[place], NO_DAY).astype(np.int64),
        np.where(there, then.amount[place], np.nan),
        np.where(there, then.stage[place], -1).astype(np.intp),
        in_stage,
    )
