"""Which rows are shown, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.kinds import INSTANTS, TAGS
from opp_pandas.notebook.codecs import Plain, Relations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opp_pandas.notebook.cells import Places
    from opp_pandas.notebook.edit_session import Sheet

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Ordering:
    """The rows of a sheet as they are shown: filtered, sorted.

    An edit moves no row: filter and order hold until they are asked for again.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self.filter = ""
        self.column: str | None = None
        self.descending = False
        self.only_changed = False
        self.within: Places | None = None
        """Only these rows are shown; None: all."""
        self.rank: Places | None = None
        """Rows in the order that they have where nobody sorted them; None: as in the frame."""
        self._rows: Places = sheet.uids
        # Columns as texts for the filter, beside the arrays that they were made of.
        self._texts: dict[str, tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Places:
        """The numbers of the rows that are shown, in order."""
        return self._rows

    def slice(self, start: int, stop: int) -> Places:
        """Return the numbers of some rows by where they stand."""
        return self._rows[max(start, 0) : max(stop, 0)]

    def index(self, row: int) -> int:
        """Return where a row stands; -1 where it is not shown."""
        found = np.flatnonzero(self._rows == row)
        return int(found[0]) if len(found) else -1

    def show(
        self,
        columns: Sequence[str],
        *,
        filter: str | None = None,  # noqa: A002 - what people call it
        only_changed: bool | None = None,
    ) -> None:
        """Choose the rows again: those with every word of the filter in one of these columns, in any case of letters.

        With `only_changed` edited, new, refused and to be deleted rows only; what is left out stays as it is.
        """
        self.filter = self.filter if filter is None else filter
        self.only_changed = self.only_changed if only_changed is None else only_changed
        sheet = self._sheet
        shown = sheet.kept()
        for word in self.filter.split():
            shown &= self._holds(word, columns)
        if self.only_changed:
            touched = {uid for uid, _ in (*sheet.changed, *sheet.problems)} | sheet.deleted
            shown &= sheet.is_new | np.isin(sheet.uids, list(touched))
        if self.within is not None:
            shown &= np.isin(sheet.uids, self.within)
        places = np.flatnonzero(shown)
        if self.column is None and self.rank is not None:
            rank = np.full(int(sheet.uids.max(initial=-1)) + 1, len(self.rank))
            rank[self.rank] = np.arange(len(self.rank))
            places = places[np.argsort(rank[sheet.uids[places]], kind="stable")]
        if self.column in sheet.fields:
            places = places[_order(sheet, str(self.column), places, self.descending)]
        self._rows = sheet.uids[places]

    def sort(self, column: str | None, columns: Sequence[str], *, descending: bool = False) -> None:
        """Order by a column, missing cells last; None: as in the frame."""
        self.column, self.descending = column, descending
        self.show(columns)

    def append(self, row: int) -> None:
        """Show a new row last, whatever the filter says."""
        self._rows = np.append(self._rows, np.int64(row))

    def drop(self, rows: Iterable[int]) -> None:
        """Leave rows out that are no longer there."""
        self._rows = self._rows[~np.isin(self._rows, list(rows))]

    def _searchable(self, series: pd.Series, codec: Any) -> Any:
        made_of, texts = self._texts.get(str(series.name), (None, None))
        if made_of is not series.array:
            texts = _searchable(series, codec)
            self._texts[str(series.name)] = series.array, texts
        return texts

    def _holds(self, word: str, columns: Sequence[str]) -> Mask:
        """Find the rows in which a word stands in one of the columns."""
        found = np.zeros(len(self._sheet.uids), dtype=bool)
        for column in columns:
            if column not in self._sheet.fields:
                continue
            texts = self._searchable(_as_shown(self._sheet, column), self._sheet.fields[column].codec)
            found |= np.asarray(
                pc.fill_null(pc.match_substring(texts, word, ignore_case=True), False).to_numpy(zero_copy_only=False)
            )
        return found


def _as_shown(sheet: Sheet, column: str) -> pd.Series:
    """Return a column as its cells show it: a name beside an id that was edited has gone stale."""
    series = sheet.held[column]
    if not isinstance(sheet.fields[column].codec, Relations):
        return series
    edited = np.isin(sheet.uids, [uid for uid, name in sheet.changed if name == column]) | sheet.is_new
    if not edited.any():
        return series
    places = np.flatnonzero(edited)
    shown = series.copy()
    shown.iloc[places] = sheet.texts(places, column)
    return shown


def _searchable(series: pd.Series, codec: Any) -> Any:
    """Return a column as Arrow texts: as cells show it, without what only makes them exact."""
    if series.dtype == "str":
        return _one(pa.array(series.array, type=pa.large_string()))
    if pd.api.types.is_integer_dtype(series.dtype):
        numbers = pa.array(series.to_numpy(dtype=np.int64, na_value=0), mask=series.isna().to_numpy())
        return numbers.cast(pa.large_string())
    if isinstance(codec, Plain) and codec.kind is INSTANTS:
        stamps = pa.array(series.array, type=pa.timestamp("us", tz=codec.zone or "UTC"))
        return _one(stamps).cast(pa.timestamp("s", tz=codec.zone or "UTC"), safe=False).cast(pa.large_string())
    if isinstance(codec, Plain) and codec.kind is TAGS:
        lists = [list(tags) if isinstance(tags, list | tuple) else None for tags in series.tolist()]
        return pc.binary_join(pa.array(lists, pa.list_(pa.large_string())), pa.scalar(", ", pa.large_string()))
    return pa.array([None if value is None else codec.show(value) for value in _values(series)], pa.large_string())


def _values(series: pd.Series) -> list[Any]:
    return [None if missing else value for value, missing in zip(series.array, series.isna(), strict=True)]


def _one(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _order(sheet: Sheet, column: str, places: Places, descending: bool) -> Places:
    """Return the order of some rows by a column, stable, missing cells last."""
    series = _as_shown(sheet, column).take(places)
    field = sheet.fields[column]
    if field.name == "stage_name" and isinstance(field.codec, Relations):
        # Stages have an order of their own, and the alphabet's is not it.
        order = {row_id: rank for rank, row_id in enumerate(sheet.stage_ids)}
        ids = sheet.relation_ids(places, field)
        series = pd.Series([order.get(row_id) for row_id in ids], dtype="Int64")
    elif series.dtype == object:
        series = pd.Series(pd.array(_searchable(series, field.codec), dtype="str"))
    if series.dtype == "str":
        series = series.str.casefold()
    missing = series.isna().to_numpy()
    known = np.flatnonzero(~missing)
    ranks, _ = pd.factorize(series.iloc[known], sort=True)
    ranked = known[np.argsort(-ranks if descending else ranks, kind="stable")]
    return np.concatenate([ranked, np.flatnonzero(missing)])
