"""Instants as the service writes them, and the clock that the sandbox goes by."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([Tt ](?!24)\d\d:\d\d(:\d\d)?(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII)


def instant_text(moment: datetime) -> str:
    """Write `moment` as the service does: UTC, milliseconds, ``Z``.

    Examples
    --------
    >>> instant_text(datetime(2026, 8, 30, 9, 15, 2, tzinfo=UTC))
    '2026-08-30T09:15:02.000Z'
    """
    utc = moment.astimezone(UTC)
    # strftime leaves the zeros of a year before 1000 away on some systems; isoformat never does.
    return f"{utc.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 instant; a day alone is its midnight, a time without a zone is UTC.

    Raises
    ------
    ValueError
        If `text` is not such an instant, or lies outside the years 1 to 9999.

    Examples
    --------
    >>> instant_text(parse_instant("2026-12-11T00:00:00+02:00"))
    '2026-12-10T22:00:00.000Z'
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"not an ISO 8601 instant: {text[:40]!r}")
    moment = datetime.fromisoformat(text.upper())
    # The wire carries milliseconds; what is finer is cut off, as the service does with seconds.
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=moment.tzinfo or UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"outside the years 1 to 9999: {text[:40]!r}") from error


def running_clock(now: datetime | None) -> Clock:
    """Return a clock that shows `now` at this moment and runs from there; without `now`, the real time."""
    if now is None:
        return lambda: datetime.now(UTC)
    start, shown = time.monotonic(), now.astimezone(UTC)
    return lambda: shown + timedelta(seconds=time.monotonic() - start)
