"""The whole walk: every page of what was asked for, and whether every row came."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.frame_builder import Collected, Collector, lookup_frame
from opp_pandas.api.query import field_names, include_names
from opp_pandas.errors import AccessDeniedError, ServiceError
from opp_pandas.load.changed_records import index_of, joined_lookup, read_changed
from opp_pandas.load.checkpoint import iter_kept_pages
from opp_pandas.load.partitions import iter_partitioned
from opp_pandas.load.upsert import not_older, overlay
from opp_pandas.resource import OPPORTUNITY, STAGE, USER, snake_case

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.frame_state import Rows
    from opp_pandas.load.where import Where

_SLOW_LOAD_S = 1.0
_READ_AGAIN = pd.Timedelta(seconds=60)


@dataclass(frozen=True, eq=False)
class Asked:
    """What a load asks for.

    Parameters
    ----------
    client : Client
        Where to read.
    filter : mapping
        What the user's filter says, days turned into instants.
    condition : Where
        What ``where=`` says beside it.
    sort, fields, include, limit, authorization_meta, data_connections, page_size, progress, checkpoint, partitions
        As in `read_opportunities`.
    zone : str or None
        The zone of days.
    """

    client: Client
    filter: Mapping[str, Any]
    condition: Where
    sort: str | Sequence[str] | None
    fields: list[str] | None
    include: tuple[str, ...]
    zone: str | None
    limit: int | None
    authorization_meta: bool
    data_connections: bool
    page_size: int | None
    progress: bool | None
    checkpoint: str | os.PathLike[str] | None
    partitions: int = 1

    @property
    def columns(self) -> list[str]:
        """The columns wanted, names apart."""
        return wanted_columns(self.fields, self.include, self.authorization_meta, self.data_connections)

    @property
    def query(self) -> dict[str, Any]:
        """What is sent to the service."""
        return {
            "filter": self.filter,
            "sort": self.sort,
            "fields": self.fields,
            # Stages are read whole, so their names need not come with every page.
            "include": tuple(name for name in self.include if name != "stage"),
            "authorization_meta": self.authorization_meta,
            "data_connections": self.data_connections,
        }


@dataclass(frozen=True, eq=False)
class Arrived:
    """What came.

    Parameters
    ----------
    rows : Rows
        The deals, without names.
    lookups : mapping of str to DataFrame
        Names by resource type.
    moment : Timestamp or None
        The service's clock at the first answer.
    complete : bool or None
        Whether every row that the service counts is there; None: it was not counted.
    pages : int
        Pages read.
    quarantined, duplicates : DataFrame
        As in `LoadReport`.
    unknown_attributes, unknown_relationships : tuple of str
        As in `LoadReport`.
    """

    rows: Rows
    lookups: Mapping[str, pd.DataFrame]
    moment: pd.Timestamp | None
    complete: bool | None
    pages: int
    quarantined: pd.DataFrame
    duplicates: pd.DataFrame
    unknown_attributes: tuple[str, ...] = field(default=())
    unknown_relationships: tuple[str, ...] = field(default=())


def wanted_columns(
    fields: Iterable[str] | None, include: Iterable[str], authorization_meta: bool, data_connections: bool
) -> list[str]:
    """Give the columns of a load with these arguments, names apart: none that the service is not asked for."""
    extra = [
        entry.column
        for entry in OPPORTUNITY.metadata
        if (authorization_meta if entry.parameter == "provideAuthorizationMeta" else data_connections)
    ]
    if fields is None:
        return [*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column, *extra]
    fields = list(fields)
    asked = [snake_case(name) for name in fields]
    kept = [name for name in OPPORTUNITY.by_column if name in asked or name == "updated_at"]
    sent = dict(field_names(fields, OPPORTUNITY, include_names(include)))[OPPORTUNITY.type]
    related = [column for column, entry in OPPORTUNITY.relationship_by_column.items() if entry.name in sent]
    return [*kept, *related, *extra]


def read_whole(asked: Asked, notes: list[str]) -> Arrived:
    """Read every page, and then again what changed while the pages came.

    Parameters
    ----------
    asked : Asked
        What to read.
    notes : list of str
        What a reader should know is added to it.

    Returns
    -------
    Arrived

    Raises
    ------
    ServiceError
        If the service cannot be read.
    """
    client = asked.client
    query = {**asked.query, "filter": {**asked.filter, **asked.condition.service}}
    # Rows that do not fit here must not count towards the limit.
    limit = None if asked.condition.local else asked.limit
    collector = Collector(columns=asked.columns)
    try:
        moment, pages, counts = _collect(asked, collector, query, limit)
    except AccessDeniedError as error:
        if not query["include"] or collector.rows:
            raise
        # A token that may read deals but not users or accounts still gets the deals.
        notes.append(f"names of owners and accounts are missing: {error.message}")
        query["include"] = ()
        moment, pages, counts = _collect(asked, collector, query, limit)
    collected = collector.finish()
    lookups = dict(collected.lookups)
    rows = collected.rows
    if moment is None and limit is None:
        notes.append("the service sends no clock, so what was changed during the load was not read again")
    elif moment is not None and limit is None:
        rows = _read_again(client, query, asked.columns, rows, moment, lookups, notes)
    stages = read_lookup(client, STAGE, notes)
    if stages is not None:
        lookups["opportunityStage"] = stages
    return Arrived(
        rows,
        lookups,
        moment,
        _completeness(client, query, collected, rows, moment, counts, limit, notes),
        pages,
        collected.quarantined,
        collected.duplicates,
        collected.unknown_attributes,
        collected.unknown_relationships,
    )


def _collect(
    asked: Asked, collector: Collector, query: Mapping[str, Any], limit: int | None
) -> tuple[pd.Timestamp | None, int, dict[int, int | None]]:
    """Walk the pages; give the service's time at the first, the number of pages and the service's count per part."""
    from tqdm.auto import tqdm

    moment: pd.Timestamp | None = None
    walk = asked.client.iter_pages
    if asked.checkpoint is not None:
        walk = partial(iter_kept_pages, asked.client, asked.checkpoint)
    elif asked.partitions > 1:
        walk = partial(iter_partitioned, asked.client, asked.partitions)
    pages = 0
    counts: dict[int, int | None] = {}
    # disable=None: tqdm itself stays silent where nobody watches a terminal.
    hidden = None if asked.progress is None else not asked.progress
    with (
        collector,
        tqdm(desc="opportunities", unit="row", unit_scale=True, disable=hidden, delay=_SLOW_LOAD_S, leave=False) as bar,
    ):
        for page in walk(**query, page_size=asked.page_size, count=limit is None):
            if moment is None:
                moment = page.date
            if page.part not in counts:
                counts[page.part] = page.count
                bar.total = _sum(counts)
            pages += 1
            before = collector.received
            collector.add_page(page)
            bar.update(collector.received - before)
            # Records set aside are no rows: the exact count waits for the decoding, so it comes last.
            if limit is not None and collector.received >= limit and collector.rows >= limit:
                break
    return moment, pages, counts


def _sum(counts: Mapping[int, int | None]) -> int | None:
    """Add up what the service counted for each part of a long filter; None if one was not counted."""
    known = [count for count in counts.values() if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _read_again(
    client: Client,
    query: Mapping[str, Any],
    columns: Iterable[str],
    rows: Rows,
    start: pd.Timestamp,
    lookups: dict[str, pd.DataFrame],
    notes: list[str],
) -> Rows:
    """Read what was changed during the walk: rows that changed, came, or left the filter."""
    try:
        changed = read_changed(client, query, columns, index_of(rows.frame), start - _READ_AGAIN)
    except ServiceError as error:
        # Every page is there; refresh() will find what was changed since the start.
        notes.append(f"what was changed during the load could not be read again: {error}")
        return rows
    for kind, lookup in changed.collected.lookups.items():
        lookups[kind] = joined_lookup(lookups.get(kind), lookup)
    fresh = not_older(rows, changed.rows)
    if len(fresh):
        rows, _ = overlay(rows, fresh)
    if changed.left:
        rows = rows.take(np.flatnonzero(~rows.frame["id"].isin(changed.left).to_numpy(dtype=bool)))
        notes.append(f"{len(changed.left)} deals left the filter while they were loaded")
    return rows


def _completeness(
    client: Client,
    query: Mapping[str, Any],
    collected: Collected,
    found: Rows,
    moment: pd.Timestamp | None,
    counts: Mapping[int, int | None],
    limit: int | None,
    notes: list[str],
) -> bool | None:
    """Whether every row is there; None where a limit was given or the service does not count."""
    rows = len(found)
    if len(collected.quarantined):
        return False
    total = _sum(counts)
    if limit is not None or total is None:
        return None
    # A new deal that was not counted may stand for a counted one that is missing.
    if rows == total and (len(counts) > 1 or not _any_created(found, moment)):
        return True
    if len(counts) > 1:
        notes.append(f"the service counted {total:,} opportunities, {rows:,} arrived")
        return False
    # Rows may have come or gone during the walk: ask once more before calling it incomplete.
    now = count_opportunities(client, query["filter"])
    if now is None:
        return None
    if now == rows:
        return True
    notes.append(f"the service counts {now:,} opportunities, {rows:,} arrived")
    return False


def _any_created(rows: Rows, since: pd.Timestamp | None) -> bool:
    """Whether a deal was created after a moment of the service's clock, which it tells in whole seconds."""
    if since is None or "created_at" not in rows.frame.columns:
        return False
    return bool((rows.frame["created_at"] > since + pd.Timedelta(seconds=1)).any())


def count_opportunities(client: Client, filter: Mapping[str, Any] | None = None) -> int | None:  # noqa: A002
    """Ask the service how many opportunities fit; None where it does not count.

    A filter that becomes several requests (more ids than one takes) is counted
    for its first request only; the caller has to know.
    """
    pages = client.iter_pages(filter=filter, fields=["updated_at"], page_size=1, count=True)
    first = next(iter(pages), None)
    return None if first is None else first.count


def read_lookup(client: Client, resource: Any, notes: list[str] | None = None) -> pd.DataFrame | None:
    """Read all stages or all users as a look-up; None, and a note, where the token may not."""
    try:
        pages = client.iter_pages(resource=resource, page_size=1000 if resource is USER else None)
        return lookup_frame(entry for page in pages for entry in page.document["data"])
    except AccessDeniedError:
        if notes is not None:
            notes.append(f"the token may not read {resource.path}: ids stand without names, order and meaning")
        return None
