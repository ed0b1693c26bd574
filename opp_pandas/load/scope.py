"""Which deals a frame speaks of, so that figures over time can look for the same ones in the past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.figures.core.snapshots import Scope, keys_of
from opp_pandas.frame_state import loaded_of, meaning_of
from opp_pandas.load.where import Where, rows_that_fit, split_where

if TYPE_CHECKING:
    import pandas as pd


def scope_of(frame: pd.DataFrame) -> Scope | None:
    """Read from what travels with a frame which deals it speaks of.

    The load's conditions, which can be evaluated at any moment on frames with their columns, and
    the rows by id where some of those that were loaded are not there any more. None: all deals,
    or a frame that carries no load and so does not say.
    """
    loaded = loaded_of(frame)
    if loaded is None:
        return _scope_of_file(frame)
    query = loaded.query
    stated = {**(query.get("filter") or {}), **(query.get("where") or {})}
    brought, here = _keys(loaded.baseline.frame), _keys(frame)
    narrowed = bool(brought - here) or query.get("limit") is not None
    if not stated and not narrowed:
        return None
    where = Where(local=split_where(stated, None, loaded.timezone).local)

    def fits(state: pd.DataFrame) -> Any:
        return rows_that_fit(state, where, loaded.timezone)

    words = [f"the load's conditions ({', '.join(map(str, stated))}), evaluated at every moment"] if stated else []
    words += [f"{len(here):,} of {len(brought):,} loaded deals, by id"] if narrowed else []
    return Scope(
        "; ".join(words), fits if stated else None, frozenset(here) if narrowed else None, frozenset(brought | here)
    )


def _scope_of_file(frame: pd.DataFrame) -> Scope | None:
    """Read the scope of a frame out of a Parquet file, which keeps how many deals there were but not the conditions."""
    load = meaning_of(frame)
    here = _keys(frame)
    if load is None or (load.all_deals and len(here) >= load.keys):
        return None
    lost = "" if load.all_deals else " (a Parquet file does not keep the load's conditions)"
    return Scope(f"the {len(here):,} deals of the frame, by id{lost}", keys=frozenset(here))


def _keys(frame: pd.DataFrame) -> set[Any]:
    """Return what tells the deals apart that have an id or a custom id."""
    columns = [name for name in ("id", "custom_id") if name in frame.columns]
    if not columns:
        return set()
    known = frame[columns].notna().any(axis=1).to_numpy(dtype=bool)
    return set(keys_of(frame.loc[known, columns], unique=False))
