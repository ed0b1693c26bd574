"""Moments as people write them: a day means its end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opp_pandas.errors import ConfigurationError


def parse_moment(value: Any, zone: str | None, name: str = "t") -> pd.Timestamp:
    """Read a moment.

    Parameters
    ----------
    value : str, date, datetime or Timestamp
        An instant; one without a zone stands in `zone`, and a day alone means
        its last microsecond there.
    zone : str or None
        Where days end; None is UTC.
    name : str, default "t"
        The argument's name, for the error.

    Returns
    -------
    Timestamp
        In UTC, to the microsecond.

    Raises
    ------
    ConfigurationError
        If it is no moment.

    Examples
    --------
    >>> parse_moment("2026-09-30", "America/New_York")
    Timestamp('2026-10-01 03:59:59.999999+0000', tz='UTC')
    """
    try:
        stamp = pd.Timestamp(value)
        if pd.isna(stamp):
            raise ValueError(value)
        if stamp.tzinfo is None:
            if stamp == stamp.normalize():
                stamp += pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
            stamp = stamp.tz_localize(zone or "UTC", nonexistent="shift_forward", ambiguous=True)
        return stamp.tz_convert("UTC").as_unit("us")
    except (ValueError, TypeError, OverflowError):
        raise ConfigurationError(f"{name}={value!r} is not a day or an instant; write it like '2026-09-30'") from None
