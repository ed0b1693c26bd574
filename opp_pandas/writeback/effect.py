"""What a plan does to the forecast, before anything is sent."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.analytics import FigureContext, forecast
from opp_pandas.errors import FrameError, GuessedStagesWarning
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY
from opp_pandas.service.decoding import DECODERS, column_array

if TYPE_CHECKING:
    from opp_pandas.carrier import Loaded
    from opp_pandas.writeback.plan import ChangeSet

MEASURES = {"open": "open_amount", "weighted": "weighted_amount", "won": "won_amount"}


def forecast_effect(plan: ChangeSet, loaded: Loaded, *, freq: str = "Q") -> pd.DataFrame | None:
    """Compare the forecast of what was loaded with the same after the plan.

    Parameters
    ----------
    plan : ChangeSet
        What would be sent.
    loaded : Loaded
        What the plan starts from.
    freq : {"M", "Q", "Y"}, default "Q"
        Length of one period.

    Returns
    -------
    DataFrame, shape (p, 6) or None
        The periods that change, with ``open_before, open_after,
        weighted_before, weighted_after, won_before, won_after`` [currency of
        the load]. None where the rows cannot be summed (no amounts, several
        currencies without rates).
    """
    context = FigureContext(
        stages=loaded.stages,
        as_of=loaded.as_of,
        timezone=loaded.timezone,
        lookups=loaded.lookups,
        currency=loaded.currency,
    )
    known = loaded.baseline.frame["id"].notna().to_numpy()
    before = loaded.baseline.frame[known]
    with warnings.catch_warnings():
        # The load said it already; a plan need not say it again.
        warnings.simplefilter("ignore", GuessedStagesWarning)
        try:
            tables = [forecast(frame, context=context, freq=freq) for frame in (before, _planned(plan, loaded, known))]
        except FrameError:
            return None
    joined = tables[0].add_suffix("_0").join(tables[1].add_suffix("_1"), how="outer")
    columns = {
        f"{words}_{when}": joined[f"{measure}_{number}"].fillna(0)
        for words, measure in MEASURES.items()
        for number, when in enumerate(("before", "after"))
    }
    effect = pd.DataFrame(columns)
    moved = [effect[f"{words}_before"] != effect[f"{words}_after"] for words in MEASURES]
    return effect[np.logical_or.reduce(moved)]


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
