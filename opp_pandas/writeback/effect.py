"""What a plan does to the forecast, before anything is sent."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.analytics import FigureContext, forecast
from opp_pandas.errors import OppPandasWarning
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY
from opp_pandas.service.decoding import DECODERS, column_array

if TYPE_CHECKING:
    from opp_pandas.carrier import Loaded
    from opp_pandas.writeback.plan import ChangeSet

MEASURES = {"open": "open_amount", "weighted": "weighted_amount", "won": "won_amount", "coverage": "coverage"}


def forecast_effect(
    plan: ChangeSet, loaded: Loaded, *, freq: str = "Q", quota: Any = None, fiscal_start: int = 1
) -> pd.DataFrame:
    """Compare the forecast of what was loaded with the same after the plan.

    Parameters
    ----------
    plan : ChangeSet
        What would be sent.
    loaded : Loaded
        What the plan starts from.
    freq : {"M", "Q", "Y"}, default "Q"
        Length of one period.
    quota, fiscal_start
        As in `opp_pandas.analytics.forecast`; coverage needs a quota.

    Returns
    -------
    DataFrame, shape (p, 8), or (p, 10) with a quota
        The periods that change, with ``open_before, open_after,
        weighted_before, weighted_after, won_before, won_after`` [currency of
        the load], ``coverage_before, coverage_after`` [ratio], ``pushed`` and
        ``pulled``: deals that leave the period for a later or an earlier one.

    Raises
    ------
    FrameError
        If the rows cannot be summed: no amounts, several currencies without rates.
    """
    context = FigureContext(
        stages=loaded.stages,
        as_of=loaded.as_of,
        timezone=loaded.timezone,
        lookups=loaded.lookups,
        currency=loaded.currency,
    )
    known = loaded.baseline.frame["id"].notna().to_numpy()
    frames = (loaded.baseline.frame[known], _planned(plan, loaded, known))
    with warnings.catch_warnings():
        # The load said these already; a plan need not say them again.
        warnings.simplefilter("ignore", OppPandasWarning)
        tables = [
            forecast(frame, context=context, freq=freq, quota=quota, fiscal_start=fiscal_start) for frame in frames
        ]
    joined = tables[0].add_suffix("_0").join(tables[1].add_suffix("_1"), how="outer")
    columns = {}
    for words, measure in MEASURES.items():
        for number, when in enumerate(("before", "after")):
            if f"{measure}_{number}" in joined.columns:
                values = joined[f"{measure}_{number}"]
                columns[f"{words}_{when}"] = values if words == "coverage" else values.fillna(0)
    effect = pd.DataFrame(columns)
    measured = [column.removesuffix("_before") for column in effect.columns if column.endswith("_before")]
    before = effect[[f"{words}_before" for words in measured]].to_numpy(dtype=float)
    after = effect[[f"{words}_after" for words in measured]].to_numpy(dtype=float)
    moves = _moves(plan, tables[0].index, loaded.timezone)
    for words in ("pushed", "pulled"):
        effect[words] = [moves.get((words, period), 0) for period in effect.index]
    differs = (~np.isclose(before, after, rtol=0, atol=1e-9, equal_nan=True)).any(axis=1)
    moved = (effect[["pushed", "pulled"]] > 0).any(axis=1).to_numpy()
    changed: pd.DataFrame = effect.loc[differs | moved]
    return changed


def _moves(plan: ChangeSet, periods: pd.Index, zone: str | None) -> Counter[tuple[str, Any]]:
    """Count the deals whose close date leaves its period, by direction and period."""
    counts: Counter[tuple[str, Any]] = Counter()
    if not isinstance(periods, pd.PeriodIndex):
        return counts
    for update in plan.updates:
        for cell in update.cells:
            if cell.column == "close_date" and cell.before is not None and cell.after is not None:
                before, after = (_period(value, periods, zone) for value in (cell.before, cell.after))
                if before is not None and after is not None and before != after:
                    counts["pushed" if after > before else "pulled", before] += 1
    return counts


def _period(value: Any, periods: pd.PeriodIndex, zone: str | None) -> Any:
    try:
        moment = pd.Timestamp(_decoded("close_date", value), unit="us", tz="UTC").tz_convert(zone or "UTC")
        return pd.Period(moment.tz_localize(None), freq=periods.freqstr)
    except (ValueError, OverflowError):
        # Unreadable, or in the year 10,000 over there.
        return None


def _planned(plan: ChangeSet, loaded: Loaded, known: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Give the loaded rows as they would be after the plan."""
    base = loaded.baseline.frame
    after = base.copy(deep=False)
    by_column: dict[str, tuple[list[int], list[Any]]] = {}
    for update in plan.updates:
        for cell in update.cells:
            places, values = by_column.setdefault(cell.column, ([], []))
            places.append(update.base_position)
            values.append(_decoded(cell.column, cell.after))
    for column, (places, values) in by_column.items():
        if column in after.columns and COLUMN_DTYPES[column] != "object":
            array = after[column].array.copy()
            array[places] = column_array(values, COLUMN_DTYPES[column])
            after[column] = array
    gone = {entry.id for entry in plan.deletions}
    after = after[known & ~after["id"].isin(gone).to_numpy()]
    if not plan.creations:
        return after
    new: dict[str, Any] = {}
    for column in after.columns:
        dtype = COLUMN_DTYPES.get(column, "object")
        if dtype != "object" and str(after[column].dtype) == dtype:
            values = [_decoded(column, e.values.get(column, e.unresolved.get(column))) for e in plan.creations]
            new[column] = column_array(values, dtype)
    return pd.concat([after, pd.DataFrame(new)], ignore_index=True)


def _decoded(column: str, value: Any) -> Any:
    attribute = OPPORTUNITY.by_column.get(column)
    return value if attribute is None else DECODERS[attribute.kind](value)[0]
