"""Where the rows of a scan come from, and how what a figure needs to know of them is gathered."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from opp_pandas.errors import printable
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.partials import combine_parts
from opp_pandas.frame_state import Meaning, meaning_of
from opp_pandas.load.where import Where, rows_that_fit
from opp_pandas.scanning.columns import series_of
from opp_pandas.scanning.pieces import Piece, gather_part
from opp_pandas.scanning.validation import FILE_FAILURES, joined, of_cells, of_ids, of_whole_columns
from opp_pandas.schema import find_failures

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.partials import Part
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
_SLOW_SCAN_S = 1.0
_MOST_WORKERS = 4


class Source(Protocol):
    """Where the rows of a scan come from."""

    shown: str
    columns: list[str]
    meaning: Meaning | None

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
            return combine_parts(parts)

    def _sample(self, columns: Sequence[str]) -> list[Piece]:
        return [self._piece(self.files.sample(columns))]

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
            return joined([*of_whole_columns(self.files), *cells, *of_ids(self.files)])

    def each_unit(self, work: Callable[[Any], T]) -> Generator[T]:
        """Do some work for every piece, several at once, and give what comes of it in order."""
        from tqdm.auto import tqdm

        workers = max(1, min(_MOST_WORKERS, os.cpu_count() or 1))
        hidden = None if self._progress is None else not self._progress
        delay = 0.0 if self._progress else _SLOW_SCAN_S
        bar = tqdm(total=self.rows, desc="scan", unit="row", unit_scale=True, disable=hidden, delay=delay, leave=False)
        waiting: deque[tuple[Any, Future[T]]] = deque()
        units = iter(self.files.units(self._where, self._zone))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="opp-scanning")
        try:
            with bar:
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
    """The deals of a history at a moment: in memory, but for columns that no figure asks for."""

    # Without one of the two a load is taken for one whose other amounts are all that there is.
    _ALWAYS = ("id", "amount", "amount_precise")

    def __init__(self, history: History, as_of: Any) -> None:
        self._history, self._as_of = history, as_of
        self.columns = history.columns()
        self.shown = printable(history.location)
        self._frame = self._read(self._ALWAYS)
        self.meaning = meaning_of(self._frame)

    def _read(self, columns: Iterable[str]) -> pd.DataFrame:
        known = [name for name in dict.fromkeys((*self._ALWAYS, *columns)) if name in self.columns]
        return self._history.as_of(self._as_of, columns=known)

    @property
    def rows(self) -> int:
        """How many deals there are."""
        return len(self._frame)

    def stage_names(self) -> list[str]:
        """Return no name: a history knows its stages."""
        return []

    def part(self, gather: Callable[[Any], Part]) -> Part:
        """Gather what a figure needs to know of all deals."""
        return gather_part(self._pieces, gather, [*USUAL])

    def failures(self) -> pd.DataFrame:
        """Return every bad cell."""
        failures = find_failures(self._history.as_of(self._as_of))
        return failures.assign(file=self.shown)[list(FILE_FAILURES)]

    def _pieces(self, columns: Sequence[str]) -> list[Piece]:
        if not set(columns) & set(self.columns) <= set(self._frame.columns):
            self._frame = self._read([*self._frame.columns, *columns])
        frame = self._frame

        def read(column: str) -> pd.Series | None:
            return frame[column] if column in frame.columns else None

        return [Piece(len(frame), self.columns, read, self.meaning)]
