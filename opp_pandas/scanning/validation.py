"""``validate()`` over files: every bad cell with its file and row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import FrameError
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.scanning.columns import Reader, objection, series_of
from opp_pandas.schema import FAILURE_COLUMNS, find_failures

if TYPE_CHECKING:
    from opp_pandas.scanning.files import File, Files

FILE_FAILURES = ("file", *FAILURE_COLUMNS)
MOST_LISTED = 100_000
"""Bad cells that are listed; a file that is wrong throughout would fill the memory."""
Ids = np.ndarray[Any, np.dtype[np.int64]]
UNIQUE = "must be unique"
_MOST_IDS = 10_000_000
_MISSING = np.iinfo(np.int64).min


def no_failures() -> pd.DataFrame:
    """Return the table of no bad cell."""
    return pd.DataFrame({name: pd.Series([], dtype=object) for name in FILE_FAILURES}).astype({"id": "Int64"})


def not_compared(number: int, of_what: str) -> tuple[str, ...]:
    """Warn that a deal may stand twice, where it may."""
    return (
        ()
        if number < 2
        else (f"whether a deal stands in two of {number:,} {of_what} was not checked: validate() does",)
    )


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of failures together, up to `MOST_LISTED` rows."""
    kept, rows = [no_failures()], 0
    for part in parts:
        kept.append(part.head(MOST_LISTED - rows))
        rows += len(kept[-1])
    return pd.concat([table for table in kept if len(table)] or kept, ignore_index=True)


def of_whole_columns(files: Files) -> Iterator[pd.DataFrame]:
    """Find columns that a file lacks, or holds something else in."""
    known = [name for name in files.columns if name in COLUMN_DTYPES]
    for file in files.files:
        for column in known:
            typed = file.type_of(column)
            rule = (
                "missing, and other files have it" if typed is None else objection(column, typed, file.kind_of(column))
            )
            if rule is not None:
                yield _lines(file.shown, column, None if typed is None else str(typed), rule)


def _lines(file: str, column: str, value: Any, rule: str) -> pd.DataFrame:
    line = {"file": file, "id": pd.NA, "row": None, "column": column, "value": value, "rule": rule}
    return pd.DataFrame([line], dtype=object).astype({"id": "Int64"})


def of_cells(files: Files, unit: Iterable[tuple[File, Any]]) -> pd.DataFrame:
    """Find the cells of a piece of work that break a rule, but for ids that stand twice."""
    found: list[pd.DataFrame] = []
    for file, group in unit:
        readers = readers_of(file)
        start = files.first_row(file, group)
        try:
            for table in files.read(file, group, readers):
                frame = pd.DataFrame({name: series_of(table[name], name) for name in table.column_names}, copy=False)
                if "id" not in frame.columns:
                    # `of_whole_columns` says so, where other files have it.
                    frame = frame.assign(id=pd.array(np.arange(len(frame)), dtype="Int64"))
                failures = find_failures(frame)
                failures = failures[failures["rule"] != UNIQUE]
                rows = failures["row"].map(lambda row, start=start: None if row is None else row + start)
                found.append(failures.assign(row=rows.astype(object)).assign(file=file.shown)[list(FILE_FAILURES)])
                start += len(table)
        except FrameError as error:
            found.append(_lines(file.shown, "", None, str(error)))
    return joined(found)


def readers_of(file: File) -> list[Reader]:
    """Return how the columns of one file are read that can be."""
    readers = []
    for column in (*file.names, *file.keys):
        typed, kind = file.type_of(column), file.kind_of(column)
        if column in COLUMN_DTYPES and typed is not None and objection(column, typed, kind) is None:
            readers.append(Reader.of(column, {file.shown: kind}))
    return readers


def of_ids(files: Files) -> Iterator[pd.DataFrame]:
    """Find ids that stand twice, in one file or in several, each with its file and row."""
    owners = [file for file in files.files if file.kind_of("id") in ("Int64", "Float64")]
    doubled = _doubled_ids(files, owners)
    for file, start, values in _ids_of(files, owners if len(doubled) else []):
        places = np.flatnonzero(np.isin(values, doubled))
        if len(places):
            table = pd.DataFrame({"file": file.shown, "id": pd.array(values[places], dtype="Int64")})
            rows = pd.Series((start + places).tolist(), dtype=object)
            table = table.assign(row=rows, column="id", value=table["id"].astype(object), rule=UNIQUE)
            yield table[list(FILE_FAILURES)]


def _doubled_ids(files: Files, owners: Sequence[File]) -> Ids:
    """Return ids that stand twice, up to `MOST_LISTED`: some millions are sorted at a time, 8 bytes each."""
    turns = max(1, -(-files.rows // _MOST_IDS))
    doubled = none = np.empty(0, dtype=np.int64)
    for turn in range(turns):
        pieces = (values for _, _, values in _ids_of(files, owners))
        chosen = (values[(_spread(values, turns) == turn) & (values != _MISSING)] for values in pieces)
        ids = np.concatenate([none, *chosen])
        ids.sort()
        doubled = np.append(doubled, np.unique(ids[1:][ids[1:] == ids[:-1]]))[:MOST_LISTED]
    return doubled


def _spread(ids: Ids, turns: int) -> Any:
    """Assign ids to turns evenly, whatever steps they are counted in."""
    return (ids.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(turns)


def _ids_of(files: Files, owners: Sequence[File]) -> Iterator[tuple[File, int, Ids]]:
    """Read the ids of all files, each piece with its file and the number of its first row."""
    for file in owners:
        reader = Reader.of("id", {file.shown: file.kind_of("id")})
        start = 0
        for table in files.read(file, file.fragment, [reader]):
            yield file, start, series_of(table["id"], "id").to_numpy(dtype=np.int64, na_value=_MISSING)
            start += len(table)
