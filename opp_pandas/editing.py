"""Edits that ordinary pandas code gets wrong or cannot do: new rows, close dates, tags, attaching again."""

from __future__ import annotations

import itertools
import re
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.changes.row_matching import Rows, match_rows, usable_frame
from opp_pandas.changes.rules import column_kind
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    MissingColumnError,
    NotLoadedError,
    OppPandasWarning,
    named,
    printable,
)
from opp_pandas.frame_state import (
    ATTRS_KEY,
    OWN_CUSTOM_ID,
    Loaded,
    Pending,
    attach_loaded,
    loaded_of,
    meaning_of,
    require_loaded,
)
from opp_pandas.instants import parse_day_start
from opp_pandas.kinds import INSTANTS, TAGS, is_missing
from opp_pandas.load.custom_fields import convert_texts, shown_name
from opp_pandas.load.upsert import missing
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    import datetime as dt

    from opp_pandas.api.custom_field_types import CustomField


def add_rows(frame: pd.DataFrame, rows: pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Append new deals, to be created by the next write-back.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A loaded or adopted frame. Never modified.
    rows : DataFrame, mapping or sequence of mapping
        New deals in our column names, without ids; on a relabelled frame
        ``Region`` and ``custom1`` mean the same field. Where every deal of the
        frame is in one currency, those that name none are in it, too.

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
    DuplicateRowsError
        If two columns of the new rows are one field.
    NotLoadedError
        If nothing of a load travels with the frame.

    Examples
    --------
    >>> more = df.opp.add({"name": "New deal", "amount": 5000, "stage_name": "Qualify"})
    >>> len(more) - len(df), len(more.opp.changes().created)
    (1, 1)
    """
    loaded = require_loaded(frame, "add()")
    levels = [name for name in frame.index.names if name in COLUMN_DTYPES]
    if levels:
        raise FrameError(f"add() needs the column {named(levels)} back from the index: df.reset_index().opp.add(rows)")
    usable_frame(frame, loaded)
    plain = frame.rename(columns={label: column for column, label in loaded.labels.items()})
    new = _new_rows(rows, loaded)
    if "id" in new.columns and new["id"].notna().any():
        raise FrameError("new deals have no id, the service gives it; to edit a deal, change its row in the frame")
    unknown = [str(column) for column in new.columns if column not in plain.columns and column not in COLUMN_DTYPES]
    if unknown:
        raise MissingColumnError(unknown, plain.columns, "New deals take the columns of the frame.")
    labels = _fresh_labels(frame.index, len(new), loaded.pending)
    aligned = _in_the_currency_of(plain, _aligned(plain, new, labels, loaded))
    custom = aligned["custom_id"].tolist() if "custom_id" in aligned.columns else [None] * len(new)
    created = {
        label: Pending(None, own if isinstance(own, str) else None, OWN_CUSTOM_ID + str(uuid.uuid4()))
        for label, own in zip(labels, custom, strict=True)
    }
    bare = plain.copy(deep=False)
    bare.attrs = {}
    joined = pd.concat([bare, aligned]).rename(columns=loaded.labels)
    joined.index.names = frame.index.names
    joined.attrs = {key: value for key, value in frame.attrs.items() if key != ATTRS_KEY}
    return attach_loaded(joined, loaded.renewed(created={**loaded.pending, **created}))


def _new_rows(rows: Any, loaded: Loaded) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        new = rows.reset_index(drop=True)
    elif isinstance(rows, Mapping):
        new = pd.DataFrame([dict(rows)])
    else:
        new = pd.DataFrame(list(rows))
    if not len(new):
        raise FrameError("there is no row to add")
    new.columns = [str(column) for column in new.columns]
    doubled = new.columns[new.columns.duplicated()]
    if len(doubled):
        raise DuplicateRowsError(f"column {named(doubled)} of the new rows stands twice", list(doubled))
    columns = {label: column for column, label in loaded.labels.items()}
    both = [f"{label} and {column}" for label, column in columns.items() if {label, column} <= set(new.columns)]
    if both:
        raise DuplicateRowsError(f"{named(both)} are two names of one field; give one of them", both)
    return new.rename(columns=columns)


def _aligned(frame: pd.DataFrame, new: pd.DataFrame, labels: list[Any], loaded: Loaded) -> pd.DataFrame:
    """Return the new rows the frame's columns and dtypes, so that joining changes no dtype."""
    columns: dict[str, Any] = {}
    for column in (*frame.columns, *(name for name in new.columns if name not in frame.columns)):
        dtype = frame[column].dtype if column in frame.columns else COLUMN_DTYPES[column]
        if isinstance(dtype, pd.CategoricalDtype):
            columns[column] = _categorical(new.get(column, pd.Series(None, new.index, dtype=object)), dtype).array
            continue
        if column not in new.columns:
            values = missing(len(new), dtype)
        elif column in loaded.converted:
            values = _converted(new[column], loaded.custom_fields[column])
        else:
            values = _read(new[column], str(column), loaded.timezone)
        try:
            columns[column] = pd.Series(values).astype(cast("Any", dtype)).array
        except (ValueError, TypeError) as problem:
            raise FrameError(f"column {column} of the new rows cannot be {dtype}: {problem}") from problem
    return pd.DataFrame(columns, index=pd.Index(labels, dtype=frame.index.dtype))


def _in_the_currency_of(frame: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Fill in the currency where the frame knows just one: beside others, an amount without one is in no sum."""
    if "currency_type" not in frame.columns or frame["currency_type"].isna().any():
        return new
    known = frame["currency_type"].unique()
    if len(known) != 1:
        return new
    return new.assign(currency_type=new["currency_type"].fillna(known[0]))


def _categorical(series: pd.Series, dtype: pd.CategoricalDtype) -> pd.Series:
    """Read new cells as the column's categories; one that is not among them stays what it is, and is never lost."""
    series = series.mask(series.eq(""))
    known = series.isin(dtype.categories) | series.isna()
    return series.astype(dtype) if known.all() else series


def _converted(series: pd.Series, entry: CustomField) -> pd.Series:
    """Read texts of the wire as loading reads them; values stay values."""
    texts = np.array([isinstance(value, str) for value in series])
    read, unread = convert_texts(series.where(texts, None).astype("str"), entry)
    for place in unread:
        value = printable(repr(series.iloc[place]), 60)
        raise FrameError(f"new row {place}: {shown_name(entry)} cannot be read from {value}")
    return series.astype(object).where(~texts, read.astype(object))


def _read(series: pd.Series, column: str, zone: str | None) -> Any:
    """Read a column of new rows as strictly as an edited one; days become instants of the load's zone."""
    kind = column_kind(column, COLUMN_DTYPES.get(column))
    if kind is None:
        return series
    if kind is INSTANTS:
        series = pd.Series([_day_or_instant(value, zone) for value in series], dtype=object)
    values, reasons = kind.read_column(series)
    for place, reason in sorted(reasons.items()):
        value = printable(repr(series.iloc[place]), 60)
        raise FrameError(f"new row {place}: {column} {value} {reason}")
    if kind is TAGS:
        return np.fromiter((None if tags is None else list(tags) for tags in values), dtype=object)
    return values


def _day_or_instant(value: Any, zone: str | None) -> Any:
    if is_missing(value):
        return None
    try:
        start = parse_day_start(value, zone, "close_date")
    except ConfigurationError:
        return value
    return value if start is None else start


def _fresh_labels(index: pd.Index, number: int, taken: Collection[Any]) -> list[Any]:
    """Return labels that neither the index nor a waiting deal has yet."""
    if index.nlevels > 1:
        raise FrameError("add() needs a plain index, this one has several levels: df.reset_index().opp.add(rows)")
    if pd.api.types.is_integer_dtype(index.dtype):
        whole = [int(label) for label in taken if isinstance(label, int | np.integer)]
        start = max([int(index.max()) if len(index) else -1, *whole]) + 1
        return list(range(start, start + number))
    if index.dtype not in (object, "str"):
        raise FrameError(f"add() needs an index of numbers or text, this one is {index.dtype}: df.reset_index() first")
    used = {*index, *taken}
    names = (f"new {count}" for count in itertools.count())
    return list(itertools.islice((name for name in names if name not in used), number))


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

    Warns
    -----
    OppPandasWarning
        If text such as ``""`` or ``"NA"``, which a CSV reads as missing, was
        taken as unchanged; if a column of the load is missing while another
        looks like its renamed twin (``"next_step "``, ``amount_x``).

    Examples
    --------
    >>> regions = pd.DataFrame({"owner_id": [1, 2], "region": ["East", "West"]})
    >>> merged = df.merge(regions, on="owner_id", how="left").opp.attach(df)
    >>> len(merged.opp.changes())
    0
    """
    loaded = loaded_of(original)
    if loaded is None:
        raise NotLoadedError(
            "the original carries nothing of a load either: attach(original) takes the frame as loaded"
        )
    plain = usable_frame(frame, loaded)
    _warn_of_renamed(plain, loaded)
    # Labels mean nothing in a frame that was made anew: they count only where the deal's name agrees.
    rows = match_rows(plain, loaded)
    kept = {
        label: entry for place, (label, entry) in rows.created.items() if _is_same_deal(plain, place, label, original)
    }
    attached = frame.copy(deep=False)
    attach_loaded(attached, loaded if kept == loaded.pending else loaded.renewed(created=kept))
    _restore_lost_text(attached, plain, rows, loaded)
    return attached


def _is_same_deal(frame: pd.DataFrame, place: int, label: Any, original: pd.DataFrame) -> bool:
    """Whether a row without an id is the new deal that its label, or its custom id, says."""
    pending = require_loaded(original, "attach()").pending[label]
    if pending.custom_id is not None and frame["custom_id"].iloc[place] == pending.custom_id:
        return True
    if frame.index[place] != label or label not in original.index or "name" not in original.columns:
        return False
    return bool(frame["name"].iloc[place] == original["name"].loc[label]) if "name" in frame.columns else False


def _warn_of_renamed(plain: pd.DataFrame, loaded: Loaded) -> None:
    """Describe which columns look renamed by accident: whoever edited them would see nothing of it sent."""
    known = loaded.baseline.frame.columns
    gone = {_folded(column): column for column in known.difference(plain.columns)}
    twins = {column: gone[_folded(column)] for column in plain.columns if _folded(column) in gone}
    if twins:
        warnings.warn(
            f"no edit is taken from {named(twins)}, which the load does not have; it has {named(twins.values())}: "
            "rename them so if they are meant, and attach again",
            OppPandasWarning,
            stacklevel=4,
        )


def _folded(column: Any) -> str:
    """Bring names that a blank, a case or a merge's ``_x`` tells apart into one form."""
    return re.sub(r"[\W_]+", "", re.sub(r"_x$", "", str(column))).casefold()


# What pandas reads as missing in a CSV, although it may be text.
_READ_AS_MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)


def _restore_lost_text(attached: pd.DataFrame, plain: pd.DataFrame, rows: Rows, loaded: Loaded) -> None:
    """Restore, in place, text that a CSV reads as missing: nobody can have meant to clear it there."""
    known = np.flatnonzero(rows.places >= 0)
    base = loaded.baseline.frame
    restored = 0
    for column in plain.columns:
        if column not in base.columns or base[column].dtype != "str":
            continue
        before = base[column].take(rows.places[known])
        lost = known[plain[column].iloc[known].isna().to_numpy() & before.isin(_READ_AS_MISSING).to_numpy()]
        if len(lost):
            label = loaded.labels.get(column, column)
            values = plain[column].astype(object).to_numpy(copy=True)
            values[lost] = base[column].to_numpy(dtype=object)[rows.places[lost]]
            attached[label] = pd.array(values, dtype="str") if _all_text(values) else values
            restored += len(lost)
    if restored:
        warnings.warn(
            f"{restored} cells whose text reads as missing in a CSV ('', 'NA' ...) were taken as unchanged; "
            "to clear them, set them to missing after attach()",
            OppPandasWarning,
            stacklevel=4,
        )


def _all_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) or is_missing(value) for value in values)


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

    Examples
    --------
    >>> df.opp.set_close_date(df["id"] == 25, "2026-12-31")
    >>> df.opp.changes().cells[["id", "field", "after"]]
       id       field                      after
    0  25  close_date  2026-12-31 00:00:00-05:00
    """
    load = meaning_of(frame)
    zone = timezone if timezone is not None else (load.timezone if load else None)
    if "close_date" not in frame.columns:
        raise MissingColumnError(["close_date"], frame.columns)
    value = pd.NaT if day is None else _day_start(day, zone)
    column = frame["close_date"].copy()
    column.iloc[_places(frame, mask)] = value
    frame["close_date"] = column


def _places(frame: pd.DataFrame, mask: Any) -> np.ndarray[Any, Any]:
    """Return the positions of the chosen rows; unlike in ``df.loc``, a label that is not there makes no new row."""
    try:
        chosen = pd.Series(np.arange(len(frame)), index=frame.index).loc[mask]
    except KeyError as problem:
        raise FrameError(f"the frame has no row {printable(problem, 80)}") from None
    return np.atleast_1d(np.asarray(chosen))


def _day_start(day: Any, zone: str | None) -> pd.Timestamp:
    start = parse_day_start(day, zone, "day")
    if start is None:
        raise ConfigurationError(f"{day!r} has a time of day or a zone; set_close_date takes a day like '2026-12-31'")
    return start


def add_tag(frame: pd.DataFrame, mask: Any, tag: str) -> None:
    """Add a tag to some deals, in place.

    Parameters
    ----------
    frame : DataFrame
        Changed in place; rows that have the tag already stay as they are.
    mask : Series of bool, sequence of bool, or label
        Which rows, as for ``df.loc[mask]``.
    tag : str
        The tag; it stands after the others.

    Examples
    --------
    >>> df.opp.add_tag(df["id"] == 25, "renewal")
    >>> df.loc[df["id"] == 25, "tags"].item()
    ['pilot', 'renewal']
    """
    _change_tags(frame, mask, tag, lambda tags: tags if tag in tags else [*tags, tag])


def remove_tag(frame: pd.DataFrame, mask: Any, tag: str) -> None:
    """Take a tag away from some deals, in place.

    Parameters
    ----------
    frame : DataFrame
        Changed in place; rows that lack the tag stay as they are.
    mask : Series of bool, sequence of bool, or label
        Which rows, as for ``df.loc[mask]``.
    tag : str
        The tag.

    Examples
    --------
    >>> df.opp.remove_tag(df["id"] == 25, "pilot")
    >>> df.loc[df["id"] == 25, "tags"].item()
    []
    """
    _change_tags(frame, mask, tag, lambda tags: [item for item in tags if item != tag])


def _change_tags(frame: pd.DataFrame, mask: Any, tag: str, change: Callable[[list[Any]], list[Any]]) -> None:
    if not isinstance(tag, str):
        raise ConfigurationError(f"a tag is text, not {tag!r}")
    if "tags" not in frame.columns:
        raise MissingColumnError(["tags"], frame.columns)
    column = frame["tags"].to_numpy(dtype=object, copy=True)
    for place in _places(frame, mask):
        tags = column[place]
        if not (is_missing(tags) or isinstance(tags, list | tuple | np.ndarray)):
            label = printable(frame.index[place], 40)
            raise FrameError(
                f"row {label}: tags is a {type(tags).__name__}, not a list; attach the loaded frame's tags"
            )
        current = [] if is_missing(tags) else list(tags)
        if (changed := change(current)) != current:
            column[place] = changed
    frame["tags"] = pd.Series(column, index=frame.index, dtype=object)
