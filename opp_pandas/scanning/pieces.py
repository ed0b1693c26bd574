"""Pieces of a scan, as figures see them: columns that are read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.figures.core.totals import combine_parts
from opp_pandas.frame_state import ATTRS_KEY

if TYPE_CHECKING:
    from opp_pandas.figures.core.totals import Part
    from opp_pandas.frame_state import Meaning


class NotReadError(Exception):
    """A figure needs a column that was not read: the piece is read again, with it."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(column)


class Piece:
    """Rows that look like a frame to figures: names of all columns, and the cells of those that were read.

    Which columns a figure needs depends on its options and, as with names of
    people whom no look-up knows, on the rows: so nobody has to foresee it.

    Parameters
    ----------
    rows : int
        How many rows.
    columns : sequence of str
        All columns that there are.
    read : callable
        Gives a column; None for one that was not read.
    meaning : Meaning or None
        What the load of the rows says.
    """

    def __init__(
        self, rows: int, columns: Sequence[str], read: Callable[[str], pd.Series | None], meaning: Meaning | None
    ) -> None:
        self._read = read
        self._found: dict[str, pd.Series] = {}
        self.columns = pd.Index(list(columns), dtype="str")
        self.index = pd.RangeIndex(rows)
        self.attrs: dict[Any, Any] = {ATTRS_KEY: meaning}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, wanted: Any) -> Any:
        """Return a column, or a frame of several."""
        if isinstance(wanted, list):
            return pd.DataFrame({name: self[name] for name in wanted}, index=self.index)
        if wanted not in self._found:
            if wanted not in self.columns:
                raise KeyError(wanted)
            found = self._read(wanted)
            if found is None:
                raise NotReadError(wanted)
            self._found[wanted] = found
        return self._found[wanted]


def gather_part(
    pieces: Callable[[Sequence[str]], Iterable[Piece]], gather: Callable[[Any], Part], columns: list[str]
) -> Part:
    """Gather what a figure needs to know of some pieces; a column that turns out to be needed is added to `columns`.

    Parameters
    ----------
    pieces : callable
        Reads the pieces, with some columns.
    gather : callable
        Gives the part of a piece.
    columns : list of str
        What figures were seen to need so far; shared by all workers of a scan.

    Returns
    -------
    Part
    """
    while True:
        try:
            return combine_parts(gather(piece) for piece in pieces(tuple(columns)))
        except NotReadError as lacking:
            if lacking.column not in columns:
                columns.append(lacking.column)
