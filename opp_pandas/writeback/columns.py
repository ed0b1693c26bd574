"""Comparing one column with its baseline, on the values as they were on the wire.

pandas changes dtypes behind people's backs: a merge makes integers floats, a
CSV round trip makes instants text. A drifted column is read back into its own
dtype first, and a cell that only drifted is no edit. A cell that cannot be read
back is an edit that has to be refused, with the reason in words.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.resource import INSTANT

Mask = np.ndarray[Any, np.dtype[np.bool_]]
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_SHOWN_ZONE_HINT = "has no zone; use df.opp.set_close_date(mask, day), or tz_localize it"


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
    values, reasons, drifted = _READERS[kind](series, base)
    changed = _DIFFERS[kind](values, base)
    for position in reasons:
        changed[position] = True
    if drifted is not None:
        changed &= ~drifted
        reasons = {position: reason for position, reason in reasons.items() if changed[position]}
    return ColumnDiff(changed, values, reasons)


# --- reading a column back into its own dtype -------------------------------

Read = tuple[Any, dict[int, str], "Mask | None"]


def _read_integer(series: pd.Series, base: Any) -> Read:
    if series.dtype == "Int64":
        return series.array, {}, None
    drifted: Mask | None = None
    if pd.api.types.is_float_dtype(series.dtype):
        floats = series.to_numpy(dtype=np.float64, na_value=np.nan)
        # 2**53 + 1 comes back from a float column as 2**53: the same float, so not an edit.
        drifted = floats == base.to_numpy(dtype=np.float64, na_value=np.nan)
    elif pd.api.types.is_integer_dtype(series.dtype) and not pd.api.types.is_unsigned_integer_dtype(series.dtype):
        return series.astype("Int64").array, {}, None
    values, reasons = _read_cells(series, _integer_cell)
    return pd.array(values, dtype="Int64"), reasons, drifted


def _integer_cell(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise ValueError("is true or false; it must be a whole number")
    if isinstance(value, str):
        raise ValueError("is text; it must be a whole number")
    if isinstance(value, float | np.floating):
        if not float(value).is_integer():
            raise ValueError("is not a whole number; round it first, as in .round().astype('Int64')")
        if abs(value) > 2**53:
            raise ValueError("is a float too large to be exact; write it as an integer")
        return int(value)
    if isinstance(value, int | np.integer):
        if not -(2**63) <= value < 2**63:
            raise ValueError("does not fit into 64 bits")
        return int(value)
    raise ValueError(f"is a {type(value).__name__}; it must be a whole number")


def _read_text(series: pd.Series, base: Any) -> Read:
    if series.dtype == "str":
        return series.array, {}, None
    values, reasons = _read_cells(series, _text_cell)
    return pd.array(pa.array(values, type=pa.large_string()), dtype="str"), reasons, None


def _text_cell(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is a {type(value).__name__}; it must be text: write str(value)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return str(value)


def _read_instant(series: pd.Series, base: Any) -> Read:
    if series.dtype == INSTANT:
        return series.array, {}, None
    if isinstance(series.dtype, pd.DatetimeTZDtype) and series.dtype.unit in _MICROSECONDS:
        return series.astype(INSTANT).array, {}, None
    values, reasons = _read_cells(series, _instant_cell)
    stamps = pa.array(values, type=pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    read = pd.array(stamps.to_pandas(), dtype=INSTANT)
    drifted = None
    if reasons:
        # A value without a zone that reads the same in UTC lost its zone in pandas, no more.
        naive = {place: _naive_microseconds(series.iloc[place]) for place in reasons}
        base_values = base.asi8
        drifted = np.zeros(len(series), dtype=bool)
        for place, microseconds in naive.items():
            drifted[place] = microseconds is not None and microseconds == base_values[place]
    return read, reasons, drifted


_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # compared with naive values


def _naive_microseconds(value: Any) -> int | None:
    try:
        moment = pd.Timestamp(value).to_pydatetime() if not isinstance(value, str) else dt.datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if moment.tzinfo is not None else (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _instant_cell(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a date and time that can be read") from None
    if not isinstance(value, dt.datetime | np.datetime64):
        raise ValueError(f"is a {type(value).__name__}; it must be an instant, with its zone")
    moment = pd.Timestamp(value)
    if moment.tzinfo is None:
        raise ValueError(_SHOWN_ZONE_HINT)
    return int(moment.as_unit("us").asm8.view("int64"))


def _read_tags(series: pd.Series, base: Any) -> Read:
    values, reasons = _read_cells(series, _tags_cell)
    read = np.empty(len(values), dtype=object)
    read[:] = values
    return read, reasons, None


def _tags_cell(value: Any) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"is a {type(value).__name__}; tags are a list of texts")
    if not all(isinstance(item, str) for item in value):
        raise ValueError("holds something that is not text; tags are a list of texts")
    return tuple(value)


def _read_boolean(series: pd.Series, base: Any) -> Read:
    if series.dtype == "boolean":
        return series.array, {}, None
    values, reasons = _read_cells(series, _boolean_cell)
    return pd.array(values, dtype="boolean"), reasons, None


def _boolean_cell(value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"is a {type(value).__name__}; it must be true or false")


def _read_cells(series: pd.Series, read: Callable[[Any], Any]) -> tuple[list[Any], dict[int, str]]:
    """Read cell by cell: the slow way, for columns whose dtype has drifted."""
    values: list[Any] = []
    reasons: dict[int, str] = {}
    for place, value in enumerate(series.array):
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
            values.append(None)
            continue
        try:
            values.append(read(value))
        except (ValueError, OverflowError) as problem:
            values.append(None)
            reasons[place] = str(problem)
    return values, reasons


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


_READERS: dict[str, Callable[[pd.Series, Any], Read]] = {
    "integer": _read_integer,
    "text": _read_text,
    "instant": _read_instant,
    "tags": _read_tags,
    "boolean": _read_boolean,
}
_DIFFERS: dict[str, Callable[[Any, Any], Mask]] = {
    "integer": _masked_differs,
    "text": _text_differs,
    "instant": _instant_differs,
    "tags": _tags_differ,
    "boolean": _masked_differs,
}
