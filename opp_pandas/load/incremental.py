"""What changed at the service since rows were read: the part that refreshing and warm starts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.frame_builder import Collected, join_names, lookup_frame
from opp_pandas.errors import AccessDeniedError
from opp_pandas.frame_state import Rows
from opp_pandas.load.changed_records import SWEEP_PAGE, index_of, joined_lookup, read_changed
from opp_pandas.load.fetch import wanted_columns
from opp_pandas.load.upsert import not_older
from opp_pandas.load.where import rows_that_fit, split_where
from opp_pandas.resource import ACCOUNT, INCLUDABLE, STAGE, USER, Resource

if TYPE_CHECKING:
    from opp_pandas.api.client import Client

OVERLAP = pd.Timedelta(minutes=2)
"""How far to go back behind the last load, for changes that the service makes visible late."""
# The service's clock is sent in whole seconds.
_CLOCK_STEP = pd.Timedelta(seconds=1)


@dataclass(frozen=True, eq=False)
class News:
    """What came to light since a moment.

    Parameters
    ----------
    fresh : Rows
        The deals that changed or are new and fit what was asked for, with names.
    left : frozenset of int
        Ids of known deals that do not fit any more.
    lookups : mapping of str to DataFrame
        Names by resource type, brought up to date.
    moment : Timestamp or None
        The service's clock at the first answer.
    pages : int
        Pages read.
    collected : Collected
        The deals as they came.
    notes : tuple of str
        What a reader should know.
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
    query: Mapping[str, Any],
    old: Rows,
    lookups: Mapping[str, pd.DataFrame],
    since: pd.Timestamp,
    *,
    zone: str | None,
    page_size: int | None = None,
) -> News:
    """Read what changed since a moment, and the names of stages, people and accounts.

    Parameters
    ----------
    client : Client
        Where to read.
    query : mapping
        What the load asked for, as in ``Loaded.query``.
    old : Rows
        The deals as they were known.
    lookups : mapping of str to DataFrame
        The names as they were known.
    since : Timestamp
        By the service's clock.
    zone : str or None
        The zone of days in ``where``.
    page_size : int, optional
        Rows asked for at once; default the client's.

    Returns
    -------
    News

    Raises
    ------
    ServiceError
        If anything cannot be read.
    """
    include = tuple(query.get("include") or ())
    now, moment = _read_lookups(client, include, lookups, since)
    flags = (bool(query.get("authorization_meta")), bool(query.get("data_connections")))
    changed = read_changed(
        client,
        {
            **{name: query[name] for name in ("fields", "authorization_meta", "data_connections") if name in query},
            "filter": query.get("filter") or {},
            "include": tuple(name for name in include if name != "stage"),
        },
        wanted_columns(query.get("fields"), include, *flags),
        index_of(old.frame),
        since,
        None if moment is None else moment + _CLOCK_STEP,
        page_size,
    )
    for kind, lookup in changed.collected.lookups.items():
        now[kind] = joined_lookup(lookup, now[kind]) if kind in now else lookup
    notes: list[str] = []
    fresh = not_older(old, changed.rows)
    fresh = Rows(join_names(fresh.frame, now, include), fresh.marks)
    fresh, left = _fitting(query, old, fresh, changed.left, zone, notes)
    date = changed.date if moment is None else moment
    return News(fresh, left, now, date, changed.pages, changed.collected, tuple(notes))


def _read_lookups(
    client: Client, include: Iterable[str], lookups: Mapping[str, pd.DataFrame], since: pd.Timestamp
) -> tuple[dict[str, pd.DataFrame], pd.Timestamp | None]:
    """Read names again; a renaming bumps the record that is renamed, not the deals."""
    found = dict(lookups)
    wanted = {INCLUDABLE[name] for name in include} | {STAGE.type}
    moment = None
    for resource in (STAGE, USER, ACCOUNT):
        if resource.type not in wanted or (resource is not STAGE and resource.type not in found):
            continue
        try:
            lookup, date = _read_lookup(client, resource, since)
        except AccessDeniedError:
            # The load said so already.
            continue
        moment = date if moment is None else moment
        found[resource.type] = lookup if resource is STAGE else joined_lookup(found[resource.type], lookup)
    return found, moment


def _read_lookup(client: Client, resource: Resource, since: pd.Timestamp) -> tuple[pd.DataFrame, pd.Timestamp | None]:
    asked: dict[str, Any] = {"resource": resource}
    if resource is not STAGE:
        asked |= {"filter": {"updated_at": (since, None)}, "sort": ("updated_at", "id")}
        names = ("name", "firstName", "lastName") if resource is USER else ("name",)
        asked |= {"fields": names, "page_size": SWEEP_PAGE}
    pages = list(client.iter_pages(**asked))
    found = lookup_frame(record for page in pages for record in page.document["data"])
    return found, pages[0].date if pages else None


def _fitting(
    query: Mapping[str, Any], old: Rows, fresh: Rows, left: frozenset[int], zone: str | None, notes: list[str]
) -> tuple[Rows, frozenset[int]]:
    """Keep what the load would have kept; give the rest with the rows that left."""
    where = split_where(query.get("where"), None, zone)
    if where and len(fresh):
        fits = rows_that_fit(fresh.frame, where, zone)
        out = set(fresh.frame["id"][~fits].tolist()) & set(index_of(old.frame).tolist())
        left, fresh = left | out, fresh.take(np.flatnonzero(fits))
    if query.get("limit") is not None and len(fresh):
        # Of a load with a limit nobody knows which deals were left out.
        known = fresh.frame["id"].isin(old.frame["id"]).to_numpy(dtype=bool)
        if not known.all():
            notes.append("new deals were not added, since the load had a limit")
        fresh = fresh.take(np.flatnonzero(known))
    return fresh, frozenset(left)
