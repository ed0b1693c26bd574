"""From the service to a validated frame that knows what it was loaded from."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.carrier import Baseline, Loaded, LoadReport, attach_loaded, freeze
from opp_pandas.errors import (
    AccessDeniedError,
    ConfigurationError,
    IncompleteLoadWarning,
    InvalidFrameError,
    InvalidValuesWarning,
    ServiceError,
    named,
)
from opp_pandas.reading.checkpoints import iter_kept_pages, remove_checkpoint
from opp_pandas.reading.labels import columns_by_label, fields_by_column
from opp_pandas.reading.overlaying import Rows, not_older, overlay
from opp_pandas.reading.selecting import Where, columns_needed, rows_that_fit, split_where, without_labels
from opp_pandas.reading.sweeps import index_of, joined_lookup, read_changed, with_instants
from opp_pandas.resource import OPPORTUNITY, STAGE, USER, snake_case
from opp_pandas.service.collecting import Collected, Collector, join_names, lookup_frame
from opp_pandas.stages import StageMap, resolve_stages
from opp_pandas.zones import check_zone

if TYPE_CHECKING:
    from opp_pandas.service.client import Client
    from opp_pandas.service.customs import CustomField

INCLUDABLE = ("stage", "owner", "account", "creator", "updater")
_SLOW_LOAD_S = 1.0
READ_AGAIN_S = pd.Timedelta(seconds=60)


def read_opportunities(
    client: Client | None = None,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  # the service's own word, fixed by the interface
    where: Mapping[str, Any] | None = None,
    sort: str | Sequence[str] | None = None,
    fields: Iterable[str] | None = None,
    include: Iterable[str] = ("stage", "owner", "account"),
    stages: StageMap | None = None,
    timezone: str | None = None,
    limit: int | None = None,
    on_invalid: Literal["warn", "raise", "ignore"] = "warn",
    progress: bool | None = None,
    authorization_meta: bool = False,
    data_connections: bool = False,
    page_size: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Load opportunities into a frame.

    After the last page, what was changed while the pages came is read again (by
    the service's clock, from a minute before the start), so that the frame is
    not a mixture of before and after.

    Parameters
    ----------
    client : Client, optional
        Where to read; default ``opp.connect()`` with its environment variables.
    filter : mapping, optional
        What the service should select, in column or API names: a value, a list
        of values, a ``(from, to)`` pair with None for an open end, or None for
        missing. Days are days of `timezone`.
    where : mapping, optional
        The same words for any column, close date, amount, tags and custom
        fields too: what the service cannot test is tested here, after loading.
        A tag fits if it is among the deal's tags. Custom fields may be named by
        their label; texts in them are compared as numbers or days where the
        condition is one. ``load_report.notes`` says which part ran where.
    sort : str or sequence of str, optional
        Columns to sort by at the service, ``-`` in front for descending. The
        walk is most robust in its default order, by id.
    fields : iterable of str, optional
        The columns to load; relationships and ``updated_at`` always come.
    include : iterable of str
        Which names to join: stage, owner, account, creator, updater.
    stages : StageMap, optional
        Which stages are won and lost, their order and percentages; without it
        won and lost are guessed from the stages' names.
    timezone : str, optional
        Zone of calendar days, such as ``"America/New_York"``; default the
        client's. Without any, figures use UTC and say so.
    limit : int, optional
        Largest number of rows [opportunities].
    on_invalid : {"warn", "raise", "ignore"}
        What to do about values that break the schema; rows are never dropped.
    progress : bool, optional
        Show a progress bar; default: only on a terminal or in a notebook, and
        only when the load takes longer than a second.
    authorization_meta, data_connections : bool
        Ask for ``can_write`` and ``can_delete``, and for ``data_connections``.
    page_size : int, optional
        Rows asked for at once; default the client's.
    checkpoint : path, optional
        A file that keeps each page as it comes, readable by its owner only. A
        load that was stopped goes on from there when it is called again with
        the same arguments; the file is removed when the load is complete.

    Returns
    -------
    DataFrame, shape (n, k)
        One row per opportunity with a plain RangeIndex, dtypes as in
        `OpportunitySchema`. ``df.opp.load_report`` says how the load went.

    Raises
    ------
    ConfigurationError
        If no address or token is known, or an argument cannot be used.
    ServiceError
        If the service cannot be read.
    InvalidFrameError
        With ``on_invalid="raise"``, if values break the schema.

    Warns
    -----
    InvalidValuesWarning
        With ``on_invalid="warn"``, once, if values break the schema.
    IncompleteLoadWarning
        If fewer or more rows arrived than the service counted, or records had
        to be set aside.
    """
    if client is None:
        from opp_pandas.service.client import connect

        client = connect()
    wanted = _checked_include(include)
    if on_invalid not in ("warn", "raise", "ignore"):
        raise ConfigurationError(f"on_invalid is 'warn', 'raise' or 'ignore', not {on_invalid!r}")
    if limit is not None and limit < 0:
        raise ConfigurationError(f"limit is a number of rows, 0 or more, not {limit}")
    started, calls_before = time.monotonic(), client.calls
    zone = timezone if timezone is not None else client.timezone
    if zone is not None:
        check_zone(zone)
    notes: list[str] = []

    custom_fields: dict[str, CustomField] = {}
    conditions, condition = _settled_conditions(client, filter, where, zone, custom_fields)
    if fields is not None:
        fields = [*fields, *columns_needed(condition)]
    columns = wanted_columns(fields, authorization_meta, data_connections)
    collector = Collector(columns=columns)
    query = {
        "filter": conditions,
        "sort": sort,
        "fields": fields,
        # Stages are read whole below, so their names need not come with every page.
        "include": tuple(name for name in wanted if name != "stage"),
        "authorization_meta": authorization_meta,
        "data_connections": data_connections,
    }
    # Rows that do not fit here must not count towards the limit.
    most = None if condition.local else limit
    try:
        moment, pages, counts = _collect(client, collector, query, most, page_size, progress, checkpoint)
    except AccessDeniedError as error:
        if not query["include"] or collector.rows:
            raise
        # A token that may read deals but not users or accounts still gets the deals.
        notes.append(f"names of owners and accounts are missing: {error.message}")
        query["include"] = ()
        moment, pages, counts = _collect(client, collector, query, most, page_size, progress, checkpoint)
    collected = collector.finish()
    lookups = dict(collected.lookups)
    rows = Rows(collected.frame, collected.wire, collected.locked)
    if moment is not None and most is None:
        rows = _read_again(client, query, columns, rows, moment, lookups, notes)
    service_stages = read_lookup(client, STAGE, notes)
    if service_stages is not None:
        lookups["opportunityStage"] = service_stages
    complete = _completeness(client, query, collected, len(rows), counts, most, notes)
    rows = _fitting(replace(rows, frame=join_names(rows.frame, lookups, wanted)), condition, zone, notes)
    if limit is not None and len(rows) > limit:
        rows = rows.take(np.arange(limit))
        complete = None
    frame = rows.frame

    failures = row_failures(rows)
    report = LoadReport(
        source=client.url,
        rows=len(frame),
        complete=complete,
        failures=failures,
        quarantined=collected.quarantined,
        duplicates=collected.duplicates,
        unknown_attributes=collected.unknown_attributes,
        unknown_relationships=collected.unknown_relationships,
        notes=tuple(notes),
        pages=pages,
        requests=client.calls - calls_before,
        elapsed_s=time.monotonic() - started,
    )
    loaded = Loaded(
        kind="read",
        baseline=Baseline(freeze(frame), rows.wire, frozenset(rows.locked)),
        stages=resolve_stages(stages, lookups.get("opportunityStage")),
        lookups=lookups,
        timezone=zone,
        as_of=moment if moment is not None else pd.Timestamp.now(tz="UTC"),
        client=client,
        report=report,
        query={**query, "where": condition.local, "include": wanted, "limit": limit, "stages": stages},
        watermark=moment,
        custom_fields=custom_fields,
    )
    _warn(report, on_invalid)
    if checkpoint is not None:
        remove_checkpoint(checkpoint)
    return attach_loaded(frame, loaded)


def _settled_conditions(
    client: Client,
    filter: Mapping[str, Any] | None,  # noqa: A002  # the service's own word
    where: Mapping[str, Any] | None,
    zone: str | None,
    custom_fields: dict[str, CustomField],
) -> tuple[dict[str, Any], Where]:
    """Give the filter to send, and the condition to test here: columns for labels, instants for days."""

    def labels() -> Mapping[str, str]:
        if not custom_fields:
            custom_fields.update(fields_by_column(client))
        return columns_by_label(custom_fields)

    asked = without_labels(filter, labels)
    condition = split_where(without_labels(where, labels), asked, zone)
    return with_instants({**asked, **condition.service}, zone), condition


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
        changed = read_changed(client, query, columns, index_of(rows.frame), start - READ_AGAIN_S)
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


def _fitting(rows: Rows, condition: Where, zone: str | None, notes: list[str]) -> Rows:
    """Keep the rows for which `where` holds."""
    if not condition:
        return rows
    fits = rows_that_fit(rows.frame, condition, zone)
    notes.append(condition.note(int(fits.sum()), len(rows)))
    return rows if fits.all() else rows.take(np.flatnonzero(fits))


def read_lookup(client: Client, resource: Any, notes: list[str] | None = None) -> pd.DataFrame | None:
    """Read all stages or all users as a look-up; None, and a note, where the token may not."""
    try:
        pages = client.iter_pages(resource=resource, page_size=1000 if resource is USER else None)
        return lookup_frame(entry for page in pages for entry in page.document["data"])
    except AccessDeniedError:
        if notes is not None:
            notes.append(f"the token may not read {resource.path}: ids stand without names, order and meaning")
        return None


def _checked_include(include: Iterable[str]) -> tuple[str, ...]:
    wanted = (include,) if isinstance(include, str) else tuple(include)
    unknown = [name for name in wanted if name not in INCLUDABLE]
    if unknown:
        raise ConfigurationError(f"include knows {named(INCLUDABLE)}; not {named(unknown)}")
    return wanted


def wanted_columns(fields: Iterable[str] | None, authorization_meta: bool, data_connections: bool) -> list[str]:
    """Give the columns of a load with these arguments, names apart."""
    extra = [
        entry.column
        for entry in OPPORTUNITY.metadata
        if (authorization_meta if entry.parameter == "provideAuthorizationMeta" else data_connections)
    ]
    if fields is None:
        return [*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column, *extra]
    asked = [snake_case(name) for name in fields]
    kept = [name for name in OPPORTUNITY.by_column if name in asked or name == "updated_at"]
    return [*kept, *OPPORTUNITY.relationship_by_column, *extra]


def _collect(
    client: Client,
    collector: Collector,
    query: Mapping[str, Any],
    limit: int | None,
    page_size: int | None,
    progress: bool | None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[pd.Timestamp | None, int, dict[int, int | None]]:
    """Walk the pages; give the service's time at the first, the number of pages and the service's count per part."""
    from tqdm.auto import tqdm

    moment: pd.Timestamp | None = None
    walk = client.iter_pages if checkpoint is None else partial(iter_kept_pages, client, checkpoint)
    pages = 0
    counts: dict[int, int | None] = {}
    # disable=None: tqdm itself stays silent where nobody watches a terminal.
    hidden = None if progress is None else not progress
    with (
        collector,
        tqdm(desc="opportunities", unit="row", unit_scale=True, disable=hidden, delay=_SLOW_LOAD_S, leave=False) as bar,
    ):
        for page in walk(**query, page_size=page_size, count=limit is None):
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


def row_failures(rows: Rows) -> pd.DataFrame:
    """Rule breaks of the schema, and cells that could not take their dtype."""
    from opp_pandas.schema import find_failures

    failures = find_failures(rows.frame)
    locked = [(row, column, reason) for (row, column), reason in rows.locked.items()]
    if not locked:
        return failures
    ids = rows.frame["id"].array
    unread = pd.DataFrame(
        {
            "id": pd.array([ids[row] for row, _, _ in locked], dtype="Int64"),
            "row": [row for row, _, _ in locked],
            "column": [column for _, column, _ in locked],
            "value": pd.Series([rows.wire.get((row, column)) for row, column, _ in locked], dtype=object),
            "rule": [reason for _, _, reason in locked],
        }
    )
    return pd.concat([failures, unread], ignore_index=True) if len(failures) else unread


def _completeness(
    client: Client,
    query: Mapping[str, Any],
    collected: Collected,
    rows: int,
    counts: Mapping[int, int | None],
    limit: int | None,
    notes: list[str],
) -> bool | None:
    """Whether every row is there; None where a limit was given or the service does not count."""
    if len(collected.quarantined):
        return False
    total = _sum(counts)
    if limit is not None or total is None:
        return None
    if rows == total:
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


def count_opportunities(client: Client, filter: Mapping[str, Any] | None = None) -> int | None:  # noqa: A002
    """Ask the service how many opportunities fit; None where it does not count.

    A filter that becomes several requests (more ids than one takes) is counted
    for its first request only; the caller has to know.
    """
    pages = client.iter_pages(filter=filter, fields=["updated_at"], page_size=1, count=True)
    first = next(iter(pages), None)
    return None if first is None else first.count


def _warn(report: LoadReport, on_invalid: str) -> None:
    if len(report.failures) and on_invalid == "raise":
        raise InvalidFrameError(report.failures)
    if report.complete is False:
        words = "; ".join(report.notes) or f"{len(report.quarantined)} records were set aside"
        warnings.warn(f"not every row is in the frame: {words}; see df.opp.load_report", IncompleteLoadWarning, 3)
    if len(report.failures) and on_invalid == "warn":
        counts = report.failures["column"].value_counts()
        words = ", ".join(f"{column} {count}" for column, count in counts.head(5).items())
        text = (
            f"{len(report.failures)} values break the schema and were kept ({words}); see df.opp.load_report.failures"
        )
        warnings.warn(text, InvalidValuesWarning, 3)
