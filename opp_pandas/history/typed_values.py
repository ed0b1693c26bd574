"""Columns of a frame as typed cells, and back.

A cell is kept in the narrowest of four columns: text, whole number, number or
instant. What none of them holds (lists, mixed values) is JSON text.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import FrameError, named
from opp_pandas.kinds import INSTANT

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

MISSING, TEXT, INTEGER, BOOLEAN, REAL, TIME, JSON, LOCKED = range(8)
KINDS = ("missing", "text", "integer", "boolean", "real", "instant", "json", "locked")
"""Words for the kind of a cell, by code; a locked cell is missing, and its original could not take the dtype."""

STORED_IN = {TEXT: "text", JSON: "text", INTEGER: "number", BOOLEAN: "number", REAL: "real", TIME: "instant"}


@dataclass(frozen=True, eq=False)
class Packed:
    """One column as typed values.

    Parameters
    ----------
    kind : int
        What its values are: `TEXT`, `INTEGER`, `BOOLEAN`, `REAL`, `TIME` or `JSON`.
    values : ndarray or pyarrow array
        An Arrow array for text and JSON, else numbers; whatever where `present` is False.
    present : ndarray of bool
        Where there is a value.
    """

    kind: int
    values: Any
    present: Flags


def pack(column: pd.Series) -> Packed:
    """Turn a column into typed values.

    Raises
    ------
    FrameError
        If an object column holds what JSON cannot say.
    """
    import pyarrow as pa

    dtype = column.dtype
    present = column.notna().to_numpy(dtype=bool)
    if isinstance(dtype, pd.StringDtype):
        texts = pa.array(column.array, type=pa.large_string(), from_pandas=True)
        # Joined frames hold their text in several pieces.
        return Packed(TEXT, texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts, present)
    if pd.api.types.is_bool_dtype(dtype):
        return Packed(BOOLEAN, column.to_numpy(dtype=np.int64, na_value=0), present)
    if pd.api.types.is_integer_dtype(dtype) and not _is_too_large(column):
        return Packed(INTEGER, column.to_numpy(dtype=np.int64, na_value=0), present)
    if pd.api.types.is_float_dtype(dtype):
        return Packed(REAL, column.to_numpy(dtype=np.float64, na_value=np.nan), present)
    if getattr(dtype, "kind", "") == "M":
        unit: Any = INSTANT if isinstance(dtype, pd.DatetimeTZDtype) else "datetime64[us]"
        return Packed(TIME, column.astype(unit).to_numpy(dtype="datetime64[us]").view(np.int64), present)
    found = _dumped(column)
    some = np.array([text is not None for text in found], dtype=bool)
    return Packed(JSON, pa.array(found, type=pa.large_string()), some)


def _is_too_large(column: pd.Series) -> bool:
    """Whether a column of whole numbers has some that 63 bits do not hold."""
    return column.dtype.kind == "u" and bool((column > np.iinfo(np.int64).max).any())


def _dumped(column: pd.Series) -> list[str | None]:
    """Write every value of a column as JSON; tags repeat, so each distinct list of texts is written once."""
    name = str(column.name)
    written: dict[tuple[str, ...], str] = {}
    found: list[str | None] = []
    for value in column.astype(object).to_numpy():
        if _is_missing(value):
            found.append(None)
        elif type(value) in (list, tuple) and all(type(item) is str for item in value):
            key = tuple(value)
            text = written.get(key)
            if text is None:
                text = written[key] = dump(value, name)
            found.append(text)
        else:
            found.append(dump(value, name))
    return found


def unpack(kind: int, dtype: str, values: Any, present: Flags) -> Any:
    """Make the pandas array of one column from values of one kind.

    Parameters
    ----------
    kind : int
        What the values are.
    dtype : str
        The dtype that the column had.
    values : ndarray or pyarrow array, shape (n,)
        As in `Packed`.
    present : ndarray of bool, shape (n,)
        Where there is a value.

    Returns
    -------
    ExtensionArray or ndarray
        Of `dtype` where the values can take it, else of object.
    """
    if kind == TEXT and dtype == "str":
        return pd.array(values, dtype="str")
    if kind in (INTEGER, BOOLEAN) and dtype in ("Int64", "boolean"):
        masked = pd.arrays.IntegerArray(np.asarray(values, dtype=np.int64), ~present)
        return masked if dtype == "Int64" else masked.astype("boolean")
    if kind == REAL and dtype in ("Float64", "float64"):
        if dtype == "Float64":
            return pd.arrays.FloatingArray(np.where(present, values, 0.0), ~present)
        return np.where(present, values, np.nan)
    if kind == TIME and dtype.startswith("datetime64"):
        stamps = np.where(present, values, np.iinfo(np.int64).min).view("datetime64[us]")
        moments = pd.DatetimeIndex(stamps)
        # With a zone in the dtype they are instants, kept in UTC whatever the zone was.
        moments = moments.tz_localize("UTC") if "," in dtype else moments
        return (moments if str(moments.dtype) == dtype else moments.astype(dtype)).array
    return None


def missing_column(n: int, dtype: Any) -> Any:
    """Make the pandas array of a column without any value."""
    import pyarrow as pa

    if dtype == "str":
        return pd.array(pa.nulls(n, pa.large_string()), dtype="str")
    if dtype == "Int64":
        return pd.arrays.IntegerArray(np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool))
    if dtype.startswith("datetime64"):
        return unpack(TIME, dtype, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool))
    empty = np.empty(n, dtype=object)
    return empty if dtype == "object" else pd.Series(empty).astype(dtype).array


def plain(kind: int, value: Any) -> Any:
    """Give one stored value as a Python value."""
    if value is None or kind in (MISSING, LOCKED):
        return None
    if kind == JSON:
        return load(str(value))
    if kind == TIME:
        return pd.Timestamp(int(value), unit="us", tz="UTC").as_unit("us")
    if kind == BOOLEAN:
        return bool(value)
    if kind == INTEGER:
        return int(value)
    return float(value) if kind == REAL else str(value)


def dump(value: Any, column: str = "") -> str:
    """Write a value as JSON, with exact decimals, days and instants.

    Examples
    --------
    >>> dump(["a", Decimal("1.50")])
    '["a",{"$decimal":"1.50"}]'
    """
    try:
        return json.dumps(value, separators=(",", ":"), default=_tagged)
    except TypeError as error:
        raise FrameError(f"column {named([column])} holds a value that a history cannot keep: {error}") from error


def load(text: str) -> Any:
    """Read what `dump` wrote."""
    return json.loads(text, object_hook=_untagged)


def _tagged(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, pd.Timestamp | dt.datetime):
        return {"$instant": value.isoformat()}
    if isinstance(value, dt.date):
        return {"$day": value.isoformat()}
    if isinstance(value, set | frozenset | range | np.ndarray):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _untagged(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        ((key, value),) = found.items()
        if key == "$decimal":
            return Decimal(value)
        if key == "$instant":
            return dt.datetime.fromisoformat(value)
        if key == "$day":
            return dt.date.fromisoformat(value)
    return found


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
