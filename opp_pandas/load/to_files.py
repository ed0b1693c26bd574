"""A load that never stands in memory: pages come, are checked, and go into Parquet files.

Files are written into a folder beside the one asked for, which gets its name
when the load is complete: nobody reads half a load. A load with a checkpoint
that was killed reads its pages again from there and writes the files anew, so
that they are those of a load that nothing stopped.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from opp_pandas._files import sync_folder
from opp_pandas.api.decode import unknown_column
from opp_pandas.api.frame_builder import Collector, newest
from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.frame_state import MOST_NAMES, Meaning, Rows
from opp_pandas.load.arrival import ignored_note, no_rows_left_out
from opp_pandas.load.changed_records import joined_lookups
from opp_pandas.load.failures import row_failures, warn_of_load
from opp_pandas.load.fetch import changes_since, completeness, gone_note, read_lookup, select_rows, walk_pages
from opp_pandas.load.parquet_folder import PART, arrow_table, common_schema, of_schema, write_meaning
from opp_pandas.load.prospects import add_prospect_ids
from opp_pandas.load_report import LoadReport
from opp_pandas.resource import STAGE
from opp_pandas.stages import resolve_stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opp_pandas.api.paging import Page
    from opp_pandas.load.fetch import LoadPlan
    from opp_pandas.organisation import Organisation
    from opp_pandas.stages import StageMap

PART_BYTES = 48_000_000
"""Pages of so many bytes together become one file: some twenty thousand whole deals."""
_ROWS_TOGETHER = 8_192
"""Of a file that is written anew, and of a row group of it."""
MOST_LISTED = 10_000
"""Of cells that break a rule, and of records set aside, no more are listed; all are counted."""


def load_to_files(
    plan: LoadPlan,
    to: str | os.PathLike[str],
    *,
    stages: StageMap | None,
    definitions: Mapping[str, Any],
    prospects: bool,
    organisation: Organisation | None,
    on_invalid: str,
) -> tuple[Path, LoadReport]:
    """Load into a folder of Parquet files, which must not be there yet, or be empty.

    Arguments are those of `opp_pandas.load.read.read_opportunities`.
    """
    folder = Path(os.fspath(to)).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{printable(folder)} is there already: name a new folder (such as one a day), or delete that one first"
        )
    if not folder.parent.is_dir():
        raise ConfigurationError(f"there is no folder {printable(folder.parent)}; make it first")
    started, calls_before = time.monotonic(), plan.client.calls
    with _own(folder) as work:
        load = _Load(plan, work, prospects=prospects)
        walked = walk_pages(plan, load, load.notes)
        load.flush()
        load.finish(*changes_since(plan, walked, load.known, load.lookups, load.notes))
        stages_now = read_lookup(plan.client, STAGE)
        if stages_now is not None:
            load.lookups[STAGE.type] = stages_now
        complete = completeness(plan, walked, load.arrived, load.quarantined.count, load.notes)
        report = LoadReport(
            source=plan.client.url,
            rows=len(load.known),
            complete=complete,
            failures=load.failures.table,
            quarantined=load.quarantined.table,
            left_out=load.left_out.table,
            duplicates=load.duplicates.table,
            unknown_attributes=tuple(sorted(name for name in load.unknown if unknown_column(name) in load.columns)),
            unknown_relationships=tuple(sorted(load.unknown_relationships)),
            regular=load.regular,
            irregular=load.irregular,
            notes=tuple(load.said()),
            pages=walked.pages,
            requests=plan.client.calls - calls_before,
            elapsed_s=time.monotonic() - started,
        )
        warn_of_load(report, on_invalid)
        meaning = Meaning(
            source=plan.client.url,
            rows=len(load.known),
            keys=len(load.known),
            all_deals=not plan.filter and not plan.condition,
            stages=resolve_stages(stages, stages_now),
            lookups=load.lookups,
            timezone=plan.zone,
            as_of=walked.moment if walked.moment is not None else pd.Timestamp.now(tz="UTC"),
            definitions=definitions,
            organisation=organisation,
            exact_amounts_alone=load.exact_amounts_alone or not {"amount", "amount_precise"} <= load.columns,
        )
        how = {name: getattr(report, name) for name in ("complete", "pages", "requests", "notes")}
        counted = {name: getattr(load, name).count for name in ("failures", "quarantined", "left_out", "duplicates")}
        write_meaning(work, meaning, uuid.uuid4().hex, {**how, **counted})
    return folder, report


@contextmanager
def _own(folder: Path) -> Iterator[Path]:
    """Lend a hidden folder beside the one asked for, to one load at a time; it gets the name at the end, or goes."""
    work = folder.with_name(f".{folder.name}.loading")
    work.mkdir(exist_ok=True)
    lock = FileLock(work / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(f"another load is writing to {printable(folder)}") from None
    try:
        # Of a load that was killed.
        for left in work.glob("*.*"):
            if left.name != ".lock":
                left.unlink()
        yield work
    except BaseException:
        lock.release()
        shutil.rmtree(work)
        raise
    lock.release()
    (work / ".lock").unlink(missing_ok=True)
    sync_folder(work)
    if folder.exists():
        folder.rmdir()
    work.rename(folder)


Ids = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def _columns_of(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Copy some columns, so that the rest of the frame can go."""
    return frame[[name for name in columns if name in frame.columns]].copy()


class _Listed:
    """Tables put together up to a length, and the number of all their rows."""

    def __init__(self, empty: pd.DataFrame) -> None:
        self._parts, self.count = [empty], 0

    def add(self, table: pd.DataFrame) -> None:
        room = MOST_LISTED - self.count
        self.count += len(table)
        if room > 0 and len(table):
            self._parts.append(table.head(room))

    def forget(self, ids: pd.Series) -> None:
        """Take out the rows of some deals."""
        before = sum(map(len, self._parts))
        self._parts = [part[~part["id"].isin(ids)] for part in self._parts]
        self.count -= before - sum(map(len, self._parts))

    @property
    def table(self) -> pd.DataFrame:
        return pd.concat(self._parts[1:] if len(self._parts) > 1 else self._parts, ignore_index=True)


class _Load:
    """Takes the pages of a walk and writes them, some megabytes to a file."""

    def __init__(self, plan: LoadPlan, folder: Path, *, prospects: bool) -> None:
        self._plan, self._folder, self._prospects = plan, folder, prospects
        self.notes: list[str] = []
        stages = read_lookup(plan.client, STAGE, self.notes)
        self.lookups = {} if stages is None else {STAGE.type: stages}
        empty = LoadReport()
        self.failures, self.quarantined = _Listed(empty.failures), _Listed(empty.quarantined)
        self.left_out, self.duplicates = _Listed(no_rows_left_out()), _Listed(empty.duplicates)
        self.unknown: set[str] = set()
        self.unknown_relationships: set[str] = set()
        self.columns: set[str] = set()
        self.regular = self.irregular = 0
        self.exact_amounts_alone = False
        self._judged = np.array([], dtype=np.int64)
        self._left: frozenset[int] = frozenset()
        self._pages = self._bytes = 0
        self._untold: list[str] = []
        self._many_names: set[str] = set()
        self._index: list[pd.DataFrame] = []
        self._arrived: list[pd.DataFrame] = []
        self._schemas: list[pa.Schema] = []
        self._inner = Collector(columns=plan.columns)

    # --- what `walk_pages` asks of a collector

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._inner.close(cancel=kind is not None)

    @property
    def rows(self) -> int:
        return sum(map(len, self._index)) + self._inner.rows

    @property
    def rows_at_hand(self) -> int:
        return sum(map(len, self._index)) + self._inner.rows_at_hand

    def add(self, document: Mapping[str, Any]) -> None:
        self._inner.add(document)
        self._pages += 1

    def add_page(self, page: Page) -> None:
        self._inner.add_page(page)
        self._pages += 1
        self._bytes += len(page.body)
        if self._bytes >= PART_BYTES:
            self.flush()

    # --- what it writes

    @property
    def known(self) -> Rows:
        """When each deal was changed, in the order of the files."""
        return Rows(pd.concat(self._index, ignore_index=True))

    @property
    def arrived(self) -> Rows:
        """When each deal that came was created, those that were not asked for included."""
        found = pd.concat(self._arrived, ignore_index=True).drop_duplicates("id", keep="last")
        return Rows(found[~found["id"].isin(self._left)])

    def flush(self) -> None:
        """Write what came since the last file; a load that brought nothing has one file without rows."""
        if self._index and not self._inner.rows:
            return
        collected, self._bytes = self._inner.finish(), 0
        self._inner = Collector(columns=self._plan.columns, first_page=self._pages)
        self.quarantined.add(collected.quarantined)
        self.duplicates.add(collected.duplicates)
        self.unknown.update(collected.unknown_attributes)
        self.unknown_relationships.update(collected.unknown_relationships)
        self.regular, self.irregular = self.regular + collected.regular, self.irregular + collected.irregular
        self.notes += collected.notes
        names = joined_lookups(self.lookups, collected.lookups)
        self._write(collected.rows, names)
        # Ids of accounts are as many as deals; a long look-up would not be written down either.
        self._many_names |= {kind for kind, lookup in names.items() if len(lookup) > MOST_NAMES}
        self.lookups = {kind: lookup for kind, lookup in names.items() if kind not in self._many_names}

    def _write(self, rows: Rows, lookups: Mapping[str, pd.DataFrame]) -> None:
        """Write the rows that were asked for as a new file."""
        self._arrived.append(_columns_of(rows.frame, ("id", "created_at")))
        rows, left_out, judged = select_rows(self._plan, rows, lookups, self._untold)
        self.left_out.add(left_out)
        if self._plan.condition:
            self._judged = np.union1d(self._judged, judged.to_numpy(dtype=np.int64))
        frame = rows.frame
        if {"amount", "amount_precise"} <= set(frame.columns):
            self.exact_amounts_alone |= bool((frame["amount"].isna() & frame["amount_precise"].notna()).any())
        failures = row_failures(rows)
        self.failures.add(failures.assign(row=failures["row"] + sum(map(len, self._index))))
        if self._prospects:
            frame = add_prospect_ids(frame, self._plan.client, self.notes)
        self.columns.update(frame.columns)
        self._index.append(_columns_of(frame, ("id", "updated_at")))
        table = arrow_table(frame)
        self._schemas.append(table.schema)
        self._save(len(self._index) - 1, [table], table.schema)

    def _save(self, number: int, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        path = self._folder / PART.format(number)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def finish(self, fresh: Rows | None, left: frozenset[int]) -> None:
        """Take out of the files what came twice, was changed or left since, and write what is new."""
        ids = self.known.frame["id"].to_numpy(dtype=np.int64)
        kept, doubled = newest(ids, self._stamps)
        self.duplicates.add(doubled)
        stays = np.ones(len(ids), dtype=bool)
        if kept is not None:
            stays[:] = False
            stays[kept] = True
        gone = np.isin(ids, list(left)) & stays
        self.notes += [gone_note(int(gone.sum()))] if gone.any() else []
        stays &= ~gone
        self._left, self._judged = left, np.setdiff1d(self._judged, list(left))
        replaced = np.zeros(len(ids), dtype=bool)
        n_files = len(self._index)
        if fresh is not None and len(fresh):
            changed = stays & np.isin(ids, fresh.frame["id"].to_numpy(dtype=np.int64))
            stays &= ~changed
            for listed in (self.failures, self.left_out):
                listed.forget(fresh.frame["id"])
            # Of what changed, some may not fit any more.
            self._write(fresh, self.lookups)
            replaced = changed & np.isin(ids, self._index[-1]["id"].to_numpy(dtype=np.int64))
        self._rewrite(ids, stays, replaced, n_files)

    def _stamps(self) -> Any:
        """Return when each row was changed; where that is missing, before everything else."""
        known = self.known.frame
        if "updated_at" not in known.columns:
            return np.zeros(len(known), dtype=np.int64)
        return known["updated_at"].fillna(pd.Timestamp(0, tz="UTC")).to_numpy().astype("datetime64[us]").view("int64")

    def _rewrite(self, ids: Ids, stays: Flags, replaced: Flags, n_files: int) -> None:
        """Write anew the files that hold rows which do not stay, or columns unlike those of the others.

        A file beyond the first `n_files` has the rows that take the places of those that are `replaced`, and new ones.
        """
        schema = common_schema(self._schemas)
        news = pa.concat_tables(self._read(n_files, schema)) if len(self._index) > n_files else None
        places = pd.Index([] if news is None else news["id"].to_numpy(), dtype=np.int64)
        typed = of_schema(schema.empty_table(), schema).schema
        start = 0
        for number, index in enumerate(self._index[:n_files]):
            here = slice(start, start + len(index))
            start += len(index)
            stay = stays[here] | replaced[here]
            if stays[here].all() and self._schemas[number].equals(schema):
                continue
            # The place of each row among the new ones, where it is replaced.
            rows = np.where(replaced[here], places.get_indexer(pd.Index(ids[here])), -1)
            self._save(number, self._renewed(number, schema, stay, rows, news), typed)
            self._index[number] = index[stay]
        if news is not None:
            new = np.flatnonzero(~places.isin(ids[replaced]))
            self._index[n_files] = self._index[n_files].iloc[new]
            if len(new):
                self._save(n_files, [news.take(pa.array(new))], typed)
            else:
                (self._folder / PART.format(n_files)).unlink()

    def _renewed(
        self, number: int, schema: pa.Schema, stay: Flags, rows: Ids, news: pa.Table | None
    ) -> Iterator[pa.Table]:
        """Read a file some rows at a time, without those that do not stay, and with new ones in their places."""
        start = 0
        for table in self._read(number, schema):
            here = slice(start, start + len(table))
            start += len(table)
            order = np.arange(len(table))
            theirs = np.flatnonzero(rows[here] >= 0)
            order[theirs] = len(table) + np.arange(len(theirs))
            if news is not None:
                table = pa.concat_tables([table, news.take(pa.array(rows[here][theirs]))])
            yield table.take(pa.array(order[stay[here]]))

    def _read(self, number: int, schema: pa.Schema) -> Iterator[pa.Table]:
        with pq.ParquetFile(self._folder / PART.format(number)) as file:
            for batch in file.iter_batches(_ROWS_TOGETHER, use_threads=False):
                yield of_schema(pa.table(batch), schema)

    def said(self) -> list[str]:
        """Return what a reader should know, each once."""
        notes = [*self.notes, *self._untold]
        notes += [ignored_note(self.left_out.table)] if self.left_out.count else []
        notes += [self._plan.condition.note(len(self.known), len(self._judged))] if self._plan.condition else []
        if max(self.failures.count, self.quarantined.count, self.left_out.count) > MOST_LISTED:
            notes.append(
                f"{self.failures.count:,} cells break a rule, {self.quarantined.count:,} records were set aside and "
                f"{self.left_out.count:,} left out: the first {MOST_LISTED:,} of each are listed"
            )
        return list(dict.fromkeys(notes))
