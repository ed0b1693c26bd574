"""The notes of an adopted file's load report: what it lacks, and which of its stages count as won and lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.adoption.column_names import ColumnPlan, plain_name
from opp_pandas.errors import named
from opp_pandas.stages import StageMap, StageTable

if TYPE_CHECKING:
    import numpy as np

_WITHOUT = {
    "name": "no name column: deals cannot be created without names",
    "amount": "no amount column: open, weighted and forecast amounts cannot be computed",
    "probability": "no probability column: weighted figures need one, or StageMap(probability={...}) "
    "with probability='stage'",
    "close_date": "no close date column: nothing can be assigned to a period",
    "stage_name": "no stage column: no deal can be told open, won or lost",
    "owner_name": "no owner column: groups by owner hold everything in one",
    "account_name": "no account column",
    "custom_id": "no key column: rows are known by their place in the frame",
    "external_created_at": "no creation date: cycle times and velocity cannot be computed",
}
_COUNTED_WHEN_MISSING = ("name", "amount", "probability", "close_date", "stage_name", "custom_id")


def _flags(adopted: pd.DataFrame, name: str) -> tuple[str, np.ndarray[Any, np.dtype[np.bool_]]] | None:
    """Find a column of yes and no by its plain name, in the spellings of CSV files."""
    for label in adopted.columns:
        if plain_name(label) == name:
            # As objects, since Arrow's columns compare with values of their own type only.
            yes = adopted[label].astype(object).isin([True, 1, "1", "true", "True", "TRUE"])
            return str(label), yes.to_numpy(dtype=bool)
    return None


def stages_by_flags(adopted: pd.DataFrame) -> tuple[StageMap | None, str]:
    """Read which stages are won and lost from the row's own flags, where an export has them.

    A stage counts as won or lost if all its rows agree; any doubt leaves the
    whole map to the guess from names.
    """
    won, closed = _flags(adopted, "iswon"), _flags(adopted, "isclosed")
    if won is None or closed is None or not adopted["stage_name"].notna().any():
        return None, ""
    facts = pd.DataFrame({"stage": adopted["stage_name"].to_numpy(), "won": won[1], "closed": closed[1]}).dropna()
    per_stage = facts.groupby("stage", sort=False)[["won", "closed"]].agg(["min", "max"])
    is_won, is_closed = per_stage["won", "max"], per_stage["closed", "max"]
    mixed = (is_won != per_stage["won", "min"]) | (is_closed != per_stage["closed", "min"])
    if mixed.any() or (is_won & ~is_closed).any() or not is_closed.any():
        return None, ""
    names = per_stage.index.to_series()
    return StageMap(won=list(names[is_won]), lost=list(names[is_closed & ~is_won])), f"{won[0]} and {closed[0]}"


def stage_notes(adopted: pd.DataFrame, stages: StageMap | None, table: StageTable, origin: str) -> list[str]:
    """Describe which stages count as won and lost, whence that is known, and which the map and the file lack."""
    present = set(adopted["stage_name"].dropna().unique())
    if not present:
        return []
    facts = table.to_dict()
    outcome = f"won {named(facts['won']) or 'none'}, lost {named(facts['lost']) or 'none'}"
    notes = []
    if origin:
        notes.append(f"won and lost were read from {origin}: {outcome}")
    elif table.guessed:
        remedy = "say it with stages=StageMap(won=[...], lost=[...])"
        notes.append(f"won and lost were guessed from stage names: {outcome}; {remedy}")
    elif stages is None:
        say = f"say which of {named(sorted(present), 12)} are, with stages=StageMap(won=[...], lost=[...])"
        notes.append(f"no stage is called won or lost, so every deal counts as open; {say}")
    if table.unmapped:
        notes.append(f"stage {named(table.unmapped)} stands nowhere in the stage map")
    absent = [key for key in (stages.keys if stages is not None else ()) if isinstance(key, str) and key not in present]
    if absent:
        notes.append(f"no row is in stage {named(absent)} of the stage map")
    return notes


def gap_notes(adopted: pd.DataFrame, plan: ColumnPlan, zone: str | None, currency: str | None) -> list[str]:
    """Describe what the file lacks, column by column."""
    rows = len(adopted)
    lacking = [name for name in _WITHOUT if name not in plan.taken and not (name == "custom_id" and plan.key_in_index)]
    notes = [_WITHOUT[name] for name in lacking]
    if lacking and plan.extras:
        say = f"where one of them is what is lacking, say so: columns={{'its name': {lacking[0]!r}}}"
        notes.append(f"columns left alone: {named(plan.extras, 12)}; {say}")
    for column in _WITHOUT:
        missing = int(adopted[column].isna().sum())
        if column in lacking:
            continue
        if missing and missing == rows:
            notes.append(f"{column} is missing in every row")
        elif missing and column in _COUNTED_WHEN_MISSING:
            notes.append(f"{missing:,} of {rows:,} rows have no {column}")
    unnamed = int((adopted["currency_type"].isna() & adopted["amount"].notna()).sum())
    if unnamed and currency is None:
        notes.append(f"{unnamed:,} amounts name no currency; say it with currency=")
    if zone is None and adopted["close_date"].notna().any():
        notes.append("no timezone= was given: days are days in UTC")
    for name in ("isdeleted", "archived"):
        flags = _flags(adopted, name)
        if flags is not None and flags[1].any():
            notes.append(
                f"{int(flags[1].sum()):,} rows are marked {flags[0]} and count like the others; drop what is gone"
            )
    return notes
