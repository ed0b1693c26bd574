"""Edits that look like an aggregate, or like rows that were mixed up: other deals' values under this deal's id.

``df.groupby("owner_name").last()`` is a frame like any other, one row per
owner, each with the id of one deal and, where that deal had none, the values of
others. Nothing in a single cell tells it from an edit; the rows together do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.changes.rules import WRITABLE
from opp_pandas.errors import named
from opp_pandas.figures.core.basis import counted
from opp_pandas.resource import LOOKUP_COLUMNS, OPPORTUNITY

if TYPE_CHECKING:
    from opp_pandas.changes.changeset import RowUpdate

# Columns that many deals share by their nature: a value that stands elsewhere too says nothing.
_SHARED = {"probability", "currency_type", "forecast_category", "opportunity_type", "lead_source", "lost_reason"}
_SHARED |= {"record_type", "tags", *OPPORTUNITY.relationship_by_column}
# What the service sets once, or for each deal alone.
_OWN = ("created_at", "updated_at", "touched_at")
_LOOKED_AT = 200
_BITS = 6.0
"""How surely the values of groups must be no coincidence: one in 64."""
_AGGREGATES = ("last", "first", "max", "min", "sum", "mean", "median")
_ANY = "any"
"""Which deals were grouped is not known: any value of the group, where the index is the group."""

Edits = dict[str, dict[int, Any]]


def aggregate_reason(
    updates: Sequence[RowUpdate],
    read_only: Mapping[str, Mapping[int, Any]],
    frame: pd.DataFrame,
    places: Any,
    base: pd.DataFrame,
    levels: Sequence[str],
) -> str | None:
    """Explain why edits look like the values of other deals, or return None.

    ``read_only`` are cells of columns that cannot be written and differ from
    what was loaded, by column and position in the load; ``places`` are the
    positions there of the edited frame's rows, -1 where it has none; ``levels``
    are columns that came as levels of the frame's index.
    """
    edits = _telling(updates)
    return (
        _contradiction(read_only, base)
        or _moved_index(updates, levels, int(np.count_nonzero(places >= 0)))
        or _grouped(edits, frame, places, base, levels)
        or _copied(edits, base)
    )


def _telling(updates: Sequence[RowUpdate]) -> Edits:
    """Gather edited cells by column and position; one value for several deals is a bulk edit, and tells nothing."""
    edits: Edits = {}
    for update in updates:
        for cell in update.cells:
            if cell.follows is None and cell.after is not None:
                edits.setdefault(cell.column, {})[update.base_position] = cell.after
    return {
        column: dict(zip(cells, WRITABLE[column].array_of(cells.values()), strict=True))
        for column, cells in edits.items()
        if len(cells) == 1 or len({str(value) for value in cells.values()}) > 1
    }


def _contradiction(read_only: Mapping[str, Mapping[int, Any]], base: pd.DataFrame) -> str | None:
    """Look for what belongs to one deal alone and stands in the row of another."""
    for column in _OWN:
        cells = dict(list(read_only.get(column, {}).items())[:_LOOKED_AT])
        owners = _only_holders(base[column], cells) if cells else {}
        for place, owner in owners.items():
            ids = base["id"].array
            return (
                f"{column} of id {ids[place]} is now that of id {ids[owner]}, and in {len(owners)} rows such a value "
                "contradicts the id: the rows look mixed up or aggregated"
            )
    return None


def _moved_index(updates: Sequence[RowUpdate], levels: Sequence[str], rows: int) -> str | None:
    """Look for an index that was made anew, as by resample(): its values are those of no deal."""
    counts = Counter(cell.column for update in updates for cell in update.cells if cell.column in levels)
    for column, count in counts.items():
        if rows > 1 and count > rows / 2:
            return (
                f"the index {column} holds other values than were loaded in {count} of {rows} rows, as after resample()"
            )
    return None


def _only_holders(series: pd.Series, cells: Mapping[int, Any]) -> dict[int, int]:
    """Find for each cell the one other loaded row that holds its value; there may be none, or several."""
    wanted = pd.Series(list(cells.values()), dtype=series.dtype)
    holders: dict[Any, list[int]] = {}
    for place in np.flatnonzero(series.isin(wanted).to_numpy()).tolist():
        holders.setdefault(series.array[place], []).append(place)
    found = {}
    for place, value in cells.items():
        others = [holder for holder in holders.get(value, ()) if holder != place]
        if len(others) == 1:
            found[place] = others[0]
    return found


def _copied(edits: Edits, base: pd.DataFrame) -> str | None:
    """Look for rows with two values of one other deal, or three of several, that no further deal has."""
    edits = {column: cells for column, cells in edits.items() if column not in _SHARED}
    counts = Counter(place for cells in edits.values() for place in cells)
    several = {place for place, count in counts.most_common(_LOOKED_AT) if count > 1}
    sources: dict[int, dict[str, int]] = {}
    for column, cells in edits.items():
        chosen = {place: value for place, value in cells.items() if place in several}
        if not chosen or not _is_telling(base[column]):
            continue
        for place, holder in _only_holders(base[column], chosen).items():
            sources.setdefault(place, {})[column] = holder
    ids = base["id"].array
    for place, found in sources.items():
        holder, most = Counter(found.values()).most_common(1)[0]
        if most > 1:
            columns = [column for column, other in found.items() if other == holder]
            return f"{named(columns)} of id {ids[place]} are now those of id {ids[holder]}: is it the right row?"
        if len(found) > 2:
            others = named(ids[holder] for holder in found.values())
            return f"{named(found)} of id {ids[place]} are now those of other deals ({others}): is it the right row?"
    return None


def _is_telling(series: pd.Series) -> bool:
    """Whether most values of a column stand in one row only."""
    known = series.iloc[:20_000].dropna()
    return bool(len(known)) and known.nunique() > len(known) / 2


def _grouped(edits: Edits, frame: pd.DataFrame, places: Any, base: pd.DataFrame, levels: Sequence[str]) -> str | None:
    """Look for a frame of one row per group whose edits are what an aggregate makes of the group."""
    there = np.flatnonzero(places >= 0)
    if not edits or not 0 < len(there) < len(base):
        return None
    for keys in _keys(frame, there, base, levels):
        groups = base.groupby(keys, sort=False, dropna=True).ngroup().to_numpy()
        touched = {place for cells in edits.values() for place in cells}
        members = {place: np.flatnonzero(groups == groups[place]) for place in list(touched)[:_LOOKED_AT]}
        by_index = bool(set(keys) & set(levels))
        for function in (*_AGGREGATES, *([_ANY] if by_index else [])):
            bits = _evidence(edits, base, members, function)
            if bits is not None and bits >= (0.0 if by_index else _BITS):
                cells = sum(map(len, edits.values()))
                call = f"groupby({keys if len(keys) > 1 else keys[0]!r})"
                what = f"the {function} of its group, as after {call}.{function}()"
                if function == _ANY:
                    what = f"a value of its group, as after {call} of some of the deals"
                which = f"{counted(cells, 'edited cell')} {'holds' if cells == 1 else 'hold'} {what}"
                return f"the frame has one row for each {' and '.join(keys)}, and {which}: values of other deals"
    return None


def _keys(frame: pd.DataFrame, there: Any, base: pd.DataFrame, levels: Sequence[str]) -> Iterator[list[str]]:
    """Return the columns by which the frame may have been grouped: unique in it, and not in what was loaded."""
    from_index = [level for level in levels if level in base.columns]
    candidates = {*_SHARED, *LOOKUP_COLUMNS} & set(base.columns) & set(frame.columns) - {*from_index, "tags"}
    single = [[column] for column in sorted(candidates)]
    for keys in ([from_index] if from_index else []) + (single if len(there) > 1 else []):
        if not frame[keys].iloc[there].duplicated().any() and base[keys].duplicated().any():
            yield keys


def _evidence(edits: Edits, base: pd.DataFrame, members: Mapping[int, Any], function: str) -> float | None:
    """Return how surely edits are an aggregate of their groups [bits]; None where a cell is not, or no group says."""
    bits, found = 0.0, False
    for column, cells in edits.items():
        for place in cells.keys() & members.keys():
            group = base[column].iloc[members[place]].dropna()
            if function in ("sum", "mean", "median") and not pd.api.types.is_numeric_dtype(group.dtype):
                return None
            if len(members[place]) < 2 or not len(group):
                return None
            values = group if function == _ANY else [_aggregate(group, function)]
            if not any(_equals(each, cells[place]) for each in values):
                return None
            distinct = len({str(each) for each in group})
            bits, found = bits + math.log2(distinct), True
    return bits if found else None


def _aggregate(group: pd.Series, function: str) -> Any:
    if function in ("first", "last"):
        return group.iloc[0 if function == "first" else -1]
    return getattr(group, function)()


def _equals(one: Any, other: Any) -> bool:
    is_whole = isinstance(other, int | np.integer)
    if isinstance(one, float) and is_whole:
        return bool(abs(one - other) <= 0.5)
    whole = isinstance(one, int | np.integer) and is_whole
    return (whole or type(one) is type(other)) and bool(one == other)
