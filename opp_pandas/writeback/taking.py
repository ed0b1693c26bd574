"""Taking the service's answers into the frame and into a new baseline.

The frame keeps its index, its order and its columns; only cells of rows that
the service answered for are set. The old baseline is never touched: other
copies of the frame go on with theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.carrier import Baseline, Loaded, attach_loaded, freeze
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.service.collecting import join_names
from opp_pandas.service.decoding import column_array, decode_resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opp_pandas.writeback.writer import Outcome

TAKEN = frozenset({"written", "adjusted", "unchanged"})


def take_outcomes(
    frame: pd.DataFrame, loaded: Loaded, outcomes: Sequence[Outcome], lookups: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Write what the service answered into `frame`, in place, and give it a new carrier.

    Parameters
    ----------
    frame : DataFrame
        The frame that was written back.
    loaded : Loaded
        What it carried.
    outcomes : sequence of Outcome
        How each change went.
    lookups : mapping of str to DataFrame
        Look-ups for names, as read since.

    Returns
    -------
    DataFrame
        `frame`.
    """
    answered = [entry for entry in outcomes if entry.status in TAKEN and entry.resource is not None]
    gone = [entry for entry in outcomes if entry.action == "delete" and entry.status in ("written", "gone")]
    if not answered and not gone:
        return frame
    known = _joined(loaded.lookups, lookups)
    rows, wire, locked = _decode(answered, known)
    places = np.array([entry.position for entry in answered], dtype=np.int64)
    baseline, created = _new_baseline(frame, loaded, answered, rows, wire, locked)
    _set_cells(frame, loaded, places, rows)
    if gone:
        baseline = _without(baseline, [entry.id for entry in gone])
        _drop_rows(frame, [entry.position for entry in gone if entry.position >= 0])
        created = _renumbered(created, loaded, baseline)
    stages = loaded.stages
    if "opportunityStage" in lookups:
        stages = stages.with_ids(lookups["opportunityStage"])
    return attach_loaded(frame, loaded.renewed(baseline=baseline, created=created, lookups=known, stages=stages))


def _joined(loaded: Mapping[str, pd.DataFrame], fresh: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Put look-ups together; what was read later stands."""
    both = dict(loaded)
    for kind, lookup in fresh.items():
        parts = [lookup, both[kind]] if kind in both else [lookup]
        both[kind] = pd.concat(parts, ignore_index=True).drop_duplicates("id", ignore_index=True)
    return both


def _decode(
    answered: Sequence[Outcome], lookups: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, dict[tuple[int, str], Any], set[tuple[int, str]]]:
    cells = decode_resources(entry.resource for entry in answered)
    arrays = {name: column_array(values, COLUMN_DTYPES.get(name, "infer")) for name, values in cells.columns.items()}
    rows = pd.DataFrame(arrays, index=pd.RangeIndex(len(cells)))
    include = ("stage", "owner", "account", "creator", "updater")
    return join_names(rows, lookups, include), cells.wire, set(cells.locked)


def _new_baseline(
    frame: pd.DataFrame,
    loaded: Loaded,
    answered: Sequence[Outcome],
    rows: pd.DataFrame,
    wire: Mapping[tuple[int, str], Any],
    locked: set[tuple[int, str]],
) -> tuple[Baseline, dict[Any, Any]]:
    """Replace the rows that changed and append those that are new."""
    base = loaded.baseline
    created = dict(loaded.created)
    positions, appended = np.empty(len(answered), dtype=np.int64), 0
    known = base.ids.get_indexer(rows["id"])
    for place, entry in enumerate(answered):
        position = int(known[place])
        if entry.action == "create":
            created.pop(entry.row, None)
            position = loaded.pending[entry.row].position
            if position is None:
                position = len(base) + appended
                appended += 1
        positions[place] = position
    frozen = freeze(rows)
    arrays: dict[str, Any] = {}
    for column in base.frame.columns:
        array = base.frame[column].array
        if appended:
            array = _extended(array, appended)
        if column in frozen.columns:
            array = _with(array, positions, frozen[column])
        arrays[column] = array
    changed = set(positions.tolist())
    kept_wire = {key: value for key, value in base.wire.items() if key[0] not in changed}
    kept_locked = {key for key in base.locked if key[0] not in changed}
    kept_wire |= {(int(positions[row]), column): value for (row, column), value in wire.items()}
    kept_locked |= {(int(positions[row]), column) for row, column in locked}
    fresh = pd.DataFrame(arrays, index=pd.RangeIndex(len(base) + appended), copy=False)
    return Baseline(fresh, kept_wire, frozenset(kept_locked)), created


def _extended(array: Any, number: int) -> Any:
    if isinstance(array, np.ndarray) or array.dtype == object:
        return np.concatenate([np.asarray(array, dtype=object), np.full(number, None, dtype=object)])
    return array.take(np.append(np.arange(len(array)), np.full(number, -1)), allow_fill=True)


def _with(array: Any, positions: np.ndarray[Any, Any], values: pd.Series) -> Any:
    """Copy `array` with `values` at `positions`; the same array where nothing differs."""
    if not len(positions):
        return array
    if array.dtype == object:
        fresh = np.array(array, dtype=object)
        for position, value in zip(positions, values.array, strict=True):
            fresh[position] = value
        return fresh
    replacement = values.astype(array.dtype).array
    before = array.take(positions)
    if pd.Series(before).equals(pd.Series(replacement)):
        return array
    fresh = array.copy()
    fresh[positions] = replacement
    return fresh


def _set_cells(frame: pd.DataFrame, loaded: Loaded, places: np.ndarray[Any, Any], rows: pd.DataFrame) -> None:
    """Set the answered rows in the user's frame, column by column."""
    back = {label: column for column, label in loaded.labels.items()}
    for place, label in enumerate(frame.columns):
        column = back.get(label, label)
        if column not in rows.columns:
            continue
        values = rows[column]
        current = frame.iloc[:, place].array
        if str(current.dtype) != str(values.dtype):
            # A drifted column takes its own dtype back when it can hold every cell.
            current = _restored(frame.iloc[:, place], str(values.dtype))
        frame.isetitem(place, _with(current, places, values))
    if "id" in frame.index.names:
        levels = frame.index.to_frame(index=False)
        ids = levels["id"].astype("Int64")
        ids.iloc[places] = rows["id"].array
        levels["id"] = ids
        single = frame.index.nlevels == 1
        frame.index = pd.Index(levels["id"], name="id") if single else pd.MultiIndex.from_frame(levels)


def _restored(series: pd.Series, dtype: str) -> Any:
    try:
        return series.astype(dtype).array
    except (ValueError, TypeError):
        return series.astype(object).array


def _without(baseline: Baseline, ids: Sequence[int | None]) -> Baseline:
    """Give the baseline without deleted rows."""
    keep = np.flatnonzero(~baseline.frame["id"].isin([value for value in ids if value is not None]).to_numpy())
    fresh = np.full(len(baseline), -1)
    fresh[keep] = np.arange(len(keep))
    return Baseline(
        baseline.frame.iloc[keep].reset_index(drop=True),
        {(int(fresh[row]), column): value for (row, column), value in baseline.wire.items() if fresh[row] >= 0},
        frozenset((int(fresh[row]), column) for row, column in baseline.locked if fresh[row] >= 0),
    )


def _renumbered(created: Mapping[Any, Any], loaded: Loaded, baseline: Baseline) -> dict[Any, Any]:
    """Adopted rows that are still to be created: find their new places after rows were dropped before them."""
    missing = np.flatnonzero(baseline.frame["id"].isna().to_numpy())
    waiting = sorted((value, label) for label, value in created.items() if isinstance(value, int))
    moved = {label: int(place) for (_, label), place in zip(waiting, missing, strict=False)}
    return {label: moved.get(label, value) for label, value in created.items()}


def _drop_rows(frame: pd.DataFrame, places: Sequence[int]) -> None:
    """Drop rows by position, in place, whatever the index is like."""
    if not places:
        return
    keep = np.setdiff1d(np.arange(len(frame)), places)
    labels = frame.index[keep]
    frame.index = pd.RangeIndex(len(frame))
    frame.drop(index=list(places), inplace=True)
    frame.index = labels
