"""A load that goes on from a history: what was known then, and what changed since."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from opp_pandas.api.decode import unknown_attribute
from opp_pandas.api.frame_builder import Collected, Collector
from opp_pandas.errors import AccessDeniedError, ForeignRowsError, named
from opp_pandas.frame_state import Rows, require_loaded
from opp_pandas.history.query_identity import asked_for
from opp_pandas.load.changed_records import ids_at_service, index_of, joined_lookups, list_ids
from opp_pandas.load.fetch import Arrived, LoadPlan, count_opportunities
from opp_pandas.load.incremental import OVERLAP, catch_up
from opp_pandas.load.upsert import overlay
from opp_pandas.load.where import column_of
from opp_pandas.resource import COLUMN_DTYPES, LOOKUP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from opp_pandas.history import History

# Where more is missing than a tenth, the history is not what it seems: everything is read.
_MOST_MISSING = 0.1


def go_on(plan: LoadPlan, history: History, notes: list[str]) -> Arrived | None:
    """Bring the newest load of a history that fits up to date, in order of ids; the history is never written to.

    None, and a note that says why, where everything has to be read.
    """
    found = _continued(plan, history, notes)
    if isinstance(found, Arrived):
        return found
    notes.append(f"every row was read, although history= was given: {found}")
    return None


def _continued(plan: LoadPlan, history: History, notes: list[str]) -> Arrived | str:
    """Return what came, or why everything has to be read."""
    start = _start(plan, history)
    if isinstance(start, str):
        return start
    loaded = require_loaded(start, "history=")
    assert loaded.watermark is not None  # noqa: S101 -- a load without one is not given
    old = Rows(_without_names(start), loaded.baseline.marks)
    try:
        news = catch_up(
            plan.client,
            replace(plan.query, filter=plan.filter),
            old,
            loaded.lookups,
            loaded.watermark - OVERLAP,
            include=plan.include,
            zone=plan.zone,
        )
    except (AccessDeniedError, ForeignRowsError) as error:
        return error.message
    fresh = Rows(_without_names(news.fresh.frame), news.fresh.marks)
    unheard = [name for name in fresh.frame.columns if name not in old.frame.columns]
    if unheard and len(fresh):
        return f"the service sends {named(unheard)}, which the history has never seen"
    rows, _ = overlay(old, fresh)
    try:
        counted = _counted(plan, _dropped(rows, news.left))
    except ForeignRowsError as error:
        return error.message
    if counted is None:
        return "too many deals are not in it, or the service lists fewer than it counts"
    notes.append(
        f"{len(old):,} deals as they were at {loaded.watermark:%Y-%m-%d %H:%M} UTC, from {history.location}; "
        f"{len(fresh):,} changed since and were read again"
    )
    notes += [*news.collected.notes, *news.notes, *counted.notes]
    rows, ids = counted.rows, counted.rows.frame["id"].to_numpy(dtype=np.int64)
    # New deals stand last and mostly have the highest ids: then nothing has to move.
    came = vars(news.collected) | {
        "rows": rows if (ids[1:] > ids[:-1]).all() else rows.take(np.argsort(ids, kind="stable")),
        "lookups": joined_lookups(news.lookups, counted.lookups),
        "unknown_attributes": tuple(sorted({*news.collected.unknown_attributes, *_unknown(old.frame)})),
    }
    complete = False if len(news.collected.quarantined) else counted.complete
    return Arrived(**came, moment=news.moment, complete=complete, pages=news.pages)


def _start(plan: LoadPlan, history: History) -> pd.DataFrame | str:
    """Return the rows to begin from, or why there are none."""
    if plan.query.sort:
        return "only the service can put rows into the order of sort="
    if plan.query.authorization_meta or plan.query.data_connections:
        return "permissions and data connections change without a trace in updated_at"
    key = asked_for({"filter": plan.filter, "fields": plan.query.fields}, plan.client.url)
    if key is None:
        return "the filter cannot be compared with that of an earlier load"
    names = [name for name, entry in LOOKUP_COLUMNS.items() if entry.relation in plan.include]
    start = history.newest_load(key, ["id", *plan.columns, *names])
    if start is None:
        return "it holds no load from this service with this filter, these fields and names"
    for name in plan.condition.service:
        if column_of(name) not in start.columns:
            return f"only the service can test {name!r} of where="
    return start


def _without_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the columns that are joined by id, so that they are joined anew."""
    return frame[[name for name in frame.columns if name not in LOOKUP_COLUMNS]]


def _unknown(frame: pd.DataFrame) -> list[str]:
    """Return the attributes that this version does not know, by the service's names."""
    return [unknown_attribute(str(name)) for name in frame.columns if name not in COLUMN_DTYPES]


def _dropped(rows: Rows, ids: Iterable[int]) -> Rows:
    gone = rows.frame["id"].isin(set(ids)).to_numpy(dtype=bool)
    return rows.take(np.flatnonzero(~gone)) if gone.any() else rows


@dataclass(frozen=True, eq=False)
class _Counted:
    """Rows that were held against the service's own count."""

    rows: Rows
    complete: bool | None
    lookups: dict[str, pd.DataFrame]
    notes: tuple[str, ...] = ()


def _counted(plan: LoadPlan, rows: Rows) -> _Counted | None:
    """Find what left no trace in ``updated_at``: where the count differs, by listing all ids.

    None where that does not settle it.
    """
    client = plan.client
    count = count_opportunities(client, plan.filter)
    if count is None:
        note = "the service does not count, so deleted deals may still be here: df.opp.reconcile() finds them"
        return _Counted(rows, None, {}, (note,))
    if count == len(rows):
        return _Counted(rows, True, {})
    listed, lacking = list_ids(client, plan.filter)
    known = set(index_of(rows.frame).tolist())
    missing = listed - known
    if lacking or len(missing) > _MOST_MISSING * len(listed):
        return None
    gone = known - listed
    if not plan.filter:
        # Asked for by id, a deal that a lagging list lacks is there after all.
        gone -= ids_at_service(client, sorted(gone))
    notes = []
    if gone:
        where = "do not fit the filter any more, or are gone" if plan.filter else "are gone at the service"
        notes.append(f"{len(gone):,} deals {where}, without a trace in updated_at")
    rows = _dropped(rows, gone)
    lookups: dict[str, pd.DataFrame] = {}
    if missing:
        collected = _read_by_id(plan, sorted(missing))
        rows, _ = overlay(rows, collected.rows)
        lookups = dict(collected.lookups)
        notes.append(f"{len(missing):,} deals were new to this user, without a trace in updated_at")
    return _Counted(rows, listed.issubset(index_of(rows.frame)), lookups, tuple(notes))


def _read_by_id(plan: LoadPlan, ids: list[int]) -> Collected:
    with Collector(columns=plan.columns) as collector:
        for page in plan.client.walk(replace(plan.query, filter={"id": ids})):
            collector.add_page(page)
        return collector.finish()
