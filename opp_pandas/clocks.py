"""Moments by the clocks of a zone: written, read, and where clocks skip or repeat an hour."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from opp_pandas.instants import from_iso

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(
    r"(?P<local>\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?) ?(?P<offset>Z|[+-]\d\d:\d\d(:\d\d)?)?", re.ASCII
)


def build_clock(instant: pd.Timestamp, zone: str | None) -> str:
    """Write a day, a local time, or an instant with Z where local time would be ambiguous."""
    moment = _EPOCH + dt.timedelta(microseconds=microseconds(instant))
    try:
        text = clock_text(moment.astimezone(zone_info(zone)).replace(tzinfo=None))
        if parse_clock(text, zone) == pd.Timestamp(moment):
            return text
    except (ValueError, OverflowError):
        # Twice on the clock there, or in the year 10,000 over there: UTC is exact.
        pass
    return clock_text(moment.replace(tzinfo=None), days=False) + "Z"


def parse_clock(text: str, zone: str | None) -> pd.Timestamp:
    """Read a day, a local time, or an instant with its offset."""
    stripped = text.strip()
    parts = _MOMENT.fullmatch(stripped)
    try:
        if _DAY.fullmatch(stripped):
            moment = start_of_day(dt.datetime.fromisoformat(stripped), zone)
        elif parts is None:
            raise ValueError("is not a date; write it like 2026-12-31 or 2026-12-31 17:00")
        else:
            local = from_iso(parts["local"])
            offset = parts["offset"]
            moment = dt.datetime.fromisoformat(local.isoformat() + offset) if offset else once_on_clock(local, zone)
        return pd.Timestamp(moment.astimezone(dt.UTC)).as_unit("us")
    except OverflowError:
        raise ValueError("is beyond the calendar") from None
    except ValueError as problem:
        if "; " in str(problem) or str(problem).startswith("is "):
            raise
        raise ValueError(f"is not a date of the calendar ({problem})") from None


def local_time(value: pd.Timestamp, zone: str) -> pd.Timestamp:
    """Return an instant by the clocks of a zone; in UTC where their year or offset is one that nothing reads."""
    utc = value.tz_convert("UTC")
    if utc.year in (1, 9999):
        return utc
    local = utc.tz_convert(zone)
    offset = local.utcoffset()
    # Before there were time zones, offsets had seconds.
    return utc if offset is None or offset.total_seconds() % 60 else local


def read_clock(cell: Any) -> pd.Timestamp:
    """Read a day or a moment of a spreadsheet's cell, with or without an offset."""
    if isinstance(cell, dt.datetime):
        return pd.Timestamp(cell).as_unit("us")
    if isinstance(cell, str) and re.match(r"\d{4,}-\d{2}-\d{2}", cell.strip()):
        try:
            return pd.Timestamp(cell.strip())
        except ValueError:
            pass
    raise ValueError("is not a day; write it like 2026-12-31")


def clock_instant(stamp: pd.Timestamp, zone: str | None) -> pd.Timestamp:
    """Return the instant at which the clocks of a zone say this, in UTC."""
    if stamp.tzinfo is None:
        if zone is None:
            raise ValueError("has no time zone; read_export(..., timezone='Europe/Berlin') says where it is meant")
        # Where clocks skip or repeat an hour: the first moment that exists, in summer time.
        try:
            stamp = stamp.tz_localize(zone, nonexistent="shift_forward", ambiguous=True)
        except (NotImplementedError, OverflowError):
            raise ValueError("is at the end of the calendar; write it with Z, as 9999-12-31T00:00:00Z") from None
    return stamp.tz_convert("UTC")


def microseconds(moment: pd.Timestamp) -> int:
    """Return an instant as microseconds since 1970."""
    return int(moment.as_unit("us").asm8.view("int64"))


def zone_info(zone: str | None) -> ZoneInfo:
    """Return a zone by its name; UTC where there is none."""
    return ZoneInfo(zone or "UTC")


def clock_text(clock: dt.datetime, *, days: bool = True) -> str:
    """Write a clock as short as it is exact; as a day at midnight, unless told otherwise."""
    if days and clock.time() == dt.time.min:
        return clock.date().isoformat()
    precision = "microseconds" if clock.microsecond else "seconds" if clock.second else "minutes"
    return clock.isoformat(" ", timespec=precision)


def start_of_day(midnight: dt.datetime, zone: str | None) -> dt.datetime:
    """Return the day's start; where clocks skip midnight, the first moment that exists."""
    local = midnight.replace(tzinfo=zone_info(zone))
    if _and_back(local, zone) == midnight:
        return local
    stamp = pd.Timestamp(midnight).tz_localize(zone or "UTC", nonexistent="shift_forward", ambiguous=True)
    return stamp.to_pydatetime()


def once_on_clock(clock: dt.datetime, zone: str | None) -> dt.datetime:
    """Return the moment at which a clock in a zone says this; a ValueError where it never or twice does."""
    first, second = (clock.replace(tzinfo=zone_info(zone), fold=fold) for fold in (0, 1))
    if _and_back(first, zone) != clock:
        raise ValueError(f"is not on the clock in {zone}; it is skipped there on that day")
    if first.utcoffset() != second.utcoffset():
        raise ValueError(f"is twice on the clock in {zone}; add the offset, such as {first.isoformat()[-6:]}")
    return first


def _and_back(local: dt.datetime, zone: str | None) -> dt.datetime:
    return local.astimezone(dt.UTC).astimezone(zone_info(zone)).replace(tzinfo=None)
