"""What a plan does to the forecast, before anything is sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.changes.rules import WRITABLE, column_kind
from opp_pandas.figures import FigureContext, forecast
from opp_pandas.figures.core.days import NO_DAY, local_days
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.quotas import read_quota
from opp_pandas.kinds import TAGS
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.changes.changeset import RowCreation
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.figures.core.periods import Periods
    from opp_pandas.frame_state import Loaded

MEASURES = {"open": "open_amount", "weighted": "weighted_amount", "won": "won_amount", "coverage": "coverage"}
MOVES = ("pushed", "pulled")


@dataclass(frozen=True, eq=False)
class Figures:
    """What the effect of a plan is worked out from: the load, and how its forecast is made.

    ``quota`` is as in `find_changes`, ``definitions`` say how time is cut and what
    amounts mean, where that is not as the load says; what cannot be used of them is
    refused at once.
    """

    loaded: Loaded
    quota: Any = None
    definitions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.context
        if self.quota is not None:
            read_quota(self.quota, self.periods, ())

    @cached_property
    def context(self) -> FigureContext:
        """What the forecast stands on beside the deals."""
        loaded = self.loaded
        own = FigureContext(
            loaded.stages, loaded.as_of, loaded.timezone, loaded.lookups, organisation=loaded.organisation
        )
        return own.with_definitions(**loaded.definitions).with_definitions(**self.definitions)

    @property
    def periods(self) -> Periods:
        """How days are cut."""
        return self.context.periods

    def forecast(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Sum the deals of a frame by period, as of the load."""
        with suppress_unmapped_stages():
            return forecast(frame, context=self.context, quota=self.quota)


def forecast_effect(plan: ChangeSet, figures: Figures) -> pd.DataFrame:
    """Compare the forecast of what was loaded with the same after the plan: see `ChangeSet.effect`.

    New deals without a currency count in that of the load; closed deals that
    leave their period are pushed or pulled, too. A FrameError says why rows cannot
    be summed: no amounts, several currencies without rates.
    """
    base = figures.loaded.baseline.frame
    known = base["id"].notna().to_numpy()
    edited = _edited(plan, base)
    tables = [figures.forecast(frame) for frame in (base[known], _planned(plan, edited[known]))]
    periods = tables[0].index.union(tables[1].index)
    before, after = (table.reindex(periods) for table in tables)
    columns = {}
    for words, measure in MEASURES.items():
        if measure in before.columns:
            columns[f"{words}_before"] = _measured(before, after, measure)
            columns[f"{words}_after"] = _measured(after, before, measure)
    effect = pd.DataFrame(columns)
    left, right = (effect.filter(regex=f"_{when}$").to_numpy(dtype=float) for when in ("before", "after"))
    differs = (~np.isclose(left, right, rtol=0, atol=1e-9, equal_nan=True)).any(axis=1)
    moves = _moves(plan, figures, edited)
    for words in MOVES:
        effect[words] = [moves[words, period] for period in periods]
    changed: pd.DataFrame = effect.loc[differs | effect[list(MOVES)].any(axis=1).to_numpy()]
    return changed


def _measured(table: pd.DataFrame, other: pd.DataFrame, measure: str) -> pd.Series:
    """Return a measure; nothing is open, weighted or won in a period without deals, and nothing covers its quota."""
    if measure != "coverage":
        return table[measure].fillna(0)
    empty = pd.Series(np.where(other["quota"] > 0, 0.0, other["coverage"]), index=other.index)
    return table[measure].where(table["open_count"].notna(), empty)


def _moves(plan: ChangeSet, figures: Figures, edited: pd.DataFrame) -> Counter[tuple[str, Any]]:
    """Count the deals whose close date leaves its period, by direction and period."""
    gone = {entry.id for entry in plan.deletions}
    places = [update.base_position for update in plan.updates if update.id not in gone]
    base = figures.loaded.baseline.frame
    if "close_date" not in base.columns or not places:
        return Counter()
    days = [local_days(frame["close_date"].iloc[places], figures.loaded.timezone) for frame in (base, edited)]
    dated = (days[0] != NO_DAY) & (days[1] != NO_DAY)
    before, after = (figures.periods.ordinals(each[dated]) for each in days)
    pairs = zip(figures.periods.labels(before), (after - before).tolist(), strict=True)
    return Counter(("pushed" if step > 0 else "pulled", label) for label, step in pairs if step)


def _edited(plan: ChangeSet, base: pd.DataFrame) -> pd.DataFrame:
    """Return the loaded rows with the plan's updates in them."""
    after = base.copy(deep=False)
    by_column: dict[str, dict[int, Any]] = {}
    for update in plan.updates:
        for cell in update.cells:
            by_column.setdefault(cell.column, {})[update.base_position] = cell.after
    for column, cells in by_column.items():
        if column in after.columns and WRITABLE[column] is not TAGS:
            array = after[column].array.copy()
            array[list(cells)] = WRITABLE[column].array_of(cells.values())
            after[column] = array
    return after


def _planned(plan: ChangeSet, edited: pd.DataFrame) -> pd.DataFrame:
    """Leave out what the plan deletes, and add what it creates."""
    kept = edited[~edited["id"].isin({entry.id for entry in plan.deletions}).to_numpy()]
    if not plan.creations:
        return kept
    currencies = kept["currency_type"].dropna().unique().tolist() if "currency_type" in kept.columns else []
    rows = [_new_deal(plan, entry, currencies[0] if len(currencies) == 1 else None) for entry in plan.creations]
    new = {}
    for column in kept.columns:
        kind = column_kind(column, COLUMN_DTYPES.get(column))
        if kind is not None and kind is not TAGS and str(kept[column].dtype) == kind.dtype:
            new[column] = kind.array_of(row.get(column) for row in rows)
    return pd.concat([kept, pd.DataFrame(new)], ignore_index=True)


def _new_deal(plan: ChangeSet, entry: RowCreation, currency: str | None) -> dict[str, Any]:
    """Return a new deal's values; its stage may be known by name only, its currency be that of all others."""
    row = {**entry.unresolved, **entry.values}
    stages = NameBook(plan.names).ids("stage_id", str(entry.unresolved.get("stage_name")))
    if len(stages) == 1:
        row.setdefault("stage_id", stages[0])
    if row.get("currency_type") is None:
        row["currency_type"] = currency
    return row
