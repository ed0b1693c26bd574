"""Newer copies of rows laid over older ones, by id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.frame_state import Rows

Places = np.ndarray[Any, np.dtype[np.int64]]


def not_older(old: Rows, fresh: Rows) -> Rows:
    """Leave out fresh rows whose ``updated_at`` is before that of the copy at hand, as a lagging replica sends them.

    The service stamps whole seconds, so equal stamps may hide a second change:
    such rows stay.
    """
    places = pd.Index(old.frame["id"]).get_indexer(pd.Index(fresh.frame["id"]))
    if "updated_at" not in old.frame.columns or "updated_at" not in fresh.frame.columns:
        return fresh
    before = old.frame["updated_at"].array.take(places, allow_fill=True)
    older = np.asarray(before > fresh.frame["updated_at"].array)
    return fresh.take(np.flatnonzero(~older)) if older.any() else fresh


def overlay(old: Rows, fresh: Rows) -> tuple[Rows, Places]:
    """Replace rows by id, new ones last; return them, and where each fresh row went.

    Ids of `old` are unique where they are not missing, and `fresh` has one row for each.
    """
    if not len(fresh):
        return old, np.array([], dtype=np.int64)
    places = np.asarray(pd.Index(old.frame["id"]).get_indexer(pd.Index(fresh.frame["id"])), dtype=np.int64)
    new = places < 0
    more = int(new.sum())
    places[new] = len(old) + np.arange(more)
    known = {column: values.array for column, values in old.frame.items()}
    arrays = {}
    for column, values in fresh.frame.items():
        base = extended(known[column], more) if column in known else missing(len(old) + more, values.dtype)
        arrays[column] = put(base, places, values)
    # Of a column that the rows were not asked for, replaced rows keep their cells.
    kept = {column: extended(array, more) for column, array in known.items() if column not in arrays}
    columns = {column: (arrays if column in arrays else kept)[column] for column in known | arrays}
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(old) + more), copy=False)
    replaced = set(places.tolist())
    marks = old.marks.without(lambda row, _: row in replaced) | fresh.marks.at(places)
    return Rows(frame, marks), places


def missing(number: int, dtype: Any) -> Any:
    """Make an array of missing cells."""
    if str(dtype) == "object":
        return np.full(number, None, dtype=object)
    if str(dtype) == "bool":
        dtype = "boolean"
    # Taken from nowhere: a list of so many None would have to be made and read.
    return pd.array([], dtype=dtype).take(np.full(number, -1), allow_fill=True)


def extended(array: Any, number: int) -> Any:
    """Append missing cells."""
    if not number:
        return array
    if isinstance(array, np.ndarray) or str(array.dtype) == "object":
        return np.concatenate([np.asarray(array, dtype=object), np.full(number, None, dtype=object)])
    if isinstance(array.dtype, np.dtype) and array.dtype.kind not in "fM":
        # int64 and bool have no missing value of their own.
        array = pd.array(array).astype({"b": "boolean", "i": "Int64", "u": "UInt64"}.get(array.dtype.kind, "object"))
        return extended(array, number)
    return array.take(np.append(np.arange(len(array)), np.full(number, -1)), allow_fill=True)


def put(array: Any, places: Places, values: pd.Series) -> Any:
    """Copy `array` with `values` at `places`; the same array where nothing differs.

    Where the array's dtype cannot hold the values, the values' dtype is taken if
    it can hold the array, else object.
    """
    if not len(places):
        return array
    if not isinstance(array, np.ndarray) and array.dtype == values.dtype and str(array.dtype) != "object":
        if array.take(places).equals(values.array):
            return array
        copied = array.copy()
        copied[places] = values.array
        return copied
    kept = pd.Series(array)
    if not _same_dtype(kept, values):
        kept, values = _of_one_dtype(kept, values)
    if str(kept.dtype) == "object":
        fresh = np.array(kept.array, dtype=object)
        for place, value in zip(places, values.array, strict=True):
            fresh[place] = value
        return fresh
    copied = kept.array.copy()
    copied[places] = values.array
    return copied


def _same_dtype(one: pd.Series, other: pd.Series) -> bool:
    return bool(one.dtype == other.dtype)


def _of_one_dtype(kept: pd.Series, values: pd.Series) -> tuple[pd.Series, pd.Series]:
    if kept.isna().all():
        return pd.Series(missing(len(kept), values.dtype)), values
    if isinstance(kept.dtype, pd.CategoricalDtype) and isinstance(values.dtype, pd.CategoricalDtype):
        wider = pd.CategoricalDtype(kept.cat.categories.union(values.cat.categories, sort=False))
        return kept.astype(wider), values.astype(wider)
    for dtype in (kept.dtype, values.dtype):
        try:
            one, other = kept.astype(dtype), values.astype(dtype)
        except (ValueError, TypeError, OverflowError):
            continue
        if _lossless(kept, one) and _lossless(values, other):
            return one, other
    return kept.astype(object), values.astype(object)


def _lossless(before: pd.Series, after: pd.Series) -> bool:
    """Whether a conversion kept every value, and made text of none."""
    if (str(after.dtype) == "str") != (str(before.dtype) == "str") and before.notna().any():
        return False
    gone = before.isna().to_numpy(dtype=bool) != after.isna().to_numpy(dtype=bool)
    if gone.any():
        return False
    try:
        return bool((after.dropna().astype(object) == before.dropna().astype(object)).all())
    except (TypeError, ValueError):
        return False
