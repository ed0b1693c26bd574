"""Edits that ordinary pandas code gets wrong or cannot do: new rows, close dates, tags, attaching again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.carrier import Loaded, attach_loaded, loaded_of, require_loaded
from opp_pandas.errors import ConfigurationError, DuplicateRowsError, FrameError, MissingColumnError, NotLoadedError, named
from opp_pandas.resource import COLUMN_DTYPES, INSTANT


def add_rows(
    frame: pd.DataFrame, rows: pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Append new deals, to be created by the next write-back.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A loaded or adopted frame. Never modified.
    rows : DataFrame, mapping or sequence of mapping
        New deals in our column names, without ids.

    Returns
    -------
    DataFrame, shape (n + m, k)
        The frame with the new rows last. They bear fresh index labels; these
        (or a custom id of their own) mark them as new, so keep them until they
        are written back.

    Raises
    ------
    FrameError
        If a row has an id, or a column is not one of the frame's.
    NotLoadedError
        If nothing of a load travels with the frame.
    """
    loaded = require_loaded(frame, "add()")
    new = _new_rows(rows)
    if "id" in new.columns and new["id"].notna().any():
        raise FrameError("new deals have no id, the service gives it; to edit a deal, change its row in the frame")
    levels = [name for name in frame.index.names if name in COLUMN_DTYPES]
    if levels:
        raise FrameError(f"add() needs the column {named(levels)} back from the index: df.reset_index().opp.add(rows)")
    unknown = [str(column) for column in new.columns if column not in frame.columns and column not in COLUMN_DTYPES]
    if unknown:
        raise MissingColumnError(unknown, frame.columns, "New deals take the columns of the frame.")
    labels = _fresh_labels(frame.index, len(new))
    custom = new["custom_id"].tolist() if "custom_id" in new.columns else [None] * len(new)
    aligned = _aligned(frame, new, labels, loaded)
    created = {
        **loaded.created,
        **{
            label: value if isinstance(value, str) else None for label, value in zip(labels, custom, strict=True)
        },
    }
    bare = frame.copy(deep=False)
    bare.attrs = {}
    joined = pd.concat([bare, aligned])
    joined.index.names = frame.index.names
    joined.attrs = {key: value for key, value in frame.attrs.items() if key != "opp"}
    return attach_loaded(joined, loaded.renewed(created=created))


def _new_rows(rows: Any) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        new = rows.reset_index(drop=True)
    elif isinstance(rows, Mapping):
        new = pd.DataFrame([dict(rows)])
    else:
        new = pd.DataFrame(list(rows))
    if not len(new):
        raise FrameError("there is no row to add")
    return new


def _aligned(frame: pd.DataFrame, new: pd.DataFrame, labels: list[Any], loaded: Loaded) -> pd.DataFrame:
    """Give the new rows the frame's columns and dtypes, so that joining changes no dtype."""
    columns: dict[str, Any] = {}
    for column in (*frame.columns, *(name for name in new.columns if name not in frame.columns)):
        dtype = str(frame[column].dtype) if column in frame.columns else COLUMN_DTYPES[column]
        if column not in new.columns:
            columns[column] = _missing(len(new), dtype)
            continue
        series = new[column]
        if dtype == INSTANT and not isinstance(series.dtype, pd.DatetimeTZDtype):
            series = pd.Series([_instant(value, loaded.timezone, column) for value in series], dtype=INSTANT)
        try:
            columns[column] = series.astype(dtype).array
        except (ValueError, TypeError) as problem:
            raise FrameError(f"column {column} of the new rows cannot be {dtype}: {problem}") from problem
    return pd.DataFrame(columns, index=pd.Index(labels, dtype=frame.index.dtype))


def _missing(number: int, dtype: str) -> Any:
    if dtype == "object":
        return np.array([None] * number, dtype=object)
    return pd.array([None] * number, dtype=dtype)


def _fresh_labels(index: pd.Index, number: int) -> list[Any]:
    """Give labels that the index does not have yet."""
    if index.nlevels > 1:
        raise FrameError("add() needs a plain index, this one has several levels: df.reset_index().opp.add(rows)")
    if pd.api.types.is_integer_dtype(index.dtype):
        start = int(index.max()) + 1 if len(index) else 0
        return list(range(start, start + number))
    labels, taken, count = [], set(index), 0
    while len(labels) < number:
        label = f"new {count}"
        count += 1
        if label not in taken:
            labels.append(label)
    if index.dtype not in (object, "str"):
        raise FrameError(f"add() needs an index of numbers or text, this one is {index.dtype}: df.reset_index() first")
    return labels


def attach_again(frame: pd.DataFrame, original: pd.DataFrame) -> pd.DataFrame:
    """Put what was loaded back on a frame that lost it, as after a merge.

    Parameters
    ----------
    frame : DataFrame
        Rows of the original, edited, with the column ``id`` (or, before their
        creation, ``custom_id``). Never modified.
    original : DataFrame
        The loaded frame, or any frame that still carries the load.

    Returns
    -------
    DataFrame
        `frame`, carrying what `original` carries; rows are found by id.

    Raises
    ------
    NotLoadedError
        If `original` carries nothing either.
    DuplicateRowsError
        If an id stands in several rows, as after a merge that doubled them.
    """
    loaded = loaded_of(original)
    if loaded is None:
        raise NotLoadedError("the original carries nothing of a load either: attach(original) takes the frame as loaded")
    names = [*frame.columns, *frame.index.names]
    if "id" not in names:
        raise MissingColumnError(["id"], frame.columns, "Rows are attached by id.")
    ids = frame["id"] if "id" in frame.columns else pd.Series(frame.index.get_level_values("id"))
    doubled = ids[ids.notna() & ids.duplicated()].unique()
    if len(doubled):
        raise DuplicateRowsError(f"id {named(doubled)} stands in several rows; keep one row per id", list(doubled))
    attached = frame.copy(deep=False)
    return attach_loaded(attached, loaded)


def set_close_date(
    frame: pd.DataFrame, mask: Any, day: str | dt.date | pd.Timestamp | None, *, timezone: str | None = None
) -> None:
    """Set the close date of some deals to a calendar day, in place.

    The wire keeps an instant: the day's midnight in the load's zone.

    Parameters
    ----------
    frame : DataFrame
        Changed in place.
    mask : Series of bool, sequence of bool, or label
        Which rows, as for ``df.loc[mask]``.
    day : str, date, Timestamp or None
        The day, such as ``"2026-12-31"``; None for no close date.
    timezone : str, optional
        Another zone than the load's.

    Raises
    ------
    ConfigurationError
        If the day cannot be read, or carries a time of day.
    """
    loaded = loaded_of(frame)
    zone = timezone if timezone is not None else (loaded.timezone if loaded else None)
    if "close_date" not in frame.columns:
        raise MissingColumnError(["close_date"], frame.columns)
    value = pd.NaT if day is None else _day_start(day, zone)
    frame.loc[mask, "close_date"] = value


def _day_start(day: Any, zone: str | None) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(day)
    except (ValueError, TypeError):
        raise ConfigurationError(f"{day!r} is not a day; write it like '2026-12-31'") from None
    if stamp.tzinfo is not None or stamp != stamp.normalize():
        raise ConfigurationError(f"{day!r} has a time of day or a zone; set_close_date takes a day like '2026-12-31'")
    # Where clocks skip midnight the day starts at the first hour that exists.
    local = stamp.as_unit("us").tz_localize(zone or "UTC", nonexistent="shift_forward", ambiguous=True)
    return local.tz_convert("UTC")


def _instant(value: Any, zone: str | None, column: str) -> Any:
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return pd.NaT
    stamp = pd.Timestamp(value)
    if stamp.tzinfo is not None:
        return stamp.tz_convert("UTC")
    if stamp == stamp.normalize():
        return _day_start(stamp, zone)
    raise FrameError(f"{column} {value!r} has no zone; give an instant with its zone, or a day like '2026-12-31'")


def change_tag(frame: pd.DataFrame, mask: Any, tag: str, *, present: bool) -> None:
    """Add a tag to some deals, or take it away, in place.

    Parameters
    ----------
    frame : DataFrame
        Changed in place; rows that have (or lack) the tag already stay as they are.
    mask : Series of bool, sequence of bool, or label
        Which rows, as for ``df.loc[mask]``.
    tag : str
        The tag.
    present : bool
        True to add it at the end, False to remove it.
    """
    if not isinstance(tag, str):
        raise ConfigurationError(f"a tag is text, not {tag!r}")
    if "tags" not in frame.columns:
        raise MissingColumnError(["tags"], frame.columns)
    places = pd.Series(np.arange(len(frame)), index=frame.index).loc[mask]
    chosen = np.atleast_1d(np.asarray(places))
    column = frame["tags"].to_numpy(dtype=object, copy=True)
    for place in chosen:
        tags = column[place]
        current = list(tags) if isinstance(tags, list | tuple | np.ndarray) else []
        if present and tag not in current:
            column[place] = [*current, tag]
        elif not present and tag in current:
            column[place] = [item for item in current if item != tag]
    frame["tags"] = pd.Series(column, index=frame.index, dtype=object)
