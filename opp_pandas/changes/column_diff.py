"""Comparing one column with its baseline, on the values as they were on the wire.

pandas changes dtypes behind people's backs: a merge makes integers floats, a
CSV round trip makes instants and lists text. A drifted column is read back into
its own dtype first, and a cell that only drifted is no edit. A cell that cannot
be read back is an edit that has to be refused, with the reason in words.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.resource import INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Read = tuple[Any, dict[int, str]]
FLOAT_EXACT = 2**53
_NO_ZONE = "has no zone; use df.opp.set_close_date(mask, day), or tz_localize it"


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


def diff_column(series: pd.Series, base: Any, kind: str) -> ColumnDiff:
    """Compare a column with its baseline.

    Parameters
    ----------
    series : Series, shape (n,)
        The column as it is now, of whatever dtype.
    base : array, shape (n,)
        The baseline's values for the same rows, in the column's own dtype.
    kind : {"integer", "text", "instant", "tags", "boolean"}
        What the wire carries, as in the resource table.

    Returns
    -------
    ColumnDiff
    """
    values = _as_it_was(series, kind)
    if values is not None:
        return ColumnDiff(_DIFFERS[kind](values, base), values)
    if kind == "tags" and (same := _same_lists(series, base)).any():
        return _diff_rest(series, base, np.flatnonzero(~same))
    values, reasons = _READERS[kind](series)
    changed = _DIFFERS[kind](values, base)
    changed[list(reasons)] = True
    raw = series.array
    for place in np.flatnonzero(changed):
        if _ECHOES[kind](raw[place], base[place]):
            changed[place] = False
            reasons.pop(int(place), None)
    return ColumnDiff(changed, values, reasons)


def read_column(series: pd.Series, kind: str) -> Read:
    """Read a column back into its own dtype.

    Parameters
    ----------
    series : Series, shape (n,)
        The column as it is now, of whatever dtype.
    kind : str
        As for `diff_column`.

    Returns
    -------
    (array, dict of int to str)
        The values, missing where a cell cannot be read, and why by position.
    """
    values = _as_it_was(series, kind)
    return _READERS[kind](series) if values is None else (values, {})


def is_missing(value: Any) -> bool:
    """Whether a cell is missing, in any of the ways in which pandas says so."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


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
    diff = diff_column(series.iloc[rest], base[rest], "tags")
    values, changed = np.array(base, dtype=object), np.zeros(len(series), dtype=bool)
    values[rest], changed[rest] = diff.values, diff.changed
    return ColumnDiff(changed, values, {int(rest[place]): reason for place, reason in diff.reasons.items()})


# --- reading a column back into its own dtype -------------------------------


def _as_it_was(series: pd.Series, kind: str) -> Any:
    """Give the column's array where its dtype is its own, or loses nothing on the way back; else None."""
    dtype = series.dtype
    if kind == "integer" and pd.api.types.is_signed_integer_dtype(dtype):
        return series.array if dtype == "Int64" else series.astype("Int64").array
    if kind == "text" and dtype == "str":
        return series.array
    if kind == "instant" and isinstance(dtype, pd.DatetimeTZDtype):
        try:
            return series.array if str(dtype) == INSTANT else series.astype(cast("Any", INSTANT)).array
        except (ValueError, OverflowError):
            return None
    return series.array if kind == "boolean" and dtype == "boolean" else None


def _read_integers(series: pd.Series) -> Read:
    values, reasons = _read_cells(series, _integer_cell)
    return pd.array(values, dtype="Int64"), reasons


def _integer_cell(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise ValueError("is true or false; it must be a whole number")
    if isinstance(value, str):
        raise ValueError("is text; it must be a whole number")
    if isinstance(value, float | np.floating):
        if not float(value).is_integer():
            raise ValueError("is not a whole number; round it first, as in .round().astype('Int64')")
        if abs(float(value)) > FLOAT_EXACT:
            raise ValueError("is a float too large to be exact; write it as an integer")
        return int(value)
    if isinstance(value, int | np.integer):
        if not -(2**63) <= int(value) < 2**63:
            raise ValueError("does not fit into 64 bits")
        return int(value)
    raise ValueError(f"is a {type(value).__name__}; it must be a whole number")


def _read_text(series: pd.Series) -> Read:
    values, reasons = _read_cells(series, _text_cell)
    return pd.array(pa.array(values, type=pa.large_string()), dtype="str"), reasons


def _text_cell(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is a {type(value).__name__}; it must be text: write str(value)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return str(value)


def _read_instants(series: pd.Series) -> Read:
    values, reasons = _read_cells(series, _instant_cell)
    stamps = pa.array(values, type=pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pd.array(stamps.to_pandas(), dtype=INSTANT), reasons


def _instant_cell(value: Any) -> int:
    moment = _moment(value)
    if moment.tzinfo is None:
        raise ValueError(_NO_ZONE)
    return int(moment.as_unit("us").asm8.view("int64"))


def _moment(value: Any) -> pd.Timestamp:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a date and time that can be read") from None
    if not isinstance(value, dt.datetime | np.datetime64):
        raise ValueError(f"is a {type(value).__name__}; it must be an instant, with its zone")
    return pd.Timestamp(value)


def _read_tags(series: pd.Series) -> Read:
    values, reasons = _read_cells(series, _tags_cell)
    read = np.empty(len(values), dtype=object)
    read[:] = values
    return read, reasons


def _tags_cell(value: Any) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"is a {type(value).__name__}; tags are a list of texts")
    if not all(isinstance(item, str) for item in value):
        raise ValueError("holds something that is not text; tags are a list of texts")
    return tuple(_text_cell(item) for item in value)


def _read_booleans(series: pd.Series) -> Read:
    values, reasons = _read_cells(series, _boolean_cell)
    return pd.array(values, dtype="boolean"), reasons


def _boolean_cell(value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"is a {type(value).__name__}; it must be true or false")


def _read_cells(series: pd.Series, read: Callable[[Any], Any]) -> tuple[list[Any], dict[int, str]]:
    """Read cell by cell: the slow way, for columns whose dtype has drifted."""
    values: list[Any] = []
    reasons: dict[int, str] = {}
    for place, value in enumerate(series.array):
        if is_missing(value):
            values.append(None)
            continue
        try:
            values.append(read(value))
        except (ValueError, OverflowError) as problem:
            values.append(None)
            reasons[place] = str(problem)
    return values, reasons


# --- cells that are the baseline's, seen through another dtype ----------------


def _echoes_integer(value: Any, base: Any) -> bool:
    if is_missing(value) or is_missing(base):
        return False
    if isinstance(value, str):
        return _number(value) == int(base)
    if not isinstance(value, float | np.floating):
        return False
    # 2**53 + 1 comes back from a float column as 2**53, and from a CSV a few units in the last place off.
    seen = type(value)(int(base))
    near = abs(base) > FLOAT_EXACT and abs(float(value) - float(seen)) <= 4 * np.spacing(abs(float(seen)))
    return bool(value == seen or near)


def _echoes_text(value: Any, base: Any) -> bool:
    # A CSV makes "007" the number 7, "1e5" 100000.0, and "true", "True" and "TRUE" true.
    if isinstance(value, str) or is_missing(value) or not isinstance(base, str):
        return False
    if isinstance(value, bool | np.bool_):
        return base in {str(value), str(value).lower(), str(value).upper()}
    if str(value) == base:
        return True
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and _number(base) == Decimal(str(value))


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _echoes_instant(value: Any, base: Any) -> bool:
    # A value without a zone that reads the same in UTC lost its zone in pandas, no more.
    if is_missing(value) or is_missing(base):
        return False
    try:
        moment = _moment(value)
    except (ValueError, OverflowError):
        return False
    return bool(moment.tzinfo is None and moment == pd.Timestamp(base).tz_localize(None))


def _echoes_tags(value: Any, base: Any) -> bool:
    if not isinstance(value, str) or is_missing(base):
        return False
    return value in (str(list(base)), str(tuple(base)), json.dumps(base), json.dumps(base, ensure_ascii=False))


def _echoes_boolean(value: Any, base: Any) -> bool:
    if is_missing(value) or is_missing(base):
        return False
    return value == str(bool(base)) if isinstance(value, str) else bool(value == base)


# --- comparing two arrays of one dtype --------------------------------------


def _masked_differs(values: Any, base: Any) -> Mask:
    missing, base_missing = np.asarray(values.isna()), np.asarray(base.isna())
    same = np.asarray(
        values.to_numpy(dtype=object if values.dtype == "boolean" else np.int64, na_value=0)
    ) == np.asarray(base.to_numpy(dtype=object if base.dtype == "boolean" else np.int64, na_value=0))
    return np.asarray((missing != base_missing) | (~same.astype(bool) & ~missing))


def _text_differs(values: Any, base: Any) -> Mask:
    left, right = _arrow(values), _arrow(base)
    if _same_buffers(left, right):
        return np.zeros(len(values), dtype=bool)
    different = pc.fill_null(pc.not_equal(left, right), False)
    different = pc.or_(different, pc.xor(left.is_null(), right.is_null()))
    return np.array(different.to_numpy(zero_copy_only=False), dtype=bool)


def _arrow(values: Any) -> Any:
    array = pa.array(values, type=pa.large_string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _same_buffers(left: Any, right: Any) -> bool:
    """Whether both arrays are the same memory: then nobody has touched the column."""
    if len(left) != len(right) or left.offset != right.offset:
        return False
    return [getattr(part, "address", None) for part in left.buffers()] == [
        getattr(part, "address", None) for part in right.buffers()
    ]


def _instant_differs(values: Any, base: Any) -> Mask:
    return np.asarray(values.asi8 != base.asi8)


def _tags_differ(values: Any, base: Any) -> Mask:
    different = np.zeros(len(values), dtype=bool)
    for place, (value, before) in enumerate(zip(values, base, strict=True)):
        if value is not before and value != (tuple(before) if isinstance(before, list) else before):
            different[place] = True
    return different


_READERS: dict[str, Callable[[pd.Series], Read]] = {
    "integer": _read_integers,
    "text": _read_text,
    "instant": _read_instants,
    "tags": _read_tags,
    "boolean": _read_booleans,
}
_ECHOES: dict[str, Callable[[Any, Any], bool]] = {
    "integer": _echoes_integer,
    "text": _echoes_text,
    "instant": _echoes_instant,
    "tags": _echoes_tags,
    "boolean": _echoes_boolean,
}
_DIFFERS: dict[str, Callable[[Any, Any], Mask]] = {
    "integer": _masked_differs,
    "text": _text_differs,
    "instant": _instant_differs,
    "tags": _tags_differ,
    "boolean": _masked_differs,
}
