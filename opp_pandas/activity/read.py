"""From the service to a frame of activity, by as few requests as the service's filters allow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.activity.sources import SOURCES, Source, activity_frame
from opp_pandas.api.checkpoint import iter_kept_pages, remove_checkpoint
from opp_pandas.api.documents import identifier
from opp_pandas.api.frame_builder import Collector
from opp_pandas.api.query import MAX_PAGE_SIZE, MAX_VALUES, Query
from opp_pandas.errors import AccessDeniedError, ConfigurationError, MissingColumnError
from opp_pandas.kinds import UnfitError

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.api.frame_builder import Collected
    from opp_pandas.api.paging import Page
    from opp_pandas.resource import Resource

ATTRS_KEY = "opp_activity"
_SLOW_LOAD_S = 1.0


def read_activity(
    client: Client | None = None,
    deals: pd.DataFrame | Iterable[int] | None = None,
    *,
    since: Any = None,
    limit: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Load meetings, calls, mailings, tasks and events on deals into one frame.

    Parameters
    ----------
    client : Client, optional
        Where to read; default ``opp.connect()`` with its environment variables.
    deals : DataFrame or iterable of int, optional
        The deals, as a frame with ``id`` or by their ids; left out, all that have activity.
    since : str, datetime or date, optional
        Only what changed from then on; of events, which do not change, what came.
    limit : int, optional
        Largest number of rows; the resources are read one after the other [rows].
    checkpoint : path, optional
        Pages are kept in files that begin with it, readable by their owner only.
        A load that was stopped goes on from there when it is called again with
        the same arguments; they are removed when it is complete.
    progress : bool, optional
        Show a progress bar; default as in `read_opportunities`.

    Returns
    -------
    DataFrame
        A row for each activity and each deal that it is on, by deal and moment:
        ``opportunity_id, kind, id, done_at, planned_at, created_at, updated_at,
        user_id, state, detail, type``. ``kind`` is meeting, call, mailing, task or
        event, ``type`` the service's own; ``id`` is unique within a type.
        ``done_at`` is missing for what was not done, or not dated.
        ``.attrs["opp_activity"]`` holds the number of ``requests``, the service's
        clock (``as_of``), whether it is ``complete``, and ``notes``.

    Raises
    ------
    ConfigurationError
        If an argument cannot be used.
    ServiceError
        If the service cannot be read.

    Notes
    -----
    A resource is asked for a hundred deals at a time, or read whole where that
    takes fewer requests, as where most activity is on the deals asked for: its
    records are counted with the first page. For d deals with a records these are
    at most 4 x (d / 100 + 1) + a / 1,000 requests.

    Examples
    --------
    >>> import opp_pandas as opp
    >>> with opp.sandbox(opportunities=40, now="2026-09-01T08:00:00Z") as box:
    ...     activity = opp.read_activity(box.client(), [1, 2, 3])
    >>> sorted(activity["kind"].unique())
    ['call', 'event', 'mailing', 'meeting', 'task']
    """
    if client is None:
        from opp_pandas.api.client import connect

        client = connect()
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 0):
        raise ConfigurationError(f"limit is a number of rows, 0 or more, not {limit!r}")
    load = _Load(client, None if deals is None else _ids_of(deals), since, limit, checkpoint, progress)
    return load.run()


def read_more_activity(client: Client, deals: pd.DataFrame, known: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    """Read what changed since a moment, all of deals that are new, and put it in the place of what was known.

    Parameters
    ----------
    client : Client
    deals : DataFrame
        With ``id``; the activity on others is left out.
    known : DataFrame
        The activity so far.
    since : Timestamp
    """
    ids = _ids_of(deals)
    seen = set(known["opportunity_id"].dropna())
    asked = (([key for key in ids if key in seen], since), ([key for key in ids if key not in seen], None))
    parts = [read_activity(client, own, since=start, progress=False) for own, start in asked]
    changed = pd.concat(parts, ignore_index=True)
    keys = pd.MultiIndex.from_frame(changed[["type", "id"]])
    stays = ~pd.MultiIndex.from_frame(known[["type", "id"]]).isin(keys) & known["opportunity_id"].isin(ids)
    found = pd.concat([known[stays], changed], ignore_index=True)
    facts = [part.attrs[ATTRS_KEY] for part in parts]
    found.attrs[ATTRS_KEY] = facts[0] | {
        "requests": sum(fact["requests"] for fact in facts),
        "complete": all(fact["complete"] for fact in facts),
        "notes": list(dict.fromkeys(note for fact in facts for note in fact["notes"])),
    }
    return found


def _ids_of(deals: pd.DataFrame | Iterable[int]) -> list[int]:
    if isinstance(deals, pd.DataFrame):
        if "id" not in deals.columns:
            raise MissingColumnError(["id"], list(deals.columns), "Activity is read by the deals' ids.")
        deals = deals["id"].dropna()
    try:
        return sorted({identifier(entry.item() if isinstance(entry, np.generic) else entry) for entry in deals})
    except (UnfitError, TypeError):
        raise ConfigurationError("deals= is a frame with the column id, or ids such as [12, 15]") from None


@dataclass
class _Load:
    client: Client
    ids: list[int] | None
    since: Any
    limit: int | None
    checkpoint: str | os.PathLike[str] | None
    progress: bool | None
    notes: list[str] = field(default_factory=list)
    moment: pd.Timestamp | None = None
    complete: bool = True

    def run(self) -> pd.DataFrame:
        """Read one resource after the other."""
        from tqdm.auto import tqdm

        before, parts = self.client.calls, [activity_frame()]
        hidden = None if self.progress is None else not self.progress
        with tqdm(desc="activity", unit="row", unit_scale=True, disable=hidden, delay=_SLOW_LOAD_S, leave=False) as bar:
            for source in SOURCES if self.ids != [] else ():
                left = None if self.limit is None else self.limit - sum(map(len, parts))
                if left is not None and left <= 0:
                    break
                try:
                    parts.append(self._read(source, left, bar))
                except AccessDeniedError as error:
                    self.complete = False
                    self.notes.append(f"the token may not read {source.resource.path}: {error.message}")
        for source in SOURCES if self.checkpoint is not None else ():
            remove_checkpoint(self._file(source))
        frame = pd.concat(parts, ignore_index=True)
        if self.limit is not None and len(frame) >= self.limit:
            frame, self.complete = frame.head(self.limit), False
        moment = frame["done_at"].fillna(frame["planned_at"])
        order = ["opportunity_id", "moment", "type", "id"]
        frame = frame.assign(moment=moment).sort_values(order, ignore_index=True).drop(columns="moment")
        undated = int((moment.isna() & frame["kind"].ne("event") & frame["state"].ne("bounced")).sum())
        if undated:
            self.notes.append(f"{undated:,} records do not say when they were done or are due: no touches")
        frame.attrs[ATTRS_KEY] = {
            "requests": self.client.calls - before,
            "as_of": None if self.moment is None else self.moment.isoformat(),
            "complete": self.complete,
            "notes": self.notes,
        }
        return frame

    def _read(self, source: Source, most: int | None, bar: Any) -> pd.DataFrame:
        fields = [*source.fields, "opportunity"]
        query = Query(
            {} if self.since is None else {source.changed: (self.since, None)}, fields=fields, page_size=MAX_PAGE_SIZE
        )
        wanted = None if self.ids is None else np.array(self.ids, dtype=np.int64)
        shown = bar.n
        with Collector(source.resource, _columns(source)) as collector:
            for page in self._pages(source, query):
                self.moment = page.date if self.moment is None else self.moment
                collector.add_page(page)
                bar.update(shown + collector.rows_at_hand - bar.n)
                # With a limit rows are few: waiting until they are decoded costs little.
                if most is not None and collector.rows >= most:
                    break
            collected = collector.finish()
        if len(collected.quarantined):
            self.complete = False
            self.notes.append(f"{len(collected.quarantined):,} {source.resource.path} could not be read")
        rows = _typed(_by_deal(collected), source.resource)
        on_asked = rows["opportunity_id"].notna() if wanted is None else rows["opportunity_id"].isin(wanted)
        rows = rows[on_asked]
        facts = {name: rows[name] for name in ("opportunity_id", "id", "created_at", "updated_at", "user_id", "state")
                 if name in rows}  # fmt: skip
        return activity_frame({**facts, "type": source.resource.type, **source.read(rows)}, rows.index)

    def _pages(self, source: Source, query: Query) -> Iterator[Page]:
        """Return the pages of a resource, by deals or whole, whichever takes fewer requests."""
        if self.ids is None:
            yield from self._walk(source, query)
            return
        pieces = -(-len(self.ids) // MAX_VALUES)
        # A file goes on with the same requests only, and a limit means rows on these deals.
        if pieces > 1 and self.checkpoint is None and self.limit is None:
            # How many pages the whole resource has is known with its first one.
            pages = self.client.walk(replace(query, count=True), resource=source.resource)
            first = next(pages)
            if first.next_url is None or (first.count is not None and -(-first.count // MAX_PAGE_SIZE) <= pieces):
                yield first
                yield from pages
                return
        by_deal = replace(query, filter={**query.filter, "opportunity": self.ids})
        part = 0
        for page in self._walk(source, by_deal):
            if page.part != part:
                part, asked = page.part, set(self.ids[(page.part - 1) * MAX_VALUES : page.part * MAX_VALUES])
                ignored = not _deals_on(page) <= asked
                if ignored:
                    self.notes.append(
                        f"the service ignored filter[opportunity][id]: all {source.resource.path} were read"
                    )
            yield page
            # This part alone is the whole resource: the others would bring the same again.
            if ignored and page.next_url is None:
                return

    def _walk(self, source: Source, query: Query) -> Iterator[Page]:
        if self.checkpoint is None:
            return self.client.walk(query, resource=source.resource)
        return iter_kept_pages(self.client, self._file(source), query, source.resource)

    def _file(self, source: Source) -> str:
        return f"{os.fspath(self.checkpoint or '')}.{source.resource.path}"


def _columns(source: Source) -> list[str]:
    related = source.resource.relationship_by_name
    named = [(related[name].column or name) if name in related else name for name in source.fields]
    return ["opportunity_id", *named]


def _typed(rows: pd.DataFrame, resource: Resource) -> pd.DataFrame:
    """Return the rows with the dtypes of their resource, also where no record had a value."""
    dtypes = {entry.column: entry.dtype for entry in resource.attributes}
    dtypes |= dict.fromkeys(resource.relationship_by_column, "Int64")
    empty = [
        name for name, dtype in dtypes.items() if name in rows and rows[name].dtype != dtype and rows[name].isna().all()
    ]
    return rows.astype(dict.fromkeys(empty, "object")).astype({name: dtypes[name] for name in empty})


def _deals_on(page: Page) -> set[int]:
    """Return the ids of the deals that a page's records are on."""
    return {
        int(target["id"])
        for record in page.document["data"]
        for related in [record.get("relationships") if isinstance(record, dict) else None]
        for target in _targets(related.get("opportunity") if isinstance(related, dict) else None)
    }


def _targets(related: Any) -> list[Any]:
    """Return what a relationship points to: one, none, or, where a service lets a record be on several deals, many."""
    found = related.get("data") if isinstance(related, dict) else None
    entries = found if isinstance(found, list) else [found]
    usable = []
    for entry in entries:
        with suppress(UnfitError):
            if isinstance(entry, dict) and entry.get("type", "opportunity") == "opportunity":
                usable.append({"id": identifier(entry.get("id"))})
    return usable


def _by_deal(collected: Collected) -> pd.DataFrame:
    """Return a row for each record and each deal that it is on."""
    rows = collected.rows.frame
    several = {
        row: [target["id"] for target in _targets(value)]
        for (row, column), value in collected.rows.marks.original.items()
        if column == "opportunity_id" and isinstance(value, dict) and isinstance(value.get("data"), list)
    }
    if not several:
        return rows
    deals: list[Any] = rows["opportunity_id"].tolist()
    for row, found in several.items():
        deals[row] = found or pd.NA
    spread = rows.assign(opportunity_id=pd.Series(deals, index=rows.index, dtype="object")).explode(
        "opportunity_id", ignore_index=True
    )
    return spread.astype({"opportunity_id": "Int64"})
