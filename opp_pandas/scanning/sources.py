"""Where the rows of a scan come from, and how what a figure needs to know of them is gathered."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from opp_pandas.errors import printable
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.totals import combine_parts
from opp_pandas.frame_state import Meaning, require_loaded
from opp_pandas.load.where import Where, rows_that_fit
from opp_pandas.scanning.columns import series_of
from opp_pandas.scanning.pieces import Piece, gather_part
from opp_pandas.scanning.validation import FILE_FAILURES, joined, not_compared, of_cells, of_ids, of_whole_columns
from opp_pandas.schema import find_failures

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.totals import Part
    from opp_pandas.history import History
    from opp_pandas.scanning.files import Files

T = TypeVar("T")
USUAL = (
    "stage_id",
    "amount",
    "amount_precise",
    "probability",
    "close_date",
    "currency_type",
    "trashed_at",
    "forecast_category",
    "owner_id",
)
"""Columns that most figures ask for: where reading a few more costs less than reading again."""
MOST_CELLS = 1_000_000
"""Of a history at once."""
_SLOW_SCAN_S = 1.0
_MOST_WORKERS = 4


def _bar(total: int | None, progress: bool | None) -> Any:
    from tqdm.auto import tqdm

    hidden = None if progress is None else not progress
    delay = 0.0 if progress else _SLOW_SCAN_S
    return tqdm(total=total, desc="scan", unit="row", unit_scale=True, disable=hidden, delay=delay, leave=False)


class Source(Protocol):
    """Where the rows of a scan come from."""

    shown: str
    columns: list[str]
    meaning: Meaning | None
    caveats: tuple[str, ...]
    """What stands in the basis of every figure."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    def stage_names(self) -> list[str]:
        """Return the names of stages that occur."""

    def part(self, gather: Callable[[Any], Part]) -> Part:
        """Gather what a figure needs to know of all rows."""

    def failures(self) -> pd.DataFrame:
        """Return every bad cell, with its file and row."""


class FileSource:
    """Rows in files."""

    def __init__(
        self,
        files: Files,
        meaning: Meaning | None,
        shown: str,
        where: Where,
        zone: str | None,
        *,
        progress: bool | None,
    ) -> None:
        self.files, self.meaning, self.shown = files, meaning, shown
        self._where, self._zone, self._progress = where, zone, progress
        self.columns = files.columns
        self.caveats = () if files.is_one_load else not_compared(len(files.files), "files")
        self._stage_names: list[str] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are, those that a condition leaves out included."""
        return self.files.rows

    def stage_names(self) -> list[str]:
        """Return the names of stages that occur; files that carry no load are read through for them."""
        if self._stage_names is None:
            names: set[str] = set()
            if "stage_name" in self.columns:
                with closing(self.each_unit(self._names_in)) as found:
                    names.update(*found)
            self._stage_names = sorted(names)
        return self._stage_names

    def _names_in(self, unit: Any) -> set[str]:
        columns = (table["stage_name"] for table in self.files.tables(unit, ["stage_name"]))
        return {str(name) for column in columns for name in column.unique().to_pylist() if name is not None}

    def part(self, gather: Callable[[Any], Part]) -> Part:
        """Gather what a figure needs to know of all rows, some hundred thousand at a time."""
        columns: list[str] = [*self._where.local]
        # A few rows tell most of the columns that the figure asks for.
        gather_part(self._sample, gather, columns)

        def work(unit: Any) -> Part:
            with suppress_unmapped_stages():
                return gather_part(functools.partial(self._pieces, unit), gather, columns)

        with closing(self.each_unit(work)) as parts:
            first = next(parts, None)
            if first is None:
                # No row at all has a part, too.
                return gather_part(functools.partial(self._sample, rows=0), gather, columns)
            return combine_parts(chain([first], parts))

    def _sample(self, columns: Sequence[str], rows: int | None = None) -> list[Piece]:
        return [self._piece(self.files.sample(columns).slice(0, rows))]

    def _pieces(self, unit: Any, columns: Sequence[str]) -> Iterator[Piece]:
        return (self._piece(table) for table in self.files.tables(unit, columns))

    def _piece(self, table: pa.Table) -> Piece:
        def read(column: str) -> pd.Series | None:
            return series_of(table[column], column) if column in table.column_names else None

        piece = Piece(len(table), self.columns, read, self.meaning)
        if self._where:
            fits = rows_that_fit(piece, self._where, self._zone)  # type: ignore[arg-type]
            if not fits.all():
                table = table.filter(pa.array(fits))
                piece = Piece(len(table), self.columns, read, self.meaning)
        return piece

    def failures(self) -> pd.DataFrame:
        """Return every bad cell, with its file and row."""
        with closing(self.each_unit(functools.partial(of_cells, self.files))) as cells:
            found = joined([*of_whole_columns(self.files), *cells])
        doubled = joined(of_ids(self.files))
        if not len(doubled):
            self.caveats = ()
        return joined([found, doubled])

    def each_unit(self, work: Callable[[Any], T]) -> Generator[T]:
        """Do some work for every piece, several at once, and give what comes of it in order."""
        workers = max(1, min(_MOST_WORKERS, os.cpu_count() or 1))
        waiting: deque[tuple[Any, Future[T]]] = deque()
        units = iter(self.files.units(self._where, self._zone))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="opp-scanning")
        try:
            with _bar(self.rows, self._progress) as bar:
                while True:
                    while len(waiting) <= workers and (unit := next(units, None)) is not None:
                        waiting.append((unit, pool.submit(work, unit)))
                    if not waiting:
                        break
                    unit, future = waiting.popleft()
                    yield future.result()
                    bar.update(sum(group.row_groups[0].num_rows for _, group in unit))
        finally:
            # After an error or Ctrl-C: nothing more is begun, and what is under way ends within a piece.
            pool.shutdown(wait=True, cancel_futures=True)


class HistorySource:
    """The deals of a history at a moment, some at a time."""

    caveats: tuple[str, ...] = ()
    # Without one of the two a load is taken for one whose other amounts are all that there is.
    _ALWAYS = ("id", "amount", "amount_precise")

    def __init__(self, history: History, as_of: Any, *, progress: bool | None) -> None:
        self._history, self._as_of, self._progress = history, as_of, progress
        self.columns = history.columns()
        self.shown = printable(history.location)
        self.rows = 0
        self.meaning: Meaning | None = None
        for frame in self._frames((*self._ALWAYS, "custom_id")):
            own = require_loaded(frame, "scan").meaning
            known = self.meaning or replace(own, rows=0, keys=0, exact_amounts_alone=False)
            self.rows += len(frame)
            self.meaning = replace(
                known,
                rows=self.rows,
                keys=known.keys + own.keys,
                exact_amounts_alone=known.exact_amounts_alone or own.exact_amounts_alone,
            )
        # Whatever is recorded from now on, all figures are of one moment.
        self._as_of = None if self.meaning is None else self.meaning.as_of

    def _frames(self, columns: Iterable[str]) -> Iterator[pd.DataFrame]:
        known = [name for name in dict.fromkeys((*self._ALWAYS, *columns)) if name in self.columns]
        with _bar(self.rows or None, self._progress) as bar:
            for frame in self._history.pieces(self._as_of, columns=known, most=MOST_CELLS):
                yield frame
                bar.update(len(frame))

    def stage_names(self) -> list[str]:
        """Return no name: a history knows its stages."""
        return []

    def part(self, gather: Callable[[Any], Part]) -> Part:
        """Gather what a figure needs to know of all deals."""
        return gather_part(self._pieces, gather, [*USUAL])

    def failures(self) -> pd.DataFrame:
        """Return every bad cell."""
        return joined(self._failures())

    def _failures(self) -> Iterator[pd.DataFrame]:
        start = 0
        for frame in self._frames(self.columns):
            found = find_failures(frame)
            yield found.assign(row=found["row"] + start, file=self.shown)[list(FILE_FAILURES)]
            start += len(frame)

    def _pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        for frame in self._frames(columns):
            yield Piece(len(frame), self.columns, functools.partial(dict(frame.items()).get), self.meaning)
