"""From the pages of a collection to one frame.

Pages may overlap: rows move while a walk runs, so a row can come twice. One
row per id stays, the copy with the later ``updated_at``; of equal copies the
one that came last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from opp_pandas.api.batches import Batch, MissingColumns, Positions, batch_of_cells, pandas_array
from opp_pandas.api.decode import column_array, decode_resources, identifier
from opp_pandas.api.documents import parse_document
from opp_pandas.api.fastpath import Cut, FastDecoder, cut_page
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.errors import DocumentError
from opp_pandas.frame_state import CellMarks, Rows
from opp_pandas.kinds import INT64_MAX, TEXT, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, LOOKUP_COLUMNS, OPPORTUNITY, Resource

if TYPE_CHECKING:
    from opp_pandas.api.paging import Page

BLOCK_BYTES = 2_000_000

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


@dataclass(frozen=True)
class Collected:
    """A whole collection, decoded."""

    rows: Rows
    quarantined: pd.DataFrame
    duplicates: pd.DataFrame
    lookups: Mapping[str, pd.DataFrame]
    unknown_attributes: tuple[str, ...]
    unknown_relationships: tuple[str, ...]


class Collector:
    """Takes pages and gives one frame at the end.

    Bodies are decoded in blocks of some megabytes by a thread of its own, while
    the caller fetches the next page; at most two blocks wait. What cannot be
    decoded raises at a later call, at the latest in `finish`.

    Parameters
    ----------
    resource : Resource
        What the pages hold.
    columns : iterable of str, optional
        The columns wanted; default all of the resource's attributes and
        relationships. Metadata columns come only when named here.
    """

    def __init__(self, resource: Resource = OPPORTUNITY, columns: Iterable[str] | None = None) -> None:
        self.resource = resource
        everything = ("id", *resource.by_column, *resource.relationship_by_column)
        self.columns = tuple(everything if columns is None else dict.fromkeys(("id", *columns)))
        self.block_bytes = BLOCK_BYTES
        self.received = 0
        self._pages = 0
        self._done: list[Batch | Future[list[Batch]]] = []
        self._block: list[tuple[Cut, dict[str, Any]]] = []
        self._decoder = FastDecoder(resource)
        self._worker: ThreadPoolExecutor | None = None
        self._included: dict[str, dict[int, tuple[str | None, int | None, bool | None]]] = {}

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
        """The rows decoded so far; waits for those under way. `received` is the quick count of records."""
        return sum(batch.rows for batch in self._batches())

    def add(self, document: Mapping[str, Any]) -> None:
        """Decode one page that is parsed already, record by record.

        Raises
        ------
        DocumentError
            If it is not a collection.
        """
        self._send_block()
        self._done.append(decode_slowly(document, self._pages, self.resource))
        self._note(document, len(document["data"]))

    def add_body(self, body: bytes, **where: Any) -> None:
        """Take the bytes of one page.

        Parameters
        ----------
        body : bytes
            The document as received.
        **where
            The request, for errors: see `opp_pandas.api.documents.parse_document`.

        Raises
        ------
        DocumentError
            If this page, or one before it, is not a collection.
        """
        cut = cut_page(body, self.resource)
        if cut is None:
            self.add(parse_document(body, **where))
            return
        self._block.append((cut, where))
        self._note(cut.document, cut.count)
        if sum(len(page.records) for page, _ in self._block) >= self.block_bytes:
            self._send_block()

    def add_page(self, page: Page) -> None:
        """Take one page of a walk.

        Raises
        ------
        DocumentError
            As `add_body`.
        """
        self.add_body(page.body, method="GET", url=redacted(page.url), request_id=page.request_id)

    def _note(self, document: Mapping[str, Any], records: int) -> None:
        self._pages += 1
        self.received += records
        for resource in document.get("included") or ():
            entry = _lookup_entry(resource)
            if entry is not None:
                self._included.setdefault(str(resource.get("type")), {})[entry[0]] = entry[1]

    def _send_block(self) -> None:
        if not self._block:
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="opp-decoding")
        block, self._block = self._block, []
        self._done.append(self._worker.submit(self._decode, block, self._pages - len(block)))
        waiting = [entry for entry in self._done[-3:] if isinstance(entry, Future)]
        if len(waiting) == 3:
            waiting[0].result()

    def _decode(self, block: list[tuple[Cut, dict[str, Any]]], first_page: int) -> list[Batch]:
        batch = self._decoder.decode([page for page, _ in block], first_page)
        if batch is not None:
            return [batch]
        return [
            decode_slowly(parse_document(page.body, **where), number, self.resource)
            for number, (page, where) in enumerate(block, first_page)
        ]

    def _batches(self) -> list[Batch]:
        self._send_block()
        found: list[Batch] = []
        for entry in self._done:
            found.extend(entry.result() if isinstance(entry, Future) else [entry])
        self._done = list(found)
        return found

    def finish(self) -> Collected:
        """Join the pages, keep one row per id and build the frame."""
        batches = self._batches()
        self.close()
        self._done = []
        lengths = [batch.rows for batch in batches]
        ids = np.concatenate([np.empty(0, np.int64), *(batch.columns["id"].to_numpy() for batch in batches)])
        kept, duplicates = _newest(ids, batches)
        rows = len(ids) if kept is None else len(kept)
        missing = MissingColumns(rows)
        unknown = sorted(set().union(*(batch.unknown_columns for batch in batches)))
        names = [*self.columns, *unknown]
        order = [name for name in LEADING if name in names]
        order += [name for name in names if name not in LEADING]
        arrays = {}
        for name in order:
            parts = [batch.columns.pop(name, None) for batch in batches]
            arrays[name] = pandas_array(parts, lengths, COLUMN_DTYPES.get(name, "infer"), missing, kept)
        return Collected(
            rows=Rows(
                pd.DataFrame(arrays, index=pd.RangeIndex(rows), copy=False),
                CellMarks(
                    _marks([batch.wire for batch in batches], lengths, kept, arrays),
                    _marks([batch.locked for batch in batches], lengths, kept, arrays),
                ),
            ),
            quarantined=_quarantined(batches),
            duplicates=duplicates,
            lookups={kind: _entry_frame(found) for kind, found in self._included.items()},
            unknown_attributes=tuple(sorted(set().union(*(batch.unknown_attributes for batch in batches)))),
            unknown_relationships=tuple(sorted(set().union(*(batch.unknown_relationships for batch in batches)))),
        )


def decode_slowly(document: Mapping[str, Any], page: int, resource: Resource) -> Batch:
    """Decode a parsed page record by record.

    Parameters
    ----------
    document : mapping
        The document.
    page : int
        Its number, from 0.
    resource : Resource
        What its records are.

    Returns
    -------
    Batch

    Raises
    ------
    DocumentError
        If ``data`` is no list.
    """
    data = document.get("data")
    if not isinstance(data, list):
        raise DocumentError("a collection was expected: data must be a list", pointer="/data")
    cells = decode_resources(data, resource)
    return batch_of_cells(cells, [(page, number) for number in range(len(data))])


def _newest(ids: Positions, batches: Sequence[Batch]) -> tuple[Positions | None, pd.DataFrame]:
    """Positions of the rows that stay, in order of first arrival; None where no id is doubled."""
    empty = pd.DataFrame(columns=["key", "rows", "kept"])
    if bool((ids[1:] > ids[:-1]).all()) or len(np.unique(ids)) == len(ids):
        return None, empty
    stamps = [
        batch.columns["updated_at"].cast(pa.int64())
        if "updated_at" in batch.columns
        else pa.nulls(batch.rows, pa.int64())
        for batch in batches
    ]
    updated = pandas_array(stamps, [batch.rows for batch in batches], "Int64", MissingColumns(len(ids)), None)
    table = pd.DataFrame({"id": ids, "updated": updated, "place": np.arange(len(ids))})
    groups = table.groupby("id", sort=False)
    ranked = table.sort_values(["updated", "place"], na_position="first", kind="stable")
    kept = ranked.groupby("id")["place"].last().loc[groups["place"].first().index].to_numpy()
    counts = groups.size()
    doubled = counts[counts > 1]
    text = "the copy with the latest updated_at"
    return kept, pd.DataFrame({"key": doubled.index, "rows": doubled.to_numpy(), "kept": text})


def _marks(
    found: Sequence[Mapping[tuple[int, str], Any]],
    lengths: Sequence[int],
    kept: Positions | None,
    columns: Collection[str],
) -> dict[tuple[int, str], Any]:
    """Renumber marks from batch positions to positions in the frame; those of dropped copies and columns go."""
    place_of = None
    if kept is not None:
        place_of = np.full(sum(lengths), -1, dtype=np.int64)
        place_of[kept] = np.arange(len(kept))
    moved: dict[tuple[int, str], Any] = {}
    start = 0
    for marks, length in zip(found, lengths, strict=True):
        for (row, column), value in marks.items():
            position = start + row if place_of is None else int(place_of[start + row])
            if position >= 0 and column in columns:
                moved[position, column] = value
        start += length
    return moved


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
    """Make a look-up of related resources.

    Parameters
    ----------
    resources : iterable of mapping
        Resource objects of one type.

    Returns
    -------
    DataFrame, shape (n, 4)
        ``id`` (Int64), ``name`` (str), ``order`` (Int64), ``is_closed``
        (boolean); a user without a full name gets first and last name.
    """
    entries = dict(filter(None, map(_lookup_entry, resources)))
    return _entry_frame(entries)


def _lookup_entry(resource: Any) -> tuple[int, tuple[str | None, int | None, bool | None]] | None:
    """Read id, name, order and whether it is closed; None where there is no usable id."""
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
    return key, (name, order if is_order else None, closed if isinstance(closed, bool) else None)


def _text(value: Any) -> str | None:
    try:
        return TEXT.decode(value)[0] if isinstance(value, str) else None
    except UnfitError:
        return None


def _entry_frame(entries: Mapping[int, tuple[str | None, int | None, bool | None]]) -> pd.DataFrame:
    names, orders, closed = zip(*entries.values(), strict=True) if entries else ((), (), ())
    columns = {
        "id": column_array(list(entries), "Int64"),
        "name": column_array(names, "str"),
        "order": column_array(orders, "Int64"),
        "is_closed": column_array(closed, "boolean"),
    }
    return pd.DataFrame(columns).sort_values("id", ignore_index=True)


def join_names(frame: pd.DataFrame, lookups: Mapping[str, pd.DataFrame], include: Iterable[str]) -> pd.DataFrame:
    """Put names beside ids.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with id columns. Never modified.
    lookups : mapping of str to DataFrame
        By resource type, as `lookup_frame` makes them.
    include : iterable of str
        Which of stage, owner, account, creator and updater to join.

    Returns
    -------
    DataFrame, shape (n, k + joined)
        Missing where the id is missing or the look-up has no such id.
    """
    wanted = set(include)
    joined: dict[str, Any] = {}
    for column, entry in LOOKUP_COLUMNS.items():
        if entry.relation in wanted and entry.id_column in frame.columns:
            joined[column] = look_up(frame[entry.id_column], lookups.get(entry.type), entry.field, entry.dtype)
    columns = {name: frame[name].array for name in frame.columns} | joined
    order = [name for name in LEADING if name in columns]
    order += [name for name in columns if name not in order]
    return pd.DataFrame({name: columns[name] for name in order}, index=frame.index, copy=False)


def look_up(ids: pd.Series, lookup: pd.DataFrame | None, field: str, dtype: str) -> Any:
    """Give `field` of the look-up for every id, missing where there is none."""
    if lookup is None or not len(lookup):
        return column_array([None] * len(ids), dtype)
    # Factorised first: a look-up per distinct id, then one take.
    codes, distinct = pd.factorize(ids, use_na_sentinel=True)
    places = pd.Index(lookup["id"]).get_indexer(pd.Index(distinct, dtype="Int64"))
    table = lookup[field].astype(pd.api.types.pandas_dtype(dtype)).array.take(np.append(places, -1), allow_fill=True)
    return table.take(np.where(codes < 0, len(table) - 1, codes))
