"""What is scanned: Parquet files, folders of them, Delta tables; found, looked over, and cut into pieces of work."""

from __future__ import annotations

import functools
import operator
import os
import posixpath
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from opp_pandas.api.query import NOT_NULL
from opp_pandas.errors import ConfigurationError, FrameError, MissingColumnError, named, printable
from opp_pandas.frame_state import ATTRS_KEY, Meaning
from opp_pandas.history.delta_library import load_deltalake
from opp_pandas.instants import parse_moment
from opp_pandas.load.changed_records import joined_lookups
from opp_pandas.load.parquet_folder import MEANING_FILE
from opp_pandas.scanning.columns import INSTANT, Reader, kind_of, objection

if TYPE_CHECKING:
    from opp_pandas.load.where import Where

MOST_ROWS = 500_000
"""Of one piece: long enough that what every piece costs does not count, short enough for small memories."""
MOST_BYTES = 64 * 2**20
"""Of one piece, where rows are wide."""
_FEW = 1_000
_BATCH_ROWS, _BATCH_CELLS = 65_536, 2**20
_BUFFER_BYTES = 2**17
_ONE_FOR_ALL = ("as_of", "timezone", "definitions", "stages")


@dataclass(frozen=True, eq=False)
class File:
    """One Parquet file.

    Parameters
    ----------
    fragment : ParquetFileFragment
        Arrow's way to it.
    shown : str
        Its name in messages.
    keys : mapping of str to object
        Columns that stand in the names of its folders, as ``year=2026``.
    names : mapping of str to str
        Our name of each of its columns -> its own.
    """

    fragment: Any
    shown: str
    keys: Mapping[str, Any]
    names: Mapping[str, str]

    @cached_property
    def _utc(self) -> frozenset[str]:
        """Columns of Spark's and Impala's old 96-bit instants, which are in UTC without saying so."""
        schema = self.fragment.metadata.schema
        columns = (schema.column(number) for number in range(len(schema)))
        return frozenset(column.path for column in columns if column.physical_type == "INT96")

    def type_of(self, column: str) -> pa.DataType | None:
        """Return the Arrow type of a column; None where the file has none."""
        if column in self.keys:
            return pa.scalar(self.keys[column]).type
        own = self.names.get(column)
        return None if own is None else self.fragment.physical_schema.field(own).type

    def kind_of(self, column: str) -> str | None:
        """Return what `opp_pandas.scanning.columns.kind_of` says of a column that is there."""
        typed = self.type_of(column)
        return None if typed is None else kind_of(typed, is_utc=self.names.get(column) in self._utc)

    def arrow(self, batch: pa.RecordBatch | pa.Table, reader: Reader) -> pa.Array:
        """Return a column of a batch of the file, as all files have it."""
        if reader.column in self.keys:
            values = pa.repeat(pa.scalar(self.keys[reader.column]), batch.num_rows)
        elif (own := self.names.get(reader.column)) is None:
            values = pa.nulls(batch.num_rows)
        else:
            values = batch.column(own)
            if own in self._utc:
                values = values.cast(pa.timestamp("us", tz="UTC"), safe=False)
        return reader.read(values, self.shown)


def _own_names(file: File, readers: Iterable[Reader]) -> list[str]:
    return [file.names[reader.column] for reader in readers if reader.column in file.names]


def _table(file: File, rows: pa.RecordBatch | pa.Table, readers: Iterable[Reader]) -> pa.Table:
    arrays = {reader.column: file.arrow(rows, reader) for reader in readers}
    # Where no column was asked for, the number of rows is all that is known.
    return pa.table(arrays or {"": pa.nulls(rows.num_rows)})


def _together(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together: as many rows as fit, and as many bytes."""
    kept: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        rows, size = rows + len(table), size + table.nbytes
        if kept and (rows > MOST_ROWS or size > MOST_BYTES or table.schema != kept[0].schema):
            yield pa.concat_tables(kept)
            kept, rows, size = [], len(table), table.nbytes
        kept.append(table)
    if kept:
        yield pa.concat_tables(kept)


def _predicate(where: Where, zone: str | None, file: File) -> Any:
    """Return what Parquet's statistics can be asked about a condition; None: nothing.

    It may let pass what does not fit: every row that is read is tested again.
    """
    tests = []
    for column, value in where.local.items():
        own, kind = file.names.get(column), file.kind_of(column)
        if own is None or kind not in ("Int64", "Float64", INSTANT) or pa.types.is_decimal(file.type_of(column)):
            continue
        if isinstance(value, list):
            ends = [_ends(item, file.type_of(column), zone) for item in value]
        else:
            ends = [_ends(value, file.type_of(column), zone)]
        if all(end is not None for end in ends):
            field = pads.field(own)
            spans = [
                [field >= low] * (low is not None) + [field <= high] * (high is not None)
                for low, high in filter(None, ends)
            ]
            tests.append(functools.reduce(operator.or_, (functools.reduce(operator.and_, span) for span in spans)))
    return functools.reduce(operator.and_, tests) if tests else None


def _ends(value: Any, typed: pa.DataType, zone: str | None) -> tuple[Any, Any] | None:
    """Return the least and the greatest value that fit; None where missing ones do, too."""
    if value is NOT_NULL or value is None or value is pd.NA or value is pd.NaT:
        return None
    low, high = value if isinstance(value, tuple) else (value, value)
    if pa.types.is_timestamp(typed):
        low = None if low is None else parse_moment(low, zone, "where").first
        high = None if high is None else parse_moment(high, zone, "where").last
        # In the unit of the file, cut off: nothing in it lies between the two.
        low, high = (None if end is None else pa.scalar(end, pa.timestamp("us", tz="UTC")) for end in (low, high))
        low, high = (None if end is None else pc.cast(end, typed, safe=False) for end in (low, high))
    return low, high


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a scan.

    Parameters
    ----------
    files : tuple of File
        In the order in which they are read.
    meanings : mapping of str to Meaning
        What the files, or their folders, say of the load that wrote them, by the first file that says it.
    is_one_load : bool
        Whether one load with ``to=`` wrote them all, each deal once.
    """

    files: tuple[File, ...]
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    is_one_load: bool = False
    _readers: dict[str, Reader] = field(default_factory=dict)

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(file.fragment.metadata.num_rows for file in self.files)

    @cached_property
    def columns(self) -> list[str]:
        """Every column that a file has, in the order of the first that has it."""
        return list(dict.fromkeys(name for file in self.files for name in (*file.names, *file.keys)))

    def reader(self, column: str) -> Reader:
        """Settle how a column is read in all files.

        Raises
        ------
        FrameError
            If a file lacks it, or holds something else in it; the text names both.
        """
        if column not in self._readers:
            kinds: dict[str, str | None] = {}
            for file in self.files:
                typed, kind = file.type_of(column), file.kind_of(column)
                if typed is None:
                    raise MissingColumnError(
                        [column], list(file.names), f"{file.shown} has none, and other files do: write it, or leave "
                        "the file out."
                    )  # fmt: skip
                problem = objection(column, typed, kind)
                if problem is not None:
                    raise FrameError(f"column {column!r} of {file.shown} {problem}")
                kinds[file.shown] = kind
            if column == "probability":
                self._refuse_fractions()
            self._readers[column] = Reader.of(column, kinds)
        return self._readers[column]

    def units(self, where: Where, zone: str | None) -> Iterator[list[tuple[File, Any]]]:
        """Cut the files into pieces of work: row groups that together have some hundred thousand rows.

        Row groups whose statistics say that no row of theirs fits a condition are left out.
        """
        unit: list[tuple[File, Any]] = []
        rows = 0
        for file in self.files:
            for group in file.fragment.split_by_row_group(_predicate(where, zone, file)):
                size = group.row_groups[0].num_rows
                if not size:
                    continue
                if unit and rows + size > MOST_ROWS:
                    yield unit
                    unit, rows = [], 0
                unit.append((file, group))
                rows += size
        if unit:
            yield unit

    def tables(self, unit: Iterable[tuple[File, Any]], columns: Iterable[str]) -> Iterator[pa.Table]:
        """Read some columns of a piece of work: no more rows at once than fit, and small row groups together."""
        readers = [self.reader(column) for column in columns]
        return _together(chain.from_iterable(self._batches(file, group, readers) for file, group in unit))

    def read(self, file: File, fragment: Any, readers: Sequence[Reader]) -> Iterator[pa.Table]:
        """Read some columns of a file, or of a row group of it: no more rows at once than fit."""
        return _together(self._batches(file, fragment, readers))

    def _batches(
        self, file: File, fragment: Any, readers: Sequence[Reader], most: int = _BATCH_ROWS
    ) -> Generator[pa.Table]:
        """Read some columns of a file, few enough rows at once that any text may stand in them."""
        most = min(most, _BATCH_CELLS // max(1, len(readers)))
        # A scanner of Arrow's would decode a row group as a whole, however many rows it has; so would `head`.
        is_local = isinstance(fragment.filesystem, pafs.LocalFileSystem)
        with (
            fragment.open() as opened,
            pq.ParquetFile(
                opened, metadata=fragment.metadata, pre_buffer=not is_local, buffer_size=_BUFFER_BYTES * is_local
            ) as source,
        ):
            groups = [group.id for group in fragment.row_groups]
            for batch in source.iter_batches(most, groups, _own_names(file, readers), use_threads=False):
                yield _table(file, batch, readers)

    def first_row(self, file: File, group: Any) -> int:
        """Return the number of a row group's first row in its file."""
        sizes = [each.num_rows for each in file.fragment.row_groups]
        return sum(sizes[: group.row_groups[0].id])

    def sample(self, columns: Iterable[str]) -> pa.Table:
        """Read some columns of a few rows."""
        readers = [self.reader(column) for column in columns]
        file = next((file for file in self.files if file.fragment.metadata.num_rows), self.files[0])
        with closing(self._batches(file, file.fragment, readers, _FEW)) as tables:
            return next(tables, _table(file, file.fragment.physical_schema.empty_table(), readers))

    def _refuse_fractions(self) -> None:
        """Refuse fractions for percentages, where no load vouches for the files and their statistics tell.

        Raises
        ------
        FrameError
            If all lie between 0 and 1, or all of one file below 1.
        """
        if self.meanings:
            return
        highest = []
        for file in self.files:
            known = [(group.statistics or {}).get(file.names.get("probability")) for group in file.fragment.row_groups]
            highest.append(max((float(each["max"]) if each else 100.0 for each in known), default=0.0))
        fractions = [file.shown for file, most in zip(self.files, highest, strict=True) if 0 < most < 1]
        if fractions or 0 < max(highest) <= 1:
            raise FrameError(
                f"column 'probability' lies between 0 and 1 in {[*fractions, 'all files'][0]}, and figures take "
                "percentages, 0 to 100: multiply by 100, or opp.adopt(frame, probability_unit='fraction')"
            )


def find_files(source: Any, names: Mapping[str, str]) -> Files:
    """Find the files that a source means.

    Parameters
    ----------
    source : path, list of paths, or DeltaTable
        Folders are looked through to the bottom; one with ``_delta_log`` is a Delta table.
    names : mapping of str to str
        Columns of the files -> ours.

    Raises
    ------
    ConfigurationError
        If there is no such file, or none at all.
    """
    many = isinstance(source, Iterable) and not isinstance(source, str | os.PathLike)
    found: list[File] = []
    meanings: dict[str, Meaning] = {}
    folders: dict[str, Meaning | None] = {}
    for fragment, shown in chain.from_iterable(map(_fragments, source if many else [source])):
        try:
            schema = fragment.physical_schema
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigurationError(f"{shown} cannot be read as Parquet: {error}") from error
        own = {names.get(name, name): name for name in schema.names}
        if len(own) < len(schema.names):
            raise FrameError(f"column names stand twice in {shown}, after columns=; keep one of each")
        found.append(File(fragment, shown, pads.get_partition_keys(fragment.partition_expression), own))
        folder = posixpath.dirname(fragment.path)
        if folder not in folders:
            folders[folder] = _meaning_in_folder(folder, fragment.filesystem)
        meaning = folders[folder] or _meaning_in(schema)
        if meaning is not None:
            meanings.setdefault(shown, meaning)
    if not found:
        raise ConfigurationError(f"there is no Parquet file in {printable(str(source))}")
    return Files(tuple(found), meanings, len(folders) == 1 and None not in folders.values())


def _meaning_in(schema: pa.Schema) -> Meaning | None:
    """Read what a load left in a Parquet file that pandas wrote."""
    text = ((schema.pandas_metadata or {}).get("attributes") or {}).get(ATTRS_KEY)
    return Meaning.parse(text) if isinstance(text, str) else None


def _meaning_in_folder(folder: str, filesystem: Any) -> Meaning | None:
    """Read what a load with ``to=`` left beside its files."""
    path = posixpath.join(folder, MEANING_FILE)
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    with filesystem.open_input_stream(path) as stream:
        return Meaning.parse(stream.read().decode())


def _fragments(source: Any) -> Iterator[tuple[Any, str]]:
    """Find the Parquet files of one source, in the order of their names."""
    if hasattr(source, "to_pyarrow_dataset"):
        dataset = source.to_pyarrow_dataset()
    elif not isinstance(source, str | os.PathLike):
        raise ConfigurationError(f"scan reads Parquet files, folders, Delta tables and a History, not {source!r}")
    elif (Path(source) / "_delta_log").is_dir():
        dataset = _delta_table(source).to_pyarrow_dataset()
    else:
        text = os.fspath(source)
        if "://" not in text and not Path(text).exists():
            raise ConfigurationError(f"there is no file or folder {printable(text)}")
        try:
            dataset = pads.dataset(text, format="parquet", partitioning="hive")
        except pa.ArrowInvalid as error:
            raise ConfigurationError(f"{printable(text)} cannot be read as Parquet: {error}") from error
    fragments = sorted(dataset.get_fragments(), key=lambda fragment: fragment.path)
    yield from ((fragment, printable(fragment.path)) for fragment in fragments)


def _delta_table(path: str | os.PathLike[str]) -> Any:
    return load_deltalake().DeltaTable(path)


def one_meaning(files: Files) -> Meaning | None:
    """Return what the load of the files says, where all files are of one load or of loads that say the same.

    Raises
    ------
    ConfigurationError
        If they are of loads that say something else; the text says what.
    """
    found = list(files.meanings.items())
    if not found:
        return None
    (first, meaning), *others = found
    facts = meaning.to_dict()
    lookups = dict(meaning.lookups)
    for file, other in others:
        theirs = other.to_dict()
        differing = [name for name in _ONE_FOR_ALL if facts[name] != theirs[name]]
        if differing:
            raise ConfigurationError(
                f"{first} and {file} are of loads that differ in {named(differing)}: scan them one by one, or load "
                "them again together"
            )
        lookups = joined_lookups(lookups, other.lookups)
    alone = any(each.exact_amounts_alone for _, each in found)
    return replace(meaning, lookups=lookups, exact_amounts_alone=alone)
