"""From the pages of a collection to one frame.

A page's way: `Collector` has it parsed (`opp_pandas.api.page_parser`), a thousand
records at a time become columns that are decoded to Arrow (`opp_pandas.api.decode`),
all batches one frame with one row per id, and `join_names` puts the names beside the ids.

Pages may overlap: rows move while a walk runs, so a row can come twice. One
row per id stays, the copy with the later ``updated_at``; of equal copies the
one that came last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from opp_pandas.api.batches import Batch, Positions, column_array, make_frame, without_collection
from opp_pandas.api.decode import decode_document, decode_pages
from opp_pandas.api.documents import identifier, parse_document
from opp_pandas.api.page_parser import PageParser, ParsedPage
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.frame_state import CellMarks, Rows
from opp_pandas.kinds import INT64_MAX, TEXT, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, LOOKUP_COLUMNS, OPPORTUNITY, Resource

if TYPE_CHECKING:
    from opp_pandas.api.paging import Page

BLOCK_BYTES = 2_000_000
# Of short pages: more records would leave the processor's cache before they are columns.
_RECORDS_TOGETHER = 1_000

# What a person looks at first; everything else follows in the order of the resource table.
LEADING = (
    "id",
    "name",
    "amount",
    "currency_type",
    "probability",
    "close_date",
    *(
        column
        for relation in ("stage", "owner", "account")
        for column in (
            f"{relation}_id",
            *(name for name, entry in LOOKUP_COLUMNS.items() if entry.relation == relation),
        )
    ),
)
_LEADS = frozenset(LEADING)


@dataclass(frozen=True)
class Collected:
    """A whole collection, decoded; `regular` and `irregular` records went one way and the other."""

    rows: Rows
    quarantined: pd.DataFrame
    duplicates: pd.DataFrame
    lookups: Mapping[str, pd.DataFrame]
    unknown_attributes: tuple[str, ...]
    unknown_relationships: tuple[str, ...]
    regular: int
    irregular: int
    notes: tuple[str, ...]


class _Body(NamedTuple):
    """The bytes of a page, its number, and the request."""

    text: bytes
    page: int
    where: dict[str, Any]


_Batches = list[Batch]


class Collector:
    """Takes pages and gives one frame at the end.

    Bodies are decoded in blocks of some megabytes by a thread of its own, while
    the caller fetches the next page; at most two blocks wait. What cannot be
    decoded raises a DocumentError at a later call, at the latest in `finish`.

    Columns are by default all of the resource's attributes and relationships; those of
    metadata come only when named. `first_page` is for what is said of a page, from 0.
    """

    def __init__(
        self, resource: Resource = OPPORTUNITY, columns: Iterable[str] | None = None, *, first_page: int = 0
    ) -> None:
        self.resource = resource
        everything = ("id", *resource.by_column, *resource.relationship_by_column)
        self.columns = tuple(everything if columns is None else dict.fromkeys(("id", *columns)))
        self.block_bytes = BLOCK_BYTES
        self._pages = first_page
        self._done: list[_Batches | Future[_Batches]] = []
        self._block: list[_Body] = []
        self._parser = PageParser(resource, _Included.read)
        self._worker: ThreadPoolExecutor | None = None
        self._included: dict[str, dict[int, _Included]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.close(cancel=kind is not None)

    def close(self, *, cancel: bool = False) -> None:
        """Let the thread end after what is under way, a fraction of a second; `cancel`: drop what waits."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=cancel)
            self._worker = None

    @property
    def rows(self) -> int:
        """The rows decoded so far; waits for those under way."""
        return sum(batch.rows for batch in self._batches())

    @property
    def rows_at_hand(self) -> int:
        """The rows decoded so far, without waiting."""
        done = (_result(entry) for entry in self._done if isinstance(entry, list) or entry.done())
        return sum(batch.rows for batches in done for batch in batches)

    def add(self, document: Mapping[str, Any]) -> None:
        """Decode one page that is parsed already."""
        self._send_block()
        self._done.append([self._decode_document(document, self._pages)])
        self._pages += 1

    def add_body(self, body: bytes, **where: Any) -> None:
        """Take the bytes of one page; `where`: the request, for errors, as in `parse_document`."""
        self._block.append(_Body(body, self._pages, where))
        self._pages += 1
        if sum(len(body.text) for body in self._block) >= self.block_bytes:
            self._send_block()

    def add_page(self, page: Page) -> None:
        """Take one page of a walk."""
        self.add_body(page.body, method="GET", url=redacted(page.url), request_id=page.request_id)

    def _note(self, included: Iterable[_Included | None]) -> None:
        for entry in filter(None, included):
            self._included.setdefault(entry.type, {})[entry.key] = entry

    def _send_block(self) -> None:
        if not self._block:
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="opp-decoding")
        block, self._block = self._block, []
        self._done.append(self._worker.submit(self._decode, block))
        waiting = [entry for entry in self._done[-3:] if isinstance(entry, Future)]
        if len(waiting) == 3:
            waiting[0].result()

    def _decode(self, block: list[_Body]) -> _Batches:
        batches: _Batches = []
        together: list[tuple[ParsedPage, _Body]] = []
        with without_collection():
            for body in block:
                page = self._parser.parse(body.text)
                if together and (page is None or not page.form.has_names_of(together[0][0].form)):
                    batches += self._decode_together(together)
                if page is None:
                    batches.append(self._decode_alone(body))
                    continue
                together.append((page, body))
                if sum(len(page.records) for page, _ in together) >= _RECORDS_TOGETHER:
                    batches += self._decode_together(together)
            return batches + self._decode_together(together)

    def _decode_together(self, pages: list[tuple[ParsedPage, _Body]]) -> _Batches:
        """Decode pages of the same names and take them from the list."""
        parsed = [page for page, _ in pages]
        batch = decode_pages(parsed, self.resource) if pages else None
        if batch is not None:
            for page in parsed:
                self._note(page.included)
            batches = [batch]
        elif len(pages) == 1:
            batches = [self._decode_alone(pages[0][1])]
        else:
            batches = [batch for page in pages for batch in self._decode_together([page])]
        pages.clear()
        return batches

    def _decode_alone(self, body: _Body) -> Batch:
        return self._decode_document(parse_document(body.text, **body.where), body.page)

    def _decode_document(self, document: Mapping[str, Any], page: int) -> Batch:
        batch = decode_document(document, self.resource, page)
        self._note(map(_Included.read, document.get("included") or ()))
        return batch

    def _batches(self) -> _Batches:
        self._send_block()
        found = [_result(entry) for entry in self._done]
        self._done = list(found)
        return list(chain.from_iterable(found))

    def finish(self) -> Collected:
        """Join the pages, keep one row per id and build the frame."""
        batches = self._batches()
        self.close()
        self._done = []
        ids = np.concatenate([np.empty(0, np.int64), *(batch.columns["id"].to_numpy() for batch in batches)])
        kept, duplicates = newest(ids, lambda: np.concatenate([_stamps(batch) for batch in batches]))
        unknown = {column for batch in batches for column in batch.unknown_attributes.values()}
        order = in_order([*self.columns, *sorted(unknown)])
        marks = CellMarks.concat([batch.marks for batch in batches], [batch.rows for batch in batches])
        marks = (marks if kept is None else marks.take(kept)).rename(dict(zip(order, order, strict=True)))
        numbers = {kind: sum(entry.is_number for entry in found.values()) for kind, found in self._included.items()}
        return Collected(
            rows=Rows(make_frame(batches, order, kept), marks),
            quarantined=_quarantined(batches),
            duplicates=duplicates,
            lookups={kind: _lookup_of(found.values()) for kind, found in self._included.items()},
            unknown_attributes=tuple(sorted({name for batch in batches for name in batch.unknown_attributes})),
            unknown_relationships=tuple(sorted(set().union(*(batch.unknown_relationships for batch in batches)))),
            regular=sum(batch.rows + len(batch.quarantined) - batch.irregular for batch in batches),
            irregular=sum(batch.irregular for batch in batches),
            notes=(*conversion_notes(marks), *_number_notes(numbers)),
        )


def conversion_notes(marks: CellMarks) -> tuple[str, ...]:
    """Describe in sentences which cells do not hold what their column is for."""
    numbers = Counter(
        column
        for (row, column), value in marks.original.items()
        if COLUMN_DTYPES.get(column) == "str" and isinstance(value, int | float) and (row, column) not in marks.locked
    )
    strangers = Counter(column for _, column in marks.locked if column in OPPORTUNITY.relationship_by_column)
    return (
        *(f"{name}: {n:,} numbers came where text belongs, and stand as text" for name, n in numbers.items()),
        *(
            f"{name}: {n:,} records point to something else; missing, and never written"
            for name, n in strangers.items()
        ),
    )


def _result(entry: _Batches | Future[_Batches]) -> _Batches:
    return entry.result() if isinstance(entry, Future) else entry


def newest(ids: Positions, stamps: Callable[[], Positions]) -> tuple[Positions | None, pd.DataFrame]:
    """Find the newest copy of each id: positions in order of first arrival, and a table of the doubled ones.

    None in place of the positions where no id is doubled; only otherwise is asked when each row
    was last changed [microseconds].
    """
    empty = pd.DataFrame(columns=["key", "rows", "kept"])
    if bool((ids[1:] > ids[:-1]).all()) or len(np.unique(ids)) == len(ids):
        return None, empty
    table = pd.DataFrame({"id": ids, "updated": stamps(), "place": np.arange(len(ids))})
    groups = table.groupby("id", sort=False)
    ranked = table.sort_values(["updated", "place"], kind="stable")
    kept = ranked.groupby("id")["place"].last().loc[groups["place"].first().index].to_numpy()
    counts = groups.size()
    doubled = counts[counts > 1]
    text = "the copy with the latest updated_at"
    return kept, pd.DataFrame({"key": doubled.index, "rows": doubled.to_numpy(), "kept": text})


def _stamps(batch: Batch) -> Positions:
    """Return when the rows were last changed; where that is missing, before everything else."""
    values = batch.columns.get("updated_at")
    if values is None:
        values = pa.nulls(batch.rows, pa.int64())
    return np.asarray(values.cast(pa.int64()).fill_null(-INT64_MAX - 1).to_numpy())


def _quarantined(batches: Sequence[Batch]) -> pd.DataFrame:
    rows = [
        (f"page {page + 1}, record {record}", reason, raw)
        for batch in batches
        for page, record, reason, raw in batch.quarantined
    ]
    frame = pd.DataFrame(rows, columns=["row", "reason", "raw"])
    # As they came: to pandas null and 0 would be two numbers.
    return frame.assign(raw=pd.Series([raw for _, _, raw in rows], dtype=object))


def lookup_frame(resources: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a look-up of related resources of one type: ``id``, ``name``, ``order`` and ``is_closed``.

    A user without a full name gets first and last name.
    """
    return _lookup_of(filter(None, map(_Included.read, resources)))


def name_notes(resources: Iterable[Any]) -> tuple[str, ...]:
    """Describe in sentences of how many related resources the name came as a number."""
    return _number_notes(Counter(str(resource.get("type")) for resource in resources if _is_named_by_number(resource)))


def _is_named_by_number(resource: Any) -> bool:
    named = resource.get("attributes") if isinstance(resource, Mapping) else None
    names = ("name", "firstName", "lastName")
    return isinstance(named, Mapping) and any(type(named.get(name)) in (int, float) for name in names)


def _number_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{kind}: {n:,} names came as numbers, and stand as text" for kind, n in counts.items() if n)


# The columns of ids in look-ups that lead further: of accounts the owner, of users the role.
_LINKS = {
    entry.type: entry.field for entry in LOOKUP_COLUMNS.values() if "." in entry.relation and entry.field != "name"
}


class _Included(NamedTuple):
    """What look-ups take from a resource that stands beside the records."""

    type: str
    key: int
    name: str | None
    order: int | None
    is_closed: bool | None
    links: dict[str, int | None]
    is_number: bool

    @classmethod
    def read(cls, resource: Any) -> Self | None:
        """Read id, name, order, whether it is closed, and where it leads; None where there is no usable id."""
        try:
            key = identifier(resource.get("id"))
        except (AttributeError, UnfitError):
            return None
        attributes = resource.get("attributes")
        if not isinstance(attributes, Mapping):
            attributes = {}
        name = _text(attributes.get("name"))
        if name is None:
            parts = (_text(attributes.get("firstName")), _text(attributes.get("lastName")))
            name = " ".join(part for part in parts if part) or None
        order, closed = attributes.get("order"), attributes.get("isClosed")
        is_order = isinstance(order, int) and not isinstance(order, bool) and abs(order) <= INT64_MAX
        kind = str(resource.get("type"))
        column = _LINKS.get(kind)
        links = {} if column is None else {column: _linked(resource.get("relationships"), column.removesuffix("_id"))}
        is_closed = closed if isinstance(closed, bool) else None
        return cls(kind, key, name, order if is_order else None, is_closed, links, _is_named_by_number(resource))


def _linked(relationships: Any, name: str) -> int | None:
    try:
        return identifier(relationships[name]["data"]["id"])
    except (TypeError, KeyError, UnfitError):
        return None


def _text(value: Any) -> str | None:
    try:
        return TEXT.decode(value)[0]
    except UnfitError:
        return None


def _lookup_of(found: Iterable[_Included]) -> pd.DataFrame:
    """Make a look-up of what was read; of two with one id the later one stays."""
    entries = {entry.key: entry for entry in found}
    columns = {"id": column_array(list(entries), "Int64")}
    for column, dtype in (("name", "str"), ("order", "Int64"), ("is_closed", "boolean")):
        columns[column] = column_array([getattr(entry, column) for entry in entries.values()], dtype)
    further = (name for each in entries.values() for name, key in each.links.items() if key is not None)
    for column in dict.fromkeys(further):
        columns[column] = column_array([entry.links[column] for entry in entries.values()], "Int64")
    return pd.DataFrame(columns).sort_values("id", ignore_index=True)


def join_names(frame: pd.DataFrame, lookups: Mapping[str, pd.DataFrame], include: Iterable[str]) -> pd.DataFrame:
    """Put names beside ids; missing where the id is missing or the look-up has no such id.

    Look-ups are by resource type, as `lookup_frame` makes them; `include` names some of
    stage, owner, account, creator and updater.
    """
    wanted = set(include)
    joined: dict[str, Any] = {}
    for column, entry in LOOKUP_COLUMNS.items():
        if entry.relation in wanted and (entry.id_column in frame.columns or entry.id_column in joined):
            ids = frame[entry.id_column] if entry.id_column not in joined else pd.Series(joined[entry.id_column])
            joined[column] = look_up(ids, lookups.get(entry.type), entry.field, entry.dtype)
    columns = {str(name): values.array for name, values in frame.items()} | joined
    return pd.DataFrame({name: columns[name] for name in in_order(columns)}, index=frame.index, copy=False)


def in_order(columns: Iterable[str]) -> list[str]:
    """Return columns with what a person looks at first at the head."""
    given = dict.fromkeys(columns)
    return [*(name for name in LEADING if name in given), *(name for name in given if name not in _LEADS)]


def look_up(ids: pd.Series, lookup: pd.DataFrame | None, field: str, dtype: str) -> Any:
    """Return `field` of the look-up for every id, missing where there is none."""
    if lookup is None or not len(lookup) or field not in lookup.columns:
        return column_array([None] * len(ids), dtype)
    # Factorised first: a look-up per distinct id, then one take.
    codes, distinct = pd.factorize(ids, use_na_sentinel=True)
    places = pd.Index(lookup["id"]).get_indexer(pd.Index(distinct, dtype="Int64"))
    table = lookup[field].astype(pd.api.types.pandas_dtype(dtype)).array.take(np.append(places, -1), allow_fill=True)
    return table.take(np.where(codes < 0, len(table) - 1, codes))
