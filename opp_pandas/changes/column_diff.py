"""Comparing one column with its baseline, on the values as they were on the wire.

pandas changes dtypes behind people's backs: a merge makes integers floats, a
CSV round trip makes instants and lists text. A drifted column is read back into
its own dtype first, and a cell that only drifted is no edit. A cell that cannot
be read back is an edit that has to be refused, with the reason in words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.kinds import TAGS, is_missing

if TYPE_CHECKING:
    from opp_pandas.kinds import Kind, Mask


@dataclass
class ColumnDiff:
    """What differs in one column.

    Parameters
    ----------
    changed : ndarray of bool, shape (n,)
        Rows whose value is not the baseline's; unreadable cells count as changed.
    values : array, shape (n,)
        The column in its own dtype; missing where a cell cannot be read.
    reasons : dict of int to str
        Position of every unreadable cell and why.
    """

    changed: Mask
    values: Any
    reasons: dict[int, str] = field(default_factory=dict)


def diff_column(series: pd.Series, base: Any, kind: Kind) -> ColumnDiff:
    """Compare a column with its baseline.

    Parameters
    ----------
    series : Series, shape (n,)
        The column as it is now, of whatever dtype.
    base : array, shape (n,)
        The baseline's values for the same rows, in the column's own dtype.
    kind : Kind
        What its values are.

    Returns
    -------
    ColumnDiff
    """
    values = kind.own_array(series)
    if values is not None:
        return ColumnDiff(kind.differs(values, base), values)
    if kind is TAGS and (same := _same_lists(series, base)).any():
        return _diff_rest(series, base, np.flatnonzero(~same))
    values, reasons = _read_cells(series, kind)
    changed = kind.differs(values, base)
    changed[list(reasons)] = True
    raw = series.array
    for place in np.flatnonzero(changed):
        value, before = raw[place], base[place]
        if not is_missing(value) and not is_missing(before) and kind.echoes(value, before):
            changed[place] = False
            reasons.pop(int(place), None)
    return ColumnDiff(changed, values, reasons)


def read_column(series: pd.Series, kind: Kind) -> tuple[Any, dict[int, str]]:
    """Read a column back into its own dtype.

    Parameters
    ----------
    series : Series, shape (n,)
        The column as it is now, of whatever dtype.
    kind : Kind
        As for `diff_column`.

    Returns
    -------
    (array, dict of int to str)
        The values, missing where a cell cannot be read, and why by position.
    """
    values = kind.own_array(series)
    return _read_cells(series, kind) if values is None else (values, {})


def _read_cells(series: pd.Series, kind: Kind) -> tuple[Any, dict[int, str]]:
    """Read cell by cell: the slow way, for columns whose dtype has drifted."""
    values: list[Any] = []
    reasons: dict[int, str] = {}
    for place, value in enumerate(series.array):
        decoded = None
        if not is_missing(value):
            try:
                decoded = kind.read_cell(value)
            except (ValueError, OverflowError) as problem:
                reasons[place] = str(problem)
        values.append(decoded)
    return kind.array(values), reasons


def missing_array(number: int, dtype: str) -> Any:
    """Give an array of missing values."""
    if dtype == "object":
        return np.full(number, None)
    # Taken from nowhere: a list of so many None would have to be made and read.
    return pd.array([], dtype=cast("Any", dtype)).take(np.full(number, -1), allow_fill=True)


def plain_value(value: Any) -> Any:
    """Give a cell as a Python value for a report: None where it is missing, lists for tuples."""
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


def _same_lists(series: pd.Series, base: Any) -> Mask:
    """Find the lists that nobody touched: the bulk of a column of lists, and quick to see."""
    pairs = zip(series.tolist(), base, strict=True)
    return np.fromiter((type(value) is list and tuple(value) == before for value, before in pairs), bool, len(series))


def _diff_rest(series: pd.Series, base: Any, rest: np.ndarray[Any, Any]) -> ColumnDiff:
    """Compare the lists that are not known to be the same."""
    diff = diff_column(series.iloc[rest], base[rest], TAGS)
    values, changed = np.array(base, dtype=object), np.zeros(len(series), dtype=bool)
    values[rest], changed[rest] = diff.values, diff.changed
    return ColumnDiff(changed, values, {int(rest[place]): reason for place, reason in diff.reasons.items()})
