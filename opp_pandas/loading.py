"""From the service to a validated frame that knows what it was loaded from."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from opp_pandas.carrier import Baseline, Loaded, LoadReport, attach_loaded, freeze
from opp_pandas.errors import (
    AccessDeniedError,
    ConfigurationError,
    IncompleteLoadWarning,
    InvalidFrameError,
    InvalidValuesWarning,
    named,
)
from opp_pandas.resource import OPPORTUNITY, STAGE, USER, snake_case
from opp_pandas.service.collecting import Collected, Collector, join_names, lookup_frame
from opp_pandas.stages import StageMap, resolve_stages
from opp_pandas.zones import check_zone

if TYPE_CHECKING:
    from opp_pandas.service.client import Client

INCLUDABLE = ("stage", "owner", "account", "creator", "updater")
_SLOW_LOAD_S = 1.0


def read_opportunities(
    client: Client | None = None,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  # the service's own word, fixed by the interface
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
) -> pd.DataFrame:
    """Load opportunities into a frame.

    Parameters
    ----------
    client : Client, optional
        Where to read; default ``opp.connect()`` with its environment variables.
    filter : mapping, optional
        What the service should select, in column or API names: a value, a list
        of values, a ``(from, to)`` pair with None for an open end, or None for
        missing.
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

    collector = Collector(columns=_wanted_columns(fields, authorization_meta, data_connections))
    query = {
        "filter": filter,
        "sort": sort,
        "fields": fields,
        # Stages are read whole below, so their names need not come with every page.
        "include": tuple(name for name in wanted if name != "stage"),
        "authorization_meta": authorization_meta,
        "data_connections": data_connections,
    }
    try:
        as_of, pages, counts = _collect(client, collector, query, limit, page_size, progress)
    except AccessDeniedError as error:
        if not query["include"] or collector.rows:
            raise
        # A token that may read deals but not users or accounts still gets the deals.
        notes.append(f"names of owners and accounts are missing: {error.message}")
        query["include"] = ()
        as_of, pages, counts = _collect(client, collector, query, limit, page_size, progress)
    collected = collector.finish()
    lookups = dict(collected.lookups)
    service_stages = read_lookup(client, STAGE, notes)
    if service_stages is not None:
        lookups["opportunityStage"] = service_stages
    frame = join_names(_cut(collected.frame, limit), lookups, wanted)

    failures = _failures(frame, collected)
    complete = _completeness(client, query, collected, counts, limit, notes)
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
        baseline=Baseline(freeze(frame), _within(collected.wire, limit), frozenset(_within(collected.locked, limit))),
        stages=resolve_stages(stages, lookups.get("opportunityStage")),
        lookups=lookups,
        timezone=zone,
        as_of=as_of,
        client=client,
        report=report,
    )
    _warn(report, on_invalid)
    return attach_loaded(frame, loaded)


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


def _wanted_columns(fields: Iterable[str] | None, authorization_meta: bool, data_connections: bool) -> list[str]:
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
) -> tuple[pd.Timestamp, int, dict[int, int | None]]:
    """Walk the pages; give the moment of the load, the number of pages and the service's count per part."""
    from tqdm.auto import tqdm

    as_of: pd.Timestamp | None = None
    pages = 0
    counts: dict[int, int | None] = {}
    # disable=None: tqdm itself stays silent where nobody watches a terminal.
    hidden = None if progress is None else not progress
    with tqdm(
        desc="opportunities", unit="row", unit_scale=True, disable=hidden, delay=_SLOW_LOAD_S, leave=False
    ) as bar:
        for page in client.iter_pages(**query, page_size=page_size, count=limit is None):
            if as_of is None:
                as_of = page.date
            if page.part not in counts:
                counts[page.part] = page.count
                bar.total = _sum(counts)
            pages += 1
            before = collector.rows
            collector.add(page.document)
            bar.update(collector.rows - before)
            if limit is not None and collector.rows >= limit:
                break
    return (as_of if as_of is not None else pd.Timestamp.now(tz="UTC")), pages, counts


def _sum(counts: Mapping[int, int | None]) -> int | None:
    """Add up what the service counted for each part of a long filter; None if one was not counted."""
    known = [count for count in counts.values() if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _cut(frame: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    return frame if limit is None else frame.iloc[:limit]


def _within(marks: Mapping[tuple[int, str], Any], limit: int | None) -> dict[tuple[int, str], Any]:
    return {key: value for key, value in marks.items() if limit is None or key[0] < limit}


def _failures(frame: pd.DataFrame, collected: Collected) -> pd.DataFrame:
    """Rule breaks of the schema, and cells that could not take their dtype."""
    from opp_pandas.schema import find_failures

    failures = find_failures(frame)
    locked = [(row, column, reason) for (row, column), reason in collected.locked.items() if row < len(frame)]
    if not locked:
        return failures
    ids = frame["id"].array
    unread = pd.DataFrame(
        {
            "id": pd.array([ids[row] for row, _, _ in locked], dtype="Int64"),
            "row": [row for row, _, _ in locked],
            "column": [column for _, column, _ in locked],
            "value": pd.Series([collected.wire.get((row, column)) for row, column, _ in locked], dtype=object),
            "rule": [reason for _, _, reason in locked],
        }
    )
    return pd.concat([failures, unread], ignore_index=True) if len(failures) else unread


def _completeness(
    client: Client,
    query: Mapping[str, Any],
    collected: Collected,
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
    if len(collected.frame) == total:
        return True
    if len(counts) > 1:
        notes.append(f"the service counted {total:,} opportunities, {len(collected.frame):,} arrived")
        return False
    # Rows may have come or gone during the walk: ask once more before calling it incomplete.
    now = count_opportunities(client, query["filter"])
    if now is None:
        return None
    if now == len(collected.frame):
        return True
    notes.append(f"the service counts {now:,} opportunities, {len(collected.frame):,} arrived")
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
