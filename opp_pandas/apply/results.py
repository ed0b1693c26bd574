"""Taking the service's answers into the frame and into a new baseline.

The frame keeps its index, its order and its columns; only cells of rows that
the service answered for are set, and of those only what the answer held. The
old baseline is never touched: other copies of the frame go on with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.api.batches import make_frame
from opp_pandas.api.decode import decode_records, unknown_column
from opp_pandas.api.frame_builder import join_names
from opp_pandas.apply.status import Outcome, Status
from opp_pandas.frame_state import Loaded, Pending, Rows, attach_loaded, freeze
from opp_pandas.load.changed_records import joined_lookups
from opp_pandas.load.custom_fields import shown_cells
from opp_pandas.load.upsert import Places, extended, put
from opp_pandas.resource import INCLUDABLE, LOOKUP_COLUMNS, OPPORTUNITY

if TYPE_CHECKING:
    from opp_pandas.api.client import Client

Held = Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]]
"""By column, which of some answers held the attribute or relationship at all."""


def take_outcomes(
    frame: pd.DataFrame,
    loaded: Loaded,
    outcomes: Sequence[Outcome],
    lookups: Mapping[str, pd.DataFrame],
    client: Client | None = None,
) -> pd.DataFrame:
    """Write what the service answered into the frame that was written back, in place, and give it a new carrier.

    ``lookups`` are the names that were read since, ``client`` is where the rows
    are now, for frames that came from a file.
    """
    answered = [entry for entry in outcomes if entry.status.ok and entry.resource is not None]
    gone = [entry for entry in outcomes if entry.action == "delete" and entry.status in (Status.WRITTEN, Status.GONE)]
    unsure = [entry for entry in outcomes if entry.action == "create" and entry.status is Status.UNKNOWN]
    if not answered and not gone and not unsure:
        return frame
    known = joined_lookups(loaded.lookups, lookups)
    rows, held = _decode(answered, known)
    pending = dict(loaded.pending)
    for entry in unsure:
        # Nobody knows whether it exists: the next write-back has to look before it sends.
        pending[entry.row] = replace(pending[entry.row], attempted=True)
    baseline = _new_baseline(loaded.baseline, answered, rows, held, pending)
    places = np.array([entry.position for entry in answered], dtype=np.int64)
    _set_cells(frame, loaded, places, rows.frame, held)
    if gone:
        baseline, pending = _without(baseline, [entry.id for entry in gone], pending)
        _drop_rows(frame, [entry.position for entry in gone if entry.position >= 0])
    stages = loaded.stages.with_ids(lookups["opportunityStage"]) if "opportunityStage" in lookups else loaded.stages
    successor = loaded.renewed(
        baseline=baseline,
        created=pending,
        lookups=known,
        stages=stages,
        client=loaded.client if loaded.client is not None else client,
    )
    return attach_loaded(frame, successor)


def _decode(answered: Sequence[Outcome], lookups: Mapping[str, pd.DataFrame]) -> tuple[Rows, Held]:
    batch = decode_records([entry.resource for entry in answered])
    columns = ["id", *OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column]
    columns += [*(entry.column for entry in OPPORTUNITY.metadata), *batch.unknown_attributes.values()]
    frame = join_names(make_frame([batch], columns), lookups, INCLUDABLE)
    members = [_members(entry.resource or {}) for entry in answered]
    ids = {name: entry.id_column for name, entry in LOOKUP_COLUMNS.items()}
    held = {name: np.array([ids.get(name, name) in found for found in members], dtype=bool) for name in frame.columns}
    return Rows(frame, batch.marks), held


def _members(resource: Mapping[str, Any]) -> set[str]:
    """The columns that an answer says something about."""
    known = OPPORTUNITY.by_name
    attributes = resource.get("attributes") or {}
    found = {"id", *(known[name].column if name in known else unknown_column(name) for name in attributes)}
    for name, value in (resource.get("relationships") or {}).items():
        entry = OPPORTUNITY.relationship_by_name.get(name)
        if entry is not None and entry.column is not None and not (isinstance(value, Mapping) and "data" not in value):
            found.add(entry.column)
    meta = resource.get("meta")
    if isinstance(meta, Mapping):
        found |= {entry.column for entry in OPPORTUNITY.metadata if entry.name in meta}
    return found


def _new_baseline(base: Rows, answered: Sequence[Outcome], rows: Rows, held: Held, pending: dict[Any, Pending]) -> Rows:
    """Replace the rows that changed and append those that are new; created rows leave `pending`."""
    positions = base.ids.get_indexer(pd.Index(rows.frame["id"].to_numpy(dtype=np.int64)))
    appended = 0
    for place, entry in enumerate(answered):
        if entry.action == "create":
            own = pending.pop(entry.row).position
            if own is None:
                own, appended = len(base) + appended, appended + 1
            positions[place] = own
    frozen = freeze(rows.frame)
    arrays: dict[str, Any] = {}
    for column in base.frame.columns:
        array = extended(base.frame[column].array, appended)
        if column in frozen.columns:
            array = put(array, positions[held[column]], frozen[column][held[column]])
        arrays[column] = array
    touched = {(int(position), column) for column, own in held.items() for position in positions[own]}
    marks = base.marks.without(lambda *cell: cell in touched) | rows.marks.at(positions)
    fresh = pd.DataFrame(arrays, index=pd.RangeIndex(len(base) + appended), copy=False)
    return Rows(fresh, marks)


def _set_cells(frame: pd.DataFrame, loaded: Loaded, places: Places, answers: pd.DataFrame, held: Held) -> None:
    back = {label: column for column, label in loaded.labels.items()}
    for place, label in enumerate(frame.columns):
        column = back.get(str(label), label)
        if column not in answers.columns or not held[column].any():
            continue
        at, values, current = places[held[column]], answers[column][held[column]], frame.iloc[:, place]
        if column in loaded.converted:
            frame.isetitem(place, shown_cells(current, at, values, loaded.custom_fields[column]))
            continue
        # A drifted column takes its own dtype back when it can hold every cell.
        array = current.array if current.dtype == values.dtype else _restored(current, str(values.dtype))
        fresh = put(array, at, values)
        if fresh is not array or current.dtype != values.dtype:
            frame.isetitem(place, fresh)
    if "id" in frame.index.names:
        levels = frame.index.to_frame(index=False)
        ids = levels["id"].astype("Int64")
        ids.iloc[places] = answers["id"].array
        levels["id"] = ids
        frame.index = pd.Index(ids, name="id") if frame.index.nlevels == 1 else pd.MultiIndex.from_frame(levels)


def _restored(series: pd.Series, dtype: str) -> Any:
    try:
        return series.astype(cast("Any", dtype)).array
    except (ValueError, TypeError):
        return series.astype(object).array


def _without(
    baseline: Rows, ids: Sequence[int | None], pending: Mapping[Any, Pending]
) -> tuple[Rows, dict[Any, Pending]]:
    keep = np.flatnonzero(~baseline.frame["id"].isin([value for value in ids if value is not None]).to_numpy())
    fresh = np.full(len(baseline), -1)
    fresh[keep] = np.arange(len(keep))
    shorter = baseline.take(keep)
    moved = {
        label: entry if entry.position is None else replace(entry, position=int(fresh[entry.position]))
        for label, entry in pending.items()
    }
    return shorter, moved


def _drop_rows(frame: pd.DataFrame, places: Sequence[int]) -> None:
    kept = frame.iloc[np.setdiff1d(np.arange(len(frame)), places)]
    attrs = dict(frame.attrs)
    # pandas deprecates drop(inplace=True), and the frame that the user holds has to be this very one.
    pd.DataFrame.__init__(frame, kept)  # type: ignore[call-arg]
    frame.attrs.update(attrs)
