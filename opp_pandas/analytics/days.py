"""Calendar days: instants seen from a time zone.

A close date is an instant; the day it falls on exists only in a time zone.
Days are int32 numbers since 1970-01-01, so that a period is later found by one
look-up in a table of days instead of one calculation per row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, named
from opp_pandas.zones import check_zone

Days: TypeAlias = npt.NDArray[np.int32]
Codes: TypeAlias = npt.NDArray[np.intp]
Flags: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

NO_DAY = int(np.iinfo(np.int32).min)
"""The day of a deal that has none; smaller than every real day."""

NO_INSTANT = int(np.iinfo(np.int64).min)
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_SLOT_S = 900
_CHANGES_DAY = NO_DAY + 1
"""Marks a quarter of an hour in which the local day changes."""
_TABLE_FROM, _TABLE_TO = 1975, 2100


def local_days(instants: pd.Series, timezone: str | None) -> Days:
    """Find the calendar day of every instant in a time zone.

    Parameters
    ----------
    instants : Series of datetime with zone, shape (n,)
        The column as it stands in a frame.
    timezone : str or None
        Where days begin and end; None is UTC.

    Returns
    -------
    ndarray of int32, shape (n,)
        Days since 1970-01-01; `NO_DAY` where missing.

    Raises
    ------
    FrameError
        If the column does not hold instants with a zone.

    Examples
    --------
    >>> moments = pd.Series(pd.to_datetime(["2026-12-31T23:30:00Z", None]))
    >>> local_days(moments, None)[0], local_days(moments, "Europe/Berlin")[0]
    (np.int32(20818), np.int32(20819))
    """
    values, per_second = instants_of(instants)
    missing = values == NO_INSTANT
    zone = "UTC" if timezone is None else check_zone(timezone)
    if zone == "UTC":
        days = (values // (86_400 * per_second)).astype(np.int32)
    else:
        days = _days_in_zone(values, per_second, missing, zone)
    if missing.any():
        days[missing] = NO_DAY
    return days


def instants_of(instants: pd.Series) -> tuple[Integers, int]:
    """Give the instants as integers and how many of those make a second; `NO_INSTANT` where missing."""
    dtype = instants.dtype
    if isinstance(dtype, pd.ArrowDtype) and dtype.kind == "M" and getattr(dtype.pyarrow_dtype, "tz", None):
        instants = instants.astype("datetime64[us, UTC]")
        dtype = instants.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return instants.to_numpy(dtype=f"datetime64[{dtype.unit}]").view(np.int64), _UNITS[dtype.unit]
    if not instants.notna().any():
        return np.full(len(instants), NO_INSTANT, dtype=np.int64), 1
    remedy = (
        "days without a zone are ambiguous: opp.adopt(frame, timezone=...) or Series.dt.tz_localize(zone) states it"
        if getattr(dtype, "kind", "") == "M"
        else "convert it with pd.to_datetime(..., utc=True), or load the frame with opp.adopt()"
    )
    raise FrameError(f"column {named([instants.name])} must hold instants with a time zone, not {dtype}; {remedy}")


def _days_in_zone(values: Integers, per_second: int, missing: npt.NDArray[np.bool_], zone: str) -> Days:
    slots = values // (_SLOT_S * per_second)
    first, last = (int(pd.Timestamp(f"{year}-01-01").timestamp()) // _SLOT_S for year in (_TABLE_FROM, _TABLE_TO))
    inside = (slots >= first) & (slots < last)
    if not inside.any():
        days = np.full(len(values), _CHANGES_DAY, dtype=np.int32)
    else:
        low, high = int(slots.min(where=inside, initial=last)), int(slots.max(where=inside, initial=first))
        # Whole years, so that the next call most likely finds the same table.
        start, stop = (pd.Timestamp(slot * _SLOT_S, unit="s").year for slot in (low, high))
        origin, table = _slot_table(zone, start, stop)
        offsets = slots - origin
        if not inside.all():
            offsets = np.where(inside, offsets, 0)
        days = table[offsets]
        if not inside.all():
            days[~inside] = _CHANGES_DAY
    odd = np.flatnonzero((days == _CHANGES_DAY) & ~missing)
    if len(odd):
        days[odd] = _days_directly(values[odd] // per_second, zone)
    return days


@lru_cache(maxsize=8)
def _slot_table(zone: str, first_year: int, last_year: int) -> tuple[int, Days]:
    """Give the local day of every quarter of an hour; offsets since 1975 are multiples of one."""
    low = int(pd.Timestamp(f"{first_year}-01-01").timestamp()) // _SLOT_S
    high = int(pd.Timestamp(f"{last_year + 1}-01-01").timestamp()) // _SLOT_S
    starts = np.arange(low, high, dtype=np.int64) * _SLOT_S
    table = _days_directly(starts, zone)
    # Clocks that change a minute after midnight put two days into one slot: those rows are calculated one by one.
    table[table != _days_directly(starts + _SLOT_S - 1, zone)] = _CHANGES_DAY
    table.flags.writeable = False
    return low, table


def _days_directly(seconds: Integers, zone: str) -> Days:
    local = pd.DatetimeIndex(seconds.view("datetime64[s]"), tz="UTC").tz_convert(zone).tz_localize(None)
    return np.asarray(local.to_numpy(dtype="datetime64[s]").view(np.int64) // 86_400).astype(np.int32)


def day_of(moment: pd.Timestamp, timezone: str | None) -> int:
    """Find the calendar day of one moment.

    Raises
    ------
    ConfigurationError
        If the moment has no time zone.
    """
    moment = pd.Timestamp(moment)
    if pd.isna(moment) or moment.tzinfo is None:
        raise ConfigurationError(
            "as_of must be a moment with a time zone, such as pd.Timestamp('2026-06-30', tz='UTC')"
        )
    return int(local_days(pd.Series([moment]), timezone)[0])


def to_date(day: int) -> pd.Timestamp:
    """Give a day as a Timestamp at midnight without a zone; NaT for `NO_DAY`."""
    return pd.NaT if day == NO_DAY else pd.Timestamp(np.datetime64(int(day), "D"))  # type: ignore[return-value]


def to_dates(days: npt.NDArray[Any]) -> pd.DatetimeIndex:
    """Give days as a DatetimeIndex at midnight without a zone; NaT for `NO_DAY`."""
    wide = np.where(days == NO_DAY, NO_INSTANT // 86_400, days).astype(np.int64) * 86_400
    wide[np.asarray(days) == NO_DAY] = NO_INSTANT
    return pd.DatetimeIndex(wide.view("datetime64[s]").astype("datetime64[us]"))


def parse_day(value: object) -> int:
    """Read one calendar day (text, date or Timestamp without a zone) as a day number."""
    try:
        stamp = pd.Timestamp(value)  # type: ignore[arg-type]
        if pd.isna(stamp) or stamp.tzinfo is not None:
            raise ValueError(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{value!r} is not a calendar day; write it as '2026-12-31'") from error
    return int(np.datetime64(stamp, "D").astype(np.int64))
