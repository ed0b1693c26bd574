"""Reading what changed in a span of time, and which rows left a filter meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.documents import identifier
from opp_pandas.api.frame_builder import Collected, Collector
from opp_pandas.api.paging import records_by_id
from opp_pandas.api.query import NOT_NULL, Query, filter_key
from opp_pandas.errors import DocumentError, ForeignRowsError, NotFoundError
from opp_pandas.instants import parse_instant
from opp_pandas.kinds import UnfitError

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.api.paging import Page
    from opp_pandas.frame_state import Rows

SWEEP_PAGE = 1000
IDS_PER_REQUEST = 100
_UPDATED = "filter[updatedAt]"


@dataclass(frozen=True, eq=False)
class Changed:
    """What a span of time brought: rows that fit the filter, and ids of known rows that do not any more.

    `date` is the service's clock at the first answer.
    """

    collected: Collected
    left: frozenset[int]
    pages: int
    date: pd.Timestamp | None = None

    @property
    def rows(self) -> Rows:
        """The rows alone."""
        return self.collected.rows


def _is_open(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA


def narrowed(
    filter: Mapping[str, Any],  # noqa: A002  # the service's own word
    since: pd.Timestamp,
    until: pd.Timestamp | None,
) -> dict[str, Any] | None:
    """Narrow a filter, as `settle_filter` gives it, to what was changed in a span with both ends in it.

    None where nothing can fit both.
    """
    own = next((name for name in filter if filter_key(str(name))[0] == _UPDATED), None)
    rest = {name: value for name, value in filter.items() if name != own}
    span: tuple[Any, Any] = (since, until)
    if own is None or filter[own] is NOT_NULL:
        return {**rest, "updated_at": span}
    value = filter[own]
    if _is_open(value):
        return None
    if not isinstance(value, tuple):
        return dict(filter)
    low = since if _is_open(value[0]) else max(since, pd.Timestamp(value[0]))
    ends = [pd.Timestamp(end) for end in (until, value[1]) if end is not None and not _is_open(end)]
    high = min(ends) if ends else None
    return None if high is not None and low > high else {**rest, "updated_at": (low, high)}


def read_changed(
    client: Client,
    query: Query,
    columns: Iterable[str],
    known: pd.Index,
    since: pd.Timestamp,
    until: pd.Timestamp | None = None,
) -> Changed:
    """Read the rows that were changed in a span, with one copy of each.

    Neither the order of the answers nor the upper end of the span is relied on: rows may come in
    any order, twice, and from beyond the span. The filter is as `settle_filter` gives it; `known`
    ids serve to find those that left it. Nothing changed takes one request, or two with a filter;
    any page that fails raises, since half a span is no result.
    """
    pages = 0
    date = None
    condition = narrowed(query.filter, since, until)
    with Collector(columns=columns) as collector:
        if condition is not None:
            asked = replace(query, filter=condition, sort=("updated_at", "id"), count=False)
            for page in client.walk(asked):
                collector.add_page(page)
                pages += 1
                date = page.date if date is None else date
        collected = collector.finish()
    left: frozenset[int] = frozenset()
    if query.filter and len(known):
        # A record that could not become a row was listed all the same.
        came = set(index_of(collected.rows.frame)) | set(records_by_id({"data": collected.quarantined["raw"]}))
        left = frozenset(changed_ids(client, known, since, until) - came)
    return Changed(collected, left, pages, date)


def changed_ids(client: Client, known: pd.Index, since: pd.Timestamp, until: pd.Timestamp | None) -> set[int]:
    """Return those of the known ids that were changed in a span, whatever filter they fit now."""
    span: dict[str, Any] = {"updated_at": (since, until)}
    found: set[int] = set()
    first = True
    for page in client.iter_pages(filter=span, fields=["updated_at"], page_size=SWEEP_PAGE, count=True):
        if first and page.count is not None and page.count // SWEEP_PAGE > len(known) // IDS_PER_REQUEST:
            # Much changed elsewhere: asking for the known ids takes fewer requests.
            return _listed(client, known, span, since)
        first = False
        found.update(_changed_on(page, since))
    return found.intersection(int(value) for value in known)


def ids_at_service(client: Client, wanted: Iterable[int]) -> set[int]:
    """Return those of some ids that the service lists; a hundred are asked for at once.

    A hundred at most are asked for one by one where the service ignores such lists.
    """
    ids = list(wanted)
    try:
        return _listed(client, ids, {}, None)
    except ForeignRowsError:
        if len(ids) > IDS_PER_REQUEST:
            raise
    found = set()
    for key in ids:
        with suppress(NotFoundError):
            found.add(client.get(key, fields=["updated_at"]).data["id"])
    return set(map(int, found))


def _listed(
    client: Client, wanted: Iterable[int], condition: Mapping[str, Any], since: pd.Timestamp | None
) -> set[int]:
    ids = [int(value) for value in wanted]
    if not ids:
        return set()
    pages = client.iter_pages(filter={**condition, "id": ids}, fields=["updated_at"], page_size=SWEEP_PAGE)
    return {key for page in pages for key in _changed_on(page, since)}


def _changed_on(page: Page, since: pd.Timestamp | None) -> Iterator[int]:
    """Return the ids of a page's rows that were changed since a moment; a service may ignore the span asked for."""
    for key, record in zip(ids_of(page), page.document["data"], strict=True):
        attributes = record.get("attributes")
        stamp = attributes.get("updatedAt") if isinstance(attributes, Mapping) else None
        if since is None or stamp is None or not _is_before(stamp, since):
            yield key


def _is_before(stamp: Any, moment: pd.Timestamp) -> bool:
    try:
        # The wire filters by milliseconds.
        return parse_instant(str(stamp))[0] // 1000 < int(moment.as_unit("ms").asm8.view("int64"))
    except ValueError:
        return False


def list_ids(client: Client, asked: Mapping[str, Any]) -> tuple[set[int], int | None]:
    """List all ids that fit a filter, and give how many more the service counts; None where it does not count.

    Where ids are missing, the list is made a second time. One that is not whole
    says nothing about deletions.
    """
    lacking = 0
    for _ in range(2):
        seen: set[int] = set()
        counts: dict[int, int | None] = {}
        for page in client.iter_pages(filter=asked, fields=["updated_at"], page_size=SWEEP_PAGE, count=True):
            counts.setdefault(page.part, page.count)
            seen.update(ids_of(page))
        counted = [count for count in counts.values() if count is not None]
        if len(counted) < len(counts):
            return seen, None
        # Deals that come during the sweep are more than counted; fewer means that a part of the list is missing.
        lacking = max(sum(counted) - len(seen), 0)
        if not lacking:
            break
    return seen, lacking


def ids_of(page: Page) -> list[int]:
    """Read the ids of a page's rows; a DocumentError if one has none, since what it is cannot be said then."""
    found = []
    for place, record in enumerate(page.document["data"]):
        try:
            found.append(identifier(record.get("id") if isinstance(record, Mapping) else None))
        except UnfitError as problem:
            raise DocumentError(f"a record cannot be told: {problem}", pointer=f"/data/{place}/id") from None
    return found


def index_of(frame: pd.DataFrame) -> pd.Index:
    """Return the ids of a frame that are there, as an index."""
    ids: pd.Index = pd.Index(frame["id"].dropna().to_numpy(dtype=np.int64))
    return ids


def joined_lookups(old: Mapping[str, pd.DataFrame], fresh: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Put look-ups by kind together; what was read later stands."""
    joined = {**old, **fresh}
    for kind in old.keys() & fresh.keys():
        both = pd.concat([fresh[kind], old[kind]], ignore_index=True).drop_duplicates("id")
        joined[kind] = both.sort_values("id", ignore_index=True)
    return joined
