"""Figures on a Dask DataFrame: gathered on its scheduler, from threads to a cluster, and put together there.

Only what a figure needs to know of a partition travels, some cells each, never
rows. A lost worker's parts are gathered again by the scheduler.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

import dask
import pandas as pd

from opp_pandas.errors import FrameError
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.totals import combine_parts
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.scanning.pieces import NotReadError, Piece
from opp_pandas.scanning.sources import USUAL
from opp_pandas.scanning.validation import FILE_FAILURES, UNIQUE, joined, not_compared
from opp_pandas.schema import find_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opp_pandas.figures.core.totals import Part
    from opp_pandas.frame_state import Meaning

_TOGETHER = 16


class DaskSource:
    """Rows of a Dask DataFrame.

    Parameters
    ----------
    frame : dask DataFrame
        The deals, best read with ``dtype_backend="numpy_nullable"``.
    meaning : Meaning or None
        What the load of the rows says.
    """

    def __init__(self, frame: Any, meaning: Meaning | None = None) -> None:
        self._frame, self.meaning = frame, meaning
        self.columns = [str(name) for name in frame.columns]
        self.caveats = not_compared(frame.npartitions, "partitions")
        self.shown = f"a Dask frame of {frame.npartitions:,} partitions"

    @property
    def rows(self) -> int:
        """How many rows there are; they are counted."""
        return len(self._frame)

    def stage_names(self) -> list[str]:
        """Return the names of stages that occur."""
        if "stage_name" not in self.columns:
            return []
        return sorted(map(str, self._frame["stage_name"].dropna().unique().compute()))

    def part(self, gather: Callable[[Any], Part]) -> Part:
        """Gather what a figure needs to know of all partitions, on the scheduler."""
        columns = [name for name in USUAL if name in self.columns]
        while True:
            work = functools.partial(_gathered, gather, self.columns, self.meaning)
            parts = [dask.delayed(work)(piece) for piece in self._frame[columns].to_delayed()]
            while len(parts) > 1:
                groups = [parts[start : start + _TOGETHER] for start in range(0, len(parts), _TOGETHER)]
                parts = [dask.delayed(_combined)(group) for group in groups]
            (found,) = dask.compute(parts[0])
            if not isinstance(found, str):
                return cast("Part", found)
            columns.append(found)

    def failures(self) -> pd.DataFrame:
        """Return every bad cell, with the number of its partition in place of a file."""
        tables = [dask.delayed(_failures)(piece, number) for number, piece in enumerate(self._frame.to_delayed())]
        found = list(dask.compute(*tables))
        ids = self._frame["id"]
        doubled = ids.value_counts().pipe(lambda counts: counts[counts > 1]).compute()
        if len(doubled):
            table = pd.DataFrame({"file": "", "id": pd.array(doubled.index, dtype="Int64"), "row": None})
            found.append(table.assign(column="id", value=table["id"].astype(object), rule=UNIQUE)[list(FILE_FAILURES)])
        else:
            self.caveats = ()
        return joined(found)


def _gathered(
    gather: Callable[[Any], Part], columns: Sequence[str], meaning: Meaning | None, frame: pd.DataFrame
) -> Part | str:
    """Return what a figure needs to know of a partition, or the column that it needs beside those that are there."""

    def read(column: str) -> pd.Series | None:
        return as_loaded(frame[column]) if column in frame.columns else None

    try:
        with suppress_unmapped_stages():
            return gather(Piece(len(frame), columns, read, meaning))
    except NotReadError as lacking:
        return lacking.column


def _combined(parts: Sequence[Part | str]) -> Part | str:
    lacking = next((part for part in parts if isinstance(part, str)), None)
    return lacking if lacking is not None else combine_parts([part for part in parts if not isinstance(part, str)])


def as_loaded(values: pd.Series) -> pd.Series:
    """Return a column with the dtype that it has in a load: Dask's readers give text and numbers in other ones.

    Raises
    ------
    FrameError
        If ids are no whole numbers.
    """
    name = str(values.name)
    values = values.reset_index(drop=True)
    if isinstance(values.dtype, pd.StringDtype):
        return values.astype("str")
    if COLUMN_DTYPES.get(name) != "Int64" or values.dtype.kind not in "iuf":
        return values
    # Without nullable dtypes, ids with missing ones among them are floats.
    if (values.isna() | (values == values.round())).all():
        return values.astype("Float64").astype("Int64")
    if name.endswith("id"):
        raise FrameError(
            f"column {name!r} holds {values.dtype} that are no whole numbers: no ids; read the files with "
            'dtype_backend="numpy_nullable"'
        )
    return values


def _failures(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    # Dask makes text of lists, unless it is told otherwise.
    shown = [name for name in frame.columns if COLUMN_DTYPES.get(name) != "object" or frame[name].dtype == object]
    found = find_failures(pd.DataFrame({name: as_loaded(frame[name]) for name in shown}))
    return found[found["rule"] != UNIQUE].assign(file=f"partition {number}")[list(FILE_FAILURES)]
