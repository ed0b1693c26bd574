"""What changed at the service since rows were read: the part that refreshing and warm starts share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.frame_builder import Collected, join_names, lookup_frame, name_notes
from opp_pandas.errors import AccessDeniedError, NotFoundError
from opp_pandas.load.arrival import ignored_note, leave_out_unasked, leave_out_unfit
from opp_pandas.load.changed_records import SWEEP_PAGE, index_of, joined_lookups, read_changed
from opp_pandas.load.fetch import wanted_columns
from opp_pandas.load.upsert import not_older
from opp_pandas.load.where import rows_that_fit, split_where
from opp_pandas.resource import LOOKUP_COLUMNS, RESOURCES, STAGE, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opp_pandas.api.client import Client
    from opp_pandas.api.query import Query
    from opp_pandas.frame_state import Rows

OVERLAP = pd.Timedelta(minutes=2)
"""How far to go back behind the last load, for changes that the service makes visible late."""
# The service's clock is sent in whole seconds.
_CLOCK_STEP = pd.Timedelta(seconds=1)


@dataclass(frozen=True, eq=False)
class News:
    """What came to light since a moment: deals that changed or are new, and ids of those that do not fit any more.

    `collected` holds the deals as they came; `moment` is the service's clock at the first answer.
    """

    fresh: Rows
    left: frozenset[int]
    lookups: dict[str, pd.DataFrame]
    moment: pd.Timestamp | None
    pages: int
    collected: Collected
    notes: tuple[str, ...] = ()


def catch_up(
    client: Client,
    query: Query,
    old: Rows,
    lookups: Mapping[str, pd.DataFrame],
    since: pd.Timestamp,
    *,
    include: tuple[str, ...],
    zone: str | None,
    where: Mapping[str, Any] | None = None,
    limited: bool = False,
) -> News:
    """Read what changed since a moment by the service's clock, and the names of stages, people and accounts.

    `where` are those conditions of the load that are tested here, `limited` whether it left deals
    out by ``limit=``.
    """
    notes: list[str] = []
    now, moment = _read_lookups(client, include, lookups, since, notes)
    changed = read_changed(
        client,
        replace(query, include=tuple(name for name in include if name != "stage")),
        wanted_columns(query, include),
        index_of(old.frame),
        since,
        None if moment is None else moment + _CLOCK_STEP,
    )
    now = joined_lookups(changed.collected.lookups, now)
    notes += changed.collected.notes
    fresh = not_older(old, changed.rows)
    named = leave_out_unasked(join_names(fresh.frame, now, include), query.fields)
    fits, left_out = leave_out_unfit(replace(fresh, frame=named), query.filter, zone, notes)
    notes += [ignored_note(left_out)] if len(left_out) else []
    known = index_of(old.frame)
    left = changed.left | set(known[known.isin(left_out["id"])].tolist())
    fits, left = _meeting(where, old, fits, left, zone)
    if limited and len(fits):
        # Of a load with a limit nobody knows which deals were left out.
        is_known = fits.frame["id"].isin(known).to_numpy(dtype=bool)
        if not is_known.all():
            notes.append("new deals were not added, since the load had a limit")
        fits = fits.take(np.flatnonzero(is_known))
    date = changed.date if moment is None else moment
    return News(fits, left, now, date, changed.pages, changed.collected, tuple(notes))


def _read_lookups(
    client: Client, include: Iterable[str], lookups: Mapping[str, pd.DataFrame], since: pd.Timestamp, notes: list[str]
) -> tuple[dict[str, pd.DataFrame], pd.Timestamp | None]:
    """Read names again; a renaming bumps the record that is renamed, not the deals."""
    found = dict(lookups)
    entries = [entry for entry in LOOKUP_COLUMNS.values() if entry.relation in include]
    wanted = dict.fromkeys((STAGE.type, *(entry.type for entry in entries)))
    # Names that are joined through another record: where that one leads may have changed.
    links = {entry.type: (entry.field.removesuffix("_id"),) for entry in entries if entry.field.endswith("_id")}
    moment = None
    for resource in (RESOURCES[kind] for kind in wanted):
        if resource is not STAGE and resource.type not in found:
            continue
        try:
            lookups_now, date = _read_lookup(client, resource, since, links.get(resource.type, ()), notes)
        except AccessDeniedError:
            # The load said so already.
            continue
        except NotFoundError:
            notes.append(f"the service has no {resource.path}: their names are those of the load before")
            continue
        moment = date if moment is None else moment
        found = {**found, **lookups_now} if resource is STAGE else joined_lookups(found, lookups_now)
    return found, moment


def _read_lookup(
    client: Client, resource: Resource, since: pd.Timestamp, links: tuple[str, ...], notes: list[str]
) -> tuple[dict[str, pd.DataFrame], pd.Timestamp | None]:
    asked: dict[str, Any] = {"resource": resource}
    if resource is not STAGE:
        asked |= {"filter": {"updated_at": (since, None)}, "sort": ("updated_at", "id")}
        names = ("name", "firstName", "lastName") if "firstName" in resource.by_name else ("name",)
        asked |= {"fields": names, "include": links, "page_size": SWEEP_PAGE}
    pages = list(client.iter_pages(**asked))
    records = [record for page in pages for record in page.document["data"]]
    notes += name_notes(records)
    found = {resource.type: lookup_frame(records)}
    included = [record for page in pages for record in page.document.get("included") or ()]
    for kind in dict.fromkeys(record["type"] for record in included):
        found[kind] = lookup_frame(record for record in included if record["type"] == kind)
    return found, pages[0].date if pages else None


def _meeting(
    conditions: Mapping[str, Any] | None, old: Rows, fresh: Rows, left: frozenset[int], zone: str | None
) -> tuple[Rows, frozenset[int]]:
    """Keep what meets ``where=``; give the rest with the rows that left."""
    where = split_where(conditions, None, zone)
    if not where or not len(fresh):
        return fresh, left
    fits = rows_that_fit(fresh.frame, where, zone)
    out = set(fresh.frame["id"][~fits].tolist()) & set(index_of(old.frame).tolist())
    return fresh.take(np.flatnonzero(fits)), left | out
