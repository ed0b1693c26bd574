"""Moments by the clocks of a zone: written, read, and where clocks skip or repeat an hour."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd


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
