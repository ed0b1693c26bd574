"""Moments in time: one parser for the instants on the wire, one for the moments that people write.

On the wire an instant is ISO 8601 text, and this package keeps it as
microseconds since 1970 in UTC. People write days, times without a zone and
periods as well: those mean something only in a zone, and a day is a span.
"""

from __future__ import annotations

import datetime as dt
import numbers
import re
import zoneinfo
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, printable

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND, _DAY = dt.timedelta(microseconds=1), dt.timedelta(days=1)
FIRST, LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
"""The calendar's ends. A day at an end reaches beyond them in most zones: it is cut off there."""
FIRST_INSTANT, LAST_INSTANT = (FIRST - _EPOCH) // _MICROSECOND, (LAST - _EPOCH) // _MICROSECOND
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_DAY_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMED = re.compile(r"\d{4}-\d{2}-\d{2}[T ]", re.ASCII)
_CLOCK_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?", re.ASCII)


_HOUR_24 = re.compile(r"[^\d:.,+-]24")


def from_iso(text: str) -> dt.datetime:
    """Read ISO 8601 text alike on every Python: from 3.14 on Python alone would take 24:00, which Arrow does not."""
    moment = dt.datetime.fromisoformat(text)
    if _HOUR_24.search(text) and moment.time() == dt.time():
        raise ValueError("hour must be in 0..23")
    return moment


# --- the wire ----------------------------------------------------------------


def parse_instant(text: str) -> tuple[int, bool]:
    """Parse an instant of the wire (ISO 8601, years 1 to 9999); one without a zone is in UTC.

    Returns microseconds since 1970, and whether the service itself would write it in this form.

    Examples
    --------
    >>> parse_instant("1970-01-01T00:00:01.500Z"), parse_instant("1970-01-01T01:00+01:00")
    ((1500000, True), (0, False))
    """
    try:
        moment = from_iso(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        microseconds = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time") from None
    if not FIRST_INSTANT <= microseconds <= LAST_INSTANT:
        # An offset can carry a moment out of what any calendar here can write.
        raise ValueError("must be within the years 1 to 9999 of UTC")
    return microseconds, bool(_CANONICAL.fullmatch(text))


def build_instant(microseconds: int) -> str:
    """Build the text of an instant (microseconds since 1970, UTC) the way the service writes it.

    Examples
    --------
    >>> build_instant(0), build_instant(1_500_000)
    ('1970-01-01T00:00:00.000Z', '1970-01-01T00:00:01.500Z')
    """
    moment = _EPOCH + dt.timedelta(microseconds=microseconds)
    digits = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


# --- what people write -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as somebody wrote it, in UTC: first and last microsecond of a day or period, equal for an instant."""

    first: dt.datetime
    last: dt.datetime
    is_day: bool


def parse_moment(value: Any, zone: str | None, name: str) -> Moment:
    """Parse a day, a period or an instant as people write it; without a zone, by the clocks of `zone` (None: UTC).

    `name` is what the value was given for: the ConfigurationError says it.

    Examples
    --------
    >>> parse_moment("2026-01-31", "Europe/Berlin", "as_of").last.isoformat()
    '2026-01-31T22:59:59.999999+00:00'
    """
    found = None if isinstance(value, numbers.Number) or value is pd.NaT else _parse(value, zone)
    if found is None:
        given = f"{name}{'' if name.endswith('=') else ': '}{printable(repr(value), 60)}"
        raise ConfigurationError(
            f"{given} is not a day or an instant; write it like '2026-01-31' or '2026-01-31T12:00:00Z'"
        )
    return found


def parse_end(value: Any, zone: str | None, name: str = "as_of") -> pd.Timestamp:
    """Parse a moment, as `parse_moment` does, up to which something is meant: of a day, its last microsecond.

    Midnight without a zone is a day too, since that is how pandas writes one.

    Examples
    --------
    >>> parse_end("2026-09-30", "Europe/Berlin")
    Timestamp('2026-09-30 21:59:59.999999+0000', tz='UTC')
    """
    return pd.Timestamp(parse_moment(_as_pandas_writes(value), zone, f"{name}=").last).as_unit("us")


def parse_day_start(value: Any, zone: str | None, name: str) -> pd.Timestamp | None:
    """Parse a day as its first moment in a zone; None where an instant or a time of day was written.

    Midnight without a zone is a day too, since that is how pandas writes one.
    """
    moment = parse_moment(_as_pandas_writes(value), zone, name)
    return pd.Timestamp(moment.first).as_unit("us") if moment.is_day else None


def _as_pandas_writes(value: Any) -> Any:
    """Turn midnight without a zone into its day."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    midnight = isinstance(value, dt.datetime) and value is not pd.NaT and value.tzinfo is None
    return value.date() if midnight and value.time() == dt.time() else value


def parse_day(text: str) -> dt.datetime | None:
    """Parse ``YYYY-MM-DD`` as its midnight, without a zone; None for anything else."""
    return _parse_iso(text, _DAY_TEXT)


def parse_clock(text: str) -> dt.datetime | None:
    """Parse ``YYYY-MM-DDThh:mm:ss``, without a zone; None for anything else."""
    return _parse_iso(text, _CLOCK_TEXT)


def _parse_iso(text: str, shape: re.Pattern[str]) -> dt.datetime | None:
    stripped = text.strip()
    if not shape.fullmatch(stripped):
        return None
    try:
        return from_iso(stripped)
    except ValueError:
        return None


def _parse(value: Any, zone: str | None) -> Moment | None:
    tz = zoneinfo.ZoneInfo(zone or "UTC")
    try:
        if isinstance(value, pd.Period):
            return _span(value.start_time.date(), value.end_time.date(), tz)
        if isinstance(value, str):
            day = parse_day(value)
            value = value.strip() if day is None else day.date()
            # Python reads 20260131 and 2026-W05 as well, as midnights; nobody who writes a week means its Monday.
            value = from_iso(value) if isinstance(value, str) and _TIMED.match(value) else value
        elif isinstance(value, np.datetime64):
            value = pd.Timestamp(value)
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if isinstance(value, dt.datetime):
            instant = (value if value.tzinfo is not None else value.replace(tzinfo=tz)).astimezone(dt.UTC)
            return Moment(instant, instant, False)
        return _span(value, value, tz) if isinstance(value, dt.date) else None
    except (ValueError, OverflowError):
        return None


def _span(first: dt.date, last: dt.date, tz: dt.tzinfo) -> Moment:
    # A day ends where the next one begins, whatever daylight saving does.
    end = LAST if last == dt.date.max else _start(last + _DAY, tz) - _MICROSECOND
    return Moment(_start(first, tz), end, True)


def _start(day: dt.date, tz: dt.tzinfo) -> dt.datetime:
    try:
        return dt.datetime.combine(day, dt.time(), tz).astimezone(dt.UTC)
    except OverflowError:
        return FIRST if day.year == 1 else LAST
