"""What importers share: reading moments and values of other systems, and turning states into changes."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from opp_pandas._files import read_texts
from opp_pandas.docstrings import document, entries_of
from opp_pandas.errors import ConfigurationError, MissingColumnError, MissingExtraError, named
from opp_pandas.history.event_import import EVENT_COLUMNS, Gap, ImportedEvents, gap_table
from opp_pandas.resource import COLUMN_DTYPES, snake_case
from opp_pandas.timezones import check_zone

Source = pd.DataFrame | str | os.PathLike[str]
_Importer = TypeVar("_Importer", bound=Callable[..., ImportedEvents])
IMPORTERS: dict[str, Callable[..., ImportedEvents]] = {}
"""Every importer by its name; a module of this package adds its own with `importer`."""

EARLIEST = pd.Timestamp("1990-01-01", tz="UTC")
LATEST = pd.Timestamp("2049-12-31 23:59:59", tz="UTC")
"""Moments of events and close dates lie between these; what lies outside is a sentinel or an error."""

_SLASHED = re.compile(r"\s*(\d{1,2})[-/.](\d{1,2})[-/.]\d{4}(?!\d)", re.ASCII)
# Beyond, not every whole number is one that a float can say.
_LARGEST = 2**53


_ARGUMENTS = entries_of("""
ids : mapping of str to int, optional
    The service's id of each of the source's ids, for histories of the service.
    Left out: the source's id is the deal's custom id.
timezone : str, optional
    Zone of times without one; UTC if left out.
teams, users : DataFrame or path, optional
    The tables TEAMS and USERS with their names.
""")


def importer(function: _Importer) -> _Importer:
    """Make a function known as an importer, by its own name; what arguments of several mean is said above."""
    function.__doc__ = document(function.__doc__, inspect.signature(function).parameters.values(), _ARGUMENTS)
    IMPORTERS[function.__name__] = function
    return function


class Remarks:
    """Collects what the report says."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, str, Any]] = []

    def add(self, rows: Iterable[Any], reason: str, values: Iterable[Any]) -> None:
        """Explain why rows of the source were set aside or mended."""
        self._rows += [(row, reason, value) for row, value in zip(rows, values, strict=True)]

    def frame(self) -> pd.DataFrame:
        """Return the report."""
        return pd.DataFrame(self._rows, columns=["row", "reason", "value"])


def read_table(source: Any) -> pd.DataFrame:
    """Read an export: a frame, a CSV file, a Parquet file or folder of such, or a Delta table."""
    if isinstance(source, pd.DataFrame):
        return source.copy(deep=False)
    path = Path(source)
    try:
        if (path / "_delta_log").is_dir():
            from deltalake import DeltaTable

            return DeltaTable(path).to_pandas()
        return read_texts(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except ImportError:
        raise MissingExtraError("deltalake", "history") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the export {path} cannot be read: {error}") from error


def renamed(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Find columns written as the API does or in snake_case."""
    known = {**{name: name for name in names}, **{snake_case(name): name for name in names}}
    by_lower = {key.lower(): name for key, name in known.items()}
    chosen = {column: by_lower[str(column).lower()] for column in frame.columns if str(column).lower() in by_lower}
    found = frame[list(chosen)].rename(columns=chosen)
    if is_versions(frame) and "OpportunityId" in names:
        found = found.assign(OpportunityId=frame["id"], CreatedDate=frame["_fivetran_start"])
    return found


def is_versions(frame: pd.DataFrame) -> bool:
    """Convert a connector's history table: the deal's own columns, a row per version."""
    is_plain = {"opportunityid", "opportunity_id"} & {str(column).lower() for column in frame.columns}
    return {"id", "_fivetran_start"} <= set(frame.columns) and not is_plain


def require_columns(
    frame: pd.DataFrame, named: pd.DataFrame, *names: str, hint: str = "This is not the export that the importer reads."
) -> None:
    """Raise MissingColumnError where a frame, with columns `named` as ours, is not the export that it is read as."""
    missing = [name for name in names if name not in named.columns]
    if missing:
        raise MissingColumnError(missing, frame.columns, hint)


def known_column(name: str) -> str | None:
    """Return the column that bears another system's name of a field; None where there is none."""
    column = snake_case(str(name).removesuffix("__c"))
    return column if column in COLUMN_DTYPES else None


def keys_of(column: pd.Series) -> pd.Series:
    """Write keys as text, whole numbers without a fraction."""
    if pd.api.types.is_float_dtype(column.dtype):
        column = column.astype("Int64")
    return column.astype("str")


def read_moments(column: pd.Series, timezone: str | None, remarks: Remarks, name: str) -> pd.Series:
    """Read moments; what cannot be one is missing and reported."""
    if timezone is not None:
        check_zone(timezone)
    parsed = parse_instants(column, timezone)
    unread = parsed.isna()
    remarks.add(column.index[unread], f"set aside: {name} is no moment", column[unread])
    # Sentinels of connectors and clocks that were never set.
    odd = parsed.notna() & ((parsed < EARLIEST) | (parsed > LATEST))
    remarks.add(column.index[odd], f"set aside: {name} is outside 1990 to 2049", column[odd])
    return parsed.mask(odd)


def parse_instants(column: pd.Series, timezone: str | None) -> pd.Series:
    """Read instants; those without a zone stand in `timezone`."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.astype("datetime64[us, UTC]")
    stamps: list[Any] = []
    dayfirst = _is_day_first(column)
    for value in column.astype(object):
        try:
            stamp = pd.to_datetime(value, dayfirst=dayfirst) if _is_slashed(value) else pd.Timestamp(value)
            if not pd.isna(stamp) and stamp.tzinfo is None:
                stamp = stamp.tz_localize(timezone or "UTC", ambiguous=True, nonexistent="shift_forward")
            stamps.append(pd.NaT if pd.isna(stamp) else stamp.tz_convert("UTC").as_unit("us"))
        except (ValueError, TypeError, OverflowError):
            stamps.append(pd.NaT)
    return pd.Series(pd.array(stamps, dtype="datetime64[us, UTC]"), index=column.index)


def _is_slashed(value: Any) -> bool:
    """Whether a text is a date as spreadsheets write it: 3/4/2026, 03.04.2026."""
    return isinstance(value, str) and _SLASHED.match(value) is not None


def _is_day_first(column: pd.Series) -> bool:
    """Determine from dates such as 25/4/2026 whether the day stands before the month; refuse them where none tells."""
    found = [_SLASHED.match(value) for value in column.astype(object) if _is_slashed(value)]
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    day, month = any(left > 12 for left, _ in pairs), any(right > 12 for _, right in pairs)
    if day == month and any(left != right for left, right in pairs):
        raise ConfigurationError(
            f"column {named([str(column.name)])} holds dates that read both ways, such as 3/4/2026; "
            "say which is the day: pd.to_datetime(column, dayfirst=True), or dayfirst=False"
        )
    return day


def read_values(column: pd.Series, field: str, timezone: str | None, remarks: Remarks) -> pd.Series:
    """Read the values of one field; what cannot be one is missing and reported."""
    text = column.astype(object).where(column.notna(), None)
    text = text.map(lambda value: None if value == "" else value)
    dtype = COLUMN_DTYPES.get(field, "object")
    if dtype.startswith("datetime"):
        parsed = parse_instants(text, timezone)
        lost = text.notna() & (parsed.isna() | (parsed < EARLIEST) | (parsed > LATEST))
        remarks.add(text.index[lost], f"value left missing: {field} outside 1990 to 2049, or no date", text[lost])
        return parsed.mask(lost)
    if dtype == "Int64":
        numbers = pd.to_numeric(text, errors="coerce")
        numbers = numbers.mask(numbers.abs() > _LARGEST)
        lost = text.notna() & numbers.isna()
        remarks.add(text.index[lost], f"value left missing: {field} is no number, or too large", text[lost])
        if field == "probability":
            odd = numbers.notna() & ~numbers.between(0, 100)
            remarks.add(text.index[odd], "value left missing: probability outside 0 to 100 percent", text[odd])
            numbers = numbers.mask(odd)
        return numbers.astype("Float64").round().astype("Int64")
    # pandas takes None for NaN in a column of nothing but texts.
    values = [None if _is_nothing(value) else str(value) if dtype == "str" else value for value in text]
    return pd.Series(values, index=text.index, dtype=object)


def _is_nothing(value: Any) -> bool:
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def changes_of_states(
    wide: pd.DataFrame,
    columns: list[str],
    ids: Mapping[str, int] | None,
    remarks: Remarks,
    source: str,
    *,
    begins_known: bool = True,
) -> ImportedEvents:
    """Turn rows that repeat the whole state into rows of what changed."""
    wide = wide.sort_values(["key", "at"], kind="stable")
    parts = []
    for column in columns:
        values = wide[column].astype(object).where(wide[column].notna(), None)
        same_deal = wide["key"].to_numpy() == wide["key"].shift().to_numpy(dtype=object)
        before = values.shift().to_numpy(dtype=object)
        kept = np.array(
            [
                not (same and (old == new)) and (same or new is not None)
                for same, old, new in zip(same_deal, before, values, strict=True)
            ],
            dtype=bool,
        )
        chosen = wide[kept]
        part = pd.DataFrame({"key": chosen["key"], "field": column, "value": values[kept], "at": chosen["at"]})
        parts.append(part.assign(earlier=~same_deal[kept] & (not begins_known)))
    return finished(_keyed(joined(parts), ids, remarks), remarks, source)


def changes_of_fields(
    named: pd.DataFrame,
    key: str,
    field: str,
    columns: pd.Series,
    at: pd.Series,
    ids: Mapping[str, int] | None,
    timezone: str | None,
    remarks: Remarks,
    source: str,
) -> ImportedEvents:
    """Turn rows that say one field's old and new value into rows of what changed."""
    keys = keys_of(named[key])
    # Salesforce logs the creation of a deal as a field of this name, if it still has it.
    is_creation = named[field].astype("str").str.lower() == "created"
    unknown = columns.isna() & ~is_creation
    remarks.add(named.index[unknown], "set aside: the field has no column here", named.loc[unknown, field])
    begins = at.groupby(keys).transform("min")
    since_creation = keys.isin(set(keys[is_creation & at.notna()]))
    parts = []
    for column in columns.dropna().unique():
        chosen = (columns == column) & at.notna()
        values = read_values(named.loc[chosen, "NewValue"], column, timezone, remarks).astype(object)
        part = pd.DataFrame({"key": keys[chosen], "field": column, "value": values, "at": at[chosen]})
        part = part.sort_values("at", kind="stable")
        if "OldValue" in named.columns:
            first = part.drop_duplicates("key").index
            old = read_values(named.loc[first, "OldValue"], column, timezone, remarks).astype(object)
            earlier = pd.DataFrame({"key": keys[first], "field": column, "value": old, "at": begins[first]})
            # A field whose first change is the deal's first event stood so a moment before it.
            earlier["at"] = earlier["at"].where(earlier["at"] < at[first], earlier["at"] - pd.Timedelta(seconds=1))
            earlier["earlier"] = ~since_creation[first]
            parts.append(earlier[earlier["value"].notna()])
        parts.append(part)
    return finished(_keyed(joined(parts), ids, remarks), remarks, source)


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Put rows of several fields under each other."""
    kept = [part.astype({"value": object, "field": "str"}) for part in parts if len(part)]
    return pd.concat(kept) if kept else pd.DataFrame(columns=["key", *EVENT_COLUMNS, "earlier"])


def _keyed(events: pd.DataFrame, ids: Mapping[str, int] | None, remarks: Remarks) -> pd.DataFrame:
    if ids is None:
        return events.assign(id=pd.array([None] * len(events), dtype="Int64"), custom_id=events["key"])
    numbers = events["key"].map(dict(ids))
    lost = numbers.isna()
    remarks.add(events.index[lost], "set aside: ids= has no id for the deal", events.loc[lost, "key"])
    return events.assign(id=numbers.astype("Int64"), custom_id=None)[~lost.to_numpy()]


def finished(events: pd.DataFrame, remarks: Remarks, source: str, gaps: Iterable[Gap] = ()) -> ImportedEvents:
    """Put events into order and their columns into dtypes."""
    custom = events["custom_id"].astype(object).where(events["custom_id"].notna(), None)
    frame = pd.DataFrame(
        {
            "id": events["id"].astype("Int64").array,
            "custom_id": custom.astype("str").array,
            "field": events["field"].astype("str").array,
            "value": pd.Series(list(events["value"]), dtype=object),
            "at": events["at"].astype("datetime64[us, UTC]").array,
            # Rows of most importers have no such column, and the others gaps.
            "earlier": events["earlier"].eq(True).to_numpy() if "earlier" in events.columns else False,
        }
    )
    in_order = frame.sort_values("at", kind="stable", ignore_index=True)
    return ImportedEvents(in_order, remarks.frame(), source, gap_table(gaps))
