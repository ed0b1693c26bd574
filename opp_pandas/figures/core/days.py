"""Calendar days: instants seen from a time zone.

A close date is an instant; the day it falls on exists only in a time zone.
Days are int32 numbers since 1970-01-01. A column of instants is coded by slots of
time, an hour long, or a quarter where clocks differ from UTC by less: what depends
on the day (the day itself, its period, whether it is past) is worked out once per
slot and then looked up once per row.
"""

from __future__ import annotations

import datetime as dt
import numbers
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, named
from opp_pandas.figures.core.blocks import blocks, limits_of, look_up
from opp_pandas.timezones import check_zone

Days: TypeAlias = npt.NDArray[np.int32]
Codes: TypeAlias = npt.NDArray[np.intp]
SmallCodes: TypeAlias = npt.NDArray[np.integer[Any]]
"""Codes in as few bytes as they need: to look up and to count, never to multiply."""
Flags: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

NO_DAY = int(np.iinfo(np.int32).min)
"""The day of a deal that has none; smaller than every real day."""

NO_INSTANT = int(np.iinfo(np.int64).min)
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = dt.date(1970, 1, 1).toordinal()
# Clocks have kept to quarters of an hour since 1975; times outside are calculated one by one.
_FIRST_YEAR, _LAST_YEAR = 1975, 2100
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31
_DAYS_OF_400_YEARS = 146_097  # whole weeks


def local_days(instants: pd.Series, timezone: str | None) -> Days:
    """Find the calendar day of every instant in a time zone; `NO_DAY` where missing.

    Where the zone's year is 0 or 10,000, it is the first or last day of the calendar.

    Examples
    --------
    >>> moments = pd.Series(pd.to_datetime(["2026-12-31T23:30:00Z", None]))
    >>> local_days(moments, None)[0], local_days(moments, "Europe/Berlin")[0]
    (np.int32(20818), np.int32(20819))
    """
    coded = code_days(instants, timezone)
    return look_up(coded.days, coded.places)


@dataclass(frozen=True, eq=False)
class CodedDays:
    """A column of instants, coded by slots of time."""

    places: SmallCodes
    """Position of every row's slot in `days`."""
    days: Days
    """Calendar day of every slot, `NO_DAY` for missing instants."""
    hours: Floats
    """Hour in UTC at which the slot begins; NaN where instants stand alone."""


def code_days(instants: pd.Series, timezone: str | None) -> CodedDays:
    """Code a column of instants by slots of time; see `local_days`."""
    zone = "UTC" if timezone is None else check_zone(timezone)
    values, per_second = instants_of(instants)
    if not len(values):
        return CodedDays(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32), np.empty(0))
    slot_s = _slot_s(zone)
    per_slot = slot_s * per_second
    low, high, some_missing = limits_of(values, NO_INSTANT)
    alone = np.empty(0, dtype=np.intp)
    first, last = _second_of_year(_FIRST_YEAR) * per_second, _second_of_year(_LAST_YEAR) * per_second
    if low < first or high >= last:
        inside = (values >= first) & (values < last)
        alone = np.flatnonzero(~inside & (values != NO_INSTANT))
        known = values[inside]
        low, high = (int(known.min()), int(known.max())) if len(known) else (0, -1)
    low, high = low // per_slot, high // per_slot
    places = np.empty(len(values), dtype=np.int32)
    for rows in blocks(len(values)):
        # The first slot is that of missing instants, if there are any: these are lower than all others.
        places[rows] = np.maximum(values[rows] // per_slot - (low - some_missing), 0)
    places[alone] = 0
    # Whole years, so that the next call most likely finds the same table.
    years = [pd.Timestamp(slot * slot_s, unit="s").year for slot in (low, max(low, high))]
    origin, days, doubtful = _slot_table(zone, slot_s, years[0], years[1])
    days, doubtful = days[low - origin : high - origin + 1], doubtful[low - origin : high - origin + 1]
    hours = (low + np.arange(len(days))) * slot_s % 86_400 / 3_600
    if some_missing:
        days, hours = np.insert(days, 0, NO_DAY), np.insert(hours, 0, np.nan)
        doubtful = np.insert(doubtful, 0, False)
    if doubtful.any():
        alone = np.union1d(alone, np.flatnonzero(look_up(doubtful, places)))
    if len(alone):
        distinct, inverse = np.unique(_days_directly(values[alone] // per_second, zone), return_inverse=True)
        places[alone] = len(days) + inverse
        days, hours = np.append(days, distinct), np.append(hours, np.full(len(distinct), np.nan))
    return CodedDays(places, days, hours)


@cache
def _second_of_year(year: int) -> int:
    return int(pd.Timestamp(f"{year}-01-01").timestamp())


@cache
def _slot_s(zone: str) -> int:
    """Return the length of a slot: what it does not suit (clocks of other years) is calculated one by one."""
    moments = [pd.Timestamp(f"2026-{month:02d}-01", tz="UTC").tz_convert(zone) for month in (1, 7)]
    return 3_600 if all(moment.minute == 0 for moment in moments) else 900


def instants_of(instants: pd.Series) -> tuple[Integers, int]:
    """Return the instants as integers and how many of those make a second; `NO_INSTANT` where missing."""
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


@lru_cache(maxsize=8)
def _slot_table(zone: str, slot_s: int, first_year: int, last_year: int) -> tuple[int, Days, Flags]:
    """Return the first slot, the local day of each, and which hold two days."""
    low, high = (_second_of_year(year) // slot_s for year in (first_year, last_year + 1))
    starts = np.arange(low, high, dtype=np.int64) * slot_s
    days = _days_directly(starts, zone)
    # Some clocks changed a minute after midnight: such slots hold two days.
    doubtful = days != _days_directly(starts + slot_s - 1, zone)
    days.flags.writeable = doubtful.flags.writeable = False
    return low, days, doubtful


def _days_directly(seconds: Integers, zone: str) -> Days:
    # Tools write 9999-12-31T23:59:59Z for "never": east of Greenwich that is the year 10,000, which Python's calendar
    # has not. 400 years nearer clocks go the same way; what is beyond the calendar is its first or last day.
    seconds = np.clip(seconds, _FIRST_DAY * 86_400, (_LAST_DAY + 1) * 86_400 - 1)
    days = seconds // 86_400
    shift = _DAYS_OF_400_YEARS * ((days <= _FIRST_DAY + 1).astype(np.int64) - (days >= _LAST_DAY - 1))
    inside = (seconds + shift * 86_400).view("datetime64[s]")
    local = pd.DatetimeIndex(inside, tz="UTC").tz_convert(zone).tz_localize(None)
    found = local.to_numpy(dtype="datetime64[s]").view(np.int64) // 86_400 - shift
    return np.asarray(np.clip(found, _FIRST_DAY, _LAST_DAY), dtype=np.int32)


def day_of(moment: pd.Timestamp, timezone: str | None) -> int:
    """Find the calendar day of one moment."""
    moment = pd.Timestamp(moment)
    if pd.isna(moment) or moment.tzinfo is None:
        raise ConfigurationError(
            "as_of must be a moment with a time zone, such as pd.Timestamp('2026-06-30', tz='UTC')"
        )
    return moment.tz_convert("UTC" if timezone is None else check_zone(timezone)).toordinal() - _EPOCH


def to_date(day: int) -> pd.Timestamp:
    """Return a day as a Timestamp at midnight without a zone; NaT for `NO_DAY`."""
    return pd.NaT if day == NO_DAY else pd.Timestamp(np.datetime64(int(day), "D"))  # type: ignore[return-value]


def to_dates(days: npt.NDArray[Any]) -> pd.DatetimeIndex:
    """Return days as a DatetimeIndex at midnight without a zone; NaT for `NO_DAY`."""
    # Days are kept in 32 bits, which hold neither their seconds nor the instant that stands for none.
    wide = np.asarray(days).astype(np.int64)
    wide = np.where(wide == NO_DAY, NO_INSTANT, wide * 86_400)
    return pd.DatetimeIndex(wide.view("datetime64[s]").astype("datetime64[us]"))


def parse_day(value: object) -> int:
    """Read one calendar day (text, date or Timestamp without a zone) as a day number."""
    try:
        # pandas takes a bare number for nanoseconds since 1970.
        stamp = pd.NaT if isinstance(value, numbers.Number) else pd.Timestamp(value)  # type: ignore[arg-type]
        if pd.isna(stamp) or stamp.tzinfo is not None:
            raise ValueError(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{value!r} is not a calendar day; write it as '2026-12-31'") from error
    return int(np.datetime64(stamp, "D").astype(np.int64))
