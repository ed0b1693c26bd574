"""Time zones by name: a calendar day exists only in one."""

from __future__ import annotations

import contextlib
import difflib
import numbers
import zoneinfo
from typing import Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, named, printable


def check_zone(name: str) -> str:
    """Give back the name of a time zone that exists.

    Parameters
    ----------
    name : str
        An IANA name, such as ``America/New_York``.

    Returns
    -------
    str
        The same name.

    Raises
    ------
    ConfigurationError
        If there is no such zone; the text names near ones.

    Examples
    --------
    >>> check_zone("Europe/Berlin")
    'Europe/Berlin'
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"timezone= is the name of a zone, such as 'Europe/Berlin', not {type(name).__name__}")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        problem = f"there is no time zone {printable(repr(name), 80)}{_near(name)}"
    else:
        return name
    raise ConfigurationError(problem)


def _near(name: str) -> str:
    zones = sorted(zoneinfo.available_timezones())
    wanted = name.strip().replace(" ", "_").lower()
    by_city = {zone.rsplit("/", 1)[-1].lower(): zone for zone in zones}
    by_name = {zone.lower(): zone for zone in zones}
    near = [by_name[match] for match in difflib.get_close_matches(wanted, by_name, 3, 0.75)]
    near += [by_city[match] for match in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], by_city, 3, 0.75)]
    found = list(dict.fromkeys(near))[:3]
    return f"; did you mean {named(found)}?" if found else "; write it as 'Europe/Berlin' or 'America/New_York'"


def read_moment(value: Any, zone: str | None, name: str = "as_of") -> pd.Timestamp:
    """Read a moment as people write it: a day means its end.

    Parameters
    ----------
    value : str, date or Timestamp
        An instant with its zone; a time without one is taken in `zone`, and a
        day means its last microsecond there.
    zone : str or None
        Where the day ends; None: UTC.
    name : str, default "as_of"
        The argument's name, for the error.

    Returns
    -------
    Timestamp
        In UTC, to the microsecond.

    Raises
    ------
    ConfigurationError
        If it cannot be read.

    Examples
    --------
    >>> read_moment("2026-09-30", "Europe/Berlin")
    Timestamp('2026-09-30 21:59:59.999999+0000', tz='UTC')
    """
    # A bare number would be so many nanoseconds since 1970, which nobody means by 2026 or 20260930.
    if not isinstance(value, numbers.Number):
        with contextlib.suppress(ValueError, TypeError, OverflowError, NotImplementedError):
            if isinstance(value, str) and not _is_day_or_instant(value):
                raise ValueError(value)
            stamp: Any = pd.Timestamp(value)
            if isinstance(stamp, pd.Timestamp):
                return _in_utc(stamp, zone)
    raise ConfigurationError(f"{name}={value!r} is not a day or an instant; write it like '2026-09-30'")


def _is_day_or_instant(text: str) -> bool:
    """Tell a day and an instant from a longer span, of which pandas takes the first day.

    To pandas "now" and "today" are no spans, but the clock of this machine, which
    may stand in another zone.
    """
    span = pd.Period(text)
    return isinstance(span, pd.Period) and span.freqstr[0] not in "MQY"


def _in_utc(stamp: pd.Timestamp, zone: str | None) -> pd.Timestamp:
    if stamp.tzinfo is None:
        if stamp == stamp.normalize():
            stamp = stamp.as_unit("us") + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
        stamp = stamp.tz_localize(zone or "UTC", nonexistent="shift_forward", ambiguous=True)
    return stamp.tz_convert("UTC").as_unit("us")
