"""``validate()`` over files: every bad cell with its file and row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
UNIQUE = "must be unique"
_MOST_IDS = 20_000_000


def no_failures() -> pd.DataFrame:
    """Return the table of no bad cell."""
    return pd.DataFrame({name: pd.Series([], dtype=object) for name in FILE_FAILURES}).astype({"id": "Int64"})


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
    """Find ids that stand twice, in one file or in several; all in memory where they fit, else part by part."""
    owners = [file for file in files.files if file.kind_of("id") in ("Int64", "Float64")]
    turns = max(1, -(-files.rows // _MOST_IDS))
    for turn in range(turns):
        ids, rows, places = [], [], []
        for place, file in enumerate(owners):
            reader = Reader.of("id", {file.shown: file.kind_of("id")})
            start = 0
            for table in files.read(file, file.fragment, [reader]):
                values = series_of(table["id"], "id").to_numpy(dtype=np.int64, na_value=np.iinfo(np.int64).min)
                chosen = np.flatnonzero((values % turns == turn) & (values != np.iinfo(np.int64).min))
                ids.append(values[chosen])
                rows.append(start + chosen)
                places.append(np.full(len(chosen), place, dtype=np.int32))
                start += len(values)
        if not ids:
            continue
        every = np.concatenate(ids)
        order = np.argsort(every, kind="stable")
        same = every[order][1:] == every[order][:-1]
        doubled = np.zeros(len(every), dtype=bool)
        doubled[order[1:][same]] = doubled[order[:-1][same]] = True
        found = np.flatnonzero(doubled)[:MOST_LISTED]
        if len(found):
            table = pd.DataFrame({
                "file": [owners[place].shown for place in np.concatenate(places)[found]],
                "id": pd.array(every[found], dtype="Int64"),
                "row": pd.Series(np.concatenate(rows)[found].tolist(), dtype=object),
                "column": "id",
                "value": pd.Series(every[found].tolist(), dtype=object),
                "rule": UNIQUE,
            })  # fmt: skip
            yield table
