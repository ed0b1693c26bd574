"""The whole walk: every page of what was asked for, and whether every row came."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd

from opp_pandas.api.checkpoint import iter_kept_pages
from opp_pandas.api.frame_builder import Collected, Collector, join_names, lookup_frame, name_notes
from opp_pandas.api.query import LISTS, Query, field_names, include_names
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.errors import (
    AccessDeniedError,
    DocumentError,
    ForeignRowsError,
    NotFoundError,
    ServiceError,
    named,
    printable,
)
from opp_pandas.load.arrival import ignores_fields, is_sorted, leave_out_unasked, leave_out_unfit
from opp_pandas.load.changed_records import index_of, joined_lookups, list_ids, read_changed
from opp_pandas.load.partitions import iter_partitioned
from opp_pandas.load.upsert import not_older, overlay
from opp_pandas.load.where import rows_that_fit
from opp_pandas.resource import LOOKUP_COLUMNS, OPPORTUNITY, STAGE, USER, snake_case

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from opp_pandas.api.client import Client
    from opp_pandas.api.paging import Page
    from opp_pandas.frame_state import Rows
    from opp_pandas.load.where import Where

_SLOW_LOAD_S = 1.0
_POSITION = re.compile(r"[?&](?:page(?:%5B|\[))?(?:offset|number|page|skip|start)(?:%5D|\])?=\d", re.IGNORECASE)
_TYPED = re.compile(rb'"type"\s*:\s*"%b"' % OPPORTUNITY.type.encode())
_READ_AGAIN = pd.Timedelta(seconds=60)
# As many as one request asks for: more would cost more than reading everything.
_MOST_ONE_BY_ONE = 100


@dataclass(frozen=True, eq=False)
class LoadPlan:
    """What a load asks for, and how.

    Stages are read whole, so that the query does not ask for their names with every page. `filter`
    is the user's own part of the query's, days turned into instants; the part of `condition` for
    the service is in the query's, too.
    """

    client: Client
    query: Query
    filter: Mapping[str, Any]
    condition: Where
    include: tuple[str, ...]
    zone: str | None
    limit: int | None = None
    progress: bool | None = None
    checkpoint: str | os.PathLike[str] | None = None
    partitions: int = 1

    @property
    def limit_of_walk(self) -> int | None:
        """The number of rows after which reading can stop; rows that do not fit here must not count."""
        return None if self.condition.local else self.limit

    @property
    def columns(self) -> list[str]:
        """The columns wanted, names apart."""
        return wanted_columns(self.query, self.include)


class Pages(Protocol):
    """What takes the pages of a walk: `Collector`, or one that writes them to files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None: ...

    @property
    def rows(self) -> int:
        """The rows decoded so far; waits for those under way."""

    @property
    def rows_at_hand(self) -> int:
        """The rows decoded so far, without waiting."""

    def add(self, document: Mapping[str, Any]) -> None:
        """Take a page that is parsed already."""

    def add_page(self, page: Page) -> None:
        """Take one page of a walk."""


@dataclass(frozen=True, eq=False)
class Arrived(Collected):
    """What came: deals without names, names by resource type, and what is to be said of it.

    `moment` is the service's clock at the first answer. `complete`: whether every row that the
    service counts is there, None where it was not counted.
    """

    moment: pd.Timestamp | None
    complete: bool | None
    pages: int
    in_order: bool = True


def select_rows(
    plan: LoadPlan, rows: Rows, lookups: Mapping[str, pd.DataFrame], notes: list[str]
) -> tuple[Rows, pd.DataFrame, pd.Series]:
    """Return the rows that were asked for, with names, those that came beside them, and the ids that were judged."""
    frame = leave_out_unasked(rows.frame, plan.query.fields)
    nameless = [
        entry.id_column
        for entry in LOOKUP_COLUMNS.values()
        if entry.relation in plan.query.include and entry.type not in lookups and entry.id_column in frame.columns
    ]
    if nameless := [column for column in dict.fromkeys(nameless) if frame[column].notna().any()]:
        notes.append(f"the service sent no names beside {named(nameless)}, although they were asked for (include=)")
    rows = replace(rows, frame=join_names(frame, lookups, plan.include))
    rows, left_out = leave_out_unfit(rows, plan.filter, plan.zone, notes)
    judged = rows.frame["id"]
    if plan.condition:
        fits = rows_that_fit(rows.frame, plan.condition, plan.zone)
        rows = rows if fits.all() else rows.take(np.flatnonzero(fits))
    return rows, left_out, judged


def wanted_columns(query: Query, include: Iterable[str]) -> list[str]:
    """Return the columns of a load, names apart: none that the service is not asked for."""
    extra = [
        entry.column
        for entry in OPPORTUNITY.metadata
        if (query.authorization_meta if entry.parameter == "provideAuthorizationMeta" else query.data_connections)
    ]
    if query.fields is None:
        return [*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column, *extra]
    asked = [snake_case(name) for name in query.fields]
    kept = [name for name in OPPORTUNITY.by_column if name in asked or name == "updated_at"]
    sent = sent_fields(query, include)
    related = [column for column, entry in OPPORTUNITY.relationship_by_column.items() if entry.name in sent]
    return [*kept, *related, *extra]


def sent_fields(query: Query, include: Iterable[str]) -> list[str]:
    """Return the API names in ``fields=`` as they are sent, with those that every load needs."""
    return dict(field_names(query.fields, OPPORTUNITY, include_names(include)))[OPPORTUNITY.type]


def read_all(plan: LoadPlan, notes: list[str]) -> Arrived:
    """Read every page, and then again what changed while the pages came; what a reader should know is noted."""
    client, limit = plan.client, plan.limit_of_walk
    collector = Collector(columns=plan.columns)
    walked = walk_pages(plan, collector, notes)
    collected = collector.finish()
    lookups = dict(collected.lookups)
    rows = collected.rows
    steady = rows.frame
    if len(collected.duplicates):
        # A row that moved while the pages came stands in two places, neither of them wrong.
        steady = steady[~steady["id"].isin(collected.duplicates["key"]).to_numpy(dtype=bool)]
    in_order = walked.one_by_one or len(walked.counts) > 1 or is_sorted(steady, walked.query.sort)
    notes.extend(collected.notes)
    if limit is None:
        fresh, left = changes_since(plan, walked, rows, lookups, notes)
        rows = _renewed(walked.query, rows, fresh, left, notes)
    stages = read_lookup(client, STAGE, notes)
    if stages is not None:
        lookups["opportunityStage"] = stages
    complete = completeness(plan, walked, rows, len(collected.quarantined), notes)
    came = vars(collected) | {"rows": rows, "lookups": lookups}
    return Arrived(**came, moment=walked.moment, complete=complete, pages=walked.pages, in_order=in_order)


@dataclass(frozen=True, eq=False)
class Walked:
    """How a walk went, by the query that was asked in the end.

    Counted is each part of a long filter; `one_by_one`: each deal was asked for by itself;
    `by_position`: pages began at a number of rows, not behind a record.
    """

    query: Query
    moment: pd.Timestamp | None
    pages: int
    counts: Mapping[int, int | None]
    one_by_one: bool = False
    by_position: bool = False


def walk_pages(plan: LoadPlan, collector: Pages, notes: list[str]) -> Walked:
    """Hand every page of what was asked for to a collector.

    A token that may not read names gets the deals without them, and a service
    that ignores a filter by id is asked in another way.
    """
    query = plan.query
    try:
        return _collect(plan, query, collector, notes)
    except AccessDeniedError as error:
        if not query.include or collector.rows:
            raise
        # A token that may read deals but not users or accounts still gets the deals.
        notes.append(f"names of owners and accounts are missing: {error.message}")
        query = replace(query, include=())
    except ForeignRowsError as error:
        wanted = query.filter["id"]
        if not isinstance(wanted, tuple) and len(_ids(wanted)) <= _MOST_ONE_BY_ONE:
            notes.append(f"{error.message}; each deal was asked for by itself")
            return _collect_one_by_one(plan.client, query, collector, _ids(wanted))
        # One walk without the ids brings what the walk with them would have brought; what was not asked for goes.
        notes.append(f"{error.message}; all deals were read")
        query = replace(query, filter={name: value for name, value in query.filter.items() if name != "id"})
    return _collect(plan, query, collector, notes)


def _ids(wanted: Any) -> list[int]:
    return [int(key) for key in (wanted if isinstance(wanted, LISTS) else [wanted])]


def _collect_one_by_one(client: Client, query: Query, collector: Pages, ids: Iterable[int]) -> Walked:
    """Read each deal at its own address, which no service can mistake."""
    moment: pd.Timestamp | None = None
    pages = 0
    shape = {name: getattr(query, name) for name in ("fields", "include", "authorization_meta", "data_connections")}
    for key in ids:
        with suppress(NotFoundError):
            answer = client.get(key, **shape)
            moment = answer.date if moment is None else moment
            collector.add({**(answer.document or {}), "data": [answer.data]})
            pages += 1
    return Walked(query, moment, pages, {}, one_by_one=True)


def _collect(plan: LoadPlan, query: Query, collector: Pages, notes: list[str]) -> Walked:
    """Walk the pages."""
    from tqdm.auto import tqdm

    moment: pd.Timestamp | None = None
    limit = plan.limit_of_walk
    asked = replace(query, count=limit is None)
    if plan.checkpoint is not None:
        walk = iter_kept_pages(plan.client, plan.checkpoint, asked)
    elif plan.partitions > 1:
        walk = iter_partitioned(plan.client, plan.partitions, asked)
    else:
        walk = plan.client.walk(asked)
    sent = None if query.fields is None else sent_fields(query, plan.include)
    pages = 0
    counts: dict[int, int | None] = {}
    by_position = False
    # disable=None: tqdm itself stays silent where nobody watches a terminal.
    hidden = None if plan.progress is None else not plan.progress
    with (
        collector,
        tqdm(desc="opportunities", unit="row", unit_scale=True, disable=hidden, delay=_SLOW_LOAD_S, leave=False) as bar,
    ):
        for page in walk:
            if moment is None:
                moment = page.date
            if page.part not in counts:
                counts[page.part] = page.count
                bar.total = _sum(counts)
            if not pages and sent is not None and ignores_fields(page.document, sent):
                notes.append("the service ignored fields=: it sent more, which was left out")
            if not pages:
                _check_types(page)
            by_position |= bool(_POSITION.search(page.next_url or ""))
            pages += 1
            collector.add_page(page)
            bar.update(collector.rows_at_hand - bar.n)
            if limit is not None and collector.rows >= limit:
                break
    return Walked(query, moment, pages, counts, by_position=by_position)


def _check_types(page: Page) -> None:
    """Refuse a collection of something else: taken record by record it would be a load without rows."""
    if _TYPED.search(page.body):
        return
    kinds = [record.get("type") if isinstance(record, dict) else record for record in page.document["data"]]
    if kinds and OPPORTUNITY.type not in kinds:
        shown = printable(repr(kinds[0]), 60)
        problem = f"the service sent {len(kinds):,} records, none of the type {OPPORTUNITY.type!r}; the first: {shown}"
        raise DocumentError(problem, pointer="/data/0/type", method="GET", url=redacted(page.url))


def _sum(counts: Mapping[int, int | None]) -> int | None:
    """Add up what the service counted for each part of a long filter; None if one was not counted."""
    known = [count for count in counts.values() if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def changes_since(
    plan: LoadPlan, walked: Walked, known: Rows, lookups: dict[str, pd.DataFrame], notes: list[str]
) -> tuple[Rows | None, frozenset[int]]:
    """Read what was changed during a walk: rows that are not older than the known ones, and ids that left the filter.

    Of `known` only ``id`` and ``updated_at`` are looked at; names that came are added to the look-ups.
    """
    if walked.moment is None:
        notes.append("the service sends no clock, so what was changed during the load was not read again")
    if walked.moment is None or walked.one_by_one:
        return None, frozenset()
    start = walked.moment - _READ_AGAIN
    try:
        changed = read_changed(plan.client, walked.query, plan.columns, index_of(known.frame), start)
    except ServiceError as error:
        # Every page is there; refresh() will find what was changed since the start.
        notes.append(f"what was changed during the load could not be read again: {error}")
        return None, frozenset()
    lookups.update(joined_lookups(lookups, changed.collected.lookups))
    notes.extend(note for note in changed.collected.notes if note not in notes)
    if unread := len(changed.collected.quarantined):
        notes.append(f"{unread:,} records that were changed during the load cannot be read: any copies here are older")
    return not_older(known, changed.rows), changed.left


def _renewed(query: Query, rows: Rows, fresh: Rows | None, left: frozenset[int], notes: list[str]) -> Rows:
    """Put rows that changed or came in their places, and leave out those that left the filter."""
    if fresh is not None and len(fresh):
        rows, _ = overlay(rows, fresh)
    if left:
        gone = rows.frame["id"].isin(left).to_numpy(dtype=bool)
        # A deal that never fitted came because the filter was ignored: it is left out, and counted, with its like.
        _, foreign = leave_out_unfit(rows.take(np.flatnonzero(gone)), query.filter, None, [])
        gone &= ~rows.frame["id"].isin(foreign["id"]).to_numpy(dtype=bool)
        if gone.any():
            rows = rows.take(np.flatnonzero(~gone))
            notes.append(gone_note(int(gone.sum())))
    return rows


def gone_note(number: int) -> str:
    """Count how many deals left the filter during a load."""
    return f"{number} deals left the filter while they were loaded"


def completeness(plan: LoadPlan, walked: Walked, found: Rows, quarantined: int, notes: list[str]) -> bool | None:
    """Return whether every row is there; None where a limit was given or the service does not count.

    Of `found` only ``id`` and ``created_at`` are looked at; what differs is noted.
    """
    rows, counts = len(found), walked.counts
    if quarantined:
        return False
    total = _sum(counts)
    if total is None or plan.limit_of_walk is not None:
        return None
    # A new deal that was not counted may stand for a counted one that is missing.
    if rows == total and (len(counts) > 1 or not _any_created(found, walked.moment)):
        return True
    if len(counts) > 1:
        notes.append(f"the service counted {total:,} opportunities, {rows:,} arrived")
        return False
    # Rows may have come or gone during the walk: ask once more before calling it incomplete.
    try:
        now = count_opportunities(plan.client, walked.query.filter)
        # Pages by position pass over a deal where one before it was deleted meanwhile.
        is_shifted = now == rows and walked.by_position
        listed = list_ids(plan.client, walked.query.filter)[0] if is_shifted else set()
    except ServiceError as error:
        notes.append(f"whether every deal came could not be asked again: {error}")
        return None
    if now is None:
        return None
    if missing := listed.difference(index_of(found.frame)):
        notes.append(f"{len(missing):,} deals were passed over, since others were deleted while the pages came")
        return False
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
    pages = client.walk(Query(filter or {}, fields=["updated_at"], page_size=1, count=True))
    first = next(iter(pages), None)
    return None if first is None else first.count


def read_lookup(client: Client, resource: Any, notes: list[str] | None = None) -> pd.DataFrame | None:
    """Read all stages or all users as a look-up; None, and a note, where there are none or the token may not."""
    try:
        pages = client.iter_pages(resource=resource, page_size=1000 if resource is USER else None)
        records = [entry for page in pages for entry in page.document["data"]]
    except (AccessDeniedError, NotFoundError) as error:
        if notes is not None:
            why = "the service has no" if isinstance(error, NotFoundError) else "the token may not read"
            notes.append(f"{why} {resource.path}: ids stand without names, order and meaning")
        return None
    if notes is not None:
        notes.extend(name_notes(records))
    return lookup_frame(records)
